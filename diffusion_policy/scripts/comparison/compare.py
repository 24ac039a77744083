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
from typing import TYPE_CHECKING

from diffusion_policy.common.evaluation_seeds import SELECTION_SEEDS, parse_seeds
from diffusion_policy.common.user_errors import report_user_errors
from diffusion_policy.scripts.comparison.methods import (
    MARGIN,
    Table,
    difference_table,
    method_of,
    read_method,
    score_table,
    split_name,
)
from diffusion_policy.scripts.evaluation_files import EPISODES

if TYPE_CHECKING:
    from diffusion_policy.scripts.comparison.sequential import SequentialComparison


def compare(options: argparse.Namespace) -> tuple[Table, "SequentialComparison | None"]:
    """Read evaluations, or roll two runs out; the table, and in the latter case how that went."""
    named = [split_name(text) for text in options.method]
    folders = [path for _, paths in named for path in paths]
    without = [path for path in folders if not (Path(path) / EPISODES).is_file()]
    if len(named) == len(folders) == 2 and len(without) == 1:
        raise ValueError(
            f"no evaluation in {without[0]}, and the other is one: make one of it with eval.py, or compare two runs"
        )
    if not without or len(named) != 2 or len(folders) != 2:
        return difference_table([read_method(text) for text in options.method]), None
    if options.output_dir is None:
        raise ValueError("comparing runs rolls them out: say where to keep the episodes with -o OUT")
    (name_a, (path_a,)), (name_b, (path_b,)) = named
    comparison = _roll_out(options, path_a, path_b)
    pairs = zip((name_a, name_b), comparison.results, strict=True)
    # A difference with an interval for a fixed number of episodes would be wrong here: when to stop was chosen.
    return score_table([method_of(name, [result]) for name, result in pairs]), comparison


def _roll_out(options: argparse.Namespace, path_a: str, path_b: str) -> "SequentialComparison":
    from diffusion_policy.scripts.comparison.sequential import compare_sequentially

    return compare_sequentially(
        (path_a, path_b),
        options.output_dir,
        parse_seeds(options.seeds) if options.seeds else SELECTION_SEEDS,
        metric=options.metric,
        margin=options.margin,
        batch=options.batch,
        device=options.device,
        trusted_targets=options.trust_target,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description="Compare policies on equal episode seeds.")
    parser.add_argument("method", nargs="+", help="[NAME=]FOLDER[,FOLDER...]: evaluations, or two runs")
    parser.add_argument(
        "-o", "--output_dir", type=Path, help="for compare.md, report.html and episodes of runs"
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
        table, comparison = compare(options)
        print("\n\n".join([*([] if comparison is None else [str(comparison)]), table.markdown()]))
        if options.output_dir is not None:
            from diffusion_policy.scripts.comparison.page import write_comparison

            print(f"written to {write_comparison(table, comparison, options.output_dir)}")

    report_user_errors(run)


if __name__ == "__main__":
    main()
