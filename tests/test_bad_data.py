"""Bad demonstrations, and mistakes in `diffusion-policy data`: what is said, what to do, and that nothing is left."""

import pickle
from pathlib import Path
from urllib.error import URLError

import numcodecs
import numpy as np
import pytest

from diffusion_policy.cli import data_main
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset import download
from diffusion_policy.scripts.demonstrations import preview
from tests import damaged_data as damaged
from tests.refusals import assert_refused, files_below, full_disk, refusal_of

pytest.importorskip("pyarrow")
A, ENDS = np.zeros((6, 2)), [6]

DAMAGED = {  # how it is made: (what the message names, what it says to do)
    "no such path": (damaged.nothing, "there is no such path", "Expected a zarr directory"),
    "empty folder": (damaged.empty_folder, "no demonstrations in a known format", "give the path of one"),
    "text file": (damaged.text_file, "data.csv holds no demonstrations", "convert your arrays to .npz"),
    "zarr without meta": (damaged.without("meta"), "group 'meta' is missing", "Fetch it again"),
    "zarr without ends": (damaged.without("meta/episode_ends"), "'meta/episode_ends' is missing", "Fetch it"),
    "zarr without .zgroup": (damaged.without(".zgroup"), "no .zgroup", "Choose the folder that has one"),
    "zarr without a chunk": (
        damaged.without("data/action/0.0"),
        "rows 0-17 is missing",
        "or record the data",
    ),
    "zarr with half a chunk": (damaged.truncated_chunk, "rows 0-17 is truncated", "or leave this key out"),
    "zarr of format 3": (damaged.zarr_of_format_3, "in zarr format 3", "write it again as such"),
    "garbled metadata": (damaged.garbled_metadata, "'data/action' cannot be opened", "fetch the data again"),
    "unknown codec": (damaged.with_metadata(compressor={"id": "new"}), "not available", "install the codec"),
    "ends decrease": (damaged.with_ends([12, 6, 18]), "row 1 holds 6 after 12", "fetch or record the data"),
    "ends beyond the arrays": (damaged.with_ends([6, 12, 99]), "rows 18-98 are missing", "fetch or record"),
    "ends in a table": (damaged.with_ends([[6], [12], [18]]), "got int64 of shape (3, 1)", "write it again"),
    "ends as a number": (damaged.with_ends(18), "got int64 of shape ()", "write it again"),
    "ends as fractions": (damaged.with_ends([6.0, 12.0, 18.0]), "must be integers", "write it again"),
    "metadata that lie": (damaged.with_metadata(shape=[9, 3]), "'data/action' has 9 rows", "fetch or record"),
    "truncated zip": (damaged.half_of("data.zarr.zip"), "not a complete zip file", "fetch or write it again"),
    "zip of text": (damaged.zip_of_text, "data.zip is not a zarr group", "fetch it again"),
    "truncated npz": (damaged.half_of("data.npz"), "not a complete npz file", "write or copy it again"),
    "npz, unequal lengths": (
        damaged.npz(action=A, state=A[:5], episode_ends=ENDS),
        "'state' has 5 rows, but the 1 episodes have 6 steps",
        "mend the episode ends",
    ),
    "npz without ends": (damaged.npz(action=A), "no array 'episode_ends'", "add it"),
    "npz with ends only": (damaged.npz(episode_ends=ENDS), "have no arrays", "write or fetch it again"),
    "npz, text": (damaged.npz(action=["a"] * 6, episode_ends=ENDS), "'action' holds <U1", "leave it out"),
    "npz, frame rate in words": (
        damaged.npz(action=A, state=A, episode_ends=ENDS, fps="fast"),
        "fps must be a positive number, got fast",
        "write it again",
    ),
    "truncated HDF5": (damaged.half_of("data.hdf5"), "not a complete HDF5 file", "fetch or write it again"),
    "HDF5 of another program": (damaged.hdf5(x=A), "no demonstrations", "expected groups data/demo_0"),
    "HDF5 without groups": (damaged.hdf5(data=A), "no demonstrations", "expected groups data/demo_0"),
    "HDF5, array for a group": (
        damaged.hdf5(data__demo_0=A),
        "are no groups",
        "write them as robomimic does",
    ),
    "HDF5, unequal lengths": (
        damaged.hdf5(data__demo_0__actions=A, data__demo_0__obs__state=A[:5]),
        "/data/demo_0/obs/state has shape (5, 2)",
        "leave this key out",
    ),
    "LeRobot without info": (damaged.lerobot_without_info, "no meta/info.json", "fetch it too"),
    "LeRobot, truncated": (damaged.lerobot_truncated, "not a complete parquet file", "fetch it again"),
    "LeRobot, too many frames": (
        damaged.lerobot(total_frames=99),
        "total_frames is 99, but",
        "fetch the data",
    ),
    "LeRobot, no frame rate": (damaged.lerobot(fps=0), "info.json is damaged", "fetch it again"),
    "LeRobot, another shape": (
        damaged.lerobot_with_action(dtype="float32", shape=[7]),
        "a row has shape (7,)",
        "mend that file",
    ),
    "LeRobot, shape in words": (
        damaged.lerobot_with_action(dtype="float32", shape=["wide"]),
        "info.json is damaged",
        "fetch it again",
    ),
    "LeRobot, no video": (
        damaged.lerobot_with_action(dtype="video", shape=[8, 8, 3]),
        "where the videos of 'action' are",
        "leave this key out",
    ),
    "LeRobot, no image": (
        damaged.lerobot_with_action(dtype="image", shape=[8, 8, 3]),
        "but meta/info.json says images",
        "mend that file",
    ),
    "LeRobot, an episode lost": (
        damaged.lerobot_index("episodes.jsonl", lambda text: "\n".join(text.splitlines()[:-1])),
        "total_episodes is 3, but the index of episodes says 2",
        "fetch the data set again",
    ),
    "LeRobot, negative length": (
        damaged.lerobot_index("episodes.jsonl", lambda text: text.replace('"length": 6', '"length": -6')),
        "an episode has -6 steps",
        "fetch it again",
    ),
    "LeRobot, garbled tasks": (
        damaged.lerobot_index("tasks.jsonl", lambda _: "[1]"),
        "its index of episodes is damaged",
        "fetch it again",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_demonstrations(tmp_path: Path, case: str) -> None:
    """Every command names the fault, and none leaves anything."""
    make, fault, advice = DAMAGED[case]
    path, out = make(tmp_path), tmp_path / "out"
    before = files_below(tmp_path)
    for arguments in (
        ("info", path),
        ("check", path),
        ("convert", path, out / "copy.npz"),
        ("init", path, "--name", "new", "-o", out / "task/new.yaml"),
    ):
        if case != "npz, frame rate in words" or arguments[0] != "check":  # which has no use for it
            assert_refused(refusal_of(data_main, *arguments), fault, advice)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("make", [damaged.pickled_zarr, damaged.pickled_npz])
def test_no_code_in_demonstrations_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: damaged.Make
) -> None:
    """Also where the installed numcodecs would run it, as older ones do."""
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    path = make(tmp_path)
    for command in ("info", "check"):
        assert_refused(refusal_of(data_main, command, path), str(path))
    assert not (tmp_path / "canary").exists()
    pickle.loads(pickle.dumps(damaged.Hostile(tmp_path / "canary")))
    assert (tmp_path / "canary").exists(), "it would have been seen"


def test_values_that_training_refuses_are_found(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 2))
    values[3] = np.nan
    path = damaged.npz(action=values, state=values[::-1], episode_ends=[20])(tmp_path)
    assert_refused(
        refusal_of(data_main, "check", path), "action: NaN or infinity in 1 steps", "Remove or repair"
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return damaged.sound(tmp_path, "data.npz")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    ReplayBuffer.create_empty_zarr(tmp_path / "empty.zarr")
    return tmp_path / "empty.zarr"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("info {data} --keys velocity", ["no key ['velocity']", "Choose among these"]),
        ("check {data} --keys velocity", ["no key ['velocity']", "Choose among these"]),
        ("convert {data} {data}", ["data.npz exists already", "choose another name"]),
        ("convert {data} {out}.npz --format csv", ["format 'csv' is not known", "choose one of"]),
        ("convert {data} {out}", ["names no format", "--format, or an ending"]),
        ("convert {data} {out}.npz --fps 0", ["fps must be a positive number, got 0.0"]),
        ("convert {data} {data}/out.npz", ["File exists", "a file is in the way"]),
        ("convert {empty} {out}.npz", ["empty.zarr has no episodes to convert"]),
        ("preview {data} -o {out}.png --n_episodes 0", ["n_episodes must be at least 1, got 0"]),
        ("preview {data} -o {data}", ["data.npz exists already", "choose another name"]),
        ("preview {empty} -o {out}.png", ["empty.zarr has no episodes to draw"]),
        ("init {data} --name a/b", ["--name must be letters, digits and underscores", "'a/b'"]),
        ("init {data} --name new -o {data}/task/new.yaml", ["Not a directory", "choose another path"]),
        ("init {data} --name new -o {out}/task/new.yaml --action torque", ["no key 'torque'", "--action"]),
        ("generate pusht {out}.zarr --n_episodes 0", ["n_episodes is 0; expected at least 1"]),
        ("generate pusht {out}.zarr --workers 0", ["workers is 0; expected at least 1"]),
        ("generate pusht {out}.zarr --first_seed -5", ["first_seed is -5; expected 500000"]),
        ("generate pusht {data}", ["data.npz exists", "choose another output"]),
        ("generate pusht {data}/out.zarr", ["Not a directory", "choose another path"]),
        ("download pusht --destination {data}", ["a file is in the way", "choose another path"]),
    ],
)
def test_mistakes_in_data_commands(
    tmp_path: Path, data: Path, empty: Path, command: str, words: list[str]
) -> None:
    before = files_below(tmp_path)
    filled = command.format(data=data, empty=empty, out=tmp_path / "out")
    assert_refused(refusal_of(data_main, *filled.split()), *words)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "arguments are required: command"),
        ("inform x", "invalid choice: 'inform'"),
        ("info", "arguments are required: path"),
        ("convert a", "arguments are required: destination"),
        ("convert a b --fps fast", "argument --fps: invalid float value: 'fast'"),
        ("preview a --n_episodes few", "argument --n_episodes: invalid int value: 'few'"),
        ("init a", "arguments are required: --name"),
        ("generate kitchen a", "argument task: invalid choice: 'kitchen' (choose from"),
        ("download kitchen", "argument name: invalid choice: 'kitchen' (choose from"),
    ],
)
def test_usage_of_data_commands(command: str, words: str) -> None:
    assert_refused(refusal_of(data_main, *command.split()), "usage:", words, code=2)


def test_what_a_killed_generation_left_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "new.zarr.zip.partial").mkdir()
    refusal = refusal_of(data_main, "generate", "pusht", tmp_path / "new.zarr.zip")
    assert_refused(refusal, "new.zarr.zip.partial exists", "delete it")


def test_other_data_are_not_taken_for_the_published(tmp_path: Path) -> None:
    damaged.sound(tmp_path / "pusht", "pusht_cchi_v7_replay.zarr")
    before = files_below(tmp_path)
    refusal = refusal_of(data_main, "download", "pusht", "--destination", tmp_path)
    assert_refused(refusal, "does not hold the published data", "delete", "to fetch it anew")
    assert files_below(tmp_path) == before


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(download.urllib.request, "urlopen", unreachable)
    refusal = refusal_of(data_main, "download", "pusht", "--destination", tmp_path)
    assert_refused(refusal, "could not download https://", "Name or service not known", "try again")
    assert files_below(tmp_path) == {}


class TestFullDisk:
    @pytest.mark.parametrize("name", ["new.npz", "new.zarr", "new.zarr.zip", "new.hdf5", "new"])
    def test_convert(self, tmp_path: Path, data: Path, name: str) -> None:
        format = [] if "." in name else ["--format", "lerobot"]
        before = files_below(tmp_path)
        with full_disk(500):
            refusal = refusal_of(data_main, "convert", data, tmp_path / name, *format)
        assert_refused(refusal, f"could not write {tmp_path / name}", "ile too large", "make room")
        assert files_below(tmp_path) == before

    def test_preview(self, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class LargePicture:
            def savefig(self, path: Path, **options: object) -> None:
                path.write_bytes(bytes(1_000_000))

        monkeypatch.setattr(preview, "draw", lambda buffer, n_episodes: LargePicture())
        before = files_below(tmp_path)
        with full_disk(500):
            refusal = refusal_of(data_main, "preview", data, "-o", tmp_path / "new.png")
        assert_refused(refusal, "File too large", "new.png", "make room")
        assert files_below(tmp_path) == before

    @pytest.mark.parametrize("name", ["init", "generate"])
    def test_new_files(self, tmp_path: Path, data: Path, name: str) -> None:
        commands = {
            "init": ("init", data, "--name", "new", "-o", tmp_path / "task/new.yaml"),
            "generate": ("generate", "pusht", tmp_path / "new.zarr"),
        }
        with full_disk(10):
            refusal = refusal_of(data_main, *commands[name])
        assert_refused(refusal, "File too large", str(commands[name][-1]), "make room")
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["data.npz"]
