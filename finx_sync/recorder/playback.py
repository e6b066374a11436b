"""A session whose messages come from a recording instead of connections.

All that decides what handlers see is the recording's: messages, their order and times, connections, subscriptions and
states; gaps follow from these as they did live. The clock is the recording's too, so nothing depends on how fast this
machine is. Nothing is dropped here, nor filled from history.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Literal

from finx_sync.errors import FinxSyncError, InternalError
from finx_sync.interrupts import Flag, Task
from finx_sync.pipeline.worker import Worker
from finx_sync.recorder.chunks import Chunk, chunks
from finx_sync.recorder.damage import Damage
from finx_sync.recorder.format import Record
from finx_sync.recorder.played import PlayedSession
from finx_sync.session.parts import SessionParts
from finx_sync.session.state import ENDED, State
from finx_sync.venues.guarded import guarded

__all__ = ["Playback", "Speed"]

logger = logging.getLogger("finx_sync")

Speed = float | Literal["max"]
"""Times as fast as it was; "max" without any pause."""

Item = Chunk | Record | Damage


class Playback(PlayedSession):
    """Plays a recording to a stream's handlers, on a dispatch thread of its own.

    Args:
        parts: the stream's; subscriptions and options that would make a difference are replaced.
        reader: the recording's records, and its damages.
        speed: see `Speed`.
    """

    def __init__(self, parts: SessionParts, reader: Iterable[Record | Damage], speed: Speed) -> None:
        super().__init__(parts)
        self._decode = guarded(parts.dialect)
        self._speed = speed
        self._items = chunks(iter(reader), one_by_one=speed != "max")
        self._ahead: deque[Item] = deque()
        self._left: Item | None = None
        self._wake = Flag()
        self._began: tuple[float, float] | None = None  # our monotonic clock, the recording's
        self._until: float | None = None
        self._pause_at: int | None = None
        self._crash: BaseException | None = None
        self.messages = 0
        self.finished = False
        self._player = _Player(self.worker)
        self.worker = self._player

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
        self.delivery.stopping = True
        self._parts.handlers.touch()
        self._wake.set()
        if self._player.on_this_thread():
            return False
        ended = self._player.join(timeout)
        if ended:
            self._end()
        return ended

    def _end(self) -> None:
        if not self.finished:
            self.finished = True
            self.continuity.end()
            self._items.close()
            self.state.move(State.STOPPING, unless=ENDED)
        self.state.move(State.STOPPED, unless=ENDED - {State.NEW})

    def join(self, timeout: float) -> bool:
        """Wait for the dispatch thread to end, or to pause."""
        return self._player.join(timeout)

    # The dispatch thread

    def _play(self) -> None:
        self._player.thread = threading.current_thread()
        try:
            while not self.delivery.stopping:
                item = self._next_item()
                if item is None:
                    break
                if isinstance(item, Chunk):
                    if not self._play_chunk(item):
                        return  # paused
                else:
                    self._take(item)
            if self.delivery.stopping and isinstance(self._left, Chunk):
                self.counter.receive(len(self._left.payloads))
                self.counter.drop_waiting(len(self._left.payloads))
            self._end()
        except FinxSyncError as error:
            self._crash = error
            self._end()
        except BaseException as error:
            logger.critical("the dispatch thread has crashed", exc_info=error)
            self._crash = InternalError(f"the dispatch thread has crashed: {type(error).__name__}; please report it")
            self._crash.__cause__ = error
            self._end()

    def _next_item(self) -> Item | None:
        item, self._left = self._left, None
        if item is not None:
            return item
        return self._ahead.popleft() if self._ahead else next(self._items, None)

    def _coming(self, place: int) -> Item | None:
        while place >= len(self._ahead):
            item = next(self._items, None)
            if item is None:
                return None
            self._ahead.append(item)
        return self._ahead[place]

    def _play_chunk(self, chunk: Chunk) -> bool:
        """Hand a chunk on; returns False where playing pauses before its end."""
        count = len(chunk.payloads)
        if self._until is not None and chunk.times[-1] > self._until:
            count = next(place for place, at in enumerate(chunk.times) if at > self._until)
        if self._pause_at is not None:
            count = min(count, self._pause_at - self.messages)
        if count < len(chunk.payloads):
            chunk, self._left = chunk.part(0, count), chunk.part(count, len(chunk.payloads))
        if count:
            self._wait_for(chunk.arrived[0])
            if not self.delivery.stopping:
                self._hand_on(chunk)
        return self._left is None

    def _wait_for(self, arrived: float) -> None:
        if self._speed == "max":
            return
        now = time.monotonic()
        if self._began is None:
            self._began = now, arrived
        began, first = self._began
        self._wake.wait(max(0.0, began + (arrived - first) / self._speed - now))

    def _hand_on(self, chunk: Chunk) -> None:
        payloads, times = chunk.payloads, chunk.times
        self.counter.receive(len(payloads))
        self.counter.take(len(payloads))
        messages = self._decode(payloads)
        position = 0
        while position < len(payloads) and not self.delivery.stopping:
            self._set_clock(chunk.arrived[position], times[position])
            done = self.delivery.run_timed(messages[position:], payloads[position:], times[position:])
            if not done:  # not so simple: batch by batch, as they came
                end, connection = chunk.end_of_batch(position), self._connection(chunk.numbers[position])
                done = self.delivery.run(messages[position:end], payloads[position:end], times[position], connection)
            position += done
        self.counter.settle(dropped=len(payloads) - position)
        self.delivery.account(sum(map(len, payloads)))
        self.messages += position
        self._set_clock(chunk.arrived[-1], times[-1])


class _Player(Worker):
    """Stands for the dispatch thread, which lasts from one pause to the next."""

    def __init__(self, worker: Worker) -> None:
        self.__dict__.update(worker.__dict__)
        self.thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        return True

    def on_this_thread(self) -> bool:
        return self.thread is threading.current_thread()

    def join(self, timeout: float) -> bool:
        if self.thread is not None:
            self.thread.join(timeout)
        return self.thread is None or not self.thread.is_alive()
