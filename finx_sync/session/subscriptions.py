"""What the user wants, and what each open connection has been asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

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

    def add(self, *subscriptions: Subscription) -> bool:
        """Want streams; asks for them at once where their connection is open. Returns whether any wish is new."""
        with self._lock:
            new = any(one not in self._desired for one in subscriptions)
            self._desired.update(dict.fromkeys(subscriptions))
            for line in self._open:
                self._ask(line, subscriptions)
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

    def refused(self, subscription: Subscription) -> None:
        """The server does not grant it: want it no more; there is nothing to take back."""
        with self._lock:
            self._desired.pop(subscription, None)
            for _, _, sent in self._open.values():
                sent.discard(subscription)

    def again(self, subscription: Subscription) -> None:
        """Ask for it once more, if it is still wanted: the server did not take it the first time."""
        with self._lock:
            if subscription in self._desired:
                for line, (_, _, sent) in self._open.items():
                    sent.discard(subscription)
                    self._ask(line, [subscription])

    def opened(self, line: str, key: str, send: Send) -> None:
        """A connection is open: ask for all that is wanted of it."""
        with self._lock:
            self._open[line] = (key, send, set())
            self._ask(line, self._desired)

    def closed(self, line: str, send: Send) -> None:
        """A connection is gone, and with it what it was asked for; another one of the same line may be open already."""
        with self._lock:
            if line in self._open and self._open[line][1] == send:
                del self._open[line]

    def _ask(self, line: str, subscriptions: Iterable[Subscription]) -> None:
        """Ask for those that are this connection's, unless it carries them: some venues cannot take one back."""
        assert self._lock.locked()
        key, send, sent = self._open[line]
        missing = [one for one in subscriptions if one not in sent and self._dialect.line_of(one) == line]
        sent.update(missing)
        for text in self._dialect.subscribe_all(key, missing):
            send(text)
