"""Check the arguments of the blocking functions before any I/O, and write them the way FinX does."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from finx_sync.errors import InvalidInputError
from finx_sync.moments import (
    Moment,
    TimeOfDay,
    is_date_or_time,
    read_day,
    read_moment,
    read_start,
    read_time_alone,
    written_time,
)

__all__ = [
    "checked_contract",
    "checked_day",
    "checked_field",
    "checked_five_minutes",
    "checked_function",
    "checked_name",
    "checked_pair",
    "checked_start",
    "checked_timeout",
]

_PAIR: Final = re.compile(r"[A-Za-z0-9._-]+:[A-Za-z0-9._-]+")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_CONTRACT: Final = re.compile(r"[A-Z0-9_]+-[A-Z0-9-]+")
_FUNCTION: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)*")
_FIVE_MINUTES: Final = dt.timedelta(minutes=5)


def checked_pair(pair: str) -> str:
    """Check a pair such as "BTC:USD"."""
    if not isinstance(pair, str) or not _PAIR.fullmatch(pair):
        hint = ""
        if isinstance(pair, str) and _CONTRACT.fullmatch(pair):
            hint = "; contracts are for subscribe_contract and on_contract"
        raise InvalidInputError(f"{pair!r} is not a pair; it looks like 'BTC:USD'{hint}")
    return pair


def checked_name(name: str, what: str = "an instrument name", example: str = "BTC-26AUG22-20000-C") -> str:
    """Check the name of an instrument or security."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(f"{name!r} is not {what}; it looks like {example!r}")
    return name


def checked_contract(name: str) -> str:
    """Check the name of a contract for a subscription."""
    if isinstance(name, str) and _PAIR.fullmatch(name):
        raise InvalidInputError(f"{name!r} is a pair, not a contract; pairs are for subscribe_spot and on_spot")
    return checked_name(name)


def checked_function(name: str) -> str:
    """Check the wire name of a function."""
    if not isinstance(name, str) or not _FUNCTION.fullmatch(name):
        raise InvalidInputError(f"{name!r} is not a function name; it looks like 'tickSnap' or 'public/get_time'")
    return name


def checked_day(day: Moment) -> str:
    """Write a whole day in UTC as "2022-06-15"."""
    return read_day(day).isoformat()


def checked_field(value: Any) -> Any:
    """Write a field of a call by its wire name: a date or a time as text, anything else unchanged.

    A moment is refused, since each function may expect it in another form.
    """
    if isinstance(value, dt.time):
        clock = read_time_alone(value)
        return None if clock is None else written_time(clock)
    return checked_day(value) if is_date_or_time(value) else value


def checked_start(date: Moment | None, time: TimeOfDay | None) -> tuple[str | None, str | None]:
    """Write a day and the time of that day, both in UTC: "2022-06-15" and "21:27" or "21:27:40.453"; None stays None.

    A `date` that is a moment includes its time.
    """
    if date is None:
        clock = read_time_alone(time)
        return None, None if clock is None else written_time(clock)
    day, clock = read_start(date, time)
    return day.isoformat(), None if clock is None else written_time(clock)


def checked_five_minutes(at: Moment) -> str:
    """Write a moment on the five-minute grid as "2022-08-04T04:05", or "latest" (FinX documentation, *Streams*)."""
    if isinstance(at, str) and at == "latest":
        return at
    moment = read_moment(at)
    if (moment - dt.datetime.min.replace(tzinfo=moment.tzinfo)) % _FIVE_MINUTES:
        raise InvalidInputError(
            f"{at!r} is not a moment on the five-minute grid; it looks like '2022-08-04T04:05' or 'latest'"
        )
    return moment.replace(tzinfo=None).isoformat(timespec="minutes")


def checked_timeout(timeout: float) -> float:
    """Check a timeout: a number of seconds above 0."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidInputError(f"{timeout!r} is not a timeout; it is a number of seconds above 0")
    return float(timeout)
