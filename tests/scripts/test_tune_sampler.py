"""Tests for scripts/tune_sampler/."""

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.common.statistics import Estimate
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.env_runner.env_runner import EnvRunner
from diffusion_policy.env_runner.report import EpisodeResult, RolloutResult
from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule, RectifiedFlow
from diffusion_policy.model.diffusion.samplers import sample_ddim, sample_ddpm
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.scripts.tune_sampler import chunk_time
from diffusion_policy.scripts.tune_sampler.action_distribution import Observations, sample_chunks
from diffusion_policy.scripts.tune_sampler.agreement import Agreement, rank_correlation
from diffusion_policy.scripts.tune_sampler.candidates import (
    SAMPLERS,
    Candidate,
    as_candidate,
    candidates,
    reference,
)
from diffusion_policy.scripts.tune_sampler.choice import Comparison, Margins, Measured
from diffusion_policy.scripts.tune_sampler.command import main
from diffusion_policy.scripts.tune_sampler.energy_distance import energy_terms, relative_energy_distance
from diffusion_policy.workspace.train_workspace import train
from tests.policy.tiny_policy import DA, tiny_policy
from tests.policy.tiny_policy import SAMPLERS as SAMPLER
from tests.tiny_run import tiny_config, write_episodes

# Energy distance


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_energy_distance_is_what_its_definition_says() -> None:
    x, y = normal(3, 4, 2, seed=0), 2 + normal(3, 5, 2, seed=1)
    distances, between = energy_terms(x, y)
    for n in range(3):
        across = np.mean([float((a - b).norm()) for a in x[n] for b in y[n]])
        within = [
            np.mean([float((s[i] - s[j]).norm()) for i in range(len(s)) for j in range(len(s)) if i != j])
            for s in (x[n], y[n])
        ]
        assert between[n] == pytest.approx(2 * across)
        assert distances[n] == pytest.approx(2 * across - sum(within))


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_energy_distance_of_normal_distributions(shift: float) -> None:
    """Of N(0, 1) and N(m, 1), E|X - Y| has a closed form; the mean over observations must meet it without bias."""
    distances, _ = energy_terms(normal(2000, 8, 1, seed=0), shift + normal(2000, 8, 1, seed=1))

    def mean_distance(m: float) -> float:  # E|Z| of Z ~ N(m, 2)
        return 2 / math.sqrt(math.pi) * math.exp(-(m**2) / 4) + m * math.erf(m / 2)

    expected = 2 * mean_distance(shift) - 2 * mean_distance(0)
    standard_error = distances.std() / math.sqrt(len(distances))
    assert distances.mean() == pytest.approx(expected, abs=4 * standard_error)
    assert standard_error < 0.03


def test_relative_energy_distance_knows_no_scale() -> None:
    x, y = normal(10, 6, 3, seed=0), 1 + normal(10, 6, 3, seed=1)
    small, large = relative_energy_distance(1e-3 * x, 1e-3 * y), relative_energy_distance(x, y)
    assert tuple(small) == pytest.approx(tuple(large), rel=1e-3)
    assert 0.1 < large.low < large.value < large.high < 0.5
    same, other = torch.zeros(5, 4, 2), torch.ones(5, 4, 2)
    assert relative_energy_distance(same, other).value == pytest.approx(1)
    assert relative_energy_distance(same, same).value == 0


# Candidates


def test_candidates_are_those_that_the_schedule_has() -> None:
    schedule = NoiseSchedule(10)
    assert reference(schedule) == Candidate("ddpm", 10)
    found = candidates(schedule, ["ddim", "ddpm"], [10, 2, 2, 16])
    assert found == [Candidate("ddim", 2), Candidate("ddim", 10), Candidate("ddpm", 2)]
    assert candidates(schedule, ["ddim_trailing"], [5, 10]) == [
        Candidate("ddim_trailing", 5)
    ]  # 10 is as leading
    with pytest.raises(ValueError, match="samplers must be some of ddpm,ddim,.*, got euler"):
        candidates(schedule, ["euler"])
    with pytest.raises(ValueError, match="must include one of at most 10"):
        candidates(schedule, ["ddpm"], [10, 16])
    for steps in ([], [0, 2]):
        with pytest.raises(ValueError, match="steps must be one or more positive numbers"):
            candidates(schedule, ["ddpm"], steps)


@pytest.mark.parametrize("schedule", [NoiseSchedule(10), RectifiedFlow(10)])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_denoiser_calls_are_counted(schedule: NoiseSchedule, sampler: str) -> None:
    for steps in (1, 4):
        expected = 2 * steps - 1 if sampler == "heun" else steps
        assert Candidate(sampler, steps).denoiser_calls(schedule) == expected


def test_configurations_are_those_of_the_files() -> None:
    trailing = Candidate("ddim_trailing", 4).config
    assert trailing == {**Candidate("ddim", 4).config, "spacing": "trailing"}
    assert (Candidate("ddim", 4).config["spacing"], trailing["steps"]) == ("leading", 4)
    assert Candidate("dpm_solver_sde", 2).config["stochastic"] is True


@pytest.mark.parametrize("candidate", [Candidate(name, 3) for name in SAMPLERS])
def test_a_policys_own_sampler_is_recognised(candidate: Candidate) -> None:
    assert as_candidate(candidate.build()) == candidate


def test_other_samplers_are_no_candidates() -> None:
    assert as_candidate(partial(sample_ddim, steps=3, eta=0.5)) is None
    assert as_candidate(partial(sample_ddim, steps=3)) == Candidate("ddim", 3)  # defaults count
    assert as_candidate(partial(sample_ddpm, steps=None)) is None  # the reference
    assert as_candidate(SAMPLER["consistency"]) is None


# Samples of actions


@pytest.mark.parametrize("pred_action_steps_only", [False, True])
def test_chunks_are_what_the_policy_would_execute(pred_action_steps_only: bool) -> None:
    n_steps = 4
    policy = tiny_policy(
        sampler="ddpm", n_action_steps=n_steps, pred_action_steps_only=pred_action_steps_only
    )
    obs = {"pose": 100 + 300 * torch.rand(3, 2, 3), "keypoints": 100 + 300 * torch.rand(3, 2, 2, 2)}
    observations = Observations(obs, held_out=True, n_episodes=3)
    chunks = sample_chunks(policy, observations.encoded(policy), 5, torch.Generator().manual_seed(3))
    repeated = {key: values.repeat_interleave(5, dim=0) for key, values in obs.items()}
    expected = policy.predict_action(repeated, generator=torch.Generator().manual_seed(3))["action"]
    assert chunks.shape == (3, 5, n_steps * DA)
    normalized = policy.normalizer["action"].normalize(expected).flatten(start_dim=1)
    assert torch.allclose(chunks.flatten(end_dim=1), normalized, atol=1e-5)


def test_a_chunk_takes_time() -> None:
    obs = {"pose": torch.full((1, 2, 3), 200.0), "keypoints": torch.full((1, 2, 2, 2), 200.0)}
    few, many = chunk_time.ms_per_chunk(tiny_policy(), obs, [SAMPLER["ddim"], SAMPLER["ddpm"]])
    assert 0 < few < many


# The choice

NEAR, FAR = Estimate(0.01, 0.0, 0.02, 64), Estimate(0.2, 0.1, 0.3, 64)
MARGINS = Margins(energy_distance=0.05, score=0.02)
N_SEEDS = 50


def rollout(mean: float, seed: int = 0) -> RolloutResult:
    scores = np.clip(np.random.default_rng(0).uniform(0.6, 1, N_SEEDS) + mean - 0.8, 0, 1)
    episodes = [EpisodeResult(i, float(score), n_steps=10) for i, score in enumerate(scores)]
    return RolloutResult(tuple(episodes), wall_time_s=1.0)


def measured(sampler: str, steps: int, ms: float, distance: Estimate) -> Measured:
    return Measured(Candidate(sampler, steps), steps, ms, distance)


@pytest.fixture
def comparison() -> Comparison:
    found = [
        measured("ddim", 8, 8.01, NEAR),
        measured("heun", 2, 3.0, NEAR),
        measured("ddim", 1, 1.0, FAR),
        measured("dpm_solver", 8, 8.04, NEAR._replace(value=0.005)),
        measured("ddpm", 2, 2.0, NEAR),
        measured("heun", 90, 200.0, NEAR),
    ]
    return Comparison.of(measured("ddpm", 100, 100.0, NEAR), found, MARGINS, has_simulator=True)


class Simulator:
    """Scores by candidate, and a record of who was rolled out."""

    def __init__(self, **means: float) -> None:
        self.means = means
        self.asked: list[str] = []

    def __call__(self, candidate: Candidate) -> RolloutResult:
        name = f"{candidate.sampler}_{candidate.steps}"
        self.asked.append(name)
        return rollout(self.means.get(name, 0.8))


def verdicts(comparison: Comparison) -> dict[str, str]:
    every = [comparison.reference, *comparison.candidates]
    return {f"{m.candidate.sampler}_{m.candidate.steps}": comparison.verdict(m) for m in every}


def test_cheapest_first_and_of_equally_cheap_ones_the_nearest(comparison: Comparison) -> None:
    assert list(verdicts(comparison)) == [
        "ddpm_100",
        *("ddim_1", "ddpm_2", "heun_2", "dpm_solver_8", "ddim_8", "heun_90"),
    ]


def test_rolls_out_until_one_holds(comparison: Comparison) -> None:
    simulator = Simulator(ddpm_2=0.7)
    comparison.roll_out(simulator)
    assert simulator.asked == ["ddpm_100", "ddpm_2", "heun_2"]
    assert verdicts(comparison) == {
        "ddpm_100": "reference",
        "ddim_1": "too far",
        "ddpm_2": "near, score may be lower",
        "heun_2": "chosen",
        "dpm_solver_8": "near, not rolled out",
        "ddim_8": "near, not rolled out",
        "heun_90": "no faster than the reference",
    }
    assert comparison.n_looks == 2
    assert str(comparison.chosen.candidate) == "heun with 2 steps"


def test_all_are_rolled_out_on_request_with_the_same_choice(comparison: Comparison) -> None:
    simulator = Simulator(ddpm_2=0.7, ddim_1=0.5)
    comparison.roll_out(simulator, every=True)
    assert len(simulator.asked) == 7
    assert comparison.chosen.candidate == Candidate("heun", 2)
    assert verdicts(comparison)["dpm_solver_8"] == "passes, not the cheapest"
    agreement = Agreement.of(comparison)
    assert agreement.n == 6
    assert agreement.counts == ((1, 0), (1, 4))
    assert agreement.rank_correlation is not None
    assert agreement.rank_correlation < 0
    assert "4 pass both, 1 neither, 1 only the first, 0 only the second" in str(agreement)


def test_the_reference_stays_when_nothing_passes(comparison: Comparison) -> None:
    simulator = Simulator(ddpm_2=0.7, heun_2=0.7, dpm_solver_8=0.7, ddim_8=0.77)
    comparison.roll_out(simulator)
    assert comparison.chosen is comparison.reference
    assert verdicts(comparison)["ddpm_100"] == "reference, chosen"
    assert comparison.n_looks == 4
    nothing_near = Comparison(comparison.reference, comparison.candidates[:1], MARGINS, has_simulator=True)
    unused = Simulator()
    nothing_near.roll_out(unused)
    assert unused.asked == []
    assert nothing_near.chosen is comparison.reference


def test_a_distance_across_the_margin_is_undecided(comparison: Comparison) -> None:
    wide = measured("ddim", 4, 4.0, Estimate(0.04, 0.01, 0.09, 64))
    undecided = Comparison.of(comparison.reference, [wide], MARGINS, has_simulator=False)
    assert undecided.chosen is undecided.reference
    assert undecided.verdict(wide) == "distance undecided"


def test_without_a_simulator_the_distance_decides(comparison: Comparison) -> None:
    alone = Comparison(comparison.reference, comparison.candidates, MARGINS, has_simulator=False)
    assert alone.chosen.candidate == Candidate("ddpm", 2)
    assert "too few for a rank correlation" in str(Agreement.of(alone))


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)
    assert rank_correlation([1, 2, 3], [9, 5, 0]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)  # ranks 1.5, 1.5, 3, 4
    assert rank_correlation([1, 2], [1, 2]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


# The command

SEEDS = "200000:200003"
QUICK = [
    *("--samplers", "ddim,heun", "--steps", "1,2", "--n_observations", "6", "--n_samples", "4"),
    *("--seeds", SEEDS, "-d", "cpu"),
]
LENIENT = ["--margin", "10", "--score_margin", "2"]


@pytest.fixture(autouse=True)
def quick_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_time, "BUDGET_S", 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    few = ["training.num_epochs=1", "policy.noise_schedule.num_train_timesteps=10"]
    config = tiny_config(write_episodes(folder / "episodes.zarr"), *few)
    train(config, folder / "run")
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, to write beside its weights."""
    return shutil.copytree(trained, tmp_path / "run")


def checkpoint_of(run: Path) -> Path:
    return run / "checkpoints" / (run / "checkpoints" / "latest").read_text()


def change_config(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = checkpoint_of(run) / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


@pytest.mark.sim
def test_a_sampler_is_tuned_and_used(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main([str(run), *QUICK, *LENIENT, "--all"])
    said = capsys.readouterr().out
    assert "At 6 observations of 1 episode held out of the training, 4 samples each; times on cpu." in said
    table = [line for line in said.splitlines() if line.startswith("|")]
    assert table[0].startswith(
        "| sampler | steps | denoiser calls | ms per chunk | energy distance | score |"
    )
    assert table[2].startswith("| ddpm | 10 | 10 |")
    assert sum("| chosen |" in line for line in table) == 1
    assert "over 4 candidates rolled out: 4 pass both" in said
    assert f'load_policy("{run}", sampler="tuned")' in said

    figures = json.loads((checkpoint_of(run) / "tune_sampler.json").read_text())
    assert figures["seeds"] == [200_000, 200_001, 200_002]
    assert figures["measured"][0]["steps"] == 10
    assert len(figures["measured"]) == 5
    assert all(m["difference"]["n"] == 3 for m in figures["measured"])
    assert figures["provenance"]["n_threads"] >= 1

    written = checkpoint_of(run) / "sampler.yaml"
    assert written.read_text().startswith("# By diffusion-policy tune-sampler")
    assert yaml.safe_load(written.read_text()) == figures["chosen"]
    policy = load_policy(run, "cpu", sampler="tuned")
    assert isinstance(policy, DiffusionPolicy)
    assert policy.sampler.keywords["steps"] == figures["chosen"]["steps"]
    assert policy.predict_action({"obs": torch.zeros(1, 2, 20)})["action"].isfinite().all()

    with pytest.raises(SystemExit, match="a sampler was chosen already; add --overwrite"):
        main([str(run), *QUICK])

    def no_rollout(*_: object, **__: object) -> RolloutResult:
        raise AssertionError("what was rolled out is kept")

    monkeypatch.setattr(EnvRunner, "run", no_rollout)
    main([str(run), *QUICK, *LENIENT, "--overwrite"])
    main([str(run), *QUICK, "--overwrite", "--margin", "-1"])
    assert "No candidate passes, so the reference stays: ddpm with 10 steps." in capsys.readouterr().out
    chosen = load_policy(run, "cpu", sampler="tuned").sampler
    assert (chosen.func, chosen.keywords["steps"]) == (sample_ddpm, 10)


@pytest.mark.sim
def test_rollouts_of_other_seeds_are_made_again(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "rollouts"
    for seeds in (SEEDS, "200000:200002"):
        main([str(run), *QUICK, *LENIENT, "--overwrite", "-o", str(out), "--seeds", seeds])
    result = RolloutResult.read(out / "ddpm_10" / "episodes.json")
    assert [episode.seed for episode in result.episodes] == [200_000, 200_001]
    assert not (checkpoint_of(run) / "tune_sampler").exists()


def test_without_a_simulator(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_config(run, lambda config: config["task"].update(env_runner=None))
    main([str(run), *QUICK, "--margin", "10"])
    said = capsys.readouterr().out
    assert "Scores were not compared: the energy distance alone decides." in said
    assert "rank correlation" not in said
    assert load_policy(run, "cpu", sampler="tuned").sampler.keywords["steps"] in (1, 2)


def test_what_to_do_when_nothing_passes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = [*QUICK, "--no-rollouts", "--overwrite", "--samplers", "heun", "--steps", "1"]
    main([str(run), *quick, "--margin", "-1"])
    said = capsys.readouterr().out
    assert "The checkpoint's own, ddim with 2 steps, is" in said
    assert "undecided" not in said
    figures = json.loads((checkpoint_of(run) / "tune_sampler.json").read_text())
    assert [m["sampler"] for m in figures["measured"]].count("ddim") == 1
    distance = next(m["energy_distance"] for m in figures["measured"] if m["sampler"] == "heun")
    main([str(run), *quick, "--margin", str((distance["low"] + distance["high"]) / 2)])
    assert "| distance undecided |" in capsys.readouterr().out


def test_training_episodes_stand_in_for_held_out_ones(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(run), *QUICK, "--no-rollouts", "task.dataset.val_ratio=0"])
    assert "6 observations of 5 training episodes, as none are held out" in capsys.readouterr().out


def test_held_out_observations_are_of_held_out_episodes(trained: Path) -> None:
    config = yaml.safe_load((checkpoint_of(trained) / "config.yaml").read_text())["task"]["dataset"]
    dataset: SequenceDataset = instantiate(config)
    observations = Observations.of(dataset, 5, 2)
    (held_out,) = np.flatnonzero(dataset.val_mask)
    recorded = dataset.episode(int(held_out))["obs"]["obs"]
    assert len(observations) == 5
    for row in observations.obs["obs"].numpy():
        assert any(np.array_equal(row[-1], step) for step in recorded)


def sample_at_once(config: dict[str, Any]) -> None:
    regression = "diffusion_policy.model.diffusion.regression."
    config["policy"]["noise_schedule"] = {"_target_": regression + "Regression"}
    config["policy"]["sampler"] = {"_target_": regression + "sample_regression", "_partial_": True}


def consistency(config: dict[str, Any]) -> None:
    target = "diffusion_policy.model.diffusion.samplers.sample_consistency"
    config["policy"]["sampler"] = {"_target_": target, "_partial_": True}


def nowhere(config: dict[str, Any]) -> None:
    config["task"]["dataset"]["path"] = "/nowhere/episodes.zarr"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (sample_at_once, "trained with Regression: .* nothing to tune"),
        (consistency, "was distilled to be sampled with sample_consistency"),
        (nowhere, r"/nowhere/episodes\.zarr.*add task\.dataset\.path=PATH"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    run: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    change_config(run, change)
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main([str(run), *QUICK])
    assert not (checkpoint_of(run) / "sampler.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "1,two"], "--steps must be numbers such as 1,2,4, got '1,two'"),
        (["--samplers", "euler"], "samplers must be some of"),
        (["--n_samples", "3"], "n_samples must be at least 4, got 3"),
        (["--n_observations", "1"], "n_observations must be at least 2, got 1"),
        (["--seeds", "7"], "seeds must be START:STOP"),
        (["policy.clip_sample=false"], "would have no effect"),
    ],
)
def test_bad_arguments_are_refused(trained: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        main([str(trained), *QUICK, *arguments])
    assert not (checkpoint_of(trained) / "sampler.yaml").exists()
