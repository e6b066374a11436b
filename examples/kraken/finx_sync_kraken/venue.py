"""The registration of Kraken as a venue of `finx_sync`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from finx_sync.venues.registry import Show, Venue
from finx_sync_kraken.stream import ENVIRONMENTS, KrakenStream

if TYPE_CHECKING:
    from finx_sync.sandbox.host import SandboxHost, SandboxVenue

__all__ = ["VENUE"]


def _subscribe(stream: KrakenStream, names: Sequence[str]) -> None:
    """Subscribe to channels such as "trade:BTC/USD"; a pair alone stands for its ticker."""
    subscribe = {"ticker": stream.subscribe_ticker, "trade": stream.subscribe_trades, "book": stream.subscribe_book}
    for name in names:
        channel, _, symbol = name.rpartition(":")
        subscribe.get(channel, stream.subscribe_ticker)(symbol if channel in subscribe else name)


def _listen(stream: KrakenStream, show: Show) -> None:
    for register in (stream.on_ticker, stream.on_trade, stream.on_book):
        register(show)


def _sandbox(host: SandboxHost) -> SandboxVenue:
    from finx_sync_kraken.sandbox import serve  # imported only when a sandbox runs, because it needs an extra

    return serve(host)


VENUE: Final = Venue(
    name="kraken",
    example="BTC/USD trade:BTC/USD book:ETH/USD",
    environments=ENVIRONMENTS,
    stream=KrakenStream,
    subscribe=_subscribe,
    listen=_listen,
    sandbox=_sandbox,
)
