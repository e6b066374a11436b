"""The wanted subscriptions, according to the events handled so far."""

from __future__ import annotations

from collections.abc import Iterator

from finx_sync.venues.base import Subscription

__all__ = ["Wanted"]


class Wanted:
    """The subscriptions that are wanted at the event being handled, and the endpoint that serves each."""

    def __init__(self) -> None:
        self._endpoints: dict[Subscription, str] = {}
        self._of: dict[str, dict[Subscription, None]] = {}

    def __contains__(self, subscription: object) -> bool:
        return subscription in self._endpoints

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._endpoints)

    def add(self, subscription: Subscription, endpoint: str) -> None:
        """Add a subscription that `endpoint` serves."""
        self.remove(subscription)
        self._endpoints[subscription] = endpoint
        self._of.setdefault(endpoint, {})[subscription] = None

    def remove(self, subscription: Subscription) -> bool:
        """Remove a subscription. Returns whether it was wanted."""
        endpoint = self._endpoints.pop(subscription, None)
        if endpoint is None:
            return False
        del self._of[endpoint][subscription]
        return True

    def of(self, endpoint: str) -> list[Subscription]:
        """The wanted subscriptions of one endpoint."""
        return list(self._of.get(endpoint, ()))

    def endpoint_of(self, subscription: Subscription) -> str:
        """The endpoint that serves a wanted subscription; the main endpoint for others."""
        return self._endpoints.get(subscription, "")

    def names(self) -> tuple[str, ...]:
        """The names of all wanted subscriptions, sorted, without duplicates."""
        return tuple(sorted({one.name for one in self._endpoints}))
