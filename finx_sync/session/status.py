"""The state of a run, its failure, and the report of both. Everything here may be called from any thread."""

from __future__ import annotations

import logging
import threading
from typing import Final

from finx_sync.errors import FinxSyncError
from finx_sync.events import StateChanged
from finx_sync.interrupts import Notifier
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.handlers import Handlers
from finx_sync.pipeline.queue import EventQueue
from finx_sync.session.flight import FlightRecorder
from finx_sync.session.options import Options
from finx_sync.session.parts import Listener
from finx_sync.state import ENDED, State, StateBox, StateChange

__all__ = ["OVER", "Status"]

logger = logging.getLogger("finx_sync")

OVER: Final = ENDED | {State.STOPPING}
"""The states that a late report from a connection does not change."""


class Status(StateBox):
    """The state of a live run.

    Args:
        venue: the venue's name, for the log.
        listen: called at every change, on the thread that changed the state; must not block.
        venue_changes: notified at the end, to wake threads that wait for a change that can no longer come.
        queue: delivers changes to the handlers, in order with the messages.
        flight: the flight recorder.
        counter, handlers, options: for the report.

    Attributes:
        reconnects: how often an open connection was lost.
    """

    def __init__(
        self,
        venue: str,
        *,
        listen: Listener,
        venue_changes: Notifier,
        queue: EventQueue,
        flight: FlightRecorder,
        counter: MessageCounter,
        handlers: Handlers,
        options: Options,
    ) -> None:
        super().__init__(self._changed)
        self._venue = venue
        self._listen = listen
        self._venue_changes = venue_changes
        self._queue = queue
        self._flight = flight
        self._counter = counter
        self._handlers = handlers
        self._options = options
        self._count = threading.Lock()  # guards the counter
        self.reconnects = 0

    def lost(self) -> None:
        """Count the loss of an open connection."""
        with self._count:
            self.reconnects += 1

    def fail(self, error: FinxSyncError) -> None:
        """End the stream with an error, unless it is ending already."""
        was_open = self.state not in (State.NEW, State.CONNECTING)
        if not self.move(State.FAILED, error, unless=OVER):
            return
        level = logging.ERROR if was_open else logging.INFO  # start() raises the error itself
        logger.log(level, "%s: the stream has ended: %s", self._venue, error)
        if was_open:
            self.write_report(f"the stream has failed: {error}")

    def dump(self, why: str) -> str:
        """Return the flight recorder's report."""
        return self._flight.report(
            ("why", why),
            ("state", f"{self.state.value}\n{self._counter.snapshot()}\n{self.reconnects} reconnects"),
            ("handlers", "\n".join(f"{one.label}: {one.calls} calls" for one in self._handlers.snapshot())),
        )

    def write_report(self, why: str) -> None:
        """Write the report to a file, unless the option `flight_recorder` is False."""
        where = self._options.flight_recorder
        if where is not False:
            self._flight.write(None if where is True else where, self.dump(why), why)

    def _changed(self, change: StateChange) -> None:
        self._flight.note("state", f"{change.old.value} -> {change.new.value} {change.reason or ''}")
        self._listen(change)
        if change.new in ENDED:
            self._venue_changes.notify()
        self._queue.emit(StateChanged, change)
