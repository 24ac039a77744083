"""Every planted fault is found, and nothing is said of data without one."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.checks.finding import Finding, ranges
from diffusion_policy.dataset.checks.rotations import guessed_kind
from diffusion_policy.dataset.data_check import check_episodes, check_file
from diffusion_policy.dataset.episode_files import load_episodes
from tests.dataset.example_episodes import buffer_of, reaching_episodes

N_STEPS = 8 * 60


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, "\n".join(map(str, findings))
    return findings[0]


def found(buffer: ReplayBuffer) -> Finding:
    return only(check_episodes(buffer))


def smooth(n_dims: int) -> np.ndarray:
    """Slow random curves within each of 8 episodes, (480, n_dims)."""
    walk = np.random.default_rng(1).normal(size=(8, 60, n_dims)).cumsum(1)
    return walk.reshape(N_STEPS, n_dims)


def test_silent_on_data_without_a_fault() -> None:
    assert check_episodes(reaching_episodes()) == []


class TestValues:
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite(self, bad: float) -> None:
        buffer = reaching_episodes()
        buffer["state"][[70, 71, 300], 1] = bad
        finding = found(buffer)
        assert (finding.severity, finding.check, finding.key) == ("error", "not finite", "state")
        assert finding.episodes == (1, 5)
        assert "3 steps in 2 episodes (1, 5), first at row 70" in finding.message

    def test_constant(self) -> None:
        values = smooth(4)
        values[:, [1, 3]] = 7
        finding = found(reaching_episodes(sensor=values))
        assert (finding.severity, finding.check, finding.key) == ("warning", "constant", "sensor")
        assert "2 of 4 dimensions never change: 1, 3 (first value 7)" in finding.message

    @pytest.mark.parametrize(("factor", "shift"), [(1.0, 0.0), (-3.0, 100.0)])
    def test_duplicated_within_a_key(self, factor: float, shift: float) -> None:
        values = smooth(3).astype(np.float32)
        values[:, 2] = factor * values[:, 0] + shift
        finding = found(reaching_episodes(sensor=values))
        assert (finding.severity, finding.check, finding.key) == ("warning", "duplicated", "sensor")
        assert "dimension 2 repeats sensor[0]" in finding.message

    def test_duplicated_between_keys(self) -> None:
        buffer = reaching_episodes()
        copy = np.concatenate([smooth(1), 2 * buffer["state"][:, 1:] + 5], axis=1)
        finding = found(reaching_episodes(copy_of=copy))
        assert (finding.severity, finding.key) == ("warning", "copy_of")
        assert "dimension 1 repeats state[1] in every step" in finding.message
        assert "and 1 more pairs" in finding.message

    def test_an_observation_that_holds_the_action(self) -> None:
        finding = found(reaching_episodes(command=reaching_episodes()["action"][:, :1] / 2))
        assert (finding.severity, finding.check) == ("error", "duplicated")
        assert "command holds the action of the same step" in finding.message

    def test_nearly_equal_is_no_copy(self) -> None:
        values = smooth(1)
        noisy = values + 1e-3 * np.ptp(values) * np.random.default_rng(0).normal(size=values.shape)
        assert check_episodes(reaching_episodes(sensor=np.concatenate([values, noisy], axis=1))) == []


class TestMotion:
    def test_idle(self) -> None:
        buffer = reaching_episodes()
        for key in ("state", "action", "camera"):
            buffer[key][70:95] = buffer[key][70]
        finding = found(buffer)
        assert (finding.severity, finding.check, finding.episodes) == ("warning", "idle", (1,))
        assert (
            "in 5.0% of all steps: 1 pauses of at least 10 steps in 1 episode (1), the longest 24"
            in finding.message
        )

    def test_a_missing_end(self) -> None:
        buffer = reaching_episodes()
        lengths = [60, 60, 120, *[60] * 4]
        finding = found(buffer_of({key: np.asarray(a) for key, a in buffer.items()}, lengths))
        assert (finding.severity, finding.check, finding.episodes) == ("error", "episode ends", (2,))
        assert "first from row 179 to 180" in finding.message

    def test_a_start_from_rest_is_no_reset(self) -> None:
        """A velocity that is zero at first jumps to what it is then, in every episode."""
        buffer = ReplayBuffer.create_empty_numpy()
        random = np.random.default_rng(0)
        for _ in range(6):
            velocity = np.cumsum(random.normal(0, 0.02, (80, 3)), axis=0) + random.choice([-1, 1], 3)
            velocity[0] = 0
            position = np.cumsum(0.1 * velocity, axis=0) + random.uniform(-1, 1, 3)
            state = np.concatenate([position, velocity], axis=1)
            buffer.add_episode({"state": state, "action": velocity + random.normal(0, 0.5, (80, 3))})
        assert not [finding for finding in check_episodes(buffer) if finding.severity == "error"]

    def test_a_needless_end(self) -> None:
        buffer = reaching_episodes()
        lengths = [60, 60, 25, 35, *[60] * 5]
        finding = found(buffer_of({key: np.asarray(a) for key, a in buffer.items()}, lengths))
        assert (finding.severity, finding.check, finding.episodes) == ("warning", "episode ends", (2,))


class TestTimestamps:
    def stamps(self) -> np.ndarray:
        return np.tile(np.arange(60) / 10, 8) + 1.6e9

    def test_jump(self) -> None:
        stamps = self.stamps()
        stamps[100:120] += 0.4
        finding = found(reaching_episodes(timestamp=stamps))
        assert (finding.severity, finding.check, finding.episodes) == ("warning", "time stamps", (1,))
        assert "gaps of up to 0.5 where steps are usually 0.1 apart, at 1 steps" in finding.message

    def test_backwards(self) -> None:
        stamps = self.stamps()
        stamps[200] -= 0.2
        findings = check_episodes(reaching_episodes(timestamp=stamps))
        assert findings[0].severity == "error"
        assert (
            "time does not increase at 1 steps in 1 episode (3), first after row 199" in findings[0].message
        )

    def test_another_rate_than_stated(self) -> None:
        finding = found(reaching_episodes(timestamp=self.stamps() * 2))
        assert "steps are 0.2 apart, but the data set says 10 frames per second" in finding.message

    def test_silent(self) -> None:
        assert check_episodes(reaching_episodes(timestamp=self.stamps())) == []


def shifted(buffer: ReplayBuffer, steps: int) -> ReplayBuffer:
    """The action of step t - `steps` at step t, within each episode."""
    arrays = {key: np.array(array) for key, array in buffer.items()}
    for index in range(buffer.n_episodes):
        rows = buffer.get_episode_slice(index)
        at = np.clip(np.arange(rows.start, rows.stop) - steps, rows.start, rows.stop - 1)
        arrays["action"][rows] = np.asarray(buffer["action"])[at]
    return buffer_of(arrays, buffer.episode_lengths.tolist())


class TestAlignment:
    @pytest.mark.parametrize("steps", [-3, -1, 1, 2, 4])
    def test_shifted_targets(self, steps: int) -> None:
        finding = found(shifted(reaching_episodes(), steps))
        assert finding.check == "out of step"
        assert (
            f"{abs(steps)} step{'s' if abs(steps) > 1 else ''} {'late' if steps > 0 else 'early'}"
            in finding.message
        )

    @pytest.mark.parametrize("steps", [-2, 0, 1])
    def test_shifted_displacements(self, steps: int) -> None:
        random = np.random.default_rng(0)
        displacement = random.normal(size=(8, 60, 2))
        position = np.cumsum(displacement, axis=1) - displacement + 0.02 * random.normal(size=(8, 60, 2))
        position += random.uniform(-300, 300, (8, 1, 2))
        arrays = {"position": position.reshape(N_STEPS, 2), "action": displacement.reshape(N_STEPS, 2)}
        findings = check_episodes(shifted(buffer_of(arrays, [60] * 8), steps))
        assert [finding.check for finding in findings] == (["out of step"] if steps else [])

    @pytest.mark.parametrize("steps", [-2, -1, 1, 2])
    def test_shifted_human_demonstrations(self, pusht_zarr: Path, steps: int) -> None:
        finding = found(shifted(load_episodes(pusht_zarr, ["state", "action"]), steps))
        assert f"{abs(steps)} step" in finding.message
        assert ("late" if steps > 0 else "early") in finding.message

    def test_silent_where_nothing_is_clear(self) -> None:
        assert check_episodes(buffer_of({"state": smooth(3), "action": smooth(6)[:, 3:]}, [60] * 8)) == []


def unit_quaternions() -> np.ndarray:
    """Turning slowly about x, from the identity to a third of a turn."""
    angle = np.tile(np.linspace(0.1, 2.2, 60), 8) / 2
    angle += 1e-3 * np.random.default_rng(0).normal(size=N_STEPS)
    other = 0.1 + 0.05 * np.sin(smooth(2) / 10)
    quaternions = np.stack([np.sin(angle), other[:, 0], other[:, 1], np.cos(angle)], axis=1)
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def rotation_matrices() -> np.ndarray:
    return np.linalg.qr(unit_quaternions()[:, :3, None] + np.eye(3))[0]


class TestRotations:
    def test_silent_on_rotations(self) -> None:
        matrices = rotation_matrices()
        matrices *= np.linalg.det(matrices)[:, None, None]
        extra = {"eef_quat": unit_quaternions(), "rot_mat": matrices}
        found_checks = {finding.check for finding in check_episodes(reaching_episodes(**extra))}
        assert "rotations" not in found_checks

    @pytest.mark.parametrize(
        ("key", "spoil", "message"),
        [
            ("eef_quat", lambda q: q * 1.1, "taken for quaternions .* have length 1; off by up to 0.1"),
            (
                "eef_quat",
                lambda q: q * np.where(np.arange(len(q)) % 60 < 30, 1, -1)[:, None],
                "change sign .* 8 steps",
            ),
            ("rot6d", lambda q: np.concatenate([q, q[:, :2]], 1), "two perpendicular unit vectors"),
            ("rot_mat", lambda q: rotation_matrices() * 2, "orthonormal and right-handed"),
            ("eef_axis_angle", lambda q: turning(np.pi), "taken for rotation vectors .* wrap around"),
            (
                "eef_pose",
                lambda q: np.concatenate([smooth(3), turning(np.pi)], 1),
                "rotation vectors .* wrap",
            ),
            ("base_euler", lambda q: turning(np.pi), "taken for Euler angles .* wrap around"),
            ("yaw", lambda q: np.rad2deg(turning(np.pi)[:, :1]), "taken for Euler angles .* wrap around"),
        ],
    )
    def test_broken(self, key: str, spoil: Callable[[np.ndarray], np.ndarray], message: str) -> None:
        findings = check_episodes(reaching_episodes(**{key: spoil(unit_quaternions())}))
        finding = only([finding for finding in findings if finding.check == "rotations"])
        assert finding.key == key
        assert re.search(message, finding.message), finding.message

    def test_guesses(self) -> None:
        assert guessed_kind("robot0_eef_quat", (4,)) == "quaternions"
        assert guessed_kind("robot_eef_pose", (6,)) == "rotation vectors"
        for key, shape in (("state", (4,)), ("robot_eef_pose_vel", (6,)), ("pose", (3,)), ("pose", (7,))):
            assert guessed_kind(key, shape) is None


def turning(half_range: float) -> np.ndarray:
    """Angles (480, 3) of which the first runs on past +-half_range in every episode."""
    angles = 0.1 * np.sin(smooth(3))
    angles[:, 0] = np.tile(np.linspace(2, 4.5, 60), 8) + 1e-3 * smooth(1)[:, 0]
    return (angles + half_range) % (2 * half_range) - half_range


class TestImages:
    def test_black(self) -> None:
        buffer = reaching_episodes()
        buffer["camera"][[5, 130]] = 3
        finding = found(buffer)
        assert (finding.severity, finding.check, finding.key) == ("error", "black frames", "camera")
        assert finding.episodes == (0, 2)

    def test_one_colour(self) -> None:
        buffer = reaching_episodes()
        buffer["camera"][7] = 200
        assert found(buffer).check == "blank frames"

    def test_frozen(self) -> None:
        buffer = reaching_episodes()
        buffer["camera"][190:215] = buffer["camera"][190]
        finding = found(buffer)
        assert (finding.severity, finding.check, finding.episodes) == ("error", "frozen frames", (3,))
        assert "the longest for 25 steps, first at row 190" in finding.message


class TestWhole:
    def test_empty(self) -> None:
        assert found(ReplayBuffer.create_empty_numpy()).check == "empty"

    def test_a_single_step(self) -> None:
        check_episodes(buffer_of({"action": np.zeros((1, 2)), "state": np.zeros((1, 3))}, [1]))

    def test_what_cannot_be_read_is_a_finding(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", action=np.zeros((5, 2)), episode_ends=[3, 2])
        buffer, findings = check_file(tmp_path / "a.npz")
        assert buffer is None
        assert (only(findings).severity, only(findings).check) == ("error", "unreadable")
        assert "episode_ends must increase" in only(findings).message

    def test_a_torn_tail_is_a_finding(self, tmp_path: Path) -> None:
        recorded = ReplayBuffer.create_empty_zarr(tmp_path / "a.zarr")
        for index in range(8):
            recorded.add_episode(reaching_episodes().get_episode(index))
        recorded["state"].array.resize((500, 3))  # type: ignore[union-attr]
        buffer, findings = check_file(tmp_path / "a.zarr")
        assert buffer is not None
        assert (only(findings).check, "20 steps" in only(findings).message) == ("incomplete", True)

    def test_ranges(self) -> None:
        assert ranges([0, 1, 2, 5]) == "0-2, 5"
        assert ranges(range(0, 40, 2)).endswith("14, ...")


# Data recorded by others: what is said of them is true


def test_human_pusht(pusht_zarr: Path) -> None:
    assert check_episodes(load_episodes(pusht_zarr, ["state", "action", "keypoint"])) == []


@pytest.mark.slow
def test_human_pusht_with_images(pusht_zarr: Path) -> None:
    assert check_episodes(load_episodes(pusht_zarr)) == []


def test_kitchen(shared_data: Path) -> None:
    assert check_file(shared_data / "kitchen/kitchen_complete.zarr")[1] == []


def test_lift(shared_data: Path) -> None:
    """Its people paused: in episode 35, say, nothing moves for 44 seconds."""
    finding = only(check_file(shared_data / "robomimic/lift_human_low_dim/low_dim.hdf5")[1])
    assert finding.check == "idle"
    assert "21.1% of all steps" in finding.message


def test_real_robot(shared_data: Path) -> None:
    findings = check_file(shared_data / "real/replay_buffer.zarr")[1]
    assert [(finding.check, finding.key) for finding in findings] == [
        ("constant", "action"),
        ("constant", "stage"),
    ]


def test_episodes_without_observations(shared_data: Path) -> None:
    findings = check_file(shared_data / "blockpush/multimodal_push_seed_abs.zarr")[1]
    assert only(findings).check == "unreadable"
