"""What a relay writes to Redis, and how it is read. Pure: no I/O, no clock.

A feed is one Redis Stream for each partition. The ID of an entry is a `Position`, ``term-offset``: the offset counts
the records of the term, up to and including the last record of the entry. A reader therefore sees by subtraction
whether records are missing, and how many. A relay that takes over begins a new term, which is higher than all terms
before it, so Redis itself refuses whatever an older relay still tries to write.

The fields of an entry are pairs, in order, and names may repeat:

- ``@``: when the payloads that follow were received, UNIX seconds. Not a record.
- ``kind:name``, the tag: one payload, exactly as it was received.
- ``@term``, ``@state``, ``@gap``, ``@subscriptions``, ``@error``, ``@alive``: a notice, as JSON.

The first record of a term is ``@term``; its entry also has what a reader has to know then: gaps, the state, the
subscriptions. With several partitions each has its own ``@term``, ``@alive`` and the ``@gap`` of its own names; the
other notices are in partition 0 only.

No source describes such a format; this module is the only place that knows it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from finx_sync.venues.base import Subscription

__all__ = [
    "ALIVE",
    "ERROR",
    "GAP",
    "MAX_PAIRS",
    "START",
    "STATE",
    "SUBSCRIPTIONS",
    "TERM",
    "TIME",
    "Keys",
    "Position",
    "count_records",
    "last_value",
    "missing_between",
    "notice",
    "pairs_of",
    "partition_of",
    "read_last_value",
    "read_notice",
    "read_tag",
    "sliced",
    "tag_of",
    "time_pair",
]

TIME: Final = b"@"
TERM: Final = b"@term"
STATE: Final = b"@state"
GAP: Final = b"@gap"
SUBSCRIPTIONS: Final = b"@subscriptions"
ERROR: Final = b"@error"
ALIVE: Final = b"@alive"

MAX_PAIRS: Final = 2000
"""Pairs in one entry at most, so that a reader that asks for few entries gets no more than it can hold."""


class Position(NamedTuple):
    """The place of a record in a feed; positions compare in the order in which records were written.

    Attributes:
        term: the relay's term of office; each relay that takes over begins a higher one.
        offset: the number of records of this term, up to and including this one; 0 before the first.
    """

    term: int
    offset: int

    def __str__(self) -> str:
        return f"{self.term}-{self.offset}"

    @classmethod
    def read(cls, text: str | bytes) -> Position:
        """The position that an entry's ID, or a client's resume token, stands for.

        Raises:
            ValueError: `text` is not a position.
        """
        term, _, offset = (text.decode("ascii") if isinstance(text, bytes) else text).partition("-")
        if not (term.isascii() and term.isdigit() and offset.isascii() and offset.isdigit()):
            raise ValueError(f"{text!r} is not a position, which looks like 1700000000000-42")
        position = cls(int(term), int(offset))
        if max(position) >= 1 << 64:
            raise ValueError(f"{text!r} is not a position: its numbers have 64 bits")
        return position


START: Final = Position(0, 0)
"""The position before everything."""


class Keys:
    """The names of the Redis keys of one partition of a feed.

    They share a hash tag, so that a Redis Cluster keeps them on one node.

    Args:
        feed: the feed's name.
        partition: the partition's number, from 0.
    """

    def __init__(self, feed: str, partition: int = 0) -> None:
        prefix = f"finx_sync:{{{feed}/{partition}}}:"
        self.stream = prefix + "stream"
        self.last = prefix + "last"
        self.since = prefix + "since"
        self.lease = prefix + "lease"
        self.about = prefix + "about"
        self.demand = prefix + "demand"


def tag_of(kind: str, name: str) -> bytes:
    """The field of a payload: the kind and the name of what it belongs to."""
    return f"{kind}:{name}".encode()


def read_tag(tag: bytes) -> Subscription:
    """The inverse of `tag_of`. A kind contains no colon; a name may."""
    kind, _, name = tag.decode().partition(":")
    return Subscription(kind, name)


def partition_of(tag: bytes, partitions: int) -> int:
    """The partition that a tag's payloads are written to."""
    return zlib.crc32(tag) % partitions if partitions > 1 else 0


def notice(**content: Any) -> bytes:
    """The value of a notice."""
    return msgspec.json.encode(content)


def read_notice(value: bytes) -> dict[str, Any]:
    """The content of a notice; empty if it is not a JSON object, as a future version may write."""
    try:
        content = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def time_pair(at: float) -> tuple[bytes, bytes]:
    """The pair that says when the payloads after it were received, UNIX seconds."""
    return TIME, b"%.6f" % at


def pairs_of(fields: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of an entry's flat list of fields."""
    each = iter(fields)
    return zip(each, each, strict=True)


def count_records(fields: Sequence[bytes]) -> int:
    """How many records an entry has: all pairs but the times."""
    return len(fields) // 2 - fields[::2].count(TIME)


def last_value(position: Position, at: float, payload: bytes) -> bytes:
    """The newest payload of a tag as it is kept for readers that come later.

    Args:
        position: the entry that it was written in.
        at: when it was received, UNIX seconds.
        payload: the payload.
    """
    return b"%d-%d %.6f %b" % (*position, at, payload)


def read_last_value(value: bytes) -> tuple[Position, float, bytes]:
    """The inverse of `last_value`.

    Raises:
        ValueError: it is something else.
    """
    position, at, payload = value.split(b" ", 2)
    return Position.read(position), float(at), payload


def missing_between(before: Position, after: Position, records: int) -> int | None:
    """How many records are missing between two entries of one feed.

    Args:
        before: the last record that was read.
        after: the position of the entry that was read next.
        records: how many records that entry has.

    Returns:
        The number; 0 if nothing is missing; None if they are of different terms, so that only the new term's first
        record can tell.
    """
    return None if before.term != after.term else after.offset - records - before.offset


def sliced(pairs: Iterable[tuple[bytes, bytes]], size: int = MAX_PAIRS) -> Iterator[list[tuple[bytes, bytes]]]:
    """Split pairs into lists of at most `size`."""
    part: list[tuple[bytes, bytes]] = []
    for pair in pairs:
        part.append(pair)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
