"""Fetch published demonstrations."""

import http.client
import tempfile
import urllib.request
import zipfile
from os import PathLike
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from diffusion_policy.common.content_hash import content_hash
from diffusion_policy.common.replay_buffer import ReplayBuffer

PUSHT_URL = "https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip"
PUSHT_ZARR = "pusht_cchi_v7_replay.zarr"
PUSHT_KEYS = ("action", "img", "keypoint", "state")
PUSHT_SHA256 = "661a6ac53f5a4a5c8321c016300bb0f2fa745ecefbfb115b33bbe6cbd006842a"
BYTES_AT_ONCE = 1 << 20
TIMEOUT_S = 60


def download_pusht(destination: str | PathLike[str], url: str = PUSHT_URL) -> Path:
    """Fetch the 206 human Push-T demonstrations, check them and put them in place.

    Args:
        destination: The data folder; they go to `pusht/pusht_cchi_v7_replay.zarr` in it.
        url: The zip file that holds them.

    Returns:
        Where they are. If they were there already nothing is fetched.

    Raises:
        OSError: the download failed; nothing is left behind.
        ValueError: what came (or was there) is not the published data.
    """
    target = Path(destination).expanduser() / "pusht" / PUSHT_ZARR
    if target.exists():
        _verify(target, f"delete {target} to fetch it anew")
        return target
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent.parent, prefix=".download-") as temporary:
        archive, unpacked = Path(temporary) / "pusht.zip", Path(temporary) / PUSHT_ZARR
        _fetch(url, archive)
        _unpack(archive, PUSHT_ZARR, unpacked)
        _verify(unpacked, f"{url} may have changed, or the download was damaged: try again")
        target.parent.mkdir(exist_ok=True)
        unpacked.rename(target)
    return target


def _fetch(url: str, target: Path) -> None:
    """Download to a file with a progress bar."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, target.open("wb") as file:
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1]) as bar:
                while block := response.read(BYTES_AT_ONCE):
                    file.write(block)
                    bar.update(len(block))
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"could not download {url}: {error}; nothing was changed, try again") from error
    if size and target.stat().st_size != size:
        raise OSError(f"download of {url} broke off after {target.stat().st_size} of {size} bytes; try again")


def _unpack(archive: Path, folder: str, target: Path) -> None:
    """Extract only what lies in the directory `folder` of a zip file, wherever in it that is.

    Raises:
        ValueError: it is not a zip file, has no such directory, or an entry would leave `target`.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                parts = PurePosixPath(entry.filename).parts
                if folder in parts and not entry.is_dir():
                    inside = parts[parts.index(folder) + 1 :]
                    _write_entry(zipped.read(entry), target, inside)
    except zipfile.BadZipFile as error:
        raise ValueError(f"the downloaded file is not a complete zip file ({error}); try again") from error
    if not target.exists():
        raise ValueError(f"the downloaded zip file holds no {folder}; report this, it must have moved")


def _write_entry(content: bytes, target: Path, inside: tuple[str, ...]) -> None:
    path = target.joinpath(*inside)
    if ".." in inside or not path.resolve().is_relative_to(target.resolve()):
        raise ValueError(f"the downloaded zip file has an entry outside of its folder: {'/'.join(inside)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _verify(path: Path, advice: str) -> None:
    buffer = ReplayBuffer.create_from_path(path)
    found = content_hash({key: buffer.data[key] for key in PUSHT_KEYS if key in buffer}, buffer.episode_ends)
    if found != PUSHT_SHA256:
        raise ValueError(f"{path} does not hold the published data (sha256 {found} of its arrays); {advice}")
