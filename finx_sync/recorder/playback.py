"""A run of a stream whose events come from a recording instead of connections.

The same pipeline handles the same events, so handlers receive what they received live. The clock is also the
recording's, so nothing depends on the speed of this machine. No messages are dropped, no gaps are filled from history
and no connections are opened.
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
"""The speed relative to the recorded one; "max" plays without any pause."""

FOLLOWED: Final[dict[State | None, tuple[State, ...]]] = {None: (), State.STOPPING: (State.STOPPING,)}
"""The end states that are not reported again, by the last end state in the recording; after any other one, both."""


class Playback:
    """Plays a recording to a stream's handlers, on its own dispatch thread.

    Args:
        parts: the parts of the stream. Options that would change what handlers receive are not used.
        records: the records of the recording, and its damage.
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
        self._left: tuple[BatchRow, int] | None = None  # a row to continue with, and from which index
        self._speed = speed
        self._wake = Flag()
        self._began: tuple[float, float] | None = None  # this machine's monotonic clock, the recording's
        self._until: float | None = None
        self._pause_at: int | None = None
        self._crash: BaseException | None = None
        self._follows = False  # whether the present change of state is a recorded one
        self._reported_end: State | None = None
        self.messages = 0
        self.finished = False

    # For the stream

    reconnects = 0

    def wall(self) -> float:
        """Return the time of the last event handled, UNIX seconds."""
        return self._events.at

    def counters(self) -> Counters:
        """Return how many messages had which outcome so far."""
        return self.pipeline.counter.snapshot()

    def coverage(self, name: str) -> list[Interval]:
        """Return the intervals of `GapTracker.coverage`."""
        return self.pipeline.gaps.coverage(name)

    def lag(self) -> float:
        """Return 0, because no messages wait here."""
        return 0.0

    def dump(self, why: str) -> str:
        """Return a short report; the recording itself has the events."""
        return f"== why ==\n{why}\n\n== state ==\n{self.state.state.value}\n{self.counters()}\n"

    def add(self, *subscriptions: Subscription) -> None:
        """Do nothing: the subscriptions are the recorded ones."""

    def remove(self, subscription: Subscription) -> None:
        """Do nothing: the subscriptions are the recorded ones."""

    def adjust(self) -> None:
        """Do nothing: there are no connections."""

    def wants(self, subscription: Subscription) -> bool:
        """Return whether a subscription was wanted at this point of the recording."""
        return subscription in self.pipeline.wanted

    def reset_after_fork(self) -> None:
        """In a forked child, which may be inside a handler: let that handler return, and call no other."""
        self.pipeline.reset_after_fork()

    # The caller's thread

    def play(self, until: float | None, pause_at: int | None) -> None:
        """Play to the end, or pause at the time `until` (UNIX seconds) or after `pause_at` messages in all.

        This blocks until then.

        Raises:
            FinxSyncError: the recording cannot be read.
            KeyboardInterrupt: Ctrl+C was pressed; the playback has ended.
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
        """End the playback, from any thread; see `Session.stop`."""
        self.pipeline.delivery.stop()
        self._wake.set()
        if self.dispatcher.on_this_thread():
            return False
        ended = self.join(timeout)
        if ended:
            self._end()
        return ended

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the dispatch thread to end or pause; return whether it has."""
        return self.dispatcher.join(timeout)

    @property
    def has_ended(self) -> bool:
        """Whether its thread has ended."""
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
        """Handle an event, or prepare a row of messages; return False at the end."""
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
        """Deliver the messages of a row; return False if playback pauses within it."""
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
        """Follow a recorded change of state, unless it is an end: the replay does not end with the recorded stream."""
        if change.new in (*ENDED, State.STOPPING):
            self._reported_end = change.new
            return
        self._reported_end = None
        self._follows = True
        self.state.move(change.new, change.reason)
        self._follows = False

    def _state_changed(self, change: StateChange) -> None:
        """Report a change of state at once, on the dispatch thread or, if playback is paused, on the one that stops."""
        self._parts.listen(change)
        reported = FOLLOWED.get(self._reported_end, (State.STOPPING, State.STOPPED))
        if not self._follows and change.new not in reported:
            self.pipeline.process(StateChanged(self._events.arrived, self._events.at, change))
