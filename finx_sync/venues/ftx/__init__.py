"""FTX: the dialect, its messages, the order book."""

from __future__ import annotations

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
    "FtxTicker",
    "FtxTrade",
]
