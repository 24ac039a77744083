"""Tests for conditional_unet1d.py."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D
from diffusion_policy.model.diffusion.conv1d_components import ConditionalResidualBlock1D

SMALL = {"diffusion_step_embed_dim": 8, "down_dims": (8, 16), "cond_predict_scale": True}
CONDITIONINGS = {
    "none": {},
    "global": {"global_cond_dim": 6},
    "local-both": {"local_cond_dim": 4},
    "local-input": {"local_cond_dim": 4, "local_cond_at": "input"},
    "global-and-local": {"global_cond_dim": 6, "local_cond_dim": 4},
}


def unet(conditioning: str = "global", **kwargs) -> ConditionalUnet1D:
    torch.manual_seed(0)
    return ConditionalUnet1D(3, **{**SMALL, **CONDITIONINGS[conditioning], **kwargs})


def inputs(network: ConditionalUnet1D, n_rows: int = 2, horizon: int = 8) -> dict[str, Tensor]:
    torch.manual_seed(1)
    given = {"sample": torch.randn(n_rows, horizon, 3), "timestep": torch.arange(n_rows) * 7}
    if network.global_cond_dim is not None:
        given["global_cond"] = torch.randn(n_rows, network.global_cond_dim)
    if network.local_cond_dim is not None:
        given["local_cond"] = torch.randn(n_rows, horizon, network.local_cond_dim)
    return given


def n_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Weights: those of the original


def paper_unet(**kwargs) -> ConditionalUnet1D:
    with torch.device("meta"):  # sizes without memory
        return ConditionalUnet1D(2, kernel_size=5, cond_predict_scale=True, **kwargs)


def test_paper_network_has_the_published_size():
    network = paper_unet(global_cond_dim=40)
    assert n_parameters(network) == 65_783_298
    assert len(network.state_dict()) == 148


def test_hybrid_image_network_has_the_published_size():
    network = paper_unet(global_cond_dim=132, diffusion_step_embed_dim=128, down_dims=(512, 1024, 2048))
    assert n_parameters(network) == 251_511_938


def test_local_network_has_the_published_size_only_with_both_encoders():
    both, first = paper_unet(local_cond_dim=20), paper_unet(local_cond_dim=20, local_cond_at="input")
    assert n_parameters(both) == 66_193_410
    assert both.local_cond_encoder is not None
    assert n_parameters(both) - n_parameters(first) == n_parameters(both.local_cond_encoder[1])


def test_parameters_are_registered_in_the_order_that_optimizer_states_refer_to():
    parts = dict.fromkeys(name.split(".")[0] for name, _ in unet("global-and-local").named_parameters())
    assert list(parts) == [
        "mid_modules",
        "diffusion_step_encoder",
        "local_cond_encoder",
        "up_modules",
        "down_modules",
        "final_conv",
    ]


def test_weights_have_the_names_of_the_original():
    names = set(unet("local-both").state_dict())
    assert {
        "mid_modules.1.blocks.0.block.0.weight",
        "down_modules.0.0.cond_encoder.1.bias",
        "down_modules.0.0.residual_conv.weight",
        "down_modules.0.2.conv.weight",
        "up_modules.0.2.conv.bias",
        "local_cond_encoder.1.blocks.1.block.1.weight",
        "diffusion_step_encoder.3.weight",
        "final_conv.0.block.1.weight",
        "final_conv.1.bias",
    } <= names
    assert "down_modules.0.1.residual_conv.weight" not in names  # equal sizes: no weights
    assert "down_modules.1.2.conv.weight" not in names  # the last level is not halved


# The residual block


@pytest.mark.parametrize("cond_predict_scale", [True, False])
@pytest.mark.parametrize("out_channels", [8, 16])
def test_residual_block_is_its_formula(cond_predict_scale, out_channels):
    torch.manual_seed(0)
    block = ConditionalResidualBlock1D(8, out_channels, 5, 3, 4, cond_predict_scale)
    x, cond = torch.randn(2, 8, 6), torch.randn(2, 5)

    def conv_block(name: str, h: Tensor) -> Tensor:
        conv, norm = block.get_submodule(f"{name}.block.0"), block.get_submodule(f"{name}.block.1")
        h = functional.conv1d(h, conv.weight, conv.bias, padding=1)
        return functional.mish(functional.group_norm(h, 4, norm.weight, norm.bias))

    modulation = block.cond_encoder[1](functional.mish(cond))[..., None]
    h = conv_block("blocks.0", x)
    scale, bias = modulation.split(out_channels, dim=1) if cond_predict_scale else (1, modulation)
    h = scale * h + bias
    residual = x if out_channels == 8 else block.residual_conv(x)
    torch.testing.assert_close(block(x, block.modulation(cond)), conv_block("blocks.1", h) + residual)


# Forward


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize(
    ("down_dims", "horizons"), [((8,), (1, 5)), ((8, 16), (2, 8, 10)), ((8, 16, 24), (4, 8, 12, 16))]
)
def test_prediction_has_the_shape_of_the_trajectory(conditioning, down_dims, horizons):
    network = unet(conditioning, down_dims=down_dims)
    for horizon in horizons:
        given = inputs(network, n_rows=3, horizon=horizon)
        assert network(**given).shape == (3, horizon, 3)


@pytest.mark.parametrize(
    ("down_dims", "horizon", "factor", "next_horizon"),
    [((8, 16), 7, 2, 8), ((8, 16, 24), 10, 4, 12), ((8, 16, 24), 2, 4, 4)],
)
def test_a_horizon_that_cannot_be_halved_is_refused_with_the_next_that_can(
    down_dims, horizon, factor, next_horizon
):
    network = unet("none", down_dims=down_dims)
    with pytest.raises(
        ValueError, match=rf"horizon {horizon} .* multiple of {factor}\. Use horizon {next_horizon},"
    ):
        network(**inputs(network, horizon=horizon))


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_rows_do_not_see_each_other(conditioning):
    network = unet(conditioning).eval()
    given = inputs(network, n_rows=4)
    together = network(**given)
    for i in range(4):
        alone = network(**{name: value[i : i + 1] for name, value in given.items()})
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def test_one_integer_is_the_timestep_of_every_row():
    network = unet()
    given = inputs(network)
    by_row = network(**{**given, "timestep": torch.tensor([5, 5])})
    for timestep in (5, torch.tensor(5), torch.tensor([5])):
        assert torch.equal(network(**{**given, "timestep": timestep}), by_row)
    assert not torch.equal(network(**{**given, "timestep": 6}), by_row)


@pytest.mark.parametrize("conditioning", [name for name in CONDITIONINGS if name != "local-input"])
def test_gradients_reach_every_weight(conditioning):
    network = unet(conditioning)
    network(**inputs(network)).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_gradients_reach_every_weight_with_local_features_at_the_input():
    network = unet("local-input")
    network(**inputs(network)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("conditioning", ["global", "local-both", "local-input", "global-and-local"])
def test_every_condition_matters(conditioning):
    network = unet(conditioning)
    given = inputs(network)
    for name in given:
        changed = {**given, name: given[name] + 1}
        assert not torch.allclose(network(**given), network(**changed)), name


@pytest.mark.parametrize("name", ["global_cond", "local_cond"])
def test_conditions_must_be_given_exactly_where_the_network_has_them(name):
    with_condition = unet(name.removesuffix("_cond") + ("-both" if name == "local_cond" else ""))
    without = unet("none")
    given = inputs(with_condition)
    with pytest.raises(ValueError, match=rf"{name} must not be given.*{name}_dim=None"):
        without(**given)
    del given[name]
    with pytest.raises(ValueError, match=rf"{name} must be given.*{name}_dim=\d"):
        with_condition(**given)


@pytest.mark.parametrize(("argument", "value"), [("local_cond_at", "output"), ("kernel_size", 4)])
def test_a_wrong_argument_is_named_with_its_value(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be .*{value}"):
        unet("local-both", **{argument: value})
