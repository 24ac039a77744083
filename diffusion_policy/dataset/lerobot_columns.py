"""How the arrays of a replay buffer and the columns of a LeRobot data set correspond."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.episode_step import labelled_step
from diffusion_policy.common.optional_package import optional_package
from diffusion_policy.common.stored_array import StoredArray

BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")  # of LeRobot itself
_PREFIXES = ("observation.images.", "observation.")
_HF_ARRAYS = {2: "Array2D", 3: "Array3D", 4: "Array4D", 5: "Array5D"}


def key_of(feature: str) -> str:
    """The buffer's key for a feature: `observation.state` is `state`, `next.reward` is `next_reward`."""
    for prefix in _PREFIXES:
        feature = feature.removeprefix(prefix)
    return feature.replace(".", "_")


def feature_of(key: str, array: np.ndarray | StoredArray) -> str:
    """The feature that a key is saved as, so that `key_of` gives the key again."""
    if key == "action":
        return "action"
    if is_png(array):
        return f"observation.images.{key}"
    return f"next.{key.removeprefix('next_')}" if key.startswith("next_") else f"observation.{key}"


def is_png(array: np.ndarray | StoredArray) -> bool:
    """Whether an array is saved as images: (n, H, W, 3) uint8."""
    return array.dtype == np.uint8 and len(array.shape) == 4 and array.shape[3] == 3


def feature_entry(array: np.ndarray | StoredArray) -> dict[str, Any]:
    """What `meta/info.json` says of a feature. LeRobot gives single numbers the shape [1]; ours stays beside it."""
    if is_png(array):
        return {"dtype": "image", "shape": list(array.shape[1:]), "names": ["height", "width", "channels"]}
    shape = list(array.shape[1:])
    entry = {"dtype": array.dtype.name, "shape": shape or [1], "names": None}
    return entry | ({"per_step_shape": shape} if shape in ([], [1]) else {})


def per_step_shape(feature: str, entry: Mapping[str, Any]) -> tuple[int, ...]:
    """Shape of one step in the buffer. Of single numbers observations and actions are vectors (1,), others ()."""
    shape = tuple(int(n) for n in entry["shape"])
    if "per_step_shape" in entry:
        return tuple(int(n) for n in entry["per_step_shape"])
    is_vector = feature == "action" or feature.startswith("observation.")
    return () if shape == (1,) and not is_vector else shape


def hugging_face_feature(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the `datasets` package, with which LeRobot reads the files, wants to know of a column."""
    shape, value = list(entry["shape"]), {"dtype": entry["dtype"], "_type": "Value"}
    if entry["dtype"] == "image":
        return {"_type": "Image"}
    if shape == [1]:
        return value
    if len(shape) == 1:
        return {"feature": value, "length": shape[0], "_type": "Sequence"}
    return {"shape": shape, "dtype": entry["dtype"], "_type": _HF_ARRAYS[len(shape)]}


def to_column(array: np.ndarray) -> Any:
    """Rows (n, ...) as an Arrow array: numbers, fixed lists, nested lists, or PNG files."""
    pa = optional_package("pyarrow")
    if is_png(array):
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.array([{"bytes": _png(image), "path": None} for image in array], type=kind)
    column = pa.array(np.ascontiguousarray(array).reshape(-1))
    if array.ndim == 2 and array.shape[1] != 1:
        return pa.FixedSizeListArray.from_arrays(column, array.shape[1])
    if array.ndim > 2:
        for size in array.shape[:0:-1]:
            column = pa.ListArray.from_arrays(np.arange(0, len(column) + 1, size, dtype=np.int32), column)
    return column


def from_column(where: Path, feature: str, column: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Rows (n, *shape) of a column that holds numbers or lists of numbers.

    Raises:
        ValueError: values are missing, or do not fill the shape that meta/info.json states.
    """
    pa = optional_package("pyarrow")
    n_rows, values = len(column), column.combine_chunks()
    while isinstance(values, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        if values.null_count:
            break
        values = values.flatten()
    if values.null_count:
        raise ValueError(f"{where}: '{feature}' lacks {values.null_count} values; fetch the data set again")
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.size != n_rows * int(np.prod(shape)):
        raise ValueError(
            f"{where}: '{feature}' holds {numbers.size} numbers in {n_rows} rows, but meta/info.json says that "
            f"a row has shape {shape}; mend that file, or leave this key out"
        )
    return numbers.reshape(n_rows, *shape)


def decode_images(where: Path, feature: str, column: Any, episode_index: np.ndarray) -> np.ndarray:
    """Images (n, H, W, 3) uint8 RGB of a column that holds image files.

    Args:
        where: The file.
        feature: The column's name.
        column: Its n rows.
        episode_index: The episode of each row, (n,), ascending.

    Raises:
        ValueError: there are no images, or one is damaged or of another size than the first; names episode and step.
    """
    if not optional_package("pyarrow").types.is_struct(column.type):
        raise ValueError(
            f"{where}: '{feature}' holds {column.type}, but meta/info.json says images; mend that file, or leave "
            "this key out"
        )
    images: np.ndarray | None = None
    for row, encoded in enumerate(_image_bytes(column)):
        image = _decoded(encoded)
        if image is None or (images is not None and image.shape != images.shape[1:]):
            fault = "cannot be decoded" if image is None else "differs in size from the first"
            raise ValueError(
                f"{where}: image {row} of '{feature}' {fault} ({labelled_step(row, episode_index)}); fetch the data "
                "set again"
            )
        if images is None:
            images = np.empty((len(column), *image.shape), np.uint8)
        images[row] = image
    if images is None:
        raise ValueError(f"{where}: '{feature}' holds no images")
    return images


def _image_bytes(column: Any) -> Iterator[bytes]:
    return (row.as_py()["bytes"] for row in column)


def _png(image: np.ndarray) -> bytes:
    written, encoded = optional_package("cv2").imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    assert written, "uint8 RGB can always be written as PNG"
    return encoded.tobytes()


def _decoded(encoded: bytes | None) -> np.ndarray | None:
    """RGB of a PNG or JPEG file; None where it is none."""
    cv2 = optional_package("cv2")
    if not encoded:
        return None
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else np.ascontiguousarray(image[..., ::-1])
