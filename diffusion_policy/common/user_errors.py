"""What a user can mend is shown as one line, not as a traceback."""

import errno
import logging
import os
import sys
from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

USER_ERRORS = (
    *(OSError, ValueError, ImportError, FloatingPointError),
    *(HydraException, OmegaConfBaseException),  # of configurations
)
# What to do where the operating system refuses; what it says names the path.
ADVICE = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, or choose a folder on another disk"
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions, or choose another path"
    ),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is in the way: remove it, or choose another path"),
}


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
        sys.exit(f"error: {_explained(error)}")


def _explained(error: Exception) -> str:
    """What an error says, with what it leaves out: the cause within a configuration, or what to do."""
    if isinstance(error, HydraException) and error.__cause__ is not None:
        return f"{error}\n{error.__cause__}"
    if isinstance(error, OSError) and error.errno in ADVICE and error.strerror == os.strerror(error.errno):
        return f"{error}; {ADVICE[error.errno]}"
    return str(error)
