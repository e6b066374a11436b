"""A session whose messages come from a recording instead of connections.

All that decides what handlers see is the recording's: messages, their order and times, connections, subscriptions and
states; gaps follow from these as they did live. The clock is the recording's too, so nothing depends on how fast this
machine is. Nothing is dropped here, nor filled from history.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Final, Literal, cast

import msgspec

from finx_sync.dispatch.inbox import Connection
from finx_sync.dispatch.tap import Taps
from finx_sync.dispatch.worker import Worker
from finx_sync.errors import FinxSyncError, InternalError
from finx_sync.notices import Gap, GapReason
from finx_sync.recorder import reasons
from finx_sync.recorder.chunks import SETTLE_INTERVAL, Chunk, chunks
from finx_sync.recorder.damage import Damage
from finx_sync.recorder.format import (
    Cancelled,
    Changed,
    Closed,
    Header,
    Looked,
    Lost,
    Opened,
    Record,
    Replacing,
    Requested,
    Started,
    Succeeded,
    Wished,
)
from finx_sync.recorder.successors import Assumed, Planned
from finx_sync.session.clock import Clock
from finx_sync.session.handover import Handover
from finx_sync.session.parts import SessionParts
from finx_sync.session.session import Session
from finx_sync.session.state import ENDED, State, StateChange
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.venues.base import Dialect, Operation, Request, Resubscribe, Subscription

__all__ = ["Playback", "Speed"]

logger = logging.getLogger("finx_sync")

Speed = float | Literal["max"]
"""Times as fast as it was; "max" without any pause."""

LOOK_AHEAD: Final = 4096
"""Records within which it is told what became of a replacement."""
Item = Chunk | Record | Damage

END_STATES: Final = frozenset({"stopping", "stopped", "failed", "new"})


class Playback(Session):
    """Plays a recording to a stream's handlers, on a dispatch thread of its own.

    Args:
        parts: the stream's; subscriptions and options that would make a difference are replaced.
        reader: the recording's records, and its damages.
        speed: see `Speed`.
    """

    def __init__(self, parts: SessionParts, reader: Iterable[Record | Damage], speed: Speed) -> None:
        self._lined = RecordedLines(parts.dialect)
        self._dialect = cast("Dialect", self._lined)
        self._subscriptions = Subscriptions(self._dialect)
        self._monotonic = self._wall = 0.0
        options = dataclasses.replace(parts.options, overflow="block", backfill=False)
        super().__init__(
            dataclasses.replace(
                parts,
                dialect=self._dialect,
                options=options,
                subscriptions=self._subscriptions,
                history=None,
                taps=Taps(),
            ),
            Clock(lambda: self._monotonic, lambda: self._wall),
        )
        self._decode = parts.dialect.decode
        self._speed = speed
        self._items = chunks(iter(reader), one_by_one=speed != "max")
        self._ahead: deque[Item] = deque()
        self._left: Item | None = None
        self._connections: dict[int, Connection] = {}
        self._asked: dict[
            Connection, dict[Subscription, None]
        ] = {}  # what each was asked for, as `Subscriptions` has it
        self._lines: dict[int, str] = {}  # of all connections of this run
        self._planned: dict[str, Planned] = {}
        self._is_old = False  # version 1: neither looks nor replacements are told
        self._run = ""
        self._stretch = 0.0
        self._recorded: StateChange | None = None  # is being told
        self._told_end = ""
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
        thread = threading.Thread(target=self._play, name="finx-sync dispatch", daemon=True)
        self._player.thread = thread
        thread.start()
        try:
            while thread.is_alive():
                thread.join(1.0)  # with a timeout, so that Ctrl+C comes through
        except BaseException:
            self.stop(1.0, drain=False)
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

    def announce(self, *wishes: Subscription, wanted: bool) -> None:
        """The recording's subscriptions are what they were."""

    def unwanted(self, wish: Subscription) -> None:
        """As `announce`."""

    def adjust_lines(self) -> None:
        """There are no connections."""

    def _resubscribe(self, command: Resubscribe) -> None:
        """There is nobody to ask; what was asked anew follows in the recording."""

    def join(self, timeout: float) -> bool:
        """Wait for the dispatch thread to end, or to pause."""
        return self._player.join(timeout)

    # The dispatch thread

    def _play(self) -> None:
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

    def _next_item(self) -> Item | None:
        item, self._left = self._left, None
        if item is not None:
            return item
        return self._ahead.popleft() if self._ahead else next(self._items, None)

    def _state_changed(self, change: StateChange) -> None:
        """Told at once: on the dispatch thread, or, at a stop during a pause, on the one that stops."""
        self._parts.listen(change)
        told = {"stopping": (State.STOPPING,), "": ()}.get(self._told_end, (State.STOPPING, State.STOPPED))
        if change.new not in told:
            self.delivery.tell("state", self._recorded or change)

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
                end, connection = chunk.end_of_batch(position), self._connection(chunk.numbers[position])
                done = self.delivery.run(messages[position:end], payloads[position:end], times[position], connection)
            position += done
        self.ledger.settle(dropped=len(payloads) - position)
        self.messages += position
        self._set_clock(chunk.arrived[-1], times[-1])

    def _set_clock(self, arrived: float, at: float) -> None:
        self._monotonic, self._wall, self.at = arrived, at, at
        self.clock.offset = at - arrived
        self.continuity.happened(arrived, at)
        if self._is_old and (stretch := arrived // SETTLE_INTERVAL) != self._stretch:
            self._stretch = stretch
            self.continuity.settle(arrived)
            self.venue.round()

    def _connection(self, number: int) -> Connection:
        connection = self._connections.get(number)
        return connection if connection is not None else self._find(number)

    def _find(self, number: int) -> Connection:
        """A connection whose opening is lost in damage; only a recording of version 1 does not tell of it."""
        line = self._lines.get(number, next(iter(self._lines.values()), ""))
        connection = self._connections[number] = Connection(line)
        self._asked[connection] = dict.fromkeys(self._subscriptions.desired(line))
        if number >= max((one for one, each in self._connections.items() if each.line == line), default=0):
            self.continuity.opened(connection)
            self.venue.opened(connection)
        return connection

    def _take(self, item: Record | Damage) -> None:  # noqa: PLR0912  # a table
        """What is no message."""
        match item:
            case Opened():
                self._open(item)
            case Closed():
                self._set_clock(item.arrived, item.at)
                self._close(item)
            case Looked():
                self._set_clock(item.arrived, item.at)
                self.continuity.settle(item.arrived)
                self.venue.round()
            case Requested():
                self._request(item)
            case Wished():
                self._want(self._lined.read(item), item.wanted)
            case Changed():
                self._set_clock(item.arrived, item.at)
                self._change(item)
            case Lost():
                self.continuity.left_out(item.start, item.end, item.count)
            case Replacing():
                self._set_clock(item.arrived, item.at)
                self._replace(item)
            case Cancelled():
                self._set_clock(item.arrived, item.at)
                self._cancel(item.owner)
            case Started():
                self._is_old = True
                if item.run != self._run:
                    self._begin_run(item.run)
            case Header():
                self._is_old = False
                self._begin_run(item.run)
                self._set_clock(self._monotonic, item.began)
                self._adopt(item)
            case Damage():
                self._damaged(item)

    def _request(self, record: Requested) -> None:
        """What the server was asked, for whoever reads its answer."""
        subscriptions = tuple(Subscription(*one) for one in record.subscriptions)
        op: Operation = record.op  # type: ignore[assignment]  # as it was written
        self.venue.requested(self._connection(record.connection), Request("", op, subscriptions, record.number))

    def _want(self, wish: Subscription, wanted: bool) -> None:
        if wanted:
            self.venue.added(wish)
            self._subscriptions.add(wish)
            line = self._dialect.line_of(wish)
            newest = [one for one in self._connections.values() if one.line == line][-1:]
            if newest and not self._dialect.asks_by_url:
                self._asked.setdefault(newest[0], {})[wish] = None
            self.continuity.wanted(wish)
        else:
            self.venue.removed(wish)
            self._subscriptions.remove(wish)
            self.continuity.unwanted(wish)

    def _change(self, record: Changed) -> None:
        reason = reasons.read(record.error, record.text, record.details)
        change = StateChange(State(record.old), State(record.new), reason)
        if record.new in END_STATES:  # the stream's, not the replay's
            self.delivery.tell("state", change)
            self._told_end = record.new
            return
        self._told_end, self._recorded = "", change
        self.state.move(change.new, reason)  # which tells; not where a file's beginning repeats it
        self._recorded = None

    # Connections

    def _open(self, record: Opened) -> None:
        if record.number in self._connections:  # noted again at the beginning of a file
            return
        self._set_clock(record.arrived, record.at)
        line = record.line
        is_newest = record.number > max(self._lines, default=-1)
        planned = self._planned.get(line)
        if planned is not None and planned.owner == record.owner:
            connection = self._planned.pop(line).open(line)
        else:
            connection = Connection(line)
            if self._is_old and is_newest:
                self._assume_replaced(connection)
        self._lines[record.number] = line
        served = any(self.continuity.serves(one) for one in self._connections.values() if one.line == line)
        self._connections[record.number] = connection
        self._asked[connection] = dict.fromkeys(self._subscriptions.desired(line))
        if is_newest or not self._is_old or not served:
            self.continuity.opened(connection)
        self.venue.opened(connection)

    def _assume_replaced(self, new: Connection) -> None:
        """The connection that serves the line is being replaced by this one, which is open, too."""
        for old in self._connections.values():
            if old.line == new.line and self.continuity.serves(old):
                self._hand_over(old, Assumed(new))
                return

    def _hand_over(self, old: Connection, successor: Assumed | Planned) -> None:
        self.continuity.hand_over(
            Handover(old, lambda: list(self._asked.get(old, ())), successor, self.continuity.delivery)
        )

    def _replace(self, record: Replacing) -> None:
        old = next((one for one in self._connections.values() if one.line == record.line), None)
        if old is not None:
            planned = self._planned[record.line] = Planned(
                record.owner, self._decided_at, lambda: self.continuity.looked
            )
            self._hand_over(old, planned)

    def _cancel(self, owner: int) -> None:
        for line, planned in list(self._planned.items()):
            if planned.owner == owner:
                del self._planned[line]
                self.continuity.cancelled(line, planned)

    def _decided_at(self, connection: Connection) -> float | None:
        """The look at which a connection took over from another, recorded a little later; None if it never did."""
        number = next((number for number, one in self._connections.items() if one is connection), None)
        for place in range(LOOK_AHEAD):
            if place == len(self._ahead):
                item = next(self._items, None)
                if item is None:
                    return None
                self._ahead.append(item)
            item = self._ahead[place]
            if isinstance(item, (Damage, Header)):
                return None
            if isinstance(item, Succeeded) and item.number == number:
                return item.looked
        return None

    def _close(self, record: Closed) -> None:
        connection = self._connections.pop(record.number, None)
        if connection is None:
            return
        self._asked.pop(connection, None)
        if record.by_stop:
            self.continuity.left(connection, record.covered_until)
        else:
            reason: GapReason = record.reason  # type: ignore[assignment]  # as it was written
            self.continuity.closed(connection, record.covered_until, reason)
        if not self._dialect.asks_by_url:
            for other in self._connections.values():
                if other.line == connection.line:  # it is asked for what was asked of the other alone
                    self._asked[other].update(dict.fromkeys(self._subscriptions.desired(other.line)))
        self.venue.closed(connection)

    def _begin_run(self, run: str) -> None:
        """Another recording follows, whose connections are others."""
        self._run = run
        for number in list(self._connections):
            self._close(Closed(number, self._wall, "connection lost", False, self._wall, self._monotonic))
        self._lines.clear()
        self._planned.clear()

    # Damage

    def _adopt(self, header: Header) -> None:
        """What is there when a block begins."""
        known = set(self._subscriptions.desired())
        for wish in map(self._lined.read, header.wishes or ()):
            if wish not in known:
                self._want(wish, wanted=True)
        for one in header.connections:
            if one.number not in self._connections:
                self._open(one)
        state = header.state
        if state is not None and state.new not in END_STATES and state.new != self.state.state.value:
            self._change(state)

    def _damaged(self, damage: Damage) -> None:
        """A part of the recording is missing: only what is known to have gone on is relied on after it."""
        header = damage.follows
        known = dict.fromkeys(self._subscriptions.desired())
        wishes = known
        if header is not None and header.wishes is not None:
            wishes = dict.fromkeys(map(self._lined.read, header.wishes))
        for wish in wishes:
            self.venue.added(wish)
        self._subscriptions.add(*wishes)
        self._set_clock(self._monotonic, damage.end)
        names = tuple(sorted({wish.name for wish in self._subscriptions.desired()}))
        surviving = self._surviving(header)
        gap = Gap(damage.start, max(damage.start, damage.end), names, "damaged recording", damage.missed)
        self.continuity.damaged(gap, surviving)
        for wish in known:
            if wish not in wishes:
                self._want(wish, wanted=False)
        for number, connection in list(self._connections.items()):
            if connection not in surviving:
                del self._connections[number]
                self._asked.pop(connection, None)
                self.venue.closed(connection)
        self._planned.clear()
        if header is not None:
            self._reopen(header)

    def _surviving(self, header: Header | None) -> set[Connection]:
        """The connections that serve their lines, and did before the damage."""
        opened = [] if header is None else header.connections
        numbers, lines = {one.number for one in opened}, Counter(one.line for one in opened)
        return {
            connection
            for number, connection in self._connections.items()
            if number in numbers and lines[connection.line] == 1 and self.continuity.serves(connection)
        }

    def _reopen(self, header: Header) -> None:
        """The connections that are open behind the damage; those of two on one line are compared anew."""
        for one in header.connections:
            if one.number not in self._connections:
                connection = Connection(one.line)
                self._assume_replaced(connection)
                self._lines[one.number] = one.line
                self._connections[one.number] = connection
                self._asked[connection] = dict.fromkeys(self._subscriptions.desired(one.line))
                self.continuity.opened(connection)
                self.venue.opened(connection)
        self._adopt(msgspec.structs.replace(header, connections=[]))


class RecordedLines:
    """A dialect that knows which connection served a subscription: with some venues that is the user's choice."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._lines: dict[Subscription, str] = {}

    def read(self, record: Wished) -> Subscription:
        """The subscription of a record, whose line is known from now on."""
        wish = Subscription(record.kind, record.name)
        if record.line is not None:
            self._lines[wish] = record.line
        return wish

    def line_of(self, subscription: Subscription) -> str:
        """See `Dialect.line_of`."""
        line = self._lines.get(subscription)
        return self._dialect.line_of(subscription) if line is None else line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)


class _Player(Worker):
    """Stands for the dispatch thread, which lasts from one pause to the next."""

    def __init__(self, worker: Worker) -> None:
        self.__dict__.update(worker.__dict__)
        self.thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        return True

    def on_this_thread(self) -> bool:
        return self.thread is not None and threading.get_ident() == self.thread.ident

    def join(self, timeout: float) -> bool:
        if self.thread is not None:
            self.thread.join(timeout)
        return self.thread is None or not self.thread.is_alive()
