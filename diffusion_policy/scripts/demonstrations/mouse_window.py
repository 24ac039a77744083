"""The window in which a person demonstrates with the mouse."""

import os
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.scripts.demonstrations.window import WINDOW_PIXELS, PersonInput

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
try:
    import pygame
except ImportError as error:
    raise ImportError('demonstrating needs pygame: pip install "diffusion_policy[demo]"') from error


_INVISIBLE = ("offscreen", "dummy")  # what SDL takes where there is no screen; nobody could see the scene
_NO_SCREEN = "demonstrate on a machine with a screen, or set DISPLAY, as ssh -X does"


class MouseWindow:
    """A `DemonstrationWindow` on the screen. A context manager: the window closes at the end.

    Raises:
        OSError: there is no screen.
    """

    def __init__(self) -> None:
        try:
            pygame.display.init()
            self._screen = pygame.display.set_mode((WINDOW_PIXELS, WINDOW_PIXELS))
        except pygame.error as error:
            raise OSError(f"could not open a window ({error}); {_NO_SCREEN}") from error
        driver = pygame.display.get_driver()
        if driver in _INVISIBLE and "SDL_VIDEODRIVER" not in os.environ:
            pygame.display.quit()
            raise OSError(f"could not open a window (SDL found only {driver!r}); {_NO_SCREEN}")
        self._clock = pygame.time.Clock()
        self._paused = False

    def __enter__(self) -> "MouseWindow":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pygame.display.quit()

    def show(self, image: NDArray[np.uint8], title: str) -> None:
        """Show an image (512, 512, 3) of red, green, blue."""
        pygame.display.set_caption(title)
        pygame.surfarray.blit_array(self._screen, image.swapaxes(0, 1))  # pygame has x first
        pygame.display.flip()

    def poll(self) -> PersonInput:
        """What the person does now, and pressed since the last call."""
        retry = leave = False
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                leave = True
            elif event.type == pygame.KEYDOWN:
                self._paused |= event.key == pygame.K_SPACE
                retry |= event.key == pygame.K_r
                leave |= event.key == pygame.K_q
            elif event.type == pygame.KEYUP and event.key == pygame.K_SPACE:
                self._paused = False
        x, y = pygame.mouse.get_pos()
        return PersonInput((x, y), self._paused, retry, leave)

    def wait(self, frequency_hz: float) -> None:
        """Wait until `1 / frequency_hz` seconds have passed since the last call."""
        self._clock.tick(frequency_hz)
