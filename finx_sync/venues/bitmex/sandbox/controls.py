"""Controls of the sandbox's BitMEX for tests; any thread may use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from finx_sync.sandbox.account import Side, TradingOrder
from finx_sync.venues.bitmex.sandbox.market import Row
from finx_sync.venues.bitmex.sandbox.server import BitmexServer

__all__ = ["BitmexControls"]

_T = TypeVar("_T")

KEY = "sandbox-key"


class BitmexControls:
    """Inspects and controls the service. Each call runs on the sandbox's thread and returns when it is done.

    Args:
        venue: the service.
        run: runs a function on the sandbox's thread.
    """

    def __init__(self, venue: BitmexServer, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._venue = venue
        self._run = run

    def rows(self, table: str, symbol: str | None = None, key: str = KEY) -> list[Row]:
        """Return the rows of a table, of one symbol or of all, as of the server's last message."""
        return self._do(lambda: self._venue.table(table, key).rows(symbol))

    def pause(self) -> None:
        """Stop the market's time; only `place` and `cancel` still change anything."""
        self._do(self._venue.pause)

    def resume(self) -> None:
        """Resume the market's time."""
        self._do(self._venue.resume)

    def place(self, symbol: str, side: Side, size: float, *, key: str = KEY, **options: Any) -> TradingOrder:
        """Send an order; see `finx_sync.sandbox.account.Account.place` for its options.

        Raises:
            InvalidInputError: the order is invalid.
        """

        def place() -> TradingOrder:
            order = self._venue.trader(key).account.place(symbol, side, size, now=self._venue.now(), **options)
            self._venue.flush()
            return order

        return self._do(place)

    def cancel(self, order_id: str, *, key: str = KEY) -> TradingOrder:
        """Cancel an order.

        Raises:
            InvalidInputError: there is no order with that id.
        """

        def cancel() -> TradingOrder:
            order = self._venue.trader(key).account.cancel(order_id, now=self._venue.now())
            self._venue.flush()
            return order

        return self._do(cancel)

    def open_orders(self, symbol: str | None = None, *, key: str = KEY) -> list[TradingOrder]:
        """Return the orders that can still be filled, oldest first."""
        return self._do(lambda: self._venue.trader(key).account.open_orders(symbol))

    def _do(self, function: Callable[[], _T]) -> _T:
        result: _T = self._run(function)
        return result
