"""Encodes a stream's events as the records of a recording. It runs on the writer's thread."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from finx_sync.events import (
    Batch,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    Event,
    GapReported,
    LastValuesRead,
    ReplacementBegan,
    ReplacementCancelled,
    ReplacementTookOver,
    RequestSent,
    StateChanged,
    SubscriptionAdded,
    SubscriptionRemoved,
    TimerFired,
)
from finx_sync.recorder import reasons
from finx_sync.recorder.format import (
    Cancelled,
    Changed,
    Closed,
    Known,
    Opened,
    Received,
    Record,
    Replacing,
    Reported,
    Requested,
    Subscribed,
    Succeeded,
    Timed,
)

__all__ = ["EventEncoder"]


class EventEncoder:
    """Turns events into records, and keeps the present state, which each block begins with.

    Attributes:
        open: the open connections, by number.
        subscriptions: the wanted subscriptions, by kind and name.
        state: the latest change of state; None before the first.
    """

    def __init__(self) -> None:
        self.open: dict[int, Opened] = {}
        self.subscriptions: dict[tuple[str, str], Subscribed] = {}
        self.state: Changed | None = None
        self._numbers: dict[Connection, int] = {}
        self._gone: deque[tuple[Connection, int]] = deque(maxlen=16)
        self._count = 0
        self._owners: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._owner_count = 0

    @property
    def size_of_subscriptions(self) -> int:
        """The approximate size of the wanted subscriptions, bytes."""
        return sum(len(kind) + len(name) for kind, name in self.subscriptions)

    def add(self, event: Event, records: list[Record]) -> None:  # noqa: PLR0912  # a table
        """Append the records of an event; none for an event that a replay generates itself."""
        if isinstance(event, Batch):
            self._add_batch(event, records)
            return
        at, arrived = event.at, event.arrived
        match event:
            case TimerFired():
                records.append(Timed(at, arrived))
            case ConnectionOpened():
                self._number(event.connection, at, arrived, records)
            case ConnectionClosed():
                number = self._number(event.connection, at, arrived, records)
                del self._numbers[event.connection], self.open[number]
                self._gone.append((event.connection, number))
                records.append(Closed(number, event.covered_until, event.reason, event.by_stop, at, arrived))
            case RequestSent():
                number, request = self._number(event.connection, at, arrived, records), event.request
                about = [(one.kind, one.name) for one in request.subscriptions]
                records.append(Requested(number, request.op, request.number, about))
            case ReplacementBegan():
                records.append(Replacing(event.old.endpoint, self._owner(event.owner), at, arrived))
            case ReplacementCancelled():
                records.append(Cancelled(self._owner(event.owner), at, arrived))
            case ReplacementTookOver():
                known = {**dict(self._gone), **self._numbers}.get(event.connection)  # it may have just closed
                if known is not None:
                    records.append(Succeeded(known, event.timer))
            case SubscriptionAdded() | SubscriptionRemoved():
                wanted = isinstance(event, SubscriptionAdded)
                self._add_subscription(Subscribed(*event.subscription, wanted, event.endpoint, at, arrived), records)
            case GapReported(gap=gap):
                reported = Reported(gap.start, gap.end, list(gap.names), gap.reason, gap.missed, at, arrived)
                records.append(reported)
            case LastValuesRead():
                granted = [(one.kind, one.name) for one in event.granted]
                records.append(Known(list(event.payloads), list(event.times), granted, at, arrived))
            case StateChanged():
                kind, text, details = reasons.write(event.change.reason)
                self.state = Changed(event.change.old.value, event.change.new.value, kind, text, at, arrived, details)
                records.append(self.state)

    def _add_batch(self, batch: Batch, records: list[Record]) -> None:
        number = self._number(batch.connection, batch.at, batch.arrived, records)
        if not (records and isinstance(records[-1], Received)):
            records.append(Received.empty())
        reads = records[-1]
        assert isinstance(reads, Received)
        reads.numbers.append(number)
        reads.at.append(batch.at)
        reads.arrived.append(batch.arrived)
        reads.counts.append(len(batch.payloads))
        reads.payloads.extend(batch.payloads)

    def _number(self, connection: Connection, at: float, arrived: float, records: list[Record]) -> int:
        """Return the connection's number; record its opening if it was open before the recording began."""
        number = self._numbers.get(connection)
        if number is None:
            number = self._numbers[connection] = self._count
            self._count += 1
            opened = Opened(number, connection.endpoint, at, arrived, self._owner(connection.owner))
            self.open[number] = opened
            records.append(opened)
        return number

    def _owner(self, owner: object) -> int:
        """Return a number that identifies the opener of connections; 0 for None."""
        if owner is None:
            return 0
        number = self._owners.get(owner)
        if number is None:
            self._owner_count += 1
            number = self._owners[owner] = self._owner_count
        return number

    def _add_subscription(self, record: Subscribed, records: list[Record]) -> None:
        key = record.kind, record.name
        if record.wanted is (key not in self.subscriptions):
            records.append(record)
        if record.wanted:
            self.subscriptions[key] = record
        else:
            self.subscriptions.pop(key, None)
