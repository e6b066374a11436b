"""Gaps in spot rates, filled from history: in order, once, and marked."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from finx_sync import SpotTick
from finx_sync.notices import Gap
from tests.scripted import ScriptedServer
from tests.waiting import Collector, books_balance, stream_to, wait_until

PAIR = "BTC:USDC"


def stamp(moment: float) -> dt.datetime:
    """A UTC datetime."""
    return dt.datetime.fromtimestamp(moment, dt.timezone.utc)


def wire_row(moment: float, exchange: str, price: float) -> dict[str, str]:
    """A row of history."""
    return {
        "pair": PAIR,
        "date": stamp(moment).strftime("%Y-%m-%d"),
        "time": stamp(moment).strftime("%H:%M:%S.") + f"{stamp(moment).microsecond // 1000:03}Z",
        "exchange": exchange,
        "price": str(price),
    }


class Market(ScriptedServer):
    """Spot ticks on the stream, and the same and more in its history."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[float, str, float]] = []
        self.size = 1000
        self.fails_after = float("inf")
        self.gate = threading.Event()
        self.gate.set()
        self.subscribed = threading.Semaphore(0)
        self.subscriber: Any = None

    def _serve(self, connection: Any) -> None:
        if not connection.request.path.startswith("/backend"):
            super()._serve(connection)
            return
        self.gate.wait(10)
        query = parse_qs(urlsplit(connection.request.path).query)
        if query["functionName"] == ["tickSnap"]:
            until = dt.datetime.fromisoformat(f"{query['date'][0]}T{query['time'][0]}+00:00").timestamp()
            before = max((row for row in self.rows if row[0] <= until), default=(until - 3600, "COINBASE", 1.0))
            connection.send(json.dumps(wire_row(*before)))
            return
        after = dt.datetime.fromisoformat(f"{query['date'][0]}T{query['time'][0].removesuffix('Z')}+00:00")
        rows = [row for row in self.rows if after.timestamp() < row[0] and stamp(row[0]).date() == after.date()]
        if after.timestamp() > self.fails_after:
            connection.send('{"error": "not now"}')
            return
        page = {str(n): wire_row(*row) for n, row in enumerate(sorted(rows)[: self.size])}
        connection.send(json.dumps(page))

    def answer(self, connection: Any, message: dict[str, Any]) -> None:
        """Remember who wants the pair."""
        if message.get("functionName") == "getSpotRates":
            self.subscriber = connection
            self.subscribed.release()
        elif message.get("functionName") != "keepAlive":
            super().answer(connection, message)

    def trade(self, moment: float, price: float, *, live: bool) -> None:
        """A trade that history has; the stream too where `live`."""
        self.rows.append((moment, "COINBASE", price))
        if live:
            tick = {
                "pair": PAIR,
                "unixDate": int(moment),
                "UTCDate": stamp(int(moment)).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                "exchange": "COINBASE",
                "price": str(price),
            }
            self.subscriber.send(json.dumps(tick))


def run(market: Market, **options: Any) -> tuple[list[Any], Any]:
    """Three live trades, three that only history has, three live ones again; what handlers saw."""
    begin = time.time() - 1
    stream = stream_to(market, backfill=True, **options)
    seen = Collector()
    stream.on_gap(seen)
    stream.on_spot(seen)
    stream.subscribe_spot(PAIR)
    stream.start()
    assert market.subscribed.acquire(timeout=10)
    for number in range(3):
        market.trade(begin + number / 100, 100 + number, live=True)
    seen.wait(lambda items: len(items) == 3)
    market.subscriber.close_socket()
    for number in range(3, 6):
        market.trade(begin + number / 100, 100 + number, live=False)
    assert market.subscribed.acquire(timeout=10)
    for number in range(6, 9):
        market.trade(begin + number / 100, 100 + number, live=True)
    wanted = 6 if options else 9
    seen.wait(lambda items: sum(isinstance(item, SpotTick) for item in items) == wanted)
    return list(seen.items), stream


def test_what_was_missed_comes_in_its_place() -> None:
    """A bar that is built from ticks would be wrong after every reconnect."""
    with Market() as market:
        items, stream = run(market)
        assert [tick.price for tick in items] == [100 + number for number in range(9)]
        assert [tick.backfilled for tick in items] == [False] * 3 + [True] * 3 + [False] * 3
        assert stream.stats().messages.backfilled == 3
        assert "backfilled" in {one.kind for one in stream.coverage(PAIR)}
        stream.stop()
        assert books_balance(stream)


def test_what_history_cannot_give_in_time_is_a_gap() -> None:
    """Live prices would wait for a history server that hangs."""
    with Market() as market:
        market.gate.clear()
        items, stream = run(market, backfill_timeout=0.3)
        (gap,) = [item for item in items if isinstance(item, Gap)]
        assert items.index(gap) == 3
        assert gap.names == (PAIR,)
        assert [item.price for item in items if item is not gap] == [100, 101, 102, 106, 107, 108]
        stream.stop()
        market.gate.set()
        assert books_balance(stream)


def test_a_stop_while_filling_keeps_the_books() -> None:
    """Messages that wait for history would vanish from the books."""
    with Market() as market:
        stream = stream_to(market, backfill=True)
        stream.subscribe_spot(PAIR)
        stream.on_spot(lambda tick: None)
        stream.start()
        assert market.subscribed.acquire(timeout=10)
        market.trade(1.7e9, 1.0, live=True)
        assert wait_until(lambda: stream.latest(PAIR))
        market.gate.clear()
        market.subscriber.close_socket()
        assert market.subscribed.acquire(timeout=10)
        market.trade(1.7e9 + 5, 2.0, live=True)
        assert wait_until(lambda: stream.stats().messages.in_flight == 1)
        stream.stop()
        market.gate.set()
        assert stream.stats().messages.dropped == 1
        assert books_balance(stream)


def gap_of(market: Market, rows: list[tuple[float, str, float]]) -> tuple[list[Any], Any]:
    """A live trade, a gap in which there were these, and a live trade after it; what handlers saw."""
    begin = min(rows)[0]
    stream = stream_to(market, backfill=True)
    seen = Collector()
    stream.on_gap(seen)
    stream.on_spot(seen)
    stream.subscribe_spot(PAIR)
    stream.start()
    assert market.subscribed.acquire(timeout=10)
    market.trade(begin - 1, 1.0, live=True)
    seen.wait(lambda items: len(items) == 1)
    market.rows += rows
    market.subscriber.close_socket()
    assert market.subscribed.acquire(timeout=10)
    market.trade(max(rows)[0] + 1, 2.0, live=True)
    seen.wait(lambda items: any(isinstance(item, SpotTick) and item.price == 2.0 for item in items))
    stream.stop()
    return list(seen.items), stream


def test_smaller_pages_fill_the_whole_gap() -> None:
    """A gap would be called filled after 500 of its 3000 rows."""
    begin = int(time.time()) - 60
    rows = [(begin + place / 100, "COINBASE", 10.0 + place) for place in range(3000)]
    with Market() as market:
        market.size = 500
        items, stream = gap_of(market, rows)
    assert [item.price for item in items] == [1.0, *(10.0 + place for place in range(3000)), 2.0]
    assert stream.stats().messages.backfilled == 3000


def test_what_no_page_can_reach_is_a_gap() -> None:
    """With a thousand ticks on one millisecond the rest of a gap would be missing, and it would be called filled."""
    begin = int(time.time()) - 60
    rows = [(begin + place / 100, "COINBASE", 10.0 + place) for place in range(1500)]
    rows += [(begin + 20.0, "GEMINI", 5000.0 + place) for place in range(1001)]
    rows += [(begin + 20.01 + place / 100, "COINBASE", 7000.0 + place) for place in range(1500)]
    with Market() as market:
        items, stream = gap_of(market, rows)
    (gap,) = [item for item in items if isinstance(item, Gap)]
    assert items.index(gap) == 1
    assert gap.names == (PAIR,)
    assert stream.stats().messages.backfilled == 4000
    assert {item.price for item in items if item is not gap} >= {row[2] for row in rows if row[1] == "COINBASE"}
    assert "backfilled" not in {one.kind for one in stream.coverage(PAIR)}


def test_an_error_on_the_way_leaves_what_there_is() -> None:
    """All rows of a gap would be thrown away for one page that failed."""
    begin = int(time.time()) - 60
    rows = [(begin + place / 100, "COINBASE", 10.0 + place) for place in range(3000)]
    with Market() as market:
        market.fails_after = begin + 20.0
        items, stream = gap_of(market, rows)
    assert any(isinstance(item, Gap) for item in items)
    assert 500 <= stream.stats().messages.backfilled < 3000
