"""FTX's entry in the registry of venues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from finx_sync.venues.ftx.codec import ENVIRONMENTS
from finx_sync.venues.ftx.stream import FtxStream
from finx_sync.venues.registry import Show, Venue

if TYPE_CHECKING:
    from finx_sync.sandbox.host import SandboxHost, SandboxVenue

__all__ = ["VENUE"]

CHANNELS: Final = ("markets", "fills", "orders", "ftxpay")
MARKET_CHANNELS: Final = ("ticker", "trades", "orderbook")


def _subscribe(stream: FtxStream, names: Sequence[str]) -> None:
    """Subscribe to names: a channel, a channel of a market ("trades:BTC-PERP"), or a market, for its ticker."""
    for name in names:
        channel, colon, market = name.partition(":")
        if name in CHANNELS:
            getattr(stream, f"subscribe_{name}")()
        elif colon and channel in MARKET_CHANNELS:
            getattr(stream, f"subscribe_{channel}")(market)
        else:
            stream.subscribe_ticker(name)


def _listen(stream: FtxStream, show: Show) -> None:
    for register in (stream.on_ticker, stream.on_trade, stream.on_orderbook, stream.on_fill, stream.on_order):
        register(show)
    stream.on_markets(show)
    stream.on_ftxpay(show)


def _sandbox(host: SandboxHost) -> SandboxVenue:
    from finx_sync.venues.ftx.sandbox import serve

    return serve(host)


VENUE: Final = Venue(
    name="ftx",
    example="BTC-PERP trades:BTC-PERP orderbook:BTC/USD fills",
    environments=ENVIRONMENTS,
    stream=FtxStream,
    subscribe=_subscribe,
    listen=_listen,
    credentials={"api_key": "FTX_API_KEY", "api_secret": "FTX_API_SECRET"},
    sandbox=_sandbox,
)
