"""The contract between a policy and everything that trains, evaluates or deploys it."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from diffusion_policy.common.noise import Generators
from diffusion_policy.model.common.normalizer import LinearNormalizer
from diffusion_policy.policy.chunk_queue import ChunkQueue

Episode = dict[str, Any]  # {"obs": {key: (L, ...)}, "action": (L, Da)}, numpy arrays of L steps


class Demonstrations(Protocol):
    """What a policy may ask of the dataset it is fitted to."""

    @property
    def n_episodes(self) -> int:
        """Number of all demonstrations, those for validation included."""
        ...

    def episode(self, index: int) -> Episode:
        """Demonstration `index`, in the order of recording."""
        ...

    def train_episodes(self) -> Iterable[Episode]:
        """The demonstrations of the training split."""
        ...

    def windows(self, obs_steps: int, keys: Sequence[str]) -> Iterable[Episode]:
        """All training windows, in blocks of tensors.

        Each is `{"obs": {key: (B, obs_steps, ...)}, "action": (B, T, Da)}` with no other observations than `keys`.
        """
        ...

    def get_normalizer(self) -> LinearNormalizer:
        """A fitted normaliser with one field per observation key and `action`."""
        ...


class BasePolicy(nn.Module):
    """A map from the last observations to a chunk of future actions.

    Letters: B batch, T `horizon`, To `n_obs_steps`, Ta `n_action_steps`, Da action dimensions.

    Time line (To=3, Ta=4, T=6); index To-1 (`first_action_step`) is the present::

        |o|o|o|              observed
        | | |a|a|a|a|        executed: "action"
        |p|p|p|p|p|p|        predicted: "action_pred"

    Data, everywhere in the units of the recordings (a policy normalises by itself):

    ==========================  ====================  ========  ===================================
    what                        shape                 dtype     range
    ==========================  ====================  ========  ===================================
    `obs[key]`, low_dim         (B, >=To, D_key)      float32   as recorded
    `obs[key]`, rgb             (B, >=To, 3, H, W)    float32   [0, 1]
    `batch["obs"][key]`         as `obs`, with `n_train_obs_steps` steps
    `batch["action"]`           (B, T, Da)            float32   as recorded
    `"action"`                  (B, Ta, Da)           float32   as recorded
    `"action_pred"`             (B, T, Da)            float32   as recorded
    ==========================  ====================  ========  ===================================

    The keys of `obs` are those of `shape_meta["obs"]`; a low-dim task has the one key `obs`. Only the first
    To steps of an observation are read. A policy may keep state between calls of `predict_action` (one entry
    per row of the batch); `reset` and `retain` say which episodes the rows are.

    Args:
        shape_meta: `{"obs": {key: {"shape": [...], "type": "low_dim" | "rgb"}}, "action": {"shape": [Da]}}`.
        horizon: T, steps predicted.
        n_obs_steps: To, observation steps read.
        n_action_steps: Ta, steps executed of each prediction.

    Raises:
        ValueError: a length is not positive, or the executed steps end after the horizon.
    """

    def __init__(
        self, shape_meta: Mapping[str, Any], horizon: int, n_obs_steps: int, n_action_steps: int
    ) -> None:
        super().__init__()
        _check_lengths(horizon, n_obs_steps, n_action_steps)
        self.shape_meta = shape_meta
        self.horizon = horizon
        self.n_obs_steps = n_obs_steps
        self.n_action_steps = n_action_steps
        self.first_action_step = n_obs_steps - 1
        self.normalizer = LinearNormalizer()
        self._chunk_queue: ChunkQueue | None = None  # of `act`

    @property
    def action_dim(self) -> int:
        """Da."""
        return int(self.shape_meta["action"]["shape"][0])

    @property
    def n_train_obs_steps(self) -> int:
        """Observation steps that a training batch must hold; here To."""
        return self.n_obs_steps

    @property
    def has_frozen_encoder(self) -> bool:
        """Whether features of an observation never change, so that they can be computed once; here not."""
        return False

    @property
    def device(self) -> torch.device:
        """Where the first parameter or buffer lies; the CPU when there is none."""
        return next((tensor.device for tensor in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the first floating-point parameter or buffer; float32 when there is none."""
        return next((tensor.dtype for tensor in self._tensors() if tensor.is_floating_point()), torch.float32)

    def _tensors(self) -> chain[Tensor]:
        return chain(self.parameters(), self.buffers())

    # Training

    def fit(self, dataset: Demonstrations) -> None:
        """Fit, once before training, what is not learned by gradient; here the normaliser."""
        self.set_normalizer(dataset.get_normalizer())

    def set_normalizer(self, normalizer: LinearNormalizer) -> None:
        """Take a copy of `normalizer`."""
        self.normalizer.load_state_dict(normalizer.state_dict())

    @abstractmethod
    def compute_loss(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss of a batch.

        Args:
            batch: `{"obs": {key: (B, n_train_obs_steps, ...)}, "action": (B, T, Da)}`.

        Returns:
            The scalar to differentiate, and scalars to log by name (detached).
        """

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """`compute_loss`, under the name that `DistributedDataParallel` wraps."""
        return self.compute_loss(batch)

    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups for a torch optimiser; here all trainable parameters in one group."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    # Inference

    @abstractmethod
    def predict_action(
        self,
        obs: Mapping[str, Tensor],
        *,
        generator: Generators = None,
        noise: Tensor | None = None,
        committed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Predict the actions that follow `obs`.

        Args:
            obs: `{key: (B, >=To, ...)}` on the policy's device.
            generator: source of all random draws: one for the batch, or a list with one per row, so that a
                row's draws do not depend on the other rows; None takes torch's global generator.
            noise: (B, T, D) standard normal values to use as the initial noise instead of drawing it; D is Da
                unless the policy denoises observations too. Policies without noise do not read it.
            committed: (B, d, Da) with d <= Ta, in recorded units: the first d executed actions (from index
                `first_action_step` on), which are on their way to the robot and may no longer change.

        Returns:
            `{"action": (B, Ta, Da), "action_pred": (B, T, Da)}`. A policy may add `"n_actions"` (B,), how many
            of `action` to execute; an episode with 0 of them ends.
        """

    def act(self, obs: Mapping[str, ArrayLike] | ArrayLike) -> NDArray[np.float32]:
        """Step by step: the action for the present observation of one episode; call `reset` when a new one begins.

        Predicts a chunk whenever the last one is used up, and otherwise returns its next action. After
        `reset([seed])` the noise is that of the env runner's episode with this seed.

        Args:
            obs: `{key: array}` in recorded units, one step without batch dimension: low_dim (D_key), rgb
                (3, H, W) in [0, 1] or (H, W, 3) uint8; with a single key the array alone will do.

        Returns:
            The action (Da,) in recorded units.

        Raises:
            ValueError: a key is missing or has another shape; or the policy has nothing more to do.
        """
        if self._chunk_queue is None:
            self._chunk_queue = ChunkQueue(self)
        return self._chunk_queue.act(obs)

    def reset(self, episode_seeds: Sequence[int] | None = None) -> None:
        """Begin new episodes, one per row of the batch; `episode_seeds` are those of their environments."""
        seed = episode_seeds[0] if episode_seeds is not None and len(episode_seeds) == 1 else None
        self._chunk_queue = ChunkQueue(self, seed)

    def retain(self, rows: Sequence[int]) -> None:
        """From now on the batch holds only these of its present `rows`; the other episodes ended."""

    def executed_part(self, action_pred: Tensor) -> dict[str, Tensor]:
        """The return value of `predict_action` for a whole prediction (B, T, Da)."""
        start = self.first_action_step
        return {"action": action_pred[:, start : start + self.n_action_steps], "action_pred": action_pred}


def _check_lengths(horizon: int, n_obs_steps: int, n_action_steps: int) -> None:
    lengths = {"horizon": horizon, "n_obs_steps": n_obs_steps, "n_action_steps": n_action_steps}
    for name, length in lengths.items():
        if length < 1:
            raise ValueError(f"{name} must be at least 1, got {length}")
    needed = n_obs_steps - 1 + n_action_steps
    if needed > horizon:
        raise ValueError(
            f"horizon={horizon} is too short for n_obs_steps={n_obs_steps}, n_action_steps={n_action_steps}: "
            f"the executed steps begin at index n_obs_steps - 1, so they need a horizon of at least {needed}"
        )
