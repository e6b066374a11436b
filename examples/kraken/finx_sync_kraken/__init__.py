"""Kraken's public market data for finx_sync."""

from finx_sync_kraken.messages import KrakenBook, KrakenTicker, KrakenTrade
from finx_sync_kraken.stream import KrakenStream

__all__ = ["KrakenBook", "KrakenStream", "KrakenTicker", "KrakenTrade"]
