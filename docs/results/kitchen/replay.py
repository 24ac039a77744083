"""Execute the recorded actions of the kitchen's human demonstrations, from their first states.

python docs/results/kitchen/replay.py DATA [--seeds 3]

DATA: D4RL or Minari episodes with `state` (59) and `action` (9). Prints Markdown: how many episodes do at least n
(p_n) and which of the tasks, with actions as recorded (velocities) and as the positions these were turned into, and
with noise of several sizes on what is observed; and for each that does not do all, where it left the recording and
how near it came.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from diffusion_policy.common import kitchen
from diffusion_policy.common.kitchen import N_JOINTS
from diffusion_policy.dataset.episode_files import load_episodes
from diffusion_policy.env.kitchen.kitchen_env import KitchenEnv
from diffusion_policy.env.kitchen.kitchen_tasks import DISTANCE, distances, done_tasks

TASKS = ("microwave", "kettle", "light switch", "slide cabinet")  # of every episode
NOISE = (0, 0.01, 0.1)  # none, the recording's, the original's
LEFT = 0.02  # rad: a joint further than this from the recorded one has left it


@dataclass
class Episode:
    qpos: np.ndarray  # (L, 30)
    qvel: np.ndarray  # (L, 29)
    action: np.ndarray  # (L, 9) velocities

    def targets(self) -> np.ndarray:
        """Where the joints were told to go, (L, 9): the recorded positions are what actions were added to."""
        return kitchen.targets(self.qpos[:, :N_JOINTS], kitchen.velocities(self.action))


@dataclass
class Replay:
    done: set[str]
    nearest: dict[str, float]  # the smallest distance of each task
    left: (
        tuple[int, int, float] | None
    )  # step and joint that left the recording first, and the largest deviation


def load(path: str) -> Iterator[Episode]:
    buffer = load_episodes(path, ["state", "action"])
    for index in range(buffer.n_episodes):
        episode = buffer.get_episode(index)
        robot_qpos, robot_qvel, qpos, qvel = np.split(episode["state"].astype(float), [9, 18, 39], axis=1)
        yield Episode(
            np.hstack([robot_qpos, qpos]), np.hstack([robot_qvel, qvel]), episode["action"].astype(float)
        )


def replay(env: KitchenEnv, episode: Episode, seed: int) -> Replay:
    env.reset(seed=seed, options={"qpos": episode.qpos[0], "qvel": episode.qvel[0]})
    reached: list[np.ndarray] = []
    for action in episode.targets() if env.abs_action else episode.action:
        *_, info = env.step(action)
        reached.append(info["qpos"])
    far = [distances(qpos) for qpos in reached]
    nearest = {task: min(step[task] for step in far) for task in TASKS}
    return Replay(set(info["completed_tasks"]), nearest, left(np.array(reached)[:-1], episode.qpos[1:]))


def left(reached: np.ndarray, recorded: np.ndarray) -> tuple[int, int, float] | None:
    deviation = np.abs(reached - recorded)[:, : N_JOINTS - 2]
    steps, joints = np.nonzero(deviation > LEFT)
    return (int(steps[0]) + 1, int(joints[0]), float(deviation.max())) if len(steps) else None


def print_summary(replays: dict[str, list[tuple[int, Replay]]]) -> None:
    numbers = range(1, len(TASKS) + 1)
    heads = [*(f"p_{n}" for n in numbers), *TASKS]
    print(f"\n| actions | episodes | {' | '.join(heads)} |\n" + "| --- " * (len(heads) + 2) + "|")
    for title, results in replays.items():
        done = [result.done for _, result in results]
        counts = [sum(len(tasks) >= n for tasks in done) for n in numbers]
        counts += [sum(task in tasks for tasks in done) for task in TASKS]
        print(f"| {title} | {len(results)} | {' | '.join(map(str, counts))} |")


def print_failures(replays: dict[str, list[tuple[int, Replay]]]) -> None:
    head = f"arm over {LEFT} rad from the recording"
    print(f"\n| actions | episode | {head} | nearest to done (< {DISTANCE}) |\n" + "| --- " * 4 + "|")
    for title, results in replays.items():
        for number, result in results:
            missing = [task for task in TASKS if task not in result.done]
            if missing:
                nearest = ", ".join(f"{task} {result.nearest[task]:.2f}" for task in missing)
                print(f"| {title} | {number} | {departure(result)} | {nearest} |")


def departure(result: Replay) -> str:
    return (
        "never" if result.left is None else "from step {}, joint {}; at most {:.2f} rad".format(*result.left)
    )


def print_recorded(episodes: list[Episode]) -> None:
    """What the recordings say of themselves."""
    complete = sum(set(TASKS) <= set().union(*map(done_tasks, episode.qpos)) for episode in episodes)
    firsts = np.array([episode.qpos[0] for episode in episodes])
    steps = sum(len(episode.action) for episode in episodes)
    print(f"{len(episodes)} episodes, {steps} steps; all four tasks done at a recorded step: {complete}")
    print(f"largest difference between first states: {np.ptp(firsts, axis=0).max():.2g}")


def replays_of(env: KitchenEnv, episodes: list[Episode], seeds: range) -> list[tuple[int, Replay]]:
    return [(number, replay(env, episode, seed)) for seed in seeds for number, episode in enumerate(episodes)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3, help="of noise")
    arguments = parser.parse_args()
    episodes = list(load(arguments.data))
    print_recorded(episodes)
    replays = {}
    for title, abs_action in {"positions": True, "velocities": False}.items():
        for ratio in NOISE:
            env = KitchenEnv(abs_action=abs_action, robot_noise_ratio=ratio)
            seeds = range(arguments.seeds if ratio else 1)
            replays[f"{title}, noise {ratio:g}"] = replays_of(env, episodes, seeds)
    print_summary(replays)
    print_failures(replays)


if __name__ == "__main__":
    main()
