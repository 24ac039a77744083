"""Tests for download.py, with a small zip file in place of the published one."""

import zipfile

import numpy as np
import pytest

from diffusion_policy.common.content_hash import content_hash
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset import download
from diffusion_policy.dataset.download import PUSHT_KEYS, PUSHT_SHA256, PUSHT_ZARR, download_pusht


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A zarr directory as the zip file holds it, taken for the published one."""
    buffer = ReplayBuffer.create_empty_numpy()
    buffer.add_episode({key: np.arange(6.0).reshape(3, 2) for key in (*PUSHT_KEYS, "n_contacts")})
    buffer.save_to_path(tmp_path / "source" / PUSHT_ZARR)
    checksum = content_hash({key: buffer[key] for key in PUSHT_KEYS}, buffer.episode_ends)
    monkeypatch.setattr(download, "PUSHT_SHA256", checksum)
    return tmp_path / "source" / PUSHT_ZARR


@pytest.fixture
def archive(folder):
    path = folder.parent / "pusht.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("pusht/", "")
        zipped.writestr("pusht/notes.txt", "not needed")
        zipped.writestr("pusht/other.zarr/.zgroup", "not needed")
        for file in folder.rglob("*"):
            zipped.write(file, f"pusht/{PUSHT_ZARR}/{file.relative_to(folder)}")
    return path


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "data"


def nothing_is_left_in(destination):
    return not destination.exists() or list(destination.iterdir()) == []


def test_only_the_demonstrations_arrive(archive, destination):
    path = download_pusht(destination, archive.as_uri())
    assert path == destination / "pusht" / PUSHT_ZARR
    assert ReplayBuffer.create_from_path(path).n_steps == 3
    assert [item.name for item in destination.iterdir()] == ["pusht"]
    assert [item.name for item in (destination / "pusht").iterdir()] == [PUSHT_ZARR]


def test_what_is_there_is_checked_and_kept(archive, destination, monkeypatch):
    download_pusht(destination, archive.as_uri())
    archive.unlink()
    path = download_pusht(destination, archive.as_uri())
    monkeypatch.setattr(download, "PUSHT_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"does not hold the published data.*delete"):
        download_pusht(destination, archive.as_uri())
    assert path.exists()


def test_other_data_are_refused(archive, destination, monkeypatch):
    monkeypatch.setattr(download, "PUSHT_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"does not hold the published data.*try again"):
        download_pusht(destination, archive.as_uri())
    assert nothing_is_left_in(destination)


def test_missing_array_is_refused(folder, destination):
    for file in (folder / "data/img").iterdir():
        file.unlink()
    with zipfile.ZipFile(folder.parent / "a.zip", "w") as zipped:
        for file in folder.rglob("*"):
            zipped.write(file, file.relative_to(folder.parent))
    with pytest.raises(ValueError, match="does not hold the published data"):
        download_pusht(destination, (folder.parent / "a.zip").as_uri())


def test_unreachable(destination, tmp_path):
    with pytest.raises(OSError, match=r"could not download file.*none\.zip"):
        download_pusht(destination, (tmp_path / "none.zip").as_uri())
    assert nothing_is_left_in(destination)


@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_broken_zip_file(archive, destination, kept):
    archive.write_bytes(archive.read_bytes()[: int(kept * archive.stat().st_size)])
    with pytest.raises(ValueError, match="not a complete zip file"):
        download_pusht(destination, archive.as_uri())
    assert nothing_is_left_in(destination)


def test_zip_file_of_something_else(tmp_path, destination):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("readme.txt", "")
    with pytest.raises(ValueError, match=f"holds no {PUSHT_ZARR}"):
        download_pusht(destination, (tmp_path / "a.zip").as_uri())
    assert nothing_is_left_in(destination)


@pytest.mark.parametrize("name", [f"{PUSHT_ZARR}/../../../evil", f"{PUSHT_ZARR}/data/../../evil"])
def test_entries_cannot_leave_the_folder(archive, destination, name):
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr(name, "evil")
    with pytest.raises(ValueError, match="outside of its folder"):
        download_pusht(destination, archive.as_uri())
    assert nothing_is_left_in(destination)
    assert not list(archive.parent.parent.rglob("evil"))


@pytest.mark.slow
def test_checksum_is_that_of_the_human_demonstrations(pusht_zarr):
    buffer = ReplayBuffer.create_from_path(pusht_zarr)
    assert content_hash({key: buffer.data[key] for key in PUSHT_KEYS}, buffer.episode_ends) == PUSHT_SHA256
