"""Decodes the records of a recording to the events that were recorded.

The recording alone determines what handlers see; gaps follow from its events as they did live. Events are generated one
by one, each after the one before it has been handled, because the outcome of a replacement depends on that.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Final

from finx_sync.events import (
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    Event,
    GapReported,
    LastValuesRead,
    MessagesDropped,
    RecordingDamaged,
    ReplacementBegan,
    ReplacementCancelled,
    RequestSent,
    StateChanged,
    SubscriptionAdded,
    SubscriptionRemoved,
    TimerFired,
)
from finx_sync.notices import Gap, GapReason
from finx_sync.pipeline.gaps import GapTracker
from finx_sync.pipeline.rows import BatchRow
from finx_sync.pipeline.wanted import Wanted
from finx_sync.recorder import reasons
from finx_sync.recorder.candidates import Assumed, Carried, Planned
from finx_sync.recorder.damage import Damage
from finx_sync.recorder.format import (
    BlockHeader,
    Cancelled,
    Changed,
    Closed,
    Known,
    Lost,
    Opened,
    Received,
    Record,
    Replacing,
    Reported,
    Requested,
    Started,
    Subscribed,
    Succeeded,
    Timed,
)
from finx_sync.state import State, StateChange
from finx_sync.venues.base import Codec, Operation, Request, Subscription

__all__ = ["EventDecoder"]

ROW: Final = 512
"""The number of messages that are decoded together at full speed, in addition to the rest of their last batch."""
LOOK_AHEAD: Final = 4096
"""The number of records that are searched for the outcome of a replacement."""
TIMER_INTERVAL: Final = 0.5
"""Recorded seconds between two timer events in recordings of version 1, which do not contain them."""
END_STATES: Final = frozenset({"stopping", "stopped", "failed", "new"})


class EventDecoder:
    """Turns records into events, as an iterator.

    Args:
        records: the records of a recording, and its damage.
        codec: the codec of its venue.
        wanted: the wanted subscriptions after the previous event.
        one_by_one: whether each batch is played at its own time, so that batches must not be joined.

    Attributes:
        gaps: the gap tracker of the pipeline that handles the events, which knows which connections serve their
            endpoints. Set before iteration begins.
        arrived, at: when the last event happened, monotonic seconds and UNIX seconds.
    """

    gaps: GapTracker

    def __init__(
        self,
        records: Iterable[Record | Damage],
        codec: Codec,
        wanted: Wanted,
        *,
        one_by_one: bool,
    ) -> None:
        self._records = iter(records)
        self._ahead: deque[Record | Damage] = deque()
        self._codec = codec
        self._wanted = wanted
        self._one_by_one = one_by_one
        self._connections: dict[int, Connection] = {}
        self._endpoints: dict[int, str] = {}  # of all connections of this run, by number
        self._carried = Carried(wanted, by_url=codec.asks_by_url)
        self._planned: dict[str, Planned] = {}
        self._is_old = False  # version 1, which contains neither timers nor replacements
        self._run = ""
        self._stretch = 0.0
        self._state = ""
        self.arrived = self.at = 0.0

    def __iter__(self) -> Iterator[Event | BatchRow]:
        while (record := self._next()) is not None:
            yield from self._events(record)

    def _next(self) -> Record | Damage | None:
        return self._ahead.popleft() if self._ahead else next(self._records, None)

    def _coming(self, place: int) -> Record | Damage | None:
        """Return the record `place` records ahead, 0 for the next one; None if the recording ends before it."""
        while place >= len(self._ahead):
            record = next(self._records, None)
            if record is None:
                return None
            self._ahead.append(record)
        return self._ahead[place]

    def _events(self, record: Record | Damage) -> Iterator[Event | BatchRow]:  # noqa: PLR0912  # a table
        match record:
            case Received():
                yield from self._rows(record)
            case Opened():
                yield from self._open(record)
            case Closed():
                yield from self._at(record.arrived, record.at)
                yield from self._close(record)
            case Timed():
                yield from self._at(record.arrived, record.at)
                yield TimerFired(self.arrived, self.at)
            case Requested():
                yield from self._request(record)
            case Subscribed():
                if record.arrived:
                    yield from self._at(record.arrived, record.at)
                yield from self._want(record)
            case Changed():
                yield from self._at(record.arrived, record.at)
                yield from self._change(record)
            case Lost():
                yield MessagesDropped(self.arrived, self.at, record.start, record.end, record.count)
            case Reported():
                yield from self._at(record.arrived, record.at)
                reason: GapReason = record.reason  # type: ignore[assignment]  # as it was written
                gap = Gap(record.start, record.end, tuple(record.names), reason, record.missed)
                yield GapReported(self.arrived, self.at, gap)
            case Known():
                yield from self._at(record.arrived, record.at)
                granted = tuple(Subscription(*one) for one in record.granted)
                yield LastValuesRead(self.arrived, self.at, tuple(record.payloads), tuple(record.times), granted)
            case Replacing():
                yield from self._at(record.arrived, record.at)
                yield from self._replace(record)
            case Cancelled():
                yield from self._at(record.arrived, record.at)
                yield from self._cancel(record.owner)
            case Started():
                self._is_old = True
                if record.run != self._run:
                    yield from self._begin_run(record.run)
            case BlockHeader():
                self._is_old = False
                yield from self._begin_run(record.run)
                self.at = record.began
                yield from self._adopt(record, record.connections)
            case Damage():
                yield from self._damaged(record)

    def _at(self, arrived: float, at: float) -> Iterator[Event]:
        """Set the time of the next event; in version 1, emit a timer event first if one is due."""
        self.arrived, self.at = arrived, at
        if self._is_old and (stretch := arrived // TIMER_INTERVAL) != self._stretch:
            self._stretch = stretch
            yield TimerFired(arrived, at)

    # Messages

    def _rows(self, record: Received) -> Iterator[Event | BatchRow]:
        """Join batches if nothing happened between them and they are not played one by one."""
        for number in record.numbers:
            if number not in self._connections:
                yield from self._find(number)
        of_reads = [self._connections[number] for number in record.numbers]
        whole = BatchRow(
            record.payloads, record.spread(record.at), record.spread(record.arrived), record.spread(of_reads)
        )
        begin, count = 0, len(whole)
        while begin < count:
            yield from self._at(whole.arrived[begin], whole.at[begin])
            # A batch is never split, because it is handled as a whole.
            end = whole.end_of_batch(begin if self._one_by_one else min(begin + ROW, count) - 1)
            if self._is_old:
                end = _end_of_stretch(whole, begin, end)
            part = slice(begin, end)
            if begin or end < count:
                yield BatchRow(whole.payloads[part], whole.at[part], whole.arrived[part], whole.connections[part])
            else:
                yield whole
            self.arrived, self.at, begin = whole.arrived[end - 1], whole.at[end - 1], end

    def _find(self, number: int) -> Iterator[Event]:
        """Reconstruct a connection whose opening is in a damaged part; only version 1 does not record it again."""
        endpoint = self._endpoints.get(number, next(iter(self._endpoints.values()), ""))
        newest = max((one for one, each in self._connections.items() if each.endpoint == endpoint), default=0)
        connection = self._connections[number] = _connection(endpoint)
        self._carried.opened(connection)
        if number >= newest:
            yield ConnectionOpened(self.arrived, self.at, connection)

    # Subscriptions, requests and states

    def _want(self, record: Subscribed) -> Iterator[Event]:
        subscription = Subscription(record.kind, record.name)
        endpoint = self._codec.endpoint_of(subscription) if record.endpoint is None else record.endpoint
        if not record.wanted:
            yield SubscriptionRemoved(self.arrived, self.at, subscription, endpoint)
            return
        newest = [one for one in self._connections.values() if one.endpoint == endpoint][-1:]
        self._carried.asked(subscription, *newest)
        yield SubscriptionAdded(self.arrived, self.at, subscription, endpoint)

    def _request(self, record: Requested) -> Iterator[Event]:
        """Emit the request, which the venue's state needs to understand the answer."""
        if record.connection not in self._connections:
            yield from self._find(record.connection)
        subscriptions = tuple(Subscription(*one) for one in record.subscriptions)
        op: Operation = record.op  # type: ignore[assignment]  # as recorded
        request = Request("", op, subscriptions, record.number)
        yield RequestSent(self.arrived, self.at, self._connections[record.connection], request)

    def _change(self, record: Changed) -> Iterator[Event]:
        if record.new == self._state and record.new not in END_STATES:  # it is repeated at the beginning of a file
            return
        self._state = record.new
        reason = reasons.read(record.error, record.text, record.details)
        change = StateChange(State(record.old), State(record.new), reason)
        yield StateChanged(self.arrived, self.at, change)

    # Connections

    def _open(self, record: Opened) -> Iterator[Event]:
        if record.number in self._connections:  # it is repeated at the beginning of a file
            return
        yield from self._at(record.arrived, record.at)
        endpoint = record.endpoint
        is_newest = record.number > max(self._endpoints, default=-1)
        planned = self._planned.get(endpoint)
        if planned is not None and planned.owner == record.owner:
            connection = self._planned.pop(endpoint).open(_connection(endpoint))
        else:
            connection = _connection(endpoint)
            if self._is_old and is_newest:
                yield from self._assume_replaced(connection)
        self._endpoints[record.number] = endpoint
        served = any(self.gaps.serves(one) for one in self._connections.values() if one.endpoint == endpoint)
        self._connections[record.number] = connection
        self._carried.opened(connection)
        if is_newest or not self._is_old or not served:
            yield ConnectionOpened(self.arrived, self.at, connection)

    def _assume_replaced(self, new: Connection) -> Iterator[Event]:
        """Assume that a new connection is to replace the open one that serves the same endpoint."""
        for old in self._connections.values():
            if old.endpoint == new.endpoint and self.gaps.serves(old):
                yield ReplacementBegan(self.arrived, self.at, old, None, Assumed(new, self._carried.view(old)))
                return

    def _replace(self, record: Replacing) -> Iterator[Event]:
        old = next((one for one in self._connections.values() if one.endpoint == record.endpoint), None)
        if old is not None:
            planned = Planned(record.owner, self._decided_at, lambda: self.gaps.settled, self._carried.view(old))
            self._planned[record.endpoint] = planned
            yield ReplacementBegan(self.arrived, self.at, old, record.owner, planned)

    def _cancel(self, owner: int) -> Iterator[Event]:
        for endpoint, planned in list(self._planned.items()):
            if planned.owner == owner:
                del self._planned[endpoint]
                yield ReplacementCancelled(self.arrived, self.at, endpoint, owner, planned)

    def _decided_at(self, connection: Connection) -> float | None:
        """Return the timer at which a connection took over, which is recorded shortly after; None if it never did."""
        number = next((number for number, one in self._connections.items() if one is connection), None)
        for place in range(LOOK_AHEAD):
            record = self._coming(place)
            if record is None or isinstance(record, (Damage, BlockHeader)):
                return None
            if isinstance(record, Succeeded) and record.number == number:
                return record.timer
        return None

    def _close(self, record: Closed) -> Iterator[Event]:
        connection = self._connections.pop(record.number, None)
        if connection is None:
            return
        connection.is_over = True
        reason: GapReason = record.reason  # type: ignore[assignment]  # as recorded
        left = [one for one in self._connections.values() if one.endpoint == connection.endpoint]
        self._carried.closed(connection, left)
        yield ConnectionClosed(self.arrived, self.at, connection, record.covered_until, reason, record.by_stop)

    def _begin_run(self, run: str) -> Iterator[Event]:
        """Begin another recording: close all connections of the previous one."""
        self._run = run
        for number in list(self._connections):
            yield from self._close(Closed(number, self.at, "connection lost", False, self.at, self.arrived))
        self._endpoints.clear()
        self._planned.clear()

    # Damage

    def _adopt(self, header: BlockHeader, connections: Iterable[Opened]) -> Iterator[Event]:
        """Emit events for the state at the start of a block, as far as it is new."""
        for record in header.subscriptions or ():
            if Subscription(record.kind, record.name) not in self._wanted:
                yield from self._want(record)
        for one in connections:
            yield from self._open(one)
        state = header.state
        if state is not None and state.new not in END_STATES:
            yield from self._change(state)

    def _damaged(self, damage: Damage) -> Iterator[Event]:
        """Handle a missing part of the recording: only connections known to have stayed open are relied on after it."""
        header, self.at = damage.follows, damage.end
        wanted: dict[Subscription, str] | None = None
        if header is not None and header.subscriptions is not None:
            wanted = {}
            for record in header.subscriptions:
                subscription = Subscription(record.kind, record.name)
                wanted[subscription] = record.endpoint or self._codec.endpoint_of(subscription)
        surviving = self._surviving(header)
        lost = {number: one for number, one in self._connections.items() if one not in surviving}
        for number, connection in lost.items():
            del self._connections[number]
            self._carried.closed(connection, ())
        self._planned.clear()
        yield RecordingDamaged(
            self.arrived,
            self.at,
            damage.start,
            damage.end,
            damage.missed,
            wanted,
            frozenset(surviving),
            tuple(lost.values()),
        )
        if header is not None:
            yield from self._reopen(header)

    def _surviving(self, header: BlockHeader | None) -> set[Connection]:
        """Return the connections that served their endpoints before the damage and still do."""
        opened = [] if header is None else header.connections
        numbers, endpoints = {one.number for one in opened}, Counter(one.endpoint for one in opened)
        return {
            connection
            for number, connection in self._connections.items()
            if number in numbers and endpoints[connection.endpoint] == 1 and self.gaps.serves(connection)
        }

    def _reopen(self, header: BlockHeader) -> Iterator[Event]:
        """Open the connections that are new after the damage; two on one endpoint count as a replacement."""
        for one in header.connections:
            if one.number not in self._connections:
                connection = _connection(one.endpoint)
                yield from self._assume_replaced(connection)
                self._endpoints[one.number] = one.endpoint
                self._connections[one.number] = connection
                self._carried.opened(connection)
                yield ConnectionOpened(self.arrived, self.at, connection)
        yield from self._adopt(header, ())


def _connection(endpoint: str) -> Connection:
    """Return a confirmed connection, so that an error of the server is reported and not taken for a refused key."""
    connection = Connection(endpoint)
    connection.is_confirmed = True
    return connection


def _end_of_stretch(row: BatchRow, begin: int, end: int) -> int:
    """Return where a part must end to lie between two timers, so that timers do not depend on the speed."""
    stretch = row.arrived[begin] // TIMER_INTERVAL
    if row.arrived[end - 1] // TIMER_INTERVAL == stretch:
        return end
    return next(place for place in range(begin, end) if row.arrived[place] // TIMER_INTERVAL != stretch)
