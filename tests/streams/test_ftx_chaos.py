"""FTX under cuts: after each, the book is the server's, and every fill and order was handled once."""

from __future__ import annotations

import itertools
import time

import pytest

from finx_sync import Backoff, State
from finx_sync.sandbox import Sandbox
from finx_sync.testing import Close, Cut, Fault, FaultProxy, Reset, Split
from finx_sync.venues.ftx import FtxFill, FtxOrder, FtxOrderBook, FtxStream
from tests.waiting import wait_until

MARKETS = ("BTC-PERP", "ETH/USD")
FAULTS: tuple[tuple[Fault, ...], ...] = (
    (Reset(),),
    (Cut(),),
    (Close(1001),),
    (Split(1, 0.001, 300), Cut()),
    (Close(1011), Reset()),
)
ROUNDS = 20


@pytest.mark.timeout(120)
def test_book_and_events_survive_cuts() -> None:
    """A bot would go on with a book that is not the exchange's, miss a fill, or book one twice.

    FTX sent no events of the past, and a client could not know what it had missed; this server sends them again, all of
    them, at each subscription, so what the client makes of that is seen.
    """
    fills: list[FtxFill] = []
    orders: list[FtxOrder] = []
    with Sandbox(exchange_interval=0.01, robots=False) as sandbox, FaultProxy(sandbox.url, seed=1) as proxy:
        sandbox.ftx.replay(1000)
        backoff = Backoff(first=0.01, cap=0.05, healthy_after=0.0)
        stream = FtxStream("sandbox-key", "sandbox-secret", url=proxy.url, reconnect=backoff)
        stream.on_fill(fills.append)
        stream.on_order(orders.append)
        stream.on_orderbook(_is_sound)
        errors: list[object] = []
        stream.on_error(errors.append)
        stream.subscribe_orderbook(*MARKETS)
        stream.subscribe_fills()
        stream.subscribe_orders()
        with stream:
            for number, faults in enumerate(itertools.islice(itertools.cycle(FAULTS), ROUNDS), start=1):
                sandbox.ftx.place("BTC-PERP", "buy" if number % 2 else "sell", 0.01 * number)
                proxy.inject(*faults)
                resting = sandbox.ftx.place("ETH/USD", "buy", 1.0, price=100.0)
                assert wait_until(lambda number=number: stream.stats().reconnects >= number), "it did not notice"
                sandbox.ftx.cancel(resting.id)
                since = time.time()
                for market in MARKETS:
                    assert wait_until(lambda market=market, since=since: _time(stream, market) > since), "no new book"
                    _is_the_servers(sandbox, stream.order_book(market))
            happened = sandbox.ftx.events("fills"), sandbox.ftx.events("orders")
            assert wait_until(lambda: len(fills) >= len(happened[0]) and len(orders) >= len(happened[1]))
            assert stream.state is State.OPEN
    assert ([fill.to_dict() for fill in fills], [order.to_dict() for order in orders]) == happened
    assert stream.duplicates > 0
    assert errors == []


def _is_sound(book: FtxOrderBook) -> None:
    assert book.bids[0][0] < book.asks[0][0]


def _time(stream: FtxStream, market: str) -> float:
    book = stream.order_book(market)
    return 0.0 if book is None or book.time is None else book.time


def _is_the_servers(sandbox: Sandbox, book: FtxOrderBook | None) -> None:
    if book is not None:  # a fault may have come between
        assert book.time is not None
        assert (book.bids, book.asks, book.checksum) == sandbox.ftx.book(book.market, book.time)
