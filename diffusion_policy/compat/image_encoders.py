"""The original's two image encoders as ours, with what was wrong in them: their weights were learned so."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from torch import nn

from diffusion_policy.model.vision.image_encoder import ImageEncoder
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.model.vision.resnet import ResNet, group_norm
from diffusion_policy.model.vision.spatial_softmax import SpatialSoftmax

N_KEYPOINTS, FEATURE_DIM = 32, 64


def resnet(name: str, weights: str | None = None) -> ImageEncoder:
    """Its `get_resnet`: resnet18, resnet34 or resnet50 without classifier.

    Raises:
        ValueError: another name, or weights by name: they are not fetched here.
    """
    depths: dict[str, Any] = {"resnet18": 18, "resnet34": 34, "resnet50": 50}
    if name not in depths:
        raise ValueError(f"get_resnet: name must be one of {list(depths)}, got {name!r}")
    if weights is not None:
        raise ValueError(
            f"get_resnet: weights={weights!r} are not fetched here. Load the checkpoint's weights, or train "
            "with ResNet(weights=FILE) and a file of torchvision's or R3M's"
        )
    return ImageEncoder(partial(ResNet, depths[name], norm="batch"))


def multi_image_obs_encoder(
    shape_meta: Mapping[str, Any],
    rgb_model: nn.Module | Mapping[str, nn.Module],
    resize_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    crop_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    random_crop: bool = True,
    use_group_norm: bool = False,
    share_rgb_model: bool = False,
    imagenet_norm: bool = False,
) -> MultiImageObsEncoder:
    """Its `MultiImageObsEncoder`.

    Kept: images before low-dimensional keys, each in alphabetical order; no crop at all with
    `random_crop=False`; batch norm where the encoder is shared, whatever is asked; ImageNet's statistics on
    colours in [-1, 1]; resizing without antialiasing, as in the torchvision of its time.
    """
    obs = shape_meta["obs"]
    kinds = {key: meta.get("type", "low_dim") for key, meta in obs.items()}
    ordered = [*sorted(k for k in obs if kinds[k] == "rgb"), *sorted(k for k in obs if kinds[k] != "rgb")]
    if use_group_norm and not share_rgb_model:
        rgb_model = _with_group_norm(rgb_model)
    return MultiImageObsEncoder(
        {"obs": {key: obs[key] for key in ordered}},
        rgb_model,
        resize_shape=resize_shape,
        crop_shape=crop_shape if random_crop else None,
        share_image_encoder=share_rgb_model,
        pixel_norm="imagenet_unscaled" if imagenet_norm else "none",
        antialias=False,
        last_place=False,
    )


def hybrid_obs_encoder(
    shape_meta: Mapping[str, Any], crop_shape: Sequence[int] | None, group_norm: bool, fixed_crop: bool
) -> MultiImageObsEncoder:
    """The encoder of its "hybrid" policies, which robomimic 0.2 built.

    Args:
        shape_meta: its order of keys is that of the features.
        crop_shape: None does not crop.
        group_norm: in place of batch norm.
        fixed_crop: take the middle in evaluation; otherwise the crop is random there too.
    """
    encoder = partial(
        ImageEncoder,
        partial(ResNet, 18, norm="group" if group_norm else "batch"),
        partial(SpatialSoftmax, n_keypoints=N_KEYPOINTS),
        FEATURE_DIM,
    )
    return MultiImageObsEncoder(
        shape_meta,
        encoder,
        crop_shape=crop_shape,
        random_crop="training" if fixed_crop else "always",
        last_place=False,
    )


def _with_group_norm(models: Any) -> Any:
    """Copies of one module, or of some by name, whose BatchNorms are GroupNorms."""
    if isinstance(models, Mapping):
        return {name: _with_group_norm(model) for name, model in models.items()}
    model = copy.deepcopy(cast(nn.Module, models))
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, group_norm(child.num_features))
    return model
