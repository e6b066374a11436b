"""What recorded events do to a session: connections, subscriptions, states, damage. On the dispatch thread.

All that decides what handlers see is the recording's; gaps follow from its events as they did live.
"""

from __future__ import annotations

import abc
import dataclasses
from collections import Counter
from typing import Any, Final, cast

import msgspec

from finx_sync.notices import Gap, GapReason
from finx_sync.pipeline.queue import Connection
from finx_sync.pipeline.replacement import Handover
from finx_sync.pipeline.tap import Taps
from finx_sync.recorder import reasons
from finx_sync.recorder.chunks import SETTLE_INTERVAL
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
from finx_sync.session.parts import SessionParts
from finx_sync.session.session import Session
from finx_sync.session.state import State, StateChange
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.venues.base import Dialect, Operation, Request, Resubscribe, Subscription

__all__ = ["PlayedSession"]

LOOK_AHEAD: Final = 4096
"""Records within which it is told what became of a replacement."""
END_STATES: Final = frozenset({"stopping", "stopped", "failed", "new"})


class PlayedSession(Session):
    """A session to which a recording's events happen.

    Args:
        parts: the stream's; subscriptions and options that would make a difference are replaced.
    """

    def __init__(self, parts: SessionParts) -> None:
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
        self._connections: dict[int, Connection] = {}
        self._asked: dict[Connection, dict[Subscription, None]] = {}  # what of each, as `Subscriptions` has it
        self._lines: dict[int, str] = {}  # of all connections of this run
        self._planned: dict[str, Planned] = {}
        self._is_old = False  # version 1: neither looks nor replacements are told
        self._run = ""
        self._stretch = 0.0
        self._recorded: StateChange | None = None  # is being told
        self._told_end = ""
        self.at = 0.0

    @abc.abstractmethod
    def _coming(self, place: int) -> object:
        """What follows in the recording, the next one being 0; None where it ends before."""

    # A replay connects to nothing

    def announce(self, *subscriptions: Subscription, wanted: bool) -> None:
        """The recording's subscriptions are what they were."""

    def unwanted(self, subscription: Subscription) -> None:
        """As `announce`."""

    def fit_lines(self) -> None:
        """There are no connections."""

    def adjust_lines(self) -> None:
        """As `fit_lines`."""

    def _resubscribe(self, command: Resubscribe) -> None:
        """There is nobody to ask; what was asked anew follows in the recording."""

    # What is recorded

    def _state_changed(self, change: StateChange) -> None:
        """Told at once: on the dispatch thread, or, at a stop during a pause, on the one that stops."""
        self._parts.listen(change)
        told = {"stopping": (State.STOPPING,), "": ()}.get(self._told_end, (State.STOPPING, State.STOPPED))
        if change.new not in told:
            self.delivery.notify("state", self._recorded or change)

    def _set_clock(self, arrived: float, at: float) -> None:
        self._monotonic, self._wall, self.at = arrived, at, at
        self.clock.offset = at - arrived
        self.continuity.happened(arrived, at)
        self.delivery.now = arrived
        if self._is_old and (stretch := arrived // SETTLE_INTERVAL) != self._stretch:
            self._stretch = stretch
            self.continuity.settle(arrived)
            self._settle_venue()

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
                self._settle_venue()
            case Requested():
                self._request(item)
            case Wished():
                if item.arrived:
                    self._set_clock(item.arrived, item.at)
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

    def _want(self, subscription: Subscription, wanted: bool) -> None:
        if wanted:
            self.venue.added(subscription)
            self._subscriptions.add(subscription)
            line = self._dialect.endpoint_of(subscription)
            newest = [one for one in self._connections.values() if one.line == line][-1:]
            if newest and not self._dialect.asks_by_url:
                self._asked.setdefault(newest[0], {})[subscription] = None
            self.continuity.wanted(subscription)
        else:
            self.venue.removed(subscription)
            self._subscriptions.remove(subscription)
            self.continuity.unwanted(subscription)

    def _change(self, record: Changed) -> None:
        reason = reasons.read(record.error, record.text, record.details)
        change = StateChange(State(record.old), State(record.new), reason)
        if record.new in END_STATES:  # the stream's, not the replay's
            self.delivery.notify("state", change)
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
            item = self._coming(place)
            if item is None or isinstance(item, (Damage, Header)):
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
        for subscription in map(self._lined.read, header.subscriptions or ()):
            if subscription not in known:
                self._want(subscription, wanted=True)
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
        subscriptions = known
        if header is not None and header.subscriptions is not None:
            subscriptions = dict.fromkeys(map(self._lined.read, header.subscriptions))
        for subscription in subscriptions:
            self.venue.added(subscription)
        self._subscriptions.add(*subscriptions)
        self._set_clock(self._monotonic, damage.end)
        names = tuple(sorted({subscription.name for subscription in self._subscriptions.desired()}))
        surviving = self._surviving(header)
        gap = Gap(damage.start, max(damage.start, damage.end), names, "damaged recording", damage.missed)
        self.continuity.damaged(gap, surviving)
        for subscription in known:
            if subscription not in subscriptions:
                self._want(subscription, wanted=False)
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
        subscription = Subscription(record.kind, record.name)
        if record.line is not None:
            self._lines[subscription] = record.line
        return subscription

    def endpoint_of(self, subscription: Subscription) -> str:
        """See `Dialect.endpoint_of`."""
        line = self._lines.get(subscription)
        return self._dialect.endpoint_of(subscription) if line is None else line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)
