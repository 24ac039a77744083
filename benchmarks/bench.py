"""Speed and memory of this implementation, beside the original's where it is present: `make bench`.

    python benchmarks/bench.py --data data/pusht/pusht_cchi_v7_replay.zarr [--original CHECKOUT]
                               [--original-python PYTHON] [--measures windows,env_steps] [--rounds 3]
                               [--output benchmark.md]

Each measure runs in a fresh process. The sides take turns, so that a machine that slows down slows both; what counts
is the ratio. Both use all cores, the same data, networks, batch sizes and numbers of sampling steps.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
HIGHER_IS_BETTER = {"windows", "env_steps"}
MEASURES = {
    "windows": "windows per second to the training device, batch 256",
    "env_steps": "Push-T environment steps per second, with coverage and keypoints",
    "train_small": "training step, small network, batch 64 (s)",
    "train_paper": "training step, paper's network, batch 256 (s)",
    "predict_small_1": "predict_action, small network, DDIM 16, B=1 (s)",
    "predict_small_56": "predict_action, small network, DDIM 16, B=56 (s)",
    "predict_paper_1": "predict_action, paper's network, DDPM 100, B=1 (s)",
    "predict_paper_56": "predict_action, paper's network, DDIM 16, B=56 (s)",
    "start_up": "train.py --help (s)",
}


@dataclass
class Side:
    """One implementation: how to run its measures, and what came out."""

    name: str
    python: str
    script: Path
    arguments: Sequence[str]
    start_up: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)
    peak_mib: float = 0.0

    def measure(self, name: str) -> None:
        """Run one measure once; a failure is said and leaves the cell empty."""
        if name == "start_up":
            start = time.perf_counter()
            failed = self._run([self.python, *self.start_up]) is None
            value = None if failed else time.perf_counter() - start
        else:
            output = self._run([self.python, str(self.script), name, *self.arguments])
            result = json.loads(output.splitlines()[-1]) if output else {"value": None, "peak_mib": 0.0}
            value = result["value"]
            if name == "train_small":
                self.peak_mib = max(self.peak_mib, result["peak_mib"])
        if value is not None:
            self.values.setdefault(name, []).append(value)

    def _run(self, command: Sequence[str]) -> str | None:
        environment = os.environ | self.environment
        result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE.parent)
        if result.returncode != 0:
            print(f"{self.name}: {' '.join(command[1:3])} failed:\n{result.stderr[-2000:]}", file=sys.stderr)
            return None
        return result.stdout


def sides(options: argparse.Namespace) -> list[Side]:
    """The implementations to measure; ours first."""
    common = ["--data", str(options.data), "--threads", str(options.threads)]
    ours = Side("ours", sys.executable, HERE / "measure_ours.py", common, ["train.py", "--help"])
    if options.original is None:
        return [ours]
    original = str(options.original.resolve())
    prepare = ["--prepare", options.prepare] if options.prepare else []
    start = f"import sys, runpy; sys.argv = ['train.py', '--help']; sys.path.insert(0, {original!r}); "
    if options.prepare:
        start += f"import {options.prepare}; "
    start += f"runpy.run_path({original + '/train.py'!r}, run_name='__main__')"
    return [
        ours,
        Side(
            f"original ({_revision(options.original)})",
            options.original_python,
            HERE / "measure_original.py",
            [*common, "--original", original, *prepare],
            ["-c", start],
            {"WANDB_MODE": "disabled"},
        ),
    ]


def _revision(checkout: Path) -> str:
    result = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def table(measured: Sequence[Side], names: Sequence[str]) -> str:
    """Markdown: medians over rounds, and how many times faster (or smaller) ours is than each other side."""
    ours, others = measured[0], measured[1:]
    headings = ["measure", *(side.name for side in measured), *(f"ours against {s.name}" for s in others)]
    lines = [headings, ["---"] * len(headings)]
    for name in names:
        middle = [median(side.values[name]) if name in side.values else None for side in measured]
        ratios = [_ratio(name, middle[0], other) for other in middle[1:]]
        lines.append([MEASURES[name], *(_text(value) for value in middle), *ratios])
    if ours.peak_mib:
        peaks = [side.peak_mib or None for side in measured]
        ratios = [_ratio("peak", peaks[0], other) for other in peaks[1:]]
        lines.append(["peak resident memory in training, small network (MiB)", *map(_text, peaks), *ratios])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratio(name: str, ours: float | None, other: float | None) -> str:
    if ours is None or other is None:
        return ""
    return f"{ours / other if name in HIGHER_IS_BETTER else other / ours:.2f}x"


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="pusht_cchi_v7_replay.zarr")
    parser.add_argument("--original", type=Path, help="checkout of real-stanford/diffusion_policy")
    parser.add_argument("--original-python", default=sys.executable, help="Python with its requirements")
    parser.add_argument("--prepare", help="module to import before the original")
    parser.add_argument("--measures", default=",".join(MEASURES), help="some of: " + ", ".join(MEASURES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, help="Markdown file to write too")
    options = parser.parse_args()
    names = options.measures.split(",")
    if unknown := set(names) - set(MEASURES):
        parser.error(f"unknown measures {sorted(unknown)}; there are {', '.join(MEASURES)}")
    measured = sides(options)
    for name in names:
        for _ in range(options.rounds):
            for side in measured:
                side.measure(name)
        print(name, {side.name: side.values.get(name) for side in measured}, file=sys.stderr)
    text = f"{platform.processor() or platform.machine()}, {options.threads} threads, medians of {options.rounds}\n\n"
    text += table(measured, names)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
