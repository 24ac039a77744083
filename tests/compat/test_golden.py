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


@pytest.mark.parametrize(
    ("prefix", "weight"),
    [
        ("unet1d_local", "mid_modules.0.blocks.0.block.0.weight"),
        ("policy_unet_global_ddpm", "mid_modules.0.blocks.0.block.0.weight"),
        ("policy_unet_global_ddim", "mid_modules.0.blocks.0.block.0.weight"),
        ("transformer_obs_cond", "decoder.layers.0.linear1.weight"),
        ("policy_transformer_ddpm", "decoder.layers.0.linear1.weight"),
    ],
)
def test_a_perturbed_weight_is_noticed(prefix: str, weight: str) -> None:
    case = _case(prefix)
    name = next(key for key in case.arrays if key.endswith(weight))
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


def test_another_optimizer_group_is_noticed() -> None:
    case = _case("transformer_obs_cond")
    decayed, others = case.meta["optim_groups"]
    others["params"].append(decayed["params"].pop())
    with pytest.raises(AssertionError, match="optimizer groups"):
        check(case)


def test_another_training_is_noticed() -> None:
    case = _case("train_transformer_")
    case.meta["steps"] = 12
    case.meta["model"]["p_drop_attn"] /= 2
    with pytest.raises(AssertionError, match="step="):
        check(case)
