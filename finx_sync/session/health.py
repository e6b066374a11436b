"""The health monitor: one thread for each stream that checks it periodically and never waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from finx_sync.clock import Clock
from finx_sync.events import NoticeGiven, TimerFired
from finx_sync.notices import Lag
from finx_sync.pipeline.dispatcher import Dispatcher
from finx_sync.pipeline.handlers import Handlers
from finx_sync.pipeline.pipeline import Pipeline
from finx_sync.pipeline.queue import EventQueue
from finx_sync.session.manager import ConnectionManager
from finx_sync.session.options import Options
from finx_sync.session.status import Status

__all__ = ["HealthMonitor"]

logger = logging.getLogger("finx_sync")

LONGEST_INTERVAL: Final = 0.5
"""The longest time between two checks, seconds: a sleep of the machine must be noticed within seconds."""
SHORTEST_INTERVAL: Final = 0.05
STALLED: Final = 5.0
"""Seconds after which a handler that has not returned is reported."""


class HealthMonitor:
    """Notices that the machine has slept and that handlers fall behind or do not return, and emits timer events.

    Args:
        options: the options of the stream; they determine the interval between checks.
        clock: checked first, so that a sleep of the machine is noticed within one interval of its end.
        queue: receives the monitor's events.
        pipeline, dispatcher, handlers: the objects that it checks.
        connections: reopened after a sleep.
        status: writes reports.
    """

    def __init__(
        self,
        options: Options,
        *,
        clock: Clock,
        queue: EventQueue,
        pipeline: Pipeline,
        dispatcher: Dispatcher,
        handlers: Handlers,
        connections: ConnectionManager,
        status: Status,
    ) -> None:
        self._interval = interval(options)
        self._lag_limit = options.max_lag
        self._clock = clock
        self._queue = queue
        self._pipeline = pipeline
        self._dispatcher = dispatcher
        self._handlers = handlers
        self._connections = connections
        self._status = status
        self._marked = 0.0
        self._plan_lock = threading.RLock()  # guards _plan, which any thread may set while a check takes it
        self._plan: tuple[float, Callable[[], object]] | None = None
        self._timer = threading.Event()  # set while no timer event is in the queue; at most one may be
        self._timer.set()
        self._lagging = False
        self._stalled: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="finx-sync health", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end. Return at once."""
        self._ended.set()

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the thread to end; return whether it has."""
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def plan(self, when: float, action: Callable[[], object]) -> None:
        """Call `action` on the monitor's thread at the time `when`, UNIX seconds, in place of any earlier plan.

        This may be called from any thread.
        """
        with self._plan_lock:
            self._plan = (when, action)

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            try:
                self.look(self._clock.look())
            except BaseException:
                logger.exception("the health monitor has met a defect; please report it")

    def look(self, slept: float) -> None:
        """Make one round of checks.

        Args:
            slept: the seconds for which the machine has just slept; 0 if it has not.
        """
        if slept:
            self._connections.reconnect_all("suspend")
            logger.warning("the machine slept for %.0f s; reconnecting", slept)
        if (action := self._due_plan()) is not None:
            action()
        now = self._clock.monotonic()
        self._mark(now)
        if self._pipeline.is_late(now):
            self._handlers.touch()  # the dispatch thread checks after the handler that is running
        self._look_at_lag(now)
        self._connections.match_urls()
        if self._timer.is_set():
            self._timer.clear()
            self._queue.emit(TimerFired, self._timer, self._clock.stepped, self._queue.is_holding)

    def _due_plan(self) -> Callable[[], object] | None:
        """Remove and return the planned action, if it is due."""
        with self._plan_lock:
            if self._plan is None or self._clock.wall() < self._plan[0]:
                return None
            (_, action), self._plan = self._plan, None
            return action

    def _mark(self, now: float) -> None:
        """Record each handler's number of calls once a second, to compute its rate."""
        if now - self._marked >= 1.0:
            self._marked = now
            for handler in self._handlers.snapshot():
                handler.marks.append((now, handler.calls))

    def _look_at_lag(self, now: float) -> None:
        """Report when handlers fall behind, when they have caught up, and when one does not return."""
        lag = self._pipeline.lag(now)
        in_one = self._pipeline.busy_for(now)
        if in_one > STALLED and self._stalled is None:
            self._stalled = now
            handler = self._dispatcher.running()
            if handler is not None:
                logger.warning("the handler %s has been running for %.0f s; messages wait behind it", handler, in_one)
                self._status.write_report(f"the handler {handler} does not return")
        elif in_one <= STALLED:
            self._stalled = None
        behind = self._queue.is_holding or lag > self._lag_limit
        if behind != self._lagging:
            self._lagging = behind
            counter = self._pipeline.counter
            notice = Lag(lag, counter.waiting, counter.dropped, self._queue.is_holding)
            self._queue.emit(NoticeGiven, "lag", notice)
            logger.log(logging.WARNING if behind else logging.INFO, "%s", notice)


def interval(options: Options) -> float:
    """Return the seconds between two checks that these options need."""
    needs = [LONGEST_INTERVAL, options.max_lag / 2, options.overlap / 4]
    if options.stale_after is not None:
        needs.append(options.stale_after / 4)
    return max(SHORTEST_INTERVAL, min(needs))
