"""`diffusion-policy compare`: which of these is better, on equal episode seeds.

    diffusion-policy compare ours=out/d0,out/d1,out/d2 "nearest neighbour=out/nn"      evaluations: a table
    diffusion-policy compare RUN_A RUN_B -o OUT                                        runs: roll out until decided

Each argument is `[NAME=]FOLDER[,FOLDER...]`: evaluations of one method (`eval.py`), one per training seed, all on the
same episode seeds; methods are compared with the first one, episode by episode. Two runs or checkpoints instead are
rolled out in batches until one is better or both are equal within the margin. The result may be looked at after
every batch: the interval that decides is right whenever one stops.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffusion_policy.cli import report_user_errors
from diffusion_policy.common.evaluation_seeds import SELECTION_SEEDS, parse_seeds
from diffusion_policy.scripts.comparison import (
    EPISODES,
    MARGIN,
    Method,
    markdown,
    method_of,
    read_method,
    split_name,
)


def compare(options: argparse.Namespace) -> list[Method]:
    """Read the evaluations, or make them."""
    named = [split_name(text) for text in options.method]
    if all((Path(path) / EPISODES).is_file() for _, paths in named for path in paths):
        return [read_method(text) for text in options.method]
    if len(named) != 2 or any(len(paths) != 1 for _, paths in named):
        return [read_method(text) for text in options.method]  # whose error says what is missing
    if options.output_dir is None:
        raise ValueError("comparing runs rolls them out: say where to keep the episodes with -o OUT")
    return _roll_out(options, named)


def _roll_out(options: argparse.Namespace, named: Sequence[tuple[str, list[str]]]) -> list[Method]:
    from diffusion_policy.scripts.sequential_comparison import compare_sequentially

    (name_a, (path_a,)), (name_b, (path_b,)) = named
    comparison = compare_sequentially(
        (path_a, path_b),
        options.output_dir,
        parse_seeds(options.seeds) if options.seeds else SELECTION_SEEDS,
        metric=options.metric,
        margin=options.margin,
        batch=options.batch,
        device=options.device,
        trusted_targets=options.trust_target,
    )
    print(comparison)
    return [
        method_of(name, [result]) for name, result in zip((name_a, name_b), comparison.results, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description="Compare policies on equal episode seeds.")
    parser.add_argument("method", nargs="+", help="[NAME=]FOLDER[,FOLDER...]: evaluations, or two runs")
    parser.add_argument(
        "-o", "--output_dir", type=Path, help="for compare.md, compare.html and episodes of runs"
    )
    parser.add_argument(
        "--metric", choices=["score", "success"], default="score", help="that decides between runs"
    )
    parser.add_argument("--margin", type=float, default=MARGIN, help="differences within +- this are equal")
    parser.add_argument("--seeds", help="START:STOP for runs; default: the 200 selection seeds")
    parser.add_argument("--batch", type=int, default=50, help="episodes between two looks")
    parser.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    parser.add_argument(
        "--trust-target", action="append", default=[], help="a name the checkpoints may build"
    )
    options = parser.parse_args(arguments)

    def run() -> None:
        methods = compare(options)
        print(markdown(methods))

    report_user_errors(run)


if __name__ == "__main__":
    main()
