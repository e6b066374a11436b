"""`BitMEXWebsocket`, the class of BitMEX's official Python connector (``bitmex-ws`` 1.5.0), on `BitmexStream`.

::

    from finx_sync.compat.bitmex import BitMEXWebsocket  # was: from bitmex_websocket import BitMEXWebsocket

Differences: a lost connection is opened again, with every table; ``ws.sock.connected`` stays true meanwhile, so that a
loop over it continues. Tables are merged by their keys. No call waits for ever: a table that does not come raises
`StreamTimeoutError`, one that the server refuses raises `SubscriptionRefusedError`, and a refused key raises
`AuthorizationError`. Without a key, account tables are not requested.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from finx_sync.errors import ConfigError, FinxSyncError, SubscriptionRefusedError, UsageError
from finx_sync.functions.inputs import checked_timeout
from finx_sync.redaction import OwnFilter
from finx_sync.session.options import StreamOptions, takes_options
from finx_sync.state import ENDED
from finx_sync.venues.bitmex.messages import Row
from finx_sync.venues.bitmex.stream import BitmexStream
from finx_sync.venues.bitmex.topics import PRIVATE_TABLES, SYMBOLLESS_TABLES

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DEFAULT_SUBS", "BitMEXWebsocket"]

DEFAULT_SUBS: Final = ("execution", "instrument", "margin", "order", "orderBookL2", "position", "quote", "trade")
"""The tables that the original subscribes to."""

logger = logging.getLogger(__name__)
logger.addFilter(OwnFilter())

_SCHEMES: Final = {"https": "wss", "http": "ws"}


class BitMEXWebsocket:
    """The tables of one symbol and of an account; connected when the constructor returns.

    Args:
        endpoint: like "wss://ws.testnet.bitmex.com/realtime"; the ``https://.../api/v1`` of older versions works too.
            None if `environment` is given.
        symbol: like "XBTUSD".
        api_key, api_secret: both or neither.
        subscriptions: names of tables.
        environment: "production", "test" or "sandbox" (embedded), instead of an endpoint.
        timeout: seconds that connecting may take, and later each access to a table that is being filled.
        options: what every stream takes; see `finx_sync.session.options.Options`.

    Attributes:
        ws: has ``ws.sock.connected``, which is true until the stream ends, and ``ws.close()``.
        stream: the underlying `BitmexStream`.

    Raises:
        ConfigError: only half of the credentials is given (a ValueError, as in the original), or the endpoint is not a
            websocket URL.
        AuthorizationError: the key was refused.
        SubscriptionRefusedError: the symbol or a table was refused.
        ConnectError: no connection could be opened.
        StreamTimeoutError: the tables did not come in time.
    """

    MAX_TABLE_LEN: Final = 200

    @takes_options()
    def __init__(
        self,
        endpoint: str | None,
        symbol: str,
        api_key: str | None = None,
        api_secret: str | None = None,
        subscriptions: Iterable[str] = DEFAULT_SUBS,
        *,
        environment: str | None = None,
        timeout: float = 10.0,
        **options: Unpack[StreamOptions],
    ) -> None:
        if api_key is not None and api_secret is None:
            raise ConfigError("api_secret is required if api_key is provided")
        if api_key is None and api_secret is not None:
            raise ConfigError("api_key is required if api_secret is provided")
        self.logger = logger
        self.endpoint = endpoint
        self.symbol = symbol
        self.api_key = api_key
        self.exited = False
        self._timeout = checked_timeout(timeout)
        self._refused: dict[str, SubscriptionRefusedError] = {}
        self.stream = BitmexStream(
            environment=environment,
            url=None if endpoint is None else _address(endpoint),
            api_key=api_key,
            api_secret=api_secret,
            **options,
        )
        self.stream.unsubscribe(*self.stream.topics)
        for name in subscriptions:
            if api_key is not None or name not in PRIVATE_TABLES:
                self.stream.subscribe(name if name in SYMBOLLESS_TABLES else f"{name}:{symbol}")
        self.stream.on_error(self._note)
        self.ws = SimpleNamespace(sock=_Socket(self.stream), close=self.exit)
        self.stream.start(timeout)
        try:
            self.stream.wait_until_filled(timeout=timeout)
            self._raise_refusal()
        except BaseException:
            self.stream.stop()
            raise

    def __repr__(self) -> str:
        return f"<BitMEXWebsocket {self.symbol} on {self.stream!r}>"

    def __enter__(self) -> BitMEXWebsocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.exit()

    # The original's methods

    def exit(self) -> None:
        """End the stream. Any thread, repeatedly."""
        self.exited = True
        self.stream.stop()

    def get_instrument(self) -> Row:
        """Return the symbol's instrument. Its "tickLog" is the number of digits to round to: 0 for a tick size of 0.5.

        Raises:
            FinxSyncError: the table is not available, or did not come in time. Every method here raises it.
        """
        instrument = self._newest("instrument")
        return {**instrument, "tickLog": int(math.fabs(math.log10(instrument["tickSize"])))}

    def get_ticker(self) -> dict[str, float]:
        """Return the last price, the best bid ("buy"), the best ask ("sell") and their middle ("mid").

        They are rounded to "tickLog" digits.
        """
        quote, trade, digits = self._newest("quote"), self._newest("trade"), self.get_instrument()["tickLog"]
        bid, ask = float(quote["bidPrice"] or 0), float(quote["askPrice"] or 0)
        prices = {"last": float(trade["price"] or 0), "buy": bid, "sell": ask, "mid": (bid + ask) / 2}
        return {name: round(price, digits) for name, price in prices.items()}

    def funds(self) -> Row:
        """Return the account's margin."""
        return self._newest("margin")

    def positions(self) -> list[Row]:
        """Return the account's positions."""
        return self._rows("position")

    def market_depth(self) -> list[Row]:
        """Return all levels of the order book, unsorted; `stream.storage.order_book` sorts them."""
        return self._rows("orderBookL2")

    def open_orders(self, clOrdIDPrefix: str = "") -> list[Row]:  # noqa: N803 - the original's name
        """Return the account's open orders whose "clOrdID" begins with the prefix."""
        return [
            order
            for order in self._rows("order")
            if str(order["clOrdID"]).startswith(clOrdIDPrefix)
            and (order["leavesQty"] is None or order["leavesQty"] > 0)
        ]

    def recent_trades(self) -> list[Row]:
        """Return the latest trades, oldest first."""
        return self._rows("trade")

    @property
    def data(self) -> Mapping[str, list[Row]]:
        """All tables in their current state, without waiting; see `Storage.data`."""
        return self.stream.storage.data

    @property
    def keys(self) -> dict[str, list[str]]:
        """The fields that identify the rows of each table."""
        return self.stream.storage.keys

    # Waiting

    def _rows(self, table: str) -> list[Row]:
        """Return copies of a table's rows; wait while the table is being filled, such as after a reconnect."""
        self._raise_refusal(table)
        if table in PRIVATE_TABLES and self.api_key is None:
            raise UsageError(f"{table} is an account's table: give api_key and api_secret")
        name = table if table in SYMBOLLESS_TABLES else f"{table}:{self.symbol}"
        if name not in self.stream.topics:
            raise UsageError(f"{table} is not among the subscriptions")
        self.stream.wait_until_filled(name, timeout=self._timeout)
        return [dict(row) for row in self.stream.storage.rows(table)]

    def _newest(self, table: str) -> Row:
        rows = self._rows(table)
        if not rows:
            raise UsageError(f"the table {table} is empty: nothing has come for {self.symbol}")
        return rows[-1]

    def _note(self, error: FinxSyncError) -> None:
        """Keep a refusal for the caller's thread, and log other errors. Runs on the dispatch thread."""
        if isinstance(error, SubscriptionRefusedError):
            self._refused[error.name.partition(":")[0]] = error
        else:
            self.logger.warning("%s", error)

    def _raise_refusal(self, table: str | None = None) -> None:
        for name, error in list(self._refused.items()):
            if table in (None, name):
                raise error


class _Socket:
    """Stands in for the original's socket, of which programs use only ``connected``."""

    def __init__(self, stream: BitmexStream) -> None:
        self._stream = stream

    @property
    def connected(self) -> bool:
        """Whether the stream has not ended; true while it reconnects, too."""
        return self._stream.state not in ENDED


def _address(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    path = "" if parts.path.rstrip("/") == "/api/v1" else parts.path
    return urlunsplit((_SCHEMES.get(parts.scheme, parts.scheme), parts.netloc, path, "", ""))
