"""Execute the recorded actions of robomimic's demonstrations from their first states, without looking.

python docs/results/robomimic/replay.py FILE... [--absolute]

FILE: HDF5 in robomimic's layout, with states. --absolute: their actions are poses, as `robomimic_dataset_conversion`
writes them. Prints for each file how many demonstrations end in success, and the numbers of the others.
"""

import argparse
from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from diffusion_policy.common.statistics import wilson_interval
from diffusion_policy.dataset.episode_arrays import by_number
from diffusion_policy.env.robomimic.robomimic_file import read_env_args
from diffusion_policy.env.robomimic.simulation import Simulation


def demonstrations(path: str) -> Iterator[tuple[str, NDArray, NDArray]]:
    """Name, states (N, S) and actions (N, D) of each."""
    with h5py.File(path, "r") as file:
        for name in sorted(file["data"], key=by_number):
            yield name, file["data"][name]["states"][()], file["data"][name]["actions"][()]


def succeeds(simulation: Simulation, states: NDArray, actions: NDArray) -> bool:
    simulation.restore(states[0])
    return any(simulation.step(action) for action in actions)


def replay(path: str, absolute: bool) -> None:
    simulation = Simulation(read_env_args(path), absolute=absolute)
    done = {name: succeeds(simulation, *rest) for name, *rest in tqdm(demonstrations(path), unit="demo")}
    simulation.close()
    successes = np.array(list(done.values()))
    failed = [name for name, success in done.items() if not success]
    rate = wilson_interval(int(successes.sum()), len(successes))
    print(f"{path}: {successes.sum()} of {len(successes)}, {rate}; not: {failed}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--absolute", action="store_true")
    arguments = parser.parse_args()
    for path in arguments.files:
        replay(path, arguments.absolute)


if __name__ == "__main__":
    main()
