"""Lengths of time as people write them: ``"1min"``, ``"5s"``, ``"1h"``. Pure."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from finx_sync.errors import InvalidInputError
from finx_sync.ticks.columns import DAY, MILLISECOND, SECOND

__all__ = ["Span", "read_span"]

Span = str | dt.timedelta
"""Like "100ms", "5s", "1min", "4h", "1d", or a timedelta."""

_UNITS: Final = {"ms": MILLISECOND, "s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND, "d": DAY}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,8})?(ms|s|min|h|d)")


def read_span(span: Span) -> int:
    """Microseconds.

    Raises:
        InvalidInputError: it is no length of time, or not whole milliseconds of at most a day.
    """
    length = 0
    if isinstance(span, dt.timedelta):
        length = span // dt.timedelta(microseconds=1)
    elif isinstance(span, str) and (match := _SPAN.fullmatch(span)):
        length = int(match[1] or 1) * _UNITS[match[2]]
    if not 0 < length <= DAY or length % MILLISECOND:
        raise InvalidInputError(
            f"{span!r} is no length of time; it looks like '100ms', '5s', '1min' or '1h', and is at most '1d'"
        )
    return length
