"""FtxStream end to end: against the sandbox, and against servers that err."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from finx_sync import AuthorizationError, Backoff, ConfigError, InvalidInputError, State
from finx_sync.errors import (
    ChecksumError,
    ServerRefusedError,
    StreamTimeoutError,
    SubscriptionRefusedError,
    UsageError,
)
from finx_sync.sandbox import Sandbox
from finx_sync.venues.ftx import (
    FtxFill,
    FtxGroupedOrderBook,
    FtxMarkets,
    FtxOrder,
    FtxOrderBook,
    FtxStream,
    FtxTicker,
    FtxTrade,
)
from tests.scripted import ScriptedServer

KEY, SECRET = "sandbox-key", "sandbox-secret"
SOON = Backoff(first=0.01, cap=0.05, factor=1, healthy_after=0)
BOOK = {"time": 1.0, "checksum": 2933775928, "bids": [[5000.5, 10.0], [4995.0, 5.0]],
        "asks": [[5001.0, 6.0], [5002.0, 7.0]], "action": "partial"}  # fmt: skip


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox without robots, stepping fast."""
    with Sandbox(exchange_interval=0.01, robots=False) as server:
        yield server


class FtxServer(ScriptedServer):
    """Acknowledges every request, and does what a test adds."""

    def __init__(self, react: Callable[[ServerConnection, dict[str, Any]], None] | None = None) -> None:
        super().__init__()
        self._react = react
        self._logged_in: set[ServerConnection] = set()

    def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        """Acknowledge, then react."""
        op = message["op"]
        if op == "ping":
            send(connection, type="pong")
        elif op == "login" and connection in self._logged_in:
            send(connection, type="error", code=400, msg="Already logged in")
        elif op == "login":
            self._logged_in.add(connection)
        else:
            about = {name: message[name] for name in ("channel", "market") if name in message}
            send(connection, type=f"{op}d", **about)
        if self._react is not None:
            self._react(connection, message)

    def asked(self, op: str) -> dict[str, Any]:
        """The next request of a kind; others before it are skipped."""
        while True:
            message = self.received.get(timeout=10)
            if message["op"] == op:
                return message


def send(connection: ServerConnection, **frame: Any) -> None:
    """Send a frame."""
    connection.send(json.dumps(frame))


def data(connection: ServerConnection, channel: str, content: Any, kind: str = "update", **more: Any) -> None:
    """Send a frame with data."""
    send(connection, channel=channel, type=kind, data=content, **more)


def fill(number: int) -> dict[str, Any]:
    """The data of a fill."""
    return {
        "id": number, "market": "BTC-PERP", "future": "BTC-PERP", "baseCurrency": None, "quoteCurrency": None,
        "type": "order", "side": "buy", "price": 1.0, "size": 1.0, "orderId": 1, "tradeId": 1, "feeRate": 0.0,
        "fee": 0.0, "feeCurrency": "USD", "liquidity": "maker", "time": "2019-05-07T16:40:58.358438+00:00",
    }  # fmt: skip


def get(inbox: queue.Queue[Any], kind: type | None = None) -> Any:
    """The next thing of a kind that a handler was given."""
    while True:
        thing = inbox.get(timeout=10)
        if kind is None or isinstance(thing, kind):
            return thing


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Look again and again, for ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.005)


# Against the sandbox


def test_every_channel_reaches_its_handler(sandbox: Sandbox) -> None:
    """A channel would be subscribed and its messages go nowhere."""
    stream = FtxStream(KEY, SECRET, url=sandbox.url)
    heard: queue.Queue[Any] = queue.Queue()
    for register in (
        stream.on_ticker, stream.on_trade, stream.on_orderbook, stream.on_orderbook_grouped, stream.on_fill,
        stream.on_order, stream.on_markets,
    ):  # fmt: skip
        assert register(heard.put) == heard.put
    stream.on_error(heard.put)
    stream.subscribe_ticker("BTC-PERP", "BTC/USD")
    stream.subscribe_trades("BTC-PERP")
    stream.subscribe_orderbook("BTC-PERP")
    stream.subscribe_orderbook_grouped("ETH-PERP", 5)
    stream.subscribe_markets()
    stream.subscribe_fills()
    stream.subscribe_orders()
    with stream:
        assert sandbox.wait_for_subscribers("orders")
        sandbox.controls("ftx").place("BTC-PERP", "buy", 0.5, client_id="mine")
        wanted = {FtxTicker, FtxTrade, FtxOrderBook, FtxGroupedOrderBook, FtxFill, FtxOrder, FtxMarkets}
        seen: dict[type, Any] = {}
        while set(seen) != wanted:
            message = get(heard)
            seen.setdefault(type(message), message)
        stats = stream.stats()
        assert stats.messages.unreadable == stats.messages.unknown == 0
    assert seen[FtxFill].size == 0.5
    assert seen[FtxFill].received_at > 1e9
    assert (seen[FtxOrder].client_id, seen[FtxOrder].status) == ("mine", "new")
    assert seen[FtxMarkets]["BTC-PERP"]["type"] == "future"
    assert all(price % 5 == 0 for price, _ in seen[FtxGroupedOrderBook].bids)


def test_order_book_is_the_servers(sandbox: Sandbox) -> None:
    """A bot would trade on another book than the exchange's."""
    stream = FtxStream(url=sandbox.url)
    stream.subscribe_orderbook("BTC/USD", "SOL-PERP")
    assert stream.order_book("BTC/USD") is None
    with stream:
        for book in stream.take(100, "BTC/USD", timeout=10):
            bids, asks, checksum = sandbox.controls("ftx").book("BTC/USD", book.time)
            assert (book.bids, book.asks, book.checksum) == (bids, asks, checksum)
        wait_until(lambda: stream.order_book("SOL-PERP"), "no book")
        now = stream.order_book("SOL-PERP")
        assert now is not None
        assert (now.bids, now.asks) == sandbox.controls("ftx").book("SOL-PERP", now.time or 0.0)[:2]
        stream.unsubscribe_orderbook("SOL-PERP")
        assert stream.order_book("SOL-PERP") is None
    assert stream.order_book("BTC/USD") is None, "a book without a connection grows old"


def test_grouped_book_follows_its_updates(sandbox: Sandbox) -> None:
    """The grouped book has no checksum that would tell of a wrong merge."""
    stream = FtxStream(url=sandbox.url)
    stream.subscribe_orderbook_grouped("BTC-PERP", 20)
    stream.subscribe_ticker("BTC-PERP")
    with stream:
        wait_until(lambda: stream.order_book_grouped("BTC-PERP"), "no book")
        stream.take(50, timeout=10)

        def agrees() -> bool:
            book, ticker = stream.order_book_grouped("BTC-PERP"), stream.latest("BTC-PERP")
            assert book is not None
            return (book.bids, book.asks) == sandbox.controls("ftx").book("BTC-PERP", ticker.time, 20)[:2]

        wait_until(agrees, "the grouped book is not the server's")


def test_wrong_checksum_is_told_and_mended_at_once(sandbox: Sandbox) -> None:
    """A wrong book would stay, or vanish without a word."""
    stream = FtxStream(url=sandbox.url)
    errors: queue.Queue[Any] = queue.Queue()
    stream.on_error(errors.put)
    stream.subscribe_orderbook("BTC-PERP", "ETH-PERP")
    with stream:
        wait_until(lambda: stream.order_book("BTC-PERP") and stream.order_book("ETH-PERP"), "no book")
        sandbox.controls("ftx").spoil("BTC-PERP", 1)
        error = get(errors)
        assert isinstance(error, ChecksumError)
        assert error.market == "BTC-PERP"
        wait_until(lambda: stream.order_book("BTC-PERP"), "the book was not asked for anew")
        assert stream.stats().reconnects == 0
    ops = [message["op"] for _, message in sandbox.requests if message.get("market") == "BTC-PERP"]
    assert ops == ["subscribe", "unsubscribe", "subscribe"]


def test_private_channels_of_a_subaccount(sandbox: Sandbox) -> None:
    """A desk would see the main account's fills."""
    stream = FtxStream(KEY, SECRET, "desk 1", url=sandbox.url)
    fills: queue.Queue[Any] = queue.Queue()
    stream.on_fill("BTC-PERP")(fills.put)
    stream.subscribe_fills()
    with stream:
        assert sandbox.wait_for_subscribers("fills")
        sandbox.controls("ftx").place("BTC-PERP", "buy", 1.0)
        sandbox.controls("ftx").place("BTC-PERP", "sell", 2.0, subaccount="desk 1")
        assert get(fills).size == 2.0
    assert fills.empty()


def test_wrong_secret_ends_the_start() -> None:
    """A wrong key would show as silence, or be tried for ever."""
    with Sandbox() as sandbox:
        stream = FtxStream(KEY, "wrong-secret", url=sandbox.url)
        stream.subscribe_fills()
        with pytest.raises(AuthorizationError, match="Invalid login credentials") as caught:
            stream.start()
        assert "wrong-secret" not in str(caught.value)
        assert stream.state is State.FAILED
        assert "wrong-secret" not in repr(stream)
        assert [subscription.kind for subscription in stream._subscriptions.desired()] == ["fills"]


def test_unknown_market_is_refused_and_the_rest_goes_on(sandbox: Sandbox) -> None:
    """One misspelt market would be asked for at every reconnect, or take the others with it."""
    stream = FtxStream(url=sandbox.url)
    errors: queue.Queue[Any] = queue.Queue()
    stream.on_error(errors.put)
    stream.subscribe_ticker("BTC-PERP", "BTCUSDT", "ETH-PERP")
    with stream:
        error = get(errors)
        assert isinstance(error, SubscriptionRefusedError)
        assert (error.kind, error.name, error.said) == ("ticker", "BTCUSDT", "404: No such market: BTCUSDT")
        assert isinstance(stream.wait_for(lambda message: message.name == "ETH-PERP", timeout=10), FtxTicker)
    assert errors.empty()


def test_restart_of_the_server_brings_everything_back(sandbox: Sandbox) -> None:
    """After info 20001 the server goes away; nothing may be lost for good."""
    stream = FtxStream(KEY, SECRET, url=sandbox.url, reconnect=SOON)
    stream.subscribe_orderbook("BTC-PERP")
    stream.subscribe_orders()
    with stream:
        wait_until(lambda: stream.order_book("BTC-PERP"), "no book")
        sandbox.controls("ftx").restart()
        asked = [
            {"op": "subscribe", "channel": "orderbook", "market": "BTC-PERP"},
            {"op": "subscribe", "channel": "orders"},
        ]
        wait_until(
            lambda: [message for number, message in sandbox.requests if number == 2][2:4] == asked, "not all again"
        )
        wait_until(lambda: stream.order_book("BTC-PERP"), "no book")
    logins = [number for number, message in sandbox.requests if message["op"] == "login"]
    assert logins == [1, 1, 2, 2]


def test_an_outage_is_one_gap() -> None:
    """A bot would see five gaps where there is one, or none at all."""
    with Sandbox(exchange_interval=0.5, robots=False) as sandbox:  # no message between the requests and the pong
        stream = FtxStream(KEY, SECRET, url=sandbox.url, reconnect=SOON)
        gaps: queue.Queue[Any] = queue.Queue()
        stream.on_gap(gaps.put)
        stream.subscribe_orderbook("BTC-PERP", "ETH-PERP")
        stream.subscribe_ticker("BTC-PERP")
        stream.subscribe_trades("SOL-PERP")
        stream.subscribe_fills()
        with stream:
            wait_until(lambda: stream.order_book("BTC-PERP"), "no book")
            sandbox.abort_all()
            gap = get(gaps)
            wait_until(lambda: stream.order_book("BTC-PERP"), "no book")
        assert (gap.names, gap.reason) == (("BTC-PERP", "ETH-PERP", "SOL-PERP", "fills"), "connection lost")
        assert gaps.empty()


def test_embedded_sandbox() -> None:
    """The first thing that a newcomer tries would need a server."""
    with FtxStream(environment="sandbox") as stream:
        stream.subscribe_ticker("BTC-PERP")
        (ticker,) = stream.take(1, timeout=10)
    assert ticker.ask > ticker.bid > 0
    assert stream.latest("BTC-PERP") is not None


# Against servers that err


def test_replayed_fills_and_orders_are_handled_once() -> None:
    """A fill that the server sends again after a reconnect would be booked twice."""
    order = {
        "id": 1, "clientId": None, "market": "BTC-PERP", "type": "limit", "side": "buy", "price": 1.0, "size": 2.0,
        "status": "open", "filledSize": 0.0, "remainingSize": 2.0, "reduceOnly": False, "liquidation": False,
        "avgFillPrice": None, "postOnly": False, "ioc": False, "createdAt": "2021-05-02T22:40:07.217963+00:00",
    }  # fmt: skip
    connections = 0

    def react(connection: ServerConnection, message: dict[str, Any]) -> None:
        nonlocal connections
        if message == {"op": "subscribe", "channel": "fills"}:
            connections += 1
            for number in range(1, 1 + connections):
                data(connection, "fills", fill(number))
        elif message == {"op": "subscribe", "channel": "orders"}:
            data(connection, "orders", order)
            if connections == 2:
                data(connection, "orders", {**order, "filledSize": 1.0, "remainingSize": 1.0})
                data(connection, "orders", {**order, "filledSize": 1.0, "remainingSize": 1.0})
            send(connection, type="pong")

    with FtxServer(react) as server:
        stream = FtxStream(KEY, SECRET, url=server.url, reconnect=SOON)
        heard: queue.Queue[Any] = queue.Queue()
        stream.on_fill(heard.put)
        stream.on_order(heard.put)
        stream.subscribe_fills()
        stream.subscribe_orders()
        with stream:
            first = [get(heard) for _ in range(2)]
            server.next_connection().close()
            second = [get(heard) for _ in range(2)]
            wait_until(lambda: stream.duplicates == 3, "the repeated ones were not seen")
        assert [one.id if isinstance(one, FtxFill) else one.filled_size for one in first] == [1, 0.0]
        assert [one.id if isinstance(one, FtxFill) else one.filled_size for one in second] == [2, 1.0]
        assert heard.empty()


def test_each_connect_logs_in_with_its_own_signature() -> None:
    """A login that is sent again is stale: then the fills stay away in silence."""
    with FtxServer() as server:
        stream = FtxStream(KEY, SECRET, url=server.url, reconnect=SOON)
        stream.subscribe_fills()
        with stream:
            first = server.asked("login")
            assert server.asked("login") == first
            assert server.asked("subscribe") == {"op": "subscribe", "channel": "fills"}
            server.next_connection().close()
            again = server.asked("login")
            assert again["args"]["time"] > first["args"]["time"]
            assert again["args"]["sign"] != first["args"]["sign"]
            assert server.asked("subscribe") == {"op": "subscribe", "channel": "fills"}


def test_a_server_whose_checksums_are_all_wrong_is_not_hammered() -> None:
    """The exchange's own client asked such a server 15,452 times in two seconds."""
    enough = threading.Event()
    subscribed = 0

    def react(connection: ServerConnection, message: dict[str, Any]) -> None:
        nonlocal subscribed
        if message["op"] == "subscribe":
            subscribed += 1
            wrong = {**BOOK, "checksum": 1}
            data(connection, "orderbook", wrong, "partial", market="A")
            for _ in range(200):
                data(connection, "orderbook", {**wrong, "action": "update"}, market="A")
            if subscribed == 2:
                enough.set()

    with FtxServer(react) as server:
        stream = FtxStream(url=server.url)
        errors: queue.Queue[Any] = queue.Queue()
        stream.on_error(errors.put)
        stream.subscribe_orderbook("A")
        with stream:
            assert enough.wait(10)
            wait_until(lambda: stream.stats().messages.unclaimed == 402, "not all was handled")
        assert subscribed == 2
        assert errors.qsize() == 2, "one for each image; updates of a dropped book are no news"
        assert stream.order_book("A") is None


def test_what_was_lost_without_a_checksum_is_asked_for_anew() -> None:
    """A grouped book has no checksum: it would stay wrong for ever after a message that could not be read."""

    def react(connection: ServerConnection, message: dict[str, Any]) -> None:
        if message["op"] == "subscribe":
            image = {"bids": [[100.0, 1.0]], "asks": [[200.0, 1.0]]}
            data(connection, message["channel"], image, "partial", market="A")

    with FtxServer(react) as server:
        stream = FtxStream(url=server.url)
        stream.subscribe_orderbook_grouped("A", 100)
        with stream:
            wait_until(lambda: stream.order_book_grouped("A"), "no book")
            connection = server.next_connection()
            data(connection, "orderbookGrouped", {"bids": [["x", 1.0]], "asks": []}, market="A")
            assert server.asked("unsubscribe")["grouping"] == 100
            assert server.asked("subscribe")["grouping"] == 100
            wait_until(lambda: stream.order_book_grouped("A"), "no new book")
            assert stream.stats().messages.unreadable == 1


def test_docs_book_passes_and_a_lost_update_does_not() -> None:
    """An update that never came would leave a book that looks right."""

    def react(connection: ServerConnection, message: dict[str, Any]) -> None:
        if message["op"] == "subscribe":
            data(connection, "orderbook", BOOK, "partial", market="A")
            update = {"time": 2.0, "checksum": 941346228, "bids": [], "asks": [[5002.0, 0.0]], "action": "update"}
            data(connection, "orderbook", update, market="A")

    with FtxServer(react) as server:
        stream = FtxStream(url=server.url)
        stream.subscribe_orderbook("A")
        with stream:
            wait_until(lambda: (book := stream.order_book("A")) and book.time == 2.0, "no book")
            book = stream.order_book("A")
            assert book is not None
            assert book.asks == [(5001.0, 6.0)]


def test_an_error_that_belongs_to_nothing_is_told() -> None:
    """An error frame would pass unseen, as in the first clients of FTX."""
    with FtxServer() as server:
        stream = FtxStream(url=server.url)
        errors: queue.Queue[Any] = queue.Queue()
        stream.on_error(errors.put)
        with stream:
            send(server.next_connection(), type="error", code=400, msg="Something new")
            assert isinstance(get(errors), ServerRefusedError)


# At the call


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FtxStream("sandbox-key", environment="sandbox"),
        lambda: FtxStream(api_secret="sandbox-secret", environment="sandbox"),
        lambda: FtxStream(subaccount="desk", environment="sandbox"),
        lambda: FtxStream(KEY, SECRET, "", environment="sandbox"),
        lambda: FtxStream(url="http://host"),
        lambda: FtxStream(url="host"),
        lambda: FtxStream(environment="sandbox").subscribe_fills(),
        lambda: FtxStream(environment="sandbox").subscribe_orders(),
        lambda: FtxStream(environment="sandbox").subscribe_ftxpay(),
        lambda: FtxStream(environment="sandbox", queue_size=0),
    ],
)
def test_settings_that_cannot_be_right_fail_at_the_call(wrong: Callable[[], object]) -> None:
    """The mistake would show later, on another thread, or never."""
    with pytest.raises(ConfigError):
        wrong()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda stream: stream.subscribe_ticker(),
        lambda stream: stream.subscribe_ticker(""),
        lambda stream: stream.subscribe_trades("BTC PERP"),
        lambda stream: stream.subscribe_orderbook(None),
        lambda stream: stream.subscribe_orderbook_grouped("BTC-PERP", 0),
        lambda stream: stream.subscribe_orderbook_grouped("BTC-PERP", "50"),
        lambda stream: (
            stream.subscribe_orderbook_grouped("BTC-PERP", 50),
            stream.subscribe_orderbook_grouped("BTC-PERP", 10),
        ),
    ],
)
def test_names_that_cannot_be_right_fail_at_the_call(wrong: Callable[[Any], object]) -> None:
    """A misspelt argument would travel to the server."""
    with pytest.raises(InvalidInputError):
        wrong(FtxStream(environment="sandbox"))


def test_unsubscribing_reaches_the_server(sandbox: Sandbox) -> None:
    """Traffic that nobody wants would go on."""
    stream = FtxStream(KEY, SECRET, url=sandbox.url)
    stream.subscribe_orderbook_grouped("BTC-PERP", 50)
    stream.subscribe_ticker("BTC-PERP")
    stream.subscribe_trades("BTC-PERP")
    stream.subscribe_markets()
    stream.subscribe_fills()
    stream.subscribe_orders()
    with stream:
        assert sandbox.wait_for_subscribers("orders")
        stream.unsubscribe_orderbook_grouped("BTC-PERP")
        stream.unsubscribe_trades("BTC-PERP")
        stream.unsubscribe_markets()
        stream.unsubscribe_fills()
        stream.unsubscribe_orders()
        stream.subscribe_orderbook_grouped("BTC-PERP", 10)
        wanted = ["ticker:BTC-PERP", "orderbookGrouped:BTC-PERP"]
        wait_until(lambda: sandbox.connections()[0].subscriptions == wanted, "the server still sends")
        stream.unsubscribe_ticker("BTC-PERP")
        wait_until(lambda: sandbox.connections()[0].subscriptions == wanted[1:], "the server still sends")


def test_a_server_that_sends_everything_back_does_not_make_the_key_show() -> None:
    """An echo in the place of a server would put the login into logs and error texts."""

    def react(connection: ServerConnection, message: dict[str, Any]) -> None:
        connection.send(json.dumps(message))

    with FtxServer(react) as server:
        stream = FtxStream("my-own-key", "my-own-secret", url=server.url)
        errors: queue.Queue[Any] = queue.Queue()
        stream.on_error(errors.put)
        with stream:
            error = get(errors)
            assert "login" in str(error)
            report = stream.dump()
    assert "my-own-key" not in str(error) + repr(stream) + report


def test_waiting_until_subscribed_tells_what_was_granted(sandbox: Sandbox) -> None:
    """A program could not know whether a quiet market is quiet or unknown."""
    stream = FtxStream(url=sandbox.url)
    stream.subscribe_trades("BTC-PERP", "SOL/USD")
    with pytest.raises(UsageError):
        stream.wait_until_subscribed()
    with stream:
        stream.wait_until_subscribed()
        stream.subscribe_trades("BTCUSDT")
        with pytest.raises(SubscriptionRefusedError):
            stream.wait_until_subscribed()
        wait_until(lambda: len(stream._subscriptions.desired()) == 2, "it is still wanted")
        stream.wait_until_subscribed()
        stream.on_ticker(lambda ticker: stream.wait_until_subscribed())
        raised: queue.Queue[Any] = queue.Queue()
        stream.on_error(raised.put)
        stream.subscribe_ticker("BTC-PERP")
        assert isinstance(get(raised).__cause__, UsageError), "it would wait for its own thread"
    with FtxServer() as server:
        server.answer = lambda *_: None  # type: ignore[method-assign]
        silent = FtxStream(url=server.url)
        silent.subscribe_ticker("BTC-PERP")
        with silent, pytest.raises(StreamTimeoutError, match="ticker BTC-PERP"):
            silent.wait_until_subscribed(timeout=0.1)


def test_a_stream_can_be_started_again(sandbox: Sandbox) -> None:
    """What was asked in the first run would be taken for the second's, and the wrong subscription be given up."""
    stream = FtxStream(url=sandbox.url)
    stream.subscribe_orderbook("BTC-PERP")
    errors: queue.Queue[Any] = queue.Queue()
    stream.on_error(errors.put)
    for number in range(3):
        stream.start()
        stream.subscribe_ticker(f"NOPE-{number}")
        assert get(errors).name == f"NOPE-{number}"
        wait_until(lambda: stream.order_book("BTC-PERP"), "no book")
        stream.stop()
        assert stream.order_book("BTC-PERP") is None


def test_another_key_logs_in_on_a_new_connection(sandbox: Sandbox) -> None:
    """A key that expires could only be replaced by a restart of the program."""
    sandbox.set_keys("sandbox-key", "other-key")
    stream = FtxStream(KEY, SECRET, "desk 1", url=sandbox.url, reconnect=SOON)
    fills: queue.Queue[Any] = queue.Queue()
    stream.on_fill(fills.put)
    stream.subscribe_fills()
    with pytest.raises(UsageError):
        stream.rotate_key("other-key", SECRET)
    with stream:
        assert sandbox.wait_for_subscribers("fills")
        with pytest.raises(ConfigError):
            stream.rotate_key("other-key")
        (first,) = sandbox.connections()
        stream.rotate_key("other-key", SECRET)
        wait_until(lambda: [one.id for one in sandbox.connections()] not in ([], [first.id]), "it did not reconnect")
        assert sandbox.wait_for_subscribers("fills")
        sandbox.controls("ftx").place("BTC-PERP", "buy", 1.0, key="other-key", subaccount="desk 1")
        assert get(fills).size == 1.0
    anonymous = FtxStream(url=sandbox.url)
    with anonymous, pytest.raises(UsageError):
        anonymous.rotate_key(KEY, SECRET)


def test_payments_reach_their_handler() -> None:
    """A channel that no source shows would be subscribed and its messages go nowhere."""

    def react(connection: ServerConnection, message: dict[str, Any]) -> None:
        if message.get("channel") == "ftxpay":
            data(connection, "ftxpay", {"status": "paid", "id": 1})

    with FtxServer(react) as server:
        stream = FtxStream(KEY, SECRET, url=server.url)
        payments: queue.Queue[Any] = queue.Queue()
        stream.on_ftxpay(payments.put)
        stream.subscribe_ftxpay()
        with stream:
            payment = get(payments)
            assert (payment["status"], payment.get("none"), payment.name) == ("paid", None, "ftxpay")
            stream.unsubscribe_ftxpay()
            assert server.asked("unsubscribe") == {"op": "unsubscribe", "channel": "ftxpay"}
