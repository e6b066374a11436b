"""`KrakenStream`: delivers Kraken's public tickers, trades and order books to callbacks."""

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
    """Streams from Kraken. Creating a stream does no I/O; no credentials are needed.

    Args:
        environment: "production" (the default) or "sandbox" (embedded).
        url: the address of another server, like "wss://host".
        options: the options of every stream; see `finx_sync.session.options.Options`.

    Raises:
        ConfigError: the environment does not exist, `url` is not a URL, or an option is invalid.
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
        """Call a function with every KrakenTicker, or with those of some pairs (``@stream.on_ticker("BTC/USD")``).

        A plain call, ``stream.on_ticker(handler, "BTC/USD")``, works too and returns the handler.

        Raises:
            HandlerError: the handler cannot be called with one argument.
            InvalidInputError: a name is not a pair like "BTC/USD".
        """
        return self._register(KrakenTicker, handler, symbols)

    def on_trade(self, handler: Any, /, *symbols: str) -> Any:
        """Call a function with every KrakenTrade, each once; used like `on_ticker`."""
        return self._register(KrakenTrade, handler, symbols)

    def on_book(self, handler: Any, /, *symbols: str) -> Any:
        """Call a function with the whole KrakenOrderBook after each change; used like `on_ticker`."""
        return self._register(KrakenOrderBook, handler, symbols)

    # Subscriptions

    def subscribe_ticker(self, *symbols: str) -> None:
        """Subscribe to the best prices of pairs, now or when the stream starts; renewed after every reconnect.

        Raises:
            InvalidInputError: a name is not a pair like "BTC/USD".
        """
        self._ask("ticker", symbols)

    def subscribe_trades(self, *symbols: str) -> None:
        """Subscribe to the trades of pairs, beginning with the last 50; otherwise like `subscribe_ticker`."""
        self._ask("trade", symbols)

    def subscribe_book(self, *symbols: str, depth: int = DEFAULT_DEPTH) -> None:
        """Subscribe to the order books of pairs, whose checksums are verified; otherwise like `subscribe_ticker`.

        Args:
            symbols: the pairs.
            depth: the number of levels on each side: 10, 25, 100, 500 or 1000.

        Raises:
            InvalidInputError: a name is not a pair, Kraken does not have this depth, or a pair's book is already
                subscribed with another depth.
        """
        if depth not in DEPTHS:
            raise InvalidInputError(f"Kraken has books with {', '.join(map(str, DEPTHS))} levels a side, not {depth!r}")
        wanted = self._subscriptions.desired()
        for symbol in _checked(symbols):
            if Subscription("book", symbol) in wanted and self._kraken.depth(symbol) != depth:
                raise InvalidInputError(f"the book of {symbol} is subscribed with another depth; unsubscribe it first")
        self._kraken.depths.update(dict.fromkeys(symbols, depth))
        self._ask("book", symbols)

    def unsubscribe_ticker(self, *symbols: str) -> None:
        """Unsubscribe from the tickers of pairs."""
        self._give_up("ticker", symbols)

    def unsubscribe_trades(self, *symbols: str) -> None:
        """Unsubscribe from the trades of pairs."""
        self._give_up("trade", symbols)

    def unsubscribe_book(self, *symbols: str) -> None:
        """Unsubscribe from the order books of pairs; `order_book` then returns None for them."""
        self._give_up("book", symbols)

    def _ask(self, channel: str, symbols: tuple[str, ...]) -> None:
        self._subscribe(*(Subscription(channel, symbol) for symbol in _checked(symbols)))

    def _give_up(self, channel: str, symbols: tuple[str, ...]) -> None:
        for symbol in _checked(symbols):
            self._unsubscribe(Subscription(channel, symbol))

    # Current values

    def order_book(self, symbol: str) -> KrakenOrderBook | None:
        """Return a pair's current order book, verified by its checksum. Any thread; does not wait.

        Returns:
            None if there is no verified book: before the server's snapshot, while not connected, and after a wrong
            checksum until the next snapshot.
        """
        session = self._session
        if session is None or session.state.state in ENDED or not session.wants(Subscription("book", symbol)):
            return None
        assert isinstance(self._venue, KrakenState)
        return self._venue.book(symbol)

    def latest(self, name: str) -> KrakenTicker | KrakenTrade | None:
        """Return a pair's newest ticker, else its newest trade; None if there is neither. Does not wait."""
        checked_names((name,))
        ticker: KrakenTicker | None = self._latest[KrakenTicker].get(name)
        trade: KrakenTrade | None = self._latest[KrakenTrade].get(name)
        return ticker or trade

    def _fill(self, iterator: MessageIterator[Any], names: tuple[str, ...]) -> None:
        for kind in (KrakenTicker, KrakenTrade, KrakenOrderBook):
            self._handlers.add(kind, iterator.put, names or None)


def _checked(symbols: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names unchanged.

    Raises:
        InvalidInputError: a name is not a pair, or there are no names.
    """
    for symbol in checked_names(symbols):
        if not _SYMBOL.fullmatch(symbol):
            raise InvalidInputError(f"{symbol!r} is not a pair of Kraken, which looks like 'BTC/USD'")
    if not symbols:
        raise InvalidInputError("name at least one pair, like 'BTC/USD'")
    return symbols
