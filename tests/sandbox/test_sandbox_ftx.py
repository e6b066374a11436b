"""The sandbox's FTX, through a plain socket: acknowledgements, errors, logins, books, the account."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from finx_sync.errors import InvalidInputError
from finx_sync.sandbox import Sandbox
from finx_sync.sandbox.market import Market
from finx_sync.venues.ftx.sandbox.market import MARKETS, FtxMarket, checksum
from tests.sandbox.sandbox_client import Client

Connect = Callable[..., Client]
Frame = dict[str, Any]


def send(client: Client, op: str, **rest: Any) -> None:
    """Send a request."""
    client.socket.send(json.dumps({"op": op, **rest}))


def ask(client: Client, op: str, **rest: Any) -> Any:
    """Send a request; return the next frame that is no data."""
    send(client, op, **rest)
    return hear_until(client, lambda frame: "data" not in frame)


def hear_until(client: Client, is_it: Callable[[Frame], object]) -> Any:
    """Read on to a frame."""
    while True:
        frame = client.hear()
        if is_it(frame):
            return frame


SECRET = "sandbox-secret"


def login(secret: str = SECRET, key: str = "sandbox-key", off: int = 0, **rest: Any) -> Frame:
    """A login's arguments, signed in this test's own way."""
    now = int(time.time() * 1000) + off
    message = f"{now}websocket_login".encode()
    return {"key": key, "time": now, "sign": hmac.new(secret.encode(), message, hashlib.sha256).hexdigest(), **rest}


def error(text: str, code: int = 400) -> Frame:
    """An error frame; it holds no echo of the request."""
    return {"type": "error", "code": code, "msg": text}


def logged_in(connect: Connect, **rest: Any) -> Client:
    """A client whose login is confirmed."""
    client = connect("/ws/")
    send(client, "login", args=login(**rest))
    assert ask(client, "login", args=login(**rest)) == error("Already logged in")
    return client


def test_nothing_comes_unasked_and_ping_is_answered(connect: Connect) -> None:
    """FTX does not greet; a client that counts frames would be out of step."""
    client = connect("/ws")
    assert ask(client, "ping") == {"type": "pong"}


def test_acknowledgements_come_before_any_image(connect: Connect) -> None:
    """The order of the captured frames would not be the sandbox's."""
    client = connect("/ws/")
    wanted = [("orderbook", "BTC-PERP"), ("ticker", "BTC/USD"), ("trades", "ETH-PERP"), ("orderbook", "SOL/USD")]
    for channel, market in wanted:
        send(client, "subscribe", channel=channel, market=market)
    assert [client.hear() for _ in wanted] == [
        {"type": "subscribed", "channel": channel, "market": market} for channel, market in wanted
    ]
    ticker = hear_until(client, lambda frame: frame["channel"] == "ticker")
    assert list(ticker) == ["channel", "market", "type", "data"]
    assert ticker["type"] == "update"
    assert list(ticker["data"]) == ["bid", "ask", "bidSize", "askSize", "last", "time"]
    trade = hear_until(client, lambda frame: frame["channel"] == "trades")["data"][0]
    assert list(trade) == ["id", "price", "size", "side", "liquidation", "time"]
    assert trade["time"].endswith("+00:00")


def test_every_checksum_is_right_and_a_level_is_removed_with_size_zero(connect: Connect) -> None:
    """A sound client would drop the sandbox's book, or keep levels that are gone."""
    client = connect("/ws/")
    send(client, "subscribe", channel="orderbook", market="BTC/USD")
    sides: dict[str, dict[float, float]] = {"bids": {}, "asks": {}}
    image = hear_until(client, lambda frame: "data" in frame)
    assert (image["type"], image["data"]["action"]) == ("partial", "partial")
    removed = 0
    for number in range(30):
        frame = image if number == 0 else client.hear()
        for side, levels in sides.items():
            for price, size in frame["data"][side]:
                removed += size == 0
                levels[price] = size
                if not size:
                    del levels[price]
        bids, asks = sorted(sides["bids"].items(), reverse=True), sorted(sides["asks"].items())
        assert (len(bids), len(asks)) == (100, 100)
        text = ":".join(f"{b[0]}:{b[1]}:{a[0]}:{a[1]}" for b, a in zip(bids, asks, strict=True))
        assert zlib.crc32(text.encode()) == frame["data"]["checksum"]
        assert bids[0][0] < asks[0][0]
    assert removed


def test_grouped_book_and_markets_have_their_own_shapes(connect: Connect) -> None:
    """A client would be tried against shapes that the service did not have."""
    client = connect("/ws/")
    send(client, "subscribe", channel="orderbookGrouped", market="BTC-PERP", grouping=50)
    image = hear_until(client, lambda frame: "data" in frame)
    assert (image["type"], list(image["data"])) == ("partial", ["bids", "asks"])
    assert all(price % 50 == 0 for price, _ in image["data"]["bids"] + image["data"]["asks"])
    send(client, "subscribe", channel="markets")
    markets = hear_until(client, lambda frame: frame["channel"] == "markets" and "data" in frame)
    assert (markets["type"], markets["data"]["action"]) == ("partial", "partial")
    assert markets["data"]["data"]["BTC-PERP"]["future"]["perpetual"] is True
    assert markets["data"]["data"]["BTC/USD"]["type"] == "spot"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"op": "subscribe"}, error('Missing parameter "channel"')),
        ({"op": "subscribe", "channel": "ticker"}, error('Missing parameter "market"')),
        ({"op": "subscribe", "channel": "ticker", "market": "BTCUSDT"}, error("No such market: BTCUSDT", 404)),
        ({"op": "subscribe", "channel": "fill", "market": "BTC-PERP"}, error("Invalid channel")),
        ({"op": "subscribe", "channel": "fills"}, error("Not logged in")),
        ({"op": "subscribe", "channel": "orders"}, error("Not logged in")),
        ({"op": "unsubscribe", "channel": "ticker", "market": "BTC-PERP"}, error("Not subscribed")),
        ({"op": "wave"}, error("Invalid op")),
        ({}, error('Missing parameter "op"')),
        ([], error("Invalid JSON")),
        (
            {"op": "subscribe", "channel": "orderbookGrouped", "market": "BTC-PERP"},
            error('Missing parameter "grouping"'),
        ),
    ],
)
def test_mistakes_get_the_services_own_words(connect: Connect, request_: Any, answer: Frame) -> None:
    """A client that reads these words would not be tried."""
    client = connect("/ws/")
    client.socket.send(json.dumps(request_))
    assert client.hear() == answer


def test_subscribing_twice_and_unsubscribing(connect: Connect) -> None:
    """A stream would go on after it was ended, or come twice."""
    client = connect("/ws/")
    topic = {"channel": "ticker", "market": "BTC-PERP"}
    assert ask(client, "subscribe", **topic) == {"type": "subscribed", **topic}
    assert ask(client, "subscribe", **topic) == error("Already subscribed")
    assert ask(client, "unsubscribe", **topic) == {"type": "unsubscribed", **topic}
    ask(client, "subscribe", channel="ticker", market="ETH-PERP")
    assert {client.hear()["market"] for _ in range(3)} == {"ETH-PERP"}


@pytest.mark.parametrize(
    "args",
    [
        login(secret="wrong"),
        login(key="wrong"),
        {"key": "sandbox-key"},
        None,
        "text",
    ],
    ids=["secret", "key", "parts", "nothing", "text"],
)
def test_bad_logins_are_refused(connect: Connect, args: Any) -> None:
    """A client's handling of a wrong key would not be tried."""
    client = connect("/ws/")
    assert ask(client, "login", args=args) == error("Invalid login credentials")
    assert ask(client, "subscribe", channel="fills") == error("Not logged in")


@pytest.mark.parametrize("off", [-60_000, 60_000])
def test_stale_logins_are_refused(connect: Connect, off: int) -> None:
    """A client that sends its first login again after a reconnect would pass."""
    client = connect("/ws/")
    assert ask(client, "login", args=login(off=off)) == error("Invalid login credentials")
    assert ask(client, "login", args=login(subaccount=None)) == error("Invalid login credentials")


def test_a_good_login_is_silent(connect: Connect) -> None:
    """A client that waits for an answer would pass."""
    client = connect("/ws/")
    send(client, "login", args=login())
    assert ask(client, "ping") == {"type": "pong"}
    assert ask(client, "login", args=login()) == error("Already logged in")
    assert ask(client, "subscribe", channel="fills") == {"type": "subscribed", "channel": "fills"}


def test_orders_open_fill_and_close(connect: Connect, sandbox: Sandbox) -> None:
    """A bot's bookkeeping would be tried against an impossible life of an order."""
    client = logged_in(connect)
    for channel in ("orders", "fills"):
        ask(client, "subscribe", channel=channel)
    order = sandbox.controls("ftx").place("BTC-PERP", "buy", 0.25, client_id="mine")
    frames = [client.hear() for _ in range(3)]
    assert [frame["channel"] for frame in frames] == ["orders", "orders", "fills"]
    new, closed, fill = (frame["data"] for frame in frames)
    assert (new["id"], new["status"], new["clientId"], new["filledSize"]) == (int(order.id), "new", "mine", 0.0)
    assert (closed["status"], closed["filledSize"], closed["remainingSize"]) == ("closed", 0.25, 0.0)
    assert (fill["orderId"], fill["size"], fill["liquidity"], fill["future"]) == (
        int(order.id), 0.25, "taker", "BTC-PERP",
    )  # fmt: skip
    assert fill["fee"] == pytest.approx(fill["price"] * fill["size"] * fill["feeRate"])
    resting = sandbox.controls("ftx").place("BTC/USD", "buy", 1.0, price=1000.0)
    sandbox.controls("ftx").cancel(resting.id)
    statuses = [client.hear()["data"]["status"] for _ in range(2)]
    assert statuses == ["new", "closed"]
    assert [event["id"] for event in sandbox.controls("ftx").events("fills")] == [fill["id"]]


def test_accounts_are_apart_and_events_can_be_replayed(connect: Connect, sandbox: Sandbox) -> None:
    """One account would see another's orders; or a client's memory of events could not be tried."""
    desk = logged_in(connect, subaccount="desk 1")
    ask(desk, "subscribe", channel="fills")
    sandbox.controls("ftx").place("BTC-PERP", "buy", 0.25)
    sandbox.controls("ftx").replay(10)
    main = logged_in(connect)
    ask(main, "subscribe", channel="fills")
    assert main.hear()["data"]["size"] == 0.25
    assert ask(desk, "ping") == {"type": "pong"}
    with pytest.raises(InvalidInputError):
        sandbox.controls("ftx").place("BTCUSDT", "buy", 1.0)


def test_the_login_is_not_recorded(connect: Connect, sandbox: Sandbox) -> None:
    """Keys would show in a test's output."""
    logged_in(connect)
    assert {"op": "login", "args": "***"} in [message for _, message in sandbox.requests]
    assert "sandbox-key" not in str(sandbox.requests)


def test_restart_is_announced(connect: Connect, sandbox: Sandbox) -> None:
    """A client's answer to a restart could not be tried."""
    client = connect("/ws/")
    ask(client, "ping")
    sandbox.controls("ftx").restart()
    assert client.hear()["code"] == 20001


def test_prices_agree_with_finx() -> None:
    """One program that reads two venues of the sandbox would see two markets."""
    market = Market(7)
    ftx = FtxMarket(market)
    for now in range(1_659_760_300_724, 1_659_760_900_724, 60_000):
        contract: Any = market.ticker("BTC-PERPETUAL", now)
        ticker = ftx.ticker("BTC-PERP", now)
        assert (ticker["bid"], ticker["ask"]) == (contract["best_bid_price"], contract["best_ask_price"])
        spot = market.trade("BTC:USD", now).price
        assert ftx.quote("BTC/USD", now).bid == pytest.approx(spot, rel=1e-3)


@pytest.mark.parametrize("name", MARKETS)
def test_books_are_whole(name: str) -> None:
    """A market would have a crossed or short book, or prices off its tick."""
    ftx = FtxMarket(Market(7))
    for now in range(1_659_760_300_724, 1_659_760_310_724, 2500):
        book = ftx.book(name, now)
        bids, asks = list(book.bids), list(book.asks)
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert bids[0] < asks[0]
        assert len(bids) == len(asks) == 100
        assert all(size > 0 for side in (book.bids, book.asks) for size in side.values())
        assert 0 <= checksum(book) < 2**32
        tick = MARKETS[name].tick
        assert all(price / tick == pytest.approx(round(price / tick), abs=1e-6) for price in bids + asks)
