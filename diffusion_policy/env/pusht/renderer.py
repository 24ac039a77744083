"""Images of Push-T that equal those of the recorded demonstrations pixel for pixel.

A scene is drawn on a canvas of 512 x 512 pixels in the order goal, block, agent, walls, contacts, and then
reduced by bilinear interpolation. Contacts show as short red lines. They are not part of the five-number
state, so an image drawn from a state alone lacks them: a few pixels differ while the agent pushes.
"""

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

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
    Integers,
    Pixels,
    Runs,
    channels,
    convex_runs,
    disc_runs,
    draw_antialiased_line,
    line_runs,
    pack,
    paint,
    pixels_of,
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
# Of layers: the bar and its outline, the stem and its outline; the agent's two discs.
BLOCK_PALETTE = np.array([BLOCK_FILL_COLOR, BLOCK_COLOR, BLOCK_FILL_COLOR, BLOCK_COLOR])
AGENT_PALETTE = np.array([AGENT_COLOR, AGENT_FILL_COLOR])
OUTLINE_RADIUS = 2
FAR = 1e6  # pixels; a diverging policy may drive the agent beyond what an integer holds
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
    paint(canvas, _block_pixels(_block_corners(block_pose).tobytes()))
    paint(canvas, _agent_pixels(agent_position))
    paint(canvas, _wall_pixels())
    for contact in contacts:
        start, end = _to_pixels(contact).tolist()
        draw_antialiased_line(canvas, start, end, CONTACT_COLOR)
    image = cv2.resize(channels(canvas), (size, size), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(image, cv2.COLOR_RGBA2RGB)


def render_states(states: NDArray[np.floating], size: int = 96) -> NDArray[np.uint8]:
    """Draw scenes from states alone, with a progress bar where that takes seconds.

    Contacts are not part of a state. While the agent pushes, a few pixels differ from what the environment shows.

    Args:
        states: (N, 5): agent x, y, block x, y (pixels of the window) and angle (radians).
        size: height and width of the result.

    Returns:
        (N, size, size, 3) uint8 images.

    Raises:
        ValueError: `states` has another shape.
    """
    if states.ndim != 2 or states.shape[1] != 5:
        raise ValueError(
            f"states have shape {states.shape}; expected (N, 5): agent x, y, block x, y and angle of each step"
        )
    images = np.empty((len(states), size, size, 3), np.uint8)
    for image, state in zip(images, tqdm(states, desc="drawing", unit="image", delay=2), strict=True):
        image[:] = render_scene(state[:2], state[2:], size=size)
    return images


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
    runs = convex_runs(_block_corners(GOAL_POSE), np.array([0, 0]))
    paint(canvas, pixels_of([runs], np.array([GOAL_COLOR]), WINDOW_SIZE))
    canvas.flags.writeable = False
    return canvas


def _block_corners(pose: Vector) -> Integers:
    """Corners of the bar and of the stem, (2, 4, 2)."""
    return _to_pixels([*place(BAR, pose), *place(STEM, pose)]).reshape(2, 4, 2)


@lru_cache(maxsize=64)  # in half the steps of the demonstrations the block lies still
def _block_pixels(corners: bytes) -> Pixels:
    """The block, from the bytes of `_block_corners`."""
    rectangles = np.frombuffer(corners, np.int64).reshape(2, 4, 2)
    outlines = _outline_runs(rectangles, np.array([1, 3]))
    return pixels_of([convex_runs(rectangles, np.array([0, 2])), *outlines], BLOCK_PALETTE, WINDOW_SIZE)


def _agent_pixels(position: Vector) -> Pixels:
    """The agent; where it is wholly inside, the same pixels as in the middle."""
    x, y = (round(min(max(position[i], -FAR), FAR)) for i in (0, 1))
    if not AGENT_RADIUS <= min(x, y) <= max(x, y) <= WINDOW_SIZE - AGENT_RADIUS:
        return _discs_at(x, y)
    middle = _discs_at(WINDOW_SIZE // 2, WINDOW_SIZE // 2)
    shift = (y - WINDOW_SIZE // 2) * WINDOW_SIZE + x - WINDOW_SIZE // 2
    return Pixels(middle.position + shift, middle.color)


@lru_cache(maxsize=64)
def _discs_at(x: int, y: int) -> Pixels:
    """The two discs of an agent at (x, y)."""
    center = np.array([[x, y]])
    runs = [
        disc_runs(center, AGENT_RADIUS, np.array([0])),
        disc_runs(center, AGENT_RADIUS - 4, np.array([1])),
    ]
    return pixels_of(runs, AGENT_PALETTE, WINDOW_SIZE)


@cache
def _wall_pixels() -> Pixels:
    """The walls. They lie over the block, so not in the background."""
    runs = _outline_runs(_to_pixels(WALL_CORNERS)[None], np.array([0]))
    return pixels_of(runs, np.array([WALL_COLOR]), WINDOW_SIZE)


def _outline_runs(corners: Integers, layer: Integers) -> list[Runs]:
    """The closed outlines, of radius 2, with round corners, of polygons (P, n, 2).

    Beside a line, each edge gets a parallelogram that was meant to thicken it. In the recorded images its
    offset has no sign, so that it lies across an edge only if that falls to the left.
    """
    starts, ends = corners.reshape(-1, 2), np.roll(corners, -1, axis=1).reshape(-1, 2)  # (P * n, 2)
    layers = np.repeat(layer, corners.shape[1])
    extent = np.abs(ends - starts)
    scale = OUTLINE_RADIUS / np.sqrt((extent**2).sum(1, keepdims=True))
    across = np.rint(extent[:, ::-1] * scale).astype(np.int64)
    parallelograms = np.stack([starts - across, starts + across, ends + across, ends - across], axis=1)
    return [
        line_runs(starts, ends, layers, WINDOW_SIZE),
        convex_runs(parallelograms, layers),
        disc_runs(ends, OUTLINE_RADIUS, layers),
    ]


def _to_pixels(points: Sequence[Point]) -> Integers:
    """Whole pixels (n, 2)."""
    return np.rint(points).astype(np.int64)
