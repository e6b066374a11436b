"""Check the arguments of a stream's methods, at the call that passes them and before any I/O."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any

from finx_sync.errors import ConfigError, HandlerError, InvalidInputError

__all__ = [
    "checked_count",
    "checked_limit",
    "checked_names",
    "checked_path",
    "checked_switch",
    "checked_wait",
    "names_of_handler",
    "several",
]


def checked_names(names: tuple[Any, ...]) -> tuple[str, ...]:
    """Return names that were passed one by one.

    Raises:
        InvalidInputError: a name is not text, or is a list of names.
    """
    for name in names:
        if not isinstance(name, str) and isinstance(name, Iterable):
            raise InvalidInputError(f"names are passed one by one: write (*names), not ({name!r})")
        if not isinstance(name, str):
            raise InvalidInputError(f"{name!r} is not a name; it is text")
    return names


def names_of_handler(names: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the names that a handler is registered for.

    Raises:
        HandlerError: the handler itself is among the names.
        InvalidInputError: as for `checked_names`.
    """
    for name in names:
        if callable(name):
            shown = getattr(name, "__name__", repr(name))
            raise HandlerError(
                f"the handler {shown} stands among the names: pass it first and the names after it, or use the method "
                'as a decorator, like @stream.on_contract("NAME")'
            )
    return checked_names(names)


def several(value: Any, what: str) -> list[Any]:
    """Return one value or several as a list; an empty list for None.

    Raises:
        InvalidInputError: a value is neither text nor a whole number.
    """
    found = [value] if isinstance(value, (str, int)) else value
    if found is None:
        return []
    try:
        values = list(found)
    except TypeError:
        values = [found]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, (str, int)):
            raise InvalidInputError(f"{what} is one name or a list of names, and {one!r} is none")
    return values


def checked_wait(timeout: float | None) -> float | None:
    """Return a timeout: seconds, 0 or more; None waits for ever.

    Raises:
        InvalidInputError: the timeout is anything else.
    """
    if timeout is not None and not (_is_number(timeout) and timeout >= 0):
        raise InvalidInputError(f"timeout is a number of seconds, or None to wait for ever, not {timeout!r}")
    return timeout


def checked_limit(name: str, seconds: float) -> float:
    """Return a number of seconds that must be finite and above 0.

    Raises:
        InvalidInputError: the number is anything else.
    """
    if not _is_number(seconds) or not 0 < seconds < math.inf:
        raise InvalidInputError(f"{name} is a number of seconds above 0, not {seconds!r}")
    return seconds


def checked_path(path: Any) -> None:
    """Require the path of a file.

    Raises:
        InvalidInputError: the value is not a path, or is empty.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise InvalidInputError(f"{path!r} is not a path; it looks like 'feed.finxrec' or Path('feed.finxrec')")


def checked_switch(name: str, value: object) -> bool:
    """Return a value that must be True or False.

    Raises:
        ConfigError: the value is anything else, such as "no", which Python would count as true.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is True or False, not {value!r}")
    return value


def checked_count(name: str, count: int, least: int) -> int:
    """Return a whole number that must not be below `least`.

    Raises:
        InvalidInputError: the value is not a whole number, or is below `least`.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        raise InvalidInputError(f"{name} is a number of messages, {least} or more, not {count!r}")
    return count


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
