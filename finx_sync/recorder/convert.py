"""Recordings as tables: Parquet files, or a DuckDB database.

Each message type of the venue becomes a table whose columns are its wire names, with `received_at` in front. Times of
connections and states are in a table of their own, so that a hole in the data can be seen in the data.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from finx_sync.errors import InvalidInputError, MissingExtraError
from finx_sync.messages import Message
from finx_sync.recorder.extras import duckdb
from finx_sync.recorder.format import Changed, Closed, Lost, Opened, Received
from finx_sync.recorder.reader import RecordingPath, RecordingReader
from finx_sync.venues.base import Dialect

__all__ = ["Converted", "convert"]

logger = logging.getLogger("finx_sync")

ROWS_AT_ONCE: Final = 50_000
"""Rows of a table that are in memory."""
EVENTS: Final = "events"
DATABASES: Final = (".duckdb", ".db")
ONE_TABLE: Final = (
    ".arrow", ".csv", ".feather", ".finxrec", ".h5", ".json", ".jsonl", ".ndjson", ".parquet", ".pq", ".sqlite", ".tsv",
    ".txt", ".xls", ".xlsx", ".zip",
)  # fmt: skip
"""What is the name of a file to everybody: a folder of that name is not what was asked for."""


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        rows: by table.
        unread: messages that are no table's: replies, and what could not be read.
        damage: what of the recording could not be read, as text.
    """

    rows: dict[str, int]
    unread: int
    damage: list[str]


def convert(
    path: RecordingPath | Sequence[RecordingPath], target: str | os.PathLike[str], dialect: Dialect
) -> Converted:
    """Write the messages of a recording as tables.

    Args:
        path: as for `Stream.replay`.
        target: a file ending with ``.duckdb`` or ``.db``, in which the tables are replaced; else a folder, into which
            one Parquet file for each table is written.
        dialect: of the recording's venue.

    Raises:
        InvalidInputError: there is no such recording; or the target is a file of another kind.
        RecordingError: a file is no recording, or one of another venue.
        MissingExtraError: PyArrow or DuckDB is not installed (extra ``convert``).
    """
    pa = _pyarrow()
    place, is_database = _checked_target(target)
    reader = RecordingReader(path)
    reader.require(dialect.venue)
    sink: _Parquet | _DuckDb = _DuckDb(place) if is_database else _Parquet(place)
    tables = {kind: _Table(_name(kind), _schema(pa, kind)) for kind in dialect.message_types}
    events = _Table(EVENTS, _event_schema(pa))
    unread = 0
    try:
        for record in reader:
            if not isinstance(record, Received):
                if (row := _event(record)) is not None:
                    events.add(row, sink.write)
                continue
            messages = dialect.decode(record.payloads)
            for message, at in zip(messages, record.spread(record.at), strict=True):
                table = tables.get(type(message))  # type: ignore[arg-type]
                if table is None:
                    unread += 1
                else:
                    table.add(_row(message, at), sink.write)
        for table in (*tables.values(), events):
            table.flush(sink.write)
    finally:
        sink.close()
    rows = {table.name: table.count for table in (*tables.values(), events) if table.count}
    return Converted(rows, unread, [str(one) for one in reader.damage])


def _checked_target(target: str | os.PathLike[str]) -> tuple[Path, bool]:
    """Where to write, and whether it is a database.

    Raises:
        InvalidInputError: it is a file of a kind that is not written here.
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


@dataclass
class _Table:
    name: str
    schema: Any
    count: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any], write: Callable[[_Table], None]) -> None:
        self.rows.append(row)
        self.count += 1
        if len(self.rows) >= ROWS_AT_ONCE:
            self.flush(write)

    def flush(self, write: Callable[[_Table], None]) -> None:
        if self.rows:
            write(self)
            self.rows = []

    def arrow(self) -> Any:
        return _pyarrow().Table.from_pylist(self.rows, schema=self.schema)


class _Parquet:
    """One file for each table in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def write(self, table: _Table) -> None:
        writer = self._writers.get(table.name)
        if writer is None:
            import pyarrow.parquet as pq

            path = self._folder / f"{table.name}.parquet"
            writer = self._writers[table.name] = pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table.arrow())

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class _DuckDb:
    """Tables of a database; what is there under their names is replaced."""

    def __init__(self, path: Path) -> None:
        database = duckdb()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = database.connect(str(path))
        except database.Error as error:
            raise InvalidInputError(f"{path} cannot be opened as a DuckDB database: {error}") from error
        self._known: set[str] = set()

    def write(self, table: _Table) -> None:
        self._connection.register("batch", table.arrow())
        if table.name in self._known:
            self._connection.execute(f'insert into "{table.name}" select * from batch')  # noqa: S608  # a name of ours
        else:
            self._known.add(table.name)
            self._connection.execute(f'create or replace table "{table.name}" as select * from batch')  # noqa: S608
        self._connection.unregister("batch")

    def close(self) -> None:
        self._connection.close()


def _name(kind: type[Message]) -> str:
    """`ContractTick` is the table contract_tick."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("_")


def _schema(pa: Any, kind: type[Message]) -> Any:
    fields = {one.encode_name: one.type for one in msgspec.structs.fields(kind) if not one.encode_name.startswith("@")}
    columns = [pa.field("received_at", pa.timestamp("us", "UTC"))]
    return pa.schema(columns + [pa.field(name, _type(pa, annotation)) for name, annotation in fields.items()])


def _type(pa: Any, annotation: Any) -> Any:
    """Numbers and texts as such; anything deeper as JSON."""
    shown = str(annotation)
    if "float" in shown and "list" not in shown:
        return pa.float64()
    if "bool" in shown and "list" not in shown:
        return pa.bool_()
    if "int" in shown and "list" not in shown and "tuple" not in shown:
        return pa.int64()
    return pa.string()


def _row(message: Any, at: float) -> dict[str, Any]:
    row: dict[str, Any] = {"received_at": round(at * 1_000_000)}
    for name, value in message.items():
        is_plain = value is None or isinstance(value, (str, int, float, bool))
        row[name] = value if is_plain else msgspec.json.encode(value, enc_hook=str).decode()
    return row


def _event_schema(pa: Any) -> Any:
    texts = [pa.field(name, pa.string()) for name in ("event", "line", "text")]
    # Not "at", which SQL reserves: a query would have to quote it.
    return pa.schema([pa.field("happened_at", pa.timestamp("us", "UTC")), *texts, pa.field("count", pa.int64())])


def _event(record: object) -> dict[str, Any] | None:
    if isinstance(record, Opened):
        at, event, line, text, count = record.at, "open", record.line, "", None
    elif isinstance(record, Closed):
        at, event, line, text, count = record.at, "close", "", "stop" if record.by_stop else record.reason, None
    elif isinstance(record, Changed):
        at, event, line, text, count = record.at, "state", "", f"{record.new} {record.text}".rstrip(), None
    elif isinstance(record, Lost):
        at, event, line, text, count = record.start, "lost", "", "", record.count
    else:
        return None
    return {"happened_at": round(at * 1_000_000), "event": event, "line": line, "text": text, "count": count}


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError(
            'PyArrow is not installed; install it with: pip install "finx-sync[convert]"'
        ) from error
    return pyarrow
