"""Logs of MuJoCo HAPTIX."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.dataset.mjl_format import read_mjl
from tests.dataset.kitchen_episodes import write_log


@given(
    sizes=st.tuples(*[st.integers(1, 9)] * 3, *[st.integers(0, 3)] * 3),
    n_steps=st.integers(1, 90),
    every=st.integers(1, 50),
    name=st.binary(max_size=7),
)
def test_any_layout(tmp_path_factory, sizes, n_steps, every, name):
    path = tmp_path_factory.getbasetemp() / "any.mjl"
    records = write_log(path, n_steps, sizes, name)[::every]
    log = read_mjl(path, every)
    nq, nv, nu = sizes[:3]
    np.testing.assert_array_equal(log.time, records[:, 0])
    np.testing.assert_array_equal(log.qpos, records[:, 1 : 1 + nq])
    np.testing.assert_array_equal(log.qvel, records[:, 1 + nq : 1 + nq + nv])
    np.testing.assert_array_equal(log.ctrl, records[:, 1 + nq + nv : 1 + nq + nv + nu])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: b"", "has 0 bytes, less than the header"),
        (lambda content: content[:20], "has 20 bytes, less than the header"),
        (
            lambda content: content[:-3],
            "is cut off or damaged: 20085 bytes follow its header, no multiple of the 324",
        ),
        (lambda content: content[: 28 + 9], "is cut off or damaged: 0 bytes"),
        (lambda content: b"PK\3\4" + content[4:], "is no .mjl log: it begins with the sizes"),
        (lambda content: b"\xff" * 4 + content[4:], r"is no .mjl log: it begins with the sizes \[-1, 29, 9"),
        (lambda content: b"\0" * 28 + content[28:], "is no .mjl log"),
        (lambda content: content[:4] + b"\x20" + content[5:], "is cut off or damaged"),
    ],
)
def test_damage_is_named(tmp_path: Path, spoil, message):
    path = tmp_path / "friday_kettle.mjl"
    write_log(path, n_steps=62)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match=f"friday_kettle.mjl {message}"):
        read_mjl(path, 40)
