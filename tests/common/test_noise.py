"""Tests for noise.py."""

import pytest
import torch

from diffusion_policy.common import noise
from diffusion_policy.common.noise import own_rows, randn

SHAPE = (3, 4, 2)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_generator_draws_the_batch_as_torch_does():
    assert torch.equal(randn(SHAPE, seeded(1), "cpu"), torch.randn(SHAPE, generator=seeded(1)))


def test_without_a_generator_the_global_one_is_used():
    torch.manual_seed(4)
    expected = torch.randn(SHAPE)
    torch.manual_seed(4)
    assert torch.equal(randn(SHAPE, None, "cpu"), expected)


def test_a_list_draws_every_row_from_its_own():
    rows = randn(SHAPE, [seeded(5), seeded(6), seeded(5)], "cpu")
    assert rows.shape == SHAPE
    assert torch.equal(rows[0], rows[2])
    assert torch.equal(rows[1], torch.randn(SHAPE[1:], generator=seeded(6)))


def test_a_row_goes_on_where_its_generator_stopped_whoever_is_beside_it():
    together = [seeded(0), seeded(1), seeded(2)]
    first = randn(SHAPE, together, "cpu")
    second = randn((1, 4, 2), together[1:2], "cpu")  # the others have ended
    alone = [seeded(1)]
    assert torch.equal(randn((1, 4, 2), alone, "cpu"), first[1:2])
    assert torch.equal(randn((1, 4, 2), alone, "cpu"), second)


@pytest.mark.parametrize("generator", [None, seeded(0), [seeded(0)] * 3], ids=["global", "one", "list"])
def test_type_and_moments(generator):
    drawn = randn((3, 2000), generator, "cpu", torch.float64)
    assert drawn.dtype == torch.float64
    assert abs(drawn[0].mean()) < 5 / 2000**0.5
    assert abs(drawn[0].std() - 1) < 5 / 4000**0.5


@pytest.mark.parametrize("n_generators", [0, 2, 4])
def test_there_must_be_a_generator_for_every_row(n_generators):
    with pytest.raises(ValueError, match=f"one per row: got {n_generators} for 3 rows"):
        randn(SHAPE, [seeded(i) for i in range(n_generators)], "cpu")


def test_a_single_process_keeps_all_rows():
    torch.manual_seed(0)
    expected = torch.randn(5, 2)
    torch.manual_seed(0)
    assert torch.equal(own_rows(lambda n: torch.randn(n, 2), 5), expected)


def test_processes_keep_neighbouring_rows_of_one_draw(monkeypatch):
    parts = []
    monkeypatch.setattr(noise, "world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(noise, "rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        parts.append(own_rows(lambda n: torch.randn(n, 2), 4))
        states_equal = torch.random.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(torch.cat(parts), torch.randn(12, 2))
    assert torch.equal(states_equal, torch.random.get_rng_state())
