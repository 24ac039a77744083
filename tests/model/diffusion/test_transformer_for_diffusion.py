"""Tests for transformer_for_diffusion.py."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion_policy.model.diffusion.transformer_for_diffusion import TransformerForDiffusion

T, TO, D, F = 6, 3, 2, 5
SMALL: dict[str, Any] = {
    "input_dim": D,
    "horizon": T,
    "n_obs_steps": TO,
    "n_layer": 2,
    "n_head": 2,
    "n_emb": 8,
    "p_drop_emb": 0.0,
    "p_drop_attn": 0.0,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "tokens": {"cond_dim": F},
    "tokens-causal": {"cond_dim": F, "causal_attn": True},
    "condition-layers": {"cond_dim": F, "n_cond_layers": 1, "causal_attn": True},
    "no-observations": {},
    "no-observations-causal": {"causal_attn": True},
    "encoder-only": {"time_as_cond": False},
    "encoder-only-causal": {"time_as_cond": False, "causal_attn": True},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)
causal_ones = pytest.mark.parametrize("variant", [name for name in VARIANTS if "causal" in name])


def transformer(variant: str = "tokens", **kwargs: Any) -> TransformerForDiffusion:
    torch.manual_seed(0)
    network = TransformerForDiffusion(**{**SMALL, **VARIANTS[variant], **kwargs})
    with torch.no_grad():
        for parameter in network.parameters():  # far from the beginning, where attention sees little
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return network


def inputs(network: TransformerForDiffusion, n_rows: int = 3, n_steps: int = T) -> dict[str, Tensor]:
    torch.manual_seed(1)
    given = {"sample": torch.randn(n_rows, n_steps, D), "timestep": torch.arange(n_rows) * 7}
    if network.cond_dim:
        given["cond"] = torch.randn(n_rows, network.n_obs_steps, network.cond_dim)
    return given


def n_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Weights: those of the original


def test_paper_networks_have_the_published_sizes():
    with torch.device("meta"):  # sizes without memory
        pusht = TransformerForDiffusion(2, 2, 16, 2, 20, n_layer=8, n_head=4, n_emb=256, causal_attn=True)
        kitchen = TransformerForDiffusion(9, 9, 16, 4, 60, n_layer=8, n_head=4, n_emb=768, causal_attn=True)
    assert (n_parameters(pusht), n_parameters(kitchen)) == (8_965_122, 80_415_753)


def test_masks_are_no_weights():
    names = set(transformer("tokens-causal").state_dict())
    assert {
        "pos_emb",
        "cond_pos_emb",
        "encoder.2.bias",
        "decoder.layers.1.multihead_attn.in_proj_weight",
    } <= names
    assert not {"mask", "memory_mask"} & names


def test_weights_begin_small_and_biases_at_zero():
    torch.manual_seed(0)
    network = TransformerForDiffusion(2, cond_dim=20, n_layer=2, n_head=4, n_emb=256)
    for name, parameter in network.named_parameters():
        if "norm" in name or name.startswith("ln_f"):
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight")))), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
    assert TransformerForDiffusion(2, n_layer=1, n_head=2, n_emb=8).cond_pos_emb is not None
    assert not TransformerForDiffusion(2, n_layer=1, n_head=2, n_emb=8).cond_pos_emb.any()


@every_variant
def test_groups_part_all_weights(variant):
    network = transformer(variant)
    grouped = [id(p) for group in network.param_groups() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())


# Forward


@every_variant
def test_prediction_has_the_shape_of_the_trajectory(variant):
    network = transformer(variant)
    assert network(**inputs(network)).shape == (3, T, D)
    assert transformer(variant, output_dim=4)(**inputs(network)).shape == (3, T, 4)


@every_variant
def test_evaluation_without_gradients_predicts_the_same(variant):
    """There torch takes other kernels."""
    network = transformer(variant)
    expected = network(**inputs(network))
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(**inputs(network)), expected, rtol=1e-4, atol=1e-5)


@every_variant
def test_one_integer_is_the_timestep_of_every_row(variant):
    network = transformer(variant)
    given = inputs(network)
    by_row = network(**{**given, "timestep": torch.full((3,), 5)})
    for timestep in (5, torch.tensor(5), torch.tensor([5])):
        assert torch.equal(network(**{**given, "timestep": timestep}), by_row)
    assert not torch.equal(network(**{**given, "timestep": 6}), by_row)


@every_variant
def test_rows_do_not_see_each_other(variant):
    network = transformer(variant)
    given = inputs(network)
    together = network(**given)
    for i in range(3):
        alone = network(**{name: value[i : i + 1] for name, value in given.items()})
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


@every_variant
def test_gradients_reach_every_weight(variant):
    network = transformer(variant, n_head=1)
    network(**inputs(network)).square().mean().backward()
    zero = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert not zero


@every_variant
def test_a_step_of_a_causal_trunk_sees_no_later_one(variant):
    network = transformer(variant).eval()
    given = inputs(network)
    sample = given["sample"].requires_grad_()
    is_causal = VARIANTS[variant].get("causal_attn", False)
    for step in range(T):
        (gradient,) = torch.autograd.grad(network(**given)[:, step].sum(), sample)
        seen = gradient.abs().sum(dim=(0, 2)) > 0
        assert seen.tolist() == [not is_causal or other <= step for other in range(T)]


@pytest.mark.parametrize("variant", ["tokens", "tokens-causal"])
def test_a_step_of_a_causal_trunk_sees_observations_up_to_its_own(variant):
    network = transformer(variant).eval()
    given = inputs(network)
    cond = given["cond"].requires_grad_()
    for step in range(T):
        (gradient,) = torch.autograd.grad(network(**given)[:, step].sum(), cond)
        seen = gradient.abs().sum(dim=(0, 2)) > 0
        assert seen.tolist() == [variant == "tokens" or k <= step for k in range(TO)]


def test_nothing_hidden_needs_no_mask():
    assert transformer("tokens").mask is None
    assert transformer("tokens").memory_mask is None
    assert transformer("tokens-causal", n_obs_steps=1).memory_mask is None
    assert transformer("no-observations-causal").memory_mask is None
    assert transformer("no-observations-causal", horizon=1).mask is None
    assert transformer("encoder-only-causal").mask is not None


@every_variant
def test_dropout_is_drawn_in_training_alone(variant):
    network = transformer(variant, p_drop_emb=0.5)
    given = inputs(network)
    assert not torch.equal(network.train()(**given), network(**given))
    assert torch.equal(network.eval()(**given), network(**given))


def test_survives_copying_and_half_precision():
    network = transformer("tokens-causal").eval()
    given = inputs(network)
    expected = network(**given)
    assert torch.equal(copy.deepcopy(network)(**given), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network(**given).float(), expected, rtol=0.1, atol=0.1)
    double = {name: value.double() if value.is_floating_point() else value for name, value in given.items()}
    torch.testing.assert_close(network.double()(**double).float(), expected, rtol=1e-4, atol=1e-5)


# Refusals


def test_observation_tokens_need_condition_tokens():
    with pytest.raises(ValueError, match=r"cond_dim=5 needs time_as_cond=True.*InpaintConditioning"):
        transformer("encoder-only", cond_dim=F)


@pytest.mark.parametrize("n_head", [0, 3])
def test_tokens_must_split_into_heads(n_head):
    with pytest.raises(
        ValueError, match=f"n_emb must be a multiple of n_head, got n_emb=8 and n_head={n_head}"
    ):
        transformer(n_head=n_head)


@causal_ones
@pytest.mark.parametrize("n_steps", [T - 1, T + 1])
def test_a_causal_trunk_has_its_length(variant, n_steps):
    network = transformer(variant)
    with pytest.raises(ValueError, match=rf"has {n_steps} steps.*horizon={T}.*set model.horizon={n_steps}"):
        network(**inputs(network, n_steps=n_steps))


@pytest.mark.parametrize("variant", ["tokens", "no-observations", "encoder-only"])
def test_another_trunk_may_be_shorter(variant):
    network = transformer(variant)
    assert network(**inputs(network, n_steps=T - 2)).shape == (3, T - 2, D)
    with pytest.raises(ValueError, match=r"no more positions: set model.horizon=7"):
        network(**inputs(network, n_steps=T + 1))


def test_observation_tokens_have_their_number():
    causal, free = transformer("tokens-causal"), transformer("tokens")
    given = inputs(free)
    fewer = {**given, "cond": given["cond"][:, :2]}
    assert free(**fewer).shape == (3, T, D)
    with pytest.raises(ValueError, match=r"has 2 steps.*n_obs_steps=3.*set model.n_obs_steps=2"):
        causal(**fewer)


def test_observations_must_be_given_exactly_where_the_network_has_them():
    network = transformer()
    given = inputs(network)
    with pytest.raises(ValueError, match="cond must not be given.*cond_dim=0"):
        transformer("no-observations")(**given)
    del given["cond"]
    with pytest.raises(ValueError, match="cond must be given.*cond_dim=5"):
        network(**given)
