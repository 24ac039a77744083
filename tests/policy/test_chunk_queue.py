"""Tests for chunk_queue.py: `policy.act`, one step at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion_policy.common.random_seed import derived_generator
from diffusion_policy.policy.base_policy import BasePolicy
from diffusion_policy.policy.control_policies import ZeroPolicy
from tests.policy.tiny_policy import DA, SHAPE_META, TA, TO, T, tiny_policy


def step(i: int) -> dict[str, np.ndarray]:
    return {"pose": np.full(3, 10.0 * i), "keypoints": np.full((2, 2), i, np.float32)}


class Recorder(BasePolicy):
    """Remembers what it was shown; its actions count predictions and steps."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            **{"shape_meta": SHAPE_META, "horizon": T, "n_obs_steps": 3, "n_action_steps": TA, **kwargs}
        )
        self.seen: list[dict[str, Tensor]] = []

    def compute_loss(self, batch: Any) -> Any:
        raise NotImplementedError

    def predict_action(self, obs: Any, **_: Any) -> dict[str, Tensor]:
        self.seen.append(obs)
        n_rows = len(next(iter(obs.values())))
        action_pred = (100.0 * len(self.seen) + torch.arange(T)).reshape(1, T, 1).expand(n_rows, T, DA)
        return self.executed_part(action_pred)


def test_a_chunk_is_executed_before_the_next_is_predicted_from_the_last_observations() -> None:
    policy = Recorder()
    actions = [policy.act(step(i)) for i in range(TA + 2)]
    first = policy.first_action_step
    expected = [100 + first + i for i in range(TA)] + [200 + first, 200 + first + 1]
    assert [a[0] for a in actions] == expected
    assert all(a.shape == (DA,) and a.dtype == np.float32 for a in actions)
    assert policy.seen[0]["pose"][0, :, 0].tolist() == [0, 0, 0], (
        "the first observation stands for those before"
    )
    assert policy.seen[1]["pose"][0, :, 0].tolist() == [10.0 * (TA - 2), 10.0 * (TA - 1), 10.0 * TA]
    assert policy.seen[1]["keypoints"].shape == (1, 3, 2, 2)


def test_reset_forgets_observations_and_actions() -> None:
    policy = Recorder()
    policy.act(step(1))
    policy.reset()
    policy.act(step(7))
    assert policy.seen[1]["pose"][0, :, 0].tolist() == [70, 70, 70]


def test_an_observation_may_be_changed_afterwards() -> None:
    policy, obs = Recorder(), step(1)
    policy.act(obs)
    obs["pose"][:] = -1
    for _ in range(TA):
        policy.act(step(2))
    assert policy.seen[1]["pose"].min() > 0


def test_the_noise_of_a_seeded_episode_is_the_env_runners() -> None:
    policy = tiny_policy()
    policy.reset([5])
    acted = np.stack([policy.act(step(1)) for _ in range(TA)])
    obs = {key: torch.tensor(v, dtype=torch.float32).expand(1, TO, *v.shape) for key, v in step(1).items()}
    expected = policy.predict_action(obs, generator=[derived_generator(0, 5)])["action"][0]
    np.testing.assert_array_equal(acted, expected.numpy())


def test_images_may_come_as_from_a_camera() -> None:
    meta = {"obs": {"camera": {"shape": [3, 4, 5], "type": "rgb"}}, "action": {"shape": [DA]}}
    policy = Recorder(shape_meta=meta, n_obs_steps=1)
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    policy.act(image)
    torch.testing.assert_close(policy.seen[0]["camera"][0, 0], torch.tensor(image).movedim(-1, 0) / 255)


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        ({"pose": np.zeros(3)}, r"obs has no \['keypoints'\]"),
        (
            {"pose": np.zeros(4), "keypoints": np.zeros((2, 2))},
            r"obs\['pose'\] must have shape \(3,\), got \(4,\)",
        ),
        (np.zeros(3), "several observation keys"),
    ],
)
def test_a_wrong_observation_is_named(obs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recorder().act(obs)


def test_actions_that_are_not_finite_are_not_handed_out() -> None:
    class Broken(ZeroPolicy):
        def predict_action(self, obs: Any, **kwargs: Any) -> dict[str, Tensor]:
            return {"action": torch.full((1, TA, DA), torch.nan)}

    with pytest.raises(ValueError, match="NaN or infinity"):
        Broken(SHAPE_META, T, TO, TA).act(step(0))
