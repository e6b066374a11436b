"""BitMEX's codec, its messages, the keyed tables, and the stream.

::

    from finx_sync.venues.bitmex import BitmexStream
"""

from __future__ import annotations

from finx_sync.venues.bitmex.codec import BitmexCodec, BitmexCredentials
from finx_sync.venues.bitmex.messages import Level, OrderBook, TableItem, TableUpdate
from finx_sync.venues.bitmex.storage import Storage
from finx_sync.venues.bitmex.stream import BitmexStream

__all__ = [
    "BitmexCodec",
    "BitmexCredentials",
    "BitmexStream",
    "Level",
    "OrderBook",
    "Storage",
    "TableItem",
    "TableUpdate",
]
