"""What the user wants, and what each open connection has been asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable

from finx_sync.venues.base import Dialect, Subscription

__all__ = ["Subscriptions"]

Send = Callable[[str], object]


class Subscriptions:
    """The desired set, sent exactly once on each connection, in the order in which it was wished for.

    Safe from any thread. The lock is held while messages are queued, which never waits for the network; so a wish that
    comes while a connection opens is sent once, neither twice nor never.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._lock = threading.Lock()
        self._desired: dict[Subscription, None] = {}
        self._open: dict[str, tuple[str, Send, set[Subscription]]] = {}  # line -> key, send, what was sent

    def desired(self, line: str | None = None) -> list[Subscription]:
        """What is wanted, of one connection or of all."""
        with self._lock:
            return [one for one in self._desired if line is None or self._dialect.line_of(one) == line]

    def lines(self) -> list[str]:
        """The names of the connections that the wishes need."""
        return list(dict.fromkeys(self._dialect.line_of(one) for one in self.desired()))

    def add(self, subscription: Subscription) -> bool:
        """Want a stream; asks for it at once where its connection is open. Returns whether the wish is new."""
        with self._lock:
            new = subscription not in self._desired
            self._desired[subscription] = None
            if (connection := self._open.get(self._dialect.line_of(subscription))) is not None:
                self._ask(subscription, *connection)
            return new

    def remove(self, subscription: Subscription) -> bool:
        """Want it no more; says so where the venue has a message for it. Returns whether it was wanted."""
        with self._lock:
            if subscription not in self._desired:
                return False
            del self._desired[subscription]
            connection = self._open.get(self._dialect.line_of(subscription))
            if connection is not None:
                key, send, sent = connection
                text = self._dialect.unsubscribe(key, subscription)
                if text is not None:
                    sent.discard(subscription)
                    send(text)
            return True

    def opened(self, line: str, key: str, send: Send) -> None:
        """A connection is open: ask for all that is wanted of it."""
        with self._lock:
            connection = self._open[line] = (key, send, set())
            for subscription in self._desired:
                if self._dialect.line_of(subscription) == line:
                    self._ask(subscription, *connection)

    def closed(self, line: str) -> None:
        """A connection is gone, and with it what it was asked for."""
        with self._lock:
            self._open.pop(line, None)

    def _ask(self, subscription: Subscription, key: str, send: Send, sent: set[Subscription]) -> None:
        assert self._lock.locked()
        if subscription in sent:
            return  # the venue cannot take a subscription back, so this connection still carries it
        sent.add(subscription)
        text = self._dialect.subscribe(key, subscription)
        if text is not None:
            send(text)
