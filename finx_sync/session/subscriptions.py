"""What the user wants, and what each open connection has been asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from finx_sync.venues.base import Dialect, Request, Subscription

__all__ = ["Subscriptions"]

Send = Callable[[Request], object]


@dataclass(eq=False)
class _Open:
    """An open connection.

    Attributes:
        key: its credentials.
        send: queues a request on it.
        carried: what it was asked for.
        requests: how many requests for subscriptions were made on it.
    """

    key: Any
    send: Send
    carried: set[Subscription]
    requests: int = 0


class Subscriptions:
    """The desired set, sent exactly once on each connection, in the order in which it was wished for.

    Safe from any thread. The lock is held while messages are queued, which never waits for the network; so a wish that
    comes while a connection opens is sent once, neither twice nor never. A line has two connections while one replaces
    the other: what is wanted later is asked of the newer one, and of the older one should the newer one fail.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._lock = threading.RLock()  # re-entrant for signal handlers
        self._desired: dict[Subscription, None] = {}
        self._open: dict[str, list[_Open]] = {}  # by line, the oldest first

    def desired(self, line: str | None = None) -> list[Subscription]:
        """What is wanted, of one connection or of all."""
        with self._lock:
            return list(self._desired if line is None else self._of(line))

    def wants(self, subscription: Subscription) -> bool:
        """Whether it is wanted."""
        with self._lock:
            return subscription in self._desired

    def lines(self) -> list[str]:
        """The names of the connections that the wishes need."""
        return list(dict.fromkeys(self._dialect.line_of(one) for one in self.desired()))

    def carried(self, line: str) -> list[Subscription]:
        """What is wanted and what the connection that serves a line was asked for, the older one if there are two."""
        with self._lock:
            carried = self._asked(line)
            return [one for one in self._desired if one in carried]

    def asked(self, line: str) -> list[Subscription]:
        """What that connection was asked for and may bring, also what is wanted no more and was not taken back."""
        with self._lock:
            return list(self._asked(line))

    def differs(self, line: str) -> bool:
        """Whether the newest connection of a line was asked for something else than what is wanted of it now."""
        with self._lock:
            return line in self._open and self._open[line][-1].carried != set(self._of(line))

    def add(self, *subscriptions: Subscription) -> bool:
        """Want streams; asks for them at once where their connection is open. Returns whether any wish is new."""
        with self._lock:
            new = any(one not in self._desired for one in subscriptions)
            self._desired.update(dict.fromkeys(subscriptions))
            for line in list(self._open):
                self._ask(line, subscriptions)
            return new

    def remove(self, subscription: Subscription) -> bool:
        """Want it no more; says so where the venue has a message for it. Returns whether it was wanted."""
        with self._lock:
            if subscription not in self._desired:
                return False
            del self._desired[subscription]
            for connection in self._open.get(self._dialect.line_of(subscription), ()):
                text = self._dialect.unsubscribe(connection.key, subscription)
                if text is not None and subscription in connection.carried:
                    connection.carried.remove(subscription)
                    connection.send(Request(text, "unsubscribe", (subscription,)))
            return True

    def refused(self, subscription: Subscription) -> None:
        """The server does not grant it: want it no more; there is nothing to take back."""
        with self._lock:
            self._desired.pop(subscription, None)
            self._forget(subscription)

    def again(self, subscription: Subscription) -> None:
        """Ask for it once more, if it is still wanted: the server did not take it the first time."""
        with self._lock:
            self._forget(subscription)  # also where it is wanted no more: it may be wanted later
            if subscription in self._desired:
                for line in list(self._open):
                    self._ask(line, [subscription])

    def opened(self, line: str, key: Any, send: Send, carried: Iterable[Subscription] = ()) -> None:
        """A connection is open: ask for all that is wanted of it, but for what its URL has asked for already."""
        with self._lock:
            self._open.setdefault(line, []).append(_Open(key, send, set(carried)))
            self._ask(line, self._desired)

    def closed(self, line: str, send: Send) -> None:
        """A connection is gone, and with it what it was asked for; an older one of the same line goes on."""
        with self._lock:
            left = [one for one in self._open.pop(line, ()) if one.send != send]
            if left:
                self._open[line] = left
                self._ask(line, self._desired)

    def _forget(self, subscription: Subscription) -> None:
        for connections in self._open.values():
            for connection in connections:
                connection.carried.discard(subscription)

    def _asked(self, line: str) -> set[Subscription]:
        return self._open[line][0].carried if line in self._open else set()

    def _of(self, line: str) -> Iterator[Subscription]:
        return (one for one in list(self._desired) if self._dialect.line_of(one) == line)

    def _ask(self, line: str, subscriptions: Iterable[Subscription]) -> None:
        """Ask for those that are this line's, unless it carries them: some venues cannot take one back."""
        if self._dialect.asks_by_url:
            return
        connection = self._open[line][-1]
        missing = [
            one for one in list(subscriptions) if one not in connection.carried and self._dialect.line_of(one) == line
        ]
        requests = self._dialect.subscribe_all(connection.key, missing, connection.requests)
        connection.requests += len(requests)
        for request in requests:
            connection.send(request)
        connection.carried.update(missing)  # last: what an interrupt leaves unsent is sent by the next call
