"""BitMEX's tables for conversions; their names and columns come from the messages of a recording.

The type of a column follows from its values: integers with at least one fraction become floats. The type declared in a
partial ("timestamp", "float") is used if the values allow several types.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from finx_sync.venues.base import Decoded
from finx_sync.venues.base.columns import Columns, ColumnType, Row, TableFormat, as_json
from finx_sync.venues.bitmex.messages import TableItem, TableUpdate
from finx_sync.venues.bitmex.state import rows_of

__all__ = ["formats"]

PREFIX: Final = "bitmex_"
"""The prefix of table names. Without it, SQL queries would have to quote the name "order"."""
CHANGE: Final = "change"
"""The column for the action: "partial", "insert", "update" or "delete". It is not named "action" because some rows
already have a field of that name."""
OURS: Final = frozenset({"received_at", CHANGE})
MOST_LEVELS: Final = 25
"""The maximum number of levels in a list, as in orderBook10, that get their own columns."""
LARGEST: Final = 2**63

_TABLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_DECLARED: Final[dict[str, ColumnType]] = {
    "float": "float", "long": "int", "integer": "int", "int": "int", "boolean": "bool", "timestamp": "time",
    "symbol": "text", "string": "text", "guid": "text",
}  # fmt: skip


class _Column:
    """The types found in a column.

    Attributes:
        declared: the type declared in the partials.
        found: the types of the values.
        levels: the maximum number of levels in its lists; 0 if it has no lists of levels.
    """

    def __init__(self) -> None:
        self.declared = ""
        self.found: set[ColumnType] = set()
        self.levels = 0

    def note(self, value: Any) -> None:
        """Note the type of a value."""
        if value is None:
            return
        if _is_side(value):
            self.levels = max(self.levels, len(value))
            self.found.add("json")
        else:
            self.found.add(_type_of(value, may_be_time=self.declared in ("timestamp", "")))

    @property
    def type(self) -> ColumnType:
        """The type that can hold all values."""
        if not self.found:
            return _DECLARED.get(self.declared, "text")
        if self.found <= {"int", "float"}:
            return "int" if self.found == {"int"} and self.declared != "float" else "float"
        if self.found <= {"time", "text"}:
            return "time" if self.found == {"time"} else "text"
        return next(iter(self.found)) if len(self.found) == 1 else "json"

    @property
    def is_side(self) -> bool:
        """Whether it is a side of a book, whose levels get their own columns."""
        return 0 < self.levels <= MOST_LEVELS and self.found == {"json"}


def formats(decoded: Iterable[Decoded]) -> list[TableFormat]:
    """Return the tables of a recording.

    Args:
        decoded: all messages of the recording.
    """
    tables: dict[str, dict[str, _Column]] = {}
    for update in decoded:
        if isinstance(update, TableUpdate) and _TABLE.fullmatch(update.table):
            _note(tables.setdefault(update.table, {}), update)
    return [_format(table, columns) for table, columns in tables.items()]


def _note(columns: dict[str, _Column], update: TableUpdate) -> None:
    for name, declared in (update.types or {}).items():
        columns.setdefault(name, _Column()).declared = declared
    for row in update.data:
        for name, value in row.items():
            column = columns.get(name) or columns.setdefault(name, _Column())
            column.note(value)


def _format(table: str, columns: dict[str, _Column]) -> TableFormat:
    types: Columns = {CHANGE: "text"}
    readers: list[tuple[str, Callable[[Any], Row]]] = []
    for name, column in columns.items():
        if column.is_side:
            own = [f"{name}_{level}" for level in range(1, column.levels + 1)]
            types |= {f"{one}_{what}": "float" for one in own for what in ("price", "size")}
            readers.append((name, _side_reader(own)))
        else:
            title = _title(name, types)
            types[title] = column.type
            readers.append((name, _value_reader(title, column.type)))

    def rows(item: TableItem) -> Iterable[Row]:
        row: dict[str, Any] = {CHANGE: item.action}
        for name, read in readers:
            if (value := item.item.get(name)) is not None:
                row |= read(value)
        return (row,)

    return TableFormat(rows_of(table), f"{PREFIX}{table}", types, rows)


def _title(name: str, taken: Columns) -> str:
    """Return a column name that differs, ignoring case as SQL does, from `OURS` and from the names in use."""
    lower = {one.lower() for one in taken} | OURS
    title = name
    while title.lower() in lower:
        title += "_"
    return title


def _value_reader(title: str, type_: ColumnType) -> Callable[[Any], Row]:
    read: dict[ColumnType, Callable[[Any], Any]] = {"time": _microseconds, "json": as_json, "float": float}
    convert = read.get(type_)
    if convert is None:
        return lambda value: {title: value}
    return lambda value: {title: convert(value)}


def _side_reader(titles: list[str]) -> Callable[[Any], Row]:
    def read(levels: Any) -> Row:
        row: dict[str, Any] = {}
        for title, (price, size) in zip(titles, levels, strict=False):
            row[f"{title}_price"], row[f"{title}_size"] = price, size
        return row

    return read


def _type_of(value: Any, *, may_be_time: bool) -> ColumnType:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -LARGEST <= value < LARGEST else "float"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "time" if may_be_time and _microseconds(value) is not None else "text"
    return "json"


def _is_side(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(level, list)
            and len(level) == 2
            and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in level)
            for level in value
        )
    )


def _microseconds(text: str) -> int | None:
    """Convert an ISO 8601 time with a time zone to microseconds since the UNIX epoch; return None for other text."""
    if len(text) < len("2021-07-22T00:00:00Z") or text[10] != "T":
        return None
    try:
        moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
