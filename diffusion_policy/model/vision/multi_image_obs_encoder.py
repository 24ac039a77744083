"""Observations of several cameras and low-dimensional keys as one feature vector per step."""

import copy
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn

from diffusion_policy.common.noise import Generators
from diffusion_policy.model.vision.crop_randomizer import When
from diffusion_policy.model.vision.image_transform import ImageTransform, PixelNorm

SHARED = "rgb"  # as the original names it

Encoder = nn.Module | Callable[[], nn.Module]
Shape = Sequence[int] | float  # (height, width), or a share of each side


class MultiImageObsEncoder(nn.Module):
    """Encode every camera's images, and append low-dimensional keys as they are; in order of `shape_meta`.

    Without cameras it only concatenates, and learns nothing.

    Images arrive normalised, in [-1, 1]. Each is resized, cropped (at random while training, in the middle
    otherwise) and encoded by its camera's encoder. Steps count as images of their own: each has its own crop.

    Args:
        shape_meta: `{"obs": {key: {"shape": [...], "type": "low_dim" | "rgb"}}, ...}`.
        image_encoder: from images (N, C, H, W) to features (N, F): a class with its arguments (a Hydra
            partial), such as `ImageEncoder` or one of your own, of which every camera gets one; or a module,
            of which every camera gets a copy. Or one per camera.
        resize_shape: (h, w) for all cameras, or one per key; None keeps the size.
        crop_shape: (h, w), or the share of each side to keep (0.9), for all cameras or one per key; None
            keeps all.
        random_crop: when the crop's place is random: "training", "always" or "never".
        share_image_encoder: use one encoder for all cameras, which must then show it images of one shape.
        pixel_norm: of the pixels before the encoder: "none", "imagenet", or what the original did,
            "imagenet_unscaled".
        frozen: do not learn the image encoders: they stay as they start, in evaluation mode and with the
            middle crop, so that features can be computed once; not with `random_crop="always"`.
        antialias: of the resizing; the original did without.
        last_place: whether all places of a crop can be drawn; the original left out the last.

    Raises:
        ValueError: there is no image, a mapping lacks a camera, a shape does not fit, or an encoder does not
            return (N, F).
    """

    def __init__(
        self,
        shape_meta: Mapping[str, Any],
        image_encoder: Encoder | Mapping[str, Encoder] | None = None,
        resize_shape: Sequence[int] | Mapping[str, Sequence[int] | None] | None = None,
        crop_shape: Shape | Mapping[str, Shape | None] | None = None,
        random_crop: When = "training",
        share_image_encoder: bool = False,
        pixel_norm: PixelNorm = "none",
        frozen: bool = False,
        antialias: bool = True,
        last_place: bool = True,
    ):
        super().__init__()
        self.keys = list(shape_meta["obs"])
        self.shapes = {key: tuple(meta["shape"]) for key, meta in shape_meta["obs"].items()}
        self.cameras = [key for key in self.keys if shape_meta["obs"][key].get("type", "low_dim") == "rgb"]
        if self.cameras and image_encoder is None:
            raise ValueError(f"obs_encoder: {self.cameras} are images; give it an image_encoder")
        resize = _per_camera(resize_shape, self.cameras, "resize_shape")
        crop = _per_camera(crop_shape, self.cameras, "crop_shape")
        self.transforms = nn.ModuleDict()
        for key in self.cameras:
            try:
                self.transforms[key] = ImageTransform(
                    self.shapes[key], resize[key], crop[key], random_crop, pixel_norm, antialias, last_place
                )
            except ValueError as error:
                raise ValueError(f"obs_encoder, camera {key!r}: {error}") from error
        if frozen and random_crop == "always":
            raise ValueError(
                "frozen: features cannot be computed once with random_crop='always'; choose 'never'"
            )
        self.shared = share_image_encoder
        self.image_encoders = nn.ModuleDict(self._encoders(image_encoder))
        self.frozen = frozen
        if frozen:
            self.requires_grad_(False).eval()
        self.feature_dims = {key: self._feature_dim(key) for key in self.keys}
        self.feature_dim = sum(self.feature_dims.values())

    def image_encoder(self, camera: str) -> nn.Module:
        """The encoder of a camera's images, (N, C, h, w) to (N, F)."""
        return self.image_encoders[SHARED if self.shared else camera]

    def transform(self, camera: str) -> ImageTransform:
        """What happens to a camera's images before its encoder."""
        return cast(ImageTransform, self.transforms[camera])

    def forward(self, obs: Mapping[str, Tensor], generator: Generators = None) -> Tensor:
        """Encode `{key: (B, steps, ...)}`, images (B, steps, C, H, W) in [-1, 1], to (B, steps, F).

        Args:
            obs: normalised observations.
            generator: of random crops: None for torch's global one, one generator, or a list with one per row.
        """
        seen = {key: self.transforms[key](obs[key], generator).flatten(0, 1) for key in self.cameras}
        encoded = self._encode(seen)
        n_rows, n_steps = obs[self.keys[0]].shape[:2]
        parts = [encoded[key] if key in encoded else obs[key].flatten(0, 1).flatten(1) for key in self.keys]
        return torch.cat(parts, dim=-1).unflatten(0, (n_rows, n_steps))

    def _encode(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features (N, F) of each camera's images (N, C, h, w)."""
        if not self.shared:
            return {key: self.image_encoders[key](images) for key, images in seen.items()}
        images = torch.cat(list(seen.values()))  # one pass: BatchNorm sees all cameras
        return dict(zip(seen, self.image_encoders[SHARED](images).chunk(len(seen)), strict=True))

    def train(self, mode: bool = True) -> "MultiImageObsEncoder":
        """Set training mode, from which a frozen encoder stays away."""
        return super().train(mode and not self.frozen)

    def decode(self, features: Tensor) -> dict[str, Tensor]:
        """Low-dimensional observations `{key: (B, steps, *shape)}` of features (B, steps, F)."""
        parts = features.split(list(self.feature_dims.values()), dim=-1)
        return {
            key: part.unflatten(-1, self.shapes[key])
            for key, part in zip(self.keys, parts, strict=True)
            if key not in self.cameras
        }

    def _encoders(self, given: Encoder | Mapping[str, Encoder] | None) -> dict[str, nn.Module]:
        if not self.cameras or given is None:
            return {}
        if self.shared:
            if isinstance(given, Mapping):
                raise ValueError("share_image_encoder needs one image_encoder, got one per key")
            seen = {key: self.transform(key).out_shape for key in self.cameras}
            if len(set(seen.values())) > 1:
                raise ValueError(
                    f"share_image_encoder: the cameras would show it images of different shapes {seen}; "
                    "choose resize_shape and crop_shape so that they are equal"
                )
            return {SHARED: _built(given)}
        per_camera = _per_camera(given, self.cameras, "image_encoder")
        return {key: _built(encoder) for key, encoder in per_camera.items()}

    @torch.no_grad()
    def _feature_dim(self, key: str) -> int:
        if key not in self.cameras:
            return prod(self.shapes[key])
        encoder = self.image_encoder(key)
        training = encoder.training
        features = encoder.eval()(torch.zeros(1, *self.transform(key).out_shape))
        encoder.train(training)
        if not isinstance(features, Tensor) or features.ndim != 2:
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(
                f"image_encoder: {type(encoder).__name__} must map images (N, C, H, W) to features (N, F), "
                f"got {found} for one image; pool its feature map, as `ImageEncoder` does"
            )
        return features.shape[1]


def _built(encoder: Encoder) -> nn.Module:
    return copy.deepcopy(encoder) if isinstance(encoder, nn.Module) else encoder()


def _per_camera(choice: Any, cameras: Sequence[str], name: str) -> dict[str, Any]:
    """One value for each camera, from one for all or a mapping."""
    if not isinstance(choice, Mapping):
        return dict.fromkeys(cameras, choice)
    if set(choice) != set(cameras):
        raise ValueError(
            f"{name} must be one for all, or have the cameras {list(cameras)}, got {list(choice)}"
        )
    return dict(choice)
