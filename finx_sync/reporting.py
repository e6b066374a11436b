"""The library's log, which reports and never disturbs.

Log handlers and filters are the user's code, and they run wherever something is logged, also on the threads that keep a
stream alive. Whatever they raise stays here.

No `NullHandler` is attached: where a program has not configured logging, Python prints warnings and errors to stderr,
so a handler that raises or a stream that fails is visible by default. Where it has, nothing is printed beside its log.
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
    """Whether anybody has set up logging: else Python itself prints warnings and errors."""
    return logger.hasHandlers()


_handle = logger.handle
_told: set[type[BaseException]] = set()


def _guarded(record: logging.LogRecord) -> None:
    """The logger's own `handle`, which calls filters and handlers; nothing leaves it but a Ctrl+C of the main one."""
    try:
        _handle(record)
    except BaseException as error:
        if not isinstance(error, Exception) and on_main_thread():
            raise
        _notify(error)


def _notify(error: BaseException) -> None:
    """Once for each kind of error: the log cannot be used to report that the log does not work."""
    if type(error) in _told:
        return
    _told.add(type(error))
    with contextlib.suppress(Exception):  # stderr may be closed, or the user's too
        sys.stderr.write(
            f"finx_sync: a handler or filter of the log raised {type(error).__name__}; the stream goes on\n"
        )


logger.handle = _guarded  # type: ignore[method-assign]  # also where the program has made the logger before
