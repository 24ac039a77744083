"""What a demonstration needs of a window: pictures out, a person's mouse and keys in."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

WINDOW_PIXELS = 512


class PersonInput(NamedTuple):
    """What the person does.

    Attributes:
        mouse: x, y of the mouse, in pixels of the window.
        paused: the space bar is held.
        retry: R was pressed since the last time.
        quit: Q was pressed, or the window closed, since the last time.
    """

    mouse: tuple[int, int]
    paused: bool = False
    retry: bool = False
    quit: bool = False


class DemonstrationWindow(Protocol):
    """A window of 512 x 512 pixels; tests put a script in its place."""

    def show(self, image: NDArray[np.uint8], title: str) -> None:
        """Show an image (512, 512, 3) of red, green, blue."""

    def poll(self) -> PersonInput:
        """What the person does now, and pressed since the last call."""

    def wait(self, frequency_hz: float) -> None:
        """Wait until `1 / frequency_hz` seconds have passed since the last call."""
