"""Command lines: `diffusion-policy train | eval | data`, and what `train.py` and `eval.py` call.

Nothing heavy is imported before the arguments are understood.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

USER_ERRORS = (OSError, ValueError, ImportError, FloatingPointError)


def main() -> None:
    """Entry point of the installed command `diffusion-policy`."""
    commands: dict[str, Callable[[], None]] = {"train": train_main, "eval": eval_main, "data": data_main}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        print(f"usage: diffusion-policy {{{','.join(commands)}}} ...   (--help after a command tells more)")
        sys.exit(0 if len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help") else 2)
    command = sys.argv.pop(1)
    sys.argv[0] = f"diffusion-policy {command}"
    commands[command]()


@hydra.main(config_path="config", config_name="train", version_base="1.3")
def train_main(config: DictConfig) -> None:
    """Train as the configuration says; overrides are given as `key=value`."""
    plain = OmegaConf.to_container(config, resolve=True)
    output_dir = HydraConfig.get().runtime.output_dir

    def run() -> None:
        from diffusion_policy.workspace.train_workspace import train

        train(plain, output_dir)  # type: ignore[arg-type]

    report_user_errors(
        run, f"to continue from the latest checkpoint, repeat it with hydra.run.dir={output_dir}"
    )


def eval_main(arguments: Sequence[str] | None = None) -> None:
    """Score a checkpoint on fixed seeds."""
    parser = argparse.ArgumentParser(
        description="Roll a checkpoint's policy out on fixed seeds; report scores with 95 % intervals."
    )
    parser.add_argument(
        "-c", "--checkpoint", required=True, help="a checkpoint's folder, or a run's (latest)"
    )
    parser.add_argument(
        "-o", "--output_dir", required=True, help="for eval_log.json, episodes.json and media/"
    )
    parser.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    parser.add_argument("--seeds", help="START:STOP; default: the 500 test seeds 100000:100500")
    parser.add_argument("--n_videos", type=int, default=0, help="record the first N episodes")
    parser.add_argument("--overwrite", action="store_true", help="replace an evaluation in output_dir")
    parser.add_argument("--trust-target", action="append", default=[], help="a name the checkpoint may build")
    parser.add_argument("overrides", nargs="*", help="changes of its configuration: policy.sampler.steps=8")
    options = parser.parse_args(arguments)

    def run() -> None:
        from diffusion_policy.common.evaluation_seeds import TEST_SEEDS, parse_seeds
        from diffusion_policy.scripts.evaluate import evaluate

        result = evaluate(
            options.checkpoint,
            options.output_dir,
            seeds=parse_seeds(options.seeds) if options.seeds else TEST_SEEDS,
            device=options.device,
            n_videos=options.n_videos,
            overwrite=options.overwrite,
            overrides=options.overrides,
            trusted_targets=options.trust_target,
        )
        print(result.table())
        print(
            f"written to {options.output_dir}: eval_log.json, episodes.json"
            + (", media/" * (options.n_videos > 0))
        )

    report_user_errors(run)


def data_main(arguments: Sequence[str] | None = None) -> None:
    """Fetch demonstrations."""
    parser = argparse.ArgumentParser(description="Demonstrations.")
    commands = parser.add_subparsers(dest="command", required=True)
    download = commands.add_parser("download", help="fetch a published data set")
    download.add_argument("name", choices=["pusht"])
    download.add_argument("--destination", help="default: $DIFFUSION_POLICY_DATA, or data/")
    options = parser.parse_args(arguments)

    def run() -> None:
        from diffusion_policy.dataset.download import download_pusht

        download_pusht(options.destination or os.environ.get("DIFFUSION_POLICY_DATA", "data"))

    report_user_errors(run)


def report_user_errors(
    run: Callable[[], None], when_interrupted: str = "repeat the command to begin again"
) -> None:
    """Show what a user can mend as one line, exit code 1; everything else with its traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(f"interrupted; {when_interrupted}")
    except USER_ERRORS as error:
        logging.getLogger(__name__).debug("traceback", exc_info=True)
        sys.exit(f"error: {error}")
