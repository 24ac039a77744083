"""Every recorded case of the original implementation, and proof that the checks can fail."""

from pathlib import Path

import numpy as np
import pytest

from tests.compat.golden_case import NOT_YET, GoldenCase, check, golden_paths

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", golden_paths(), ids=lambda path: path.stem)
def test_agrees_with_the_original(path: Path) -> None:
    for kind, reason in NOT_YET.items():
        if path.stem.startswith(kind):
            pytest.skip(reason)
    check(GoldenCase.load(path))


def _case(prefix: str) -> GoldenCase:
    for path in golden_paths():
        if path.stem.startswith(prefix):
            return GoldenCase.load(path)
    pytest.skip(f"no golden case {prefix}*")


@pytest.mark.parametrize("prefix", ["unet1d_local", "policy_unet_global_ddpm", "policy_unet_global_ddim"])
def test_a_perturbed_weight_is_noticed(prefix: str) -> None:
    case = _case(prefix)
    name = next(key for key in case.arrays if key.endswith("mid_modules.0.blocks.0.block.0.weight"))
    case.arrays[name] = case.arrays[name] * np.float32(1.01)
    with pytest.raises(AssertionError, match="not close"):
        check(case)


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_weights_without_a_home_are_refused(change: str) -> None:
    case = _case("unet1d_local")
    if change == "missing":
        del case.arrays["sd/final_conv.1.weight"]
    else:
        case.arrays["sd/final_conv.2.weight"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="final_conv"):
        check(case)


def test_other_arguments_give_another_result() -> None:
    case = _case("policy_unet_global_ddpm")
    case.meta["policy"]["num_inference_steps"] = 50
    with pytest.raises(AssertionError, match="not close"):
        check(case)
