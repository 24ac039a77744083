"""Draw the first frame of every simulated task: `python docs/images/tasks.py docs/images/tasks.jpg`."""

import sys

import cv2
import numpy as np
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from diffusion_policy.common.instantiate import instantiate

SIZE = 240  # pixels, height and width of each
TASKS: tuple[tuple[str, dict], ...] = (
    ("pusht_lowdim", {"render_size": SIZE}),
    ("kitchen_lowdim", {"render_size": [SIZE, SIZE]}),
    ("lift_lowdim", {"render_size": SIZE}),
    ("can_lowdim", {"render_size": SIZE}),
    ("square_lowdim", {"render_size": SIZE}),
    ("tool_hang_lowdim", {"render_size": SIZE}),
    ("transport_lowdim", {"render_size": SIZE, "render_camera": "frontview"}),
)


def first_frame(task: str, options: dict) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8."""
    config = OmegaConf.to_container(compose("train", [f"task={task}"]).task.env_runner.env, resolve=True)
    env = instantiate({**config, **options})()
    env.reset(seed=0)
    frame = env.render()
    env.close()
    return frame


def main() -> None:
    with initialize_config_module("diffusion_policy.config", version_base=None):
        frames = [first_frame(*task) for task in TASKS]
    cv2.imwrite(sys.argv[1], cv2.cvtColor(np.concatenate(frames, axis=1), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
