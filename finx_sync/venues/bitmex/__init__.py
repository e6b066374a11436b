"""BitMEX: the dialect, its messages, the keyed tables; and the stream, which is made above and found here.

::

    from finx_sync.venues.bitmex import BitmexStream
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finx_sync.venues.bitmex.dialect import BitmexCredentials, BitmexDialect
from finx_sync.venues.bitmex.messages import Level, OrderBook, TableItem, TableUpdate
from finx_sync.venues.bitmex.storage import Storage

if TYPE_CHECKING:
    from finx_sync.streams.bitmex import BitmexStream

__all__ = [
    "BitmexCredentials",
    "BitmexDialect",
    "BitmexStream",
    "Level",
    "OrderBook",
    "Storage",
    "TableItem",
    "TableUpdate",
]


def __getattr__(name: str) -> Any:
    """Fetch the stream from the layer above when it is asked for: the dialect itself needs nothing of it."""
    if name == "BitmexStream":
        from finx_sync.streams.bitmex import BitmexStream

        return BitmexStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
