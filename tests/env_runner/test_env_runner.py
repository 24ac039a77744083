"""Tests for env_runner.py."""

import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import gymnasium
import numpy as np
import pytest
import torch

from diffusion_policy.common.random_seed import derived_generator
from diffusion_policy.env_runner.env_runner import EnvRunner
from diffusion_policy.env_runner.report import EpisodeResult
from tests.env_runner.toy_env import DictEnv, FailingEnv, ToyEnv
from tests.env_runner.toy_policy import ToyPolicy

SEEDS = [0, 5, 2, 9, 4, 31, 3]


def runner(**changes) -> EnvRunner:
    settings = {"env": ToyEnv, "seeds": SEEDS, "n_obs_steps": 2, "n_action_steps": 3, "max_steps": 17}
    return EnvRunner(**{**settings, **changes})


def roll(policy: ToyPolicy | None = None, **changes) -> tuple[EpisodeResult, ...]:
    return runner(**changes).run(policy or ToyPolicy(noise_scale=0.05), progress=False).episodes


def by_hand(seed: int, noise_scale: float) -> EpisodeResult:
    """The same episode without runner, pool and wrappers."""
    env, generator = ToyEnv(), derived_generator(0, seed)
    env.reset(seed=seed)
    rewards, done = [], False
    while not done and len(rewards) < 17:
        actions = 0.1 + noise_scale * torch.randn(8, 1, generator=generator)[1:4].numpy()
        for action in actions:
            _, reward, done, _, info = env.step(action)
            rewards.append(reward)
            if done or len(rewards) == 17:
                break
    steps = len(rewards)
    return EpisodeResult(
        seed, max(rewards), steps, done, steps if done else None, {"coverage": info["coverage"]}
    )


class TestResults:
    def test_agree_with_a_loop_by_hand(self):
        assert roll() == tuple(by_hand(seed, 0.05) for seed in SEEDS)

    @pytest.mark.parametrize("n_envs", [1, 3, 7, 50])
    def test_do_not_depend_on_the_batch(self, n_envs):
        assert roll(n_envs=n_envs) == roll(n_envs=4)

    def test_do_not_depend_on_the_pool(self):
        assert roll(pool="workers", n_envs=3) == roll()

    def test_depend_on_the_noise_seed(self):
        assert roll(noise_seed=0) != roll(noise_seed=1)

    def test_hand_on_reset_options(self):
        offset = roll(ToyPolicy(), reset_options={"offset": 0.5})
        assert offset[0].steps_to_success == 5
        assert roll(ToyPolicy())[0].steps_to_success == 10

    def test_name_the_chosen_final_metrics(self):
        assert roll(final_metrics=["nothing"])[0].final == {}

    def test_have_a_speed(self):
        result = runner().run(ToyPolicy(), progress=False)
        assert result.wall_time_s > 0
        assert result.n_steps == sum(episode.n_steps for episode in result.episodes)


class TestPolicyCalls:
    def test_see_running_episodes_only(self):
        policy = ToyPolicy()
        episodes = roll(policy, n_envs=4)
        rows: list[int] = []
        for name, argument in policy.calls:
            if name == "reset":
                rows = argument
                executed = dict.fromkeys(rows, 0)
            elif name == "retain":
                rows = [rows[i] for i in argument]
            else:
                position, n_steps = argument["obs"][:, -1].unbind(dim=-1)
                assert n_steps.tolist() == [executed[seed] for seed in rows]
                expected = [-0.1 * (seed % 10) + 0.1 * executed[seed] for seed in rows]
                np.testing.assert_allclose(position, expected, atol=1e-6)
                executed = {seed: steps + 3 for seed, steps in executed.items()}
        n_predictions = sum(len(call[1]["obs"]) for call in policy.calls if call[0] == "predict")
        assert n_predictions == sum(-(-episode.n_steps // 3) for episode in episodes)
        assert [argument for name, argument in policy.calls if name == "reset"] == [SEEDS[:4], SEEDS[4:]]

    def test_box_observations_get_a_name_and_become_float32(self):
        policy = ToyPolicy()
        roll(policy)
        _, obs = policy.calls[1]
        assert list(obs) == ["obs"]
        assert obs["obs"].dtype == torch.float32
        assert obs["obs"].shape == (7, 2, 2)

    def test_dict_observations_keep_names_and_integer_images(self):
        policy = ToyPolicy()
        roll(policy, env=DictEnv)
        _, obs = policy.calls[1]
        assert {key: (value.dtype, value.shape[1:]) for key, value in obs.items()} == {
            "position": (torch.float32, (2, 2)),
            "image": (torch.uint8, (2, 3, 4, 4)),
        }

    def test_evaluation_mode_without_gradients_and_back(self):
        modes = []

        class Watched(ToyPolicy):
            def predict_action(self, *arguments, **keywords):
                modes.append((self.training, self.layer[1].training, torch.is_inference_mode_enabled()))
                return super().predict_action(*arguments, **keywords)

        policy = Watched()
        policy.train()
        policy.layer[0].eval()
        roll(policy)
        assert set(modes) == {(False, False, True)}
        assert [policy.training, policy.layer[0].training, policy.layer[1].training] == [True, False, True]

    def test_modes_are_restored_after_an_error(self):
        policy = ToyPolicy().train()
        with pytest.raises(ZeroDivisionError):
            roll(policy, env=FailingEnv, seeds=[7])
        assert policy.training


def test_global_random_generators_are_not_touched():
    policy = ToyPolicy(noise_scale=0.05)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    roll(policy)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert before[2] == random.getstate()


def test_derived_generators_differ():
    draws = {
        torch.randn(1, generator=derived_generator(noise_seed, seed)).item()
        for noise_seed in range(10)
        for seed in range(10)
    }
    assert len(draws) == 100


class TestErrors:
    def test_action_that_is_not_finite(self):
        class Diverging(ToyPolicy):
            def predict_action(self, obs, **keywords):
                prediction = super().predict_action(obs, **keywords)
                prediction["action"][obs["obs"][:, -1, 1] == 6, 2] = torch.nan
                return prediction

        with pytest.raises(ValueError, match=r"\[nan\] in the episode with seed 5 at step 8"):
            roll(Diverging(), seeds=[5])

    def test_wrong_number_of_action_steps(self):
        with pytest.raises(ValueError, match=r"shape \(7, 2, 1\).*\(7, 3\).*same n_action_steps"):
            roll(ToyPolicy(n_action_steps=2))

    @pytest.mark.parametrize("seeds", [[], [1, 1], [-1]])
    def test_bad_seeds(self, seeds):
        with pytest.raises(ValueError, match="distinct integers"):
            runner(seeds=seeds)

    def test_unknown_pool(self):
        with pytest.raises(ValueError, match="one of in_process, workers, got 'threads'"):
            runner(pool="threads")

    def test_videos_without_a_place(self):
        with pytest.raises(ValueError, match="n_videos=2 needs an output_dir"):
            runner(n_videos=2).run(ToyPolicy())


class TestVideos:
    @pytest.mark.parametrize("pool", ["in_process", "workers"])
    def test_of_the_first_episodes(self, tmp_path: Path, pool):
        settings = {"n_videos": 3, "n_envs": 2, "pool": pool}
        result = runner(**settings).run(ToyPolicy(), tmp_path, progress=False)
        assert sorted(path.name for path in (tmp_path / "media").iterdir()) == ["0.mp4", "2.mp4", "5.mp4"]
        assert [episode.video for episode in result.episodes[:4]] == [
            "media/0.mp4",
            "media/5.mp4",
            "media/2.mp4",
            None,
        ]
        for episode in result.episodes[:3]:
            with av.open(tmp_path / episode.video) as video:
                n_frames = sum(1 for _ in video.decode(video=0))
            assert n_frames == episode.n_steps + 1

    def test_do_not_change_the_results(self, tmp_path: Path):
        filmed = runner(n_videos=7).run(ToyPolicy(noise_scale=0.05), tmp_path, progress=False).episodes
        assert tuple(replace(episode, video=None) for episode in filmed) == roll()


def test_progress_is_shown_on_demand(capsys):
    runner().run(ToyPolicy(), progress=False)
    assert capsys.readouterr().err == ""
    runner().run(ToyPolicy(), progress=True)
    shown = capsys.readouterr().err
    assert "0%" in shown
    assert "100%" in shown


@pytest.mark.sim
def test_nearest_neighbour_pushes_the_t(pusht_zarr: Path):
    import diffusion_policy.env  # noqa: F401, registers the ids
    from diffusion_policy.dataset.pusht_dataset import PushTLowdimDataset
    from diffusion_policy.policy.control_policies import NearestNeighborPolicy, ReplayPolicy

    shape_meta = {"obs": {"obs": {"shape": [20], "type": "low_dim"}}, "action": {"shape": [2]}}
    lengths = {"horizon": 16, "n_obs_steps": 2, "n_action_steps": 8}
    dataset = PushTLowdimDataset(pusht_zarr, shape_meta, **lengths)
    env = partial(gymnasium.make, "diffusion_policy/PushTKeypoints-v0", legacy=True)

    def scores(control, seeds):
        policy = control(shape_meta, **lengths)
        policy.fit(dataset)
        push = EnvRunner(env, seeds, n_obs_steps=2, n_action_steps=8, max_steps=300)
        return push.run(policy, progress=False)

    replayed = scores(ReplayPolicy, range(4))
    assert all(episode.score > 0.9 for episode in replayed.episodes)
    looked_up = scores(NearestNeighborPolicy, range(100000, 100004))
    assert looked_up.metrics()["score"].value > 0.4
    assert all(0 <= episode.final["coverage"] <= 1 for episode in looked_up.episodes)
