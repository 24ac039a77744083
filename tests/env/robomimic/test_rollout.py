"""Policies in robomimic's tasks, through the runner."""

from functools import partial

import pytest
import torch

from diffusion_policy.env.robomimic.robomimic_env import RobomimicEnv
from diffusion_policy.env_runner.env_runner import EnvRunner
from diffusion_policy.policy.control_policies import RandomPolicy
from tests.env.robomimic.tasks import OBJECT_SIZE, shape_meta

pytestmark = pytest.mark.sim


def rolled_out(env_name: str, abs_action: bool = False, n_envs: int = 1, **options):
    pytest.importorskip("robosuite")
    meta = shape_meta(env_name, abs_action)
    policy = RandomPolicy(meta, horizon=4, n_obs_steps=2, n_action_steps=1)
    policy.action_low, policy.action_high = (torch.full((policy.action_dim,), bound) for bound in (-1.0, 1.0))
    env = partial(RobomimicEnv, env_name, meta, abs_action)
    runner = EnvRunner(env, range(n_envs), 2, 1, max_steps=2, n_envs=n_envs, final_metrics=(), **options)
    return runner.run(policy, progress=False)


@pytest.mark.parametrize("env_name", OBJECT_SIZE)
def test_two_random_steps(env_name):
    (episode,) = rolled_out(env_name).episodes
    assert (episode.score, episode.n_steps, episode.success) == (0.0, 2, False)


def test_two_random_poses():
    (episode,) = rolled_out("TwoArmTransport", abs_action=True).episodes
    assert (episode.n_steps, episode.success) == (2, False)


@pytest.mark.slow
def test_in_worker_processes():
    episodes = rolled_out("Lift", n_envs=2, pool="workers").episodes
    assert [episode.n_steps for episode in episodes] == [2, 2]
