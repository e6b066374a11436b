"""The simulated account: orders, fills, positions, the balance."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.errors import InvalidInputError
from finx_sync.sandbox.account import Event, Fill, Position, Quote, TradingAccount, TradingOrder, TradingTerms
from finx_sync.sandbox.robot import Robot

LINEAR = TradingTerms(worth=float, price=float, maker_fee=0.0002, taker_fee=0.0007, initial_margin=0.1)
INVERSE = TradingTerms(
    worth=lambda price: -1 / price, price=lambda worth: -1 / worth, maker_fee=0, taker_fee=0, initial_margin=0.01
)
QUOTE = Quote(bid=99.0, bid_size=5.0, ask=101.0, ask_size=5.0, mark=100.0)


class Market:
    """A market that stands where it is put."""

    def __init__(self, terms: TradingTerms = LINEAR, balance: float = 10_000.0) -> None:
        self.quote = QUOTE
        numbers = itertools.count(1)
        self.account = TradingAccount(
            1, {"X": terms}, lambda symbol, now: self.quote, lambda: f"o{next(numbers)}", balance
        )
        self.events: list[Event] = []
        self.account.listen(self.events.append)

    def move(self, mark: float, **changes: Any) -> None:
        """Put the market around a price and let it meet the orders."""
        self.quote = replace(QUOTE, bid=mark - 1, ask=mark + 1, mark=mark, **changes)
        self.account.advance(2)


def test_a_market_order_opens_a_position_that_a_second_one_closes() -> None:
    """Profit, fees or the position would be wrong."""
    market = Market()
    account = market.account
    bought = account.place("X", "buy", 2, now=1)
    assert (bought.status, bought.filled, bought.average_price) == ("filled", 2, 101.0)
    assert account.positions() == [Position("X", 2, 101.0, 0.0, pytest.approx(2 * 101 * 0.0007))]
    assert account.unrealised("X", 1) == pytest.approx(-2)
    market.move(120)
    account.place("X", "sell", 2, now=3)
    (position,) = account.positions()
    assert (position.size, position.realised) == (0, pytest.approx(2 * (119 - 101)))
    assert account.balance == pytest.approx(10_000 + position.realised - position.fees)
    assert account.equity(3) == pytest.approx(account.balance)
    assert account.margin_used(3) == 0


def test_a_resting_order_fills_in_parts_at_its_own_price_as_the_market_comes() -> None:
    """A partial fill would not be seen, or come at a price that nobody asked for."""
    market = Market()
    order = market.account.place("X", "buy", 8, price=95, client_id="mine", now=1)
    assert (order.status, order.remaining) == ("open", 8)
    market.move(94)
    assert [one.filled for one in market.account.open_orders("X")] == [5]
    market.move(94)
    assert market.account.open_orders() == []
    fills = [event for event in market.events if isinstance(event, Fill)]
    assert [(fill.size, fill.price, fill.is_maker, fill.order.status) for fill in fills] == [
        (5, 95, True, "open"),
        (3, 95, True, "filled"),
    ]
    assert [type(event) for event in market.events] == [
        TradingOrder,
        TradingOrder,
        Fill,
        Position,
        TradingOrder,
        Fill,
        Position,
    ]


def test_cancelling_closes_what_is_left_and_only_once() -> None:
    """A cancelled order would fill later, or be told twice."""
    market = Market()
    order = market.account.place("X", "sell", 8, price=100, ioc=False, now=1)
    assert market.account.cancel(order.id, now=2).status == "cancelled"
    assert market.account.cancel(order.id, now=3).updated_at == 2
    market.move(300)
    assert market.account.fills() == []
    first, second = (market.account.place("X", "buy", 1, price=price, now=1) for price in (10, 11))
    assert [one.id for one in market.account.cancel_all("X", now=2)] == [first.id, second.id]


@pytest.mark.parametrize(
    ("options", "status", "filled"),
    [
        ({"price": 101, "ioc": True}, "cancelled", 5),
        ({"price": 100, "ioc": True}, "cancelled", 0),
        ({"price": 101, "post_only": True}, "cancelled", 0),
        ({"price": 101}, "open", 5),
        ({"reduce_only": True}, "cancelled", 0),
    ],
)
def test_kinds_of_orders(options: dict[str, Any], status: str, filled: float) -> None:
    """An immediate, a passive or a closing order would behave like any other."""
    order = Market().account.place("X", "buy", 8, now=1, **options)
    assert (order.status, order.filled) == (status, filled)


@pytest.mark.parametrize(
    "arguments", [("Y", "buy", 1), ("X", "hold", 1), ("X", "buy", 0), ("X", "buy", math.nan), ("X", "buy", 1e6)]
)
def test_impossible_orders_are_refused(arguments: tuple[Any, ...]) -> None:
    """They would fill, or block the account."""
    with pytest.raises(InvalidInputError):
        Market().account.place(*arguments, now=1)


def test_an_inverse_contract_pays_in_the_coin() -> None:
    """A BitMEX position would be valued like a linear one."""
    market = Market(INVERSE, balance=100.0)
    market.account.place("X", "buy", 1000, now=1)
    market.move(200)
    assert market.account.unrealised("X", 2) == pytest.approx(1000 * (1 / 101 - 1 / 200))
    (position,) = market.account.positions()
    assert INVERSE.price(position.entry_worth) == pytest.approx(101)


@given(st.lists(st.tuples(st.sampled_from(["buy", "sell"]), st.integers(1, 9), st.integers(50, 150)), max_size=30))
def test_money_is_neither_made_nor_lost(moves: list[tuple[Any, int, int]]) -> None:
    """Any sequence of orders: cash flows at the fills' prices add up to the equity."""
    market = Market(balance=1e9)
    for side, size, mark in moves:
        market.move(mark)
        market.account.place("X", side, size, now=1)
    flow = sum(
        (-1 if fill.order.side == "buy" else 1) * fill.size * fill.price - fill.fee for fill in market.account.fills()
    )
    held = sum((1 if fill.order.side == "buy" else -1) * fill.size for fill in market.account.fills())
    assert sum(one.size for one in market.account.positions()) == pytest.approx(held)
    assert market.account.equity(1) == pytest.approx(1e9 + flow + held * market.quote.mark)


def test_the_robot_opens_cancels_fills_and_closes() -> None:
    """A newcomer's private streams would stay silent."""
    market = Market()
    robot = Robot(market.account, "X", 1, interval=100, on_tick=round)
    for now in range(0, 1000, 50):
        robot.step(now)
    assert {order.status for order in market.account.closed_orders()} == {"filled", "cancelled"}
    assert len(market.account.fills()) == 4
    assert [one.size for one in market.account.positions()] == [0]
    assert len(market.account.open_orders()) <= 1
