"""What tests may ask of the sandbox's FTX, from any thread."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from finx_sync.sandbox.account import Side, TradingOrder
from finx_sync.venues.ftx.sandbox.market import checksum
from finx_sync.venues.ftx.sandbox.server import FtxServer, FtxTrader

__all__ = ["FtxControls"]

_T = TypeVar("_T")

KEY = "sandbox-key"
Levels = list[tuple[float, float]]


class FtxControls:
    """Looks at the service and moves it; each call runs on the sandbox's thread and returns when it is done.

    Args:
        venue: the service.
        run: runs a function there.
    """

    def __init__(self, venue: FtxServer, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._venue = venue
        self._run = run

    def book(self, market: str, time: float, grouping: float | None = None) -> tuple[Levels, Levels, int]:
        """A market's bids, asks and checksum, as the service had them at a frame's `time`, UNIX seconds."""

        def look() -> tuple[Levels, Levels, int]:
            book = self._venue.book(market, round(time * 1000), grouping)
            return list(book.bids.items()), list(book.asks.items()), checksum(book)

        return self._do(look)

    def events(self, channel: str, *, key: str = KEY, subaccount: str | None = None) -> list[dict[str, Any]]:
        """The data of an account's fills or orders so far, oldest first; the latest thousand of both."""
        texts = self._do(lambda: list(self._trader(key, subaccount).events))
        return [json.loads(text)["data"] for name, text in texts if name == channel]

    def replay(self, count: int) -> None:
        """From now on, send this many of an account's latest fills or orders to whoever subscribes them."""
        self._venue.replayed = count

    def spoil(self, market: str, count: int) -> None:
        """Send this many wrong checksums of a market's book, beginning with the next."""
        self._do(lambda: self._venue.spoilt.update({market: count}))

    def restart(self) -> None:
        """Ask every client for a new connection (info frame 20001)."""
        self._do(self._venue.restart)

    def place(
        self, market: str, side: Side, size: float, *, key: str = KEY, subaccount: str | None = None, **options: Any
    ) -> TradingOrder:
        """Send an order; see `finx_sync.sandbox.account.Account.place` for its options.

        Raises:
            InvalidInputError: an order that cannot be.
        """
        venue = self._venue
        return self._do(
            lambda: self._trader(key, subaccount).account.place(market, side, size, now=venue.now(), **options)
        )

    def cancel(self, order_id: str, *, key: str = KEY, subaccount: str | None = None) -> TradingOrder:
        """Cancel an order.

        Raises:
            InvalidInputError: there is none of that id.
        """
        return self._do(lambda: self._trader(key, subaccount).account.cancel(order_id, now=self._venue.now()))

    def _trader(self, key: str, subaccount: str | None) -> FtxTrader:
        return self._venue.trader((key, subaccount))

    def _do(self, function: Callable[[], _T]) -> _T:
        result: _T = self._run(function)
        return result
