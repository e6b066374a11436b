"""Writes the tables of a conversion to Parquet or CSV files in a folder, or to a DuckDB database."""

from __future__ import annotations

import abc
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from finx_sync.errors import InvalidInputError, MissingExtraError
from finx_sync.recorder.extras import duckdb
from finx_sync.venues.base.columns import Columns, ColumnType, Row, as_json

__all__ = ["Csv", "DuckDb", "Parquet", "Table", "TableSink", "pyarrow"]

logger = logging.getLogger("finx_sync")

ROWS_AT_ONCE: Final = 50_000
"""The number of rows of a table that are kept in memory before they are written."""
LARGEST: Final = 2**63


class TableSink(Protocol):
    """Writes tables."""

    def write(self, table: Table) -> None:
        """Append the rows that a table has in memory."""

    def close(self) -> None:
        """Finish writing."""


class Table:
    """A table that is being written.

    Args:
        name: the table's name.
        columns: the types of its columns, by name.
        sink: writes its rows.

    Attributes:
        count: the number of rows so far.
    """

    def __init__(self, name: str, columns: Columns, sink: TableSink) -> None:
        self.name = name
        self.count = 0
        self._columns = columns
        self._sink = sink
        self._rows: list[Row] = []
        self._unfit: set[str] = set()
        self.schema = _schema(columns)

    def add(self, rows: Iterable[Row], **more: Any) -> None:
        """Add rows, each extended by `more`."""
        for row in rows:
            self._rows.append({**row, **more})
            self.count += 1
        if len(self._rows) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write the rows in memory."""
        if self._rows:
            self._sink.write(self)
            self._rows = []

    def arrow(self) -> Any:
        """Return the rows in memory as an Arrow table."""
        pa = pyarrow()
        try:
            return pa.Table.from_pylist(self._rows, schema=self.schema)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):  # a value does not fit its column
            rows = [{name: self._fitted(name, row.get(name)) for name in self._columns} for row in self._rows]
            return pa.Table.from_pylist(rows, schema=self.schema)

    def _fitted(self, name: str, value: Any) -> Any:
        """Return the value if it fits its column, otherwise null, which is logged once for each column."""
        type_ = self._columns[name]
        if value is None or _fits(value, type_):
            return value
        if type_ in ("text", "json"):
            return as_json(value)
        if name not in self._unfit:
            self._unfit.add(name)
            logger.warning("the table %s: values that are not %s are null in the column %r", self.name, type_, name)
        return None


def _fits(value: Any, type_: ColumnType) -> bool:
    if type_ == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if type_ == "float":
        return isinstance(value, (int, float))
    if type_ in ("int", "time"):
        return isinstance(value, int) and -LARGEST <= value < LARGEST
    return isinstance(value, str)


class Files(abc.ABC):
    """One file for each table in a folder."""

    suffix: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def write(self, table: Table) -> None:
        """Append the rows that a table has in memory."""
        writer = self._writers.get(table.name)
        if writer is None:
            path = self._folder / f"{table.name}{self.suffix}"
            writer = self._writers[table.name] = self._writer(path, table.schema)
        writer.write_table(table.arrow())

    @abc.abstractmethod
    def _writer(self, path: Path, schema: Any) -> Any:
        """Return a writer of one file."""

    def close(self) -> None:
        """Finish the files."""
        for writer in self._writers.values():
            writer.close()


class Parquet(Files):
    """Parquet files."""

    suffix = ".parquet"

    def _writer(self, path: Path, schema: Any) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, schema, compression="zstd")


class Csv(Files):
    """CSV files: quoted texts, empty fields for null, times in UTC."""

    suffix = ".csv"

    def _writer(self, path: Path, schema: Any) -> Any:
        import pyarrow.csv

        return pyarrow.csv.CSVWriter(path, schema)


class DuckDb:
    """Tables of a database; existing tables of the same names are replaced."""

    def __init__(self, path: Path) -> None:
        database = duckdb()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = database.connect(str(path))
        except database.Error as error:
            raise InvalidInputError(f"{path} cannot be opened as a DuckDB database: {error}") from error
        self._known: set[str] = set()

    def write(self, table: Table) -> None:
        """Append the rows that a table has in memory."""
        self._connection.register("batch", table.arrow())
        if table.name in self._known:
            self._connection.execute(f'insert into "{table.name}" select * from batch')  # noqa: S608  # no user input
        else:
            self._known.add(table.name)
            self._connection.execute(f'create or replace table "{table.name}" as select * from batch')  # noqa: S608
        self._connection.unregister("batch")

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def _schema(columns: Columns) -> Any:
    pa = pyarrow()
    types = {
        "float": pa.float64(),
        "int": pa.int64(),
        "bool": pa.bool_(),
        "text": pa.string(),
        "json": pa.string(),
        "time": pa.timestamp("us", "UTC"),
    }
    return pa.schema([pa.field(name, types[type_]) for name, type_ in columns.items()])


def pyarrow() -> Any:
    """Import and return the package pyarrow.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError(
            'PyArrow is not installed; install it with: pip install "finx-sync[convert]"'
        ) from error
    return pyarrow
