"""robosuite is imported in silence, or it is said how to install it."""

import os
import subprocess
import sys

import pytest

IMPORT = "from diffusion_policy.env.robomimic.robosuite_package import import_robosuite\n"


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True
    )


@pytest.mark.sim
def test_it_says_nothing_and_leaves_the_choice_of_opengl_alone():
    pytest.importorskip("robosuite")
    done = run(f"{IMPORT}import os\nimport_robosuite()\nprint(os.environ['MUJOCO_GL'])", MUJOCO_GL="disable")
    assert (done.returncode, done.stdout, done.stderr) == (0, "disable\n", "")


@pytest.mark.parametrize("missing", ["robosuite", "mujoco"])
def test_a_missing_package(missing):
    done = run(f"import sys\nsys.modules[{missing!r}] = None\n{IMPORT}import_robosuite()")
    assert 'pip install "diffusion_policy[robomimic]"' in done.stderr
    assert "pip install --no-deps robosuite==1.5.2" in done.stderr


@pytest.mark.parametrize("version", ["3.10.0", "4.0.0"])
def test_a_mujoco_too_new(version):
    done = run(f"import mujoco\nmujoco.__version__ = {version!r}\n{IMPORT}import_robosuite()")
    assert f"MuJoCo {version} is here, robosuite 1.5.2 cannot use 3.10 and later" in done.stderr
