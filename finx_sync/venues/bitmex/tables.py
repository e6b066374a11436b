"""A table: its rows, and the symbols whose partials were received. See `storage` for the rules."""

from __future__ import annotations

import abc
import operator
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from finx_sync.venues.bitmex.messages import Row

__all__ = ["BOOKS", "Key", "KeyedTable", "LogTable", "MergedTable", "new_table"]

ROWS_KEPT: Final = 200
"""The number of rows kept for each table and symbol, as in BitMEX's own client; orders and books are kept in full."""
BOOKS: Final = ("orderBookL2", "orderBookL2_25")
UNBOUNDED: Final = frozenset({"order", *BOOKS})

_OTHER_SIDE: Final = {"Buy": "Sell", "Sell": "Buy"}
Key = Any
"""The value of a row's key field, or a tuple of several."""


def new_table(name: str, keys: list[str]) -> MergedTable:
    """Create the kind of table that matches the keys in a partial."""
    return KeyedTable(name, keys) if keys else LogTable(name)


class MergedTable(abc.ABC):
    """The common base of both kinds of table.

    Args:
        name: the table's name.
        keys: the fields that identify a row.

    Attributes:
        by_symbol: whether rows are stored by symbol: their keys contain the symbol, or there are no keys.
    """

    def __init__(self, name: str, keys: list[str]) -> None:
        self.name = name
        self.keys = keys
        self.by_symbol = not keys or "symbol" in keys
        self._ready: set[str] = set()
        self._all_ready = False

    def is_ready(self, symbol: str | None) -> bool:
        """Return whether the partial that covers a symbol's rows has been received."""
        if symbol is None and not self.by_symbol:  # a row without a symbol
            return self._all_ready or bool(self._ready)
        return self._all_ready or symbol in self._ready

    def suspend(self) -> None:
        """Keep the rows, but ignore changes until the next partials."""
        self._all_ready = False
        self._ready.clear()

    def partial(self, chosen: Mapping[str, Any], data: list[Row]) -> list[Row]:
        """Replace the rows that match the filter `chosen`."""
        symbol = chosen.get("symbol")
        self.forget(chosen)
        if symbol is None:
            self._all_ready = True
        else:
            self._ready.add(symbol)
        return self.insert(data)

    def forget(self, chosen: Mapping[str, Any]) -> None:
        """Remove the rows that match a filter, and ignore changes of them until their next partial."""
        symbol = chosen.get("symbol")
        if symbol is None:
            self.suspend()
        else:
            self._ready.discard(symbol)
        self._remove(symbol if self.by_symbol else None, chosen)

    @abc.abstractmethod
    def _remove(self, symbol: str | None, chosen: Mapping[str, Any]) -> None:
        """Remove the rows that match all of `chosen`; if `symbol` is given, only rows of that symbol."""

    @abc.abstractmethod
    def rows(self, symbol: str | None = None) -> list[Row]:
        """Return all rows, or those of a symbol; the rows of each symbol are in the order of their first appearance."""

    @abc.abstractmethod
    def find(self, match: Mapping[str, Any]) -> Row | None:
        """Return the row for `match`, which contains all key fields; None if there is none."""

    @abc.abstractmethod
    def insert(self, data: list[Row]) -> list[Row]:
        """Add rows and return them; a row replaces an existing one with the same key."""

    @abc.abstractmethod
    def update(self, data: list[Row], lost: list[Row]) -> list[Row]:
        """Merge changed fields; return the complete rows, and add changes of missing rows to `lost`."""

    @abc.abstractmethod
    def delete(self, data: list[Row], lost: list[Row]) -> list[Row]:
        """Remove rows; return them with their last values, and add the keys of missing rows to `lost`."""


class KeyedTable(MergedTable):
    """A table with keys. Rows are stored by symbol (if it is a key) and by key, so each access takes constant time."""

    def __init__(self, name: str, keys: list[str]) -> None:
        super().__init__(name, keys)
        self.key_of: Callable[[Mapping[str, Any]], Key] = operator.itemgetter(*keys)
        self._limit = None if name in UNBOUNDED else ROWS_KEPT
        self._is_book = name in BOOKS and set(keys) == {"symbol", "id", "side"}
        self._parts: dict[str | None, dict[Key, Row]] = {}

    def rows(self, symbol: str | None = None) -> list[Row]:
        if symbol is not None and self.by_symbol:
            return list(self._parts.get(symbol, {}).values())
        rows = [row for part in self._parts.values() for row in part.values()]
        return rows if symbol is None else [row for row in rows if row.get("symbol") == symbol]

    def find(self, match: Mapping[str, Any]) -> Row | None:
        return self._part(match).get(self.key_of(match))

    def insert(self, data: list[Row]) -> list[Row]:
        key_of, by_symbol, limit = self.key_of, self.by_symbol, self._limit
        for row in data:
            key = key_of(row)
            part = self._parts.setdefault(row["symbol"] if by_symbol else None, {})
            part[key] = row
            if limit is not None and len(part) > limit:
                del part[next(iter(part))]
        return data

    def update(self, data: list[Row], lost: list[Row]) -> list[Row]:
        key_of, merged = self.key_of, []
        for change in data:
            key = key_of(change)
            part = self._part(change)
            row = part.get(key)
            if row is None and self._is_book:  # a price that changes sides keeps its id
                row = part.pop(key_of({**change, "side": _OTHER_SIDE.get(change["side"])}), None)
            if row is None:
                lost.append(change)
            else:
                row = part[key] = {**row, **change}
                merged.append(row)
        return merged

    def delete(self, data: list[Row], lost: list[Row]) -> list[Row]:
        removed: list[Row] = []
        for keys in data:
            row = self._part(keys).pop(self.key_of(keys), None)
            if row is None:
                lost.append(keys)
            else:
                removed.append(row)
        return removed

    def _part(self, row: Mapping[str, Any]) -> dict[Key, Row]:
        return self._parts.get(row["symbol"] if self.by_symbol else None, {})

    def _remove(self, symbol: str | None, chosen: Mapping[str, Any]) -> None:
        if not chosen:
            self._parts.clear()
        elif symbol is not None and len(chosen) == 1:
            self._parts.pop(symbol, None)
        else:
            for part in self._parts.values():
                for key in [key for key, row in part.items() if _agrees(row, chosen)]:
                    del part[key]


class LogTable(MergedTable):
    """A table without keys that only grows: quotes, trades and their bins. The newest rows of each symbol are kept."""

    def __init__(self, name: str) -> None:
        super().__init__(name, [])
        self._logs: dict[str | None, deque[Row]] = {}

    def rows(self, symbol: str | None = None) -> list[Row]:
        if symbol is not None:
            return list(self._logs.get(symbol, ()))
        return [row for log in self._logs.values() for row in log]

    def find(self, match: Mapping[str, Any]) -> Row | None:
        return next((row for row in reversed(self.rows(match.get("symbol"))) if _agrees(row, match)), None)

    def insert(self, data: list[Row]) -> list[Row]:
        for row in data:
            symbol = row.get("symbol")
            log = self._logs.get(symbol)
            if log is None:
                log = self._logs[symbol] = deque(maxlen=ROWS_KEPT)
            log.append(row)
        return data

    def update(self, data: list[Row], lost: list[Row]) -> list[Row]:
        lost += data
        return []

    delete = update

    def _remove(self, symbol: str | None, chosen: Mapping[str, Any]) -> None:
        for name, log in self._logs.items():
            if symbol in (None, name):
                kept = [row for row in log if not _agrees(row, chosen)]
                log.clear()
                log.extend(kept)


def _agrees(row: Row, wanted: Mapping[str, Any]) -> bool:
    return all(row.get(name) == value for name, value in wanted.items())
