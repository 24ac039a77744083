"""One observation in, one action out: a policy that predicts chunks, used step by step."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from diffusion_policy.common.noise import Generators
from diffusion_policy.common.random_seed import derived_generator
from diffusion_policy.policy.checked_obs import float_images


class PredictsChunks(Protocol):
    """What is needed of a `BasePolicy` here."""

    shape_meta: Mapping[str, Any]
    n_obs_steps: int

    @property
    def device(self) -> torch.device:
        """Where observations are expected."""

    def predict_action(self, obs: Mapping[str, Tensor], *, generator: Generators = None) -> dict[str, Tensor]:
        """Predict a chunk."""


class ChunkQueue:
    """The last To observations and the actions that are still to be executed, of one episode.

    When no action is left, the policy predicts a chunk from the last To observations (the first one stands for
    those before the episode), of which the executed part is handed out step by step.

    Args:
        policy: in evaluation mode.
        episode_seed: makes the noise that of the env runner's episode with this seed; None draws from torch's
            global generator.
    """

    def __init__(self, policy: PredictsChunks, episode_seed: int | None = None) -> None:
        self._policy = policy
        self._generator = None if episode_seed is None else derived_generator(0, episode_seed)
        self._observations: deque[dict[str, Tensor]] = deque(maxlen=policy.n_obs_steps)
        self._actions: deque[NDArray[np.float32]] = deque()

    def act(self, obs: Mapping[str, ArrayLike] | ArrayLike) -> NDArray[np.float32]:
        """Take the present observation and return the action to execute now; see `BasePolicy.act`."""
        step = self._as_step(obs)
        self._observations.extend([step] * (1 if self._observations else self._policy.n_obs_steps))
        if not self._actions:
            self._actions.extend(self._predict())
        return self._actions.popleft()

    def _predict(self) -> NDArray[np.float32]:
        steps = self._observations
        obs = {
            key: torch.stack([step[key] for step in steps])[None].to(self._policy.device) for key in steps[0]
        }
        generators = None if self._generator is None else [self._generator]
        with torch.inference_mode():
            prediction = self._policy.predict_action(obs, generator=generators)
        actions = prediction["action"][0].float().cpu().numpy()  # (Ta, Da)
        if "n_actions" in prediction:
            actions = actions[: int(prediction["n_actions"][0])]
        if len(actions) == 0:
            raise ValueError(
                "the policy has no further action in this episode; call reset() to begin another"
            )
        if not np.isfinite(actions).all():
            raise ValueError("the policy predicted NaN or infinity; check the weights and the normaliser")
        return actions

    def _as_step(self, obs: Mapping[str, ArrayLike] | ArrayLike) -> dict[str, Tensor]:
        metas = self._policy.shape_meta["obs"]
        if not isinstance(obs, Mapping):
            if len(metas) > 1:
                raise ValueError(
                    f"obs must be a dict with {list(metas)}: this policy has several observation keys"
                )
            obs = {next(iter(metas)): obs}
        missing = [key for key in metas if key not in obs]
        if missing:
            raise ValueError(f"obs has no {missing}: got {list(obs)}, needs {list(metas)}")
        return {key: _as_tensor(key, obs[key], meta) for key, meta in metas.items()}


def _as_tensor(key: str, values: ArrayLike, meta: Mapping[str, Any]) -> Tensor:
    """One step of a key as `predict_action` wants it; an image may be (H, W, 3) uint8."""
    array = np.array(values)
    tensor, shape, hint = torch.from_numpy(array), tuple(meta["shape"]), ""
    if meta.get("type", "low_dim") == "rgb":
        tensor, hint = float_images(key, tensor, shape), f", or {(*shape[1:], shape[0])} uint8"
    if tensor.shape != shape:
        raise ValueError(f"obs[{key!r}] must have shape {shape}{hint}, got {array.shape} {array.dtype}")
    return tensor.to(torch.float32)
