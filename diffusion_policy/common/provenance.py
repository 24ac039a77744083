"""What is needed to repeat a run: versions, revision, seeds, threads, device."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import diffusion_policy

PACKAGES = ("torch", "numpy", "zarr", "hydra-core", "gymnasium", "pymunk", "opencv-python-headless")


def provenance(device: torch.device) -> dict[str, Any]:
    """Describe this process, as plain data for a JSON file."""
    return {
        "command": sys.argv,
        "diffusion_policy": diffusion_policy.__version__,
        "git_revision": _git("rev-parse", "HEAD"),
        "git_modified": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": _device_name(device),
        "n_threads": torch.get_num_threads(),
        "n_cpus": os.cpu_count(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Output of a git command in the package's checkout; None where the package is not in one."""
    folder = Path(diffusion_policy.__file__).parent
    try:
        result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
