"""Execute the recorded actions of robomimic's demonstrations from their first states, without looking.

python docs/results/robomimic/replay.py FILE... [--absolute]

FILE: HDF5 in robomimic's layout, with states. --absolute: their actions are poses, as `robomimic_dataset_conversion`
writes them. Prints for each file how many demonstrations end in success, and the numbers of the others.
"""

import argparse

import numpy as np
from tqdm import trange

from diffusion_policy.common.statistics import wilson_interval
from diffusion_policy.dataset.episode_files import load_episodes
from diffusion_policy.env.robomimic.robomimic_file import read_env_args
from diffusion_policy.env.robomimic.simulation import Simulation


def succeeds(simulation: Simulation, episode: dict[str, np.ndarray]) -> bool:
    simulation.restore(episode["states"][0])
    return any(simulation.step(action) for action in episode["action"])


def replay(path: str, absolute: bool) -> None:
    demonstrations = load_episodes(path, ["states", "action"])
    simulation = Simulation(read_env_args(path), absolute=absolute)
    numbers = trange(demonstrations.n_episodes, unit="demo")
    successes = np.array([succeeds(simulation, demonstrations.get_episode(number)) for number in numbers])
    simulation.close()
    rate = wilson_interval(int(successes.sum()), len(successes))
    print(
        f"{path}: {successes.sum()} of {len(successes)}, {rate}; not: {np.flatnonzero(~successes).tolist()}"
    )


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
