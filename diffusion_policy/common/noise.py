"""Gaussian noise that belongs to episodes and to global batches, whoever shares the batch or the machine."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffusion_policy.common.distributed import rank, world_size

Generators = torch.Generator | Sequence[torch.Generator] | None


def randn(
    shape: Sequence[int],
    generator: Generators,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw standard normal noise of `shape` (B, ...).

    Args:
        shape: of the result.
        generator: None draws from torch's global generator of `device`; one generator serves the whole batch;
            a list holds one per row, so that a row's noise does not depend on its neighbours. Noise is drawn
            on the generator's own device and then moved.
        device, dtype: of the result.
    """
    if generator is None:
        return torch.randn(*shape, device=device, dtype=dtype)
    if isinstance(generator, torch.Generator):
        return torch.randn(*shape, generator=generator, device=generator.device, dtype=dtype).to(device)
    if len(generator) != shape[0]:
        raise ValueError(f"generator must hold one per row: got {len(generator)} for {shape[0]} rows")
    rows = [torch.randn(*shape[1:], generator=g, device=g.device, dtype=dtype) for g in generator]
    return torch.stack(rows).to(device)  # (B, ...)


def rand(n_rows: int, n_columns: int, generator: Generators) -> Tensor:
    """Draw uniform numbers in [0, 1), (n_rows, n_columns) on the CPU; `generator` as in `randn`.

    From the global generator, each process draws for the batch of all processes, and keeps its own rows.
    """
    if generator is None:
        return own_rows(lambda n: torch.rand(n, n_columns), n_rows)
    if isinstance(generator, torch.Generator):
        return torch.rand(n_rows, n_columns, generator=generator, device=generator.device).cpu()
    rows = [torch.rand(n_columns, generator=g, device=g.device).cpu() for g in generator]
    return torch.stack(rows)  # (n_rows, n_columns)


def own_rows(draw: Callable[[int], Tensor], n_rows: int) -> Tensor:
    """Draw for the batch of all processes and keep this process's rows.

    Every process has the same generator state and draws the same numbers; so a run's noise does not depend on
    how many processes share its batch.

    Args:
        draw: called with the number of rows of the global batch; returns a tensor with that many rows.
        n_rows: rows of this process's part; all processes have equally many.
    """
    start = rank() * n_rows
    return draw(world_size() * n_rows)[start : start + n_rows]
