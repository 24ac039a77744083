"""What importing the package pulls in: no simulator, no service, and at its entry points not even torch."""

import os
import subprocess
import sys

import pytest

SIMULATORS = ("gymnasium", "pymunk", "cv2", "av", "wandb")
HEAVY = ("torch", *SIMULATORS, "tensorboard", "matplotlib", "diffusers")

PROGRAM = """
import importlib, sys
importlib.import_module({module!r})
print(*sorted({{name.split('.')[0] for name in sys.modules}} & set({packages!r})))
"""


def loaded(module: str, packages: tuple[str, ...]) -> list[str]:
    """Which of `packages` a fresh interpreter has loaded after importing `module`."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module, packages=packages)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize("module", ["diffusion_policy", "diffusion_policy.cli"])
def test_entry_points_import_nothing_heavy(module):
    assert loaded(module, HEAVY) == []


def test_training_imports_no_simulator_and_no_service():
    assert loaded("diffusion_policy.workspace.train_workspace", ("torch", *SIMULATORS)) == ["torch"]
