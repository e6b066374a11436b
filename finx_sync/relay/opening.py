"""What a reader finds when it opens a feed, from the answers of Redis. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from finx_sync.relay.wire import START, Position, pairs_of, read_last_value

__all__ = [
    "LastValue",
    "Opening",
    "last_values_of",
    "opening_of",
    "position_of",
    "seconds_of",
    "snapshots_of",
]


class LastValue(NamedTuple):
    """The newest payload of a tag.

    Attributes:
        position: of the entry that it was written in.
        at: when the relay received it, UNIX seconds.
        payload: as it was received.
    """

    position: Position
    at: float
    payload: bytes


class Opening(NamedTuple):
    """What there was at the moment from which on a reader reads; all of one transaction.

    Attributes:
        end: the last record of the stream; None if there was none.
        at: the time in Redis, UNIX seconds.
        last: by tag, the newest payload, for messages that are whole states.
        since: by tag, the entry with the newest snapshot, for tables and books that are made of changes: whoever wants
            the whole has to read from there on.
        about: what the relay says about the feed, as text; empty if there is no feed of that name, and in partitions
            other than 0.
        is_led: whether a relay holds the feed's lease; not known, and True, in partitions other than 0.
        damaged: tags whose last value or snapshot cannot be read.
    """

    end: Position | None
    at: float
    last: dict[bytes, LastValue]
    since: dict[bytes, Position]
    about: dict[str, str]
    is_led: bool
    damaged: tuple[bytes, ...]


def opening_of(
    end: Any, values: Iterable[tuple[bytes, Any]], since: Any, about: Any, now: Any, *, is_led: bool
) -> Opening:
    """What there is, from the answers to the commands of the opening transaction."""
    last, bad_values = last_values_of(values)
    snapshots, bad_snapshots = snapshots_of(since)
    said = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in pairs_of(about)}
    return Opening(position_of(end), seconds_of(now), last, snapshots, said, is_led, (*bad_values, *bad_snapshots))


def last_values_of(found: Iterable[tuple[bytes, Any]]) -> tuple[dict[bytes, LastValue], list[bytes]]:
    """The newest payloads by tag, and the tags whose value cannot be read; None stands for no value."""
    values, damaged = {}, []
    for tag, value in found:
        if value is None:
            continue
        try:
            values[tag] = LastValue(*read_last_value(value))
        except ValueError:
            damaged.append(tag)
    return values, damaged


def snapshots_of(found: Sequence[bytes]) -> tuple[dict[bytes, Position], list[bytes]]:
    """The positions of the newest snapshots by tag, and the tags whose position cannot be read."""
    positions, damaged = {}, []
    for tag, value in pairs_of(found):
        try:
            positions[tag] = Position.read(value)
        except ValueError:
            damaged.append(tag)
    return positions, damaged


def position_of(value: bytes | None) -> Position | None:
    """The position of a stream's last ID; None where nothing was ever written."""
    return None if not value or (position := Position.read(value)) == START else position


def seconds_of(time_of_redis: Sequence[bytes]) -> float:
    """UNIX seconds, from the answer to TIME."""
    seconds, microseconds = time_of_redis
    return int(seconds) + int(microseconds) / 1e6
