"""Every registered environment keeps gymnasium's contract."""

import subprocess
import sys
import warnings

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

import diffusion_policy.env  # noqa: F401, registers the environments
from tests.env.robomimic.tasks import shape_meta

ENV_IDS = sorted(env_id for env_id in gymnasium.registry if env_id.startswith("diffusion_policy/"))
# Arguments without which robosuite's are not made.
NEEDED = {"diffusion_policy/Robomimic-v0": {"env_name": "Lift", "shape_meta": shape_meta("Lift")}}


def test_ids():
    names = {f"diffusion_policy/{name}-v0" for name in ("PushT", "PushTKeypoints", "PushTImage")}
    assert names <= set(ENV_IDS)


@pytest.mark.sim
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_gymnasium_finds_no_fault(env_id):
    if env_id in NEEDED:
        pytest.importorskip("robosuite")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Box observation space m[ai][xn]imum value is -?infinity")
        # Push-T's actions are pixels, as in the published data, so they are not within [-1, 1].
        warnings.filterwarnings("ignore", message=".*recommend using a symmetric and normalized space")
        check_env(gymnasium.make(env_id, **NEEDED.get(env_id, {})).unwrapped)


def test_registering_imports_no_simulator():
    code = "import sys, diffusion_policy.env; print({'pymunk', 'cv2', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("missing", "module"),
    [
        ("gymnasium", "diffusion_policy.env"),
        ("gymnasium", "diffusion_policy.gym_util"),
        ("pymunk", "diffusion_policy.env.pusht.physics"),
        ("cv2", "diffusion_policy.env.pusht.renderer"),
        ("av", "diffusion_policy.common.video_recorder"),
    ],
)
def test_missing_package_names_the_extra(missing, module):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"try:\n    import {module}\nexcept ImportError as error:\n    print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "diffusion_policy[pusht]"' in result.stdout
