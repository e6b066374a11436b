"""Read lengths of time as people write them: ``"1min"``, ``"5s"``, ``"1h"``. Pure."""

from __future__ import annotations

import datetime as dt
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from finx_sync.errors import InvalidInputError
from finx_sync.ticks.columns import DAY, MILLISECOND, SECOND

__all__ = ["Span", "read_span"]

# A `Span` is a text like "100ms", "5s", "1min", "4h" or "1d", a timedelta (also pandas'), or a `numpy.timedelta64`.
if TYPE_CHECKING:
    import numpy as np

    Span = str | dt.timedelta | np.timedelta64
else:
    Span = str | dt.timedelta

_MINUTE: Final = 60 * SECOND
_HOUR: Final = 60 * _MINUTE
_UNITS: Final = {
    "ms": MILLISECOND,
    "s": SECOND,
    "S": SECOND,
    "m": _MINUTE,
    "min": _MINUTE,
    "h": _HOUR,
    "H": _HOUR,
    "d": DAY,
    "D": DAY,
}
"""In the cases that pandas has accepted. Not "M", which is a month to pandas and a minute to many people."""
_SPAN: Final = re.compile(r"(?P<count>[1-9][0-9]{0,8})?(?P<unit>[A-Za-z]+)")
_NUMPY_UNITS: Final = {"D": DAY, "h": _HOUR, "m": _MINUTE, "s": SECOND, "ms": MILLISECOND, "us": 1}


def read_span(span: Span) -> int:
    """Return the microseconds of a length of time.

    Args:
        span: a number and a unit: "100ms", "5s", "15m" or "15min", "4h", "1d"; without a number, one unit. Or a
            timedelta, of Python, pandas or NumPy.

    Raises:
        InvalidInputError: it is not a length of time, or not whole milliseconds of at most a day.
    """
    length = _microseconds(span)
    if length is None or not 0 < length <= DAY or length % MILLISECOND:
        hint = " ('M' can mean a month; a minute is 'm' or 'min')" if isinstance(span, str) and "M" in span else ""
        raise InvalidInputError(
            f"{span!r} is not a length of time{hint}; it looks like '100ms', '5s', '1min' or '1h', and is at most '1d'"
        )
    return length


def _microseconds(span: object) -> int | None:
    if isinstance(span, dt.timedelta):
        length, finer = divmod(span, dt.timedelta(microseconds=1))
        return None if finer else int(length)
    if isinstance(span, str):
        match = _SPAN.fullmatch(span)
        unit = None if match is None else _UNITS.get(match["unit"])
        return None if match is None or unit is None else int(match["count"] or 1) * unit
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(span, numpy.timedelta64):
        return _from_numpy(numpy, span)
    return None


def _from_numpy(numpy: Any, span: Any) -> int | None:
    if numpy.isnat(span):
        return None
    unit, count = numpy.datetime_data(span.dtype)
    number = int(span.astype("int64")) * count
    if unit == "ns":
        return None if number % 1000 else number // 1000
    return number * _NUMPY_UNITS[unit] if unit in _NUMPY_UNITS else None
