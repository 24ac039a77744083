"""Tests for diagnose.py: planted faults are named, healthy demonstrations are left in peace."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.dataset.pusht_dataset import PushTLowdimDataset
from diffusion_policy.model.common.normalizer import LinearNormalizer
from diffusion_policy.policy.action_parts import Vector
from diffusion_policy.policy.action_representation import ActionRepresentation
from diffusion_policy.policy.control_policies import ZeroPolicy
from diffusion_policy.scripts.diagnosis.check import Check, Diagnosis, Table, graded, worst
from diffusion_policy.scripts.diagnosis.chunks import Chunks
from diffusion_policy.scripts.diagnosis.data_checks import check_idle, check_normalizer
from diffusion_policy.scripts.diagnosis.diagnose import diagnose
from diffusion_policy.scripts.diagnosis.order_checks import check_alignment, check_continuity
from diffusion_policy.scripts.diagnosis.policy_checks import (
    action_scale,
    check_copying,
    check_motion,
    check_open_loop,
    check_seams,
    check_timing,
)
from diffusion_policy.scripts.diagnosis.recordings import Recordings
from tests.policy.tiny_policy import tiny_policy
from tests.scripts import circling

SHAPE_META = {"obs": {"obs": {"shape": [20]}}, "action": {"shape": [2]}}


@pytest.fixture(scope="module")
def healthy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circling.train_on(tmp_path_factory.mktemp("healthy"))


@pytest.fixture(scope="module")
def healthy(healthy_run: Path) -> Diagnosis:
    return diagnose(healthy_run)


# End to end: train on the data for seconds, then diagnose


def test_nothing_is_bad_about_healthy_data(healthy: Diagnosis) -> None:
    assert healthy.with_verdict("bad", "not measured") == ()
    fine = {check.name for check in healthy.with_verdict("ok")}
    assert fine >= {
        "continuity",
        "alignment",
        "idle",
        "padding",
        "normalizer",
        "timing",
        "sensitivity",
        "seams",
    }
    assert healthy.measured_on == "4 episodes, 240 steps, held out of the training"


def test_a_diagnosis_can_be_repeated_and_stored(healthy: Diagnosis, healthy_run: Path) -> None:
    again = diagnose(healthy_run)
    assert again == healthy
    assert Diagnosis.from_json(healthy.to_json()) == healthy


def test_training_on_shuffled_observations_is_named(tmp_path: Path, healthy_run: Path) -> None:
    run = circling.train_on(tmp_path, circling.observations_shuffled, "training.num_epochs=1")
    diagnosis = diagnose(run)
    assert diagnosis.of("continuity").verdict == "bad"
    assert "the steps of obs were shuffled" in diagnosis.of("continuity").advice
    assert diagnosis.of("open_loop").verdict == "bad"

    mended = diagnose(run, [f"task.dataset.path={healthy_run.parent / 'data.zarr'}"])
    assert mended.of("continuity").verdict == "ok", "the data are good now"
    assert mended.of("open_loop").verdict == "bad", "but the policy learned from bad ones"


def test_training_on_actions_one_step_late_is_named(tmp_path: Path) -> None:
    run = circling.train_on(tmp_path, circling.action_one_step_late, "training.num_epochs=1")
    check = diagnose(run).of("alignment")
    assert check.verdict == "bad"
    assert "stored one step late" in check.advice
    assert "action[t] = action[t+1]" in check.advice


def test_without_held_out_episodes_it_says_so(healthy_run: Path) -> None:
    diagnosis = diagnose(healthy_run, ["task.dataset.val_ratio=0.0"])
    assert diagnosis.measured_on.startswith("20 episodes, 1200 steps of the training, as none are held out")


def test_a_control_is_not_diagnosed(tmp_path: Path) -> None:
    run = circling.train_on(tmp_path, None, "policy=zero", "training.num_epochs=0")
    with pytest.raises(ValueError, match="holds the control ZeroPolicy"):
        diagnose(run)


def test_missing_demonstrations_are_an_error(healthy_run: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no Push-T demonstrations"):
        diagnose(healthy_run, ["task.dataset.path=/nowhere"])


# Checks of the data


def recordings(content: list[circling.Episode]) -> Recordings:
    episodes = [
        {
            "obs": {
                "obs": np.concatenate([e["keypoint"].reshape(len(e["state"]), -1), e["state"][:, :2]], 1)
            },
            "action": e["action"],
        }
        for e in content
    ]
    return Recordings(episodes, episodes[:4], True, ["obs"])


@pytest.mark.parametrize("n_episodes", [1, 3, 30])
def test_order_is_judged_alike_on_few_and_many_episodes(n_episodes: int) -> None:
    data = circling.episodes(n_episodes, length=400)
    assert check_continuity(recordings(data)).verdict == "ok"
    assert check_alignment(recordings(data)).verdict == "ok"
    shuffled = recordings(circling.observations_shuffled(data))
    assert check_continuity(shuffled).verdict == "bad"
    late = check_alignment(recordings(circling.action_one_step_late(data)))
    assert (late.verdict, "lag +1" in late.figure) == ("bad", True)


def test_observations_of_other_episodes_are_noticed() -> None:
    data = circling.episodes(20)
    order = np.random.default_rng(0).permutation(20 * 60)
    state = np.concatenate([e["state"] for e in data])[order].reshape(20, 60, -1)
    keypoint = np.concatenate([e["keypoint"] for e in data])[order].reshape(20, 60, 9, 2)
    mixed = [{**e, "state": s, "keypoint": k} for e, s, k in zip(data, state, keypoint, strict=True)]
    assert check_continuity(recordings(mixed)).verdict == "bad"


def test_actions_that_act_late_ask_for_a_look() -> None:
    early = [
        {**e, "action": np.concatenate([e["action"][2:], e["action"][-2:]])} for e in circling.episodes()
    ]
    check = check_alignment(recordings(early))
    assert check.verdict == "look"
    assert "act 2 steps after they are stored" in check.advice


def test_where_no_lag_explains_the_motion_nothing_is_said() -> None:
    """One number changes two steps after the action, another three steps before it."""
    random, episodes = np.random.default_rng(0), []
    for _ in range(10):
        action = random.normal(size=(200, 1)).astype(np.float32)
        late, early = np.roll(action, 3, axis=0).cumsum(0), np.roll(action, -2, axis=0).cumsum(0)
        episodes.append({"obs": {"obs": np.concatenate([late, early], axis=1)}, "action": action})
    check = check_alignment(Recordings(episodes, episodes[:2], True, ["obs"]))
    assert check.verdict == "not measured"
    assert "At no lag does the action explain" in check.figure


def test_a_copy_of_the_state_as_action_is_late() -> None:
    copied = [{**e, "action": e["state"][:, :2]} for e in circling.episodes()]
    assert check_alignment(recordings(copied)).verdict == "bad"


def test_one_noisy_sensor_is_no_shuffling() -> None:
    data = recordings(circling.episodes())
    random = np.random.default_rng(0)
    for episode in data.all:
        episode["obs"]["force"] = random.normal(size=(60, 3))
    data = Recordings(data.training, data.held_out, True, ["obs", "force"])
    check = check_continuity(data)
    assert (check.verdict, "the steps of force" in check.advice) == ("look", True)
    assert check_alignment(data).verdict == "ok"


def test_pauses() -> None:
    assert check_idle(recordings(circling.episodes())).verdict == "ok"
    paused = check_idle(recordings(circling.with_pauses(circling.episodes())))
    assert paused.verdict == "bad"
    assert "longest pause 59 steps" in paused.figure
    assert check_alignment(recordings(circling.with_pauses(circling.episodes()))).verdict == "ok"


def fitted(data: Recordings) -> ZeroPolicy:
    policy = ZeroPolicy(SHAPE_META, horizon=8, n_obs_steps=2, n_action_steps=4)
    columns = {"obs": np.concatenate([e["obs"]["obs"] for e in data.all])}
    columns["action"] = np.concatenate([e["action"] for e in data.all])
    policy.set_normalizer(LinearNormalizer().fit(columns))
    return policy


@pytest.mark.parametrize(
    ("factor", "offset", "verdict", "words"),
    [
        (1.0, 0.0, "ok", ""),
        (0.0, 7.0, "look", "constant at 7"),
        (1e-6, 0.0, "look", "scaled by"),
    ],
)
def test_odd_dimensions(factor: float, offset: float, verdict: str, words: str) -> None:
    data = recordings(circling.episodes())
    for episode in data.training:  # the held-out ones are among them
        episode["obs"]["obs"][:, 3] = episode["obs"]["obs"][:, 3] * factor + offset
    check = check_normalizer(data, fitted(data))
    assert check.verdict == verdict
    assert [row[0] for table in check.tables for row in table.rows] == (["obs[3]"] if words else [])
    assert words in "".join(str(row[2]) for table in check.tables for row in table.rows)


def test_an_outlier_squeezes_the_rest() -> None:
    data = recordings(circling.episodes())
    data.training[0]["action"][5, 1] = 1e5
    check = check_normalizer(data, fitted(data))
    assert check.verdict == "bad"
    assert "rare outliers" in str(check.tables[0].rows)


def test_relative_actions_are_checked_as_they_are_learned(tmp_path: Path) -> None:
    """Absolute ones, of hundreds, would look like those of other data."""
    circling.write(tmp_path / "data.zarr", circling.episodes())
    dataset = PushTLowdimDataset(tmp_path / "data.zarr", SHAPE_META, 8, 2, 4)
    relative = ActionRepresentation("relative", [Vector("obs", size=2, start=18)])
    policy = tiny_policy(shape_meta=SHAPE_META, n_action_steps=4, action_repr=relative)
    policy.normalizer = LinearNormalizer()
    policy.fit(dataset)
    data = Recordings.of(dataset, SHAPE_META)
    assert check_normalizer(data, policy).verdict == "ok"
    policy.set_normalizer(dataset.get_normalizer())  # of absolute actions
    assert check_normalizer(data, policy).verdict != "ok"


def test_a_normaliser_of_other_data() -> None:
    policy = fitted(recordings(circling.episodes()))
    elsewhere = [{key: 10 * values for key, values in e.items()} for e in circling.episodes()]
    check = check_normalizer(recordings(elsewhere), policy)
    assert check.verdict == "bad"
    assert "fitted to other data" in str(check.tables[0].rows)
    policy.clip_sample = True
    assert "clip_sample cuts" in str(check_normalizer(recordings(elsewhere), policy).tables[0].rows)


def test_held_out_actions_beyond_those_of_training_are_no_fault_of_the_normaliser() -> None:
    content = circling.episodes(4)
    data = recordings(content)
    data = Recordings(data.training[:3], data.training[3:], True, ["obs"])
    data.held_out[0]["action"][:3] += 200
    policy = ZeroPolicy(SHAPE_META, horizon=8, n_obs_steps=2, n_action_steps=4)
    policy.set_normalizer(fitted(Recordings(data.training, data.training, False, ["obs"])).normalizer)
    policy.clip_sample = True
    check = check_normalizer(data, policy)
    assert check.verdict == "look"
    assert "of the held-out values lie beyond those of the training episodes" in str(check.tables[0].rows)


# Checks of predictions


@pytest.fixture(scope="module")
def chunks() -> Chunks:
    data = recordings(circling.episodes())
    return Chunks.of(data, fitted(data))


def test_chunks_follow_each_other(chunks: Chunks) -> None:
    episode = recordings(circling.episodes()).held_out[0]
    assert len(chunks) == 4 * (15 + 14), "of 60 steps: from step 0 and from step 2"
    np.testing.assert_array_equal(chunks.executed[1], episode["action"][4:8])
    np.testing.assert_array_equal(chunks.previous[1], episode["action"][3])
    np.testing.assert_array_equal(chunks.obs["obs"][1], episode["obs"]["obs"][3:5])
    np.testing.assert_array_equal(chunks.recorded_at(2)[1], episode["action"][6:10])
    assert chunks.next_row[:2].tolist() == [1, 2]
    assert chunks.next_row[14] == -1, "the last chunk of an episode"


def test_predictions_as_recorded_are_fine(chunks: Chunks) -> None:
    assert set(verdicts(chunks.executed, chunks).values()) == {"ok"}


def verdicts(predicted: np.ndarray, chunks: Chunks) -> dict[str, str]:
    data = recordings(circling.episodes())
    scale = action_scale(data)
    checks: list[Check] = [
        check_open_loop(predicted, chunks, data, scale),
        check_copying(predicted, chunks, data, scale),
        check_motion(predicted, chunks, scale),
        check_seams(predicted, chunks, scale),
        check_timing(predicted, chunks, scale),
    ]
    return {check.name: check.verdict for check in checks}


@pytest.mark.parametrize("fault", ["mean", "copy", "earlier", "seams", "trembling"])
def test_faulty_predictions_are_named(chunks: Chunks, fault: str) -> None:
    mean_action = np.concatenate([e["action"] for e in circling.episodes()]).astype(float).mean(0)
    random = np.random.default_rng(0)
    faulty = {
        "mean": np.broadcast_to(mean_action, chunks.executed.shape),
        "copy": np.repeat(chunks.obs["obs"][:, -1:, 18:], 4, axis=1),
        "earlier": chunks.recorded_at(-2),
        "seams": chunks.executed + random.normal(0, 500, (len(chunks), 1, 2)),
        "trembling": chunks.executed + random.normal(0, 150, chunks.executed.shape),
    }[fault]
    bad = {name for name, verdict in verdicts(faulty, chunks).items() if verdict == "bad"}
    expected = {
        "mean": {"open_loop", "motion"},
        "copy": {"copying", "motion"},
        "earlier": {"timing"},
        "seams": {"seams"},
        "trembling": {"motion"},
    }[fault]
    assert bad >= expected


# Parts


def test_verdicts() -> None:
    assert [graded(x, look=1, bad=2) for x in (0.9, 1, 2, np.nan)] == ["ok", "look", "bad", "bad"]
    assert [graded(x, look=2, bad=1) for x in (2.1, 2, 1, np.nan)] == ["ok", "look", "bad", "bad"]
    assert worst("ok", "look", "not measured") == "look"
    assert worst("ok", "bad") == "bad"


def test_an_unknown_check_is_named() -> None:
    table = Table("t", ("a",), ((1.0,),))
    diagnosis = Diagnosis("c", "m", (Check("idle", "Idle", "ok", "", "", (table,)),))
    with pytest.raises(KeyError, match=r"no check 'sleep'; there are \['idle'\]"):
        diagnosis.of("sleep")


def test_human_demonstrations_are_healthy(
    pusht_zarr: Path, healthy_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The data checks alone: the policy has not learned them."""
    caplog.set_level(logging.ERROR)
    torch.set_num_threads(1)
    diagnosis = diagnose(find_checkpoint(healthy_run).path, [f"task.dataset.path={pusht_zarr}"])
    for name in ("continuity", "alignment", "idle", "padding"):
        assert diagnosis.of(name).verdict == "ok", diagnosis.of(name)
