"""Tests for adaln_transformer.py."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from diffusion_policy.model.diffusion.adaln_transformer import AdaLNBlock, AdaLNTransformer

T, D, G = 6, 2, 5
VARIANTS: dict[str, dict[str, Any]] = {
    "global": {"global_cond_dim": G},
    "global-causal": {"global_cond_dim": G, "causal_attn": True},
    "none": {},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def transformer(variant: str = "global", is_fresh: bool = False, **kwargs: Any) -> AdaLNTransformer:
    torch.manual_seed(0)
    sizes = {"horizon": T, "n_layer": 2, "n_head": 2, "n_emb": 8}
    network = AdaLNTransformer(D, **{**sizes, **VARIANTS[variant], **kwargs})
    if not is_fresh:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return network


def inputs(network: AdaLNTransformer, n_rows: int = 3, n_steps: int = T) -> dict[str, Tensor]:
    torch.manual_seed(1)
    given = {"sample": torch.randn(n_rows, n_steps, D), "timestep": torch.arange(n_rows) * 7}
    if network.global_cond_dim is not None:
        given["global_cond"] = torch.randn(n_rows, network.global_cond_dim)
    return given


def test_a_fresh_block_is_the_identity():
    torch.manual_seed(0)
    x = torch.randn(3, T, 8)
    assert torch.equal(AdaLNBlock(8, 2, 0.0, is_causal=False)(x, torch.randn(3, 8)), x)


@pytest.mark.parametrize("is_causal", [True, False])
def test_a_block_is_its_formula(is_causal):
    torch.manual_seed(0)
    block = AdaLNBlock(8, 2, 0.0, is_causal)
    torch.nn.init.normal_(block.modulation[1].weight)
    torch.nn.init.normal_(block.modulation[1].bias)
    x, cond = torch.randn(3, T, 8), torch.randn(3, 8)
    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(cond)[:, None].split(8, dim=-1)
    hidden = torch.ones(T, T).triu(1).bool() if is_causal else torch.zeros(T, T).bool()

    h = functional.layer_norm(x, (8,)) * (1 + scale1) + shift1
    query, key, value = block.qkv(h).split(8, dim=-1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        score = query[..., head] @ key[..., head].transpose(1, 2) / 2
        heads.append(score.masked_fill(hidden, -torch.inf).softmax(dim=-1) @ value[..., head])
    expected = x + gate1 * block.proj(torch.cat(heads, dim=-1))
    h = functional.layer_norm(expected, (8,)) * (1 + scale2) + shift2
    expected = expected + gate2 * block.mlp[3](functional.gelu(block.mlp[0](h)))
    torch.testing.assert_close(block(x, cond), expected)


@every_variant
def test_a_fresh_network_predicts_zero(variant):
    network = transformer(variant, is_fresh=True)
    assert not network(**inputs(network)).any()


@every_variant
def test_prediction_has_the_shape_of_the_trajectory(variant):
    network = transformer(variant)
    for n_steps in (1, T):
        assert network(**inputs(network, n_steps=n_steps)).shape == (3, n_steps, D)


@every_variant
def test_gradients_reach_every_weight(variant):
    network = transformer(variant)
    network(**inputs(network)).square().mean().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@every_variant
def test_groups_part_all_weights(variant):
    network = transformer(variant)
    grouped = [id(p) for group in network.param_groups() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())


@every_variant
def test_a_step_of_a_causal_trunk_sees_no_later_one(variant):
    network = transformer(variant)
    given = inputs(network)
    sample = given["sample"].requires_grad_()
    for step in range(T):
        (gradient,) = torch.autograd.grad(network(**given)[:, step].sum(), sample)
        seen = gradient.abs().sum(dim=(0, 2)) > 0
        assert seen.tolist() == [variant != "global-causal" or other <= step for other in range(T)]


def test_every_condition_matters():
    network = transformer()
    given = inputs(network)
    for name in given:
        changed = {**given, name: given[name] + 1}
        assert not torch.allclose(network(**given), network(**changed)), name


def test_one_integer_is_the_timestep_of_every_row():
    network = transformer()
    given = inputs(network)
    by_row = network(**{**given, "timestep": torch.full((3,), 5)})
    for timestep in (5, torch.tensor(5), torch.tensor([5])):
        assert torch.equal(network(**{**given, "timestep": timestep}), by_row)


def test_dropout_is_drawn_in_training_alone():
    network = transformer(p_drop_attn=0.5)
    given = inputs(network)
    assert not torch.equal(network.train()(**given), network(**given))
    assert torch.equal(network.eval()(**given), network(**given))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="n_emb must be a multiple of n_head, got n_emb=8 and n_head=3"):
        transformer(n_head=3)
    network = transformer()
    with pytest.raises(ValueError, match=r"7 steps.*horizon=6: set model.horizon=7"):
        network(**inputs(network, n_steps=T + 1))
    given = inputs(network)
    with pytest.raises(ValueError, match="global_cond must not be given.*global_cond_dim=None"):
        transformer("none")(**given)
    del given["global_cond"]
    with pytest.raises(ValueError, match="global_cond must be given.*global_cond_dim=5"):
        network(**given)
