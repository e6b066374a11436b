"""BitMEX: the dialect, its messages, the keyed tables."""

from __future__ import annotations

from finx_sync.venues.bitmex.dialect import BitmexCredentials, BitmexDialect
from finx_sync.venues.bitmex.messages import Level, OrderBook, TableItem, TableUpdate
from finx_sync.venues.bitmex.storage import Storage

__all__ = ["BitmexCredentials", "BitmexDialect", "Level", "OrderBook", "Storage", "TableItem", "TableUpdate"]
