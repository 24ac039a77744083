"""Steps that are welcome but must not fail what they follow."""

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


def best_effort(what: str, act: Callable[[], object]) -> None:
    """Call `act`; a failure is one line in the log: what was trained or scored is worth more.

    Args:
        what: is missing then, such as "report".
        act: the step.
    """
    try:
        act()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("no %s: %s", what, reason)
        log.debug("traceback", exc_info=True)
