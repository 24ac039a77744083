"""Tests for comparison.py, sequential_comparison.py and compare.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.common.confidence_sequence import confidence_sequence
from diffusion_policy.common.statistics import paired_bootstrap_interval
from diffusion_policy.env_runner.report import EpisodeResult, RolloutResult
from diffusion_policy.scripts.comparison.compare import main
from diffusion_policy.scripts.comparison.methods import difference_table, read_method, split_name, verdict
from diffusion_policy.scripts.comparison.sequential import compare_sequentially
from diffusion_policy.workspace.train_workspace import train
from tests.tiny_run import tiny_config, write_episodes


def write_evaluation(folder: Path, scores: np.ndarray, first_seed: int = 100_000) -> Path:
    folder.mkdir()
    episodes = [
        EpisodeResult(first_seed + i, float(score), n_steps=300, success=bool(score > 0.99))
        for i, score in enumerate(scores)
    ]
    (folder / "episodes.json").write_text(RolloutResult(tuple(episodes), wall_time_s=1.0).to_json())
    return folder


@pytest.fixture
def evaluations(tmp_path: Path) -> dict[str, Path]:
    random = np.random.default_rng(0)
    difficulty = random.uniform(0.3, 0.9, 100)
    return {
        "a0": write_evaluation(tmp_path / "a0", difficulty + 0.1),
        "a1": write_evaluation(tmp_path / "a1", difficulty + 0.12),
        "b": write_evaluation(tmp_path / "b", difficulty),
        "noisy": write_evaluation(tmp_path / "noisy", difficulty + random.normal(0, 0.1, 100)),
        "elsewhere": write_evaluation(tmp_path / "elsewhere", difficulty, first_seed=0),
    }


def test_a_paired_difference_is_far_sharper_than_the_scores(evaluations: dict[str, Path]) -> None:
    methods = [
        read_method("ours={a0},{a1}".format(**evaluations)),
        read_method("control={b}".format(**evaluations)),
    ]
    header, _, ours, control = difference_table(methods).markdown().splitlines()
    assert "score of ours minus this" in header
    assert ours.startswith("| ours | 2 x 100 | 0.7")
    low, high = (float(x) for x in control.split("|")[5].split("[")[1].rstrip("] ").split(","))
    assert 0.09 < low <= 0.11 <= high < 0.13
    assert control.endswith("| higher |")


def test_the_verdict_says_no_more_than_the_interval(evaluations: dict[str, Path]) -> None:
    b, same, noisy, a = (
        read_method(f"{name}={evaluations[folder]}")
        for name, folder in (("b", "b"), ("same", "b"), ("noisy", "noisy"), ("a", "a0"))
    )
    lines = difference_table([b, same, noisy, a]).markdown().splitlines()[3:]
    assert "+0.000 [+0.000, +0.000]" in lines[0]
    assert [line.split("|")[-2].strip() for line in lines] == ["undecided", "undecided", "lower"]


@pytest.mark.parametrize(
    ("difference", "n", "expected"),
    [
        (0, 2, "undecided"),
        (0, 100, "undecided"),
        (0, 200, "equal within 0.02"),
        (1, 3, "undecided"),
        (1, 9, "higher"),
    ],
)
def test_equal_differences_of_few_episodes_decide_nothing(difference: float, n: int, expected: str) -> None:
    """Resampling them sees no spread. For 200: 1 - 0.025 ** (1 / 200) = 0.0183."""
    assert verdict(paired_bootstrap_interval(np.full(n, difference), np.zeros(n))) == expected


def test_other_episodes_are_not_compared(evaluations: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="different episode seeds"):
        read_method("x={b},{elsewhere}".format(**evaluations))
    methods = [read_method("x={b}".format(**evaluations)), read_method("y={elsewhere}".format(**evaluations))]
    with pytest.raises(ValueError, match="y and x ran on different episode seeds"):
        difference_table(methods)


def test_other_conditions_are_not_compared(evaluations: dict[str, Path]) -> None:
    for name, max_steps in (("a0", 300), ("a1", 8), ("b", 8)):
        log = {"env_runner": {"max_steps": max_steps, "n_envs": max_steps}}
        (evaluations[name] / "eval_log.json").write_text(json.dumps(log))
    with pytest.raises(ValueError, match="y and x differ in max_steps; evaluate both alike"):
        difference_table(
            [read_method("x={a0}".format(**evaluations)), read_method("y={b}".format(**evaluations))]
        )
    with pytest.raises(ValueError, match="ours: .*a1 and those before it differ in max_steps"):
        read_method("ours={a0},{a1}".format(**evaluations))


def test_a_rate_without_spread_over_runs_still_has_an_interval(tmp_path: Path) -> None:
    folders = ",".join(str(write_evaluation(tmp_path / name, np.full(50, 0.3))) for name in "ab")
    row = difference_table([read_method(f"x={folders}")]).rows[0]
    low, high = (float(x) for x in row[3].split("[")[1].rstrip("]").split(","))
    assert low == 0
    assert high == pytest.approx(3.84 / (50 + 3.84), abs=1e-3), "Wilson's for 0 of 50"


def test_a_name_is_optional_even_for_checkpoints_with_an_equals_sign(tmp_path: Path) -> None:
    checkpoint = tmp_path / "epoch=0004-score=0.5"
    checkpoint.mkdir()
    assert split_name(str(checkpoint)) == (str(checkpoint), [str(checkpoint)])
    assert split_name(f"ours={checkpoint}") == ("ours", [str(checkpoint)])
    assert split_name("a,b") == ("a,b", ["a", "b"])
    with pytest.raises(ValueError, match=r"expected \[NAME=\]FOLDER"):
        split_name("ours=")


def test_the_command_prints_the_table(
    evaluations: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main([f"a={evaluations['a0']}", f"b={evaluations['b']}"])
    assert "| b | 1 x 100 |" in capsys.readouterr().out


def test_the_command_writes_the_table_and_a_page(evaluations: dict[str, Path], tmp_path: Path) -> None:
    main([f"a={evaluations['a0']}", f"b={evaluations['b']}", "-o", str(tmp_path / "out")])
    assert "| b | 1 x 100 |" in (tmp_path / "out" / "compare.md").read_text()
    assert "score of a minus this" in (tmp_path / "out" / "report.html").read_text()


def test_what_is_no_evaluation_is_named(tmp_path: Path, evaluations: dict[str, Path]) -> None:
    with pytest.raises(SystemExit, match="no evaluation in .*nothing"):
        main([str(evaluations["a0"]), str(tmp_path / "nothing"), str(evaluations["b"])])
    with pytest.raises(SystemExit, match="no evaluation in .*nothing, and the other is one"):
        main([str(evaluations["a0"]), str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="say where to keep the episodes with -o OUT"):
        main([str(tmp_path / "a run"), str(tmp_path / "another")])


def test_a_damaged_evaluation_is_named(evaluations: dict[str, Path]) -> None:
    (evaluations["b"] / "episodes.json").write_text("{")
    with pytest.raises(SystemExit, match=r"b/episodes.json.*evaluate the policy again"):
        main([str(evaluations["a0"]), str(evaluations["b"])])


def test_an_empty_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="batch must be at least 1 episode, got 0"):
        main([str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path), "--batch", "0"])


# Stopping early


def scores(random: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """As of Push-T: most are 1, some far below."""
    return np.where(random.random(size) < 0.6, 1.0, random.random(size))


def test_looking_after_every_episode_gives_few_false_alarms() -> None:
    """Of equal policies at most 5 % are ever called different; a test at every look would call 20 % and more so."""
    random = np.random.default_rng(0)
    n_runs, n_episodes = 400, 150
    differences = scores(random, (n_runs, n_episodes)) - scores(random, (n_runs, n_episodes))
    false_alarms = 0
    naive = 0
    for run in differences:
        bounds = confidence_sequence(run)
        false_alarms += bool(((bounds[:, 0] > 0) | (bounds[:, 1] < 0)).any())
        n = np.arange(10, n_episodes + 1)
        mean, spread = np.cumsum(run)[9:] / n, np.array([run[:k].std(ddof=1) for k in n])
        naive += bool((np.abs(mean) > 1.96 * spread / np.sqrt(n)).any())
    assert false_alarms / n_runs <= 0.05
    assert naive / n_runs > 0.15, "which is why the ordinary interval must not be looked at twice"


def test_the_bounds_hold_the_mean_tighten_and_find_a_difference() -> None:
    random = np.random.default_rng(1)
    better = np.clip(scores(random, (400,)) - 0.8 * scores(random, (400,)), -1, 1)
    bounds = confidence_sequence(better)
    assert (np.diff(bounds[:, 0]) >= 0).all()
    assert (np.diff(bounds[:, 1]) <= 0).all()
    assert bounds[0, 0] < 0 < bounds[-1, 0] < better.mean() < bounds[-1, 1]


def test_values_outside_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"numbers in \[-1.0, 1.0\]"):
        confidence_sequence([0.0, 3.0])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    data = write_episodes(folder / "episodes.zarr")
    for name in ("zero", "random"):
        train(tiny_config(data, f"policy={name}", "task.env_runner.n_envs=20"), str(folder / name))
    train(tiny_config(data, "policy=zero", "task.env_runner.max_steps=4"), str(folder / "other"))
    return {name: folder / name for name in ("zero", "random", "other")}


@pytest.mark.sim
def test_a_policy_equals_itself_before_the_seeds_run_out(runs: dict[str, Path], tmp_path: Path) -> None:
    seeds = range(200_000, 200_600)
    result = compare_sequentially((runs["zero"], runs["zero"]), tmp_path, seeds, margin=0.05, batch=100)
    assert result.verdict == "equal"
    n = len(result.bounds)
    assert n < 600
    assert "they are equal" in str(result)
    kept = RolloutResult.from_json((tmp_path / "a" / "episodes.json").read_text())
    assert [episode.seed for episode in kept.episodes] == list(seeds[:n])


@pytest.mark.sim
def test_few_episodes_decide_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    result = compare_sequentially((runs["zero"], runs["random"]), tmp_path, range(3), batch=2)
    assert (result.verdict, len(result.bounds)) == ("undecided", 3)


@pytest.mark.sim
def test_of_runs_the_page_shows_how_the_bounds_tightened(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([f"a={runs['zero']}", f"b={runs['random']}", "-o", str(tmp_path), "--seeds", "0:3", "--batch", "2"])
    said = capsys.readouterr().out
    assert "after 3 episodes each" in said
    assert "minus this" not in said, "an interval for a fixed number of episodes would be wrong"
    assert "whenever one stops" in (tmp_path / "report.html").read_text()


@pytest.mark.sim
def test_runs_without_a_simulator_are_not_rolled_out(tmp_path: Path) -> None:
    config = tiny_config(write_episodes(tmp_path / "episodes.zarr"), "training.num_epochs=1")
    config["task"]["env_runner"] = None
    train(config, str(tmp_path / "run"))
    with pytest.raises(SystemExit, match="its task has no simulator"):
        main([str(tmp_path / "run"), str(tmp_path / "run"), "-o", str(tmp_path / "out")])


@pytest.mark.sim
def test_policies_of_different_tasks_are_not_compared(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different tasks: their env_runner differ in max_steps"):
        compare_sequentially((runs["zero"], runs["other"]), tmp_path, range(3))
