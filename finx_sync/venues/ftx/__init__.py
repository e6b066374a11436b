"""FTX's codec, its messages, the order book, and the stream.

::

    from finx_sync.venues.ftx import FtxStream
"""

from __future__ import annotations

from finx_sync.venues.ftx.book import FtxBook
from finx_sync.venues.ftx.codec import FtxCodec
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
from finx_sync.venues.ftx.stream import FtxStream

__all__ = [
    "FtxBook",
    "FtxCodec",
    "FtxCredentials",
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
