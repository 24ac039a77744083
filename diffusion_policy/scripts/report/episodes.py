"""The episodes of a rollout in a report: every score, and videos of the best, the median and the worst."""

from pathlib import Path

import numpy as np

from diffusion_policy.env_runner.report import EpisodeResult, RolloutResult
from diffusion_policy.scripts.evaluation_files import MEDIA, RECORDED_AGAIN
from diffusion_policy.scripts.report.charts import histogram, ranked_dots
from diffusion_policy.scripts.report.page import Chart, Grid, Page, Video, embedded_video

MAX_VIDEO_BYTES = 3_000_000  # of all videos: a page that opens slowly is not read
SAME_SCORE = 0.005  # larger differences are said


def read_episodes(path: Path) -> RolloutResult | None:
    """A rollout from its file; None where there is no such file."""
    return RolloutResult.read(path) if path.is_file() else None


def ranked(result: RolloutResult) -> list[EpisodeResult]:
    """The episodes from the worst to the best: by score; of equal scores that with fewer steps is the better one."""
    return sorted(result.episodes, key=lambda episode: (episode.score, -episode.n_steps))


def extremes(result: RolloutResult) -> dict[str, EpisodeResult]:
    """The best, median and worst episode."""
    episodes = ranked(result)
    return {"best": episodes[-1], "median": episodes[len(episodes) // 2], "worst": episodes[0]}


def add_episodes(page: Page, folder: Path, result: RolloutResult) -> None:
    """Add charts, the table of all episodes, and the videos that lie in `folder / media`."""
    episodes = ranked(result)
    rank = {episode.seed: i for i, episode in enumerate(episodes)}
    marks = {rank[episode.seed]: name for name, episode in extremes(result).items()}
    scores = np.array([episode.score for episode in episodes])
    names = [f"seed {episode.seed}" for episode in episodes]
    page.charts.append(Chart("Score of each episode", ranked_dots(scores, names, marks, "score")))
    steps = [e.steps_to_success for e in result.episodes if e.steps_to_success is not None]
    if steps:
        chart = histogram(np.array(steps, dtype=float), "steps to success")
        caption = f"{len(steps)} of {len(result.episodes)} episodes succeeded."
        page.charts.append(Chart("Steps to success", chart, caption))
    else:
        page.missing.append("No steps to success: no episode succeeded, or the environment does not say.")
    page.tables["Every episode, worst first"] = _table(result)
    _add_videos(page, folder, result)


def _table(result: RolloutResult) -> Grid:
    says = {None: "", True: "yes", False: "no"}
    rows = [
        (str(e.seed), f"{e.score:.3f}", says[e.success], str(e.steps_to_success or ""), str(e.n_steps))
        for e in ranked(result)
    ]
    return Grid(("seed", "score", "success", "steps to success", "steps"), rows)


def _add_videos(page: Page, folder: Path, result: RolloutResult) -> None:
    """Embed the videos of the extremes; where a recording went otherwise than the rollout, say so."""
    recorded = read_episodes(folder / RECORDED_AGAIN)
    scores = {episode.seed: episode.score for episode in recorded.episodes} if recorded else {}
    size = 0
    for name, episode in extremes(result).items():
        path = folder / MEDIA / f"{episode.seed}.mp4"
        if not path.is_file():
            page.missing.append(f"No video of the {name} episode (seed {episode.seed}): it was not recorded.")
            continue
        size += path.stat().st_size
        if size > MAX_VIDEO_BYTES:
            page.missing.append(f"The video of the {name} episode is too large to be embedded: see {path}.")
            continue
        caption = f"Seed {episode.seed}, score {episode.score:.3f}, {episode.n_steps} steps."
        shown = scores.get(episode.seed, episode.score)
        if abs(shown - episode.score) > SAME_SCORE:
            caption += (
                f" The video shows the same start and noise run again, which scored {shown:.3f}: the last bits of "
                "a prediction depend on the size of the batch, and contact magnifies them."
            )
        page.videos.append(Video(name, caption, embedded_video(path)))
