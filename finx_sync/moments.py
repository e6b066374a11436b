"""Dates, times and moments as people write them, read in one place for the whole library. Pure; no I/O, no clock.

Whatever takes a date or a time takes it in every usual spelling: Python's own types, NumPy's and pandas' stamps, ISO
8601 text, and UNIX seconds. What has no zone is UTC. Nothing is lost on the way: where only a day can be used, a moment
within one is refused, not cut off. Only a fraction of a microsecond is.

`read_any` tells three kinds apart: a moment (an aware datetime in UTC), a day (a date), and a time of day. The other
functions each read what one kind of argument needs. NumPy and pandas are never imported: a value of theirs shows that
they are there already.
"""

from __future__ import annotations

import datetime as dt
import numbers
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from finx_sync.errors import InvalidInputError

# `Moment` is a datetime (also pandas'), a date, a `numpy.datetime64`, ISO 8601 text, or UNIX seconds.
if TYPE_CHECKING:
    import numpy as np

    Moment = str | float | dt.date | np.datetime64
    TimeOfDay = str | dt.time
else:
    Moment = str | float | dt.date
    TimeOfDay = str | dt.time

__all__ = [
    "EARLIEST_SECONDS",
    "UTC",
    "Moment",
    "TimeOfDay",
    "is_date_or_time",
    "on_day",
    "read_any",
    "read_day",
    "read_moment",
    "read_start",
    "read_time",
    "read_time_alone",
    "written_time",
]

UTC: Final = dt.timezone.utc
EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=UTC)
END_OF_TIME: Final = dt.datetime.max.replace(tzinfo=UTC).timestamp()
EARLIEST_SECONDS: Final = 100_000_000
"""Where a day is meant as well as a moment, smaller numbers are no UNIX seconds: 20220615 is somebody's date."""

_HOUR: Final = r"(?P<hour>[01]\d|2[0-3])"
_REST: Final = r":(?P<minute>[0-5]\d)(:(?P<second>[0-5]\d)(\.(?P<fraction>\d{1,9}))?)?"
_ZONE: Final = r"(?P<zone>[Zz]|(?P<sign>[+-])(?P<east>[01]\d|2[0-3])(:?(?P<past>[0-5]\d))?)?"
_DAY: Final = r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
_MOMENT: Final = re.compile(rf"{_DAY}[Tt ]{_HOUR}({_REST})?{_ZONE}", re.ASCII)
_DATE: Final = re.compile(_DAY, re.ASCII)
_TIME: Final = re.compile(rf"{_HOUR}{_REST}{_ZONE}", re.ASCII)

_NUMPY_UNITS: Final = {
    "h": 3600 * 10**18,
    "m": 60 * 10**18,
    "s": 10**18,
    "ms": 10**15,
    "us": 10**12,
    "ns": 10**9,
    "ps": 10**6,
    "fs": 10**3,
    "as": 1,
}
"""Attoseconds, the smallest of NumPy's units, so that all are whole numbers."""
_ATTOSECONDS: Final = 10**12
"""Of a microsecond."""


def read_any(value: object, least: float = 0.0) -> dt.datetime | dt.date | dt.time:
    """Tell what a value is: a moment, a day, or a time of day.

    Args:
        value: what a caller gave.
        least: smaller numbers are refused.

    Returns:
        An aware datetime in UTC; or a date; or a time, whose zone is kept.

    Raises:
        InvalidInputError: it is none of these.
    """
    found = _read(value, least)
    if found is None:
        raise _refusal(
            value, "no moment, date or time", "'2022-06-15', '12:00', '2022-06-15T12:00', a datetime or UNIX seconds"
        )
    return found


def read_moment(value: object) -> dt.datetime:
    """A moment in UTC; a day stands for its first one.

    Raises:
        InvalidInputError: it is no moment, or a time of day alone.
    """
    found = _read(value)
    if found is None or isinstance(found, dt.time):
        raise _refusal(
            value, "no moment", "'2022-06-15T12:00' (UTC, unless it names a zone), a datetime or UNIX seconds"
        )
    return found if isinstance(found, dt.datetime) else dt.datetime.combine(found, dt.time(), UTC)


def read_day(value: object) -> dt.date:
    """A whole day in UTC. Midnight is taken for it, which is how pandas spells a day.

    Raises:
        InvalidInputError: it is no day, or a moment within one: its time would be lost.
    """
    found = _day_or_moment(value)
    if not isinstance(found, dt.datetime):
        return found
    if found.time() != dt.time():
        raise InvalidInputError(
            f"{value!r} is {found:%H:%M:%S} UTC of a day, where a whole day is asked for; give the date alone, "
            f"like '{found:%Y-%m-%d}'"
        )
    return found.date()


def read_time(value: object) -> dt.time:
    """A time of day; its zone is kept, and what has none is UTC.

    Raises:
        InvalidInputError: it is no time of day.
    """
    found = _read(value)
    if not isinstance(found, dt.time):
        raise _refusal(value, "no time of day", "'21:27' or '21:27:40.453'")
    return found


def read_start(date: object, time: object = None) -> tuple[dt.date, dt.time | None]:
    """Where something begins: a day, and the time of that day, both in UTC; None where no time was given.

    Args:
        date: a day; or a moment, which has its time with it.
        time: a time of that day. If it has a zone, `date` is that zone's as well.

    Raises:
        InvalidInputError: one of them cannot be read; or `date` has a time of its own, and `time` says another.
    """
    day = _day_or_moment(date)
    clock = None if time is None else read_time(time)
    if isinstance(day, dt.datetime):
        if clock is None:
            return day.date(), day.time()
        if day.time() != dt.time():
            raise InvalidInputError(f"{date!r} has a time of its own, and time={time!r} says another; give one of them")
        day = day.date()
    return (day, None) if clock is None else on_day(day, clock)


def read_time_alone(time: object) -> dt.time | None:
    """A time in UTC of a day that the caller does not know; None stays None.

    Raises:
        InvalidInputError: it is no time of day, or has another zone than UTC: without a day, it can be two.
    """
    if time is None:
        return None
    clock = read_time(time)
    if clock.tzinfo is not None and clock.utcoffset() != dt.timedelta():
        raise InvalidInputError(f"{time!r} has a zone, which needs a day to be a time in UTC; give the date as well")
    return clock.replace(tzinfo=None)


def on_day(day: dt.date, clock: dt.time) -> tuple[dt.date, dt.time]:
    """A time of a day, both in the time's zone, as the day and time in UTC.

    Raises:
        InvalidInputError: it is beyond the calendar.
    """
    if clock.tzinfo is None:
        return day, clock
    try:
        moment = _in_utc(dt.datetime.combine(day, clock))
    except (OverflowError, ValueError):
        raise _refusal(f"{day} {clock}", "no moment", "'2022-06-15T12:00'") from None
    return moment.date(), moment.time()


def is_date_or_time(value: object) -> bool:
    """Whether a value's type says that it is a date, a time or a moment; texts and numbers do not."""
    return isinstance(value, (dt.date, dt.time)) or _is_numpys(value)


def written_time(clock: dt.time) -> str:
    """A time of day as FinX writes it: "21:27", or "21:27:40.453" where it has seconds; the rest is cut off."""
    if clock.second or clock.microsecond >= 1000:
        return clock.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{clock:%H:%M}"


def _day_or_moment(value: object) -> dt.datetime | dt.date:
    found = _read(value, EARLIEST_SECONDS)
    if found is None or isinstance(found, dt.time):
        raise _refusal(value, "no date", "'2022-06-15', '2022-06-15T12:00', a date or a datetime")
    return found


def _read(value: object, least: float = 0.0) -> dt.datetime | dt.date | dt.time | None:
    """A moment, a day or a time of day; None for whatever is none."""
    try:
        if isinstance(value, dt.datetime):
            return _in_utc(value) if value == value else None  # noqa: PLR0124  # NaT is a datetime, but not itself
        if isinstance(value, dt.date):
            return dt.date(value.year, value.month, value.day)
        if isinstance(value, dt.time):
            return value
        if isinstance(value, str):
            return _from_text(value)
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return _from_seconds(float(value), least)
        if _is_numpys(value):
            return _from_numpy(sys.modules["numpy"], value)
    except (ValueError, OverflowError):  # beyond the calendar
        pass
    return None


def _is_numpys(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.datetime64)


def _in_utc(when: dt.datetime) -> dt.datetime:
    """A plain datetime in UTC: subclasses such as pandas' have an arithmetic of their own, and finer fractions."""
    plain = dt.datetime(when.year, when.month, when.day, when.hour, when.minute, when.second, when.microsecond)
    return (plain - (when.utcoffset() or dt.timedelta())).replace(tzinfo=UTC)


def _from_seconds(seconds: float, least: float) -> dt.datetime | None:
    if not least <= seconds < END_OF_TIME:
        return None
    return EPOCH + dt.timedelta(microseconds=round(seconds * 1_000_000))


def _from_numpy(numpy: Any, value: Any) -> dt.datetime | dt.date | None:
    if numpy.isnat(value):
        return None
    unit, count = numpy.datetime_data(value.dtype)
    number = int(value.astype("int64")) * count
    if unit == "D":
        return EPOCH.date() + dt.timedelta(days=number)
    if unit not in _NUMPY_UNITS:  # a month, a year or a week is no day
        return None
    return EPOCH + dt.timedelta(microseconds=number * _NUMPY_UNITS[unit] // _ATTOSECONDS)


def _from_text(text: str) -> dt.datetime | dt.date | dt.time | None:
    # `fromisoformat` reads more, or less, with each version of Python, and this must not.
    if match := _MOMENT.fullmatch(text):
        return _in_utc(dt.datetime.combine(_date(match), _time(match)))
    if match := _DATE.fullmatch(text):
        return _date(match)
    if match := _TIME.fullmatch(text):
        return _time(match)
    return None


def _date(match: re.Match[str]) -> dt.date:
    return dt.date(int(match["year"]), int(match["month"]), int(match["day"]))


def _time(match: re.Match[str]) -> dt.time:
    micros = int((match["fraction"] or "")[:6].ljust(6, "0"))
    return dt.time(int(match["hour"]), int(match["minute"] or 0), int(match["second"] or 0), micros, _zone(match))


def _zone(match: re.Match[str]) -> dt.tzinfo | None:
    if match["zone"] is None:
        return None
    if match["sign"] is None:
        return UTC
    offset = dt.timedelta(hours=int(match["east"]), minutes=int(match["past"] or 0))
    return dt.timezone(offset if match["sign"] == "+" else -offset)


def _refusal(value: object, what: str, example: str) -> InvalidInputError:
    return InvalidInputError(f"{value!r} is {what}; it looks like {example}")
