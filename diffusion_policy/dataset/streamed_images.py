"""Images that stay on disk, read when they are asked for."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from diffusion_policy.common.stored_array import StoredArray
from diffusion_policy.dataset.image_values import ImageKey

MAX_THREADS = 8
FEW = 4  # images to a chunk: reading one decodes all of them


class StreamedImages:
    """Images (n_steps, H, W, C) uint8 of one camera; indexing reads and decodes these rows, on several threads.

    Args:
        camera: What they must be.
        array: The images on disk: uint8, or floats 0, 1, ..., 255.

    Raises:
        ValueError: they have another size, a chunk is missing, or the first image is not of whole numbers of 0
            to 255. The others are looked at when they are read.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, camera: ImageKey, array: StoredArray) -> None:
        self._camera = camera
        self._array = array
        camera.check_shape(array.shape[1:])
        array.check()
        self[np.zeros(1, int)]  # raises before any training if images are of another kind
        if array.chunks[0] > FEW:
            warnings.warn(
                f"{camera.where}: images of key '{camera.key}' are stored {array.chunks[0]} to a chunk, all of which "
                "are decoded to read one, so training will wait for them. Store them one to a chunk: "
                "`diffusion-policy data convert SOURCE NEW.zarr --image_compressor default`, which loses nothing "
                "(for images of cameras jpeg2k is smaller, and loses a little)",
                stacklevel=2,
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_steps, H, W, C)."""
        return self._array.shape

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows by slice or by an integer array of any shape, as a fresh array.

        Raises:
            ValueError: a chunk is missing or damaged, or holds other values; names episode and step.
        """
        wanted = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        distinct, positions = np.unique(wanted, return_inverse=True)
        size = self._array.chunks[0]
        images = np.empty((len(distinct), *self.shape[1:]), np.uint8)

        def read(chunk: int) -> None:
            first, last = np.searchsorted(distinct, [chunk * size, (chunk + 1) * size])
            values = self._array.read_chunk(chunk)[distinct[first:last] - chunk * size]
            images[first:last] = self._camera.as_uint8(values, distinct[first:last])

        chunks = np.unique(distinct // size).tolist()
        with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:  # decoders let others run
            for _ in pool.map(read, chunks):
                pass  # raises what `read` raised
        return images[positions.reshape(wanted.shape)]
