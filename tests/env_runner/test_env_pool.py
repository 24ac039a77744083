"""Tests for env_pool.py and episode_env.py."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.env_runner.env_pool import EnvPool, InProcessPool, WorkerPool
from diffusion_policy.env_runner.episode_env import EnvSpec, Outcome
from tests.env_runner.toy_env import BlinkingEnv, DictEnv, FailingEnv, SilentEnv, ToyEnv, UnbuildableEnv

TO, TA, MAX_STEPS = 2, 3, 10
both_pools = pytest.mark.parametrize("pool_class", [InProcessPool, WorkerPool])


def spec(env=ToyEnv, **changes) -> EnvSpec:
    return EnvSpec(**{"env": env, "n_obs_steps": TO, "n_action_steps": TA, "max_steps": MAX_STEPS, **changes})


def chunks(n: int, value: float = 0.1) -> list[np.ndarray]:
    return list(np.full((n, TA, 1), value, dtype=np.float32))


@both_pools
def test_reset_and_step(pool_class: type[EnvPool]):
    with pool_class(spec(), 3) as pool:
        first = pool.reset([0, 5])
        np.testing.assert_allclose(first[1]["obs"], [[-0.5, 0], [-0.5, 0]])
        results = pool.step([0, 1], chunks(2))
    np.testing.assert_allclose(results[0].obs["obs"], [[0.2, 2], [0.3, 3]], atol=1e-6)
    assert [result.done for result in results] == [False, False]
    assert [result.outcome.n_steps for result in results] == [3, 3]
    assert results[1].outcome.score == pytest.approx(-0.2)


@both_pools
def test_only_the_named_environments_are_stepped(pool_class: type[EnvPool]):
    with pool_class(spec(), 3) as pool:
        pool.reset([0, 1, 2])
        (first,) = pool.step([1], chunks(1))
        second = pool.step([2, 0, 1], chunks(3))
    assert first.obs["obs"][-1, 1] == 3
    assert [result.obs["obs"][-1, 1] for result in second] == [3, 3, 6]


def test_workers_give_the_results_of_the_loop():
    def roll(pool: EnvPool) -> list:
        rng, record = np.random.default_rng(0), []
        with pool:
            for seeds in ([3, 1, 4, 1, 5], [9, 2]):
                record += pool.reset(seeds, {"offset": 0.25})
                active = list(range(len(seeds)))
                while active:
                    results = pool.step(active, list(rng.random((len(active), TA, 1)) * 0.2))
                    record += results
                    active = [i for i, result in zip(active, results, strict=True) if not result.done]
        return record

    expected = roll(InProcessPool(spec(DictEnv, final_metrics=["coverage"]), 5))
    received = roll(WorkerPool(spec(DictEnv, final_metrics=["coverage"]), 5, n_workers=2))
    assert len(expected) == len(received) > 14
    for one, other in zip(expected, received, strict=True):
        np.testing.assert_equal(one, other)
    assert received[0]["image"].dtype == np.uint8


def test_environments_are_spread_over_workers_and_kept():
    with WorkerPool(spec(final_metrics=["process"]), 4, n_workers=2) as pool:
        processes = []
        for _ in range(2):
            pool.reset([0, 1, 2, 3])
            processes.append(
                [result.outcome.final["process"] for result in pool.step([0, 1, 2, 3], chunks(4))]
            )
    first, second = processes
    assert first == second
    assert first[0] == first[2] != first[1] == first[3]


def test_no_more_workers_than_environments():
    with WorkerPool(spec(), 1, n_workers=8) as pool:
        assert len(pool._workers) == 1


class TestOutcome:
    def test_ends_at_success_inside_a_chunk(self):
        with InProcessPool(spec(final_metrics=["coverage", "not there"]), 1) as pool:
            pool.reset([0], {"offset": 0.5})
            (result,) = pool.step([0], chunks(1, 0.3))
        outcome = result.outcome
        assert result.done
        assert (outcome.n_steps, outcome.success, outcome.steps_to_success) == (2, True, 2)
        assert outcome.score == 1
        assert outcome.final == {"coverage": pytest.approx(0.55)}

    def test_truncated_after_max_steps(self):
        with InProcessPool(spec(max_steps=4), 1) as pool:
            pool.reset([0])
            assert not pool.step([0], chunks(1))[0].done
            (result,) = pool.step([0], chunks(1))
        assert result.done
        assert (result.outcome.n_steps, result.outcome.success) == (4, False)
        assert result.outcome.steps_to_success is None

    def test_success_counts_at_any_step(self):
        with InProcessPool(spec(BlinkingEnv), 1) as pool:
            pool.reset([0])
            for _ in range(2):
                (result,) = pool.step([0], chunks(1))
        assert (result.outcome.n_steps, result.outcome.success) == (6, True)
        assert result.outcome.steps_to_success == 3

    def test_the_environment_may_say_the_score_itself(self):
        outcome = Outcome().after_step(5.0, {"score": 0.25, "p_1": np.True_}, ["p_1"])
        assert outcome.score == 0.25
        assert outcome.final == {"p_1": True}
        assert outcome.after_step(5.0, {"score": 0.125}, []).score == 0.125

    def test_score_is_the_largest_reward_not_the_last(self):
        with InProcessPool(spec(), 1) as pool:
            pool.reset([0])
            pool.step([0], chunks(1, 0.2))
            (result,) = pool.step([0], chunks(1, -0.2))
        assert result.outcome.score == pytest.approx(0.6)

    def test_environment_that_says_nothing_of_success(self):
        with InProcessPool(spec(SilentEnv), 1) as pool:
            pool.reset([0])
            (result,) = pool.step([0], chunks(1))
        assert result.outcome.success is None

    def test_a_new_episode_starts_a_new_outcome(self):
        with InProcessPool(spec(), 1) as pool:
            for _ in range(2):
                pool.reset([0])
                (result,) = pool.step([0], chunks(1))
        assert result.outcome.n_steps == 3


class TestFailures:
    @both_pools
    def test_an_exception_reaches_the_caller(self, pool_class: type[EnvPool]):
        with pool_class(spec(FailingEnv), 3) as pool:
            pool.reset([0, 7, 1])
            with pytest.raises(ZeroDivisionError, match="diverged") as raised:
                pool.step([0, 1, 2], chunks(3))
        if pool_class is WorkerPool:
            (note,) = raised.value.__notes__
            assert "Raised in an environment worker" in note
            assert "toy_env.py" in note

    def test_an_exception_that_cannot_be_pickled(self):
        with WorkerPool(spec(FailingEnv), 1) as pool:
            pool.reset([8])
            with pytest.raises(RuntimeError, match="StubbornError: cannot travel"):
                pool.step([0], chunks(1))

    def test_a_dead_worker_is_named(self):
        with WorkerPool(spec(FailingEnv), 2, n_workers=2) as pool:
            pool.reset([0, 9])
            with pytest.raises(RuntimeError, match=r"worker 1 died with exit code 3.*Lower n_envs"):
                pool.step([0, 1], chunks(2))
            with pytest.raises(RuntimeError, match="worker 1 died"):
                pool.step([1], chunks(1))

    @both_pools
    def test_an_environment_that_cannot_be_built(self, pool_class: type[EnvPool]):
        with (
            pool_class(spec(UnbuildableEnv), 1) as pool,
            pytest.raises(FileNotFoundError, match="no such"),
        ):
            pool.reset([0])

    def test_an_env_that_cannot_be_pickled(self):
        with pytest.raises(TypeError, match=r"env must be picklable.*lambda"):
            WorkerPool(spec(lambda: ToyEnv()), 1)

    @both_pools
    def test_more_episodes_than_environments(self, pool_class: type[EnvPool]):
        with pool_class(spec(), 1) as pool, pytest.raises(ValueError, match="2 episodes in 1 environments"):
            pool.reset([0, 1])

    def test_no_environments(self):
        with pytest.raises(ValueError, match="n_envs must be at least 1, got 0"):
            InProcessPool(spec(), 0)


def test_workers_end_with_the_pool():
    pool = WorkerPool(spec(), 2, n_workers=2)
    pool.reset([0, 1])
    assert len(multiprocessing.active_children()) == 2
    pool.close()
    assert multiprocessing.active_children() == []


@both_pools
def test_video_is_complete_when_the_episode_ends(pool_class: type[EnvPool], tmp_path: Path):
    path = tmp_path / "0.mp4"
    with pool_class(spec(max_steps=3), 2) as pool:
        pool.reset([0, 1], video_paths=[path, None])
        pool.step([0, 1], chunks(2))
        assert path.stat().st_size > 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_worker_does_not_load_torch():
    code = "import sys, diffusion_policy.env_runner.env_pool; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
