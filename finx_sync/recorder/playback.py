"""A run whose events come from a recording instead of connections.

The same pipeline handles the same events, so handlers see what they saw live. The clock is the recording's too, so
nothing depends on how fast this machine is. Nothing is dropped here, nor filled from history, and nobody connects.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Final, Literal

from finx_sync.errors import FinxSyncError, InternalError
from finx_sync.events import Event, StateChanged
from finx_sync.interrupts import Flag, Task
from finx_sync.notices import Interval
from finx_sync.pipeline.commands import NoCommands
from finx_sync.pipeline.counters import Counters
from finx_sync.pipeline.dispatcher import Dispatcher
from finx_sync.pipeline.pipeline import Pipeline
from finx_sync.pipeline.rows import BatchRow
from finx_sync.pipeline.wanted import Wanted
from finx_sync.recorder.damage import Damage
from finx_sync.recorder.decoder import EventDecoder
from finx_sync.recorder.format import Record
from finx_sync.session.parts import SessionParts
from finx_sync.state import ENDED, State, StateBox, StateChange
from finx_sync.venues.base import Subscription

__all__ = ["Playback", "Speed"]

logger = logging.getLogger("finx_sync")

Speed = float | Literal["max"]
"""Times as fast as it was; "max" without any pause."""

FOLLOWED: Final[dict[State | None, tuple[State, ...]]] = {None: (), State.STOPPING: (State.STOPPING,)}
"""The end states that a recording has reported itself, by the last one; else both."""


class Playback:
    """Plays a recording to a stream's handlers, on a dispatch thread of its own.

    Args:
        parts: the stream's; what would make a difference is left alone.
        records: the recording's records, and its damages.
        speed: see `Speed`.
    """

    def __init__(self, parts: SessionParts, records: Iterable[Record | Damage], speed: Speed) -> None:
        self._parts = parts
        self.state = StateBox(self._state_changed)
        self.dispatcher = Dispatcher()
        wanted = Wanted()
        self._events = EventDecoder(records, parts.codec, wanted, one_by_one=speed != "max")
        self.pipeline = Pipeline(
            codec=parts.codec,
            state=parts.venue,
            handlers=parts.handlers,
            latest=parts.latest,
            wall=self.wall,
            commands=NoCommands(),
            overlap=parts.options.overlap,
            wanted=wanted,
        )
        self._events.gaps = self.pipeline.gaps
        self._source = iter(self._events)
        self._left: tuple[BatchRow, int] | None = None  # a row that is to be gone on with, and from where
        self._speed = speed
        self._wake = Flag()
        self._began: tuple[float, float] | None = None  # our monotonic clock, the recording's
        self._until: float | None = None
        self._pause_at: int | None = None
        self._crash: BaseException | None = None
        self._follows = False  # the state that changes is the recording's
        self._reported_end: State | None = None
        self.messages = 0
        self.finished = False

    # What a stream asks its run

    reconnects = 0

    def wall(self) -> float:
        """When what was handled last happened, UNIX seconds."""
        return self._events.at

    def counters(self) -> Counters:
        """What became of the messages so far."""
        return self.pipeline.counter.snapshot()

    def coverage(self, name: str) -> list[Interval]:
        """See `GapTracker.coverage`."""
        return self.pipeline.gaps.coverage(name)

    def lag(self) -> float:
        """Nothing waits here."""
        return 0.0

    def dump(self, why: str) -> str:
        """There is nothing to report of a recording that it does not hold itself."""
        return f"== why ==\n{why}\n\n== state ==\n{self.state.state.value}\n{self.counters()}\n"

    def add(self, *subscriptions: Subscription) -> None:
        """The recording's subscriptions are what they were."""

    def remove(self, subscription: Subscription) -> None:
        """As `add`."""

    def adjust(self) -> None:
        """There are no connections."""

    def wants(self, subscription: Subscription) -> bool:
        """Whether a subscription was wanted at this point of the recording."""
        return subscription in self.pipeline.wanted

    def reset_after_fork(self) -> None:
        """In the child of a fork, which may run on in a handler: let that one return, and call no other."""
        self.pipeline.reset_after_fork()

    # The caller's thread

    def play(self, until: float | None, pause_at: int | None) -> None:
        """Play until the end, a moment (UNIX seconds) or so many messages; blocks until then.

        Raises:
            FinxSyncError: the recording cannot be read.
            KeyboardInterrupt: Ctrl+C; the playback has ended.
        """
        self._until, self._pause_at, self._began = until, pause_at, None
        task = Task(self._play, "finx-sync dispatch")
        try:
            task.begin()
            task.wait()
        except BaseException:
            self.stop(1.0, drain=False)
            task.wait(1.0)
            raise
        if self._crash is not None:
            crash, self._crash = self._crash, None
            raise crash

    def stop(self, timeout: float, *, drain: bool) -> bool:
        """End it, from any thread; see `Session.stop`."""
        self.pipeline.delivery.stop()
        self._wake.set()
        if self.dispatcher.on_this_thread():
            return False
        ended = self.join(timeout)
        if ended:
            self._end()
        return ended

    def join(self, timeout: float) -> bool:
        """Wait for the dispatch thread to end, or to pause."""
        return self.dispatcher.join(timeout)

    @property
    def has_ended(self) -> bool:
        """Whether no thread of it is left."""
        return self.join(0.0)

    def _end(self) -> None:
        if not self.finished:
            self.finished = True
            self.pipeline.end()
            self.state.move(State.STOPPING, unless=ENDED)
        self.state.move(State.STOPPED, unless=ENDED - {State.NEW})

    # The dispatch thread

    def _play(self) -> None:
        self.dispatcher.thread = threading.current_thread()
        try:
            while not self.pipeline.delivery.stopping:
                if self._left is None and not self._process(next(self._source, None)):
                    break
                if self._left is not None and not self._process_row(*self._left):
                    return  # paused
            if self._left is not None:
                left = len(self._left[0]) - self._left[1]
                self.pipeline.counter.receive(left)
                self.pipeline.counter.drop_waiting(left)
            self._end()
        except BaseException as error:
            self._crash = error
            if not isinstance(error, FinxSyncError):
                logger.critical("the dispatch thread has crashed", exc_info=error)
                text = f"the dispatch thread has crashed: {type(error).__name__}; please report it"
                self._crash = InternalError(text)
                self._crash.__cause__ = error
            self._end()

    def _process(self, event: Event | BatchRow | None) -> bool:
        """Handle what is no message, and make ready what is; returns False at the end."""
        if event is None:
            return False
        if isinstance(event, BatchRow):
            self._left = (event, 0)
            return True
        if isinstance(event, StateChanged):
            self._follow(event.change)
        self.pipeline.process(event)
        return True

    def _process_row(self, row: BatchRow, begin: int) -> bool:
        """Hand messages on; returns False where playing pauses before their end."""
        end = len(row)
        if self._until is not None and row.at[-1] > self._until:
            end = next(place for place in range(begin, end) if row.at[place] > self._until)
        if self._pause_at is not None:
            end = min(end, max(begin, begin + self._pause_at - self.messages))
        if begin < end:
            self._wait_for(row.arrived[begin])
            if self.pipeline.delivery.stopping:
                return True
            self.messages += self.pipeline.process_row(row, begin, end)
        self._left = (row, end) if end < len(row) else None
        return self._left is None

    def _wait_for(self, arrived: float) -> None:
        if self._speed == "max":
            return
        now = time.monotonic()
        if self._began is None:
            self._began = now, arrived
        began, first = self._began
        self._wake.wait(max(0.0, began + (arrived - first) / self._speed - now))

    # States

    def _follow(self, change: StateChange) -> None:
        """The recorded stream went over to a state; how it ended is not how the replay does."""
        if change.new in (*ENDED, State.STOPPING):
            self._reported_end = change.new
            return
        self._reported_end = None
        self._follows = True
        self.state.move(change.new, change.reason)
        self._follows = False

    def _state_changed(self, change: StateChange) -> None:
        """At once: on the dispatch thread, or, at a stop during a pause, on the one that stops."""
        self._parts.listen(change)
        reported = FOLLOWED.get(self._reported_end, (State.STOPPING, State.STOPPED))
        if not self._follows and change.new not in reported:
            self.pipeline.process(StateChanged(self._events.arrived, self._events.at, change))
