"""One partition of a feed, as the active relay writes it. Only the writer's thread uses it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from finx_sync.relay import wire
from finx_sync.relay.address import RelayAddress, redis_library
from finx_sync.relay.backlog import Item, Notice, Received
from finx_sync.relay.call import Call, CallBuilder, Entry
from finx_sync.relay.script import CLAIM, FINISH, LAST_ID, is_refusal, transact
from finx_sync.relay.survey import survey
from finx_sync.relay.trimming import Limits, Trimming
from finx_sync.relay.wire import Position

__all__ = ["Partition", "SupersededError", "split"]

READ_TIMEOUT: Final = 2.5
"""Seconds to wait for an answer; a little less than a lease lasts."""
PAIRS_AT_ONCE: Final = 1000
"""Names and values in one command that restores them."""


class SupersededError(Exception):
    """Another relay leads: Redis has an entry of a later term."""


class Partition:
    """One partition.

    Args:
        address: the feed's.
        number: the partition's.
        is_state: whether the newest payload of a tag is all that is to be known of it.
        limits: what is kept.
        channel: the Pub/Sub channel of a tag; None to publish nothing.

    Attributes:
        keys: its Redis keys.
        position: of the last record that was written.
        client: the connection; None while there is none. Replies are as the server sends them.
        since: the newest image of each tag that has such.
        entries, calls: how many were written, and made.
    """

    def __init__(
        self,
        address: RelayAddress,
        number: int,
        *,
        is_state: Callable[[bytes], bool],
        limits: Limits,
        channel: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._address = address
        self._number = number
        self._is_state = is_state
        self._limits = limits
        self._channel = channel
        self.keys = address.keys(number)
        self.position = wire.START
        self.client: Any = None
        self.trimming = Trimming(limits)
        self.since: dict[bytes, Position] = {}
        self.entries = self.calls = 0
        self._call: Call | None = None  # in flight

    def connect(self) -> None:
        """Open the connection, unless it is open."""
        if self.client is None:
            client: Any = self._address.connect(self._number, name="finx-sync relay", read_timeout=READ_TIMEOUT)
            client.response_callbacks.clear()
            self.client = client

    def close(self) -> None:
        """Close the connection."""
        client, self.client = self.client, None
        if client is not None:
            client.close()

    def last(self) -> Position:
        """The newest entry that the stream has ever had."""
        return Position.read(LAST_ID.call(self.client, [self.keys.stream]))

    def claim(self, term: int, expected: Position, relay: str, items: Iterable[Item]) -> str:
        """Begin a term with these items, provided that the stream has ended at `expected`.

        Returns:
            "ok", or why not: "lease" or "moved".
        """
        (entry,) = CallBuilder(Position(term, 0), self._is_state).add(items).made().entries
        keys = [self.keys.stream, *([self.keys.lease] if self._number == 0 else [])]
        answer: bytes = CLAIM.call(self.client, keys, [relay, str(expected), str(entry.position), *entry.fields])
        if answer == b"ok":
            self._call = None
            self._written([entry])
        return answer.decode()

    def prepare(self, items: Sequence[Item]) -> None:
        """Make a call that writes items. It is in flight until `send` or `resume` has returned."""
        call = CallBuilder(self.position, self._is_state).add(items).made()
        self._call = call if call.entries else None

    def send(self) -> None:
        """Make the call in flight; may raise whatever redis-py raises.

        Raises:
            SupersededError: another relay leads.
        """
        if self._call is not None:
            self._send()

    def resume(self) -> None:
        """Find out what became of the call in flight, on a new connection, and complete it.

        Raises:
            SupersededError: another relay leads.
        """
        last = self.last()
        if last.term > self.position.term:
            raise SupersededError
        call = self._call
        if call is None:
            return
        if last.term == self.position.term:  # what is not above it has arrived; only the answer was lost
            arrived = [entry for entry in call.entries if entry.position <= last]
            call.entries = call.entries[len(arrived) :]
            self._written(arrived)
        if call.entries:
            self._send()
        else:
            self._call = None

    def _send(self) -> None:
        assert self._call is not None
        entries, stream = self._call.entries, self.keys.stream
        keys = (stream, self.keys.last, self.keys.since)
        finish = self._call.finish(self.trimming.due(time.monotonic()), self._channel)
        self.calls += 1
        replies = transact(
            self.client,
            [
                *(("XADD", stream, str(entry.position), *entry.fields) for entry in entries),
                ("EVALSHA", FINISH.hash, len(keys), *keys, *finish),
            ],
        )
        exceptions = redis_library().exceptions
        for reply in replies[:-1]:
            if isinstance(reply, exceptions.RedisError) and not is_refusal(reply):
                raise reply
        if isinstance(replies[-1], exceptions.NoScriptError):
            replies[-1] = FINISH.call(self.client, keys, finish)
        if isinstance(replies[-1], exceptions.RedisError):
            raise replies[-1]
        if not replies[-1]:  # it ends with another entry, so Redis has refused these
            raise SupersededError
        self._call = None
        self._written(entries)

    def _written(self, entries: Sequence[Entry]) -> None:
        now = time.monotonic()
        for entry in entries:
            self.position = entry.position
            self.trimming.added(entry.position, entry.records, entry.size, now)
            self.since.update(dict.fromkeys(entry.begins, entry.position))
        self.entries += len(entries)

    def aging(self, now: float) -> list[bytes]:
        """The tags whose newest image is in the older half of what is kept."""
        half = self.trimming.half(now) if self.since else None
        return [] if half is None else [tag for tag, position in self.since.items() if position <= half]

    def restore(self, values: Sequence[tuple[bytes, float, bytes]]) -> None:
        """Write again what readers begin with, in case Redis has lost it.

        Args:
            values: for each tag when its newest payload was received, UNIX seconds, and the payload.
        """
        since = [part for tag, position in self.since.items() for part in (tag, str(position))]
        last = [
            part
            for tag, at, payload in values
            if self._is_state(tag)
            for part in (tag, wire.last_value(self.position, at, payload))
        ]
        for key, pairs in ((self.keys.since, since), (self.keys.last, last)):
            for begin in range(0, len(pairs), PAIRS_AT_ONCE):
                self.client.execute_command("HSET", key, *pairs[begin : begin + PAIRS_AT_ONCE])

    def abandon(self) -> None:
        """Forget the call in flight: another relay leads, and has what is in it."""
        self._call = None

    def look(self) -> None:
        """Find out what earlier relays have written, before this one begins a term."""
        self.abandon()
        self.trimming = Trimming(self._limits)
        now, monotonic = time.time(), time.monotonic()
        for stretch in survey(self.client, self.keys.stream):
            age = max(0.0, now - stretch.at)
            self.trimming.added(stretch.until, stretch.records, stretch.size, monotonic - age)
        images = wire.pairs_of(self.client.execute_command("HGETALL", self.keys.since))
        self.since = {tag: Position.read(position) for tag, position in images}


def split(items: Iterable[Item], partitions: int, kinds: Sequence[str]) -> list[list[Item]]:
    """What each partition gets of items, in order.

    Each gets its own tags' payloads, the gaps of its own names, and the signs of life; the first one also gets
    whatever else happens.

    Args:
        items: the items.
        partitions: how many there are.
        kinds: the kinds of tags.
    """
    parts: list[list[Item]] = [[] for _ in range(partitions)]
    for item in items:
        for number, part in enumerate(parts):
            own = _part_of(item, number, partitions, kinds)
            if own is not None:
                part.append(own)
    return parts


def _part_of(item: Item, number: int, partitions: int, kinds: Sequence[str]) -> Item | None:
    if isinstance(item, Received):
        if partitions == 1:
            return item
        own = item.without(lambda tag: wire.partition_of(tag, partitions) != number)
        return own if own.tags else None
    if item.name != wire.GAP:
        return item if number == 0 or item.name in (wire.TERM, wire.ALIVE) else None
    content = dict(item.content)
    if item.missing:
        missing = {tag: count for tag, count in item.missing.items() if wire.partition_of(tag, partitions) == number}
        content["names"] = sorted({wire.read_tag(tag).name for tag in missing})
        if all(missing.values()):
            content["missed"] = sum(missing.values())
    elif partitions > 1:
        content["names"] = [
            name
            for name in content["names"]
            if number in {wire.partition_of(wire.tag_of(kind, name), partitions) for kind in kinds}
        ]
    return Notice(item.name, content, item.at, item.arrived) if content["names"] else None
