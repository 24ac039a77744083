"""Images of Push-T that equal those of the recorded demonstrations pixel for pixel.

A scene is drawn on a canvas of 512 x 512 pixels in the order goal, block, agent, walls, contacts, and then
reduced by bilinear interpolation. Contacts show as short red lines. They are not part of the five-number
state, so an image drawn from a state alone lacks them: a few pixels differ while the agent pushes.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.env.pusht.geometry import (
    AGENT_RADIUS,
    BAR,
    GOAL_POSE,
    STEM,
    WALL_CORNERS,
    WINDOW_SIZE,
    Point,
    Vector,
    place,
)
from diffusion_policy.env.pusht.rasterizer import (
    Canvas,
    Color,
    Pixel,
    channels,
    draw_antialiased_line,
    draw_line,
    fill_convex,
    fill_disc,
    pack,
)

try:
    import cv2
except ImportError as error:
    raise ImportError('drawing Push-T needs OpenCV: pip install "diffusion_policy[pusht]"') from error

BACKGROUND_COLOR = pack(255, 255, 255)
GOAL_COLOR = pack(144, 238, 144)
AGENT_COLOR, AGENT_FILL_COLOR = pack(65, 105, 225), pack(78, 126, 255)
BLOCK_COLOR, BLOCK_FILL_COLOR = pack(119, 136, 153), pack(143, 163, 184)
WALL_COLOR = pack(211, 211, 211)
CONTACT_COLOR = pack(231, 76, 60)
OUTLINE_RADIUS = 2
ACTION_COLOR = (255, 0, 0)


def render_scene(
    agent_position: Vector,
    block_pose: Vector,
    contacts: Sequence[tuple[Point, Point]] = (),
    size: int = 96,
) -> NDArray[np.uint8]:
    """Draw a scene.

    Args:
        agent_position: x, y of the agent, in pixels of the window.
        block_pose: x, y (pixels) and angle (radians) of the block.
        contacts: both ends of each contact's line, in pixels of the window.
        size: height and width of the result.

    Returns:
        (size, size, 3) uint8 image.
    """
    canvas = _empty_scene().copy()
    for rectangle in (BAR, STEM):
        corners = _to_pixels(place(rectangle, block_pose))
        fill_convex(canvas, corners, BLOCK_FILL_COLOR)
        _draw_outline(canvas, corners, BLOCK_COLOR)
    (agent,) = _to_pixels([(agent_position[0], agent_position[1])])
    fill_disc(canvas, agent, AGENT_RADIUS, AGENT_COLOR)
    fill_disc(canvas, agent, AGENT_RADIUS - 4, AGENT_FILL_COLOR)
    canvas.reshape(-1)[_wall_pixels()] = WALL_COLOR
    for contact in contacts:
        start, end = _to_pixels(contact)
        draw_antialiased_line(canvas, start, end, CONTACT_COLOR)
    image = cv2.resize(channels(canvas), (size, size), interpolation=cv2.INTER_LINEAR)
    return image[..., :3].copy()


def draw_action(image: NDArray[np.uint8], action: Vector) -> None:
    """Mark an action (x, y in pixels of the window) by a red cross on a square image, in place."""
    size = image.shape[0]
    near = np.clip(
        action, -WINDOW_SIZE, 2 * WINDOW_SIZE
    )  # a diverging policy's actions exceed OpenCV's integers
    x, y = (int(coordinate / WINDOW_SIZE * size) for coordinate in near)
    width, thickness = max(8 * size // 96, 1), max(size // 96, 1)
    cv2.drawMarker(image, (x, y), ACTION_COLOR, cv2.MARKER_CROSS, width, thickness)


@cache
def _empty_scene() -> Canvas:
    """The goal on white."""
    canvas = np.full((WINDOW_SIZE, WINDOW_SIZE), BACKGROUND_COLOR)
    for rectangle in (BAR, STEM):
        fill_convex(canvas, _to_pixels(place(rectangle, GOAL_POSE)), GOAL_COLOR)
    canvas.flags.writeable = False
    return canvas


@cache
def _wall_pixels() -> NDArray[np.int64]:
    """Indices of the walls in a flattened canvas. Walls lie over the block, so not in the background."""
    canvas = np.zeros((WINDOW_SIZE, WINDOW_SIZE), np.uint32)
    _draw_outline(canvas, _to_pixels(WALL_CORNERS), WALL_COLOR)
    return np.flatnonzero(canvas)


def _draw_outline(canvas: Canvas, corners: list[Pixel], color: Color) -> None:
    """Draw the closed outline of a polygon, of radius 2, with round corners.

    Beside a line, each edge gets a parallelogram that was meant to thicken it. In the recorded images its
    offset has no sign, so that it lies across an edge only if that falls to the left.
    """
    for start, end in pairwise([*corners, corners[0]]):
        draw_line(canvas, start, end, color)
        width, height = abs(end[0] - start[0]), abs(end[1] - start[1])
        scale = OUTLINE_RADIUS / (width**2 + height**2) ** 0.5
        dx, dy = round(height * scale), round(width * scale)
        parallelogram = [
            (start[0] - dx, start[1] - dy),
            (start[0] + dx, start[1] + dy),
            (end[0] + dx, end[1] + dy),
            (end[0] - dx, end[1] - dy),
        ]
        fill_convex(canvas, parallelogram, color)
        fill_disc(canvas, end, OUTLINE_RADIUS, color)


def _to_pixels(points: Sequence[Point]) -> list[Pixel]:
    return [(round(x), round(y)) for x, y in points]
