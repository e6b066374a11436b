"""A simulated trading account: orders that open, fill and close against the simulated market, positions, a balance.

It is independent of any venue and protocol. A venue supplies the value of a symbol (`TradingTerms`) and the market
(`quote`), receives events (`listen`), and encodes them with its own codec. No I/O and no clock: times are arguments, in
milliseconds since 1970. It is used on one thread only, that of the sandbox's event loop.

How orders fill, since there are no other traders: a limit order that crosses the market takes the size available at the
best price, and the rest of it stays on the book; a resting order fills at its own price once the market reaches it,
again at most the size available there; a market order fills completely at the best price.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from finx_sync.errors import InvalidInputError

__all__ = ["Event", "Fill", "Position", "Quote", "Side", "Status", "TradingAccount", "TradingOrder", "TradingTerms"]

Side = Literal["buy", "sell"]
Status = Literal["open", "filled", "cancelled"]

FILLS_KEPT: Final = 1000
CLOSED_KEPT: Final = 1000
_DUST: Final = 1e-9
"""Smaller sizes are rounding errors of sums."""


@dataclass(frozen=True, slots=True)
class Quote:
    """The best prices and the sizes available there, in the symbol's own units; `mark` values positions."""

    bid: float
    bid_size: float
    ask: float
    ask_size: float
    mark: float


@dataclass(frozen=True, slots=True)
class TradingTerms:
    """The value of one unit of a symbol in the account's currency.

    Attributes:
        worth: converts a price to the value of one unit, increasing with the price: the price itself for a linear
            contract, ``-1 / price`` for an inverse one, whose profit is paid in the coin.
        price: the inverse of `worth`.
        maker_fee, taker_fee: fractions of the notional; a negative fee is a rebate.
        initial_margin: the fraction of the notional that an order or position requires as margin.
    """

    worth: Callable[[float], float]
    price: Callable[[float], float]
    maker_fee: float
    taker_fee: float
    initial_margin: float


@dataclass(frozen=True, slots=True)
class TradingOrder:
    """An immutable snapshot of an order; the account stores a new one after each change.

    Attributes:
        id: unique within the sandbox.
        client_id: the client's own id, possibly empty.
        price: the limit; None for a market order.
        filled: units filled so far; `average_price` is None until the first fill.
        status: "open", "filled" or "cancelled".
        created_at, updated_at: milliseconds since 1970.
    """

    id: str
    client_id: str
    symbol: str
    side: Side
    size: float
    price: float | None
    status: Status
    created_at: int
    updated_at: int
    filled: float = 0.0
    average_price: float | None = None
    post_only: bool = False
    reduce_only: bool = False
    ioc: bool = False

    @property
    def remaining(self) -> float:
        """Units that can still fill; 0 for a closed order."""
        return self.size - self.filled if self.status == "open" else 0.0


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution of an order; `order` is its state right after, and `fee` is in the account's currency."""

    number: int
    order: TradingOrder
    size: float
    price: float
    fee: float
    is_maker: bool
    timestamp: int


@dataclass(frozen=True, slots=True)
class Position:
    """The position in a symbol.

    Attributes:
        size: units; negative for a short position.
        entry_worth: the average value of one unit at entry; 0 when flat.
        realised: the profit realised since the account was created, without fees, in the account's currency.
        fees: the fees paid so far, in the account's currency.
    """

    symbol: str
    size: float = 0.0
    entry_worth: float = 0.0
    realised: float = 0.0
    fees: float = 0.0


Event = TradingOrder | Fill | Position
"""Listeners receive events in this order: the changed order, its fill, the position."""


@dataclass
class TradingAccount:
    """One trader's account.

    Args:
        number: the venue's account number.
        terms: the terms of each symbol that can be traded.
        quote: returns a symbol's quote at a time, in milliseconds since 1970.
        new_id: returns a new order id in the venue's format.
        balance: in the account's currency; changes with realised profit and fees.
    """

    number: int
    terms: Mapping[str, TradingTerms]
    quote: Callable[[str, int], Quote]
    new_id: Callable[[], str]
    balance: float
    _open: dict[str, TradingOrder] = field(default_factory=dict)
    _closed: deque[TradingOrder] = field(default_factory=lambda: deque(maxlen=CLOSED_KEPT))
    _fills: deque[Fill] = field(default_factory=lambda: deque(maxlen=FILLS_KEPT))
    _positions: dict[str, Position] = field(default_factory=dict)
    _listeners: list[Callable[[Event], None]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # reading

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on, synchronously and in order."""
        self._listeners.append(listener)

    def open_orders(self, symbol: str | None = None) -> list[TradingOrder]:
        """Return the orders that can still fill, oldest first: those of one symbol, or all."""
        return [order for order in self._open.values() if symbol in (None, order.symbol)]

    def closed_orders(self) -> list[TradingOrder]:
        """Return the latest closed orders, oldest first."""
        return list(self._closed)

    def fills(self) -> list[Fill]:
        """Return the latest executions, oldest first."""
        return list(self._fills)

    def positions(self) -> list[Position]:
        """Return the positions of every symbol ever traded, including flat ones."""
        return list(self._positions.values())

    def unrealised(self, symbol: str, now: int) -> float:
        """Return the profit that closing a position at the mark price would realise."""
        position = self._positions.get(symbol)
        if position is None or not position.size:
            return 0.0
        return position.size * (self.terms[symbol].worth(self.quote(symbol, now).mark) - position.entry_worth)

    def margin_used(self, now: int) -> float:
        """Return the margin that positions and open orders require."""
        blocked = 0.0
        for position in self._positions.values():
            mark = self.quote(position.symbol, now).mark
            blocked += self._margin(position.symbol, position.size, mark)
        return blocked + sum(self._margin(order.symbol, order.remaining, order.price) for order in self._open.values())

    def equity(self, now: int) -> float:
        """Return the balance plus the unrealised profit of all positions."""
        return self.balance + sum(self.unrealised(symbol, now) for symbol in self._positions)

    # acting

    def place(
        self,
        symbol: str,
        side: Side,
        size: float,
        *,
        now: int,
        price: float | None = None,
        client_id: str = "",
        post_only: bool = False,
        reduce_only: bool = False,
        ioc: bool = False,
    ) -> TradingOrder:
        """Place an order; it may already be filled or cancelled on return.

        Args:
            symbol: a symbol that has terms.
            side: "buy" or "sell".
            size: units, above 0.
            now: milliseconds since 1970.
            price: the limit; None for a market order.
            client_id: the client's own id.
            post_only: cancel the order if it would take liquidity.
            reduce_only: limit the size to what closes the position.
            ioc: cancel the part that does not fill immediately.

        Raises:
            InvalidInputError: the symbol or side is unknown, the size or price is not above 0, or the margin is
                insufficient.
        """
        if symbol not in self.terms or side not in ("buy", "sell"):
            raise InvalidInputError(
                f"cannot place an order to {side!r} {symbol!r}; 'buy' or 'sell' one of {', '.join(self.terms)}"
            )
        if not size > 0 or (price is not None and not price > 0):
            raise InvalidInputError(f"an order has size {size!r} and price {price!r}; both must be above 0")
        if reduce_only:
            held = self._positions.get(symbol, Position(symbol)).size
            size = min(size, max(-held if side == "buy" else held, 0.0))
        elif self._margin(symbol, size, price or self.quote(symbol, now).ask) > self.equity(now) - self.margin_used(
            now
        ):
            raise InvalidInputError("the account has insufficient available balance for this order")
        order = TradingOrder(
            self.new_id(), client_id, symbol, side, size, price, "open", now, now,
            post_only=post_only, reduce_only=reduce_only, ioc=ioc,
        )  # fmt: skip
        self._keep(order)
        self._take(order, now)
        order = self.order(order.id)
        if order.status == "open" and (order.ioc or order.price is None or order.remaining <= _DUST):
            self._close(order, "cancelled", now)
        return self.order(order.id)

    def order(self, order_id: str) -> TradingOrder:
        """Return the current state of an order.

        Raises:
            InvalidInputError: there is no order with that id, or it was closed too long ago.
        """
        if order_id in self._open:
            return self._open[order_id]
        for order in reversed(self._closed):
            if order.id == order_id:
                return order
        raise InvalidInputError(f"there is no order {order_id!r}")

    def cancel(self, order_id: str, *, now: int) -> TradingOrder:
        """Cancel the rest of an order; a closed order stays unchanged.

        Raises:
            InvalidInputError: there is no order with that id.
        """
        order = self.order(order_id)
        if order.status == "open":
            self._close(order, "cancelled", now)
        return self.order(order_id)

    def cancel_all(self, symbol: str | None = None, *, now: int) -> list[TradingOrder]:
        """Cancel every open order, or those of a symbol; return their final states."""
        return [self.cancel(order.id, now=now) for order in self.open_orders(symbol)]

    def advance(self, now: int) -> None:
        """Fill the resting orders that the market reaches at `now`."""
        for order in self.open_orders():
            quote = self.quote(order.symbol, now)
            price = order.price
            assert price is not None
            standing = quote.ask_size if order.side == "buy" else quote.bid_size
            if (quote.ask <= price) if order.side == "buy" else (quote.bid >= price):
                self._fill(order, min(order.remaining, standing), price, is_maker=True, now=now)

    # executing

    def _take(self, order: TradingOrder, now: int) -> None:
        """Fill the part of a new order that crosses the market."""
        quote = self.quote(order.symbol, now)
        best, standing = (quote.ask, quote.ask_size) if order.side == "buy" else (quote.bid, quote.bid_size)
        if order.price is None:
            self._fill(order, order.remaining, best, is_maker=False, now=now)
        elif (best <= order.price) if order.side == "buy" else (best >= order.price):
            if order.post_only:
                self._close(order, "cancelled", now)
            else:
                self._fill(order, min(order.remaining, standing), best, is_maker=False, now=now)

    def _fill(self, order: TradingOrder, size: float, price: float, *, is_maker: bool, now: int) -> None:
        if size <= _DUST:
            return
        terms = self.terms[order.symbol]
        filled = order.filled + size
        worth = terms.worth(price)
        before = terms.worth(order.average_price) * order.filled if order.average_price is not None else 0.0
        order = replace(
            order, filled=filled, average_price=terms.price((before + worth * size) / filled), updated_at=now
        )
        fee = abs(worth) * size * (terms.maker_fee if is_maker else terms.taker_fee)
        if order.remaining <= _DUST:
            self._close(order, "filled", now)
        else:
            self._keep(order)
        execution = Fill(next(self._numbers), self.order(order.id), size, price, fee, is_maker, now)
        self._fills.append(execution)
        self._notify(execution)
        self._hold(order.symbol, size if order.side == "buy" else -size, worth, fee)

    def _hold(self, symbol: str, size: float, worth: float, fee: float) -> None:
        """Change a position by `size` units, each worth `worth`."""
        position = self._positions.get(symbol, Position(symbol))
        total = position.size + size
        profit, entry = 0.0, position.entry_worth
        if position.size * size >= 0:
            entry = (position.entry_worth * position.size + worth * size) / total
        else:
            closed = -size if abs(size) <= abs(position.size) else position.size
            profit = closed * (worth - position.entry_worth)
            if abs(size) > abs(position.size):
                entry = worth
        if abs(total) <= _DUST:
            total = entry = 0.0
        self.balance += profit - fee
        position = Position(symbol, total, entry, position.realised + profit, position.fees + fee)
        self._positions[symbol] = position
        self._notify(position)

    def _keep(self, order: TradingOrder) -> None:
        self._open[order.id] = order
        self._notify(order)

    def _close(self, order: TradingOrder, status: Status, now: int) -> None:
        self._open.pop(order.id, None)
        order = replace(order, status=status, updated_at=now)
        self._closed.append(order)
        self._notify(order)

    def _margin(self, symbol: str, size: float, price: float | None) -> float:
        terms = self.terms[symbol]
        return abs(terms.worth(price)) * abs(size) * terms.initial_margin if price is not None else 0.0

    def _notify(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
