"""One run of a stream, from start to stop: its connections, its inbox, its dispatch thread, its state.

Threads: an io thread for each connection (`Supervisor`), one dispatch thread (`Worker`), and whoever calls `start` and
`stop`. The io threads report here; what concerns the user is queued to the dispatch thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from finx_sync.config import Account
from finx_sync.dispatch.handlers import Handlers
from finx_sync.dispatch.inbox import Connection, Inbox
from finx_sync.dispatch.ledger import Ledger
from finx_sync.dispatch.worker import Fate, LastValues, Worker
from finx_sync.errors import FinxSyncError, StreamTimeoutError
from finx_sync.session.controls import Controls
from finx_sync.session.options import Options
from finx_sync.session.state import ENDED, State, StateBox, StateChange
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.session.supervisor import Supervisor
from finx_sync.transport.app import WebSocketApp
from finx_sync.venues.base import MAIN_LINE, Dialect

__all__ = ["Session", "SessionParts"]

logger = logging.getLogger("finx_sync")

OVER: Final = ENDED | {State.STOPPING}
"""States that a late report from a connection does not change."""
LAST_JOIN: Final = 1.0
"""Seconds that the dispatch thread gives the io threads at its end; they are on their way out by then."""


@dataclass(frozen=True)
class SessionParts:
    """What a session works with; it outlives the session.

    Attributes:
        dialect, account, options: see `Supervisor`.
        handlers, subscriptions, latest: the user's, kept from one start to the next.
        listen: told of every change of state at once, on the thread that changed it; must not block.
        connection_changed: told, on the dispatch thread and in order with the messages, of a connection's line and
            whether it is open now.
    """

    dialect: Dialect
    account: Account
    options: Options
    handlers: Handlers
    subscriptions: Subscriptions
    latest: LastValues
    listen: Callable[[StateChange], None]
    connection_changed: Callable[[str, bool], None]


class Session:
    """Runs a stream once. `start` and `stop` are for any thread but the io threads."""

    def __init__(self, parts: SessionParts) -> None:
        self._parts = parts
        self.ledger = Ledger()
        self._inbox = Inbox(parts.options.queue_size, self.ledger)
        self.worker = Worker(
            inbox=self._inbox,
            ledger=self.ledger,
            handlers=parts.handlers,
            decode=parts.dialect.decode,
            on_other=self._take_control,
            latest=parts.latest,
            on_end=self._worker_ended,
            name="finx-sync dispatch",
        )
        self._controls = Controls(parts.dialect, parts.subscriptions, self._line_of, self.worker.tell)
        self.state = StateBox(self._state_changed)
        self._lock = threading.Lock()  # guards _lines
        self._lines: dict[str, Supervisor] = {}
        self._reconnects = 0

    @property
    def reconnects(self) -> int:
        """How often an open connection was lost."""
        return self._reconnects

    def start(self, timeout: float | None) -> None:
        """Connect; returns when every connection is open, or when `stop` was called meanwhile.

        Raises:
            FinxSyncError: why the first attempt failed; nothing is left running.
        """
        with self._lock:
            if self.state.state is not State.NEW:
                return
            self.worker.start()
        self.state.move(State.CONNECTING, unless=OVER - {State.NEW})
        try:
            self.adjust_lines()
            self._settle_state()
            in_time = self.state.wait(lambda state: state is not State.CONNECTING, timeout)
        except BaseException:  # Ctrl+C while connecting
            self.stop(LAST_JOIN, drain=False)
            raise
        if not in_time:
            self.stop(LAST_JOIN, drain=False)
            raise StreamTimeoutError(f"the stream was not open within {timeout:g} s, and has been stopped")
        if (failure := self.state.failure) is not None:
            self.join(LAST_JOIN)
            raise failure

    def stop(self, timeout: float, *, drain: bool) -> bool:
        """End everything; on the dispatch thread returns at once, else within `timeout` seconds.

        Returns:
            Whether all threads have ended.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            if not self.worker.started:  # a stop that comes before the start has got going wins
                self.state.move(State.STOPPED)
                return True
        self.state.move(State.STOPPING, unless=OVER - {State.NEW})
        for line in self._all_lines():
            line.stop()
        if drain and not self.worker.on_this_thread():
            self._join_lines(deadline)
        self.worker.stop(drain=drain)
        if self.worker.on_this_thread():
            return False
        return self.join(deadline - time.monotonic())

    def join(self, timeout: float) -> bool:
        """Wait for the threads to end; returns whether they have."""
        deadline = time.monotonic() + timeout
        ended = self._join_lines(deadline)
        if self.worker.on_this_thread():
            return False
        return self.worker.join(max(0.0, deadline - time.monotonic())) and ended

    def adjust_lines(self) -> None:
        """Have exactly the connections that the subscriptions need."""
        parts = self._parts
        wanted = parts.subscriptions.lines()
        if parts.dialect.has_main_line and MAIN_LINE not in wanted:
            wanted.append(MAIN_LINE)
        patient = self.state.state is not State.CONNECTING
        with self._lock:
            if self.state.state in OVER:
                return
            surplus = [self._lines.pop(name) for name in list(self._lines) if name not in wanted]
            missing = [name for name in wanted if name not in self._lines]
            new = [self._new_line(name, patient=patient) for name in missing]
            self._lines.update(zip(missing, new, strict=True))
            for line in new:
                line.start()
        for line in surplus:
            line.stop()

    def app(self, line: str) -> WebSocketApp | None:
        """The open websocket of a line; None while it is not connected."""
        with self._lock:
            supervisor = self._lines.get(line)
        return None if supervisor is None else supervisor.app

    def _new_line(self, name: str, *, patient: bool) -> Supervisor:
        parts = self._parts
        return Supervisor(
            name,
            dialect=parts.dialect,
            account=parts.account,
            options=parts.options,
            subscriptions=parts.subscriptions,
            inbox=self._inbox,
            observer=self,
            patient=patient,
            thread_name=f"finx-sync io {name}".rstrip(),
        )

    def _line_of(self, connection: Connection) -> Supervisor | None:
        with self._lock:
            line = self._lines.get(connection.line)
        return line if line is not None and line.connection is connection else None

    def _all_lines(self) -> list[Supervisor]:
        with self._lock:
            return list(self._lines.values())

    def _join_lines(self, deadline: float) -> bool:
        ended = True
        for line in self._all_lines():
            ended = line.join(max(0.0, deadline - time.monotonic())) and ended
        return ended

    # Observer: on the io threads.

    def line_connected(self, connection: Connection) -> None:
        """A connection is open; its payloads follow."""
        self._inbox.post(lambda: self._parts.connection_changed(connection.line, True))

    def line_closed(self, connection: Connection) -> None:
        """It is gone; no payload of it follows."""
        self._inbox.post(lambda: self._parts.connection_changed(connection.line, False))

    def line_opened(self, line: str) -> None:
        """A connection is ready; the stream is open when all are."""
        self._settle_state()

    def line_lost(self, line: str, error: FinxSyncError) -> None:
        """A connection is gone for now."""
        self._reconnects += 1
        self.state.move(State.RECONNECTING, error, unless=OVER)

    def line_failed(self, line: str, error: FinxSyncError) -> None:
        """A connection is gone for good, and the stream with it."""
        if self.state.move(State.FAILED, error, unless=OVER):
            logger.error("%s: the stream has ended: %s", self._parts.dialect.venue, error)
        for other in self._all_lines():
            other.stop()
        self.worker.stop(drain=True)

    def _settle_state(self) -> None:
        if all(line.confirmed for line in self._all_lines()):
            self.state.move(State.OPEN, unless=OVER)

    # On the dispatch thread.

    def _take_control(self, message: object, connection: Connection) -> Fate:
        return self._controls.take(message, connection)

    def _worker_ended(self, crash: FinxSyncError | None) -> None:
        """The last act of the dispatch thread: the io threads are ending too, and the state says so."""
        if crash is not None:
            self.state.move(State.FAILED, crash, unless=OVER)
            for line in self._all_lines():
                line.stop()
        self._join_lines(time.monotonic() + LAST_JOIN)
        self.state.move(State.STOPPED, unless=ENDED)

    def _state_changed(self, change: StateChange) -> None:
        self._parts.listen(change)
        if self.worker.on_this_thread():
            self.worker.tell("state", change)
        else:
            self._inbox.post(lambda: self.worker.tell("state", change))
