"""What a user can mend is shown as one line, not as a traceback."""

import difflib
import errno
import logging
import os
import sys
from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf import DictConfig
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
        return _unknown_key(error.__cause__) or f"{error}\n{error.__cause__}"
    if isinstance(error, OSError) and error.errno in ADVICE and error.strerror == os.strerror(error.errno):
        return f"{error}; {ADVICE[error.errno]}"
    return str(error)


def _unknown_key(error: BaseException) -> str | None:
    """What to say of an override of something that the configuration does not have; None for other errors."""
    parent, key = getattr(error, "parent_node", None), getattr(error, "key", None)
    if not isinstance(parent, DictConfig) or not isinstance(key, str) or key in parent:
        return None
    there = [str(name) for name in parent]
    alike = difflib.get_close_matches(key, there, n=1)
    where = str(getattr(error, "full_key", key)).removesuffix(key).removesuffix(".") or "the configuration"
    return (
        f"there is no {key!r} in {where}"
        + (f"; did you mean {alike[0]}?" if alike else ".")
        + f" It has {', '.join(there)}. (Written with a + before it, it would be added, for what takes it.)"
    )
