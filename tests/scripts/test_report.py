"""Tests for the reports of training runs and evaluations."""

import json
import logging
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.env_runner.report import EpisodeResult, RolloutResult
from diffusion_policy.scripts.best_effort import best_effort
from diffusion_policy.scripts.controls import parse_controls
from diffusion_policy.scripts.evaluate import evaluate
from diffusion_policy.scripts.report.charts import Line, histogram, line_chart, number, ranked_dots, ticks
from diffusion_policy.scripts.report.episodes import extremes
from diffusion_policy.scripts.report.evaluation_report import write_evaluation_report
from diffusion_policy.scripts.report.make_report import make_report, report_with_videos
from diffusion_policy.scripts.report.training_report import write_training_report
from diffusion_policy.workspace.train_workspace import LAST_ROLLOUT
from tests.scripts import circling

VOID = {"meta", "br", "img", "input", "link", "hr"}
FEW_STEPS = ("dataloader.batches_per_epoch=10", "training.num_epochs=2")


class Checked(HTMLParser):
    """Checks that every element is closed and that nothing is loaded from elsewhere; collects the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.n_videos = 0
        self.feed(page)
        assert self.open == []
        assert "http" not in page
        assert "url(" not in page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        assert all(value and value.startswith("data:") for name, value in attrs if name in ("src", "href"))
        self.n_videos += tag == "video"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += " " + " ".join(data.split())


def read(path: Path) -> Checked:
    assert path.name == "report.html"
    assert path.stat().st_size < 5_000_000
    return Checked(path.read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = (*FEW_STEPS, "training.rollout_every=1", "training.sample_every=1")
    return circling.train_on(tmp_path_factory.mktemp("report"), None, *overrides)


@pytest.fixture(scope="module")
def evaluation(run: Path) -> Path:
    output = run.parent / "evaluation"
    evaluate(run, output, seeds=range(100_000, 100_005), device="cpu", controls=parse_controls("all"))
    report_with_videos(output, device="cpu")
    return output


@pytest.mark.sim
def test_training(run: Path, tmp_path: Path) -> None:
    page = read(make_report(run, device="cpu"))
    for words in (
        "DiffusionPolicy on pusht_lowdim, seed 42: 20 optimizer steps",
        "2 of 2 epochs",
        "n = 2",
        "Scores are of 2 selection seeds",
        "What to look at",
        "Score and success",
        "train_loss",
        "val_loss",
        "Open-loop error",
        "step 4",
        "epoch=0002-score=",
        "max_train_episodes",
        "torch",
        "data hash",
        "python eval.py --checkpoint",
        "No video of the best episode",
    ):
        assert words in page.text, words
    assert page.n_videos == 0
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / LAST_ROLLOUT).unlink()
    assert "No episodes and videos: this run kept none" in read(write_training_report(folder)).text


@pytest.mark.sim
def test_a_run_that_keeps_its_episodes_shows_them(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    result = RolloutResult((EpisodeResult(200_000, 0.2, 8), EpisodeResult(200_001, 0.4, 8)), 1.0)
    (folder / LAST_ROLLOUT).write_text(result.to_json())
    report_with_videos(folder, (), "cpu")
    page = read(folder / "report.html")
    assert page.n_videos == 3, "of two episodes, the median is the better one"
    assert (
        "Seed 200001, score 0.400, 8 steps. The video shows the same start and noise run again" in page.text
    )


def test_training_without_rollouts(tmp_path: Path) -> None:
    folder = circling.train_on(tmp_path, None, *FEW_STEPS)
    page = read(write_training_report(folder))
    assert "No score: this training did not roll out" in page.text
    assert "held-out loss" in page.text
    assert "No diagnosis: the checks of data and policy could not run" in page.text


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (circling.observations_shuffled, "the steps of obs were shuffled"),
        (circling.action_one_step_late, "Actions are stored one step late"),
    ],
)
def test_the_report_of_a_broken_run_names_its_fault_first(
    tmp_path: Path, fault: circling.Fault, words: str
) -> None:
    page = read(make_report(circling.train_on(tmp_path, fault, *FEW_STEPS), device="cpu"))
    beginning = page.text[: page.text.index("Curves")]
    assert words in beginning
    assert " bad " in beginning


@pytest.mark.sim
def test_evaluation(evaluation: Path) -> None:
    page = read(evaluation / "report.html")
    for words in (
        "5 episodes in",
        "n = 5",
        "this policy's score above it",
        "nearest neighbor",
        "random",
        "zero",
        "are test seeds: nothing was chosen on them",
        "Score of each episode",
        "Every episode, worst first",
        "100004",
        "steps to success",
        "no episode succeeded",
        "Seed 10000",
        "Idle steps",
        "Versions",
        "pusht_lowdim",
    ):
        assert words in page.text, words
    assert page.n_videos == 3
    assert "No controls" not in page.text
    recorded = RolloutResult.from_json((evaluation / "recorded_again.json").read_text())
    shown = {episode.seed for episode in recorded.episodes}
    result = RolloutResult.from_json((evaluation / "episodes.json").read_text())
    assert shown == {episode.seed for episode in extremes(result).values()}


@pytest.mark.sim
def test_controls_ran_on_the_same_seeds(evaluation: Path) -> None:
    for name in ("zero", "random", "nearest_neighbor"):
        control = RolloutResult.from_json((evaluation / "controls" / f"{name}.json").read_text())
        assert [episode.seed for episode in control.episodes] == list(range(100_000, 100_005))


@pytest.mark.sim
def test_what_is_missing_is_said(evaluation: Path, tmp_path: Path) -> None:
    for name in ("eval_log.json", "episodes.json"):
        shutil.copy(evaluation / name, tmp_path / name)
    page = read(write_evaluation_report(tmp_path))
    for words in ("No controls", "No video of the best episode", "No diagnosis", "No configuration"):
        assert words in page.text, words


@pytest.mark.sim
def test_a_report_without_demonstrations_keeps_the_rest(
    evaluation: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = json.loads((evaluation / "eval_log.json").read_text())
    log["checkpoint"] = str(tmp_path / "gone")
    shutil.copy(evaluation / "episodes.json", tmp_path)
    (tmp_path / "eval_log.json").write_text(json.dumps(log))
    page = read(make_report(tmp_path))
    assert "No diagnosis" in page.text
    assert "no diagnosis: no checkpoint at" in caplog.text


@pytest.mark.sim
def test_an_evaluation_that_is_replaced_leaves_nothing(run: Path, evaluation: Path, tmp_path: Path) -> None:
    output = shutil.copytree(evaluation, tmp_path / "evaluation")
    evaluate(run, output, seeds=range(7, 9), device="cpu", overwrite=True, n_videos=1)
    left = sorted(path.name for path in output.rglob("*") if path.is_file())
    assert left == ["7.mp4", "config.yaml", "episodes.json", "eval_log.json"]


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing to report in .*give the folder that"):
        make_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not the folder of a training run"):
        write_training_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not the folder of an evaluation"):
        write_evaluation_report(tmp_path)


@pytest.mark.sim
def test_text_from_files_is_escaped(evaluation: Path, tmp_path: Path) -> None:
    shutil.copy(evaluation / "episodes.json", tmp_path)
    log = json.loads((evaluation / "eval_log.json").read_text())
    log["checkpoint"] = "<script>alert(1)</script>"
    log["provenance"]["command"] = ["eval.py", "policy.x=</pre><b>"]
    (tmp_path / "eval_log.json").write_text(json.dumps(log))
    assert "<script>alert(1)</script>" in read(write_evaluation_report(tmp_path)).text, "as text"


def test_a_failure_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("two\n lines")

    with caplog.at_level(logging.WARNING):
        best_effort("report", fail)
    assert caplog.messages == ["no report: two lines"]


def test_extremes() -> None:
    scores = {5: (0.9, 100), 6: (1.0, 90), 7: (1.0, 80), 8: (0.1, 300), 9: (0.5, 300)}
    episodes = tuple(EpisodeResult(seed, score, n_steps) for seed, (score, n_steps) in scores.items())
    found = extremes(RolloutResult(episodes, 1.0))
    assert {name: episode.seed for name, episode in found.items()} == {"best": 7, "median": 5, "worst": 8}
    assert {e.seed for e in extremes(RolloutResult(episodes[:1], 1.0)).values()} == {5}


def test_controls_are_checked() -> None:
    assert parse_controls("all") == ["zero", "random", "nearest_neighbor", "nearest_feature"]
    assert parse_controls("random,zero") == ["random", "zero"]
    with pytest.raises(
        ValueError,
        match="controls must be all, or some of zero,random,nearest_neighbor,nearest_feature; got 'x'",
    ):
        parse_controls("zero,x")


# Charts


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 12, [0, 5, 10]),
        (1e-6, 3e-6, [1e-6, 1.5e-6, 2e-6, 2.5e-6, 3e-6]),
    ],
)
def test_ticks(low: float, high: float, expected: list[float]) -> None:
    np.testing.assert_allclose(ticks(low, high), expected)


def test_numbers_are_short() -> None:
    texts = [number(x) for x in (0, 0.25, 1e-5, -2.5e-7, 10_000, 12.345, 3e7)]
    assert texts == ["0", "0.25", "1e-5", "-2.5e-7", "10000", "12.3", "3e7"]


@pytest.mark.parametrize("n", [1, 2, 5000])
def test_charts_stay_inside(n: int) -> None:
    x = np.arange(n, dtype=float)
    y = np.abs(np.sin(x)) + 0.1
    charts = [
        line_chart([Line("<a>", x, y), Line("b", x, 2 * y, y, 3 * y)], "x", "y", log_y=True),
        ranked_dots(y[:500], [f"seed {i}" for i in range(n)][:500], {0: "best"}, "score"),
        histogram(y, "y"),
    ]
    for chart in charts:
        places = [float(v) for v in re.findall(r'\b(?:cx|x1|x2|x)="([-\d.]+)"', chart)]
        assert 0 <= min(places) <= max(places) <= 420
        assert len(chart) < 150_000
    assert "&lt;a&gt;" in charts[0]
