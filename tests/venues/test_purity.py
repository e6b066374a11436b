"""A codec has no memory: the same bytes say the same, whoever decodes them, and decoding changes nothing."""

from __future__ import annotations

import json
import queue
import threading
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from finx_sync import StreamManager
from finx_sync.errors import SubscriptionRefusedError
from finx_sync.stream import Stream
from finx_sync.venues.base import Codec, Subscription
from finx_sync.venues.bitmex import BitmexCodec
from finx_sync.venues.deribit import DeribitCodec
from finx_sync.venues.finx import FinxCodec
from finx_sync.venues.ftx import FtxCodec, FtxStream
from finx_sync.venues.ime import ImeCodec
from tests.scripted import CONTRACT, SPOT, ScriptedServer
from tests.waiting import wait_until

ROUNDS = 200
PAYLOADS: dict[str, list[Any]] = {
    "FinX": [CONTRACT, SPOT, {"isAuth": True}, {"error": "no"}, [1], "{"],
    "FTX": [
        {"type": "subscribed", "channel": "ticker", "market": "A"},
        {"type": "unsubscribed", "channel": "ticker", "market": "A"},
        {"type": "error", "code": 404, "msg": "No such market: A"},
        {"type": "error", "code": 400, "msg": "Invalid login credentials"},
        {"type": "error", "code": 400, "msg": "Not logged in"},
        {"type": "pong"},
        {"channel": "orderbook", "market": "A", "type": "partial", "data": {"bids": [[1, 1]], "asks": []}},
        "{",
    ],
    "BitMEX": [
        {"table": "quote", "action": "partial", "keys": [], "data": [{"symbol": "A"}]},
        {"success": True, "subscribe": "quote:A"},
        {"status": 400, "error": "no", "request": {"op": "subscribe", "args": ["quote:A"]}},
        "pong",
        "{",
    ],
    "Deribit": [
        {"jsonrpc": "2.0", "id": number, **outcome}
        for number in range(1, 9)
        for outcome in ({"result": ["ticker.A.100ms"]}, {"error": {"code": 1, "message": "no"}})
    ],
    "IME": [{"contractName": "A", "data": {}}, {"error": "no"}, "{"],
}
CODECS = [
    FinxCodec("wss://host"),
    FtxCodec(),
    BitmexCodec("wss://host"),
    DeribitCodec("wss://host"),
    ImeCodec("wss://host"),
]


def payloads_of(venue: str) -> list[bytes]:
    """What a server of this venue may say."""
    return [one.encode() if isinstance(one, str) else json.dumps(one).encode() for one in PAYLOADS[venue]]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.venue)
def test_decoding_twice_on_two_threads_says_the_same(codec: Codec) -> None:
    """A conversion beside a live stream would take answers away from it, or be given its."""
    payloads = payloads_of(codec.venue)
    kind = next(iter(codec.kinds.values()))
    expected = repr(codec.decode(payloads))
    found: list[str] = []

    def decode() -> None:
        found.extend(repr(codec.decode(payloads)) for _ in range(ROUNDS))

    threads = [threading.Thread(target=decode) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(ROUNDS):  # what is asked for meanwhile changes no answer's meaning
        codec.opening("", 1e9)
        codec.subscribe("", Subscription(kind, "A" if number % 2 else "B"))
    for thread in threads:
        thread.join(30)
    assert len(found) == 2 * ROUNDS
    assert set(found) == {expected}


class Deaf(ScriptedServer):
    """Answers nothing but what a test sends."""

    def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        pass


def ftx_stream(url: str) -> FtxStream:
    """A stream that has asked for one ticker."""
    stream = FtxStream(url=url)
    stream.subscribe_ticker("A")
    return stream


def deribit_stream(url: str) -> StreamManager:
    """The same of Deribit."""
    stream = StreamManager(environment="deribit", url=url)
    stream.subscribe_contract("A")
    return stream


def refusal(venue: str, asked: dict[str, Any]) -> str:
    """The server's no to a request."""
    if venue == "ftx":
        return '{"type": "error", "code": 404, "msg": "No such market: A"}'
    return json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "error": {"code": 10009, "message": "no"}})


def subscribing(message: dict[str, Any]) -> bool:
    """Whether it is the request that is to be refused."""
    return message.get("op") == "subscribe" or message.get("method") == "public/subscribe"


@pytest.mark.parametrize("venue", ["ftx", "deribit"])
def test_converting_a_recording_leaves_a_live_stream_alone(venue: str, tmp_path: Path) -> None:
    """A refusal of last week would end a subscription of today."""
    pytest.importorskip("pyarrow")
    make: Any = ftx_stream if venue == "ftx" else deribit_stream

    class Refusing(Deaf):
        def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
            if subscribing(message):
                connection.send(refusal(venue, message))

    path = tmp_path / "feed.finxrec"
    with Refusing() as server:
        recorded: Stream = make(server.url)
        errors: queue.Queue[Any] = queue.Queue()
        recorded.on_error(errors.put)
        with recorded.record(path), recorded:
            assert isinstance(errors.get(timeout=10), SubscriptionRefusedError)
    with Deaf() as server:
        live: Stream = make(server.url)
        told: queue.Queue[Any] = queue.Queue()
        live.on_error(told.put)
        with live:
            asked: dict[str, Any] = {}
            while not subscribing(asked):
                asked = server.received.get(timeout=10)
            for number in range(3):
                live.convert(path, tmp_path / f"tables {number}")
            assert told.empty()
            assert len(live._subscriptions.desired()) == 1
            server.next_connection().send(refusal(venue, asked))  # its own request is still open
            error = told.get(timeout=10)
            assert isinstance(error, SubscriptionRefusedError)
            assert error.name == "A"
            assert wait_until(lambda: not live._subscriptions.desired())
