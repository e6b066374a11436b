"""Writes a feed to Redis as a relay does, for tests of whoever reads it."""

from __future__ import annotations

import json
import time
from typing import Any

from finx_sync.relay import wire
from finx_sync.relay.wire import Keys, Position

TERM = 1_700_000_000_000


class FeedWriter:
    """Writes entries to one partition of a feed; every call is one entry.

    Args:
        client: a client of redis-py.
        venue: what `about` names; None to leave `about` out.
        feed, partition, partitions: of the feed.
        subscriptions: tags that `about` lists.
        about: further fields of `about`.
    """

    def __init__(
        self,
        client: Any,
        venue: str | None = "FinX",
        *,
        feed: str = "finx",
        partition: int = 0,
        partitions: int = 1,
        subscriptions: tuple[str, ...] = (),
        **about: str,
    ) -> None:
        self.client = client
        self.keys = Keys(feed, partition)
        self.position = Position(TERM, 0)
        self.at = time.time()
        self.venue = venue
        if venue is not None:
            said = {"venue": venue, "feed": feed, "version": "1", "partitions": str(partitions), "on_demand": "0"}
            said |= {"relay": "first", "subscriptions": json.dumps(subscriptions)}
            client.hset(self.keys.about, mapping=said | about)
            client.set(self.keys.lease, "first")
        self.begin_term(TERM, previous=None)

    def begin_term(self, term: int | None = None, **said: Any) -> None:
        """Write the first entry of a term, which follows the last record unless told otherwise."""
        content: dict[str, Any] = {"previous": str(self.position), "previous_at": self.at, "relay": "first"} | said
        self.position = Position(self.position.term + 1 if term is None else term, 0)
        self.notice("@term", **content)

    def write(self, *payloads: tuple[bytes | str, bytes], at: float | None = None, last: bool = False) -> Position:
        """Write payloads, each with its tag; `last` makes them the last values, too."""
        self.at = self.at + 0.001 if at is None else at
        pairs = [wire.time_pair(self.at)]
        pairs += [(tag.encode() if isinstance(tag, str) else tag, payload) for tag, payload in payloads]
        self.add(pairs)
        if last:
            for tag, payload in pairs[1:]:
                self.client.hset(self.keys.last, tag, wire.last_value(self.position, self.at, payload))
        return self.position

    def add(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """Write one entry of these pairs."""
        fields = [part for pair in pairs for part in pair]
        self.position = Position(self.position.term, self.position.offset + wire.count_records(fields))
        self.client.execute_command("XADD", self.keys.stream, str(self.position), *fields)

    def skip(self, count: int) -> None:
        """Records that are counted, and never written."""
        self.position = Position(self.position.term, self.position.offset + count)

    def notice(self, name: str, **content: Any) -> None:
        """Write a notice."""
        self.at += 0.001
        self.add([wire.time_pair(self.at), (name.encode(), wire.notice(**content))])

    def snapshot(self, tag: str) -> None:
        """The last entry is the newest snapshot of a tag."""
        self.client.hset(self.keys.since, tag, str(self.position))
