"""Finds feeds that fall silent and feeds that fall behind.

It runs on the dispatch thread, in order with the messages, so slow handlers do not look like a slow feed.
"""

from __future__ import annotations

import logging
from typing import Final

from finx_sync.events import TimerFired
from finx_sync.notices import Stale
from finx_sync.pipeline.catchup import Backlog
from finx_sync.pipeline.commands import CommandSink, Replace
from finx_sync.pipeline.delivery import Delivery
from finx_sync.pipeline.drift import DriftMonitor
from finx_sync.pipeline.latest import LastValues
from finx_sync.pipeline.wanted import Wanted
from finx_sync.venues.base import Codec, Subscription

__all__ = ["FeedHealth", "SilenceFinder", "StaleLimits"]

logger = logging.getLogger("finx_sync")

SAMPLE_INTERVAL: Final = 0.1
"""The minimum number of seconds between two sampled messages."""
DRIFT_PAUSE: Final = 300.0
"""The minimum number of seconds between two replacements of connections that fall behind: if the new one falls behind
too, a third will not help."""


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


class SilenceFinder:
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

    def find(self, now: float, connected: bool, backlog: Backlog | None = None) -> list[Stale]:
        """The subscriptions that have become stale, each reported once until its next message.

        Args:
            now: the current time, UNIX seconds; everything received before has been delivered, or is in `backlog`.
            connected: whether the stream is open.
            backlog: the messages that wait while the pipeline catches up; None if it does not.
        """
        if not self._limits:
            return []
        found = []
        waiting: dict[tuple[type, str], float] | None = None
        limits = {one: limit for one in self._wanted if (limit := self._limits.of(one)) is not None}
        self._since = {subscription: self._since.get(subscription, now) for subscription in limits}
        for subscription, limit in limits.items():
            last = self._last(subscription)
            age = now - max(last if last <= now else 0.0, self._since[subscription])
            if age > limit and backlog is not None:  # its messages may only be waiting for slow handlers
                waiting = backlog.newest() if waiting is None else waiting
                age = min(age, now - waiting.get((self._types.get(subscription.kind, object), subscription.name), 0.0))
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


class FeedHealth:
    """Reports silent subscriptions and feeds that fall behind. Dispatch thread only.

    Args:
        silence: finds silent subscriptions.
        commands: replaces a connection whose feed falls behind; None if that is not wanted.

    Attributes:
        sample_due: when the next message should be sampled, monotonic.
    """

    def __init__(self, silence: SilenceFinder, commands: CommandSink | None) -> None:
        self._silence = silence
        self._commands = commands
        self._drift = DriftMonitor()
        self._replace_after = 0.0
        self.sample_due = 0.0

    def sample(self, message: object, arrived: float, endpoint: str) -> None:
        """Sample a decoded message that arrived at `arrived`, monotonic seconds."""
        self.sample_due = arrived + SAMPLE_INTERVAL
        self._drift.sample(message, arrived, endpoint)

    def restart(self, endpoint: str) -> None:
        """Discard the samples of an endpoint, since another connection serves it now."""
        self._drift.forget(endpoint)

    def look(self, event: TimerFired, delivery: Delivery, backlog: Backlog | None, *, is_open: bool) -> None:
        """Check all feeds, and report. Every message received before `event` has been delivered, or is in `backlog`."""
        if event.clock_stepped:
            self._silence.restart(event.at)
        for stale in self._silence.find(event.at, is_open, backlog):
            if not delivery.notify("stale", stale):
                logger.warning("%s has been silent for %.1f s", stale.name, stale.age)
        if event.is_held:  # messages wait in the kernel because reading is paused, not because the feed is late
            self._drift.forget()
        for endpoint, drift in self._drift.check(event.arrived, event.at - event.arrived):
            if not delivery.notify("drift", drift):
                logger.log(logging.INFO if drift.caught_up else logging.WARNING, "%s", drift)
            if not drift.caught_up:
                self._fell_behind(endpoint, event.arrived)

    def _fell_behind(self, endpoint: str, now: float) -> None:
        if self._commands is not None and now >= self._replace_after:
            self._replace_after = now + DRIFT_PAUSE
            self._commands.execute(Replace(endpoint, "drift"))
