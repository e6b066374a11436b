"""Finds feeds that fall silent and feeds that fall behind.

It runs on the dispatch thread, in order with the messages, so slow handlers do not look like a slow feed.
"""

from __future__ import annotations

import logging
from typing import Final

from finx_sync.events import TimerFired
from finx_sync.pipeline.commands import CommandSink, Replace
from finx_sync.pipeline.delivery import Delivery
from finx_sync.pipeline.drift import DriftMonitor
from finx_sync.pipeline.staleness import Staleness

__all__ = ["FeedHealth"]

logger = logging.getLogger("finx_sync")

SAMPLE_INTERVAL: Final = 0.1
"""The minimum number of seconds between two sampled messages."""
DRIFT_PAUSE: Final = 300.0
"""The minimum number of seconds between two replacements of connections that fall behind: if the new one falls behind
too, a third will not help."""


class FeedHealth:
    """Reports silent subscriptions and feeds that fall behind. Dispatch thread only.

    Args:
        staleness: finds silent subscriptions.
        commands: replaces a connection whose feed falls behind; None if that is not wanted.

    Attributes:
        sample_due: when the next message should be sampled, monotonic.
    """

    def __init__(self, staleness: Staleness, commands: CommandSink | None) -> None:
        self._staleness = staleness
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

    def look(self, event: TimerFired, delivery: Delivery, *, is_open: bool) -> None:
        """Check all feeds, and report. Every message received before `event` has been delivered."""
        if event.clock_stepped:
            self._staleness.restart(event.at)
        for stale in self._staleness.find(event.at, is_open):
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
