"""Tests for control_policies.py and the contract of base_policy.py."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_policy.model.common.normalizer import LinearNormalizer
from diffusion_policy.policy.base_policy import BasePolicy
from diffusion_policy.policy.control_policies import (
    NearestNeighborPolicy,
    RandomPolicy,
    ReplayPolicy,
    ZeroPolicy,
)

SHAPE_META = {"obs": {"obs": {"shape": [3], "type": "low_dim"}}, "action": {"shape": [2]}}
T, To, Ta = 6, 3, 2
CONTROLS = [ZeroPolicy, RandomPolicy, ReplayPolicy, NearestNeighborPolicy]


class FakeDataset:
    """Four episodes of 4, 5, 6, 7 steps; the last is not for training. Actions tell episode and step."""

    n_episodes = 4

    def episode(self, index: int) -> dict[str, Any]:
        length = 4 + index
        step = np.arange(length, dtype=np.float32)
        obs = np.random.default_rng(index).random((length, 3), dtype=np.float32) * [1, 10, 100]
        return {"obs": {"obs": obs}, "action": np.stack([np.full(length, float(index)), step], axis=1)}

    def train_episodes(self) -> Iterator[dict[str, Any]]:
        return (self.episode(index) for index in range(3))

    def get_normalizer(self) -> LinearNormalizer:
        episodes = [self.episode(index) for index in range(4)]
        return LinearNormalizer().fit(
            {
                "obs": np.concatenate([episode["obs"]["obs"] for episode in episodes]),
                "action": np.concatenate([episode["action"] for episode in episodes]),
            }
        )


def fitted(control: type[BasePolicy]) -> Any:
    policy = control(SHAPE_META, T, To, Ta)
    policy.fit(FakeDataset())
    return policy


def observations(n_rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {"obs": torch.rand(n_rows, To, 3, generator=torch.Generator().manual_seed(seed))}


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("control", CONTROLS)
class TestEveryControl:
    def test_shapes_and_time_line(self, control):
        policy = fitted(control)
        policy.reset([0, 1])
        prediction = policy.predict_action(observations(2), generator=generators(0, 1))
        assert prediction["action_pred"].shape == (2, T, 2)
        assert prediction["action"].dtype == torch.float32
        torch.testing.assert_close(prediction["action"], prediction["action_pred"][:, To - 1 : To - 1 + Ta])

    def test_state_dict_round_trip(self, control):
        policy, loaded = fitted(control), control(SHAPE_META, T, To, Ta)
        loaded.load_state_dict(policy.state_dict())
        for each in (policy, loaded):
            each.reset([2, 0])
        expected, received = (
            each.predict_action(observations(2), generator=generators(0, 1))["action_pred"]
            for each in (policy, loaded)
        )
        assert torch.equal(expected, received)

    def test_committed_actions_are_kept(self, control):
        policy = fitted(control)
        policy.reset([0])
        committed = torch.tensor([[[7.0, 8.0]]])
        action = policy.predict_action(observations(1), generator=generators(0), committed=committed)[
            "action"
        ]
        assert torch.equal(action[:, :1], committed)
        assert not torch.equal(action[:, 1:], committed)

    def test_nothing_to_train(self, control):
        policy = fitted(control)
        assert policy.param_groups() == [{"params": []}]
        with pytest.raises(NotImplementedError, match=r"does not learn: call fit\(dataset\)"):
            policy({"obs": observations(1), "action": torch.zeros(1, T, 2)})

    def test_unfitted_says_so_or_predicts_nan(self, control):
        policy = control(SHAPE_META, T, To, Ta)
        try:
            policy.reset([0])
            action = policy.predict_action(observations(1))["action"]
        except (ValueError, KeyError) as error:
            assert "fit" in str(error)  # noqa: PT017, one of two outcomes
        else:
            assert action.isnan().all()


class TestZero:
    def test_centre_of_the_recorded_range(self):
        action = fitted(ZeroPolicy).predict_action(observations(5))["action"]
        torch.testing.assert_close(action, torch.tensor([1.5, 3.0]).expand(5, Ta, 2))


class TestRandom:
    def test_uniform_in_the_range_of_training_actions(self):
        policy = fitted(RandomPolicy)
        action = policy.predict_action(observations(4000), generator=torch.Generator().manual_seed(0))
        unit = action["action_pred"] / torch.tensor([2.0, 5.0])  # training episodes 0 to 2, steps 0 to 5
        assert unit.min() >= 0
        assert unit.max() <= 1
        quantiles = torch.quantile(unit[:, 0], torch.tensor([0.25, 0.5, 0.75]), dim=0)
        torch.testing.assert_close(
            quantiles, torch.tensor([[0.25], [0.5], [0.75]]).expand(3, 2), atol=0.03, rtol=0
        )

    def test_a_row_does_not_depend_on_its_neighbours(self):
        policy = fitted(RandomPolicy)
        together = policy.predict_action(observations(3), generator=generators(5, 6, 7))["action"]
        alone = policy.predict_action(observations(1), generator=generators(6))["action"]
        assert torch.equal(together[1:2], alone)

    def test_given_noise_decides(self):
        policy = fitted(RandomPolicy)
        action = policy.predict_action(observations(1), noise=torch.zeros(1, T, 2))["action"]
        torch.testing.assert_close(action, torch.tensor([1.0, 2.5]).expand(1, Ta, 2))


class TestReplay:
    def test_replays_each_row_its_demonstration_and_holds_the_end(self):
        policy = fitted(ReplayPolicy)
        policy.reset([0, 3])
        steps = torch.cat([policy.predict_action(observations(2))["action"] for _ in range(4)], dim=1)
        assert steps[0, :, 0].unique().tolist() == [0]
        assert steps[0, :, 1].tolist() == [0, 1, 2, 3, 3, 3, 3, 3]
        assert steps[1, :, 0].unique().tolist() == [3]
        assert steps[1, :, 1].tolist() == [0, 1, 2, 3, 4, 5, 6, 6]

    def test_prediction_around_the_executed_steps(self):
        policy = fitted(ReplayPolicy)
        policy.reset([3])
        predictions = [policy.predict_action(observations(1))["action_pred"][0, :, 1] for _ in range(2)]
        assert [prediction.tolist() for prediction in predictions] == [[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]

    def test_retain_keeps_rows_with_their_demonstrations(self):
        policy = fitted(ReplayPolicy)
        policy.reset([0, 1, 2])
        policy.predict_action(observations(3))
        policy.retain([0, 2])
        action = policy.predict_action(observations(2))["action"]
        assert action[:, 0].tolist() == [[0, 2], [2, 2]]

    def test_reset_starts_again(self):
        policy = fitted(ReplayPolicy)
        for _ in range(2):
            policy.reset([1])
            assert policy.predict_action(observations(1))["action"][0, :, 1].tolist() == [0, 1]

    def test_seed_without_demonstration_is_named(self):
        with pytest.raises(ValueError, match=r"episode seed 4: .* evaluate with --seeds 0:4"):
            fitted(ReplayPolicy).reset([0, 4])

    def test_needs_seeds(self):
        with pytest.raises(ValueError, match="needs episode_seeds"):
            fitted(ReplayPolicy).reset()

    def test_other_rows_than_announced(self):
        policy = fitted(ReplayPolicy)
        policy.reset([0, 1])
        with pytest.raises(ValueError, match="observations of 1 episodes but replays 2"):
            policy.predict_action(observations(1))


class TestNearestNeighbor:
    @pytest.mark.parametrize(("episode", "step"), [(0, 0), (1, 2), (2, 5)])
    def test_finds_a_training_step_and_what_followed(self, episode, step):
        policy = fitted(NearestNeighborPolicy)
        present = torch.as_tensor(FakeDataset().episode(episode)["obs"]["obs"][step]).float()
        obs = torch.rand(1, To + 1, 3)  # only the present step counts
        obs[:, To - 1] = present
        prediction = policy.predict_action({"obs": obs})["action_pred"][0]
        expected = np.clip(np.arange(T) - (To - 1) + step, 0, 3 + episode)
        assert prediction[:, 0].unique().tolist() == [episode]
        assert prediction[:, 1].tolist() == expected.tolist()

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10**6))
    def test_agrees_with_brute_force(self, seed):
        policy, obs = (
            fitted(NearestNeighborPolicy),
            observations(4, seed)["obs"] * torch.tensor([1.0, 10, 100]),
        )
        train = np.concatenate([episode["obs"]["obs"] for episode in FakeDataset().train_episodes()])
        actions = np.concatenate([episode["action"] for episode in FakeDataset().train_episodes()])
        scaled = (obs[:, To - 1, None].numpy() - train) / np.ptp(train)
        nearest = np.argmin((scaled**2).sum(axis=-1), axis=1)
        predicted = policy.predict_action({"obs": obs})["action"][:, 0]
        np.testing.assert_array_equal(predicted.numpy(), actions[nearest])

    def test_joins_low_dim_keys_and_leaves_out_images(self):
        shape_meta = {
            "obs": {
                "image": {"shape": [3, 4, 4], "type": "rgb"},
                "position": {"shape": [2], "type": "low_dim"},
                "angle": {"shape": [1]},
            },
            "action": {"shape": [2]},
        }

        class ImageDataset(FakeDataset):
            def episode(self, index):
                episode = super().episode(index)
                obs = episode["obs"]["obs"]
                keys = {"image": np.zeros((len(obs), 3, 4, 4)), "position": obs[:, :2], "angle": obs[:, 2:]}
                return {"obs": keys, "action": episode["action"]}

            def get_normalizer(self):
                return FakeDataset().get_normalizer()

        policy = NearestNeighborPolicy(shape_meta, T, To, Ta)
        policy.fit(ImageDataset())
        assert policy.observations.shape == (4 + 5 + 6, 3)
        obs = {
            key: torch.as_tensor(value[None, 1:4]).float()
            for key, value in ImageDataset().episode(1)["obs"].items()
        }
        assert policy.predict_action(obs)["action"][0, 0].tolist() == [1, 3]

    def test_only_images_is_an_error(self):
        shape_meta = {"obs": {"image": {"shape": [3, 4, 4], "type": "rgb"}}, "action": {"shape": [2]}}
        with pytest.raises(ValueError, match=r"none among \['image'\]"):
            NearestNeighborPolicy(shape_meta, T, To, Ta)


class TestBasePolicy:
    @pytest.mark.parametrize("lengths", [(0, 1, 1), (6, 0, 1), (6, 1, 0)])
    def test_lengths_are_positive(self, lengths):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            ZeroPolicy(SHAPE_META, *lengths)

    def test_executed_steps_end_within_the_horizon(self):
        ZeroPolicy(SHAPE_META, horizon=6, n_obs_steps=3, n_action_steps=4)
        with pytest.raises(ValueError, match="horizon of at least 7"):
            ZeroPolicy(SHAPE_META, horizon=6, n_obs_steps=3, n_action_steps=5)

    def test_set_normalizer_copies(self):
        policy, normalizer = ZeroPolicy(SHAPE_META, T, To, Ta), FakeDataset().get_normalizer()
        policy.set_normalizer(normalizer)
        before = policy.predict_action(observations(1))["action"]
        normalizer["action"].offset.fill_(100)
        assert torch.equal(policy.predict_action(observations(1))["action"], before)

    def test_device_and_dtype(self):
        policy = ZeroPolicy(SHAPE_META, T, To, Ta)
        assert policy.device == torch.device("cpu")
        assert policy.dtype == torch.float32
        assert fitted(NearestNeighborPolicy).double().dtype == torch.float64

    def test_forward_is_compute_loss(self):
        class Constant(ZeroPolicy):
            def compute_loss(self, batch):
                return batch["action"].mean(), {}

        loss, metrics = Constant(SHAPE_META, T, To, Ta)({"action": torch.ones(2, T, 2)})
        assert (loss.item(), metrics) == (1, {})
