"""Command lines: `diffusion-policy train | eval | compare | report | data`; `train.py` and `eval.py` call here too.

Nothing heavy is imported before the arguments are understood.
"""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONFIGURATION_ERRORS = (HydraException, OmegaConfBaseException)
USER_ERRORS = (OSError, ValueError, ImportError, FloatingPointError, *CONFIGURATION_ERRORS)
# What to do where the operating system refuses; what it says names the path.
ADVICE = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, or choose a folder on another disk"
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions, or choose another path"
    ),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is in the way: remove it, or choose another path"),
}


def main() -> None:
    """Entry point of the installed command `diffusion-policy`."""
    commands: dict[str, Callable[[], None]] = {
        "train": train_main,
        "eval": eval_main,
        "compare": compare_main,
        "report": report_main,
        "data": data_main,
    }
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        print(f"usage: diffusion-policy {{{','.join(commands)}}} ...   (--help after a command tells more)")
        sys.exit(0 if len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help") else 2)
    command = sys.argv.pop(1)
    sys.argv[0] = f"diffusion-policy {command}"
    commands[command]()


def train_main() -> None:
    """Train as the configuration says; overrides are given as `key=value`."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # else Hydra shows tracebacks of what a user can mend
    report_user_errors(_train)


@hydra.main(config_path="config", config_name="train", version_base="1.3")
def _train(config: DictConfig) -> None:
    output_dir = HydraConfig.get().runtime.output_dir

    def run() -> None:
        from diffusion_policy.workspace.train_workspace import train

        train(OmegaConf.to_container(config, resolve=True), output_dir)  # type: ignore[arg-type]
        if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, one reports
            _report_training(output_dir, config)

    report_user_errors(
        run, f"to continue from the latest checkpoint, repeat it with hydra.run.dir={output_dir}"
    )


def _report_training(output_dir: str, config: DictConfig) -> None:
    from diffusion_policy.scripts.best_effort import best_effort

    def make() -> None:
        from diffusion_policy.scripts.make_report import report_training

        report_training(output_dir, list(config.trusted_targets), config.training.device)

    best_effort("report", make)


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
    parser.add_argument(
        "--controls", help="also roll out zero,random,nearest_neighbor or all, on the same seeds"
    )
    parser.add_argument(
        "--no-report", action="store_true", help="no videos of extremes, diagnosis, report.html"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an evaluation in output_dir")
    parser.add_argument("--trust-target", action="append", default=[], help="a name the checkpoint may build")
    parser.add_argument("overrides", nargs="*", help="changes of its configuration: policy.sampler.steps=8")
    options = parser.parse_args(arguments)

    def run() -> None:
        from diffusion_policy.common.evaluation_seeds import TEST_SEEDS, parse_seeds
        from diffusion_policy.scripts.controls import parse_controls
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
            controls=parse_controls(options.controls) if options.controls else (),
            report=not options.no_report,
        )
        print(result.table())
        print(
            f"written to {options.output_dir}: eval_log.json, episodes.json"
            + (", media/" * (options.n_videos > 0))
        )

    report_user_errors(run)


def compare_main() -> None:
    """Say which of several policies is better; see `scripts/compare.py`."""
    from diffusion_policy.scripts.compare import main as compare

    compare(sys.argv[1:])


def report_main(arguments: Sequence[str] | None = None) -> None:
    """Write the report of a run or an evaluation again."""
    parser = argparse.ArgumentParser(
        description="Diagnose, and write report.html, for a run or an evaluation."
    )
    parser.add_argument("folder", help="of a training run or an evaluation")
    parser.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    parser.add_argument("--trust-target", action="append", default=[], help="a name the checkpoint may build")
    options = parser.parse_args(arguments)

    def run() -> None:
        from diffusion_policy.scripts.make_report import make_report

        print(make_report(options.folder, options.trust_target, options.device))

    report_user_errors(run)


def data_main(arguments: Sequence[str] | None = None) -> None:
    """Look at, check, convert and fetch demonstrations."""
    from diffusion_policy.scripts.data_command import data_parser

    options = data_parser().parse_args(arguments)
    report_user_errors(lambda: options.run(options))


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
        sys.exit(f"error: {_explained(error)}")


def _explained(error: Exception) -> str:
    """What an error says, with what it leaves out: the cause within a configuration, or what to do."""
    if isinstance(error, HydraException) and error.__cause__ is not None:
        return f"{error}\n{error.__cause__}"
    if isinstance(error, OSError) and error.errno in ADVICE and error.strerror == os.strerror(error.errno):
        return f"{error}; {ADVICE[error.errno]}"
    return str(error)
