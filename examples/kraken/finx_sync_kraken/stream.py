"""`KrakenStream`: Kraken's public tickers, trades and order books into callbacks."""

from __future__ import annotations

import re
from typing import Any, Final

from finx_sync.config import Account, address_of
from finx_sync.errors import InvalidInputError
from finx_sync.messages import Message
from finx_sync.pipeline.iterator import MessageIterator
from finx_sync.pipeline.latest import LastTable
from finx_sync.state import ENDED
from finx_sync.stream import Stream
from finx_sync.stream.checks import checked_names
from finx_sync.venues.base import Subscription
from finx_sync_kraken.codec import DEFAULT_DEPTH, DEPTHS, KrakenCodec
from finx_sync_kraken.messages import KrakenOrderBook, KrakenTicker, KrakenTrade
from finx_sync_kraken.state import KrakenState

__all__ = ["ENVIRONMENTS", "KrakenStream"]

EXAMPLE: Final = "wss://ws.kraken.com"
ENVIRONMENTS: Final[dict[str, str | None]] = {"production": EXAMPLE, "sandbox": None}

_SYMBOL: Final = re.compile(r"[^\s/\"\\]+/[^\s/\"\\]+")


class KrakenStream(Stream[KrakenTicker | KrakenTrade | KrakenOrderBook]):
    """Streams from Kraken. Making one does no I/O, and no credentials are needed.

    Args:
        environment: "production" (the usual one) or "sandbox" (embedded).
        url: another server, like "wss://host".
        options: what every stream takes; see `finx_sync.session.options.Options`.

    Raises:
        ConfigError: no such environment, no URL, or an option that cannot be right.
    """

    def __init__(self, *, environment: str | None = None, url: str | None = None, **options: Any) -> None:
        address = address_of("kraken", ENVIRONMENTS, environment, url, EXAMPLE)
        self._kraken = KrakenCodec(address or "")
        super().__init__(self._kraken, Account(address, None), **options)
        self._latest[KrakenTrade] = LastTable(self._kraken.decode)

    def _check_name(self, kind: type[Message], name: str) -> None:
        _checked((name,))

    # Handlers, which run on the dispatch thread

    def on_ticker(self, handler: Any, /, *symbols: str) -> Any:
        """Call a function with every KrakenTicker (``@stream.on_ticker``), or some (``@stream.on_ticker("BTC/USD")``).

        A plain call works too, ``stream.on_ticker(handler, "BTC/USD")``, and returns the handler.

        Raises:
            HandlerError: it cannot be called with one argument.
            InvalidInputError: no pair, like "BTC/USD".
        """
        return self._register(KrakenTicker, handler, symbols)

    def on_trade(self, handler: Any, /, *symbols: str) -> Any:
        """Call a function with every KrakenTrade, once; used like `on_ticker`."""
        return self._register(KrakenTrade, handler, symbols)

    def on_book(self, handler: Any, /, *symbols: str) -> Any:
        """Call a function with the whole KrakenOrderBook after each change of it; used like `on_ticker`."""
        return self._register(KrakenOrderBook, handler, symbols)

    # Subscriptions

    def subscribe_ticker(self, *symbols: str) -> None:
        """Ask for the best prices of pairs, now or when the stream starts, and again after every reconnect.

        Raises:
            InvalidInputError: no pair, like "BTC/USD".
        """
        self._ask("ticker", symbols)

    def subscribe_trades(self, *symbols: str) -> None:
        """Ask for the trades of pairs, beginning with the last 50; otherwise as `subscribe_ticker`."""
        self._ask("trade", symbols)

    def subscribe_book(self, *symbols: str, depth: int = DEFAULT_DEPTH) -> None:
        """Ask for the order books of pairs; every update's checksum is verified. Otherwise as `subscribe_ticker`.

        Args:
            symbols: the pairs.
            depth: levels a side: 10, 25, 100, 500 or 1000.

        Raises:
            InvalidInputError: no pair, another depth, or the book of one of them is subscribed in another depth.
        """
        if depth not in DEPTHS:
            raise InvalidInputError(f"Kraken has books of {', '.join(map(str, DEPTHS))} levels a side, not {depth!r}")
        wanted = self._subscriptions.desired()
        for symbol in _checked(symbols):
            if Subscription("book", symbol) in wanted and self._kraken.depth(symbol) != depth:
                raise InvalidInputError(f"the book of {symbol} is subscribed in another depth; unsubscribe it first")
        self._kraken.depths.update(dict.fromkeys(symbols, depth))
        self._ask("book", symbols)

    def unsubscribe_ticker(self, *symbols: str) -> None:
        """Want the tickers of pairs no more."""
        self._give_up("ticker", symbols)

    def unsubscribe_trades(self, *symbols: str) -> None:
        """Want the trades of pairs no more."""
        self._give_up("trade", symbols)

    def unsubscribe_book(self, *symbols: str) -> None:
        """Want the order books of pairs no more; `order_book` forgets them."""
        self._give_up("book", symbols)

    def _ask(self, channel: str, symbols: tuple[str, ...]) -> None:
        self._subscribe(*(Subscription(channel, symbol) for symbol in _checked(symbols)))

    def _give_up(self, channel: str, symbols: tuple[str, ...]) -> None:
        for symbol in _checked(symbols):
            self._unsubscribe(Subscription(channel, symbol))

    # What is known

    def order_book(self, symbol: str) -> KrakenOrderBook | None:
        """A pair's order book as it stands, verified by its checksum; safe from any thread, never waits.

        Returns:
            None while there is none that can be trusted: before the server's snapshot, while not connected, and after a
            wrong checksum until the next snapshot.
        """
        session = self._session
        if session is None or session.state.state in ENDED or not session.wants(Subscription("book", symbol)):
            return None
        assert isinstance(self._venue, KrakenState)
        return self._venue.book(symbol)

    def latest(self, name: str) -> KrakenTicker | KrakenTrade | None:
        """A pair's newest ticker, or else trade; None when there was none yet. Never waits."""
        checked_names((name,))
        ticker: KrakenTicker | None = self._latest[KrakenTicker].get(name)
        trade: KrakenTrade | None = self._latest[KrakenTrade].get(name)
        return ticker or trade

    def _fill(self, iterator: MessageIterator[Any], names: tuple[str, ...]) -> None:
        for kind in (KrakenTicker, KrakenTrade, KrakenOrderBook):
            self._handlers.add(kind, iterator.put, names or None)


def _checked(symbols: tuple[str, ...]) -> tuple[str, ...]:
    """The same names.

    Raises:
        InvalidInputError: one of them is no pair, or there is none.
    """
    for symbol in checked_names(symbols):
        if not _SYMBOL.fullmatch(symbol):
            raise InvalidInputError(f"{symbol!r} is no pair of Kraken's; it looks like 'BTC/USD'")
    if not symbols:
        raise InvalidInputError("name at least one pair, like 'BTC/USD'")
    return symbols
