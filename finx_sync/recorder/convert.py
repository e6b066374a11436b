"""Converts recordings to tables: Parquet or CSV files, or a DuckDB database.

A conversion is a replay whose handlers write rows. So its rows contain what a live stream's handlers received, in the
same order and with the same values. Like every replay, it has its own venue state. Each kind of message becomes a table
whose first column is `received_at` and whose other columns are named as on the wire. Everything else (connections,
states, gaps, subscriptions, errors, damage) is in the table `events`, so that gaps in the data are part of the data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from finx_sync.config import Account
from finx_sync.errors import FinxSyncError, HandlerRaisedError, InvalidInputError
from finx_sync.interrupts import Notifier
from finx_sync.notices import Gap
from finx_sync.pipeline.handlers import Handlers
from finx_sync.pipeline.health import StaleLimits
from finx_sync.pipeline.latest import LastTable
from finx_sync.recorder.events import Events
from finx_sync.recorder.format import Received
from finx_sync.recorder.playback import Playback
from finx_sync.recorder.reader import RecordingPath, RecordingReader
from finx_sync.recorder.sinks import Csv, DuckDb, Parquet, Table, TableSink, pyarrow
from finx_sync.session.options import Options
from finx_sync.session.parts import SessionParts
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.state import StateChange
from finx_sync.venues.base import Codec, Decoded
from finx_sync.venues.base.columns import TableFormat
from finx_sync.venues.base.guarded import guarded

__all__ = ["Converted", "Form", "convert"]

Form = Literal["parquet", "csv"]
"""The format of the files in a folder."""

DATABASES: Final = (".duckdb", ".db")
ONE_TABLE: Final = (
    ".arrow", ".csv", ".feather", ".finxrec", ".h5", ".json", ".jsonl", ".ndjson", ".parquet", ".pq", ".sqlite", ".tsv",
    ".txt", ".xls", ".xlsx", ".zip",
)  # fmt: skip
"""Suffixes that clearly denote a file, so that no folder is made with such a name."""


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        rows: the number of rows of each table.
        unread: the number of messages without a row in any table: replies, unreadable messages, duplicates.
        damage: descriptions of the parts of the recording that could not be read.
    """

    rows: dict[str, int]
    unread: int
    damage: list[str]


def convert(
    path: RecordingPath | Sequence[RecordingPath],
    target: str | os.PathLike[str],
    codec: Codec,
    form: Form | None = None,
) -> Converted:
    """Write the messages of a recording as tables.

    Args:
        path: as for `Stream.replay`.
        target: a file whose name ends with ``.duckdb`` or ``.db``, in which the tables are replaced; otherwise a
            folder, into which one file for each table is written.
        codec: the codec of the recording's venue; a live stream's codec works too, since decoding keeps no state.
        form: the format of the files in a folder; None for Parquet.

    Raises:
        InvalidInputError: there is no such recording, the target is a file of another kind, or `form` does not fit it.
        RecordingError: a file is not a recording, or is one of another venue.
        MissingExtraError: PyArrow or DuckDB is not installed (extra ``convert``).
    """
    pyarrow()
    place, is_database = _checked_target(target)
    if form not in (None, *get_args(Form)) or (is_database and form is not None):
        raise InvalidInputError(f"form is 'parquet' or 'csv', for the files of a folder; not {form!r} for {place}")
    reader = RecordingReader(path)
    reader.require(codec.venue)
    formats = codec.formats(_decoded(RecordingReader(path), codec))
    sink: TableSink = DuckDb(place) if is_database else Csv(place) if form == "csv" else Parquet(place)
    try:
        return _Conversion(codec, reader, formats, sink).run()
    finally:
        sink.close()


def _decoded(reader: RecordingReader, codec: Codec) -> Iterator[Decoded]:
    """Decode all messages of a recording."""
    decode = guarded(codec)
    for record in reader:
        if isinstance(record, Received):
            yield from decode(record.payloads)


class _Conversion:
    """A replay whose handlers write rows."""

    def __init__(self, codec: Codec, reader: RecordingReader, formats: Sequence[TableFormat], sink: TableSink) -> None:
        self._reader = reader
        self._handlers = Handlers()
        self._events = Events(sink)
        self._failure: BaseException | None = None
        self._tables: list[Table] = []
        for one in formats:
            table = Table(one.name, {"received_at": "time", **one.columns}, sink)
            self._tables.append(table)
            self._handlers.add(one.topic, _writer(table, one))
        self._handlers.add("gap", self._gap)
        self._handlers.add("error", self._error)
        self._playback = Playback(_parts(codec, self._handlers, self._listen), self, "max")

    @property
    def damage(self) -> list[Any]:
        """The damage that the reader has found so far."""
        return self._reader.damage

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the records, which are noted in the table of events on their way to the playback."""
        for record in self._reader:
            self._events.note(record)
            yield record

    def run(self) -> Converted:
        """Convert the whole recording.

        Raises:
            FinxSyncError: the recording cannot be read.
            OSError: the tables cannot be written.
        """
        self._playback.play(None, None)
        if self._failure is not None:
            raise self._failure
        tables = [*self._tables, self._events.table]
        for table in tables:
            table.flush()
        rows = {table.name: table.count for table in tables if table.count}
        counters = self._playback.counters()
        return Converted(rows, counters.received - counters.handled, [str(one) for one in self._reader.damage])

    # On the dispatch thread

    def _listen(self, change: StateChange) -> None:
        """Do nothing: the table of events has the recorded states."""

    def _gap(self, gap: Gap) -> None:
        self._events.gap(gap)

    def _error(self, error: FinxSyncError) -> None:
        if not isinstance(error, HandlerRaisedError):
            self._events.error(self._playback.wall(), error)
        elif self._failure is None:  # a row could not be written; usually the disk is full
            self._failure = error.__cause__ or error
            self._playback.stop(0.0, drain=False)


def _writer(table: Table, one: TableFormat) -> Callable[[Any], None]:
    rows = one.rows

    def write(message: Any) -> None:
        table.add(rows(message), received_at=round(message.received_at * 1_000_000))

    return write


def _parts(codec: Codec, handlers: Handlers, listen: Callable[[StateChange], None]) -> SessionParts:
    """Return the parts for a playback that belongs to no stream."""
    return SessionParts(
        codec,
        Account("", None),
        Options(flight_recorder=False),
        handlers,
        Subscriptions(codec),
        {kind: LastTable(codec.decode) for kind in codec.message_types},
        stale_limits=StaleLimits(None),
        listen=listen,
        venue=codec.new_state(everything=True),
        venue_changes=Notifier(),
    )


def _checked_target(target: str | os.PathLike[str]) -> tuple[Path, bool]:
    """Return the path of the target, and whether it is a database.

    Raises:
        InvalidInputError: it is a file of an unsupported kind.
    """
    place = Path(target)
    kind = place.suffix.lower()
    if place.is_dir() or os.fspath(target).endswith(("/", os.sep)):
        is_database = False
    elif kind in DATABASES:
        is_database = True
    elif kind in ONE_TABLE or place.exists():
        raise InvalidInputError(
            f"{place} cannot be written: a recording becomes several tables, in a folder of Parquet files (name the "
            "folder) or in one DuckDB database (a name ending with .duckdb)"
        )
    else:
        is_database = False
    return place, is_database
