"""How a relay that takes over goes on exactly where the one before it ended. Pure, but for `read_tail`.

Both had connections of their own to the venue, which sends the same to all. So the new relay looks for the newest
payload of each tag that is in the stream among those that it has received itself, and writes what came after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from finx_sync.relay import wire
from finx_sync.relay.backlog import Item, Received
from finx_sync.relay.wire import Position

__all__ = ["Joining", "Payload", "Tail", "join", "join_tag", "read_tail"]

PAGE: Final = 100
"""Entries of a stream that are read at once."""
MAX_TAIL_BYTES: Final = 256 * 1024 * 1024
"""Bytes of a stream's end that are read at most."""


class Payload(NamedTuple):
    """A payload, and when it was received, UNIX seconds."""

    at: float
    payload: bytes


@dataclass
class Tail:
    """The end of a stream.

    Attributes:
        last: its newest entry; `wire.START` if it has none.
        at: when the newest records were received by the relay that wrote them, UNIX seconds; None if unknown.
        payloads: the payloads of each tag, in order.
    """

    last: Position = wire.START
    at: float | None = None
    payloads: dict[bytes, list[Payload]] = field(default_factory=dict)


@dataclass
class Joining:
    """How the memory of a relay continues a stream.

    Attributes:
        skip: how many payloads of each tag are in the stream already.
        broken: the tags of which it cannot be known, each with when its newest payload in the stream was received;
            None if it has none there.
    """

    skip: dict[bytes, int] = field(default_factory=dict)
    broken: dict[bytes, float | None] = field(default_factory=dict)


def join_tag(memory: Sequence[Payload], written: Sequence[Payload]) -> int | None:
    """How many of the payloads of a tag in memory are in a stream already.

    Args:
        memory: what was received here, in order.
        written: the end of what is in the stream, in order; not empty.

    Returns:
        The number; None if the newest payload of the stream is not in the memory, or what was received before it here
        is not what the stream has before it.
    """
    newest, best, distance = written[-1], None, float("inf")
    length = 0
    for index in range(len(memory) - 1, -1, -1):
        if memory[index].payload != newest.payload:
            continue
        common = min(index + 1, len(written))
        if any(memory[index - back].payload != written[-1 - back].payload for back in range(common)):
            continue
        apart = abs(memory[index].at - newest.at)
        if common > length or (common == length and apart < distance):  # equal payloads: the nearest in time
            best, length, distance = index + 1, common, apart
    return best


def join(items: Iterable[Item], tail: Tail, *, overlaps: bool) -> Joining:
    """Compare what was received here with the end of a stream.

    Args:
        items: what was received here.
        tail: the end of the stream, which reaches back to before the first of the items.
        overlaps: whether nothing is missing between the end of the stream and the first item.
    """
    memory: dict[bytes, list[Payload]] = {}
    for item in items:
        if isinstance(item, Received):
            for tag, payload in zip(item.tags, item.payloads, strict=True):
                memory.setdefault(tag, []).append(Payload(item.at, payload))
    joining = Joining()
    for tag, received in memory.items():
        written = tail.payloads.get(tag)
        if written is None:
            if not overlaps:
                joining.broken[tag] = None
            continue
        skip = join_tag(received, written)
        if skip is None and not (overlaps and written[-1].at < received[0].at and not _shares(received, written)):
            joining.broken[tag] = written[-1].at
        elif skip is not None:
            joining.skip[tag] = skip
    return joining


def _shares(received: Sequence[Payload], written: Sequence[Payload]) -> bool:
    return not {one.payload for one in received}.isdisjoint(one.payload for one in written)


def read_tail(client: Any, stream: str, wanted: Mapping[bytes, Any], since: float) -> Tail:
    """Read the end of a stream, back to the first entry that was received before `since`.

    Args:
        client: a connection whose replies are as the server sends them.
        stream: the key.
        wanted: the tags whose payloads are of interest.
        since: UNIX seconds.
    """
    tail, end, size = Tail(), "+", 0
    reversed_payloads: dict[bytes, list[Payload]] = {}
    while size < MAX_TAIL_BYTES:
        page = client.execute_command("XREVRANGE", stream, end, "-", "COUNT", PAGE)
        for identity, fields in page:
            if tail.last == wire.START:
                tail.last = Position.read(identity)
            oldest, entries = _read_entry(fields)
            if tail.at is None and entries:
                tail.at = entries[-1][1].at
            for tag, payload in reversed(entries):
                size += len(payload.payload)
                if tag in wanted:
                    reversed_payloads.setdefault(tag, []).append(payload)
            if oldest is not None and oldest < since:
                page = []
                break
        if len(page) < PAGE:
            break
        end = f"({page[-1][0].decode()}"
    tail.payloads = {tag: payloads[::-1] for tag, payloads in reversed_payloads.items()}
    return tail


def _read_entry(fields: Sequence[bytes]) -> tuple[float | None, list[tuple[bytes, Payload]]]:
    """When the first record of an entry was received, and all its records."""
    oldest: float | None = None
    at = 0.0
    records: list[tuple[bytes, Payload]] = []
    for tag, value in wire.pairs_of(fields):
        if tag == wire.TIME:
            at = float(value)
            oldest = at if oldest is None else oldest
        else:
            records.append((tag, Payload(at, value)))
    return oldest, records
