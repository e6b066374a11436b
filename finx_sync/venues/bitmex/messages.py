"""BitMEX's only message type, the table update, and the rows that handlers get.

Source: BitMEX documentation, *WebSocket API*: sections *Response Format* and *Subscriptions*; frames of July 2021.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from finx_sync.messages import Message, NameReader, unix_seconds, wire_fields

__all__ = ["Action", "Level", "OrderBook", "Row", "TableItem", "TableUpdate"]

Action = Literal["partial", "insert", "update", "delete"]
TIMED_TABLES: Final = frozenset({"quote", "trade", "instrument", "orderBookL2", "orderBookL2_25", "orderBook10"})
"""Tables whose `timestamp` is the time of the change; in others it is the end of a bin, or a time in the future."""
Row = dict[str, Any]
"""A row of a table, with the names on the wire and JSON values."""


def _name(update: TableUpdate) -> str:
    data = update.data
    symbol = (data[0] if data else update.filter or {}).get("symbol")
    return f"{update.table}:{symbol}" if symbol and isinstance(symbol, str) else update.table


@wire_fields
class TableUpdate(Message, frozen=True, kw_only=True, gc=False):
    """An update of a table: its image, new rows, changed fields of rows, or the keys of deleted rows.

    Attributes:
        table: the table's name, like "quote" or "order".
        action: "partial" for the image that all other updates build on, "insert", "update" or "delete".
        data: rows, or parts of rows.
        key_fields: the names of the fields that identify a row; empty for tables that only grow. This and all following
            attributes are None unless the action is "partial".
        filter: the filter of the rows in the partial, like ``{"symbol": "XBTUSD"}``; empty for all rows.
        types: maps field names to their types.
        foreign_keys, attributes: map field names to the tables they refer to, and to how they are indexed.
    """

    table: str
    action: Action
    data: list[Row]
    key_fields: list[str] | None = msgspec.field(default=None, name="keys")
    filter: dict[str, Any] | None = None
    types: dict[str, str] | None = None
    foreign_keys: dict[str, str] | None = msgspec.field(default=None, name="foreignKeys")
    attributes: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """The topic of the first row, like "quote:XBTUSD"; the table's name if it has no symbols."""
        return _name(self)

    name_of = cast(NameReader, staticmethod(_name))

    @property
    def venue_time(self) -> float | None:
        """`timestamp` of the last row, if the table is in `TIMED_TABLES`; None otherwise and for images."""
        if self.action == "partial" or not self.data:
            return None
        return _venue_time(self.table, self.data[-1])


def _venue_time(table: str, row: Row) -> float | None:
    text = row.get("timestamp")
    if table not in TIMED_TABLES or not isinstance(text, str):
        return None
    return unix_seconds(lambda: dt.datetime.fromisoformat(text.replace("Z", "+00:00")))


class _Item(NamedTuple):
    item: Row
    symbol: str | None
    table: str
    action: Action


class TableItem(_Item):
    """A row after a change, which handlers and iterators get. It unpacks into its first four attributes.

    Attributes:
        item: a copy of the complete row; the receiver may change it.
        symbol: the row's symbol; None if the table has no symbols.
        table: the table's name.
        action: the server's action: "partial", "insert", "update", or "delete" if the stream has the option `deletes`.
        received_at: when the bytes were read from the socket, UNIX seconds (wall clock).
    """

    received_at: float

    @property
    def venue_time_has_zone(self) -> bool:
        """Whether the rows of the table have a `venue_time`."""
        return self.table in TIMED_TABLES

    @property
    def venue_time(self) -> float | None:
        """The row's `timestamp` in UNIX seconds, if the table is in `TIMED_TABLES`; None otherwise."""
        return _venue_time(self.table, self.item)

    @classmethod
    def of(cls, row: Row, update: TableUpdate) -> TableItem:
        """Create an item for a row of a message."""
        # tuple.__new__ is faster than the constructor of a named tuple
        item = tuple.__new__(cls, (dict(row), row.get("symbol"), update.table, update.action))
        item.received_at = update.received_at
        return item


class Level(NamedTuple):
    """One level of an order book.

    Attributes:
        price: the price in the symbol's quote currency.
        size: the number of contracts.
        id: BitMEX's id for this price of this symbol; None in orderBook10.
    """

    price: float
    size: float
    id: int | None


class OrderBook(NamedTuple):
    """A snapshot of a symbol's order book.

    Attributes:
        symbol: the symbol.
        bids: the bids, highest price first.
        asks: the asks, lowest price first.
    """

    symbol: str
    bids: list[Level]
    asks: list[Level]
