"""Recording a replay buffer survives being killed, a full disk, and every instant in between."""

import errno
import itertools
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.common import zarr_files
from diffusion_policy.common.atomic_write import atomic_write
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.zarr_storage import TornTailWarning

SCRIPT = Path(__file__).with_name("record_until_killed.py")
RECORDER = runpy.run_path(str(SCRIPT))
CHUNKS, make_episode = RECORDER["CHUNKS"], RECORDER["make_episode"]
N_KILLS = 20


def assert_same_episodes(buffer, indices):
    assert buffer.n_episodes == len(indices)
    for row, index in enumerate(indices):
        recorded, expected = buffer.get_episode(row), make_episode(index)
        assert set(recorded) == set(expected)
        for key, values in expected.items():
            assert recorded[key].dtype == values.dtype
            np.testing.assert_array_equal(recorded[key], values, err_msg=f"episode {index}, {key}")


def reopen(path, mode):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TornTailWarning)
        return ReplayBuffer.create_from_path(path, mode)


def assert_no_debris(path):
    assert not [file.name for file in path.rglob(".tmp-*")]


def run_and_kill(path, rng, kill_at):
    """Start the recorder on `path`; it dies at file operation `kill_at`, or after a random time if None."""
    command = [sys.executable, str(SCRIPT), str(path)] + ([] if kill_at is None else [str(kill_at)])
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with child:
        first_line = child.stdout.readline()
        if kill_at is None:
            time.sleep(rng.uniform(0, 0.3))
            child.kill()
        child.wait(timeout=30)
    assert child.returncode == -signal.SIGKILL
    return first_line


def test_twenty_kills(tmp_path):
    path, rng = tmp_path / "recording.zarr", np.random.default_rng(0)
    n_before = 0
    for kill in range(N_KILLS):
        kill_at = None if kill % 2 else int(rng.integers(0, 80)) if kill else 5  # 5: while creating
        first_line = run_and_kill(path, rng, kill_at)
        assert first_line in ("recording False\n", "")  # False: recording does not need torch
        if not path.exists():
            continue
        for mode in ("r", "a"):
            buffer = reopen(path, mode)
            assert buffer.n_episodes >= n_before - 1  # the recorder may have dropped one
            assert_same_episodes(buffer, range(buffer.n_episodes))
        assert_no_debris(path)
        n_before = buffer.n_episodes
    assert n_before > 0


def test_every_instant(tmp_path, monkeypatch):
    """What lies on disk before every file operation of a recording opens as a valid buffer."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # matters in power cuts only
    path, instants, lock = tmp_path / "recording.zarr", [], threading.RLock()
    buffer = ReplayBuffer.create_empty_zarr(path)
    kept: list[int] = []
    allowed: list[list[int]] = []

    def snapshot_before(operation):
        def perform(*args, **kwargs):
            with lock:
                instants.append((shutil.copytree(path, tmp_path / f"instant{len(instants)}"), *allowed))
                return operation(*args, **kwargs)

        return perform

    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "unlink"):
            patch.setattr(os, name, snapshot_before(getattr(os, name)))
        for index in (0, 1, None, 2, None, None):  # None: drop the last
            after = kept[:-1] if index is None else [*kept, index]
            allowed[:] = [kept, after]
            if index is None:
                buffer.drop_episode()
            else:
                buffer.add_episode(make_episode(index), chunks=CHUNKS)
            kept = after

    assert len(instants) > 50
    for folder, before, after in instants:
        readable = reopen(folder, "r")
        episodes = before if readable.n_episodes == len(before) else after
        assert_same_episodes(readable, episodes)
        recordable = reopen(folder, "a")
        assert_same_episodes(recordable, episodes)
        recordable.add_episode(make_episode(9))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_same_episodes(ReplayBuffer.create_from_path(folder), [*episodes, 9])
        assert_no_debris(folder)


class FullDisk:
    """Stands for os.fsync on a disk with room for so many more files; counts them."""

    def __init__(self, room):
        self.room = room
        self.n_files = 0

    def __call__(self, _):
        self.n_files += 1
        if self.n_files > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("n_finished", [0, 2])
def test_full_disk(tmp_path, monkeypatch, n_finished):
    """Whichever file no longer fits, the buffer stays as it was and takes the episode once there is room."""

    def record(path):
        buffer = ReplayBuffer.create_empty_zarr(path)
        for index in range(n_finished):
            buffer.add_episode(make_episode(index))
        return buffer

    def add_with(room, buffer):
        disk = FullDisk(room)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", disk)
            buffer.add_episode(make_episode(n_finished))
        return disk.n_files

    n_files = add_with(1000, record(tmp_path / "enough.zarr"))
    assert n_files >= 10
    for room in range(n_files):
        path = tmp_path / f"{room}.zarr"
        buffer = record(path)
        with pytest.raises(OSError, match=rf"{path}: No space left.*Nothing was lost") as failure:
            add_with(room, buffer)
        assert failure.value.errno == errno.ENOSPC
        for unchanged in (buffer, reopen(path, "r")):
            assert_same_episodes(unchanged, range(n_finished))
        buffer.add_episode(make_episode(n_finished))
        for complete in (buffer, ReplayBuffer.create_from_path(path)):
            assert_same_episodes(complete, range(n_finished + 1))


def test_dropping_on_a_full_disk_is_finished_later(tmp_path, monkeypatch):
    path = tmp_path / "recording.zarr"
    buffer = ReplayBuffer.create_empty_zarr(path)
    for index in range(3):
        buffer.add_episode(make_episode(index))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", FullDisk(0))
        with pytest.raises(OSError, match="No space left"):
            buffer.drop_episode()
    assert_same_episodes(reopen(path, "r"), [0, 1, 2])
    assert_same_episodes(buffer, [0, 1])
    buffer.add_episode(make_episode(3))
    assert_same_episodes(buffer, [0, 1, 3])
    assert_same_episodes(ReplayBuffer.create_from_path(path), [0, 1, 3])


@pytest.mark.parametrize("fault", [2, 3, 7, 8])
def test_writes_of_a_failed_attempt_do_not_come_later(tmp_path, monkeypatch, fault):
    """The store writes several files at once; when one fails, others are still on their way."""
    path, n_files = tmp_path / "recording.zarr", itertools.count()
    buffer = ReplayBuffer.create_empty_zarr(path)
    if fault % 2:
        buffer.add_episode(make_episode(0), chunks=CHUNKS)

    def slow_disk_with_one_fault(file, content):
        if next(n_files) == fault:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not file.name.startswith(".z"):  # a chunk
            time.sleep(0.05)
        atomic_write(file, content)

    with monkeypatch.context() as patch:
        patch.setattr(zarr_files, "atomic_write", slow_disk_with_one_fault)
        with pytest.raises(OSError, match="Nothing was lost"):
            buffer.add_episode(make_episode(99), chunks=CHUNKS)
    n_finished = buffer.n_episodes
    buffer.add_episode(make_episode(n_finished), chunks=CHUNKS)
    time.sleep(0.15)
    for opened in (buffer, ReplayBuffer.create_from_path(path)):
        assert_same_episodes(opened, range(n_finished + 1))


def test_interrupted_by_the_keyboard(tmp_path, monkeypatch):
    buffer = ReplayBuffer.create_empty_zarr(tmp_path / "recording.zarr")
    buffer.add_episode(make_episode(0))
    with monkeypatch.context() as patch:
        patch.setattr("diffusion_policy.common.zarr_storage.ZarrStorage._write_end", _press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            buffer.add_episode(make_episode(1))
    assert_same_episodes(ReplayBuffer.create_from_path(tmp_path / "recording.zarr"), [0])
    buffer.add_episode(make_episode(1))
    assert_same_episodes(buffer, [0, 1])


def _press_ctrl_c(*_):
    raise KeyboardInterrupt
