"""`diffusion-policy tune-sampler CKPT`: the fastest way to sample a checkpoint without loss.

The reference is DDPM with all diffusion steps. A sampler with a number of steps is accepted when

1. what it would do is what the reference would do: at held-out observations, the energy distance between samples of
   both, as a share of their mean distance, lies below `--margin` with its whole 95 % interval; and
2. where the task has a simulator, its score is not lower: the 95 % interval of the difference, paired by seed, lies
   above minus `--score_margin`.

Candidates that pass the first are rolled out, the cheapest first, until one passes the second.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffusion_policy.common.evaluation_seeds import SELECTION_SEEDS, parse_seeds
from diffusion_policy.common.user_errors import report_user_errors
from diffusion_policy.scripts.tune_sampler.candidates import SAMPLERS, STEPS
from diffusion_policy.scripts.tune_sampler.choice import Margins
from diffusion_policy.scripts.tune_sampler.tune import MARGINS, tune


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module."""
    options = _parser().parse_intermixed_args(arguments)

    def run() -> None:
        tuning = tune(
            options.checkpoint,
            options.output_dir,
            samplers=options.samplers.split(","),
            steps=_numbers(options.steps),
            n_observations=options.n_observations,
            n_samples=options.n_samples,
            margins=Margins(options.margin, options.score_margin),
            rollouts=not options.no_rollouts,
            every=options.all,
            seeds=parse_seeds(options.seeds) if options.seeds else SELECTION_SEEDS,
            device=options.device,
            overwrite=options.overwrite,
            overrides=options.overrides,
            trusted_targets=options.trust_target,
        )
        print(tuning)
        print(
            f"\nuse it with\n  python eval.py -c {options.checkpoint} -o OUT --sampler tuned"
            f'\n  policy = diffusion_policy.load_policy("{options.checkpoint}", sampler="tuned")'
        )

    report_user_errors(run, "repeat the command to go on: finished rollouts are kept")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Find the fastest sampler of a checkpoint that acts and scores as DDPM with all steps does."
    )
    parser.add_argument("checkpoint", help="a checkpoint's folder, or a run's (latest)")
    parser.add_argument("overrides", nargs="*", help="changes of its configuration: task.dataset.path=PATH")
    parser.add_argument(
        "-o",
        "--output_dir",
        type=Path,
        help="for rollouts, which are not repeated; default: beside the weights",
    )
    parser.add_argument(
        "-d", "--device", default="auto", help="auto, cpu, cuda, cuda:N, mps: whose speed counts"
    )
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="default: %(default)s")
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="of each; default: %(default)s")
    parser.add_argument("--n_observations", type=int, default=64, help="held out; default: %(default)s")
    parser.add_argument("--n_samples", type=int, default=32, help="at each of them; default: %(default)s")
    parser.add_argument(
        "--margin",
        type=float,
        default=MARGINS.energy_distance,
        help="of the energy distance; default: %(default)s, about a shift by half a standard deviation",
    )
    parser.add_argument(
        "--score_margin",
        type=float,
        default=MARGINS.score,
        help="by which a score may be lower; default: %(default)s",
    )
    parser.add_argument(
        "--seeds",
        help=f"START:STOP of the rollouts; default: the {len(SELECTION_SEEDS)} selection seeds, "
        f"{SELECTION_SEEDS[0]}:{SELECTION_SEEDS[-1] + 1}",
    )
    parser.add_argument("--all", action="store_true", help="roll all candidates out")
    parser.add_argument("--no-rollouts", action="store_true", help="let the energy distance alone decide")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier choice")
    parser.add_argument("--trust-target", action="append", default=[], help="a name the checkpoint may build")
    return parser


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"--steps must be numbers such as 1,2,4, got {text!r}") from None
