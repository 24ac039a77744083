"""Speed and memory of this implementation, beside the original's and LeRobot's where present: `make bench`.

    python benchmarks/bench.py [--original CHECKOUT --original-python PYTHON] [--lerobot-python PYTHON]
                               [--measures windows,env_steps] [--rounds 3] [--output benchmark.md]

Each measure runs in a fresh process. The sides take turns, so that a machine that slows down slows all of them; what
counts is the ratio. All use the same data, networks, batch sizes, numbers of sampling steps and threads, on the CPU.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_table import Column, Row, table
from measuring import MEASURES, Sizes

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
START_UP = "start_up"
PEAK_OF = ("train_small", "train_paper")
ROWS = {
    **{name: Row(measure.title, measure.rate) for name, measure in MEASURES.items()},
    START_UP: Row("start-up: train.py --help, lerobot-train --help (s)"),
    "peak_train_small": Row("peak resident memory, training the small network (MiB)"),
    "peak_train_paper": Row("peak resident memory, training the paper's network (MiB)"),
}


@dataclass
class Side:
    """One implementation: how its measures are run, and what came out."""

    column: Column
    python: str
    script: Path
    arguments: Sequence[str]
    start_up: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def measure(self, name: str) -> None:
        """Run one measure once; a failure is said, and its round stays empty."""
        if name == START_UP:
            start = time.perf_counter()
            failed = self.run([self.python, *self.start_up]) is None
            self._keep(name, None if failed else time.perf_counter() - start)
            return
        output = self.run([self.python, str(self.script), name, *self.arguments])
        result = json.loads(output.splitlines()[-1]) if output else {"value": None, "peak_mib": None}
        self.versions |= result.get("versions", {})
        self._keep(name, result["value"])
        if name in PEAK_OF:
            self._keep(f"peak_{name}", result["peak_mib"])

    def _keep(self, row: str, value: float | None) -> None:
        self.column.values.setdefault(row, []).append(value)

    def run(self, command: Sequence[str]) -> str | None:
        """Standard output of a command; None if it failed."""
        environment = os.environ | self.environment
        result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)
        if result.returncode != 0:
            what = " ".join(command[1:3])
            print(f"{self.column.heading}: {what} failed:\n{result.stderr[-2000:]}", file=sys.stderr)
            return None
        return result.stdout


def compare_predictions(ours: Side, original: Side, scratch: str) -> str:
    """How far our predictions are from the original's, with its weights and the same noise."""
    for side, command in ((original, "write_prediction"), (ours, "compare_prediction")):
        output = side.run([side.python, str(side.script), command, *side.arguments, "--scratch", scratch])
        if output is None:
            return ""
    return (
        f"Paper's network with the original's weights, observation and noise: the largest difference of an action, "
        f"in normalised units, is {output.strip()}."
    )


def our_side(options: argparse.Namespace, common: Sequence[str]) -> Side:
    """This implementation, as it lies in this checkout."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return Side(
        Column(f"ours ({revision(REPOSITORY)})"),
        sys.executable,
        HERE / "measure_ours.py",
        common,
        ["train.py", "--help"],
        {"PYTHONPATH": path, "OMP_NUM_THREADS": str(options.threads)},
    )


def original_side(options: argparse.Namespace, common: Sequence[str]) -> Side:
    """The original's checkout."""
    checkout = str(options.original.resolve())
    prepare = ["--prepare", options.prepare] if options.prepare else []
    start = f"import sys, runpy; sys.argv = ['train.py', '--help']; sys.path.insert(0, {checkout!r}); "
    if options.prepare:
        start += f"import {options.prepare}; "
    start += f"runpy.run_path({checkout + '/train.py'!r}, run_name='__main__')"
    return Side(
        Column(f"original ({revision(options.original)})"),
        options.original_python,
        HERE / "measure_original.py",
        [*common, "--original", checkout, *prepare],
        ["-c", start],
        {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": str(options.threads)},
    )


def lerobot_side(options: argparse.Namespace, common: Sequence[str], scratch: str) -> Side:
    """An installed LeRobot, given the demonstrations in its own format."""
    look = "from importlib.metadata import version; print(version('lerobot'))"
    found = subprocess.run([options.lerobot_python, "-c", look], capture_output=True, text=True)
    if found.returncode != 0:
        sys.exit(f"--lerobot-python {options.lerobot_python}: LeRobot is not installed there")
    side = Side(
        Column(f"LeRobot ({found.stdout.strip()})"),
        options.lerobot_python,
        HERE / "measure_lerobot.py",
        [*common, "--scratch", scratch],
        ["-m", "lerobot.scripts.lerobot_train", "--help"],
        {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(options.threads)},
    )
    side.run([side.python, str(side.script), "write_data", *side.arguments])
    return side


def revision(checkout: Path) -> str:
    """Of a checkout; ends in -dirty where code or configurations differ from it."""
    name = _git(checkout, "rev-parse", "--short", "HEAD")
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no", "--", "*.py", "*.yaml")
    return f"{name}-dirty" if changed else name


def _git(checkout: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def report(
    options: argparse.Namespace,
    measured: Sequence[Side],
    peers: Sequence[Column],
    names: set[str],
    equality: str,
) -> str:
    """Machine, versions, table, how equal predictions are, and what bounds each measure."""
    rows = {name: row for name, row in ROWS.items() if name.removeprefix("peak_") in names}
    lines = [
        f"{processor()}, {os.cpu_count()} cores, {options.threads} threads, {platform.platform()}; "
        f"load {options.load:.2f} before the first of {options.rounds} rounds. Medians (and ranges) over rounds.",
        "",
        *(f"- {side.column.heading}: {', '.join(map(' '.join, side.versions.items()))}" for side in measured),
        "",
        table(rows, measured[0].column, peers),
        *(["", equality] if equality else []),
        "",
        "What bounds ours:",
        "",
        *(f"- {MEASURES[name].title}: {MEASURES[name].bound}" for name in MEASURES if name in names),
    ]
    return "\n".join(lines)


def processor() -> str:
    """The name of the processor."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def parse_arguments() -> argparse.Namespace:
    """Command line; see the module."""
    data = Path(os.environ.get("DIFFUSION_POLICY_DATA", "data")) / "pusht" / "pusht_cchi_v7_replay.zarr"
    every = [*MEASURES, START_UP]
    lerobot = sys.executable if importlib.util.find_spec("lerobot") else None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=data, help="human Push-T demonstrations")
    parser.add_argument("--original", type=Path, help="checkout of real-stanford/diffusion_policy")
    parser.add_argument("--original-python", default=sys.executable, help="Python with its requirements")
    parser.add_argument("--prepare", help="module to import before the original")
    parser.add_argument("--lerobot-python", default=lerobot, help="Python that has LeRobot; empty for none")
    parser.add_argument("--measures", default=",".join(every), help="some of: " + ", ".join(every))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=Sizes.seconds, help="least duration of a measure")
    parser.add_argument("--output", type=Path, help="Markdown file to write too")
    options = parser.parse_args()
    options.names = options.measures.split(",")
    options.load = os.getloadavg()[0]
    if unknown := set(options.names) - set(every):
        parser.error(f"unknown measures {sorted(unknown)}; there are {', '.join(every)}")
    if not options.data.exists():
        parser.error(
            f"no demonstrations at {options.data}: run `diffusion-policy data download pusht`, or --data"
        )
    return options


def main() -> None:
    options = parse_arguments()
    common = [
        *("--data", str(options.data.resolve())),
        *("--threads", str(options.threads)),
        *("--seconds", str(options.seconds)),
    ]
    equality = ""
    measured, peers = [our_side(options, common)], [Column("original (absent)"), Column("LeRobot (absent)")]
    with tempfile.TemporaryDirectory() as scratch:
        if options.original is None:
            print("original: absent; name its checkout with --original", file=sys.stderr)
        else:
            measured.append(original_side(options, common))
            peers[0] = measured[-1].column
            if any(name.startswith("predict_paper") for name in options.names):
                equality = compare_predictions(*measured, scratch)
                print(equality, file=sys.stderr)
        if not options.lerobot_python:
            print("LeRobot: absent; name a Python that has it with --lerobot-python", file=sys.stderr)
        else:
            measured.append(lerobot_side(options, common, scratch))
            peers[1] = measured[-1].column
        for name in options.names:
            for i in range(options.rounds):
                for side in measured[:: 1 if i % 2 == 0 else -1]:
                    side.measure(name)
            print(name, {side.column.heading: side.column.values[name] for side in measured}, file=sys.stderr)
    text = report(options, measured, peers, set(options.names), equality)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
