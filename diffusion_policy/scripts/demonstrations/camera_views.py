"""What a policy's network is shown of each camera's frames."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_policy.model.vision.image_encoder import ImageEncoder
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.model.vision.spatial_softmax import SpatialSoftmax

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CameraViews:
    """A camera's frames and what becomes of them; colours are in [0, 1], boxes in pixels of the frame.

    Attributes:
        camera: Its key.
        frames: As recorded, (N, C, H, W).
        evaluated: What the network sees when the policy acts, (N, C, h, w).
        boxes: Where in each frame that is: left, top, right, bottom.
        augmented: What it sees while training, (A, N, C, h, w).
        resize_shape: (h, w) of the resized frame, before the crop; None where the size is kept.
        crop_share: Share of the frame that the crop keeps.
        keypoints: The spatial softmax's (N, K, 2) as x, y of `evaluated`, in shares of its width and height; None
            where the encoder has none.
    """

    camera: str
    frames: Tensor
    evaluated: Tensor
    boxes: list[Box]
    augmented: Tensor
    resize_shape: tuple[int, int] | None
    crop_share: float
    keypoints: Tensor | None

    def __str__(self) -> str:
        resized = "" if self.resize_shape is None else f", resized to {_size(self.resize_shape)}"
        return (
            f"{self.camera}: frames of {_size(self.frames.shape[-2:])}{resized}, the network sees "
            f"{_size(self.evaluated.shape[-2:])}: the crop keeps {self.crop_share:.0%} of the frame"
        )


@torch.no_grad()
def camera_views(
    encoder: MultiImageObsEncoder, frames: Mapping[str, Tensor], n_augmented: int, with_keypoints: bool
) -> list[CameraViews]:
    """Show frames to an encoder; its training mode is as before when this returns.

    Args:
        encoder: On the CPU.
        frames: `{camera: (N, C, H, W)}` in [0, 1].
        n_augmented: A, how often to draw training's random crops.
        with_keypoints: Whether to find those of its spatial softmax; of untrained weights they say nothing.

    Returns:
        One for each camera of the encoder.
    """
    training = encoder.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        views = [
            _views(encoder, camera, frames[camera], n_augmented, with_keypoints) for camera in encoder.cameras
        ]
    encoder.train(training)
    return views


def _views(
    encoder: MultiImageObsEncoder, camera: str, frames: Tensor, n_augmented: int, with_keypoints: bool
) -> CameraViews:
    transform = encoder.transform(camera)
    encoder.eval()
    evaluated, boxes = _seen_and_where(transform.view, frames)
    keypoints = _keypoints(encoder, camera, evaluated) if with_keypoints else None
    encoder.train()
    augmented = torch.stack([_seen_and_where(transform.view, frames)[0] for _ in range(n_augmented)])
    return CameraViews(
        camera=camera,
        frames=frames,
        evaluated=evaluated,
        boxes=boxes,
        augmented=augmented,
        resize_shape=transform.resize_shape,
        crop_share=transform.crop_share,
        keypoints=keypoints,
    )


def _seen_and_where(view: Callable[[Tensor], Tensor], frames: Tensor) -> tuple[Tensor, list[Box]]:
    """What `view` makes of the frames, and the box of each frame that it shows.

    Two more channels hold each pixel's x and y: where they end up says what was shown, whatever `view` does.
    """
    n_frames, _, height, width = frames.shape
    x = (torch.arange(width) + 0.5).expand(n_frames, 1, height, width)
    y = (torch.arange(height) + 0.5)[:, None].expand(n_frames, 1, height, width)
    seen = view(torch.cat([frames, x, y], dim=1))
    boxes: list[Box] = []
    for x_seen, y_seen in zip(seen[:, -2], seen[:, -1], strict=True):
        (left, right), (top, bottom) = _ends(x_seen[0], width), _ends(y_seen[:, 0], height)
        boxes.append((left, top, right, bottom))
    return seen[:, :-2].clamp(0, 1), boxes


def _ends(centers: Tensor, length: int) -> tuple[float, float]:
    """Where a row of pixels begins and ends, from the centres of its pixels."""
    first, last = centers[0].item(), centers[-1].item()
    half = (last - first) / max(len(centers) - 1, 1) / 2 if len(centers) > 1 else 0.5
    return max(first - half, 0), min(last + half, length)


def _keypoints(encoder: MultiImageObsEncoder, camera: str, seen: Tensor) -> Tensor | None:
    """Keypoints (N, K, 2) in images (N, C, h, w), as shares of their width and height."""
    network = encoder.image_encoder(camera)
    if not isinstance(network, ImageEncoder) or not isinstance(network.pool, SpatialSoftmax):
        return None
    features = network.backbone(encoder.transform(camera).normalized(2 * seen - 1))
    n_places = torch.tensor([features.shape[-1], features.shape[-2]])
    place = (network.pool.keypoints(features) + 1) / 2 * (n_places - 1)  # counted from 0
    size = torch.tensor([seen.shape[-1], seen.shape[-2]])
    # Place i of a padded, strided network is around pixel i * stride.
    stride = getattr(network.backbone, "stride", size / n_places)
    return (place * stride + 0.5) / size


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]}"
