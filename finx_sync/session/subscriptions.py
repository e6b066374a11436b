"""The subscriptions that the user wants, and those that have been requested on each open connection."""

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
        carried: the subscriptions requested on it.
        requests: the number of subscription requests sent on it.
    """

    key: Any
    send: Send
    carried: set[Subscription]
    requests: int = 0


class Subscriptions:
    """The desired subscriptions, each requested exactly once on each connection, in the order in which they were added.

    All methods may be called from any thread. The lock is held while requests are queued, which never waits for the
    network; so a subscription that is added while a connection opens is requested exactly once. An endpoint has two
    connections while one replaces the other: new subscriptions are requested on the newer one, and on the older one if
    the newer one fails.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._lock = threading.RLock()  # re-entrant, for signal handlers
        # For each endpoint, its subscriptions with their positions in the whole order: every step takes constant time.
        self._desired: dict[str, dict[Subscription, int]] = {}
        self._places = itertools.count()
        self._open: dict[str, list[_Open]] = {}  # for each endpoint, the oldest first

    def desired(self, endpoint: str | None = None) -> list[Subscription]:
        """Return the subscriptions that are wanted, of one endpoint or of all."""
        with self._lock:
            return list(self._all() if endpoint is None else self._of(endpoint))

    def wants(self, subscription: Subscription) -> bool:
        """Return whether a subscription is wanted."""
        with self._lock:
            return subscription in self._of(self._codec.endpoint_of(subscription))

    def endpoints(self) -> list[str]:
        """Return the names of the endpoints that the subscriptions need."""
        with self._lock:
            return [
                endpoint for endpoint, subscriptions in self._desired.items() if subscriptions
            ]  # an interrupt can leave an empty dictionary

    def carried(self, endpoint: str) -> list[Subscription]:
        """Return the wanted subscriptions that were requested on the connection that serves an endpoint.

        While one connection replaces another, this is the older one.
        """
        with self._lock:
            carried = self._asked(endpoint)
            return [one for one in self._of(endpoint) if one in carried]

    def asked(self, endpoint: str) -> list[Subscription]:
        """Return all subscriptions requested on that connection, wanted or not, that it may still deliver."""
        with self._lock:
            return list(self._asked(endpoint))

    def differs(self, endpoint: str) -> bool:
        """Return whether those requested on an endpoint's newest connection differ from those that are wanted now."""
        with self._lock:
            return endpoint in self._open and self._of(endpoint).keys() != self._open[endpoint][-1].carried

    def add(self, *subscriptions: Subscription) -> bool:
        """Add subscriptions; request them at once if their connection is open. Return whether any is new."""
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
        """Remove a subscription, and unsubscribe if the venue has a message for that. Return whether it was wanted."""
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
        """Remove a subscription that the server has refused, without unsubscribing."""
        with self._lock:
            self._drop(subscription)
            self._forget(subscription)

    def again(self, subscription: Subscription) -> None:
        """Request a subscription again, if it is still wanted, because the server did not accept the first request."""
        with self._lock:
            self._forget(subscription)  # even if it is no longer wanted, since it may be added later
            endpoint = self._codec.endpoint_of(subscription)
            if subscription in self._of(endpoint) and endpoint in self._open:
                self._ask(endpoint, [subscription])

    def opened(self, endpoint: str, key: Any, send: Send, carried: Iterable[Subscription] = ()) -> None:
        """Record an open connection, and request its wanted subscriptions except those in its URL (`carried`)."""
        with self._lock:
            self._open.setdefault(endpoint, []).append(_Open(key, send, set(carried)))
            self._ask(endpoint, self._of(endpoint))

    def closed(self, endpoint: str, send: Send) -> None:
        """Forget a closed connection and its subscriptions; an older one of the endpoint may remain in use."""
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
        """Remove a subscription; return whether it was wanted."""
        endpoint = self._codec.endpoint_of(subscription)
        of_endpoint = self._of(endpoint)
        if of_endpoint.pop(subscription, None) is None:
            return False
        if not of_endpoint:
            del self._desired[endpoint]
        return True

    def _ask(self, endpoint: str, subscriptions: Iterable[Subscription]) -> None:
        """Request this endpoint's subscriptions that are not requested yet; some venues cannot unsubscribe."""
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
        connection.carried.update(missing)  # last: the next call sends what an interrupt left unsent
