"""The LeRobot layouts: names, videos, bookkeeping and damage."""

import json
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.video_recorder import VideoRecorder
from diffusion_policy.dataset.episode_files import detect_format, load_episodes, save_episodes
from diffusion_policy.dataset.lerobot_columns import feature_of, key_of
from diffusion_policy.dataset.lerobot_video import read_frames
from tests.dataset.example_episodes import reaching_episodes

pq = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")

LENGTHS = (7, 4, 9)


def edit_info(root: Path, **changes: object) -> None:
    file = root / "meta/info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture(params=["lerobot", "lerobot-v2.1"])
def data_set(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_episodes(reaching_episodes(3, length=6), tmp_path / "set", request.param)
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("feature", "key"),
    [
        ("observation.state", "state"),
        ("observation.images.front", "front"),
        ("observation.image", "image"),
        ("observation.environment_state", "environment_state"),
        ("next.reward", "next_reward"),
        ("action", "action"),
    ],
)
def test_names(feature: str, key: str) -> None:
    assert key_of(feature) == key
    is_camera = feature.startswith("observation.images")
    array = np.zeros((1, 8, 8, 3), np.uint8) if is_camera else np.zeros((1, 2))
    assert key_of(feature_of(key, array)) == key


def test_what_other_programs_look_for(data_set: Path) -> None:
    info = json.loads((data_set / "meta/info.json").read_text())
    assert (info["fps"], info["total_episodes"], info["total_frames"]) == (10, 3, 18)
    assert info["features"]["observation.state"] == {"dtype": "float32", "shape": [3], "names": None}
    assert info["features"]["observation.images.camera"]["dtype"] == "image"
    file = next(iter(sorted(data_set.glob("data/*/*.parquet"))))
    schema = pq.read_schema(file)
    assert schema.field("observation.state").type == pa.list_(pa.float32(), 3)
    assert {"timestamp", "frame_index", "episode_index", "index", "task_index"} <= set(schema.names)
    described = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert described["observation.images.camera"] == {"_type": "Image"}
    if info["codebase_version"] == "v3.0":
        statistics = json.loads((data_set / "meta/stats.json").read_text())
    else:
        lines = (data_set / "meta/episodes_stats.jsonl").read_text().splitlines()
        assert len(lines) == 3
        statistics = json.loads(lines[0])["stats"]
    assert np.shape(statistics["observation.images.camera"]["mean"]) == (3, 1, 1)
    assert np.shape(statistics["action"]["std"]) == (3,)


def test_bookkeeping_is_read_where_it_says_something(tmp_path: Path) -> None:
    numbers = np.repeat([0, 1, 0], 6)
    buffer = reaching_episodes(3, length=6, task_index=numbers)
    buffer.update_meta({"tasks": np.array(["push", "pull"])})
    save_episodes(buffer, tmp_path / "set", "lerobot")
    assert "timestamp" not in load_episodes(tmp_path / "set")
    np.testing.assert_array_equal(load_episodes(tmp_path / "set")["task_index"], numbers)
    assert load_episodes(tmp_path / "set").meta["tasks"].tolist() == ["push", "pull"]
    index = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["tasks"] for row in index] == [["push"], ["pull"], ["push"]]

    file = tmp_path / "set/data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    late = np.asarray(table["timestamp"]) + np.float32(0.2) * (np.asarray(table["frame_index"]) > 3)
    column = table.schema.get_field_index("timestamp")
    pq.write_table(table.set_column(column, "timestamp", pa.array(late)), file)
    np.testing.assert_array_equal(load_episodes(tmp_path / "set")["timestamp"], late)


def test_the_frame_rate_must_be_known(tmp_path: Path) -> None:
    buffer = ReplayBuffer.create_empty_numpy()
    buffer.add_episode({"action": np.zeros((3, 2))})
    with pytest.raises(ValueError, match="does not say its frame rate.*--fps 10"):
        save_episodes(buffer, tmp_path / "set", "lerobot")


def test_two_keys_of_one_feature(tmp_path: Path) -> None:
    buffer = reaching_episodes(1, length=6, **{"images.camera": np.zeros((6, 2))})
    with pytest.raises(
        ValueError, match="'camera' and 'images.camera' would both be named 'observation.images"
    ):
        save_episodes(buffer, tmp_path / "set", "lerobot")


class TestDamage:
    def test_no_meta(self, data_set: Path) -> None:
        (data_set / "meta/info.json").unlink()
        with pytest.raises(
            ValueError, match="no meta/info.json, without which its parquet files mean nothing"
        ):
            load_episodes(data_set)

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"fps": "fast", "features": {}}', '{"fps": 9, "features": {"action": 3}}']
    )
    def test_damaged_info(self, data_set: Path, content: str) -> None:
        (data_set / "meta/info.json").write_text(content)
        with pytest.raises(ValueError, match="info.json is damaged"):
            load_episodes(data_set)

    @pytest.mark.parametrize("version", ["v1.6", "v4.0", None])
    def test_other_versions(self, data_set: Path, version: str | None) -> None:
        edit_info(data_set, codebase_version=version)
        with pytest.raises(ValueError, match="readable are v2.0, v2.1 and v3.x"):
            load_episodes(data_set)

    @pytest.mark.parametrize("template", ["../x.parquet", "/x.parquet", "{nothing}", "{", None])
    def test_hostile_templates(self, data_set: Path, template: str | None) -> None:
        edit_info(data_set, data_path=template)
        with pytest.raises(ValueError, match="info.json: template .*(leads out|does not fit)"):
            load_episodes(data_set)

    def test_a_truncated_parquet_file(self, data_set: Path) -> None:
        file = next(data_set.glob("data/*/*.parquet"))
        file.write_bytes(file.read_bytes()[:-20])
        with pytest.raises(ValueError, match="parquet is not a complete parquet file"):
            load_episodes(data_set)

    def test_a_missing_parquet_file(self, data_set: Path) -> None:
        next(data_set.glob("data/*/*.parquet")).unlink()
        with pytest.raises(ValueError, match="which the data set's index names"):
            load_episodes(data_set)

    def test_lost_rows(self, data_set: Path) -> None:
        file = next(iter(sorted(data_set.glob("data/*/*.parquet"))))
        pq.write_table(pq.read_table(file).slice(2), file)
        with pytest.raises(ValueError, match="episode 0 has 4 rows, but the index says 6"):
            load_episodes(data_set)

    def test_a_shape_that_is_not_true(self, data_set: Path) -> None:
        info = json.loads((data_set / "meta/info.json").read_text())
        info["features"]["action"]["shape"] = [4]
        edit_info(data_set, features=info["features"])
        with pytest.raises(ValueError, match="'action' holds .* numbers in .* rows"):
            load_episodes(data_set)

    def test_a_damaged_image(self, data_set: Path) -> None:
        file = next(iter(sorted(data_set.glob("data/*/*.parquet"))))
        table = pq.read_table(file)
        name = "observation.images.camera"
        images = table[name].to_pylist()
        images[1]["bytes"] = images[1]["bytes"][:20]
        column = pa.array(images, type=table.schema.field(name).type)
        pq.write_table(table.set_column(table.schema.get_field_index(name), name, column), file)
        with pytest.raises(ValueError, match=rf"image 1 of '{name}' cannot be decoded \(episode 0, step 1\)"):
            load_episodes(data_set)
        assert load_episodes(data_set, ["state"]).n_steps == 18


def brightness(steps: np.ndarray) -> np.ndarray:
    return (10 + 11 * steps).astype(np.uint8)


def write_video(path: Path, n_frames: int) -> None:
    with VideoRecorder(path, fps=10, crf=0) as recorder:
        for level in brightness(np.arange(n_frames)):
            recorder.write_frame(np.full((32, 48, 3), level, np.uint8))


@pytest.fixture(params=["lerobot", "lerobot-v2.1"])
def filmed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Episodes with a camera whose brightness tells the row."""
    root, n_steps = tmp_path / "set", sum(LENGTHS)
    buffer = ReplayBuffer.create_empty_numpy()
    for length in LENGTHS:
        buffer.add_episode({"action": np.zeros((length, 2), np.float32)})
    buffer.update_meta({"fps": 10})
    save_episodes(buffer, root, request.param)
    info = json.loads((root / "meta/info.json").read_text())
    camera = {"dtype": "video", "shape": [32, 48, 3], "names": ["height", "width", "channels"]}
    features = info["features"] | {"observation.images.top": camera}
    if request.param == "lerobot":
        template = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        file = root / "meta/episodes/chunk-000/file-000.parquet"
        table, starts = pq.read_table(file), np.cumsum([0, *LENGTHS[:-1]]) / 10
        for name, values in (("chunk_index", [0] * 3), ("file_index", [0] * 3), ("from_timestamp", starts)):
            table = table.append_column(f"videos/observation.images.top/{name}", pa.array(values))
        pq.write_table(table, file)
        write_video(root / "videos/observation.images.top/chunk-000/file-000.mp4", n_steps)
    else:
        template = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        for index, length in enumerate(LENGTHS):
            write_video(root / f"videos/chunk-000/observation.images.top/episode_{index:06d}.mp4", length)
    edit_info(root, features=features, video_path=template)
    return root


class TestVideos:
    def test_frames_of_every_episode(self, filmed: Path) -> None:
        buffer = load_episodes(filmed)
        assert (buffer["top"].shape, buffer["top"].dtype) == ((sum(LENGTHS), 32, 48, 3), np.uint8)
        one_video = detect_format(filmed).name == "lerobot"
        steps = np.arange(sum(LENGTHS)) if one_video else np.concatenate([np.arange(n) for n in LENGTHS])
        seen = np.asarray(buffer["top"]).mean((1, 2, 3))
        np.testing.assert_allclose(seen, brightness(steps), atol=3)

    def test_missing_frames(self, filmed: Path) -> None:
        file = next(iter(sorted(filmed.glob("videos/**/*.mp4"))))
        write_video(file, 5)
        with pytest.raises(
            ValueError,
            match=r"mp4: has no frame at 0.500 s, where frame 5 of the \d+ .*\(episode 0, step 5\)",
        ):
            load_episodes(filmed)
        assert load_episodes(filmed, ["action"]).n_episodes == 3

    def test_a_truncated_video(self, filmed: Path) -> None:
        file = next(iter(sorted(filmed.glob("videos/**/*.mp4"))))
        file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(ValueError, match="mp4 cannot be decoded from episode 0, step 0 on"):
            load_episodes(filmed)

    def test_a_missing_video(self, filmed: Path) -> None:
        next(iter(sorted(filmed.glob("videos/**/*.mp4")))).unlink()
        with pytest.raises(FileNotFoundError, match="no video at .*fetch the data set with its videos"):
            load_episodes(filmed)

    def test_frames_by_time(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mp4", 10)
        frames = read_frames(tmp_path / "a.mp4", np.array([0.3, 0.74]), 10, np.array([4, 4]))
        np.testing.assert_allclose(frames.mean((1, 2, 3)), brightness(np.array([3, 7])), atol=3)
        with pytest.raises(ValueError, match=r"no frame at 1.200 s.*\(episode 5, step 0\)"):
            read_frames(tmp_path / "a.mp4", np.array([0.3, 1.2]), 10, np.array([4, 5]))


def test_videos_of_a_real_robot(shared_data: Path) -> None:
    """h264, 30 frames per second, as a camera wrote it: every third frame of one episode."""
    times = np.arange(30) / 10
    frames = read_frames(shared_data / "real/videos/0/0.mp4", times, 30, np.zeros(30, int))
    assert frames.shape == (30, 720, 1280, 3)
    assert frames.std() > 10
