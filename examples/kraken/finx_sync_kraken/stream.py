"""`KrakenStream`: Kraken's tickers, trades and order books into callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from finx_sync.config import Account, address_of
from finx_sync.errors import ConfigError, InvalidInputError
from finx_sync.stream import Stream
from finx_sync.venues.base import Subscription
from finx_sync_kraken.codec import DEPTHS, KrakenCodec
from finx_sync_kraken.messages import KrakenBook, KrakenTicker, KrakenTrade

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from finx_sync.session.options import StreamOptions

__all__ = ["ENVIRONMENTS", "KrakenStream"]

URL: Final = "wss://ws.kraken.com"
ENVIRONMENTS: Final[dict[str, str | None]] = {"production": URL, "sandbox": None}


class KrakenStream(Stream[KrakenTicker | KrakenTrade | KrakenBook]):
    """Streams from Kraken's public WebSocket v2. Making one does no I/O.

    Args:
        environment: "production" or "sandbox" (embedded); None for the first.
        url: another address.
        depth: levels of each side of a book, one of `DEPTHS`.
        options: what every stream takes.

    Raises:
        ConfigError: no such environment or depth, or an option that cannot be right.
    """

    def __init__(
        self,
        *,
        environment: str | None = None,
        url: str | None = None,
        depth: int = DEPTHS[0],
        **options: Unpack[StreamOptions],
    ) -> None:
        if depth not in DEPTHS:
            raise ConfigError(f"depth is one of {', '.join(map(str, DEPTHS))}, not {depth!r}")
        address = address_of("kraken", ENVIRONMENTS, environment, url, URL)
        super().__init__(KrakenCodec(address or "", depth), Account(address, None), **options)

    def on_ticker(self, handler: Any = None, /, *symbols: str) -> Any:
        """Call a function with every ticker (``@stream.on_ticker``), or with a symbol's (``("BTC/USD")``)."""
        return self._register(KrakenTicker, handler, symbols)

    def on_trade(self, handler: Any = None, /, *symbols: str) -> Any:
        """Call a function with every trade; used like `on_ticker`."""
        return self._register(KrakenTrade, handler, symbols)

    def on_book(self, handler: Any = None, /, *symbols: str) -> Any:
        """Call a function with every verified order book; used like `on_ticker`."""
        return self._register(KrakenBook, handler, symbols)

    def subscribe_ticker(self, *symbols: str) -> None:
        """Ask for the best prices of symbols, now or when the stream starts, and again after every reconnect.

        Raises:
            InvalidInputError: no symbol, like "BTC/USD".
        """
        self._ask("ticker", symbols, self._subscribe)

    def subscribe_trades(self, *symbols: str) -> None:
        """Ask for trades; those that were made during a short outage are handed on too. Otherwise as above."""
        self._ask("trade", symbols, self._subscribe)

    def subscribe_book(self, *symbols: str) -> None:
        """Ask for order books; otherwise as `subscribe_ticker`."""
        self._ask("book", symbols, self._subscribe)

    def unsubscribe_ticker(self, *symbols: str) -> None:
        """Ask for tickers no longer."""
        self._ask("ticker", symbols, self._unsubscribe)

    def unsubscribe_trades(self, *symbols: str) -> None:
        """Ask for trades no longer."""
        self._ask("trade", symbols, self._unsubscribe)

    def unsubscribe_book(self, *symbols: str) -> None:
        """Ask for books no longer."""
        self._ask("book", symbols, self._unsubscribe)

    def _ask(self, channel: str, symbols: tuple[str, ...], act: Callable[..., object]) -> None:
        for symbol in symbols:
            if not isinstance(symbol, str) or symbol.count("/") != 1 or not symbol.strip("/"):
                raise InvalidInputError(f"{symbol!r} is not a symbol; it looks like 'BTC/USD'")
        for symbol in symbols:
            act(Subscription(channel, symbol))

    def order_book(self, symbol: str) -> KrakenBook | None:
        """A symbol's book, verified by its checksum; None while there is none that can be trusted. Any thread."""
        state: Any = self._venue
        return state.book(symbol) if self.is_connected else None
