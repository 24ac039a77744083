"""Tests of `conditioned`: a transformer under one condition predicts what the transformer does."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from diffusion_policy.model.diffusion.adaln_transformer import AdaLNTransformer
from diffusion_policy.model.diffusion.transformer_for_diffusion import TransformerForDiffusion

T, TO, D, F = 8, 2, 3, 5
SIZES = {"input_dim": D, "horizon": T, "n_layer": 2, "n_head": 2, "n_emb": 16}
TOKENS = partial(TransformerForDiffusion, **SIZES, n_obs_steps=TO, cond_dim=F, causal_attn=True)
NETWORKS = {
    "tokens": TOKENS,
    "tokens, condition layers": partial(TOKENS, n_cond_layers=2),
    "in-painting": partial(TransformerForDiffusion, **SIZES),
    "encoder only": partial(TransformerForDiffusion, **SIZES, time_as_cond=False),
    "adaln": partial(AdaLNTransformer, **SIZES, global_cond_dim=F),
    "adaln, in-painting": partial(AdaLNTransformer, **SIZES),
}


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # some begin at zero
    return network.eval()


def inputs(network: nn.Module, n_rows: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(n_rows, T, D, generator=generator)
    if getattr(network, "cond_dim", 0):
        return sample, {"cond": torch.randn(n_rows, TO, F, generator=generator)}
    if getattr(network, "global_cond_dim", None):
        return sample, {"global_cond": torch.randn(n_rows, F, generator=generator)}
    return sample, {}


def assert_same(network: nn.Module) -> None:
    for n_rows in (3, 1):
        sample, condition = inputs(network, n_rows)
        with torch.inference_mode():
            predict = network.conditioned(**condition)
            for t in (99, 0, 99):
                torch.testing.assert_close(predict(sample, t), network(sample, t, **condition))


@pytest.mark.parametrize("name", NETWORKS)
def test_predicts_what_the_network_does(name: str) -> None:
    assert_same(built(name))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step_is_noticed(name: str) -> None:
    network = built(name)
    assert_same(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    sample, condition = inputs(network)
    network(sample, 3, **condition).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    assert_same(network)


@pytest.mark.parametrize("name", NETWORKS)
def test_loaded_weights_and_copies_are_noticed(name: str) -> None:
    network = built(name)
    assert_same(network)
    other = copy.deepcopy(network)
    other.load_state_dict({key: value + 0.1 for key, value in network.state_dict().items()})
    assert_same(other)
    assert_same(network)


@pytest.mark.parametrize("name", ["tokens", "adaln"])
def test_refuses_what_the_network_refuses(name: str) -> None:
    network = built(name)
    sample, condition = inputs(network)
    with torch.inference_mode():
        with pytest.raises(ValueError, match="must be given"):
            network.conditioned()(sample, 3)
        with pytest.raises(ValueError, match=r"model\.horizon=9"):
            network.conditioned(**condition)(torch.cat((sample, sample[:, :1]), dim=1), 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_pass(name: str) -> None:
    network = built(name)
    sample, condition = inputs(network)
    network.conditioned(**condition)(sample, 3).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
