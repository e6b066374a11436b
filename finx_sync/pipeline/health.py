"""Feeds that fall silent, and feeds that fall behind: looked for on the dispatch thread, among the messages."""

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
"""Seconds between two messages that are sampled, at least."""
DRIFT_PAUSE: Final = 300.0
"""Seconds between two replacements of a connection that falls behind: where each one does, another is no cure."""


class FeedHealth:
    """Reports silent subscriptions and feeds that fall behind. The dispatch thread's.

    Args:
        staleness: finds the silent ones.
        commands: replaces a connection whose feed falls behind; None where that is not wanted.

    Attributes:
        sample_due: when the next message is to be sampled, monotonic.
    """

    def __init__(self, staleness: Staleness, commands: CommandSink | None) -> None:
        self._staleness = staleness
        self._commands = commands
        self._drift = DriftMonitor()
        self._replace_after = 0.0
        self.sample_due = 0.0

    def sample(self, message: object, arrived: float, endpoint: str) -> None:
        """Take a message into account, as decoded, with when it arrived (monotonic)."""
        self.sample_due = arrived + SAMPLE_INTERVAL
        self._drift.sample(message, arrived, endpoint)

    def restart(self, endpoint: str) -> None:
        """Another connection serves an endpoint."""
        self._drift.forget(endpoint)

    def look(self, event: TimerFired, delivery: Delivery, *, is_open: bool) -> None:
        """Report what is to be reported now; everything that had come by then has been handed on."""
        if event.clock_stepped:
            self._staleness.restart(event.at)
        for stale in self._staleness.find(event.at, is_open):
            if not delivery.notify("stale", stale):
                logger.warning("%s has been silent for %.1f s", stale.name, stale.age)
        if event.is_held:  # what waits in the kernel gets older because of us, not because of the feed
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
