"""BitMEX's one kind of message, the table update, and what a handler is given of it.

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
"""Tables whose `timestamp` is the moment of the change; elsewhere it is the end of a bin, or a time to come."""
Row = dict[str, Any]
"""A table's row: wire names and JSON values."""


def _name(update: TableUpdate) -> str:
    data = update.data
    symbol = (data[0] if data else update.filter or {}).get("symbol")
    return f"{update.table}:{symbol}" if symbol and isinstance(symbol, str) else update.table


@wire_fields
class TableUpdate(Message, frozen=True, kw_only=True, gc=False):
    """What the server says about a table: its image, new rows, changed fields of rows, or the keys of deleted ones.

    Attributes:
        table: its name, like "quote" or "order".
        action: "partial" is the image that everything else builds on.
        data: rows, or parts of rows.
        key_fields: names of the fields that identify a row; empty for tables that only grow. This and what follows
            come with a partial and are None otherwise.
        filter: which rows the partial is the image of, like ``{"symbol": "XBTUSD"}``; empty for all.
        types: field names and their types.
        foreign_keys, attributes: field names and what they refer to, or how they are indexed.
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
        """The topic of its first row, like "quote:XBTUSD"; the table where it has no symbols."""
        return _name(self)

    name_of = cast(NameReader, staticmethod(_name))

    @property
    def venue_time(self) -> float | None:
        """`timestamp` of the last row, in tables that say when a row came to be so; None in all others."""
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
    """What handlers and iterators get: one row after it was merged. It unpacks into its first four attributes.

    Attributes:
        item: the whole row, the receiver's own copy.
        symbol: the row's; None where the table is not about symbols.
        table: its table.
        action: what the server did: "partial", "insert", "update", or "delete" where deletes are asked for.
        received_at: when the bytes were read from the socket, UNIX seconds (wall clock).
    """

    received_at: float

    @property
    def venue_time_has_zone(self) -> bool:
        """Whether the rows of its table have a `venue_time` at all."""
        return self.table in TIMED_TABLES

    @property
    def venue_time(self) -> float | None:
        """The row's `timestamp`, UNIX seconds, in tables where it says when the row came to be so; else None."""
        return _venue_time(self.table, self.item)

    @classmethod
    def of(cls, row: Row, update: TableUpdate) -> TableItem:
        """A row that a message brought."""
        item = tuple.__new__(cls, (dict(row), row.get("symbol"), update.table, update.action))  # past namedtuple's own
        item.received_at = update.received_at
        return item


class Level(NamedTuple):
    """One price of an order book.

    Attributes:
        price: in the symbol's quote currency.
        size: contracts.
        id: BitMEX's number for this price of this symbol; None in orderBook10.
    """

    price: float
    size: float
    id: int | None


class OrderBook(NamedTuple):
    """A symbol's book at one moment.

    Attributes:
        symbol: whose.
        bids: best, which is highest, first.
        asks: best, which is lowest, first.
    """

    symbol: str
    bids: list[Level]
    asks: list[Level]
