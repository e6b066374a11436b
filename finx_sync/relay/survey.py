"""What a stream holds that earlier relays have written, so that it is trimmed as if this relay had written it.

Reading all of it would take long, so it is measured at some places; offsets say how much is between them.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from finx_sync.relay import wire
from finx_sync.relay.address import redis_library
from finx_sync.relay.wire import Position

__all__ = ["Stretch", "survey"]

PLACES: Final = 20
"""Places in each term."""
MAX_TERMS: Final = 200
"""Terms that are told apart; what is before them counts as one with the first of them."""
USUAL_SIZE: Final = 300
"""Bytes of a record, where the server does not say what it uses."""
LAST_OFFSET: Final = (1 << 64) - 1


class Stretch(NamedTuple):
    """Some entries that follow each other.

    Attributes:
        until: the position of the last one.
        records: how many they have.
        size: their bytes, about.
        at: when the last one was received, UNIX seconds.
    """

    until: Position
    records: int
    size: int
    at: float


def survey(client: Any, stream: str) -> list[Stretch]:
    """Measure a stream.

    Args:
        client: a connection whose replies are as the server sends them.
        stream: the key.
    """
    terms = _terms(client, stream)[-MAX_TERMS:]
    records = sum(last.offset - first.offset + count for first, count, last in terms)
    if not records:
        return []
    size = _size(client, stream) or records * USUAL_SIZE
    stretches = []
    for first, count, last in terms:
        before = first.offset - count
        for number in range(1, PLACES + 1):
            wanted = first.offset + (last.offset - first.offset) * number // PLACES
            position, _, at = _entry(
                client.execute_command("XRANGE", stream, f"{first.term}-{wanted}", "+", "COUNT", 1)
            )
            if position.offset > before and position.term == first.term:
                share = position.offset - before
                stretches.append(Stretch(position, share, size * share // records, at))
                before = position.offset
    return stretches


def _terms(client: Any, stream: str) -> list[tuple[Position, int, Position]]:
    """For each term its first entry, how many records that has, and its last entry."""
    terms = []
    reply = client.execute_command("XRANGE", stream, "-", "+", "COUNT", 1)
    while reply:
        first, count, _ = _entry(reply)
        end = f"{first.term}-{LAST_OFFSET}"
        last, _, _ = _entry(client.execute_command("XREVRANGE", stream, end, str(first), "COUNT", 1))
        terms.append((first, count, last))
        reply = client.execute_command("XRANGE", stream, f"({end}", "+", "COUNT", 1)
    return terms


def _entry(reply: Any) -> tuple[Position, int, float]:
    """The position of the one entry of a reply, its number of records, and when its last one was received."""
    ((identity, fields),) = reply
    times = [value for name, value in wire.pairs_of(fields) if name == wire.TIME]
    return Position.read(identity), wire.count_records(fields), float(times[-1]) if times else 0.0


def _size(client: Any, stream: str) -> int:
    try:
        return int(client.execute_command("MEMORY", "USAGE", stream) or 0)
    except redis_library().exceptions.ResponseError:  # not everybody may ask
        return 0
