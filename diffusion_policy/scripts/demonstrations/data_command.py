"""`diffusion-policy data info | check | convert | preview | init | generate | download`: arguments and what they do.

Nothing heavy is imported before the arguments are understood.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusion_policy.scripts.demonstrations.generate import Demonstration

PATH_HELP = "demonstrations: a zarr directory or zip, robomimic HDF5, a LeRobot folder, npz file(s)"


def data_parser() -> argparse.ArgumentParser:
    """The parser of `diffusion-policy data`; what it parses has `run`, to be called with it."""
    parser = argparse.ArgumentParser(description="Demonstrations.")
    add_parsers(parser.add_subparsers(dest="command", required=True))
    return parser


def add_parsers(commands: Any) -> None:
    """Add the parser of each command to what `ArgumentParser.add_subparsers` returned."""
    _add_info(commands)
    _add_check(commands)
    _add_convert(commands)
    _add_preview(commands)
    _add_init(commands)
    _add_generate(commands)
    _add_download(commands)


def _add(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], help: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(run=run)
    return parser


def _add_info(commands: Any) -> None:
    parser = _add(commands, "info", _info, "show what a data set holds")
    parser.add_argument("path", type=Path, help=PATH_HELP)
    parser.add_argument("--keys", nargs="+", help="arrays to read; default: all")


def _info(options: argparse.Namespace) -> None:
    from diffusion_policy.dataset.data_info import info_table
    from diffusion_policy.dataset.episode_files import detect_format

    path = options.path.expanduser()
    demonstrations = detect_format(path)
    print(info_table(demonstrations.load(path, options.keys), path, demonstrations.name))


def _add_check(commands: Any) -> None:
    parser = _add(commands, "check", _check, "look for faults; exit code 1 if there are errors")
    parser.add_argument("path", type=Path, help=PATH_HELP)
    parser.add_argument("--keys", nargs="+", help="arrays to look at; default: all")


def _check(options: argparse.Namespace) -> None:
    from diffusion_policy.dataset.data_check import check_file

    buffer, findings = check_file(options.path, options.keys)
    for finding in findings:
        print(finding)
    n_errors = sum(finding.severity == "error" for finding in findings)
    summary = [f"errors: {n_errors}, warnings: {len(findings) - n_errors}"]
    if buffer is not None:
        summary += [f"episodes: {buffer.n_episodes}", f"keys: {', '.join(buffer.keys())}"]
    print("; ".join(summary))
    if n_errors:
        sys.exit(1)


def _add_convert(commands: Any) -> None:
    parser = _add(commands, "convert", _convert, "write a data set in another format, and compare")
    parser.add_argument("source", type=Path, help=PATH_HELP)
    parser.add_argument(
        "destination", type=Path, help="a new path; .zarr, .zarr.zip, .npz or .hdf5 tell the format"
    )
    parser.add_argument("--format", help="zarr, npz, robomimic, lerobot (3.0) or lerobot-v2.1")
    parser.add_argument("--fps", type=float, help="frame rate in Hz, where the source does not state it")
    parser.add_argument(
        "--image_compressor",
        choices=["jpeg2k", "jpegxl", "disk", "default"],
        help="to zarr: images one to a chunk, to be streamed in training; jpeg2k and jpegxl are lossy",
    )


def _convert(options: argparse.Namespace) -> None:
    from diffusion_policy.scripts.demonstrations.convert import convert

    conversion = convert(
        options.source, options.destination, options.format, options.fps, options.image_compressor
    )
    print(conversion.summary(options.source, options.destination))


def _add_preview(commands: Any) -> None:
    parser = _add(
        commands, "preview", _preview, "draw demonstrations, or what a policy's network sees, into a PNG"
    )
    parser.add_argument(
        "path", nargs="*", help=f"{PATH_HELP}; or words of a training, as task=my_task: what its network sees"
    )
    parser.add_argument(
        "--run", dest="trained", type=Path, help="a run or a checkpoint: what its network sees, and looks at"
    )
    parser.add_argument("--config-dir", type=Path, help="as of train.py")
    parser.add_argument("--trust-target", action="append", default=[], help="a name the checkpoint may build")
    parser.add_argument("-o", "--output", type=Path, default=Path("preview.png"), help="default: preview.png")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier picture")
    parser.add_argument("--keys", nargs="+", help="arrays of demonstrations to draw; default: all")
    parser.add_argument("--n_episodes", type=int, default=3, help="default: 3")


def _preview(options: argparse.Namespace) -> None:
    wanted: Path = options.output
    if options.overwrite and wanted.is_file():
        options.output = wanted.with_stem(f".{wanted.stem}-new")  # so that a failure leaves the earlier one
        options.output.unlink(missing_ok=True)
    lines = _preview_lines(options)
    options.output.replace(wanted)
    print("\n".join([*lines, f"wrote {wanted}"]))


def _preview_lines(options: argparse.Namespace) -> list[str]:
    if options.trained is not None or options.config_dir is not None or _are_overrides(options.path):
        return _preview_policy(options)
    if len(options.path) != 1:
        raise ValueError(
            f"give one path of demonstrations, --run, or words of a training; got {options.path}"
        )
    from diffusion_policy.scripts.demonstrations.preview import preview

    preview(options.path[0], options.output, options.keys, options.n_episodes)
    return []


def _preview_policy(options: argparse.Namespace) -> list[str]:
    from diffusion_policy.scripts.demonstrations.preview_policy import preview_config, preview_run

    if options.trained is None:
        return preview_config(options.path, options.output, options.config_dir, options.n_episodes)
    if options.path:
        raise ValueError(f"--run stands alone: leave out {' '.join(options.path)}")
    return preview_run(options.trained, options.output, options.n_episodes, options.trust_target)


def _are_overrides(words: Sequence[str]) -> bool:
    """Whether these are `name=value`s and no path."""
    return bool(words) and all("=" in word and not Path(word).expanduser().exists() for word in words)


def _add_init(commands: Any) -> None:
    parser = _add(commands, "init", _init, "write the task YAML for a data set")
    parser.add_argument("path", type=Path, help=PATH_HELP)
    parser.add_argument("--name", required=True, help="of the task")
    parser.add_argument(
        "--obs", nargs="+", default=[], help="keys the policy sees; default: low-dimensional ones"
    )
    parser.add_argument("--action", default="action", help="key of the action; default: action")
    parser.add_argument("-o", "--output", type=Path, help="default: configs/task/NAME.yaml")


def _init(options: argparse.Namespace) -> None:
    from diffusion_policy.scripts.demonstrations.init_task import init_task

    output = options.output or Path("configs/task") / f"{options.name}.yaml"
    commands = init_task(options.path, output, options.name, options.obs, options.action)
    look = "look at it, then" if len(commands) == 1 else "look at it and at what its network will see, then"
    print("\n  ".join([f"wrote {output}; {look} train with", *commands]))


def _add_generate(commands: Any) -> None:
    parser = _add(commands, "generate", _generate, "make demonstrations with a scripted expert")
    parser.add_argument("task", choices=["pusht", "lift", "square"], help="the last two are robomimic's")
    parser.add_argument(
        "output", help="to make, by its ending: .zarr, .zarr.zip, .hdf5 (as robomimic's) or .npz"
    )
    parser.add_argument(
        "--image_size", type=int, help="of lift and square: also record two cameras, in pixels"
    )
    parser.add_argument("--n_episodes", type=int, default=200, help="how many to record; default: 200")
    parser.add_argument("--first_seed", type=int, default=500_000, help="default: 500000")
    parser.add_argument("--keep_failures", action="store_true", help="record unsuccessful episodes too")
    parser.add_argument("--workers", type=int, help="processes; default: one per processor")


def _generate(options: argparse.Namespace) -> None:
    from diffusion_policy.scripts.demonstrations.generate import generate

    demonstrate, meta = _expert(options)
    try:
        report = generate(
            demonstrate,
            options.output,
            options.n_episodes,
            options.first_seed,
            options.keep_failures,
            options.workers,
            meta,
        )
    except KeyboardInterrupt:
        sys.exit(f"interrupted; finished episodes are in {options.output}, or in {options.output}.partial")
    print(report.summary())


def _expert(options: argparse.Namespace) -> tuple[Callable[[int], "Demonstration"], dict[str, Any]]:
    """What makes the demonstration of a seed, and what is said of all of them."""
    if options.task == "pusht":
        from diffusion_policy.scripts.demonstrations.generate_pusht import demonstrate_pusht

        if options.image_size is not None:
            raise ValueError(
                "--image_size is for lift and square: images of Push-T are drawn from its states"
            )
        return demonstrate_pusht, {}
    from diffusion_policy.scripts.demonstrations.generate_robomimic import (
        demonstrate_robomimic,
        recorded_with,
    )

    return partial(demonstrate_robomimic, options.task, options.image_size), recorded_with(options.task)


def _add_download(commands: Any) -> None:
    parser = _add(commands, "download", _download, "fetch a published data set")
    parser.add_argument("name", choices=["pusht"])
    parser.add_argument("--destination", help="default: $DIFFUSION_POLICY_DATA, or data/")


def _download(options: argparse.Namespace) -> None:
    from diffusion_policy.dataset.download import download_pusht

    download_pusht(options.destination or os.environ.get("DIFFUSION_POLICY_DATA", "data"))
