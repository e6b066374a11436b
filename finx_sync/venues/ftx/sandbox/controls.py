"""Controls of the sandbox's FTX for tests; any thread may use them."""

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
    """Inspects and controls the service. Each call returns when it is done.

    Args:
        venue: the service.
        run: runs a function on the sandbox's thread.
    """

    def __init__(self, venue: FtxServer, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._venue = venue
        self._run = run

    def book(self, market: str, time: float, grouping: float | None = None) -> tuple[Levels, Levels, int]:
        """Return a market's bids, asks and checksum at the `time` of a frame, in UNIX seconds."""

        def look() -> tuple[Levels, Levels, int]:
            book = self._venue.book(market, round(time * 1000), grouping)
            return list(book.bids.items()), list(book.asks.items()), checksum(book)

        return self._do(look)

    def events(self, channel: str, *, key: str = KEY, subaccount: str | None = None) -> list[dict[str, Any]]:
        """Return the data of an account's fills or orders, oldest first. Only the latest 1000 events are kept."""
        texts = self._do(lambda: list(self._trader(key, subaccount).events))
        return [json.loads(text)["data"] for name, text in texts if name == channel]

    def replay(self, count: int) -> None:
        """From now on, send `count` of the account's latest fills or orders to each new subscriber of them."""
        self._venue.replayed = count

    def spoil(self, market: str, count: int) -> None:
        """Make the next `count` checksums of a market's book wrong."""
        self._do(lambda: self._venue.spoilt.update({market: count}))

    def restart(self) -> None:
        """Ask every client to reconnect (info frame 20001)."""
        self._do(self._venue.restart)

    def place(
        self, market: str, side: Side, size: float, *, key: str = KEY, subaccount: str | None = None, **options: Any
    ) -> TradingOrder:
        """Send an order; see `finx_sync.sandbox.account.Account.place` for its options.

        Raises:
            InvalidInputError: the order is invalid.
        """
        venue = self._venue
        return self._do(
            lambda: self._trader(key, subaccount).account.place(market, side, size, now=venue.now(), **options)
        )

    def cancel(self, order_id: str, *, key: str = KEY, subaccount: str | None = None) -> TradingOrder:
        """Cancel an order.

        Raises:
            InvalidInputError: there is no order with that id.
        """
        return self._do(lambda: self._trader(key, subaccount).account.cancel(order_id, now=self._venue.now()))

    def _trader(self, key: str, subaccount: str | None) -> FtxTrader:
        return self._venue.trader((key, subaccount))

    def _do(self, function: Callable[[], _T]) -> _T:
        result: _T = self._run(function)
        return result
