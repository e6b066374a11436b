"""The tables that the sandbox's BitMEX serves, and their changes over time.

A table returns its rows, for partials, and its changes since the last call, for messages to subscribers. Tests compare
a client's storage with the same rows.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Literal, Protocol

from finx_sync.venues.bitmex.sandbox.market import INDICES, PERIODS, PRODUCTS, BitmexMarket, Row

__all__ = ["ROWS_KEPT", "Change", "ServedTable", "changed", "public_tables"]

ROWS_KEPT: Final = 200
"""The number of rows kept in tables that only grow."""
INDEX_INTERVAL: Final = 1000
"""Milliseconds between two values of an index."""


@dataclass(frozen=True, slots=True)
class Change:
    """The content of one message.

    Attributes:
        action: "insert", "update" or "delete".
        symbol: the symbol of the rows; None in a table without symbols.
        rows: complete rows for an insert, keys and changed fields for an update, or keys for a delete.
    """

    action: Literal["insert", "update", "delete"]
    symbol: str | None
    rows: list[Row]


class ServedTable(Protocol):
    """One table; it has no rows for unknown symbols."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that the table has rows of; empty for tables without symbols and for those of an account."""

    def image(self, symbol: str | None, now: int) -> list[Row]:
        """Return the rows of a partial, of one symbol or of all."""

    def rows(self, symbol: str | None) -> list[Row]:
        """Return the stored rows, of one symbol or of all, without computing new ones."""

    def step(self, symbol: str | None, now: int) -> list[Change]:
        """Return the changes up to `now` since the last call; `symbol` is one of `symbols`, or None if it is empty."""


def changed(before: Row, after: Row, always: tuple[str, ...]) -> Row | None:
    """Return an update of a row: the fields `always` and those that differ; None if only the timestamp differs."""
    fields = {name: value for name, value in after.items() if before.get(name) != value}
    if not fields.keys() - {"timestamp"}:
        return None
    return {name: after[name] for name in always} | fields


class _BySymbol(abc.ABC):
    """The base class of public tables with symbols, whose rows are stored by symbol."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self._symbols = symbols

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    def rows(self, symbol: str | None) -> list[Row]:
        return [row for one in self._symbols if symbol in (None, one) for row in self._known(one)]

    def image(self, symbol: str | None, now: int) -> list[Row]:
        return [row for one in self._symbols if symbol in (None, one) for row in self._image(one, now)]

    @abc.abstractmethod
    def _known(self, symbol: str) -> list[Row]:
        """Return the stored rows of one symbol."""

    @abc.abstractmethod
    def _image(self, symbol: str, now: int) -> list[Row]:
        """Return the rows of a partial of one symbol."""


class _Log(_BySymbol):
    """A table that only grows; its image is the last row.

    Args:
        symbols: the symbols of the table.
        news: returns the new rows at a given time, given the last row.
    """

    def __init__(self, symbols: tuple[str, ...], news: Callable[[str, int, Row | None], list[Row]]) -> None:
        super().__init__(symbols)
        self._news = news
        self._logs: dict[str, deque[Row]] = {symbol: deque(maxlen=ROWS_KEPT) for symbol in symbols}

    def _known(self, symbol: str) -> list[Row]:
        return list(self._logs[symbol])

    def _image(self, symbol: str, now: int) -> list[Row]:
        return list(self._logs[symbol])[-1:]

    def step(self, symbol: str | None, now: int) -> list[Change]:
        """Return the new rows."""
        assert symbol is not None
        log = self._logs[symbol]
        rows = self._news(symbol, now, log[-1] if log else None)
        log.extend(rows)
        return [Change("insert", symbol, rows)] if rows else []


class _Keyed(_BySymbol):
    """A table whose rows change; the difference between two states is sent, deletes first.

    Args:
        symbols: the symbols of the table.
        keys: the fields that identify a row.
        state: returns the rows of a symbol at a given time, by key.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        keys: tuple[str, ...],
        state: Callable[[str, int], dict[Any, Row]],
    ) -> None:
        super().__init__(symbols)
        self._keys = keys
        self._state_of = state
        self._states: dict[str, dict[Any, Row]] = {}

    def _known(self, symbol: str) -> list[Row]:
        return list(self._states.get(symbol, {}).values())

    def _image(self, symbol: str, now: int) -> list[Row]:
        return self._known(symbol)

    def step(self, symbol: str | None, now: int) -> list[Change]:
        """Return the difference from the last state."""
        assert symbol is not None
        before, after = self._states.get(symbol, {}), self._state_of(symbol, now)
        gone = [self._keys_of(row) for key, row in before.items() if key not in after]
        new = [row for key, row in after.items() if key not in before]
        updates = []
        for key in [key for key in after if key in before]:
            if (update := changed(before[key], after[key], self._keys)) is not None:
                updates.append(update)
            else:
                after[key] = before[key]  # a new timestamp alone is not sent
        self._states[symbol] = after
        changes = (Change("delete", symbol, gone), Change("update", symbol, updates), Change("insert", symbol, new))
        return [change for change in changes if change.rows]

    def _keys_of(self, row: Row) -> Row:
        return {name: row[name] for name in self._keys}


class _Fixed:
    """A table without symbols whose rows never change."""

    def __init__(self, *rows: Row) -> None:
        self._rows = list(rows)

    @property
    def symbols(self) -> tuple[str, ...]:
        return ()

    def rows(self, symbol: str | None) -> list[Row]:
        return [row for row in self._rows if symbol in (None, row.get("symbol"))]

    def image(self, symbol: str | None, now: int) -> list[Row]:
        return self.rows(symbol)

    def step(self, symbol: str | None, now: int) -> list[Change]:
        return []


def public_tables(market: BitmexMarket) -> dict[str, ServedTable]:
    """Return all tables that require no key, by name."""
    products, everything = tuple(PRODUCTS), (*PRODUCTS, *INDICES)

    def quotes(symbol: str, now: int, last: Row | None) -> list[Row]:
        row = market.quote_row(symbol, now)
        return [row] if last is None or changed(last, row, ()) is not None else []

    def trades(symbol: str, now: int, last: Row | None) -> list[Row]:
        if symbol in INDICES:
            now = now // INDEX_INTERVAL * INDEX_INTERVAL
        if last is None:  # the latest trade, so that a partial is never empty
            return next(rows for at in count(now, -1) if (rows := market.trade_rows(symbol, at, None)))
        rows = market.trade_rows(symbol, now, last["price"])
        return rows if rows and rows[0]["timestamp"] > last["timestamp"] else []

    def book(depth: int) -> Callable[[str, int], dict[Any, Row]]:
        def state(symbol: str, now: int) -> dict[Any, Row]:
            rows = market.book(symbol, now, depth).values()
            return {(row["id"], row["side"]): row for row in rows}

        return state

    levels = ("symbol", "id", "side")
    tables: dict[str, ServedTable] = {
        "instrument": _Keyed(everything, ("symbol",), lambda symbol, now: {symbol: market.instrument_row(symbol, now)}),
        "quote": _Log(products, quotes),
        "trade": _Log(everything, trades),
        "orderBookL2": _Keyed(products, levels, book(1000)),
        "orderBookL2_25": _Keyed(products, levels, book(25)),
        "orderBook10": _Keyed(products, ("symbol",), lambda symbol, now: {symbol: market.short_book_row(symbol, now)}),
        "funding": _Log(products, _when_new(market.funding_row)),
        "settlement": _Fixed(),
        "liquidation": _Fixed(),
        "insurance": _Fixed({"currency": "XBt", "timestamp": "2022-08-05T12:00:00.000Z", "walletBalance": 3 * 10**12}),
        "announcement": _Fixed(
            {
                "id": 1,
                "link": "https://www.bitmex.com/app/wsAPI",
                "title": "This is a sandbox",
                "content": "Nothing here is worth anything.",
                "date": "2022-08-05T12:00:00.000Z",
            }
        ),
        "chat": _Fixed(),
        "connected": _Fixed({"id": 1, "users": 1, "bots": 1}),
        "publicNotifications": _Fixed(),
    }
    for name, period in PERIODS.items():
        tables[f"tradeBin{name}"] = _Log(products, _bins(period, market.trade_bin_row))
        tables[f"quoteBin{name}"] = _Log(products, _bins(period, lambda symbol, _, end: market.quote_row(symbol, end)))
    return tables


def _when_new(row_of: Callable[[str, int], Row]) -> Callable[[str, int, Row | None], list[Row]]:
    def news(symbol: str, now: int, last: Row | None) -> list[Row]:
        row = row_of(symbol, now)
        return [row] if last is None or row["timestamp"] != last["timestamp"] else []

    return news


def _bins(period: int, row_of: Callable[[str, int, int], Row]) -> Callable[[str, int, Row | None], list[Row]]:
    """Return a function that returns the latest complete bin, whose timestamp is its end."""
    return _when_new(lambda symbol, now: row_of(symbol, period, now // period * period))
