"""A session whose messages come from a recording instead of connections.

All that decides what handlers see is the recording's: messages, their order and times, connections, subscriptions and
states; gaps follow from these as they did live. The clock is the recording's too, so nothing depends on how fast this
machine is. Nothing is dropped here, nor filled from history.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any, Final, Literal

from finx_sync import errors
from finx_sync.dispatch.inbox import Connection
from finx_sync.dispatch.tap import Taps
from finx_sync.dispatch.worker import Worker
from finx_sync.errors import FinxSyncError, InternalError
from finx_sync.interrupts import Task
from finx_sync.notices import GapReason
from finx_sync.recorder.format import Changed, Closed, Lost, Opened, Received, Record, Started, Wished
from finx_sync.recorder.reader import RecordingReader
from finx_sync.session.clock import Clock
from finx_sync.session.handover import Handover
from finx_sync.session.parts import SessionParts
from finx_sync.session.session import Session
from finx_sync.session.state import ENDED, State, StateChange
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.venues.base import Subscription

__all__ = ["Playback", "Speed"]

logger = logging.getLogger("finx_sync")

Speed = float | Literal["max"]
"""Times as fast as it was; "max" without any pause."""

CHUNK: Final = 512
"""Messages that are decoded together where nothing has to be waited for."""
SETTLE_INTERVAL: Final = 0.5
"""Recorded seconds between two looks at what is taken to flow; the watch's own live."""
END_STATES: Final = frozenset({"stopping", "stopped", "failed", "new"})


class Playback(Session):
    """Plays a recording to a stream's handlers, on a dispatch thread of its own.

    Args:
        parts: the stream's; subscriptions and options that would make a difference are replaced.
        reader: the recording.
        speed: see `Speed`.
    """

    def __init__(self, parts: SessionParts, reader: RecordingReader, speed: Speed) -> None:
        self._subscriptions = Subscriptions(parts.dialect)
        self._monotonic = self._wall = 0.0
        options = dataclasses.replace(parts.options, overflow="block", backfill=False)
        super().__init__(
            dataclasses.replace(parts, options=options, subscriptions=self._subscriptions, history=None, taps=Taps()),
            Clock(lambda: self._monotonic, lambda: self._wall),
        )
        self._decode = parts.dialect.decode
        self._connection_changed = parts.connection_changed
        self._speed = speed
        self._items = self._chunks(iter(reader))
        self._left: Chunk | Record | None = None
        self._connections: dict[int, Connection] = {}
        self._run = ""
        self._stretch = 0.0
        self._wake = threading.Event()
        self._began: tuple[float, float] | None = None  # our monotonic clock, the recording's
        self._until: float | None = None
        self._pause_at: int | None = None
        self._crash: BaseException | None = None
        self.messages = 0
        self.at = 0.0
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

    def wanted(self, *wishes: Subscription) -> None:
        """The recording's subscriptions are what they were."""

    def unwanted(self, wish: Subscription) -> None:
        """As `wanted`."""

    def adjust_lines(self) -> None:
        """There are no connections."""

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
                self.ledger.receive(len(self._left.payloads))
                self.ledger.drop_waiting(len(self._left.payloads))
            self._end()
        except FinxSyncError as error:
            self._crash = error
            self._end()
        except BaseException as error:
            logger.critical("the dispatch thread has crashed", exc_info=error)
            self._crash = InternalError(f"the dispatch thread has crashed: {type(error).__name__}; please report it")
            self._crash.__cause__ = error
            self._end()

    def _next_item(self) -> Chunk | Record | None:
        item, self._left = self._left, None
        return item if item is not None else next(self._items, None)

    def _state_changed(self, change: StateChange) -> None:
        """Told at once: on the dispatch thread, or, at a stop during a pause, on the one that stops."""
        self._parts.listen(change)
        self.delivery.tell("state", change)

    def _chunks(self, records: Iterator[Record]) -> Generator[Chunk | Record]:
        """Batches joined as far as nothing comes between them and nobody waits; everything else as it is."""
        for record in records:
            if not isinstance(record, Received):
                yield record
                continue
            whole = Chunk.of(record)
            position = 0
            sizes = itertools.repeat(CHUNK) if self._speed == "max" else iter(record.counts)
            while position < len(whole.payloads):
                end = whole.end_of_stretch(position, position + next(sizes))
                yield whole.part(position, end)
                position = end

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
        self.ledger.receive(len(payloads))
        self.ledger.take(len(payloads))
        messages = self._decode(payloads)
        position = 0
        while position < len(payloads) and not self.delivery.stopping:
            self._set_clock(chunk.arrived[position], times[position])
            done = self.delivery.run_timed(messages[position:], payloads[position:], times[position:])
            if not done:  # not so simple: batch by batch, as they came
                number, at = chunk.numbers[position], times[position]
                end = position + 1
                while end < len(times) and times[end] == at and chunk.numbers[end] == number:
                    end += 1
                done = self.delivery.run(messages[position:end], payloads[position:end], at, self._connection(number))
            position += done
        self.ledger.settle(dropped=len(payloads) - position)
        self.messages += position
        self._set_clock(chunk.arrived[-1], times[-1])

    def _set_clock(self, arrived: float, at: float) -> None:
        self._monotonic, self._wall, self.at = arrived, at, at
        self.clock.offset = at - arrived
        if (stretch := arrived // SETTLE_INTERVAL) != self._stretch:
            self._stretch = stretch
            self.continuity.settle(self.clock.monotonic())

    def _connection(self, number: int) -> Connection:
        connection = self._connections.get(number)
        return connection if connection is not None else self._connections.setdefault(number, Connection(""))

    def _take(self, record: Record) -> None:
        """What is no message."""
        if isinstance(record, Started):
            if record.run != self._run:
                self._run = record.run
                self._lose_all()
        elif isinstance(record, Opened):
            self._open(record)
        elif isinstance(record, Closed):
            self._set_clock(record.arrived, record.at)
            self._close(record)
        elif isinstance(record, Wished):
            wish = Subscription(record.kind, record.name)
            if record.wanted:
                self._subscriptions.add(wish)
                self.continuity.wanted(wish)
            else:
                self._subscriptions.remove(wish)
                self.continuity.unwanted(wish)
        elif isinstance(record, Changed):
            self._set_clock(record.arrived, record.at)
            if record.new not in END_STATES:
                self.state.move(State(record.new), _error(record.error, record.text) if record.error else None)
        elif isinstance(record, Lost):
            self.continuity.left_out(record.start, record.end, record.count)

    def _open(self, record: Opened) -> None:
        if record.number in self._connections:  # noted again at the beginning of a file
            return
        self._set_clock(record.arrived, record.at)
        connection = self._connections[record.number] = Connection(record.line)
        old = next(
            (one for one in self._connections.values() if one.line == record.line and one is not connection), None
        )
        if old is not None:  # one replaces the other
            wishes = partial(self._subscriptions.desired, record.line)
            self.continuity.hand_over(Handover(old, wishes, _Played(connection), self.continuity.delivery))
        self.continuity.opened(connection)
        self._connection_changed(record.line, True)

    def _close(self, record: Closed) -> None:
        connection = self._connections.pop(record.number, None)
        if connection is None:
            return
        if record.by_stop:
            self.continuity.left(connection, record.covered_until)
        else:
            reason: GapReason = record.reason  # type: ignore[assignment]  # as it was written
            self.continuity.closed(connection, record.covered_until, reason)
        self._connection_changed(connection.line, False)

    def _lose_all(self) -> None:
        """Another run follows, whose connections are others."""
        for number in list(self._connections):
            self._close(Closed(number, self._wall, "connection lost", False, self._wall, self._monotonic))


class Chunk:
    """Messages of one or several batches, in order."""

    __slots__ = ("arrived", "numbers", "payloads", "times")

    def __init__(self, payloads: list[Any], times: list[float], arrived: list[float], numbers: list[int]) -> None:
        self.payloads = payloads
        self.times = times
        self.arrived = arrived
        self.numbers = numbers

    @classmethod
    def of(cls, record: Received) -> Chunk:
        """A record's, with each message's own facts."""
        spread = record.spread
        return cls(record.payloads, spread(record.at), spread(record.arrived), spread(record.numbers))

    def end_of_stretch(self, begin: int, end: int) -> int:
        """Where a part has to end so that it lies between two looks, whatever the speed: so that these are alike."""
        stretch = self.arrived[begin] // SETTLE_INTERVAL
        if self.arrived[min(end, len(self.arrived)) - 1] // SETTLE_INTERVAL == stretch:
            return end
        return next(place for place in range(begin, end) if self.arrived[place] // SETTLE_INTERVAL != stretch)

    def part(self, begin: int, end: int) -> Chunk:
        """Some of them."""
        return Chunk(self.payloads[begin:end], self.times[begin:end], self.arrived[begin:end], self.numbers[begin:end])


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


class _Played:
    """The new connection of a replacement that has been recorded: what became of it is told by what follows."""

    is_confirmed = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def owns(self, connection: Connection) -> bool:
        return connection is self._connection

    def take_over(self) -> bool:
        return True

    def give_up(self) -> None:
        pass


def _error(kind: str, text: str) -> FinxSyncError:
    """An error as it was told, as far as its kind can be made from a text."""
    try:
        error: FinxSyncError = getattr(errors, kind)(text)
    except (AttributeError, TypeError):
        error = FinxSyncError(text)
    return error
