"""Tests for atomic_write.py."""

import os
import stat
from pathlib import Path

import pytest

from diffusion_policy.common.atomic_write import (
    TEMPORARY_PREFIX,
    atomic_directory,
    atomic_write_text,
    remove_directory,
    remove_temporaries,
)


class Killed(BaseException):
    """What no `except Exception` catches."""


def kill(*args: object, **kwargs: object) -> None:
    raise Killed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_and_replaced(tmp_path):
    path = tmp_path / "latest"
    for text in ("first", "second\nlonger", ""):
        atomic_write_text(path, text)
        assert path.read_text() == text
    assert names(tmp_path) == ["latest"]


def test_text_can_be_read_by_others(tmp_path):
    atomic_write_text(tmp_path / "latest", "text")
    assert stat.S_IMODE((tmp_path / "latest").stat().st_mode) == 0o644


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_interrupted_text_leaves_the_old_one(tmp_path, monkeypatch, step):
    path = tmp_path / "latest"
    atomic_write_text(path, "old")
    monkeypatch.setattr(os, step, kill)
    with pytest.raises(Killed):
        atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["latest"]


def test_directory_appears_at_the_end(tmp_path):
    target = tmp_path / "made"
    with atomic_directory(target) as temporary:
        (temporary / "file").write_text("content")
        assert not target.exists()
        assert temporary.parent == tmp_path
    assert (target / "file").read_text() == "content"
    assert names(tmp_path) == ["made"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


@pytest.mark.parametrize("error", [Killed, KeyboardInterrupt, OSError])
def test_directory_of_a_failed_block_is_removed(tmp_path, error):
    def fail() -> None:
        with atomic_directory(tmp_path / "made") as temporary:
            (temporary / "file").write_text("content")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == []


def test_an_existing_directory_is_refused_and_stays(tmp_path):
    (tmp_path / "made").mkdir()
    with pytest.raises(FileExistsError, match="made exists already; remove it"):
        atomic_directory(tmp_path / "made").__enter__()
    assert names(tmp_path) == ["made"]


def test_removed_directory_vanishes_before_its_content(tmp_path, monkeypatch):
    target = tmp_path / "made"
    (target / "inner").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", kill)
        with pytest.raises(Killed):
            remove_directory(target)
    assert not target.exists()
    assert [name.startswith(TEMPORARY_PREFIX) for name in names(tmp_path)] == [True]
    remove_temporaries(tmp_path)
    assert names(tmp_path) == []
    target.mkdir()
    remove_directory(target)
    assert names(tmp_path) == []


def test_only_temporaries_are_removed(tmp_path):
    (tmp_path / f"{TEMPORARY_PREFIX}folder" / "inner").mkdir(parents=True)
    (tmp_path / f"{TEMPORARY_PREFIX}file").write_text("")
    (tmp_path / "kept").mkdir()
    (tmp_path / ".hidden").write_text("")
    remove_temporaries(tmp_path)
    assert names(tmp_path) == [".hidden", "kept"]
