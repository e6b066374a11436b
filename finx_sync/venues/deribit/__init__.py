"""Deribit: its public tickers and index prices, as the messages that FinX makes of them.

`StreamManager(environment="deribit")` is the stream; this is the protocol.
"""

from __future__ import annotations

from finx_sync.venues.deribit.codec import DeribitCodec, Interval
from finx_sync.venues.deribit.tickers import EXCHANGE, ChannelUpdate

__all__ = ["EXCHANGE", "ChannelUpdate", "DeribitCodec", "Interval"]
