"""`FtxWebsocketClient`: what a bot written for FTX's own sample finds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from finx_sync import AuthorizationError, ConfigError, ConnectError
from finx_sync.compat.ftx import FtxWebsocketClient
from finx_sync.errors import StreamTimeoutError, SubscriptionRefusedError, UsageError
from finx_sync.sandbox import Sandbox
from tests.scripted import ScriptedServer
from tests.waiting import FAST, wait_until

KEY, SECRET = "sandbox-key", "sandbox-secret"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox without robots, stepping fast."""
    with Sandbox(exchange_interval=0.01, robots=False) as server:
        yield server


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[FtxWebsocketClient]:
    """A client with credentials."""
    made = FtxWebsocketClient(KEY, SECRET, url=sandbox.url, reconnect=FAST)
    yield made
    made.close()


def test_answers_have_the_shapes_of_the_original(client: FtxWebsocketClient, sandbox: Sandbox) -> None:
    """A bot would look for fields in vain."""
    ticker = client.get_ticker("BTC-PERP")
    assert list(ticker) == ["bid", "ask", "bidSize", "askSize", "last", "time"]
    book = client.get_orderbook("ETH/USD")
    assert (len(book["bids"]), len(book["asks"])) == (100, 100)
    assert book["bids"] == sorted(book["bids"], reverse=True)
    assert client.get_orderbook_timestamp("ETH/USD") > 1e9
    assert client.get_orderbook_timestamp("SOL/USD") == 0.0
    assert (client.get_fills(), client.get_orders()) == ([], {})
    order = sandbox.controls("ftx").place("BTC-PERP", "buy", 1.0)
    assert wait_until(client.get_fills)
    assert client.get_fills() == sandbox.controls("ftx").events("fills")
    assert client.get_orders() == {int(order.id): sandbox.controls("ftx").events("orders")[-1]}
    assert wait_until(lambda: client.get_trades("BTC-PERP"))
    assert set(client.get_trades("BTC-PERP")[0][0]) == {"id", "price", "size", "side", "liquidation", "time"}


def test_a_with_block_ends_the_client(sandbox: Sandbox) -> None:
    """A script would leave threads and a connection behind."""
    with FtxWebsocketClient(KEY, SECRET, url=sandbox.url, reconnect=FAST) as made:
        assert made.get_ticker("BTC-PERP")
        assert sandbox.connections()
    assert wait_until(lambda: not sandbox.connections())
    made.close()


def test_book_updates_can_be_waited_for(client: FtxWebsocketClient) -> None:
    """A bot that sleeps until the book changes would sleep for ever."""
    client.get_orderbook("BTC-PERP")
    before = client.get_orderbook_timestamp("BTC-PERP")
    client.wait_for_orderbook_update("BTC-PERP", 10)
    client.wait_for_orderbook_update("BTC-PERP")
    assert client.get_orderbook_timestamp("BTC-PERP") > before


def test_unknown_market_raises_each_time(client: FtxWebsocketClient) -> None:
    """The original returns nothing, for ever."""
    for ask in (client.get_ticker, client.get_trades, client.get_orderbook, client.get_ticker):
        with pytest.raises(SubscriptionRefusedError, match="No such market: BTCUSDT"):
            ask("BTCUSDT")
    assert client.get_ticker("BTC-PERP")["bid"] > 0


@pytest.mark.parametrize("ask", [FtxWebsocketClient.get_fills, FtxWebsocketClient.get_orders])
def test_a_refused_key_raises(sandbox: Sandbox, ask: Callable[[FtxWebsocketClient], object]) -> None:
    """The original shows a wrong key as no fills, for ever."""
    with pytest.raises(AuthorizationError):
        ask(FtxWebsocketClient(KEY, "wrong-secret", url=sandbox.url))
    anonymous = FtxWebsocketClient(url=sandbox.url)
    with pytest.raises(ConfigError):
        ask(anonymous)
    anonymous.close()


def test_everything_goes_on_through_cuts(client: FtxWebsocketClient, sandbox: Sandbox) -> None:
    """The original forgets what it was subscribed to, and logs in no more."""
    client.get_fills()
    client.get_ticker("BTC-PERP")
    client.get_orderbook("BTC-PERP")
    for number in range(1, 6):
        connections = {one.id for one in sandbox.connections()}
        sandbox.abort_all()
        assert wait_until(
            lambda connections=connections: (
                {one.id for one in sandbox.connections()} - connections
                and sandbox.wait_for_subscribers("fills", timeout=0)
            )
        )
        sandbox.controls("ftx").place("BTC-PERP", "buy" if number % 2 else "sell", 1.0)
        assert wait_until(lambda number=number: len(client.get_fills()) == number)
        time = client.get_ticker("BTC-PERP")["time"]
        assert wait_until(lambda time=time: client.get_ticker("BTC-PERP")["time"] > time)
        assert client.get_orderbook("BTC-PERP")["bids"]
    client.reconnect()
    assert wait_until(lambda: client._stream is not None and client._stream.stats().reconnects == 6)


def test_a_silent_server_ends_in_a_timeout() -> None:
    """A bot would hang in a call."""

    class Silent(ScriptedServer):
        def answer(self, connection: object, message: object) -> None:
            pass

    with Silent() as server:
        client = FtxWebsocketClient(url=server.url, timeout=0.2)
        with pytest.raises(StreamTimeoutError, match="ticker BTC-PERP"):
            client.get_ticker("BTC-PERP")
        client.close()


def test_no_server_is_a_typed_error() -> None:
    """A bot's `except ConnectionError` would miss it."""
    client = FtxWebsocketClient(url="ws://127.0.0.1:1/ws/")
    with pytest.raises(ConnectError):
        client.get_ticker("BTC-PERP")
    client.close()


def test_a_subclass_may_name_its_own_endpoint_and_key(sandbox: Sandbox) -> None:
    """The original wants its source edited, so bots have such subclasses."""

    class Mine(FtxWebsocketClient):
        _ENDPOINT = sandbox.url

        def __init__(self) -> None:
            super().__init__()
            self._api_key, self._api_secret = KEY, SECRET

    client = Mine()
    assert client.get_fills() == []
    client.close()
    assert client.get_ticker("BTC-PERP")["ask"] > 0, "a call after the end connects anew"
    client.close()


def test_closing_ends_a_wait(sandbox: Sandbox) -> None:
    """A program would not end while one of its threads waits for a book."""
    client = FtxWebsocketClient(url=sandbox.url, timeout=30)
    client.get_orderbook("BTC-PERP")
    sandbox.controls("ftx").spoil("BTC-PERP", 1_000_000)
    assert wait_until(lambda: client.get_orderbook_timestamp("BTC-PERP") == 0)
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            client.get_orderbook("BTC-PERP")
        except UsageError as error:
            failures.append(error)

    waiting = threading.Thread(target=ask)
    waiting.start()
    stream = client._stream
    assert stream is not None
    client.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert len(failures) <= 1  # none where it had not begun to wait: then it connected anew
    client.close()


def test_an_environment_instead_of_an_address() -> None:
    """The sandbox would be named in another way here than by every other stream."""
    client = FtxWebsocketClient(environment="ftx-sandbox", timeout=10)
    try:
        assert client.get_ticker("BTC-PERP")["bid"] > 0
    finally:
        client.close()
    with pytest.raises(ConfigError, match="did you mean 'sandbox'"):
        FtxWebsocketClient(environment="sandbax").connect()
