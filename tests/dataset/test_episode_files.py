"""Every data format: what is written is read again, and damage is explained."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffusion_policy.common import optional_package
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.zarr_storage import TornTailWarning
from diffusion_policy.dataset.episode_files import FORMATS, detect_format, load_episodes, save_episodes
from tests.dataset.example_episodes import hash_of, reaching_episodes

PLACES = [
    ("episodes.zarr", None),
    ("episodes.zarr.zip", None),
    ("episodes.npz", None),
    ("episodes", "npz"),
    ("episodes.hdf5", None),
    ("episodes", "lerobot"),
    ("episodes", "lerobot-v2.1"),
]
DTYPES = [np.float16, np.float32, np.float64, np.int64, np.uint8, np.int16, np.bool_]


def varied_episodes() -> ReplayBuffer:
    """Every kind of array that a data set may hold."""
    random = np.random.default_rng(0)
    buffer = ReplayBuffer.create_empty_numpy()
    for n in (5, 1, 12):
        buffer.add_episode(
            {
                "action": random.normal(size=(n, 1)).astype(np.float32),
                "state": random.normal(size=(n, 4)),
                "front": random.integers(0, 256, (n, 16, 12, 3), dtype=np.uint8),
                "depth": random.integers(0, 256, (n, 5, 4, 1), dtype=np.uint8),
                "keypoint": random.normal(size=(n, 3, 2)).astype(np.float16),
                "map": random.normal(size=(n, 2, 3, 4)),
                "rewards": random.normal(size=n),
                "next_done": random.random(n) > 0.5,
                "timestamp": np.arange(n) + 1.6e9,
                "task_index": np.zeros(n, np.int64),
                "file": random.integers(0, 9, (n, 1)),
            }
        )
    buffer.update_meta({"fps": 10.0, "env_args": '{"env_name": "Lift"}', "tasks": np.array(["push", "pull"])})
    return buffer


@pytest.mark.parametrize(("name", "format"), PLACES)
class TestRoundTrip:
    def test_all_arrays(self, tmp_path: Path, name: str, format: str | None) -> None:
        buffer = varied_episodes()
        save_episodes(buffer, tmp_path / name, format)
        again = load_episodes(tmp_path / name)
        assert {key: (a.dtype, a.shape) for key, a in again.items()} == {
            key: (a.dtype, a.shape) for key, a in buffer.items()
        }
        assert hash_of(again) == hash_of(buffer)
        assert again.meta["fps"] == 10
        if format is None and name.endswith(".hdf5"):
            assert again.meta["env_args"] == '{"env_name": "Lift"}'

    def test_some_keys(self, tmp_path: Path, name: str, format: str | None) -> None:
        save_episodes(varied_episodes(), tmp_path / name, format)
        some = load_episodes(tmp_path / name, ["timestamp", "action"])
        assert list(some.keys()) == ["timestamp", "action"]
        assert some.meta["fps"] == 10
        with pytest.raises(ValueError, match=r"no (key|array) \['stat'\].*holds .*state"):
            load_episodes(tmp_path / name, ["stat"])

    def test_nothing_is_replaced(self, tmp_path: Path, name: str, format: str | None) -> None:
        (tmp_path / name).write_text("mine")
        with pytest.raises(FileExistsError, match="exists"):
            save_episodes(varied_episodes(), tmp_path / name, format)
        chosen = [candidate for candidate in FORMATS if candidate.name == format]
        if chosen:
            with pytest.raises(FileExistsError, match="exists"):
                chosen[0].save(varied_episodes(), tmp_path / name)
        assert os.listdir(tmp_path) == [name]

    def test_a_failure_leaves_nothing(
        self, tmp_path: Path, name: str, format: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(Path, "rename", fail)
        monkeypatch.setattr(os, "rename", fail)
        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            save_episodes(varied_episodes(), tmp_path / name, format)
        assert os.listdir(tmp_path) == []


@st.composite
def arbitrary_buffers(draw: st.DrawFn) -> ReplayBuffer:
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    arrays = {}
    names = st.lists(st.sampled_from(["a", "state", "next_x", "rewards", "b_c"]), unique=True)
    for key in [*draw(names), "action"]:
        shape = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
        dtype = draw(st.sampled_from(DTYPES))
        arrays[key] = draw(hnp.arrays(dtype, (sum(lengths), *shape)))
    buffer = ReplayBuffer.create_empty_numpy()
    for end, length in zip(np.cumsum(lengths), lengths, strict=True):
        buffer.add_episode({key: array[end - length : end] for key, array in arrays.items()})
    buffer.update_meta({"fps": 30})
    return buffer


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(buffer=arbitrary_buffers())
@pytest.mark.parametrize(("name", "format"), PLACES[2:])
def test_arbitrary_shapes_and_types(
    tmp_path_factory: pytest.TempPathFactory, buffer: ReplayBuffer, name: str, format: str | None
) -> None:
    path = tmp_path_factory.mktemp("any") / name
    with np.errstate(all="ignore"):  # statistics of arbitrary numbers may overflow
        save_episodes(buffer, path, format)
    assert hash_of(load_episodes(path)) == hash_of(buffer)


@pytest.mark.parametrize(("name", "format"), [("a.zarr", None), ("a.npz", None), ("a.hdf5", None)])
def test_images_stored_as_floats_become_uint8(tmp_path: Path, name: str, format: str | None) -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 9, 3)).astype(np.float32)
    buffer = ReplayBuffer.create_empty_numpy()
    buffer.add_episode({"img": images, "fraction": images / 255, "block": images[:, :3, :3]})
    save_episodes(buffer, tmp_path / name, format)
    again = load_episodes(tmp_path / name)
    assert again["img"].dtype == np.uint8
    np.testing.assert_array_equal(again["img"], images)
    assert again["fraction"].dtype == again["block"].dtype == np.float32


class TestDetection:
    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no such path. Expected a zarr directory"):
            load_episodes(tmp_path / "none")

    def test_nothing_known(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("hello")
        for path in (tmp_path, tmp_path / "a.txt"):
            with pytest.raises(ValueError, match="no demonstrations in a known format. Looked for a zarr"):
                detect_format(path)

    def test_a_robot_folder_names_the_buffer_in_it(self, tmp_path: Path) -> None:
        reaching_episodes(2).save_to_path(tmp_path / "replay_buffer.zarr")
        with pytest.raises(ValueError, match="give .*replay_buffer.zarr"):
            detect_format(tmp_path)

    def test_no_format_for_an_ending(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="names no format: choose one of .*'lerobot'.* --format"):
            save_episodes(reaching_episodes(1), tmp_path / "episodes")
        with pytest.raises(ValueError, match="format 'hdf' is not known"):
            save_episodes(reaching_episodes(1), tmp_path / "episodes.hdf5", "hdf")

    def test_a_missing_package_names_the_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> None:
            raise ModuleNotFoundError(f"No module named {name!r}")

        monkeypatch.setattr(optional_package.importlib, "import_module", missing)
        with pytest.raises(ImportError, match=r'package h5py .*pip install "diffusion_policy\[data\]"'):
            save_episodes(reaching_episodes(1), tmp_path / "episodes.hdf5")
        with pytest.raises(ImportError, match="package pyarrow"):
            save_episodes(reaching_episodes(1), tmp_path / "episodes", "lerobot")


@pytest.mark.parametrize("name", ["a.npz", "a.hdf5", "a.zarr.zip"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    save_episodes(varied_episodes(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"{name}.*(not a complete|cannot be read)"):
        load_episodes(path)


class TestNpz:
    def save(self, folder: Path, **arrays: object) -> Path:
        np.savez(folder / "a.npz", **arrays)  # type: ignore[arg-type]
        return folder / "a.npz"

    def test_by_hand(self, tmp_path: Path) -> None:
        path = self.save(tmp_path, action=np.zeros((5, 2)), episode_ends=[2, 5], fps=20)
        buffer = load_episodes(path)
        assert (buffer.n_episodes, buffer.meta["fps"]) == (2, 20)

    @pytest.mark.parametrize(
        ("ends", "message"),
        [
            ([3, 2, 5], "must increase.*episode 1 ends at 2 after 3"),
            ([2, 9], "'action' has 5 rows, but the 2 episodes have 9 steps"),
            ([2, 4], "'action' has 5 rows, but the 2 episodes have 4 steps"),
            ([2.0, 5.0], "must be integers"),
            ([0, 5], "episode 0 ends at 0 after 0"),
        ],
    )
    def test_episode_ends_that_lie(self, tmp_path: Path, ends: list[float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            load_episodes(self.save(tmp_path, action=np.zeros((5, 2)), episode_ends=ends))

    def test_no_episode_ends(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no array 'episode_ends' among.*exclusive end of every episode"):
            load_episodes(self.save(tmp_path, action=np.zeros((5, 2))))

    def test_no_code_is_run(self, tmp_path: Path) -> None:
        path = self.save(tmp_path, action=np.array([print, print]), episode_ends=[2])
        with pytest.raises(ValueError, match="cannot be read.*numbers only"):
            load_episodes(path)

    def test_a_folder_in_the_order_of_the_numbers(self, tmp_path: Path) -> None:
        for n in (10, 9, 2):
            np.savez(tmp_path / f"take{n}.npz", action=np.full((n, 1), n), fps=5)
        buffer = load_episodes(tmp_path)
        assert buffer.episode_lengths.tolist() == [2, 9, 10]
        assert buffer.meta["fps"] == 5
        np.savez(tmp_path / "take3.npz", action=np.zeros((3, 2)), fps=5)
        fault = r"'action' differs in shape or type between episodes: from episode 1, step 0 on it is float64 \(2,\)"
        with pytest.raises(ValueError, match=fault):
            load_episodes(tmp_path)
        np.savez(tmp_path / "take3.npz", state=np.zeros((3, 1)), fps=5)
        with pytest.raises(ValueError, match=r"take3.npz: holds \['fps', 'state'\], but take2.npz holds"):
            load_episodes(tmp_path)


class TestRobomimic:
    def test_layout(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        save_episodes(varied_episodes(), tmp_path / "a.hdf5")
        with h5py.File(tmp_path / "a.hdf5") as file:
            assert list(file["data"]) == ["demo_0", "demo_1", "demo_2"]
            assert file["data"].attrs["total"] == 18
            demo = file["data/demo_2"]
            assert demo.attrs["num_samples"] == 12
            assert {"actions", "rewards", "obs"} <= set(demo)
            assert demo["obs/state"].shape == (12, 4)

    def make(self, path: Path, **demos: dict[str, np.ndarray]) -> Path:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, arrays in demos.items():
                for key, array in arrays.items():
                    file[f"data/{name}/{key}"] = array
            file.require_group("data").attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
        return path

    def test_order_and_what_is_left_out(self, tmp_path: Path) -> None:
        demos = {
            f"demo_{n}": {
                "actions": np.full((n, 1), n),
                "obs/pos": np.ones((n, 2)),
                "next_obs/pos": np.ones((n, 2)),
                "actions_abs": np.ones((n, 3)),
            }
            for n in (10, 9, 2)
        }
        buffer = load_episodes(self.make(tmp_path / "a.hdf5", **demos))
        assert buffer.episode_lengths.tolist() == [2, 9, 10]
        assert set(buffer.keys()) == {"action", "pos", "actions_abs"}
        assert buffer.meta["fps"] == 20

    @pytest.mark.parametrize(
        ("second", "message"),
        [
            ({"actions": np.ones((3, 1))}, "demo_1 lacks 'obs/pos'"),
            (
                {"actions": np.ones((3, 1)), "obs/pos": np.ones((4, 2))},
                r"obs/pos has shape \(4, 2\).* 3 steps",
            ),
            ({"actions": np.ones((3, 1)), "obs/pos": np.ones((3, 5))}, "differs in shape or type"),
        ],
    )
    def test_contradictions(self, tmp_path: Path, second: dict[str, np.ndarray], message: str) -> None:
        first = {"actions": np.ones((3, 1)), "obs/pos": np.ones((3, 2))}
        with pytest.raises(ValueError, match=message):
            load_episodes(self.make(tmp_path / "a.hdf5", demo_0=first, demo_1=second))

    def test_two_arrays_of_one_name(self, tmp_path: Path) -> None:
        demo = {"actions": np.ones((3, 1)), "obs/action": np.ones((3, 1))}
        with pytest.raises(ValueError, match="'obs/action' and 'actions' would both be named 'action'"):
            load_episodes(self.make(tmp_path / "a.hdf5", demo_0=demo))

    def test_another_layout(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no demonstrations: expected groups data/demo_0"):
            load_episodes(self.make(tmp_path / "a.hdf5"))


def test_a_torn_tail_is_said(tmp_path: Path) -> None:
    buffer = ReplayBuffer.create_empty_zarr(tmp_path / "a.zarr")
    buffer.add_episode({"action": np.zeros((5, 1))})
    buffer["action"].array.resize((8, 1))  # type: ignore[union-attr]
    with pytest.warns(TornTailWarning, match="3 steps"):
        assert load_episodes(tmp_path / "a.zarr").n_steps == 5


# Data recorded by others


@pytest.mark.slow
@pytest.mark.parametrize(("name", "format"), PLACES)
@pytest.mark.parametrize(
    "source",
    [
        "pusht/pusht_cchi_v7_replay.zarr",
        "kitchen/kitchen_complete.zarr",
        "robomimic/lift_human_low_dim/low_dim.hdf5",
        "lerobot/pusht_v3",
        "real/replay_buffer.zarr",
    ],
)
def test_recorded_data_round_trip(
    shared_data: Path, tmp_path: Path, source: str, name: str, format: str | None
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*there is no folder 'videos'")
        buffer = load_episodes(shared_data / source)
    buffer.update_meta({"fps": 10})
    save_episodes(buffer, tmp_path / name, format)
    again = load_episodes(tmp_path / name)
    assert hash_of(again) == hash_of(buffer)


def test_the_same_demonstrations_in_two_formats(shared_data: Path, pusht_zarr: Path) -> None:
    with pytest.warns(UserWarning, match=r".*there is no folder 'videos', so \['image'\] are left out"):
        lerobot = load_episodes(shared_data / "lerobot/pusht_v3")
    original = load_episodes(pusht_zarr, ["state", "action"])
    np.testing.assert_array_equal(lerobot.episode_ends, original.episode_ends)
    np.testing.assert_array_equal(lerobot["action"], original["action"])
    np.testing.assert_allclose(lerobot["state"], original["state"][:, :2], atol=1e-4)
    assert lerobot.meta["fps"] == 10
    assert "timestamp" not in lerobot
    assert load_episodes(shared_data / "lerobot/pusht_v3", ["timestamp"])["timestamp"][1] == np.float32(0.1)


def test_observations_that_are_not_there_are_an_error(shared_data: Path) -> None:
    path = shared_data / "blockpush/multimodal_push_seed.zarr"
    with pytest.raises(ValueError, match=r"'data/obs' is damaged: the chunk of rows 0-114961 is missing"):
        load_episodes(path)
    assert load_episodes(path, ["action"]).n_episodes == 1000
