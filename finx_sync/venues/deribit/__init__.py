"""Deribit's protocol: public tickers and index prices, converted to FinX's message types.

The stream is `StreamManager(environment="deribit")`.
"""

from __future__ import annotations

from finx_sync.venues.deribit.codec import DeribitCodec, Interval
from finx_sync.venues.deribit.tickers import EXCHANGE, ChannelUpdate

__all__ = ["EXCHANGE", "ChannelUpdate", "DeribitCodec", "Interval"]
