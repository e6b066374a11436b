"""Which subscriptions have gone quiet. On the dispatch thread, so that a slow handler never looks like a quiet feed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from finx_sync.notices import Stale
from finx_sync.pipeline.latest import LastValues
from finx_sync.venues.base import Dialect, Subscription

__all__ = ["Staleness"]


class Staleness:
    """Looks for names whose last message is too old.

    Args:
        dialect: whose message types have which kind of subscription.
        limits: the subscriptions with the seconds that each may be quiet.
        latest: the last values.
    """

    def __init__(
        self, dialect: Dialect, limits: Callable[[], Iterable[tuple[Subscription, float]]], latest: LastValues
    ) -> None:
        self._types = {kind: message_type for message_type, kind in dialect.kinds.items()}
        self._limits = limits
        self._latest = latest
        self._since: dict[Subscription, float] = {}
        self._told: set[Subscription] = set()

    def find(self, now: float, connected: bool) -> list[Stale]:
        """Those that have become stale by `now`, each told once until it speaks again.

        Args:
            now: UNIX seconds; everything that was received before has been handed on.
            connected: whether the stream is open.
        """
        found = []
        limits = dict(self._limits())
        self._since = {subscription: self._since.get(subscription, now) for subscription in limits}
        for subscription, limit in limits.items():
            last = self._last(subscription)
            age = now - max(last if last <= now else 0.0, self._since[subscription])
            if age <= limit:
                self._told.discard(subscription)
            elif subscription not in self._told:
                self._told.add(subscription)
                found.append(Stale(subscription.name, age, connected))
        return found

    def restart(self, now: float) -> None:
        """The wall clock was set, or the machine slept: what was seen before is as if seen at `now`."""
        self._since = dict.fromkeys(self._since, now)

    def _last(self, subscription: Subscription) -> float:
        message_type = self._types.get(subscription.kind)
        if message_type is None:
            return 0.0
        table = self._latest.get(message_type)
        return 0.0 if table is None else table.received_at(subscription.name)
