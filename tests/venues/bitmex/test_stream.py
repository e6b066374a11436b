"""BitmexStream against the sandbox: tables, handlers, subscriptions, credentials, and what faults do to them."""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from finx_sync.errors import (
    AuthorizationError,
    ConfigError,
    HandlerError,
    InvalidInputError,
    StaleDataError,
    StreamTimeoutError,
    SubscriptionRefusedError,
    UnreadableMessageError,
    UsageError,
)
from finx_sync.sandbox import Sandbox
from finx_sync.session.backoff import Backoff
from finx_sync.venues.bitmex import BitmexCodec, BitmexStream, TableItem
from tests.scripted import ScriptedServer
from tests.tables import agrees

KEYS = {"api_key": "sandbox-key", "api_secret": "sandbox-secret"}
QUICK: dict[str, Any] = {"reconnect": Backoff(0.01, 0.05), "connect_timeout": 5}
ALL = ["instrument", "quote", "trade", "tradeBin1m", "orderBookL2", "orderBookL2_25", "orderBook10", "funding"]


@pytest.fixture
def market() -> Iterator[Sandbox]:
    """A sandbox whose tables move fast."""
    with Sandbox(exchange_interval=0.01) as server:
        yield server


@pytest.fixture
def open_stream(market: Sandbox) -> Iterator[Callable[..., BitmexStream]]:
    """Make a stream to it; stopped after the test."""
    streams: list[BitmexStream] = []

    def make(*symbols: str, **options: Any) -> BitmexStream:
        streams.append(BitmexStream(symbols or None, url=market.url, **{**QUICK, **options}))
        return streams[-1]

    yield make
    for stream in streams:
        stream.stop()


def eventually(satisfied: Callable[[], object], timeout: float = 20.0) -> bool:
    """Poll for what nothing signals."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while not satisfied():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.01)
    return True


def test_symbols_and_credentials_subscribe_what_the_seed_says(market: Sandbox) -> None:
    """A program written after the documentation would wait for tables that never come."""
    public = BitmexStream("XBTUSD", url=market.url)
    assert public.topics == ["instrument:XBTUSD", "quote:XBTUSD", "trade:XBTUSD", "tradeBin1m:XBTUSD"]
    private = BitmexStream(url=market.url, **KEYS)
    assert private.topics == ["margin", "position", "order", "execution"]
    both = BitmexStream(iter(["XBTUSD", "ETHUSD"]), url=market.url, channels=["quote", "chat"], **KEYS)
    assert both.topics == ["quote:XBTUSD", "chat", "quote:ETHUSD", "margin", "position", "order", "execution"]
    assert "sandbox" not in repr(both)


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((), {"environment": "mainnet2"}, ConfigError),
        ((), {"url": "http://host"}, ConfigError),
        ((), {"api_key": "k"}, ConfigError),
        ((), {"api_secret": "s"}, ConfigError),
        ((), {"dead_mans_switch": True}, ConfigError),
        ((), {**KEYS, "dead_mans_switch": 15}, ConfigError),
        ((), {**KEYS, "dead_mans_switch": float("nan")}, ConfigError),
        ((), {**KEYS, "dead_mans_switch": "60"}, ConfigError),
        (("XBTUSD",), {"channels": "two words"}, InvalidInputError),
        (("XBT USD",), {}, InvalidInputError),
        ((["XBTUSD", ""],), {"channels": ["trade:"]}, InvalidInputError),
        (("XBTUSD",), {"channels": ["order"]}, ConfigError),
        ((), {"queue_size": 0}, ConfigError),
    ],
)
def test_bad_arguments_fail_at_once(arguments: Any, options: dict[str, Any], error: type[Exception]) -> None:
    """A mistake would show only after the connect."""
    with pytest.raises(error):
        BitmexStream(*arguments, **options)


def test_rows_come_whole_and_for_whom_they_are(open_stream: Callable[..., BitmexStream], market: Sandbox) -> None:
    """A handler would get parts of rows, or those of other tables and symbols."""
    stream = open_stream("XBTUSD", "ETHUSD", channels=["instrument", "quote"])
    everything: queue.Queue[TableItem] = queue.Queue()
    quotes: queue.Queue[TableItem] = queue.Queue()
    ether: queue.Queue[TableItem] = queue.Queue()
    assert stream.on_table(everything.put) == everything.put
    stream.on_table("quote")(quotes.put)
    stream.on_table(ether.put, "quote", "ETHUSD")
    stream.start()
    seen = [everything.get(timeout=10) for _ in range(200)]
    for item, symbol, table, action in seen:
        assert (symbol, table) in {(s, t) for s in ("XBTUSD", "ETHUSD") for t in ("instrument", "quote")}
        assert action in ("partial", "insert", "update")
        assert item["symbol"] == symbol
        assert len(item) == (103 if table == "instrument" else 6)
    assert {one.action for one in seen if one.table == "instrument"} == {"partial", "update"}
    assert {quotes.get(timeout=10).table for _ in range(50)} == {"quote"}
    assert {ether.get(timeout=10)[1:3] for _ in range(50)} == {("ETHUSD", "quote")}
    assert time.time() - 60 < seen[-1].received_at <= time.time()
    assert stream.off(everything.put)
    newest = stream.latest("quote:ETHUSD")
    assert newest is not None
    assert newest.symbol == "ETHUSD"
    assert stream.guard("quote:ETHUSD", 10).message.table == "quote"
    with pytest.raises(StaleDataError):
        stream.guard("quote:NOPE", 10)
    with pytest.raises(HandlerError):
        stream.on_table(lambda item, symbol, table, action: None)
    with pytest.raises(InvalidInputError):
        stream.on_table("no table!")


def test_iterating_gives_tuples(open_stream: Callable[..., BitmexStream]) -> None:
    """The seed's loop would not run."""
    stream = open_stream("XBTUSD")
    with stream:
        seen = set()
        for item, symbol, table, _ in stream:
            assert (item["symbol"], symbol) == ("XBTUSD", "XBTUSD")
            seen.add(table)
            if {"instrument", "quote", "trade"} <= seen:
                break
        assert stream.take(3, "quote:XBTUSD", timeout=10)[0].table == "quote"
        assert stream.wait_for(lambda one: one.table == "trade", timeout=10).symbol == "XBTUSD"


def test_deleted_rows_are_handed_on_only_when_asked_for(
    open_stream: Callable[..., BitmexStream], market: Sandbox
) -> None:
    """A bot that takes every row for a living one would trade on levels that are gone."""
    for deletes in (False, True):
        stream = open_stream("XBTUSD", channels=["orderBookL2"], deletes=deletes)
        items: queue.Queue[TableItem] = queue.Queue()
        stream.on_table(items.put)
        with stream:
            stream.wait_until_filled()
            market.controls("bitmex").pause()
            row = market.controls("bitmex").rows("orderBookL2", "XBTUSD")[0]
            key = {name: row[name] for name in ("symbol", "id", "side")}
            for action, data in (("delete", key), ("insert", row)):
                market.publish("orderBookL2:XBTUSD", {"table": "orderBookL2", "action": action, "data": [data]})
            seen = [items.get(timeout=10)]
            while seen[-1] != (row, "XBTUSD", "orderBookL2", "insert"):
                seen.append(items.get(timeout=10))
            assert ((row, "XBTUSD", "orderBookL2", "delete") in seen) == deletes
            market.controls("bitmex").resume()


def test_subscribing_and_unsubscribing_while_open(open_stream: Callable[..., BitmexStream], market: Sandbox) -> None:
    """Tables would come late or not at all, or old rows would look like living ones."""
    stream = open_stream()
    stream.start()
    stream.subscribe("quote:XBTUSD", "funding", "chat", "tradeBin1h:*")
    stream.wait_until_filled()
    assert len(stream.storage.data["funding"]) == 3
    assert len(stream.storage.data["tradeBin1h"]) == 3
    assert stream.storage.data["chat"] == []
    assert sorted(one.path for one in market.connections()) == ["/realtime", "/realtimePlatform"]
    assert stream.topics == ["quote:XBTUSD", "funding", "chat", "tradeBin1h:*"]
    stream.unsubscribe("quote:XBTUSD", "trade:XBTUSD")
    assert stream.storage.data["quote"] == []
    assert eventually(lambda: market.connections()[0].subscriptions == ["funding", "tradeBin1h:*"])
    assert stream.storage.data["quote"] == []
    stream.unsubscribe("chat")
    assert eventually(lambda: len(market.connections()) == 1)
    stream.subscribe("quote", "quote:ETHUSD")
    stream.wait_until_filled()
    stream.unsubscribe("quote")
    stream.wait_until_filled("quote:ETHUSD")
    assert {row["symbol"] for row in stream.storage.data["quote"]} == {"ETHUSD"}


@pytest.mark.parametrize("keys", [{**KEYS, "api_secret": "wrong"}, {**KEYS, "api_key": "unknown"}])
def test_wrong_credentials_are_told_by_start(open_stream: Callable[..., BitmexStream], keys: dict[str, str]) -> None:
    """A bot would run without its account, or try for ever."""
    stream = open_stream("XBTUSD", **keys)
    with pytest.raises(AuthorizationError) as caught:
        stream.start()
    assert "wrong" not in str(caught.value)
    assert stream.failure is caught.value


def test_account_tables_need_credentials(open_stream: Callable[..., BitmexStream]) -> None:
    """The server's refusal would come long after the mistake."""
    with pytest.raises(ConfigError, match="margin"):
        open_stream().subscribe("margin")


def test_each_connect_is_signed_anew(open_stream: Callable[..., BitmexStream], market: Sandbox) -> None:
    """A stream that had run for an hour would not come back."""
    stream = open_stream(**KEYS)
    stream.start()
    stream.wait_until_filled()
    for _ in range(3):
        before = stream.stats().reconnects
        market.abort_all()
        assert eventually(lambda before=before: stream.stats().reconnects > before and stream.is_connected)
        stream.wait_until_filled()
    assert stream.storage.data["margin"][0]["currency"] == "XBt"


def test_a_refused_topic_is_a_typed_error_of_its_own(open_stream: Callable[..., BitmexStream]) -> None:
    """Nobody would know which of many topics was refused; or it would be asked for again and again."""
    stream = open_stream("XBTUSD")
    errors: queue.Queue[Exception] = queue.Queue()
    stream.on_error(errors.put)
    stream.start()
    for topic, said in (("quote:NOPE", "400: Unknown or expired symbol."), ("wibble", "400: Unknown table: wibble")):
        stream.subscribe(topic)
        error = errors.get(timeout=10)
        assert isinstance(error, SubscriptionRefusedError)
        assert (error.name, error.said) == (topic, said)
        assert topic not in stream.topics
    stream.wait_until_filled()
    assert errors.empty()


class CommandServer(ScriptedServer):
    """Answers commands as `answer` says; pings too."""

    def _serve(self, connection: ServerConnection) -> None:
        try:
            for text in connection:
                if text == "ping":
                    connection.send("pong")
                else:
                    self.answer(connection, json.loads(text))
        except ConnectionClosed:
            pass

    def grant(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        """Acknowledge a subscription and send its image, of one row."""
        table, _, symbol = message["args"][0].partition(":")
        rows = [{"symbol": symbol, "n": 1}]
        connection.send(json.dumps({"success": True, "subscribe": message["args"][0], "request": message}))
        image = {"table": table, "action": "partial", "keys": [], "filter": {"symbol": symbol}, "data": rows}
        connection.send(json.dumps(image))


class BusyServer(CommandServer):
    """Has no room for the first subscriptions."""

    def __init__(self, busy: int) -> None:
        super().__init__()
        self.asked = 0
        self._busy = busy

    def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        self.asked += 1
        if self.asked > self._busy:
            self.grant(connection, message)
            return
        said = "Rate limit exceeded, retry in 1 seconds."
        refusal = {"status": 429, "error": said, "meta": {"retryAfter": 0.1}, "request": message}
        connection.send(json.dumps(refusal))


class SlowServer(CommandServer):
    """Sends the image of its first subscription only when that has been taken back."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[str, Any] | None = None

    def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        if self._first is None:
            self._first = message
        elif message["op"] == "unsubscribe":
            self.grant(connection, self._first)
        else:
            self.grant(connection, message)


def test_an_image_that_comes_after_its_topic_was_given_up_is_dropped() -> None:
    """Its rows would stay for ever and look alive."""
    with SlowServer() as server, BitmexStream("XBTUSD", url=server.url, channels=["quote"], **QUICK) as stream:
        stream.unsubscribe("quote:XBTUSD")
        stream.subscribe("trade:XBTUSD")
        stream.wait_until_filled(timeout=10)
        assert dict(stream.storage.data) == {"trade": [{"symbol": "XBTUSD", "n": 1}]}
        stream.subscribe("quote:XBTUSD")
        stream.wait_until_filled(timeout=10)
        assert len(stream.storage.data["quote"]) == 1


def test_a_busy_server_is_asked_again() -> None:
    """A rate limit would be taken for a refusal, and the table never come."""
    with BusyServer(2) as server, BitmexStream("XBTUSD", url=server.url, channels=["quote"], **QUICK) as stream:
        errors: list[Exception] = []
        stream.on_error(errors.append)
        stream.wait_until_filled(timeout=10)
        assert (server.asked, errors, stream.topics) == (3, [], ["quote:XBTUSD"])


def test_the_dead_mans_switch_is_armed_at_every_connect(
    open_stream: Callable[..., BitmexStream], market: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders would stay when the bot dies."""
    monkeypatch.setattr("finx_sync.session.supervisor.AUTHENTICATION_GRACE", 3600.0)
    stream = open_stream(dead_mans_switch=True, **KEYS)
    stream.start()  # the answer proves the key: no need to wait for a refusal
    market.abort_all()
    assert eventually(lambda: stream.is_connected and stream.stats().reconnects == 1)
    armed = {"op": "cancelAllAfter", "args": 60_000}
    assert eventually(lambda: [request for _, request in market.requests].count(armed) == 2)


def test_a_silent_server_is_pinged_in_its_own_way(
    open_stream: Callable[..., BitmexStream], market: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BitMEX recommends a plain ping after five seconds of silence; here it is sooner."""
    monkeypatch.setattr(BitmexCodec, "idle_ping", (0.05, "ping"))
    stream = open_stream()
    stream.start()
    assert eventually(lambda: stream.stats().messages.control > 10)
    assert stream.stats().messages.unknown == 0


@pytest.mark.parametrize(
    "text",
    [
        '{"table":"orderBookL2","action":"update","data":[{"symbol":"XBTUSD","id":1,"side":"Buy","size":5}]}',
        '{"table":"orderBookL2","action":"insert","data":[{"symbol":"XBTUSD","size":5}]}',
        '{"table":"orderBookL2","action":"update","data":[{"symbol',
    ],
)
def test_a_change_that_does_not_fit_brings_a_new_image(
    open_stream: Callable[..., BitmexStream], market: Sandbox, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A book would stay wrong for ever."""
    stream = open_stream("XBTUSD", channels=["orderBookL2"])
    errors: list[Exception] = []
    stream.on_error(errors.append)
    images: queue.Queue[str] = queue.Queue()
    stream.on_message(lambda message: images.put(message) if '"partial"' in message else None)
    stream.start()
    images.get(timeout=10)
    market.publish_raw("orderBookL2:XBTUSD", text)
    images.get(timeout=10)
    assert "asking again for orderBookL2:XBTUSD" in caplog.text
    assert all(isinstance(error, UnreadableMessageError) for error in errors)
    market.controls("bitmex").pause()
    assert eventually(lambda: agrees(stream, market, "orderBookL2"))


def test_dropped_messages_bring_new_images(open_stream: Callable[..., BitmexStream], market: Sandbox) -> None:
    """A handler that was too slow would leave the tables wrong."""
    stream = open_stream("XBTUSD", channels=["orderBookL2"], overflow="drop_oldest", queue_size=5)
    gate = threading.Event()
    stream.on_table(lambda item: gate.wait(10))
    gaps: queue.Queue[Any] = queue.Queue()
    stream.on_gap(gaps.put)
    stream.start()
    assert eventually(lambda: stream.stats().messages.dropped > 5)
    gate.set()
    assert gaps.get(timeout=10).reason == "slow consumer"
    market.controls("bitmex").pause()
    assert eventually(lambda: agrees(stream, market, "orderBookL2"))


def test_waiting_for_images_is_bounded(open_stream: Callable[..., BitmexStream], market: Sandbox) -> None:
    """A program would hang."""
    stream = open_stream("XBTUSD")
    with pytest.raises(UsageError):
        stream.wait_until_filled()
    market.stop()
    market.start()
    stream.start()
    stream.wait_until_filled("quote:XBTUSD")
    stream.subscribe("trade:NOPE")
    stream.wait_until_filled(timeout=10)  # what is refused is not waited for
    raised: queue.Queue[Exception] = queue.Queue()

    @stream.on_table
    def in_a_handler(item: TableItem) -> None:
        stream.off(in_a_handler)
        try:
            stream.wait_until_filled()
        except UsageError as error:
            raised.put(error)

    assert raised.get(timeout=10)


def test_an_image_that_does_not_come_is_a_timeout(open_stream: Callable[..., BitmexStream]) -> None:
    """The text must name the topic."""
    stream = open_stream("XBTUSD")
    stream.start()
    stream.wait_until_filled()
    stream.storage.forget("quote", "XBTUSD")
    with pytest.raises(StreamTimeoutError, match=r"quote:XBTUSD within 0\.1 s"):
        stream.wait_until_filled(timeout=0.1)


def test_the_embedded_sandbox_needs_nothing() -> None:
    """A newcomer could not try it."""
    with BitmexStream("XBTUSD", environment="sandbox", **KEYS) as stream:
        stream.wait_until_filled()
        assert stream.storage.data["margin"][0]["walletBalance"] > 0
    assert stream.storage.data["margin"]  # to look at afterwards


TABLES = [*ALL, "margin", "position", "order", "execution"]


@pytest.mark.parametrize("seed", [1, 2])
def test_after_every_fault_the_tables_are_the_servers_own(
    open_stream: Callable[..., BitmexStream], market: Sandbox, seed: int
) -> None:
    """Twenty cuts, at any moment and of each kind: each leaves every table row by row as the server has it."""
    rng = random.Random(seed)
    stream = open_stream("XBTUSD", "ETHUSD", channels=ALL, **KEYS)
    stream.start()
    faults: list[Callable[[], object]] = [
        market.abort_all,
        market.disconnect_all,
        lambda: market.disconnect_all(1012, "restart"),
        lambda: market.publish_raw("orderBookL2:XBTUSD", '{"table":"orderBookL2","action":"delete","da'),
    ]
    for number in range(20):
        threading.Event().wait(rng.uniform(0, 0.1))
        rng.choice(faults)()
        if number % 3 == 0:
            market.controls("bitmex").place("XBTUSD", "buy", 100, price=1000.0 + number)
        if number % 5 == 4:
            assert eventually(lambda: stream.is_connected)
            market.controls("bitmex").pause()
            for table in TABLES:
                assert eventually(lambda table=table: agrees(stream, market, table)), (number, table)
            market.controls("bitmex").resume()
    stream.stop()
    books = stream.stats().messages
    assert books.received == (
        books.handled + books.unclaimed + books.control + books.unreadable + books.duplicate + books.dropped
    )
    assert books.unknown == 0
