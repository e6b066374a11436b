"""What a history says beside its rows: where it is not proven complete, and the text forms of that. Pure."""

from __future__ import annotations

import datetime as dt
import json
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from finx_sync.errors import InvalidInputError
from finx_sync.moments import read_moment
from finx_sync.ticks.columns import Columns, micros, moment

__all__ = [
    "METADATA",
    "Rejected",
    "Unproven",
    "by_row",
    "of_attributes",
    "of_text",
    "stamp_text",
    "to_attributes",
    "to_text",
]

METADATA: Final = b"finx_sync"
"""The key of the Arrow schema's metadata that holds the labels; Parquet keeps it, too."""


class Unproven(NamedTuple):
    """A stretch of time, UTC, both ends included, in which ticks may be missing."""

    start: dt.datetime
    end: dt.datetime

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M:%S.%f} to {self.end:%Y-%m-%d %H:%M:%S.%f}"


class Rejected(NamedTuple):
    """A row of an answer that is not a tick."""

    row: Any
    """The row, unchanged."""
    reason: str


def stamp_text(stamp: int) -> str:
    """Microseconds since the epoch as ISO 8601 with a Z; to the microsecond only where milliseconds are not exact."""
    when = moment(stamp).isoformat(timespec="milliseconds" if stamp % 1000 == 0 else "microseconds")
    return f"{when[:-6]}Z"


def to_text(unproven: Sequence[Unproven]) -> str:
    """Stretches as ISO 8601 intervals, separated by spaces."""
    return " ".join("/".join(stamp_text(micros(end)) for end in one) for one in unproven)


def of_text(text: str) -> tuple[Unproven, ...]:
    """The stretches that `to_text` wrote.

    Raises:
        InvalidInputError: it did not write this.
    """
    return tuple(_stretch(one.split("/")) for one in text.split(" ") if one)


def to_attributes(pair: str, unproven: Sequence[Unproven]) -> dict[str, Any]:
    """The labels as plain JSON values."""
    intervals = [[stamp_text(micros(end)) for end in one] for one in unproven]
    return {"pair": pair, "complete": not unproven, "unproven": intervals}


def of_attributes(text: bytes) -> tuple[str, tuple[Unproven, ...]]:
    """The pair and the stretches, from `to_attributes`' JSON.

    Raises:
        InvalidInputError: it is not that.
    """
    try:
        about = json.loads(text)
        pair, unproven = about["pair"], tuple(_stretch(one) for one in about["unproven"])
        if not isinstance(pair, str) or about["complete"] is not (not unproven):
            raise ValueError
    except (ValueError, LookupError, TypeError):
        raise InvalidInputError("what the table says about its completeness cannot be read") from None
    return pair, unproven


def _stretch(ends: Sequence[str]) -> Unproven:
    if len(ends) != 2:
        raise InvalidInputError(f"{'/'.join(map(str, ends))!r} is not a stretch of time")
    one = Unproven(read_moment(ends[0]), read_moment(ends[1]))
    if one.end < one.start:
        raise InvalidInputError(f"{'/'.join(ends)!r} is a stretch of time that ends before it begins")
    return one


def by_row(columns: Columns, unproven: Sequence[Unproven]) -> dict[int, str]:
    """The rows that carry the stretches, as text, in a table that has no other place for them. There must be a row.

    Each stretch is noted once: at the first row from its beginning on, or at the last row if none is that late.
    """
    noted: dict[int, list[Unproven]] = {}
    stamps, count = columns.stamps, len(columns)
    is_descending = stamps[0] > stamps[-1]
    if is_descending:
        stamps = stamps[::-1]
    for one in unproven:
        place = min(bisect_left(stamps, micros(one.start)), count - 1)
        noted.setdefault(count - 1 - place if is_descending else place, []).append(one)
    return {place: to_text(here) for place, here in noted.items()}
