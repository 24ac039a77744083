"""Images of demonstrations as uint8; what is wrong with them, and where."""

import numpy as np

from diffusion_policy.common.episode_step import episode_step
from diffusion_policy.common.stored_array import StoredArray
from diffusion_policy.dataset.episode_arrays import row_blocks

CHANNELS = (1, 3, 4)  # that an image may have


class ImageKey:
    """One camera: its name, and what its images must be.

    Args:
        key: Its name in `shape_meta`.
        shape: (C, H, W) as `shape_meta` says.
        where: What messages call the data.
        episode_ends: Exclusive end of every episode.
    """

    def __init__(self, key: str, shape: tuple[int, ...], where: str, episode_ends: np.ndarray) -> None:
        self.key = key
        self.shape = shape
        self.where = where
        self.episode_ends = episode_ends

    def check_shape(self, found: tuple[int, ...]) -> None:
        """See whether images of one step have the shape (H, W, C).

        Raises:
            ValueError: they have another size, or their channels come first.
        """
        if found[-1:] + found[:-1] == self.shape and len(found) == 3:
            return
        everywhere = "in all steps, from episode 0, step 0 on"
        if len(found) == 3 and found[0] in CHANNELS and found[2] not in CHANNELS:
            raise ValueError(
                f"{self.where}: images of key '{self.key}' are stored as (C, H, W) = {found} {everywhere}, but must "
                f"be (H, W, C) = {found[1:] + found[:1]}; store them again with np.moveaxis(images, 1, -1)"
            )
        advice = "mend shape_meta in the task YAML, or choose other data"
        if found == self.shape:
            advice = f"write shape_meta as [C, H, W] = {list(found[-1:] + found[:-1])}"
        raise ValueError(
            f"{self.where}: key '{self.key}' has shape {found[-1:] + found[:-1]} per step, but shape_meta says "
            f"{self.shape}, {everywhere}; {advice}"
        )

    def as_uint8(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Images (n, H, W, C) of the steps `rows` (n,) as uint8.

        Raises:
            ValueError: a value is not a whole number of 0 to 255.
        """
        if values.dtype == np.uint8:
            return values
        with np.errstate(invalid="ignore"):
            images = values.astype(np.uint8)
        wrong = (images != values).any(axis=tuple(range(1, values.ndim)))
        if wrong.any():
            first = int(np.argmax(wrong))
            raise ValueError(self._complaint(values[first], int(rows[first])))
        return images

    def _complaint(self, image: np.ndarray, row: int) -> str:
        low, high = image.min(), image.max()
        if not np.isfinite(image).all():
            fault, advice = "with NaN or infinity", "remove or repair these episodes"
        elif low < 0 or high > 255:
            fault, advice = f"of {low:g} to {high:g}", "convert them to uint8"
        elif high <= 1:
            fault, advice = f"of {low:g} to {high:g}", "store (images * 255).round().astype(np.uint8)"
        else:
            fault, advice = "that are no whole numbers", "store images.round().astype(np.uint8)"
        return (
            f"{self.where}: images of key '{self.key}' must be uint8 in [0, 255], got {image.dtype} {fault} in "
            f"{episode_step(row, self.episode_ends)}; {advice}"
        )


def images_in_memory(camera: ImageKey, array: np.ndarray | StoredArray) -> np.ndarray:
    """All images of a key, (n_steps, H, W, C) uint8; the array itself if it is so already.

    Raises:
        ValueError: they have another size, or a value is not a whole number of 0 to 255.
    """
    camera.check_shape(tuple(array.shape[1:]))
    if array.dtype == np.uint8:
        return np.asarray(array)
    images = np.empty(array.shape, np.uint8)
    for rows, values in row_blocks(array):  # as floats all might not fit into memory
        images[rows] = camera.as_uint8(values, np.arange(rows.start, rows.stop))
    return images
