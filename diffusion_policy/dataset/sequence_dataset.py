"""Windows of demonstrations as training batches."""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_policy.common.content_hash import content_hash
from diffusion_policy.common.episode_step import episode_step
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.sampler import SequenceSampler, downsample_mask, get_val_mask
from diffusion_policy.common.stored_array import StoredArray
from diffusion_policy.dataset.image_values import ImageKey, images_in_memory
from diffusion_policy.dataset.read_ahead import read_ahead
from diffusion_policy.dataset.streamed_images import StreamedImages
from diffusion_policy.model.common.normalizer import FieldNormalizer, LinearNormalizer

log = logging.getLogger(__name__)

Sample = dict[str, Any]  # {"obs": {key: array}, "action": array}
ImageStorage = Literal["memory", "disk"]
BATCHES_AHEAD = 3
STEPS_ENCODED_AT_ONCE = 256
WINDOWS_AT_ONCE = 4096


class SequenceDataset:
    """Demonstrations, from which whole batches of windows are gathered by indexing.

    They are held in memory, images as uint8 and, where they are too many, on disk.

    A window is T = horizon consecutive steps of one episode. By default it may start n_obs_steps - 1 steps
    before the episode and end n_action_steps - 1 steps after it, so that a policy learns from the first
    observation to the last action; there the first or last step repeats.

    This class takes arrays named as in `shape_meta`. For another format override `to_sample`.

    Args:
        replay_buffer: The demonstrations.
        shape_meta: `{"obs": {key: {"shape": [...], "type": "low_dim" | "rgb"}}, "action": {"shape": [Da]}}`.
            Low-dimensional data become float32. Images have shape (C, H, W) here, and are (H, W, C) uint8 in
            the buffer.
        horizon: T.
        n_obs_steps: To, for the padding.
        n_action_steps: Ta, for the padding.
        seed: Of the draws of validation and training episodes.
        val_ratio: Share of episodes to validate on, at least one if positive.
        max_train_episodes: Draw that many of the remaining episodes to train on; None takes all.
        pad_before: Steps a window may start before its episode, by default n_obs_steps - 1.
        pad_after: Steps a window may end after its episode, by default n_action_steps - 1.
        image_storage: "memory" reads all images now. "disk" reads those of a batch when it is asked for; the buffer
            must be one that was opened where it lies. Best stored one image to a chunk.

    Raises:
        ValueError: a number is no positive integer; or the data contradict `shape_meta`, hold NaN or infinity, or
            are shorter than a window.
    """

    def __init__(
        self,
        replay_buffer: ReplayBuffer,
        shape_meta: Mapping[str, Any],
        horizon: int,
        n_obs_steps: int,
        n_action_steps: int,
        seed: int = 42,
        val_ratio: float = 0.0,
        max_train_episodes: int | None = None,
        pad_before: int | None = None,
        pad_after: int | None = None,
        image_storage: ImageStorage = "memory",
    ) -> None:
        if replay_buffer.n_episodes == 0:
            raise ValueError(f"{replay_buffer.where} has no episodes; record or fetch demonstrations first")
        if image_storage not in ("memory", "disk"):
            raise ValueError(f"image_storage must be memory or disk, got {image_storage!r}")
        _check_positive(horizon=horizon, n_obs_steps=n_obs_steps, n_action_steps=n_action_steps)
        if max_train_episodes is not None:
            _check_positive(max_train_episodes=max_train_episodes)
        self.horizon = horizon
        self.episode_ends = replay_buffer.episode_ends
        self._pad_before = n_obs_steps - 1 if pad_before is None else pad_before
        self._pad_after = n_action_steps - 1 if pad_after is None else pad_after
        self._metas = _metas(shape_meta)
        sample = self.to_sample(replay_buffer)
        arrays = {**sample["obs"], "action": sample["action"]}
        absent = [key for key in self._metas if key not in arrays]
        if absent:
            raise ValueError(
                f"{replay_buffer.where}: {type(self).__name__} has no {absent}, which shape_meta names; it has "
                f"{list(arrays)}"
            )
        # Dicts shared with the validation dataset, so that `to` moves the data of both.
        self._tensors: dict[str, Tensor] = {}
        self._streamed: dict[str, StreamedImages] = {}
        self._features: dict[str, Tensor] = {}
        for key in self._metas:
            self._keep(key, arrays[key], replay_buffer, image_storage)
        self.val_mask = get_val_mask(replay_buffer.n_episodes, val_ratio, seed)
        self.train_mask = downsample_mask(~self.val_mask, max_train_episodes, seed)
        self._sampler = self._windows_of(self.train_mask)
        if len(self) == 0:
            raise ValueError(self._no_window(replay_buffer))

    def to_sample(self, replay_buffer: ReplayBuffer) -> Sample:
        """Map the buffer's arrays to `{"obs": {key: (n_steps, ...)}, "action": (n_steps, Da)}`."""
        return {
            "obs": {key: replay_buffer[key] for key in self._metas if key != "action"},
            "action": replay_buffer["action"],
        }

    def _keep(
        self, key: str, array: np.ndarray | StoredArray, replay_buffer: ReplayBuffer, storage: ImageStorage
    ) -> None:
        """Take over the values of one key: float32, or images as uint8 (n_steps, H, W, C), in memory or on disk."""
        meta = self._metas[key]
        if meta["type"] != "rgb":
            self._tensors[key] = _low_dim_tensor(key, array, meta["shape"], replay_buffer)
            return
        camera = ImageKey(key, meta["shape"], replay_buffer.where, self.episode_ends)
        if storage == "memory":
            self._tensors[key] = torch.from_numpy(images_in_memory(camera, array))
        elif isinstance(array, StoredArray):
            self._streamed[key] = StreamedImages(camera, array)
        else:
            raise ValueError(
                f"{replay_buffer.where}: image_storage is 'disk', but the images of key '{key}' are in memory; "
                "choose image_storage='memory', or write them to a zarr directory and open it with "
                "ReplayBuffer.create_from_path"
            )

    def _windows_of(self, episode_mask: np.ndarray) -> SequenceSampler:
        return SequenceSampler(
            self.episode_ends, self.horizon, self._pad_before, self._pad_after, episode_mask
        )

    def _no_window(self, replay_buffer: ReplayBuffer) -> str:
        longest = max(replay_buffer.episode_lengths[self.train_mask], default=0)
        return (
            f"{replay_buffer.where}: no window of horizon={self.horizon} steps fits: the longest of the "
            f"{self.train_mask.sum()} training episodes has {longest} steps, and padding adds at most "
            f"{self._pad_before} + {self._pad_after}; choose a shorter horizon"
        )

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._sampler)

    @property
    def n_episodes(self) -> int:
        """Number of all episodes, whatever they are used for."""
        return len(self.episode_ends)

    @property
    def device(self) -> torch.device:
        """Where the data lie, but for images on disk, and where batches are."""
        return self._tensors["action"].device

    def to(self, device: torch.device | str) -> "SequenceDataset":
        """Move the data to a device, but for images that would take most of its memory; returns itself."""
        for key, meta in sorted(self._metas.items(), key=lambda item: item[1]["type"] == "rgb"):
            if key not in self._tensors:
                continue
            if meta["type"] == "rgb" and self._tensors[key].nbytes > _room_for_images(torch.device(device)):
                log.warning("the images of key %r stay off %s: they would fill it", key, device)
            else:
                self._tensors[key] = self._tensors[key].to(device)
        return self

    def batch(self, rows: np.ndarray | Tensor, obs_steps: int) -> Sample:
        """Gather windows, one indexing per key; the result shares no memory with the data.

        Args:
            rows: Numbers of windows, (B,) int in [0, len).
            obs_steps: How many observation steps to read from the start of each window, at most T.

        Returns:
            `{"obs": {key: (B, obs_steps, ...)}, "action": (B, T, Da)}` float32 on `device`; images are
            (B, obs_steps, C, H, W) in [0, 1].
        """
        positions = self._positions(rows, obs_steps)
        return self._gather(positions[:, :obs_steps], positions)

    def _feature_batch(self, rows: np.ndarray | Tensor, obs_steps: int) -> Sample:
        """`batch` with the cached features (B, obs_steps, F), and low-dim observations alone."""
        positions = self._positions(rows, obs_steps)
        features = self._features["features"][positions[:, :obs_steps]]
        low_dim = [key for key, meta in self._metas.items() if meta["type"] != "rgb" and key != "action"]
        return {"features": features} | self._gather(positions[:, :obs_steps], positions, low_dim)

    def windows(self, obs_steps: int, keys: Sequence[str]) -> Iterator[Sample]:
        """All windows in blocks, as `batch` gives them, with no other observations than `keys`."""
        for rows in torch.arange(len(self)).split(WINDOWS_AT_ONCE):
            positions = self._positions(rows, obs_steps)
            yield self._gather(positions[:, :obs_steps], positions, keys)

    def _positions(self, rows: np.ndarray | Tensor, obs_steps: int) -> Tensor:
        """Steps of whole windows, (B, T)."""
        if not 1 <= obs_steps <= self.horizon:
            raise ValueError(f"obs_steps must be in [1, horizon={self.horizon}], got {obs_steps}")
        windows = torch.as_tensor(rows).cpu().numpy()
        return torch.from_numpy(self._sampler.positions(windows)).to(self.device)

    def cache_features(self, encode: Callable[[dict[str, Tensor]], Tensor]) -> None:
        """Compute once what an encoder that does not learn makes of every step; `batches` then gives that.

        Args:
            encode: from observations `{key: (N, 1, ...)}` to features (N, 1, F).
        """
        n_steps = int(self.episode_ends[-1])
        blocks = torch.arange(n_steps, device=self.device)[:, None].split(STEPS_ENCODED_AT_ONCE)
        with torch.no_grad():
            bar = tqdm(blocks, desc="features", unit="block")
            features = [encode(self._gather(block, block[:0])["obs"])[:, 0] for block in bar]
        self._features["features"] = torch.cat(features)  # (n_steps, F)

    def batches(self, rows: Iterable[np.ndarray | Tensor], obs_steps: int) -> Iterator[Sample]:
        """What a policy learns from, for one array of window numbers after another: what `batch` gives.

        After `cache_features` there is `"features"` (B, obs_steps, F) beside it, and no images.
        Images on disk are read ahead on a background thread, which ends with the iterator; a damaged one is an
        error in the batch that holds it.
        """
        if self._features:
            return (self._feature_batch(windows, obs_steps) for windows in rows)
        calls = (partial(self.batch, windows, obs_steps) for windows in rows)
        return read_ahead(calls, BATCHES_AHEAD) if self._streamed else (call() for call in calls)

    def _gather(
        self, obs_positions: Tensor, action_positions: Tensor, keys: Sequence[str] | None = None
    ) -> Sample:
        """Observations `keys`, by default all, and actions at these steps of the buffer."""
        if keys is None:
            keys = [key for key in self._metas if key != "action"]
        obs = {key: self._read(key, obs_positions) for key in keys}
        return {"obs": obs, "action": self._read("action", action_positions)}

    def _read(self, key: str, positions: Tensor) -> Tensor:
        if key in self._streamed:
            values = torch.from_numpy(self._streamed[key][positions.cpu().numpy()]).to(self.device)
        else:
            stored = self._tensors[key]
            rows = stored.index_select(0, positions.flatten().to(stored.device))  # copies images as wholes
            values = rows.unflatten(0, positions.shape).to(self.device)
        if self._metas[key]["type"] == "rgb":
            return values.movedim(-1, -3).to(torch.float32).div_(255)  # (..., C, H, W)
        return values

    def get_validation_dataset(self) -> "SequenceDataset":
        """The windows of the validation episodes (none if `val_ratio` is 0), over the same memory."""
        validation = copy.copy(self)
        validation._sampler = self._windows_of(self.val_mask)
        return validation

    def get_normalizer(self) -> LinearNormalizer:
        """Fit a normaliser to all episodes, also those left out of training: range to [-1, 1]."""
        low_dim = {key: values for key, values in self._tensors.items() if self._metas[key]["type"] != "rgb"}
        normalizer = LinearNormalizer().fit(low_dim)
        for key, meta in self._metas.items():
            if meta["type"] == "rgb":
                normalizer[key] = FieldNormalizer.image_range()
        return normalizer

    def content_hash(self) -> str:
        """SHA-256 of the data in use and the episode ends, whatever file they came from; images on disk are read."""
        arrays = {key: tensor.cpu().numpy() for key, tensor in self._tensors.items()}
        return content_hash({**arrays, **self._streamed}, self.episode_ends)

    def episode(self, index: int) -> Sample:
        """One episode of all as numpy, `{"obs": {key: (L, ...)}, "action": (L, Da)}`.

        Raises:
            IndexError: no such episode.
        """
        start = int(np.concatenate([[0], self.episode_ends[:-1]])[index])
        steps = torch.arange(start, int(self.episode_ends[index]), device=self.device)
        sample = self._gather(steps, steps)
        obs = {key: values.cpu().numpy() for key, values in sample["obs"].items()}
        return {"obs": obs, "action": sample["action"].cpu().numpy()}

    def train_episodes(self) -> Iterator[Sample]:
        """The training episodes one by one, as `episode` gives them."""
        return (self.episode(int(index)) for index in np.flatnonzero(self.train_mask))


def _room_for_images(device: torch.device) -> float:
    """Bytes that images may take on a device: half of what is free there; the rest is for training."""
    if device.type != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info(device)
    return free / 2


def _check_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")


def _metas(shape_meta: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Shape and type of every observation key, then of the action, which is low-dimensional."""
    if not shape_meta.get("obs") or "action" not in shape_meta:
        raise ValueError(
            f"shape_meta must name observations under 'obs', and 'action', got {dict(shape_meta)}; mend the task YAML"
        )
    if "action" in shape_meta["obs"]:
        raise ValueError("shape_meta: an observation cannot be named 'action'; rename it in the task YAML")
    metas = {**shape_meta["obs"], "action": shape_meta["action"]}
    return {key: _meta(key, meta) for key, meta in metas.items()}


def _meta(key: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    shape, kind = meta.get("shape"), meta.get("type", "low_dim")
    if not isinstance(shape, Sequence) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"shape_meta: the shape of '{key}' must be positive integers, as [2], got {shape!r}")
    if kind not in ("low_dim", "rgb"):
        raise ValueError(f"shape_meta: the type of '{key}' must be low_dim or rgb, got {kind!r}")
    return {"shape": tuple(shape), "type": kind}


def _low_dim_tensor(
    key: str, array: np.ndarray | StoredArray, shape: tuple[int, ...], replay_buffer: ReplayBuffer
) -> Tensor:
    values = np.asarray(array)
    if values.shape[1:] != shape:
        raise ValueError(
            f"{replay_buffer.where}: key '{key}' has shape {values.shape[1:]} per step, but shape_meta says "
            f"{shape}; mend shape_meta in the task YAML, or choose other data"
        )
    _check_finite(key, values, replay_buffer)
    return torch.from_numpy(values.astype(np.float32))


def _check_finite(key: str, values: np.ndarray, replay_buffer: ReplayBuffer) -> None:
    bad_steps = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
    if len(bad_steps):
        row = int(bad_steps[0])
        raise ValueError(
            f"{replay_buffer.where}: key '{key}' holds NaN or infinity in {len(bad_steps)} steps, "
            f"first in row {row} ({episode_step(row, replay_buffer.episode_ends)}); remove or repair these episodes"
        )
