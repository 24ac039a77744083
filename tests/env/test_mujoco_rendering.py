import os
import subprocess
import sys

import pytest

from diffusion_policy.env import mujoco_rendering
from diffusion_policy.env.mujoco_rendering import OffscreenRenderer, choose_opengl, use_fast_quality

SCENE = """
<mujoco><worldbody>
  <light pos="0 0 3"/><camera name="above" pos="0 0 2"/>
  <geom type="plane" size="2 2 .1" rgba=".5 .5 .5 1"/>
  <geom type="box" size=".3 .3 .3" pos="0 0 .3" rgba="1 0 0 1"/>
</worldbody></mujoco>
"""


@pytest.mark.parametrize(
    ("installed", "chosen"), [(("EGL", "OSMesa"), "egl"), (("OSMesa",), "osmesa"), ((), "disable")]
)
def test_the_first_installed_opengl_is_chosen(monkeypatch, installed, chosen):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("MUJOCO_GL", "to be removed")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: name if name in installed else None)
    assert choose_opengl() == chosen == os.environ["MUJOCO_GL"]


def test_what_the_user_chose_stays(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert choose_opengl() == "glfw"


@pytest.mark.sim
@pytest.mark.skipif(mujoco_rendering.choose_opengl() == "disable", reason="neither EGL nor OSMesa is here")
def test_a_camera_sees_a_red_box_on_grey_ground():
    import mujoco

    model = mujoco.MjModel.from_xml_string(SCENE)
    use_fast_quality(model)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with OffscreenRenderer(model, 1000, 800) as renderer:  # larger than MuJoCo's buffer is by default
        image = renderer.render(data, "above")
    assert image.shape == (1000, 800, 3)
    centre, corner = image[500, 400].astype(int), image[5, 5].astype(int)
    assert centre[0] - centre[1:].max() > 80
    assert corner.max() - corner.min() < 10


def test_without_opengl_it_is_said_what_to_install():
    program = (
        "from diffusion_policy.env.mujoco_rendering import OffscreenRenderer\n"
        "import mujoco\n"
        f"OffscreenRenderer(mujoco.MjModel.from_xml_string('''{SCENE}'''), 8, 8)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MUJOCO_GL": "disable"},
        capture_output=True,
        text=True,
    )
    assert "OSError: MuJoCo cannot draw (MUJOCO_GL=disable)" in done.stderr
    assert "apt-get install libegl1 libgl1-mesa-dri" in done.stderr
    assert "before mujoco" not in done.stderr


def test_mujoco_that_was_imported_first_is_named_as_the_reason():
    program = (
        "import mujoco\n"
        "from diffusion_policy.env import mujoco_rendering\n"
        "def fails(*_): raise ValueError('no display')\n"
        "mujoco.Renderer = fails\n"
        f"mujoco_rendering.OffscreenRenderer(mujoco.MjModel.from_xml_string('''{SCENE}'''), 8, 8)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "import diffusion_policy.env.mujoco_rendering before mujoco or robosuite" in done.stderr


def test_an_opengl_that_mujoco_does_not_know_is_refused_with_a_choice():
    done = subprocess.run(
        [sys.executable, "-c", "import diffusion_policy.env.mujoco_rendering"],
        env={**os.environ, "MUJOCO_GL": "eagle"},
        capture_output=True,
        text=True,
    )
    assert "MUJOCO_GL is 'eagle'; unset it, or choose one of egl, osmesa" in done.stderr
