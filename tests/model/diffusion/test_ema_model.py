"""Tests for ema_model.py."""

import copy

import pytest
import torch
from torch import nn

from diffusion_policy.model.diffusion.ema_model import EMAModel


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4))


def perturb(model: nn.Module) -> None:
    """Change weights and running statistics, as a training step does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.train()(torch.randn(16, 3))


@pytest.mark.parametrize(
    ("n_updates", "decay"),
    [
        (0, 0.0),
        (1, 0.0),
        (2, 0.4054),
        (3, 0.5613),
        (10, 0.8222),
        (100, 0.96838),
        (1000, 0.99438),
        (10_000, 0.999),
        (215_445, 0.9999),
        (10_000_000, 0.9999),
    ],
)
def test_decay_has_the_values_of_the_original(n_updates, decay):
    assert EMAModel(nn.Identity(), power=0.75).decay(n_updates) == pytest.approx(decay, abs=1e-4 / 2)


def test_decay_reaches_its_upper_bound_where_the_original_does():
    ema = EMAModel(nn.Identity(), power=0.75)
    assert ema.decay(215_000) < 0.9999
    assert ema.decay(215_445) == 0.9999


def test_decay_keeps_its_bounds_and_starts_late():
    ema = EMAModel(nn.Identity(), update_after_step=5, min_value=0.5, max_value=0.6)
    assert [ema.decay(n) for n in range(7)] == [0.0] * 7
    assert ema.decay(7) == 0.5
    assert ema.decay(1000) == 0.6


def test_equals_a_plain_loop():
    model = network()
    ema = EMAModel(copy.deepcopy(model), power=0.75)
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for n in range(6):
        perturb(model)
        ema.step(model)
        decay = ema.decay(n)
        for name, parameter in model.named_parameters():
            kept = 0.0 if name.startswith(("1.", "3.")) else decay  # BatchNorm follows the model
            expected[name] = kept * expected[name] + (1 - kept) * parameter.detach()
    assert ema.n_updates == 6
    for name, average in ema.averaged_model.named_parameters():
        torch.testing.assert_close(average, expected[name], msg=name)


def test_average_follows_the_model_in_the_first_two_updates():
    model = network()
    ema = EMAModel(copy.deepcopy(model))
    for _ in range(2):
        perturb(model)
        ema.step(model)
        for name, value in model.state_dict().items():
            assert torch.equal(ema.averaged_model.state_dict()[name], value), name


def test_batch_norm_and_frozen_parameters_and_all_buffers_are_copied():
    model = network()
    model[2].requires_grad_(False)
    model.register_buffer("table", torch.zeros(2))
    ema = EMAModel(copy.deepcopy(model), min_value=0.9)
    ema.n_updates = 100
    perturb(model)
    model.table += 1
    ema.step(model)
    averaged = ema.averaged_model.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(averaged[name], value) == (not name.startswith("0.")), name


def test_a_batch_norm_alone_is_copied():
    model = nn.BatchNorm1d(2)
    ema = EMAModel(copy.deepcopy(model), min_value=0.9)
    ema.n_updates = 100
    with torch.no_grad():
        model.weight += 1
    ema.step(model)
    assert torch.equal(ema.averaged_model.weight, model.weight)


def test_averaged_model_evaluates_and_cannot_be_trained():
    model = network().train()
    ema = EMAModel(copy.deepcopy(model))
    assert not any(module.training for module in ema.averaged_model.modules())
    assert not any(parameter.requires_grad for parameter in ema.averaged_model.parameters())
    ema.step(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_a_model_of_another_shape_is_refused():
    ema = EMAModel(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="shorter|longer"):
        ema.step(nn.Linear(2, 2, bias=False))
