"""FTX: the dialect, its messages, the order book; and the stream, which is made above and found here.

::

    from finx_sync.venues.ftx import FtxStream
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finx_sync.venues.ftx.book import Book
from finx_sync.venues.ftx.dialect import FtxDialect
from finx_sync.venues.ftx.messages import (
    FtxFill,
    FtxGroupedOrderBook,
    FtxMarkets,
    FtxOrder,
    FtxOrderBook,
    FtxPay,
    FtxTicker,
    FtxTrade,
)
from finx_sync.venues.ftx.requests import FtxCredentials

if TYPE_CHECKING:
    from finx_sync.streams.ftx import FtxStream

__all__ = [
    "Book",
    "FtxCredentials",
    "FtxDialect",
    "FtxFill",
    "FtxGroupedOrderBook",
    "FtxMarkets",
    "FtxOrder",
    "FtxOrderBook",
    "FtxPay",
    "FtxStream",
    "FtxTicker",
    "FtxTrade",
]


def __getattr__(name: str) -> Any:
    """Fetch the stream from the layer above when it is asked for: the dialect itself needs nothing of it."""
    if name == "FtxStream":
        from finx_sync.streams.ftx import FtxStream

        return FtxStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
