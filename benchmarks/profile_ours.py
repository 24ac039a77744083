"""Show where the time of a measure goes.

    python benchmarks/profile_ours.py train_paper --data ZARR --threads 1

For what torch computes: floating-point operations per call, their rate beside that of a square matrix product, and
the operators that take longest. For all else: the Python functions that take longest.
"""

import cProfile
import math
import pstats
import time
from collections.abc import Callable, Sequence

import measuring
import torch
from measure_ours import Ours
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

SIDE = 1024


def fastest(call: Callable[[], object], n: int = 5) -> float:
    """Seconds of the fastest of `n` calls, after one to warm up."""
    call()
    durations = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return min(durations)


def convolution_operations(
    x: Sequence[int], weight: Sequence[int], *_: object, out_shape: Sequence[int], **__: object
) -> int:
    """Of weights (C_out, C_in, 1, K) applied to (B, C_in, 1, T)."""
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


def transposed_convolution_operations(
    x: Sequence[int], weight: Sequence[int], *_: object, **__: object
) -> int:
    """Of weights (C_in, C_out, 1, K) applied to (B, C_in, 1, T)."""
    return 2 * math.prod(x) * math.prod(weight[1:])


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of a call: those that torch counts, and those of packed convolutions."""
    packed = {
        torch.ops.mkldnn._convolution_pointwise: convolution_operations,
        torch.ops.mkldnn._convolution_transpose_pointwise: transposed_convolution_operations,
    }
    with FlopCounterMode(display=False, custom_mapping=packed) as counter:
        call()
    return counter.get_total_flops()


def main() -> None:
    chosen = measuring.options(__doc__.splitlines()[0])
    torch.set_num_threads(chosen.threads)
    work = measuring.MEASURES[chosen.measure].prepare(Ours(chosen.data), measuring.Sizes())
    seconds, count = fastest(work.call), operations(work.call)
    if count == 0:
        profiler = cProfile.Profile()
        profiler.runcall(work.call)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(12)
        return
    square = torch.randn(SIDE, SIDE)
    matmul = 2 * SIDE**3 / fastest(lambda: square @ square)
    print(f"{count / 1e9:.3g} GFLOP in {seconds:.3g} s: {count / seconds / 1e9:.3g} GFLOP/s")
    print(f"a product of {SIDE} x {SIDE} matrices: {matmul / 1e9:.3g} GFLOP/s")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work.call()
    print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=12))


if __name__ == "__main__":
    main()
