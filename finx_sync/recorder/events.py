"""The table of everything but messages: connections, states, subscriptions, gaps, errors, damage."""

from __future__ import annotations

from typing import Any, Final

from finx_sync.errors import FinxSyncError
from finx_sync.notices import Gap
from finx_sync.recorder.damage import Damage
from finx_sync.recorder.format import BlockHeader, Changed, Closed, Lost, Opened, Received, Started, Subscribed
from finx_sync.recorder.sinks import Table, TableSink
from finx_sync.venues.base.columns import Columns

__all__ = ["EVENTS", "Events"]

EVENTS: Final = "events"
COLUMNS: Final[Columns] = {
    "happened_at": "time",  # not "at", which SQL reserves
    "event": "text",
    "endpoint": "text",
    "name": "text",
    "text": "text",
    "until": "time",
    "count": "int",
}


class Events:
    """Writes the table of events, on the thread that plays the recording.

    Args:
        sink: writes the table.

    Attributes:
        table: the table.
    """

    def __init__(self, sink: TableSink) -> None:
        self.table = Table(EVENTS, COLUMNS, sink)
        self._endpoints: dict[int, str] = {}  # the endpoint of each open connection, by the connection's number
        self._at = 0.0  # of the previous record

    def note(self, record: object) -> None:
        """Add a row for a record of the recording, or for damage to it."""
        if isinstance(record, Started):
            self._at = record.at
        elif isinstance(record, BlockHeader):
            self._begin(record)
        elif isinstance(record, Received):
            self._at = record.at[-1] if record.at else self._at
        elif isinstance(record, Opened):
            if record.number not in self._endpoints:  # it is repeated at the beginning of a file
                self._endpoints[record.number] = record.endpoint
                self._add(record.at, "open", endpoint=record.endpoint)
        elif isinstance(record, Closed):
            endpoint = self._endpoints.pop(record.number, "")
            self._add(record.at, "close", endpoint=endpoint, text="stop" if record.by_stop else record.reason)
        elif isinstance(record, Changed):
            self._add(record.at, "state", text=f"{record.new} {record.text}".rstrip())
        elif isinstance(record, Subscribed):
            event = "subscribe" if record.wanted else "unsubscribe"
            self._add(self._at, event, name=record.name, text=record.kind)
        elif isinstance(record, Lost):
            self._add(record.start, "lost", until=record.end, count=record.count)
        elif isinstance(record, Damage):
            self._add(record.start, "damage", text=str(record), until=record.end, count=record.missed)
            if record.follows is not None:
                self._endpoints = {one.number: one.endpoint for one in record.follows.connections}

    def _begin(self, header: BlockHeader) -> None:
        """Begin another recording: add rows for the subscriptions and connections that its first block begins with."""
        self._at = header.began
        self._endpoints.clear()
        for record in (*(header.subscriptions or ()), *header.connections):
            self.note(record)

    def gap(self, gap: Gap) -> None:
        """Add a gap, as reported to `on_gap`: one row for each name."""
        for name in gap.names or (None,):
            self._add(gap.start, "gap", name=name, text=gap.reason, until=gap.end, count=gap.missed)

    def error(self, at: float, error: FinxSyncError) -> None:
        """Add an error, as reported to `on_error`."""
        name = getattr(error, "name", None) or getattr(error, "market", None)
        self._add(at, "error", name=name, text=f"{type(error).__name__}: {error}")

    def _add(self, at: float, event: str, *, until: float | None = None, **more: Any) -> None:
        self._at = max(self._at, at)
        row = {"event": event, "happened_at": _microseconds(at), **more}
        self.table.add([row if until is None else {**row, "until": _microseconds(until)}])


def _microseconds(at: float) -> int:
    return round(at * 1_000_000)
