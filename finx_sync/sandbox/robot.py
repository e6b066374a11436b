"""A robot that trades continuously, so that private streams have something to show.

Its cycle: an order away from the market, which it cancels; an order at the best price; an order that closes the
position. No clock: times are arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from finx_sync.sandbox.account import Side, TradingAccount, TradingOrder

__all__ = ["Robot"]

_AWAY: Final = 0.01
"""The distance from the market of the order to be cancelled, as a fraction of the price."""


class Robot:
    """Trades one symbol of an account.

    Args:
        account: the account that it trades.
        symbol: the symbol that it trades.
        size: the size of each order in units.
        interval: milliseconds between two steps of the cycle.
        on_tick: rounds a price to the symbol's tick size.
    """

    def __init__(
        self, account: TradingAccount, symbol: str, size: float, *, interval: int, on_tick: Callable[[float], float]
    ) -> None:
        self._account = account
        self._symbol = symbol
        self._size = size
        self._interval = interval
        self._on_tick = on_tick
        self._next_at: int | None = None
        self._count = 0
        self._waiting: TradingOrder | None = None

    def step(self, now: int) -> None:
        """Do the next step if it is due at `now`, milliseconds since 1970; the first call does the first step."""
        if self._next_at is None:
            self._next_at = now
        if now < self._next_at:
            return
        self._next_at = now + self._interval
        phase, side = self._count % 4, self._side()
        self._count += 1
        quote = self._account.quote(self._symbol, now)
        if phase == 0:
            away = quote.bid * (1 - _AWAY) if side == "buy" else quote.ask * (1 + _AWAY)
            self._waiting = self._place(side, self._on_tick(away), now)
        elif phase == 1:
            if self._waiting is not None:
                self._account.cancel(self._waiting.id, now=now)
        elif phase == 2:
            self._place(side, quote.ask if side == "buy" else quote.bid, now)
        else:
            for position in self._account.positions():
                if position.symbol == self._symbol and position.size:
                    self._account.place(
                        self._symbol, "sell" if position.size > 0 else "buy", abs(position.size), now=now
                    )

    def _side(self) -> Side:
        return "sell" if self._count // 4 % 2 else "buy"

    def _place(self, side: Side, price: float, now: int) -> TradingOrder:
        return self._account.place(self._symbol, side, self._size, price=price, client_id="robot", now=now)
