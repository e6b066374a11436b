"""Read dates and times in every usual form, for the whole library. Pure; no I/O, no clock.

Every function of the library that takes a date or a time accepts Python's own types, NumPy and pandas timestamps, ISO
8601 text, and UNIX seconds. A value without a time zone is taken as UTC. Nothing is dropped silently, except fractions
of a microsecond: a function that needs a whole day refuses a point in time within a day.

`read_any` distinguishes three kinds: a moment (a point in time, as an aware datetime in UTC), a day (a date), and a
time of day. The other functions each read one kind of argument. NumPy and pandas are never imported here: if a value is
of one of their types, they are already imported.
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
"""Where a day is accepted too, a smaller number is not read as UNIX seconds: 20220615 was meant as a date."""

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
"""NumPy's units in attoseconds, the smallest of them, so that all are whole numbers."""
_ATTOSECONDS: Final = 10**12
"""Attoseconds in a microsecond."""


def read_any(value: object, least: float = 0.0) -> dt.datetime | dt.date | dt.time:
    """Read a moment, a day, or a time of day.

    Args:
        value: the caller's value, in any of the accepted forms.
        least: the smallest number that is read as UNIX seconds; smaller ones are refused.

    Returns:
        An aware datetime in UTC, a date, or a time, whose time zone is kept.

    Raises:
        InvalidInputError: `value` is none of these.
    """
    found = _read(value, least)
    if found is None:
        raise _refusal(
            value, "a date or a time", "'2022-06-15', '12:00', '2022-06-15T12:00', a datetime or UNIX seconds"
        )
    return found


def read_moment(value: object) -> dt.datetime:
    """Read a moment, in UTC; a day means its start.

    Raises:
        InvalidInputError: `value` is not a moment or a day; a time of day alone is neither.
    """
    found = _read(value)
    if found is None or isinstance(found, dt.time):
        raise _refusal(
            value, "a point in time", "'2022-06-15T12:00' (UTC unless it names a zone), a datetime or UNIX seconds"
        )
    return found if isinstance(found, dt.datetime) else dt.datetime.combine(found, dt.time(), UTC)


def read_day(value: object) -> dt.date:
    """Read a whole day in UTC. Midnight is accepted as the whole day, because pandas represents a day that way.

    Raises:
        InvalidInputError: `value` is not a day, or it is a moment within a day, whose time would be lost.
    """
    found = _day_or_moment(value)
    if not isinstance(found, dt.datetime):
        return found
    if found.time() != dt.time():
        raise InvalidInputError(
            f"{value!r} has a time ({found:%H:%M:%S} UTC), but a whole day is needed; pass the date alone, "
            f"like '{found:%Y-%m-%d}'"
        )
    return found.date()


def read_time(value: object) -> dt.time:
    """Read a time of day; its time zone is kept. Without one, it means UTC.

    Raises:
        InvalidInputError: `value` is not a time of day.
    """
    found = _read(value)
    if not isinstance(found, dt.time):
        raise _refusal(value, "a time of day", "'21:27' or '21:27:40.453'")
    return found


def read_start(date: object, time: object = None) -> tuple[dt.date, dt.time | None]:
    """Read the start of a period: a day and a time of that day, both in UTC; the time is None if none was given.

    Args:
        date: a day; or a moment, which includes its time.
        time: a time of that day. If it has a time zone, `date` is a date in that zone too.

    Raises:
        InvalidInputError: one of them cannot be read; or `date` includes a time, and `time` is given too.
    """
    day = _day_or_moment(date)
    clock = None if time is None else read_time(time)
    if isinstance(day, dt.datetime):
        if clock is None:
            return day.date(), day.time()
        if day.time() != dt.time():
            raise InvalidInputError(f"{date!r} already includes a time, so time={time!r} is not allowed; pass only one")
        day = day.date()
    return (day, None) if clock is None else on_day(day, clock)


def read_time_alone(time: object) -> dt.time | None:
    """Read a time of an unknown day, in UTC; None stays None.

    Raises:
        InvalidInputError: `time` is not a time of day, or has a time zone other than UTC: without the day, its time in
            UTC is ambiguous.
    """
    if time is None:
        return None
    clock = read_time(time)
    if clock.tzinfo is not None and clock.utcoffset() != dt.timedelta():
        raise InvalidInputError(f"{time!r} has a time zone, so its time in UTC depends on the date; pass the date too")
    return clock.replace(tzinfo=None)


def on_day(day: dt.date, clock: dt.time) -> tuple[dt.date, dt.time]:
    """Convert a day and a time, both in the time's zone, to a day and a time in UTC.

    Raises:
        InvalidInputError: the result is outside the calendar.
    """
    if clock.tzinfo is None:
        return day, clock
    try:
        moment = _in_utc(dt.datetime.combine(day, clock))
    except (OverflowError, ValueError):
        raise _refusal(f"{day} {clock}", "a point in time", "'2022-06-15T12:00'") from None
    return moment.date(), moment.time()


def is_date_or_time(value: object) -> bool:
    """Return whether a value's type shows that it is a date, a time or a moment; texts and numbers do not."""
    return isinstance(value, (dt.date, dt.time)) or _is_numpys(value)


def written_time(clock: dt.time) -> str:
    """Return a time of day as FinX writes it: "21:27", or "21:27:40.453" if it has seconds; the rest is dropped."""
    if clock.second or clock.microsecond >= 1000:
        return clock.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{clock:%H:%M}"


def _day_or_moment(value: object) -> dt.datetime | dt.date:
    found = _read(value, EARLIEST_SECONDS)
    if found is None or isinstance(found, dt.time):
        raise _refusal(value, "a date", "'2022-06-15', '2022-06-15T12:00', a date or a datetime")
    return found


def _read(value: object, least: float = 0.0) -> dt.datetime | dt.date | dt.time | None:
    """Return the value as a moment, a day or a time of day; None if it is none of these."""
    try:
        if isinstance(value, dt.datetime):
            return _in_utc(value) if value == value else None  # noqa: PLR0124  # NaT is a datetime, but not equal to itself
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
    except (ValueError, OverflowError):  # outside the calendar
        pass
    return None


def _is_numpys(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.datetime64)


def _in_utc(when: dt.datetime) -> dt.datetime:
    """Return a plain datetime in UTC; subclasses such as pandas' have their own arithmetic and finer fractions."""
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
    if unit not in _NUMPY_UNITS:  # a week, a month or a year is not a day
        return None
    return EPOCH + dt.timedelta(microseconds=number * _NUMPY_UNITS[unit] // _ATTOSECONDS)


def _from_text(text: str) -> dt.datetime | dt.date | dt.time | None:
    # Not `fromisoformat`: the forms that it accepts differ between versions of Python.
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
    return InvalidInputError(f"{value!r} is not {what}; pass one like {example}")
