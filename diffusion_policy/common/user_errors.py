"""What a user can mend is shown as one line, not as a traceback."""

import logging
import sys
from collections.abc import Callable

USER_ERRORS = (OSError, ValueError, ImportError, FloatingPointError)


def report_user_errors(
    run: Callable[[], None], when_interrupted: str = "repeat the command to begin again"
) -> None:
    """Show what a user can mend as one line, exit code 1; everything else with its traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(f"interrupted; {when_interrupted}")
    except USER_ERRORS as error:
        logging.getLogger(__name__).debug("traceback", exc_info=True)
        sys.exit(f"error: {error}")
