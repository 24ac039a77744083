"""Write the task YAML of a data set: `diffusion-policy data init`."""

import json
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import frames_per_second, is_image
from diffusion_policy.dataset.episode_cache import SLOW_FORMATS
from diffusion_policy.dataset.episode_files import detect_format

# Written beside observations by recorders and simulators, and not known to a running policy.
NOT_OBSERVED = re.compile(r"^(states|action.*|next_.*|.*(reward|done|success|time|stamp|index|stage).*)$")
TEMPLATE = """\
# {n_episodes} episodes, {n_steps} steps{rate}; written by `diffusion-policy data init {path}`.

name: {name}

shape_meta:                   # what the policy sees and does, in the units of the data
  obs:
{obs}
  action: {{shape: {action_shape}}}

dataset:
  _target_: diffusion_policy.dataset.episode_dataset.EpisodeDataset
  path: {path}
  shape_meta: ${{task.shape_meta}}
  horizon: ${{horizon}}
  n_obs_steps: ${{n_obs_steps}}
  n_action_steps: ${{n_action_steps}}
  seed: 42                    # of the split into training and validation episodes
  val_ratio: 0.1              # without a simulator val_loss ranks the checkpoints
  max_train_episodes: null
  action_key: {action_key}
  cache_dir: {cache_dir}
  image_storage: memory       # or disk: see docs/guides/cameras.md

env_runner: null              # no simulator: no rollouts; see docs/guides/a-new-task.md to add one
"""


def init_task(
    path: str | PathLike[str],
    output: str | PathLike[str],
    name: str,
    obs: Sequence[str] = (),
    action: str = "action",
) -> list[str]:
    """Write a task's YAML, from which `train.py` can train.

    Args:
        path: Demonstrations in any format of `episode_files`.
        output: The YAML, `CONFIGS/task/NAME.yaml`.
        name: Of the task.
        obs: Keys that the policy sees; by default all low-dimensional ones that look like observations.
        action: The key of the action.

    Returns:
        The command that trains on it, and where a camera is observed first the one that draws what its network
        will see.

    Raises:
        FileExistsError: something is at `output`.
        ValueError: the data lack one of the keys, the name or the path of the YAML does not suit, or
            nothing can be observed.
    """
    source, output = Path(path).expanduser(), Path(output).expanduser()
    _check_names(name, output)
    demonstrations = detect_format(source)
    buffer = demonstrations.load(source)
    for key in (*obs, action):
        if key not in buffer:
            raise ValueError(
                f"{source}: no key '{key}'; it holds {list(buffer.keys())}. Choose with --obs and --action"
            )
        if len(buffer[key].shape) == 1:
            raise ValueError(
                f"{source}: '{key}' is a single number per step; store it as a vector (n_steps, 1) to use it"
            )
    chosen = list(obs) or _observed(buffer, action)
    if not chosen:
        raise ValueError(
            f"{source} holds no key that looks like an observation; choose with --obs from {list(buffer.keys())}"
        )
    fps = frames_per_second(buffer)
    sees = any(is_image(buffer[key]) for key in chosen)
    slow = demonstrations.name in SLOW_FORMATS and sees
    text = TEMPLATE.format(
        n_episodes=buffer.n_episodes,
        n_steps=buffer.n_steps,
        rate="" if fps is None else f" at {fps:g} Hz",
        path=_quoted(str(source.absolute())),
        name=name,
        obs="\n".join(_obs_lines(buffer, chosen, action)),
        action_shape=list(buffer[action].shape[1:]),
        action_key=action,
        cache_dir="${oc.env:DIFFUSION_POLICY_DATA,data}/cache" if slow else "null",
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(output, text)
    return _commands(f"--config-dir {output.parent.parent} task={output.stem}", sees)


def _commands(words: str, sees: bool) -> list[str]:
    """What to do next, with the `words` that choose the task."""
    look = [f"diffusion-policy data preview {words} -o network_sees.png"] if sees else []
    return [*look, f"python train.py {words}"]


def _quoted(path: str) -> str:
    return path if re.fullmatch(r"[\w./~-]+", path) else json.dumps(path)


def _check_names(name: str, output: Path) -> None:
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"--name must be letters, digits and underscores, got {name!r}")
    if output.suffix != ".yaml" or output.parent.name != "task":
        raise ValueError(
            f"the YAML must lie in a folder `task`, as in configs/task/{name}.yaml; got {output}"
        )
    if output.exists():
        raise FileExistsError(f"{output} exists already; edit it, or choose another name")


def _observed(buffer: ReplayBuffer, action: str) -> list[str]:
    return [
        key
        for key, array in buffer.items()
        if key != action and not is_image(array) and len(array.shape) > 1 and not NOT_OBSERVED.match(key)
    ]


def _obs_lines(buffer: ReplayBuffer, chosen: Sequence[str], action: str) -> list[str]:
    """One line per observation; what else could be observed follows as comments."""
    others = [
        key for key, array in buffer.items() if key not in chosen and key != action and len(array.shape) > 1
    ]
    lines = [f"    {key}: {_meta(buffer, key)}" for key in chosen]
    return lines + [f"    # {key}: {_meta(buffer, key)}" for key in others]


def _meta(buffer: ReplayBuffer, key: str) -> str:
    shape = list(buffer[key].shape[1:])
    if is_image(buffer[key]):
        return f"{{shape: {[shape[2], *shape[:2]]}, type: rgb}}"
    return f"{{shape: {shape}, type: low_dim}}"
