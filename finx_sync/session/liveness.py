"""Finds out whether an open connection is alive, beyond what protocol pings show. It runs on the io thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from finx_sync.pipeline.queue import EventQueue
from finx_sync.transport.app import WebSocketApp

__all__ = ["PROBE_AFTER", "Liveness"]

PROBE_AFTER: Final = 60.0
"""Seconds without data after which a probe is sent to the server, if no `stale_after` is set."""
MIN_LOOK: Final = 0.05
"""The shortest time between two checks of a quiet connection, seconds."""


class Liveness:
    """Watches one endpoint's present connection for signs of life.

    Args:
        queue: receives what is read; while it holds the reader back, silence is not the server's fault.

    Attributes:
        opened_at, last_data_at: when the connection was opened and last received data, monotonic seconds; None if it
            has not yet.
        answers_probes: whether this server has ever answered a probe. Only then does a missing answer mean that its
            feed is dead, since no source promises that every server answers. Set by the dispatch thread.
    """

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue
        self.opened_at: float | None = None
        self.last_data_at: float | None = None
        self.answers_probes = False

    def reset(self) -> None:
        """Prepare for another connection."""
        self.opened_at = self.last_data_at = None

    def quiet_since(self) -> float:
        """Return when the last data arrived or the connection was opened, whichever is later; monotonic seconds."""
        return max(self.last_data_at or 0.0, self.opened_at or 0.0)

    def ping_when_idle(self, app: WebSocketApp, patience: float, text: str) -> None:
        """Send `text` after `patience` seconds without data, and again after each further `patience` seconds."""
        pinged_at = time.monotonic()

        def look() -> None:
            nonlocal pinged_at
            due = max(pinged_at, self.last_data_at or 0.0) + patience
            now = time.monotonic()
            if now >= due:
                app.try_send(text)
                pinged_at, due = now, now + patience
            app.call_later(due - now, look)

        app.call_later(patience, look)

    def probe_when_quiet(
        self, app: WebSocketApp, text: str, patience: float, grace: float, on_dead: Callable[[], object]
    ) -> None:
        """Distinguish a quiet feed from a dead one: send a probe after a silence, and report if no answer comes.

        Args:
            app: the connection.
            text: the probe, which the server answers.
            patience: seconds of silence before the probe is sent.
            grace: seconds that an answer may take.
            on_dead: called if no answer came from a server that has answered before.
        """
        asked_at: float | None = None
        last_look = False

        def look() -> None:
            nonlocal asked_at, last_look
            now, quiet_since = time.monotonic(), self.quiet_since()
            overdue = asked_at is not None and quiet_since <= asked_at and now - asked_at > grace
            if self._queue.is_holding or quiet_since + patience > now:
                asked_at, due = None, quiet_since + patience - now
            elif overdue and self.answers_probes and last_look:
                on_dead()
                return
            elif overdue and self.answers_probes:
                due = 0.0  # this process may have been suspended: first read what has arrived meanwhile
            elif asked_at is None or overdue or quiet_since > asked_at:
                asked_at, due = now, grace if self.answers_probes else max(patience, grace)
                app.try_send(text)
            else:
                due = asked_at + grace - now
            last_look = overdue
            app.call_later(max(due, MIN_LOOK), look)

        app.call_later(patience, look)
