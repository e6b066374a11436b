"""The server's tables, merged from partials, inserts, updates and deletes. It reads no clock; times are arguments.

The rules (BitMEX documentation, *WebSocket API*; in brackets, what others do): messages about a topic are ignored
before its partial. A partial replaces the rows that match its filter and no others [the official client removes the
rows of other symbols]. Rows are found by the keys named in the partial, in constant time [others search from the first
row]. An update contains only the changed fields; in a book it has no price, which the id stands for. A row is never
changed, only replaced, so a row that was read remains a consistent snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from finx_sync.errors import InvalidInputError
from finx_sync.venues.bitmex.messages import Level, OrderBook, Row, TableUpdate
from finx_sync.venues.bitmex.tables import BOOKS, KeyedTable, MergedTable, new_table

__all__ = ["Storage"]

FINISHED_ORDERS_KEPT: Final = 60.0
"""Seconds for which a filled, cancelled or rejected order is kept."""
FINISHED: Final = frozenset({"Filled", "Canceled", "Rejected", "Expired", "DoneForDay", "Stopped"})
"""The values of `ordStatus` of orders that can no longer be filled (FIX 4.4, tag 39, with BitMEX's names)."""


class _Tables(Mapping[str, list[Row]]):
    """A mapping of names to tables, which makes a list of rows on each access."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getitem__(self, name: str) -> list[Row]:
        if name not in self._storage.keys:
            raise KeyError(name)
        return self._storage.rows(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._storage.keys)

    def __len__(self) -> int:
        return len(self._storage.keys)


class Storage:
    """All tables of a stream.

    Args:
        lock: held while a message is merged and while rows are read, so that readers never see a partly merged message.

    Attributes:
        data: maps table names to lists of rows, which are made on each access. Rows are shared and never change, so do
            not modify them.
        lost: the (table, symbol) of changes that could not be merged, because the row is missing or its keys are.
            `BitmexState` removes them and requests new partials. Only for the dispatch thread.
    """

    def __init__(self, lock: AbstractContextManager[Any] | None = None) -> None:
        self._lock = nullcontext() if lock is None else lock
        self._tables: dict[str, MergedTable] = {}
        self._finished: deque[tuple[float, Row]] = deque()
        self.lost: set[tuple[str, str | None]] = set()
        self.data: Mapping[str, list[Row]] = _Tables(self)

    @property
    def keys(self) -> dict[str, list[str]]:
        """Maps the names of the tables received so far to the fields that identify their rows."""
        with self._lock:
            return {name: list(table.keys) for name, table in self._tables.items()}

    def rows(self, table: str, symbol: str | None = None) -> list[Row]:
        """Return the rows of a table, or of a symbol in it; an empty list if nothing has been received yet."""
        with self._lock:
            found = self._tables.get(table)
            return [] if found is None else found.rows(symbol)

    def is_ready(self, table: str, symbol: str | None = None) -> bool:
        """Return whether the partial of a table, or one that covers a symbol in it, has been received."""
        with self._lock:
            found = self._tables.get(table)
            return found is not None and found.is_ready(symbol)

    def find_item_by_keys(self, table: str, match: Mapping[str, Any]) -> Row | None:
        """Return the row of a table whose key fields have these values, in constant time; None if there is none.

        In a table without keys (quote, trade and their bins), return the newest row that matches all of `match`.

        Raises:
            InvalidInputError: `match` lacks a key field.
        """
        with self._lock:
            found = self._tables.get(table)
            if found is None:
                return None
            for name in found.keys:
                if name not in match:
                    raise InvalidInputError(f"a row of {table} is found by {', '.join(found.keys)}; {name} is missing")
            return found.find(match)

    def order_book(self, symbol: str) -> OrderBook:
        """Return a symbol's book, best prices first, from the deepest book table received; empty if there is none."""
        with self._lock:
            tables = [self._tables[name] for name in BOOKS if name in self._tables]
            rows = next((rows for table in tables if (rows := table.rows(symbol))), None)
            if rows is None:
                return self._short_book(symbol)
        levels: dict[str, list[Level]] = {"Buy": [], "Sell": []}
        for row in rows:
            levels[row["side"]].append(Level(row["price"], row["size"], row["id"]))
        return OrderBook(symbol, sorted(levels["Buy"], reverse=True), sorted(levels["Sell"]))

    def _short_book(self, symbol: str) -> OrderBook:
        table = self._tables.get("orderBook10")
        rows = table.rows(symbol) if table is not None else []
        sides = (rows[-1]["bids"], rows[-1]["asks"]) if rows else ([], [])
        bids, asks = ([Level(price, size, None) for price, size in side] for side in sides)
        return OrderBook(symbol, bids, asks)

    # Writing

    def apply(self, update: TableUpdate, now: float) -> list[Row]:
        """Merge a message.

        Args:
            update: the message.
            now: seconds on a monotonic clock.

        Returns:
            The complete rows that were inserted or changed, or those that were deleted; none before the partial.
        """
        with self._lock:
            if self._finished:
                self._forget_finished(now)
            try:
                rows = self._merge(update)
            except (KeyError, TypeError, RecursionError):  # a row lacks a key field, or its value cannot be a key
                symbol = (update.filter or {}).get("symbol")
                self.lost.add((update.table, symbol if isinstance(symbol, str) else None))
                return []
            if update.table == "order":
                self._finished.extend((now + FINISHED_ORDERS_KEPT, row) for row in rows if _is_finished(row))
            return rows

    def _merge(self, update: TableUpdate) -> list[Row]:
        name, action, data = update.table, update.action, update.data
        table = self._tables.get(name)
        if action == "partial":
            keys = update.key_fields or []
            if table is None or table.keys != keys:
                table = self._tables[name] = new_table(name, keys)
            return table.partial(update.filter or {}, data)
        if table is None:
            return []
        if len(data) != 1:
            data = [row for row in data if table.is_ready(row.get("symbol"))]
        elif not table.is_ready(data[0].get("symbol")):
            return []
        if action == "insert":
            return table.insert(data)
        lost: list[Row] = []
        rows = table.update(data, lost) if action == "update" else table.delete(data, lost)
        self.lost.update((name, row.get("symbol")) for row in lost)
        return rows

    def expire(self, now: float) -> None:
        """Remove the orders that were finished at least a minute ago; `now` as in `apply`."""
        with self._lock:
            self._forget_finished(now)

    def forget(self, table: str, symbol: str | None = None) -> None:
        """Remove the rows of a topic; changes of it are ignored until its next partial."""
        with self._lock:
            if table in self._tables:
                self._tables[table].forget({} if symbol is None else {"symbol": symbol})

    def suspend(self, tables: Iterable[str]) -> None:
        """Keep tables readable in their current state, after the connection that updated them was lost."""
        with self._lock:
            for name in tables:
                if name in self._tables:
                    self._tables[name].suspend()

    def clear(self, tables: Iterable[str]) -> None:
        """Remove tables, because a new connection sends new ones."""
        with self._lock:
            for name in tables:
                self._tables.pop(name, None)
                self.lost = {one for one in self.lost if one[0] != name}

    def _forget_finished(self, now: float) -> None:
        table = self._tables.get("order")
        while self._finished and self._finished[0][0] <= now:
            _, order = self._finished.popleft()
            try:
                if isinstance(table, KeyedTable) and (row := table.find(order)) is not None and _is_finished(row):
                    table.delete([row], [])
            except (KeyError, TypeError):  # a later image has other keys, which this row lacks
                continue


def _is_finished(order: Row) -> bool:
    status = order.get("ordStatus")
    return order.get("leavesQty") == 0 or (isinstance(status, str) and status in FINISHED)
