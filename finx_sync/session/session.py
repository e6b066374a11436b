"""One live run of a stream, from start to stop: its connections, its queue, its pipeline, its threads.

Threads: an io thread for each connection (`Supervisor`), the dispatch thread, which runs the pipeline, the health
monitor, and the threads that call `start` and `stop`. All of them reach the pipeline through events in the one queue.
The pipeline reaches `Connections` through commands.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from finx_sync.clock import Clock
from finx_sync.errors import FinxSyncError, InternalError, StreamTimeoutError
from finx_sync.interrupts import uninterrupted
from finx_sync.notices import Interval
from finx_sync.pipeline.backfill import Backfill
from finx_sync.pipeline.counters import Counters, MessageCounter
from finx_sync.pipeline.dispatcher import Dispatcher
from finx_sync.pipeline.health import FeedHealth, SilenceFinder
from finx_sync.pipeline.pipeline import Pipeline
from finx_sync.pipeline.queue import EventQueue
from finx_sync.pipeline.wanted import Wanted
from finx_sync.session.connections import Connections
from finx_sync.session.flight import FlightRecorder
from finx_sync.session.health import HealthMonitor
from finx_sync.session.manager import ConnectionManager
from finx_sync.session.parts import SessionParts
from finx_sync.session.status import OVER, Status
from finx_sync.state import ENDED, State
from finx_sync.venues.base import Subscription

__all__ = ["Session"]

logger = logging.getLogger("finx_sync")

LAST_JOIN: Final = 1.0
"""Seconds that the dispatch thread waits for the other threads when it ends; they are already ending by then."""


class Session:
    """Runs a stream once. `start` and `stop` may be called from any thread but the io threads."""

    def __init__(self, parts: SessionParts) -> None:
        options = parts.options
        self._parts = parts
        self._clock = Clock()
        counter, wanted = MessageCounter(), Wanted()
        flight = FlightRecorder(self._clock.offset)
        parts.sinks.begin()
        self.queue = EventQueue(options.queue_size, counter, self._clock, options.overflow, parts.sinks)
        self.state = Status(
            parts.codec.venue,
            listen=parts.listen,
            venue_changes=parts.venue_changes,
            queue=self.queue,
            flight=flight,
            counter=counter,
            handlers=parts.handlers,
            options=options,
        )
        make = parts.connections or Connections
        self.connections: ConnectionManager = make(parts, self.queue, self.state, self._clock, flight)
        silence = SilenceFinder(parts.codec, wanted, parts.stale_limits, parts.latest)
        self.pipeline = Pipeline(
            codec=parts.codec,
            state=parts.venue,
            handlers=parts.handlers,
            latest=parts.latest,
            wall=self._clock.wall,
            commands=self.connections,
            overlap=options.overlap,
            counter=counter,
            ends_on_handler_error=options.handler_errors == "raise",
            queue=self.queue,
            max_lag={"auto": options.max_lag, "latest": 0.0}.get(options.overflow),
            backlog_limit=options.queue_size,
            health=FeedHealth(silence, self.connections if options.reconnect_on_drift else None),
            wanted=wanted,
            outlet=parts.outlet,
        )
        if parts.history is not None:
            self.pipeline.gaps.filler = Backfill(
                parts.history, self.pipeline.delivery, counter, self.queue.emit, timeout=options.backfill_timeout
            )
        self.dispatcher = Dispatcher(threading.Thread(target=self._dispatch, name="finx-sync dispatch", daemon=True))
        self.health = HealthMonitor(
            options,
            clock=self._clock,
            queue=self.queue,
            pipeline=self.pipeline,
            dispatcher=self.dispatcher,
            handlers=parts.handlers,
            connections=self.connections,
            status=self.state,
        )
        self._lock = threading.Lock()  # guards the start of the threads, which a stop may meet
        self._abandoned = False

    def start(self, timeout: float | None) -> None:
        """Connect; return when every connection is open, or when `stop` has been called meanwhile.

        Raises:
            FinxSyncError: the first attempt failed; nothing is left running.
        """
        try:
            with self._lock:
                if self.state.state is not State.NEW:
                    return
                self.dispatcher.start()
                self.health.start()
            self.connections.added(self._parts.subscriptions.desired())
            self.state.move(State.CONNECTING, unless=OVER - {State.NEW})
            self.connections.adjust()
            in_time = self.state.wait(lambda state: state is not State.CONNECTING, timeout)
        except BaseException:  # for example, the system allows no further thread
            self.stop(LAST_JOIN, drain=False)
            raise
        if not in_time:
            self.stop(LAST_JOIN, drain=False)
            raise StreamTimeoutError(f"the stream was not open within {timeout:g} s, and has been stopped")
        if (failure := self.state.failure) is not None:
            self.join(LAST_JOIN)
            raise failure

    def stop(self, timeout: float, *, drain: bool) -> bool:
        """End everything. Return at once on the dispatch thread, and within `timeout` seconds on another one.

        Returns:
            Whether all threads have ended.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            if not self.dispatcher.started:  # a stop that comes before the threads have started wins
                self.state.move(State.STOPPED)
                return True
        self.state.move(State.STOPPING, unless=OVER - {State.NEW})
        self._stop_others()
        if drain and not self.dispatcher.on_this_thread():
            self.connections.join(deadline)
        if not drain:
            self.pipeline.delivery.stop()
        self.queue.close()
        if self.dispatcher.on_this_thread():
            return False
        return self.join(deadline - time.monotonic())

    def reset_after_fork(self) -> None:
        """In a forked child, which may be inside a handler: let that handler return, and call no other."""
        self.pipeline.reset_after_fork()
        self.queue.reset_after_fork()
        self._parts.handlers.reset_after_fork()
        self._abandoned = True

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the threads to end; return whether they have."""
        deadline = time.monotonic() + timeout
        ended = self.connections.join(deadline)
        if self.dispatcher.on_this_thread():
            return False
        ended = self.dispatcher.join(max(0.0, deadline - time.monotonic())) and ended
        return self.health.join(max(0.0, deadline - time.monotonic())) and ended

    @property
    def has_ended(self) -> bool:
        """Whether none of its threads is left, or none has been started."""
        return self.join(0.0)

    def _stop_others(self) -> None:
        self.health.stop()
        self.connections.stop()

    # For the stream, on any thread

    @property
    def reconnects(self) -> int:
        """How often an open connection was lost."""
        return self.state.reconnects

    def wall(self) -> float:
        """Return the present time, UNIX seconds, on the clock that timestamps what is received."""
        return self._clock.wall()

    def counters(self) -> Counters:
        """Return how many messages had which outcome so far."""
        return self.pipeline.counter.snapshot()

    def coverage(self, name: str) -> list[Interval]:
        """Return the intervals of `GapTracker.coverage`."""
        return self.pipeline.gaps.coverage(name)

    def lag(self) -> float:
        """Return the age, in seconds, of the message that is being delivered; 0 if none waits."""
        return self.pipeline.lag(time.monotonic())

    def dump(self, why: str) -> str:
        """Return the flight recorder's report, which is also written to a file when the stream stalls or fails."""
        return self.state.dump(why)

    def add(self, *subscriptions: Subscription) -> None:
        """Announce subscriptions that are about to be requested."""
        self.connections.added(subscriptions)

    def remove(self, subscription: Subscription) -> None:
        """Announce a subscription that is about to be removed."""
        self.connections.removed(subscription)

    def adjust(self) -> None:
        """Open the connections that the subscriptions need, and close those that they do not need."""
        if not self.connections.fit:
            uninterrupted(self.connections.adjust, "finx-sync control")

    def wants(self, subscription: Subscription) -> bool:
        """Return whether a subscription is wanted now."""
        return self._parts.subscriptions.wants(subscription)

    # The dispatch thread

    def _dispatch(self) -> None:
        crash: FinxSyncError | None = None
        try:
            while (event := self.queue.get()) is not None:
                self.pipeline.process(event)
                if self._abandoned:
                    return
        except BaseException as error:  # noqa: BLE001  # a defect of this package, since user code is guarded
            crash = InternalError(f"the dispatch thread has crashed: {type(error).__name__}; please report it")
            crash.__cause__ = error
        self._drain()
        self.pipeline.end()
        if crash is not None:
            self.connections.fail(crash)
        self._stop_others()
        self.connections.join(time.monotonic() + LAST_JOIN)
        self.state.move(State.STOPPED, unless=ENDED)
        self._drain()
        if crash is not None:
            logger.critical("the dispatch thread has crashed", exc_info=crash.__cause__)

    def _drain(self) -> None:
        """Handle the events that wait; their messages are counted as dropped."""
        for event in self.queue.drain():
            self.pipeline.process(event)
