"""Arguments of the blocking functions, checked before any I/O and written the way FinX writes them."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from finx_sync.errors import InvalidInputError

__all__ = [
    "checked_date",
    "checked_five_minutes",
    "checked_function",
    "checked_name",
    "checked_pair",
    "checked_time",
    "checked_timeout",
]

_PAIR: Final = re.compile(r"[A-Za-z0-9._-]+:[A-Za-z0-9._-]+")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_FUNCTION: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)*")
_TIME: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?Z?")
_FIVE_MINUTES: Final = 5


def checked_pair(pair: str) -> str:
    """A pair such as "BTC:USD"."""
    if not isinstance(pair, str) or not _PAIR.fullmatch(pair):
        raise InvalidInputError(f"{pair!r} is no pair; it looks like 'BTC:USD'")
    return pair


def checked_name(name: str, what: str = "an instrument name", example: str = "BTC-26AUG22-20000-C") -> str:
    """An instrument's or security's name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(f"{name!r} is not {what}; it looks like {example!r}")
    return name


def checked_function(name: str) -> str:
    """A function's wire name."""
    if not isinstance(name, str) or not _FUNCTION.fullmatch(name):
        raise InvalidInputError(f"{name!r} is not a function name; it looks like 'tickSnap' or 'public/get_time'")
    return name


def checked_date(date: str | dt.date) -> str:
    """A day as "2022-06-15"; a date, an aware datetime (its day in UTC) or such a string."""
    if isinstance(date, dt.datetime):
        date = date.astimezone(dt.timezone.utc).date() if date.tzinfo is not None else date.date()
    if isinstance(date, dt.date):
        return date.isoformat()
    if isinstance(date, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        try:
            return dt.date.fromisoformat(date).isoformat()
        except ValueError:
            pass
    raise InvalidInputError(f"{date!r} is no date; it looks like '2022-06-15'")


def checked_time(time: str | dt.time | None) -> str | None:
    """A time of day in UTC as "21:27" or "21:27:40.453"; None stays None."""
    if time is None:
        return None
    if isinstance(time, dt.time):
        return time.isoformat(timespec="milliseconds") if time.second or time.microsecond else time.strftime("%H:%M")
    if isinstance(time, str) and _TIME.fullmatch(time):
        return time.removesuffix("Z")
    raise InvalidInputError(f"{time!r} is no time of day; it looks like '21:27' or '21:27:40.453'")


def checked_five_minutes(at: str | dt.datetime) -> str:
    """A moment on the five-minute grid as "2022-08-04T04:05", or "latest" (FinX documentation, *Streams*)."""
    if at == "latest":
        return "latest"
    moment = at
    if isinstance(at, str):
        try:
            moment = dt.datetime.strptime(at, "%Y-%m-%dT%H:%M")
        except ValueError:
            moment = None  # type: ignore[assignment]
    if not isinstance(moment, dt.datetime) or moment.minute % _FIVE_MINUTES or moment.second or moment.microsecond:
        raise InvalidInputError(
            f"{at!r} is no moment on the five-minute grid; it looks like '2022-08-04T04:05' or 'latest'"
        )
    if moment.tzinfo is not None:
        moment = moment.astimezone(dt.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M")


def checked_timeout(timeout: float) -> float:
    """Seconds above 0."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidInputError(f"{timeout!r} is no timeout; it is a number of seconds above 0")
    return float(timeout)
