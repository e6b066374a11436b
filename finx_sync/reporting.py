"""The library's logger, which never lets an error of the log interrupt a stream.

Log handlers and filters are user code, and they run wherever something is logged, also on a stream's own threads.
Whatever they raise is caught here.

No `NullHandler` is attached: if a program has not configured logging, Python prints warnings and errors to stderr, so
a handler that raises or a stream that fails is visible by default. If it has, nothing is printed besides its log.
"""

from __future__ import annotations

import contextlib
import logging
import sys

from finx_sync.interrupts import on_main_thread
from finx_sync.redaction import OwnFilter

__all__ = ["is_configured", "logger"]

logger = logging.getLogger("finx_sync")
logger.addFilter(OwnFilter())


def is_configured() -> bool:
    """Return whether the program has configured logging; otherwise Python itself prints warnings and errors."""
    return logger.hasHandlers()


_handle = logger.handle
_told: set[type[BaseException]] = set()


def _guarded(record: logging.LogRecord) -> None:
    """Call the logger's own `handle`, which calls filters and handlers; only Ctrl+C on the main thread gets through."""
    try:
        _handle(record)
    except BaseException as error:
        if not isinstance(error, Exception) and on_main_thread():
            raise
        _notify(error)


def _notify(error: BaseException) -> None:
    """Report each type of error once, on stderr: the log itself does not work."""
    if type(error) in _told:
        return
    _told.add(type(error))
    with contextlib.suppress(Exception):  # stderr may be closed, or the user's too
        sys.stderr.write(
            f"finx_sync: a logging handler or filter raised {type(error).__name__}; fix it; the stream goes on\n"
        )


logger.handle = _guarded  # type: ignore[method-assign]  # not a subclass: the program may have created the logger
