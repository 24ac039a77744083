"""JPEG 2000 and JPEG XL as codecs of zarr arrays of images, one image to a chunk.

Names and settings in the files are those of the original, whose data open here and which opens ours. The package
imagecodecs does the work; it is imported when an array with such a codec is opened or made.
"""

import importlib
import inspect
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numcodecs
import numpy as np
from numcodecs.abc import Codec

ENCODING_ONLY = (
    "mct",
    "squeeze",
    "bitspersample",
)  # newer imagecodecs store these too; decoding ignores them


class ImageCodec(Codec):
    """Base of the codecs below: images (H, W, C) or (1, H, W, C).

    Raises:
        ImportError: imagecodecs is not installed.
    """

    def __init__(self) -> None:
        _imagecodecs()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ImageCodec":
        """The codec that a file names; settings of newer versions that matter for encoding only are left out.

        Raises:
            ValueError: it has other settings than are known here.
        """
        known = inspect.signature(cls).parameters
        others = [name for name in config if name not in known and name not in ENCODING_ONLY]
        if unknown := {name: config[name] for name in others if config[name] is not None}:
            raise ValueError(
                f"{cls.codec_id}: settings {unknown} are not known; write the images again without"
            )
        return cls(**{name: value for name, value in config.items() if name in known})


class Jpeg2k(ImageCodec):
    """JPEG 2000.

    Args:
        level: Quality as a peak signal-to-noise ratio in dB; None or 0 keeps every pixel, with `reversible`.
        codecformat: "jp2" or "j2k", the container.
        colorspace: Of the pixels.
        tile: (height, width) of tiles in pixels.
        reversible: Use the lossless transform.
        bitspersample: Bits that are kept per value.
        resolutions: Number of resolutions in the file.
        numthreads: That one image is coded with.
        verbose: What OpenJPEG prints.
    """

    codec_id = "imagecodecs_jpeg2k"

    def __init__(
        self,
        level: float | None = None,
        codecformat: str | int | None = None,
        colorspace: str | int | None = None,
        tile: tuple[int, int] | None = None,
        reversible: bool | None = None,
        bitspersample: int | None = None,
        resolutions: int | None = None,
        numthreads: int | None = None,
        verbose: int | None = 0,
    ) -> None:
        super().__init__()
        self.level = level
        self.codecformat = codecformat
        self.colorspace = colorspace
        self.tile = None if tile is None else tuple(tile)
        self.reversible = reversible
        self.bitspersample = bitspersample
        self.resolutions = resolutions
        self.numthreads = numthreads
        self.verbose = verbose

    def encode(self, buf: Any) -> bytes:
        """One image as a file."""
        return _imagecodecs().jpeg2k_encode(_image(buf), **vars(self))

    def decode(self, buf: Any, out: Any = None) -> np.ndarray:
        """The image (H, W, C), or (H, W) if it has one channel."""
        return _imagecodecs().jpeg2k_decode(buf, verbose=self.verbose, numthreads=self.numthreads, out=out)


class JpegXl(ImageCodec):
    """JPEG XL.

    Args:
        level: None leaves `lossless` and `decodingspeed` as they are; below 0 is lossless.
        effort: Of encoding, 1 (fast) to 9 (small).
        distance: How far colours may be off, 0 to 15; 1 is hard to see.
        lossless: Keep every pixel.
        decodingspeed: 0 to 4 (fastest).
        photometric: Colour space of the pixels.
        planar: Channels come first in the image.
        usecontainer: Write a container around the code stream.
        index: Which frame is decoded.
        keeporientation: Do not turn the image as its file says.
        numthreads: That one image is coded with.
    """

    codec_id = "imagecodecs_jpegxl"

    def __init__(
        self,
        level: int | None = None,
        effort: int | None = None,
        distance: float | None = None,
        lossless: bool | None = None,
        decodingspeed: int | None = None,
        photometric: str | int | None = None,
        planar: bool | None = None,
        usecontainer: bool | None = None,
        index: int | None = None,
        keeporientation: bool | None = None,
        numthreads: int | None = None,
    ) -> None:
        super().__init__()
        self.level = level
        self.effort = effort
        self.distance = distance
        self.lossless = bool(lossless)
        self.decodingspeed = decodingspeed
        self.photometric = photometric
        self.planar = planar
        self.usecontainer = usecontainer
        self.index = index
        self.keeporientation = keeporientation
        self.numthreads = numthreads

    def encode(self, buf: Any) -> bytes:
        """One image as a file."""
        settings = {name: v for name, v in vars(self).items() if name not in ("index", "keeporientation")}
        return _imagecodecs().jpegxl_encode(_image(buf), **settings)

    def decode(self, buf: Any, out: Any = None) -> np.ndarray:
        """The image (H, W, C), or (H, W) if it has one channel."""
        return _imagecodecs().jpegxl_decode(
            buf, index=self.index, keeporientation=self.keeporientation, numthreads=self.numthreads, out=out
        )


def register_codecs() -> None:
    """Make these codecs known by their names, so that zarr opens arrays stored with them."""
    for codec in (Jpeg2k, JpegXl):
        numcodecs.register_codec(codec)


def _imagecodecs() -> ModuleType:
    try:
        return importlib.import_module("imagecodecs")
    except ImportError as error:
        raise ImportError(
            f'images stored as JPEG need the package imagecodecs ({error}): pip install "diffusion_policy[data]"'
        ) from error


def _image(buffer: Any) -> np.ndarray:
    """The one image of a chunk; its last three dimensions stay, also those of length 1."""
    values = np.asarray(buffer)
    if math.prod(values.shape[:-3]) != 1:
        raise ValueError(f"a JPEG holds one image: chunks must be (1, H, W, C), got {values.shape}")
    return values.reshape(values.shape[-3:])
