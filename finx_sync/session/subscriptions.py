"""What the user wants, and what each open connection has been asked for."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from finx_sync.venues.base import Codec, Request, Subscription

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
    """The desired set, sent exactly once on each connection, in the order in which it was asked for.

    Safe from any thread. The lock is held while messages are queued, which never waits for the network; so a
    subscription that comes while a connection opens is sent once, neither twice nor never. An endpoint has two
    connections while one replaces the other: what is wanted later is asked of the newer one, and of the older one
    should the newer one fail.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._lock = threading.RLock()  # re-entrant for signal handlers
        # By endpoint, each subscription with its place among all: every step costs the same however many there are.
        self._desired: dict[str, dict[Subscription, int]] = {}
        self._places = itertools.count()
        self._open: dict[str, list[_Open]] = {}  # by endpoint, the oldest first

    def desired(self, endpoint: str | None = None) -> list[Subscription]:
        """What is wanted, of one connection or of all."""
        with self._lock:
            return list(self._all() if endpoint is None else self._of(endpoint))

    def wants(self, subscription: Subscription) -> bool:
        """Whether it is wanted."""
        with self._lock:
            return subscription in self._of(self._codec.endpoint_of(subscription))

    def endpoints(self) -> list[str]:
        """The names of the connections that the subscriptions need."""
        with self._lock:
            return [
                endpoint for endpoint, subscriptions in self._desired.items() if subscriptions
            ]  # an interrupt can leave an empty one

    def carried(self, endpoint: str) -> list[Subscription]:
        """What is wanted and what the connection that serves an endpoint was asked for: the older one of two."""
        with self._lock:
            carried = self._asked(endpoint)
            return [one for one in self._of(endpoint) if one in carried]

    def asked(self, endpoint: str) -> list[Subscription]:
        """What that connection was asked for and may bring, also what is no longer wanted but not taken back."""
        with self._lock:
            return list(self._asked(endpoint))

    def differs(self, endpoint: str) -> bool:
        """Whether the newest connection of an endpoint was asked for something else than what is wanted of it now."""
        with self._lock:
            return endpoint in self._open and self._of(endpoint).keys() != self._open[endpoint][-1].carried

    def add(self, *subscriptions: Subscription) -> bool:
        """Want streams; asks for them at once where their connection is open. Returns whether any is new."""
        with self._lock:
            new = False
            for one in subscriptions:
                of_endpoint = self._desired.setdefault(self._codec.endpoint_of(one), {})
                if one not in of_endpoint:
                    of_endpoint[one] = next(self._places)
                    new = True
            for endpoint in list(self._open):
                self._ask(endpoint, subscriptions)
            return new

    def remove(self, subscription: Subscription) -> bool:
        """Remove it, and unsubscribe where the venue has a message for that. Returns whether it was wanted."""
        with self._lock:
            if not self._drop(subscription):
                return False
            for connection in self._open.get(self._codec.endpoint_of(subscription), ()):
                text = self._codec.unsubscribe(connection.key, subscription)
                if text is not None and subscription in connection.carried:
                    connection.carried.remove(subscription)
                    connection.send(Request(text, "unsubscribe", (subscription,)))
            return True

    def refused(self, subscription: Subscription) -> None:
        """The server does not grant it: remove it; there is nothing to unsubscribe from."""
        with self._lock:
            self._drop(subscription)
            self._forget(subscription)

    def again(self, subscription: Subscription) -> None:
        """Ask for it once more, if it is still wanted: the server did not take it the first time."""
        with self._lock:
            self._forget(subscription)  # even if it is no longer wanted: it may be wanted later
            endpoint = self._codec.endpoint_of(subscription)
            if subscription in self._of(endpoint) and endpoint in self._open:
                self._ask(endpoint, [subscription])

    def opened(self, endpoint: str, key: Any, send: Send, carried: Iterable[Subscription] = ()) -> None:
        """A connection is open: ask for all that is wanted of it, but for what its URL has asked for already."""
        with self._lock:
            self._open.setdefault(endpoint, []).append(_Open(key, send, set(carried)))
            self._ask(endpoint, self._of(endpoint))

    def closed(self, endpoint: str, send: Send) -> None:
        """A connection is gone, and with it what it was asked for; an older one of the same endpoint goes on."""
        with self._lock:
            left = [one for one in self._open.pop(endpoint, ()) if one.send != send]
            if left:
                self._open[endpoint] = left
                self._ask(endpoint, self._of(endpoint))

    def _forget(self, subscription: Subscription) -> None:
        for connections in self._open.values():
            for connection in connections:
                connection.carried.discard(subscription)

    def _asked(self, endpoint: str) -> set[Subscription]:
        return self._open[endpoint][0].carried if endpoint in self._open else set()

    def _of(self, endpoint: str) -> dict[Subscription, int]:
        return self._desired.get(endpoint, {})

    def _all(self) -> Iterable[Subscription]:
        if len(self._desired) == 1:
            return next(iter(self._desired.values()))
        places = {one: place for of_endpoint in self._desired.values() for one, place in of_endpoint.items()}
        return sorted(places, key=places.__getitem__)

    def _drop(self, subscription: Subscription) -> bool:
        """Remove it; returns whether it was wanted."""
        endpoint = self._codec.endpoint_of(subscription)
        of_endpoint = self._of(endpoint)
        if of_endpoint.pop(subscription, None) is None:
            return False
        if not of_endpoint:
            del self._desired[endpoint]
        return True

    def _ask(self, endpoint: str, subscriptions: Iterable[Subscription]) -> None:
        """Ask for those that are this endpoint's, unless it carries them: some venues cannot take one back."""
        if self._codec.asks_by_url:
            return
        connection = self._open[endpoint][-1]
        missing = [
            one
            for one in list(subscriptions)
            if one not in connection.carried and self._codec.endpoint_of(one) == endpoint
        ]
        requests = self._codec.subscribe_all(connection.key, missing, connection.requests)
        connection.requests += len(requests)
        for request in requests:
            connection.send(request)
        connection.carried.update(missing)  # last: what an interrupt leaves unsent is sent by the next call
