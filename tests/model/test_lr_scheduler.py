"""Tests for lr_scheduler.py."""

import io
import math

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from diffusion_policy.model.common.lr_scheduler import get_scheduler

RATE = 0.3


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)


def rates(scheduler: LambdaLR, n_steps: int) -> list[float]:
    """Learning rate of optimizer steps 0, 1, ..."""
    found = []
    for _ in range(n_steps):
        found.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("name", "theirs"), [("cosine", "cosine"), ("linear", "linear"), ("constant", "constant_with_warmup")]
)
@pytest.mark.parametrize("n_warmup", [0, 1, 7])
def test_agrees_with_diffusers(name, theirs, n_warmup):
    optimization = pytest.importorskip("diffusers.optimization")
    reference = optimization.get_scheduler(
        theirs, optimizer(), num_warmup_steps=n_warmup, num_training_steps=40
    )
    ours = get_scheduler(name, optimizer(), n_warmup, 40)
    assert rates(ours, 40) == pytest.approx(rates(reference, 40), rel=1e-12, abs=1e-15)


def test_warms_up_linearly_then_falls_as_a_cosine():
    found = rates(get_scheduler("cosine", optimizer(), 10, 110), 110)
    assert found[:11] == pytest.approx([RATE * k / 10 for k in range(11)])
    assert found[10:] == pytest.approx([RATE * (1 + math.cos(math.pi * k / 100)) / 2 for k in range(100)])


@pytest.mark.parametrize(("name", "end"), [("cosine", 0), ("linear", 0), ("constant", RATE)])
def test_stays_where_it_ended(name, end):
    assert rates(get_scheduler(name, optimizer(), 2, 10), 30)[10:] == pytest.approx([end] * 20, abs=1e-12)


def test_a_run_shorter_than_its_warm_up_only_warms_up():
    assert rates(get_scheduler("cosine", optimizer(), 10, 5), 5) == pytest.approx(
        [RATE * k / 10 for k in range(5)]
    )


def test_continues_from_a_saved_state():
    whole = rates(get_scheduler("cosine", optimizer(), 3, 20), 20)
    first = get_scheduler("cosine", optimizer(), 3, 20)
    rates(first, 8)
    file = io.BytesIO()
    torch.save([first.state_dict(), first.optimizer.state_dict()], file)
    file.seek(0)
    scheduler_state, optimizer_state = torch.load(file, weights_only=True)
    second = get_scheduler("cosine", optimizer(), 3, 20)
    second.optimizer.load_state_dict(optimizer_state)
    second.load_state_dict(scheduler_state)
    assert rates(second, 12) == whole[8:]


def test_an_unknown_name_is_refused_with_those_known():
    with pytest.raises(ValueError, match=r"one of \['constant', 'cosine', 'linear'\], got 'step'"):
        get_scheduler("step", optimizer(), 0, 10)
