"""`FtxWebsocketClient`, the class of FTX's own Python sample, on `FtxStream`.

::

    from finx_sync.compat.ftx import FtxWebsocketClient  # was: from client import FtxWebsocketClient

It connects and subscribes when a method first needs it, as the original does. Differences: a lost connection is opened
again, with a new login and every subscription. No call waits for ever: if the data does not come, `StreamTimeoutError`
is raised. An unknown market raises `SubscriptionRefusedError` and a refused key `AuthorizationError`, where the
original returns empty results for ever. Without a connection, methods wait for a new ticker or book and never return an
old one.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from finx_sync.errors import StreamTimeoutError, UsageError
from finx_sync.functions.inputs import checked_timeout
from finx_sync.messages import Message
from finx_sync.session.options import StreamOptions, takes_options
from finx_sync.state import ENDED, State, StateChange
from finx_sync.venues.ftx.messages import FtxFill, FtxOrder, FtxOrderBook, FtxTicker, Trades
from finx_sync.venues.ftx.requests import subscription_to
from finx_sync.venues.ftx.stream import FtxStream

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["FtxWebsocketClient"]

KEPT: Final = 10_000
"""The number of fills, and of frames of trades of each market, that are kept, as in the original."""

Row = dict[str, Any]


class FtxWebsocketClient:
    """Tickers, trades, order books, orders and fills on request. Any thread may call it, except the dispatch thread.

    Args:
        api_key, api_secret: for orders and fills. A subclass may set `_api_key` and `_api_secret` instead, since the
            original's users edit these in its source.
        subaccount: the subaccount to log in to; None for the main account.
        url: the URL of the websocket; None for the class's `_ENDPOINT`, unless `environment` is given.
        environment: "sandbox" (embedded).
        timeout: seconds that each call may take.
        options: what every stream takes; see `finx_sync.session.options.Options`.
    """

    _ENDPOINT: ClassVar[str] = "wss://ftx.com/ws/"

    @takes_options()
    def __init__(
        self,
        api_key: str = "",
        api_secret: str = "",
        subaccount: str | None = None,
        *,
        url: str | None = None,
        environment: str | None = None,
        timeout: float = 5.0,
        **options: Unpack[StreamOptions],
    ) -> None:
        self._api_key = api_key
        self._api_secret = api_secret
        self._subaccount = subaccount
        self._url = url
        self._environment = environment
        self._timeout = checked_timeout(timeout)
        self._stream_options = options
        self._lock = threading.Lock()  # held while connecting, so that two threads never open two streams
        self._stream: _Keeper | None = None

    def __repr__(self) -> str:
        return f"<FtxWebsocketClient on {self._stream!r}>"

    def __enter__(self) -> FtxWebsocketClient:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Connect, unless connected already.

        Raises:
            AuthorizationError: the key was refused.
            ConnectError: no connection could be opened.
            ConfigError: only half of the credentials is given, or `url` is not a websocket URL.
        """
        self._connected()

    def reconnect(self) -> None:
        """Replace the connection by a new one, with all subscriptions."""
        self._connected().reconnect_now()

    def close(self) -> None:
        """Disconnect, and discard the data received so far; the next call connects again."""
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.stop()

    # The original's methods. Each subscribes at its first call.

    def get_ticker(self, market: str) -> Row:
        """Return the market's newest bid, ask, bidSize, askSize, last and time.

        Raises:
            SubscriptionRefusedError: there is no such market.
            StreamTimeoutError: no data came in time.
            FinxSyncError: the stream has failed. Every method here raises these three errors.
        """
        stream = self._subscribed("ticker", market)
        ticker: Row = stream.wait(lambda: stream.tickers.get(market), self._timeout, f"ticker of {market}")
        return ticker

    def get_trades(self, market: str) -> list[list[Row]]:
        """Return the trades since the first call, oldest first: one list for each frame, as in the original."""
        stream = self._subscribed("trades", market)
        with stream.changed:
            return list(stream.trades[market])

    def get_orderbook(self, market: str) -> dict[str, list[tuple[float, float]]]:
        """Return the market's "bids" and "asks" as (price, size), best first."""
        stream = self._subscribed("orderbook", market)
        book: FtxOrderBook = stream.wait(lambda: stream.order_book(market), self._timeout, f"order book of {market}")
        return {"bids": book.bids, "asks": book.asks}

    def get_orderbook_timestamp(self, market: str) -> float:
        """Return the server's time of the book in UNIX seconds; 0 while there is no book."""
        book = None if self._stream is None else self._stream.order_book(market)
        return 0.0 if book is None else book.time or 0.0

    def wait_for_orderbook_update(self, market: str, timeout: float | None = None) -> None:
        """Wait for the next change of a market's book.

        Args:
            market: the market.
            timeout: seconds; None for the constructor's timeout.
        """
        stream = self._subscribed("orderbook", market)
        before = stream.book_changes[market]
        stream.wait(
            lambda: stream.book_changes[market] > before,
            self._timeout if timeout is None else timeout,
            f"change of the order book of {market}",
        )

    def get_orders(self) -> dict[int, Row]:
        """Return the account's orders that have changed since the first call, by id; closed ones too.

        Raises:
            ConfigError: there are no credentials.
        """
        stream = self._subscribed("orders")
        with stream.changed:
            return dict(stream.orders)

    def get_fills(self) -> list[Row]:
        """Return the account's fills since the first call, oldest first; raises the errors of `get_orders`."""
        stream = self._subscribed("fills")
        with stream.changed:
            return list(stream.fills)

    # Connecting and waiting

    def _connected(self) -> _Keeper:
        with self._lock:
            if self._stream is None or self._stream.state in ENDED:
                stream = _Keeper(
                    self._api_key or None,
                    self._api_secret or None,
                    self._subaccount,
                    url=self._url or (None if self._environment else self._ENDPOINT),
                    environment=self._environment,
                    **self._stream_options,
                )
                stream.start()
                self._stream = stream
            return self._stream

    def _subscribed(self, channel: str, market: str | None = None) -> _Keeper:
        stream = self._connected()
        stream.ask(channel, market, self._timeout)
        return stream


class _Keeper(FtxStream):
    """A stream that keeps the data it receives.

    The dispatch thread writes and callers read. Both hold the lock `changed`, so a caller never copies a collection
    that is changing.
    """

    def __init__(
        self, *credentials: str | None, url: str | None, environment: str | None, **options: Unpack[StreamOptions]
    ) -> None:
        super().__init__(*credentials, url=url, environment=environment, **options)
        self.changed = threading.RLock()
        self.tickers: dict[str, Row] = {}
        self.trades: defaultdict[str, deque[list[Row]]] = defaultdict(lambda: deque(maxlen=KEPT))
        self.fills: deque[Row] = deque(maxlen=KEPT)
        self.orders: dict[int, Row] = {}
        self.book_changes: defaultdict[str, int] = defaultdict(int)
        self.on_ticker(self._keep_ticker)
        self.on_fill(self._keep_fill)
        self.on_order(self._keep_order)
        self.on_orderbook(self._keep_book)
        self.on_state(self._forget_old)
        self._handlers.add(Trades, self._keep_trades)  # frame by frame, as received

    def ask(self, channel: str, market: str | None, timeout: float) -> None:
        """Subscribe, and wait for the server's answer."""
        markets = () if market is None else (market,)
        subscribe: Callable[..., None] = getattr(self, f"subscribe_{channel}")
        subscribe(*markets)
        self._wait_for_answers({subscription_to(channel, market)}, timeout)

    def wait(self, look: Callable[[], Any], timeout: float, what: str) -> Any:
        """Wait until `look` returns a true value, and return that value.

        Raises:
            StreamTimeoutError: it did not within `timeout` seconds; the text names `what`.
            FinxSyncError: the stream ended meanwhile.
        """
        found = None

        def is_over() -> bool:
            nonlocal found
            with self.changed:
                found = look()
            return bool(found) or self.state in ENDED

        if not self._venue_changes.wait_for(is_over, timeout):
            raise StreamTimeoutError(f"no {what} within {timeout:g} s")
        if not found:
            raise self.failure or UsageError("the client was closed meanwhile")
        return found

    # On the dispatch thread

    def _keep_ticker(self, ticker: FtxTicker) -> None:
        with self.changed:
            self.tickers[ticker.market] = _data(ticker)
        self._venue_changes.notify()

    def _keep_fill(self, fill: FtxFill) -> None:
        with self.changed:
            self.fills.append(fill.to_dict())

    def _keep_order(self, order: FtxOrder) -> None:
        with self.changed:
            self.orders.pop(order.id, None)
            self.orders[order.id] = order.to_dict()
            if len(self.orders) > KEPT:
                del self.orders[next(iter(self.orders))]

    def _keep_book(self, book: FtxOrderBook) -> None:
        with self.changed:
            self.book_changes[book.market] += 1
        self._venue_changes.notify()

    def _keep_trades(self, frame: Trades) -> None:
        with self.changed:
            self.trades[frame.name].append([_data(trade) for trade in frame.events])

    def _forget_old(self, change: StateChange) -> None:
        if change.new is State.RECONNECTING:
            with self.changed:
                self.tickers.clear()


def _data(message: Message) -> Row:
    """Return a message as on the wire, where the data does not repeat the market."""
    row = message.to_dict()
    del row["market"]
    return row
