"""What the watch looks for: sleep, lag, silence, a handler that does not return."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from finx_sync.notices import Lag
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.drift import DriftMonitor
from finx_sync.pipeline.gaps import Continuity
from finx_sync.pipeline.handlers import Handlers
from finx_sync.pipeline.queue import Inbox
from finx_sync.pipeline.worker import Worker
from finx_sync.session.clock import Clock
from finx_sync.session.options import Options
from finx_sync.session.staleness import Staleness

__all__ = ["Lookout"]

logger = logging.getLogger("finx_sync")

LONGEST_INTERVAL: Final = 0.5
"""Seconds between two looks, at most: a sleep must be noticed within seconds."""
SHORTEST_INTERVAL: Final = 0.05
STALLED: Final = 5.0
"""Seconds in one handler after which it is reported."""


class Lookout:
    """Looks at a session. `look` runs on the watch's thread, what it queues on the dispatch thread."""

    def __init__(
        self,
        *,
        clock: Clock,
        inbox: Inbox,
        counter: MessageCounter,
        handlers: Handlers,
        worker: Worker,
        staleness: Staleness,
        continuity: Continuity,
        drift: DriftMonitor,
        notify: Callable[[str, object], bool],
        is_open: Callable[[], bool],
        on_suspend: Callable[[float], object],
        on_stall: Callable[[str], object],
        on_round: Callable[[], object],
        on_drift: Callable[[str], object],
        post_look: Callable[[Callable[[], object], float, float], object],
        lag_limit: float,
    ) -> None:
        self._clock = clock
        self._inbox = inbox
        self._counter = counter
        self._handlers = handlers
        self._worker = worker
        self._staleness = staleness
        self._continuity = continuity
        self._drift = drift
        self._notify = notify
        self._is_open = is_open
        self._on_suspend = on_suspend
        self._on_stall = on_stall
        self._on_round = on_round
        self._on_drift = on_drift
        self._post_look = post_look
        self._lag_limit = lag_limit
        self._marked = 0.0
        self._plan_lock = threading.RLock()  # guards _plan, which a look takes and the user replaces
        self._plan: tuple[float, Callable[[], object]] | None = None
        self._rounds = 0  # on the dispatch thread; the watch compares it, to queue no second round before the first
        self._asked = 0
        self._lagging = False
        self._stalled: float | None = None

    @staticmethod
    def interval(options: Options) -> float:
        """Seconds between two looks that these options need."""
        needs = [LONGEST_INTERVAL, options.max_lag / 2, options.overlap / 4]
        if options.stale_after is not None:
            needs.append(options.stale_after / 4)
        return max(SHORTEST_INTERVAL, min(needs))

    def plan(self, when: float, action: Callable[[], object]) -> None:
        """Do something on the watch's thread at a time, UNIX seconds; one plan at a time. Any thread."""
        with self._plan_lock:
            self._plan = (when, action)

    def look(self, slept: float) -> None:
        """One look round.

        Args:
            slept: seconds that the machine has just slept.
        """
        if slept:
            self._on_suspend(slept)
        if (action := self._due_plan()) is not None:
            action()
        now = self._clock.monotonic()
        self._mark(now)
        self._worker.look_up(now)
        self._look_at_lag(now)
        if self._asked == self._rounds:
            self._asked += 1
            looked_at, stepped = self._clock.wall(), self._clock.stepped
            self._post_look(lambda: self._round(now, looked_at, stepped), now, looked_at)

    def _due_plan(self) -> Callable[[], object] | None:
        """Take what was planned, if it is due."""
        with self._plan_lock:
            if self._plan is None or self._clock.wall() < self._plan[0]:
                return None
            (_, action), self._plan = self._plan, None
            return action

    def _mark(self, now: float) -> None:
        """Note each handler's calls once a second, for its rate."""
        if now - self._marked >= 1.0:
            self._marked = now
            for handler in self._handlers.snapshot():
                handler.marks.append((now, handler.calls))

    def _look_at_lag(self, now: float) -> None:
        """Tell when handlers fall behind and when they have caught up; report one that does not return."""
        lag = self._worker.lag(now)
        in_one = self._worker.busy_for(now)
        if in_one > STALLED and self._stalled is None:
            self._stalled = now
            handler = self._worker.running()
            if handler is not None:
                logger.warning("the handler %s has been running for %.0f s; messages wait behind it", handler, in_one)
                self._on_stall(handler)
        elif in_one <= STALLED:
            self._stalled = None
        behind = self._inbox.is_holding or lag > self._lag_limit
        if behind != self._lagging:
            self._lagging = behind
            notice = Lag(lag, self._counter.waiting, self._counter.dropped, self._inbox.is_holding)
            self._inbox.post(lambda: self._notify("lag", notice))
            logger.log(logging.WARNING if behind else logging.INFO, "%s", notice)

    def _round(self, now: float, looked_at: float, stepped: bool) -> None:
        """On the dispatch thread, after all that had come in by then: `now` is monotonic, `looked_at` UNIX seconds."""
        self._rounds += 1
        self._continuity.settle(now)
        self._on_round()
        if stepped:
            self._staleness.restart(looked_at)
        for stale in self._staleness.find(looked_at, self._is_open()):
            if not self._notify("stale", stale):
                logger.warning("%s has been silent for %.1f s", stale.name, stale.age)
        self._look_at_drift(now)

    def _look_at_drift(self, now: float) -> None:
        """Report the feeds that fall behind, or have caught up."""
        if self._inbox.is_holding:  # what waits in the kernel gets older because of us, not because of the feed
            self._drift.forget()
        for line, drift in self._drift.check(now, self._clock.offset):
            if not self._notify("drift", drift):
                logger.log(logging.INFO if drift.caught_up else logging.WARNING, "%s", drift)
            if not drift.caught_up:
                self._on_drift(line)
