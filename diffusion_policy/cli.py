"""Command lines: `diffusion-policy train | eval | compare | tune-sampler | report | data`.

`train.py` and `eval.py` call here too. Nothing heavy is imported before the arguments are understood.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_policy.common.user_errors import report_user_errors


def main() -> None:
    """Entry point of the installed command `diffusion-policy`."""
    commands: dict[str, Callable[[], None]] = {
        "train": train_main,
        "eval": eval_main,
        "compare": compare_main,
        "tune-sampler": tune_sampler_main,
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

        _refuse_choices_without_effect(config)
        train(OmegaConf.to_container(config, resolve=True), output_dir)  # type: ignore[arg-type]
        if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, one reports
            _report(output_dir, list(config.trusted_targets), config.training.device)

    report_user_errors(
        run, f"to continue from the latest checkpoint, repeat it with hydra.run.dir={output_dir}"
    )


def _refuse_choices_without_effect(config: DictConfig) -> None:
    """Refuse a sampler, denoiser or encoder that was chosen on the command line and that the policy does not use."""
    hydra_config = HydraConfig.get()
    used = OmegaConf.to_yaml(config.policy)
    for group in ("sampler", "model", "obs_encoder"):
        chosen = [o for o in hydra_config.overrides.task if o.startswith((f"{group}=", f"{group}."))]
        if chosen and f"${{{group}}}" not in used:
            policy = hydra_config.runtime.choices["policy"]
            why = f"a {group} of its own" if group in config.policy else f"no {group}"
            raise ValueError(
                f"{chosen[0]} would have no effect: policy={policy} has {why}. Leave it out, or see what can be "
                f"changed with: python train.py policy={policy} --cfg job --package policy"
            )


def _report(folder: str, trusted_targets: Sequence[str], device: str) -> None:
    """Of the run or evaluation that just ended."""
    from diffusion_policy.scripts.best_effort import best_effort

    def make() -> None:
        from diffusion_policy.scripts.report.make_report import report_with_videos

        report_with_videos(folder, trusted_targets, device)

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
    parser.add_argument("--sampler", help="a file of config/sampler, or tuned; default: the checkpoint's own")
    parser.add_argument("--steps", type=int, help="of the sampler; default: its own")
    parser.add_argument("--seeds", help="START:STOP; default: the 500 test seeds 100000:100500")
    parser.add_argument("--n_videos", type=int, default=0, help="record the first N episodes")
    parser.add_argument(
        "--controls",
        help="also roll out, on the same seeds: zero,random,nearest_neighbor,nearest_feature (of images) or all",
    )
    parser.add_argument(
        "--no-report", action="store_true", help="no videos of extremes, diagnosis, report.html"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an evaluation in output_dir")
    parser.add_argument("--trust-target", action="append", default=[], help="a name the checkpoint may build")
    parser.add_argument(
        "overrides",
        nargs="*",
        help="changes of its configuration: policy.sampler.steps=8 task.env_runner.max_steps=100",
    )
    options = parser.parse_args(arguments)

    def run() -> None:
        from diffusion_policy.common.evaluation_seeds import TEST_SEEDS, parse_seeds
        from diffusion_policy.scripts.controls import controls_table, parse_controls
        from diffusion_policy.scripts.evaluate import evaluate

        result = evaluate(
            options.checkpoint,
            options.output_dir,
            seeds=parse_seeds(options.seeds) if options.seeds else TEST_SEEDS,
            device=options.device,
            n_videos=options.n_videos,
            overwrite=options.overwrite,
            sampler=options.sampler,
            steps=options.steps,
            overrides=options.overrides,
            trusted_targets=options.trust_target,
            controls=parse_controls(options.controls) if options.controls else (),
        )
        print(result.table())
        if options.controls:
            print("\n" + controls_table(result, Path(options.output_dir)) + "\n")
        print(
            f"written to {options.output_dir}: eval_log.json, episodes.json"
            + (", media/" * (options.n_videos > 0))
        )
        if not options.no_report:
            _report(options.output_dir, options.trust_target, options.device)

    report_user_errors(run)


def compare_main() -> None:
    """Say which of several policies is better; see `scripts/comparison/compare.py`."""
    from diffusion_policy.scripts.comparison.compare import main as compare

    compare(sys.argv[1:])


def tune_sampler_main() -> None:
    """Choose the fastest sampler that loses nothing; see `scripts/tune_sampler/command.py`."""
    from diffusion_policy.scripts.tune_sampler.command import main as tune_sampler

    tune_sampler(sys.argv[1:])


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
        from diffusion_policy.scripts.report.make_report import make_report

        print(make_report(options.folder, options.trust_target, options.device))

    report_user_errors(run)


def data_main(arguments: Sequence[str] | None = None) -> None:
    """Look at, check, convert and fetch demonstrations."""
    from diffusion_policy.scripts.demonstrations.data_command import data_parser

    options = data_parser().parse_args(arguments)
    report_user_errors(lambda: options.run(options))
