"""What the readers of a feed ask for: a sorted set of tags, each with the time until which it is wanted."""

from __future__ import annotations

from typing import Any, Final

from finx_sync.relay import wire
from finx_sync.relay.upstream import Upstream
from finx_sync.venues.base import Subscription

__all__ = ["Demand"]

LOOK_SECONDS: Final = 1.0
"""Between two looks."""
MAX_DEMANDED: Final = 10_000
"""Tags that are subscribed to at most: whoever may write to Redis may ask."""


class Demand:
    """Subscribes a stream to what readers ask for, and ends that when nobody asks any more.

    Args:
        key: the Redis key.
        upstream: the stream.
    """

    def __init__(self, key: str, upstream: Upstream) -> None:
        self._key = key
        self._upstream = upstream
        self._mine: set[Subscription] = set()
        self._looked: float | None = None

    def look(self, client: Any, now: float) -> None:
        """Look, if it is time again.

        Args:
            client: a connection whose replies are as the server sends them.
            now: monotonic seconds.
        """
        if self._looked is not None and now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        seconds, _ = client.execute_command("TIME")
        client.execute_command("ZREMRANGEBYSCORE", self._key, "-inf", f"({int(seconds)}")
        wanted = set()
        for tag in client.execute_command("ZRANGE", self._key, 0, MAX_DEMANDED - 1):
            try:
                wanted.add(wire.read_tag(tag))
            except ValueError:  # not UTF-8
                continue
        present = set(self._upstream.desired())
        new = wanted - present - self._mine  # what was refused is not asked for again
        self._mine |= new
        self._upstream.subscribe(sorted(new, key=lambda one: (one.kind, one.name)))
        for subscription in self._mine - wanted:
            self._mine.discard(subscription)
            self._upstream.unsubscribe(subscription)
