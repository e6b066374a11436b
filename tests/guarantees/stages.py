"""A stream to a feed of which one connection replaces another, step by step."""

from __future__ import annotations

import threading
from typing import Any

from websockets.sync.server import ServerConnection

from finx_sync.notices import Gap
from tests.guarantees.feeds import Feed
from tests.scripted import text
from tests.waiting import Collector, stream_to, wait_until

__all__ = ["Stage", "tick"]


class Stage:
    """A stream to a feed, what its handlers see, and a way to hold them back."""

    def __init__(self, feed: Feed, *names: str, **options: Any) -> None:
        self.feed = feed
        self.stream = stream_to(feed, **{"overlap": 30, "overflow": "block", **options})
        self.seen = Collector()
        self.stream.on_gap(self.seen)
        self.stream.on_contract(self._handle)
        self.holds_next = threading.Event()
        self.held, self._go_on = threading.Event(), threading.Event()
        self.stream.subscribe_contract(*names)
        self.stream.start()
        self.old = feed.next_connection()
        (self.first,) = self.stream._session.connections.all()
        for name in names:
            feed.wait_for_subscribers(name)

    def _handle(self, tick: Any) -> None:
        self.seen((tick.name, tick.timestamp))
        if self.holds_next.is_set():
            self.holds_next.clear()
            self.held.set()
            assert self._go_on.wait(30)

    def hold(self, name: str) -> None:
        """Send a message whose handler does not return until `go_on`."""
        self.holds_next.set()
        self.feed.send(name)
        assert self.held.wait(10)

    def go_on(self) -> None:
        """Let the handler return."""
        self._go_on.set()

    def replace(self, *names: str) -> ServerConnection:
        """Begin to replace the connection; returns the second one when it has asked for `names`."""
        self.stream.reconnect_now()
        new = self.feed.next_connection()
        for name in names:
            self.feed.wait_for_subscribers(name, 2)
        return new

    def both_are_open(self) -> bool:
        """Wait until the dispatch thread compares the two."""
        return wait_until(lambda: any(one.new for one in self.stream._session.pipeline.gaps._replacements.values()))

    def has_taken_over(self) -> bool:
        """Wait until the second connection serves the line."""
        return wait_until(lambda: self.stream._session.connections.all() != [self.first])

    def keep_the_old_connection(self) -> None:
        """As where the new one ends for a reason that does not say that the server allows only one."""
        self.first.reconnect = lambda error, reason: None

    def received(self, count: int) -> bool:
        """Wait until so many payloads have been read, whatever has become of them."""
        return wait_until(lambda: self.stream.stats().messages.received >= count)

    def numbers(self, name: str) -> list[int]:
        """Those that came of a name."""
        return [item[1] for item in list(self.seen.items) if not isinstance(item, Gap) and item[0] == name]

    def gaps(self) -> list[Gap]:
        """Those that were told."""
        return [item for item in list(self.seen.items) if isinstance(item, Gap)]

    def duplicates(self, count: int) -> bool:
        """Wait until so many messages were found to be duplicates."""
        return wait_until(lambda: self.stream.stats().messages.duplicate >= count)


def tick(name: str, number: int) -> str:
    """What the feed sends as a name's `number`."""
    return text(redis_key=name, instrument_name=name, timestamp=str(number))
