"""Finds silent subscriptions. Runs on the dispatch thread, so that a slow handler does not look like a silent feed."""

from __future__ import annotations

from finx_sync.notices import Stale
from finx_sync.pipeline.latest import LastValues
from finx_sync.pipeline.wanted import Wanted
from finx_sync.venues.base import Codec, Subscription

__all__ = ["StaleLimits", "Staleness"]


class StaleLimits:
    """How long subscriptions may be silent. Safe to use from any thread: each method is one atomic dict operation.

    Args:
        usual: the limit in seconds for subscriptions without their own; None for no limit.
    """

    def __init__(self, usual: float | None) -> None:
        self._usual = usual
        self._own: dict[Subscription, float] = {}

    def __bool__(self) -> bool:
        return self._usual is not None or bool(self._own)

    def set(self, seconds: float, *subscriptions: Subscription) -> None:
        """Set the limit of some subscriptions."""
        self._own.update(dict.fromkeys(subscriptions, seconds))

    def forget(self, subscription: Subscription) -> None:
        """Remove the limit of a subscription that is no longer wanted."""
        self._own.pop(subscription, None)

    def of(self, subscription: Subscription) -> float | None:
        """The limit of a subscription in seconds; None for no limit."""
        return self._own.get(subscription, self._usual)


class Staleness:
    """Finds subscriptions whose last message is too old. Dispatch thread only.

    Args:
        codec: says which message type belongs to which kind of subscription.
        wanted: the wanted subscriptions.
        limits: how long each may be silent.
        latest: the tables of last values.
    """

    def __init__(self, codec: Codec, wanted: Wanted, limits: StaleLimits, latest: LastValues) -> None:
        self._types = {kind: message_type for message_type, kind in codec.kinds.items()}
        self._wanted = wanted
        self._limits = limits
        self._latest = latest
        self._since: dict[Subscription, float] = {}
        self._reported: set[Subscription] = set()

    def find(self, now: float, connected: bool) -> list[Stale]:
        """The subscriptions that have become stale, each reported once until its next message.

        Args:
            now: the current time, UNIX seconds; everything received before has been delivered.
            connected: whether the stream is open.
        """
        if not self._limits:
            return []
        found = []
        limits = {one: limit for one in self._wanted if (limit := self._limits.of(one)) is not None}
        self._since = {subscription: self._since.get(subscription, now) for subscription in limits}
        for subscription, limit in limits.items():
            last = self._last(subscription)
            age = now - max(last if last <= now else 0.0, self._since[subscription])
            if age <= limit:
                self._reported.discard(subscription)
            elif subscription not in self._reported:
                self._reported.add(subscription)
                found.append(Stale(subscription.name, age, connected))
        return found

    def restart(self, now: float) -> None:
        """Measure all silences from `now` on, because the wall clock was set or the machine slept."""
        self._since = dict.fromkeys(self._since, now)

    def _last(self, subscription: Subscription) -> float:
        message_type = self._types.get(subscription.kind)
        table = None if message_type is None else self._latest.get(message_type)
        return 0.0 if table is None else table.received_at(subscription.name)
