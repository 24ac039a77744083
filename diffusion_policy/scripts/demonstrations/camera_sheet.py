"""A sheet of camera views: each frame with its crop, and what the network is shown of it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_policy.scripts.demonstrations.camera_views import CameraViews

PANEL = 1.9  # inches
CROP_COLOR = "#e6194b"


def draw_sheet(views: Sequence[CameraViews], names: Sequence[str]) -> Any:
    """The sheet as a matplotlib figure: of each camera one row per frame; `names` are those of the frames."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('matplotlib is missing: pip install "diffusion_policy[plot]"') from error
    n_columns = 2 + len(views[0].augmented)
    heights = [
        len(names) * (PANEL * view.frames.shape[-2] / view.frames.shape[-1] + 0.3) + 0.3 for view in views
    ]
    figure = Figure(figsize=(PANEL * n_columns, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(views), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, view in zip(parts, views, strict=True):
        part.suptitle(str(view), fontsize=9)
        axes = part.subplots(len(names), n_columns, squeeze=False)
        for i, (row, name) in enumerate(zip(axes, names, strict=True)):
            _draw_row(row, view, i, name)
    return figure


def _draw_row(axes: Sequence[Any], view: CameraViews, i: int, name: str) -> None:
    """One frame: as recorded with its crop, what is seen of it when acting, and while training."""
    from matplotlib.patches import Rectangle

    recorded, evaluated, *augmented = axes
    _show(recorded, view.frames[i], name)
    left, top, right, bottom = (edge - 0.5 for edge in view.boxes[i])  # the first pixel's centre is at 0
    box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=CROP_COLOR, linewidth=1)
    recorded.add_patch(box)
    _show(evaluated, view.evaluated[i], "acting" if view.keypoints is None else "acting, and keypoints")
    if view.keypoints is not None:
        height, width = view.evaluated.shape[-2:]
        x, y = (view.keypoints[i] * torch.tensor([width, height]) - 0.5).T.tolist()
        evaluated.scatter(x, y, c=range(len(x)), cmap="hsv", s=9, edgecolors="black", linewidths=0.3)
    for axis, images in zip(augmented, view.augmented, strict=True):
        _show(axis, images[i], "training")


def _show(axis: Any, image: Tensor, title: str) -> None:
    """Draw (C, H, W) in [0, 1]."""
    axis.imshow(image.movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=7)
    axis.set_xticks([])
    axis.set_yticks([])
