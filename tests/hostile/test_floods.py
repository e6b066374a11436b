"""Floods: a server that sends more than anyone can take holds up no stop, fills no memory, and writes no log full.

What is counted is work, not time: how much is still done after a stop was asked for.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from finx_sync import SpotTick, State, StreamManager, events
from finx_sync.errors import FinxSyncError, UnreadableMessageError
from finx_sync.pipeline import latest, pipeline, queue
from finx_sync.pipeline.catchup import Backlog, Waiting
from finx_sync.pipeline.controls import LOGGED
from finx_sync.session.session import Session
from finx_sync.stream import Stream
from finx_sync.venues.bitmex import BitmexStream
from finx_sync.venues.ftx import FtxStream
from finx_sync.venues.ftx.book import MAX_LEVELS, FtxBook
from finx_sync.venues.ftx.codec import FtxCodec
from finx_sync.venues.ftx.messages import BookUpdate
from finx_sync.venues.ftx.state import FtxState
from tests.scripted import SPOT, text
from tests.servers import RawServer, client_frames, server_frame, until_close_frame

PATIENCE = 30.0
MEBIBYTE = 1 << 20
GOOD = server_frame(1, text().encode())
COUNT = 524_288
"""Empty frames in a mebibyte."""
STEP = pipeline.SLICE
KEYS = {"api_key": "sandbox-key", "api_secret": "sandbox-secret"}


def tick(number: int) -> bytes:
    """A spot rate of a name that nobody asked for."""
    fields = {**SPOT, "pair": f"A:{number}"}
    return server_frame(1, json.dumps(fields, separators=(",", ":")).encode())


def read_login(connection: socket.socket) -> None:
    """Wait for the first message."""
    data = b""
    while not client_frames(data):
        data += connection.recv(65536)


def sending(*frames: bytes) -> Callable[[socket.socket], None]:
    """A script that takes the key, sends something, and waits for the goodbye."""

    def script(connection: socket.socket) -> None:
        read_login(connection)
        connection.sendall(server_frame(1, b'{"isAuth":true}'))
        for frame in frames:
            connection.sendall(frame)
        until_close_frame(connection)

    return script


@contextmanager
def stopped(stream: Stream) -> Iterator[None]:
    """Stop it at the end, whatever has become of it."""
    try:
        yield
    finally:
        stream.stop()


FLOODS: dict[str, bytes] = {
    "empty frames": server_frame(1) * COUNT,
    "rubbish": server_frame(1, b"x") * 100_000,
    "unknown objects": server_frame(1, b"{}") * 100_000,
    "errors": server_frame(1, b'{"error":"x"}') * 50_000,
    "keep-alive replies": server_frame(1, b'{"keepAlive":true}') * 50_000,
    "ticks of one name": tick(0) * 20_000,
    "ticks of made-up names": b"".join(tick(number) for number in range(20_000)),
}


class Counting:
    """Decodes as the codec does, and holds the dispatch thread once much has been decoded, until it is to stop."""

    def __init__(self, stream: Stream, after: int) -> None:
        self._stream = stream
        self._decode = stream._codec.decode
        self._after = after
        self.reached = threading.Event()
        self.stopping = threading.Event()
        self.before = self.late = self.largest = 0
        stream._codec.decode = self  # type: ignore[method-assign]

    def __call__(self, payloads: Any) -> Any:
        self.largest = max(self.largest, len(payloads))
        if self.stopping.is_set():
            self.late += len(payloads)
        else:
            self.before += len(payloads)
            if self.before > self._after:
                self.reached.set()
                self.stopping.wait(PATIENCE)
        return self._decode(payloads)

    def stop(self) -> None:
        """Ask for a stop in the middle of the flood, and let the dispatch thread go on when it has been asked for."""
        assert self.reached.wait(PATIENCE)
        session = self._stream._session
        assert session is not None
        stopper = threading.Thread(target=self._stream.stop, args=(PATIENCE,))
        stopper.start()
        while not session.pipeline.delivery.stopping:
            stopper.join(0.001)
        self.stopping.set()
        stopper.join(PATIENCE)
        assert not stopper.is_alive()


@pytest.mark.parametrize("overflow", ["auto", "latest", "drop_oldest"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_stop_waits_for_no_more_than_what_is_in_flight(flood: str, overflow: Any) -> None:
    """stop() would wait for half a million messages, and the handlers be called after it."""
    late: list[object] = []
    with RawServer(sending(GOOD, FLOODS[flood])) as server:
        stream = StreamManager("sandbox-key", url=server.url.rstrip("/"), overflow=overflow)
        counting = Counting(stream, after=2000)
        for register in (stream.on_error, stream.on_spot, stream.on_contract):
            register(lambda what: late.append(what) if counting.stopping.is_set() else None)
        with stopped(stream):
            stream.start()
            counting.stop()
            assert stream.state is State.STOPPED
        books = stream.stats().messages
    assert counting.largest <= STEP
    assert counting.late <= STEP
    assert late == []
    known = books.dropped + books.handled + books.unclaimed + books.control + books.unreadable
    assert books.received == known + books.waiting
    assert books.in_flight == 0


@pytest.mark.parametrize("listens", [False, True])
def test_a_mebibyte_of_empty_frames_passes_and_what_follows_is_handled(
    listens: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The log would grow by half a million lines, or the stream be deaf for good."""
    caplog.set_level(logging.WARNING, "finx_sync")
    count = 20_000
    errors: list[FinxSyncError] = []
    ticked = threading.Event()
    with RawServer(sending(server_frame(1) * count, GOOD)) as server:
        stream = StreamManager("sandbox-key", url=server.url.rstrip("/"))
        stream.on_contract(lambda tick: ticked.set())
        if listens:
            stream.on_error(errors.append)
        with stopped(stream):
            stream.start()
            assert ticked.wait(PATIENCE)
            assert stream.stats().messages.unreadable == count
    assert len(errors) == (count if listens else 0)
    records = [one for one in caplog.records if "could not be read" in one.getMessage()]
    assert len(records) <= (0 if listens else LOGGED + 3)
    assert listens or len(records) >= LOGGED


def test_a_flood_of_rubbish_starves_no_message_that_waits() -> None:
    """The oldest message would wait until there is no more rubbish to take in, which may be never."""
    enough = threading.Event()

    def script(connection: socket.socket) -> None:
        read_login(connection)
        connection.sendall(server_frame(1, b'{"isAuth":true}'))
        chunk = tick(0) + server_frame(1, b"{}") * 5000
        while not enough.is_set():
            connection.sendall(chunk)
        until_close_frame(connection)

    seen: list[SpotTick] = []

    def note(one: SpotTick) -> None:
        seen.append(one)
        if len(seen) >= 5:
            enough.set()

    with RawServer(script) as server:
        stream = StreamManager("sandbox-key", url=server.url.rstrip("/"), overflow="latest", queue_size=2000)
        stream.on_spot(note)
        with stopped(stream):
            stream.start()
            assert enough.wait(PATIENCE)


def test_one_read_becomes_batches_that_can_be_handled_soon() -> None:
    """Whatever is done to a batch as a whole would take half a million times as long."""
    stream = StreamManager("sandbox-key", url="ws://127.0.0.1:9")
    session = Session(stream._session_parts(live=True))
    source: Any = None
    payloads = [b"%d" % number for number in range(queue.MAX_BATCH * 2 + 5)]
    batch = events.Batch(payloads, 1.0, 1.0, events.Connection(""))
    session.queue._election.came = lambda *_, **__: None  # type: ignore[method-assign]
    session.queue.put(batch, source)
    found: list[bytes] = []
    while isinstance(part := session.queue.get_waiting(), events.Batch):
        assert len(part.payloads) <= queue.MAX_BATCH
        assert (part.at, part.connection) == (batch.at, batch.connection)
        found += part.payloads
    assert found == payloads


# One message that holds many


def held_until_stopped(stream: Stream, calls: list[object]) -> tuple[Callable[[object], None], Callable[[], None]]:
    """A handler whose first call lasts until the stream is stopping, and what stops it."""
    called, stopping = threading.Event(), threading.Event()

    def handler(message: object) -> None:
        calls.append(message)
        called.set()
        stopping.wait(PATIENCE)

    def stop() -> None:
        assert called.wait(PATIENCE)
        stopper = threading.Thread(target=stream.stop, args=(PATIENCE,))
        stopper.start()
        session = stream._session
        assert session is not None
        while not session.pipeline.delivery.stopping:
            stopper.join(0.001)
        stopping.set()
        stopper.join(PATIENCE)
        assert not stopper.is_alive()

    return handler, stop


def test_a_frame_of_many_trades_ends_with_a_stop() -> None:
    """A handler would be called a hundred thousand times after the stop."""
    trade = {
        "id": 1,
        "price": 1.0,
        "size": 1.0,
        "side": "buy",
        "liquidation": False,
        "time": "2021-07-22T22:45:25+00:00",
    }
    frame = {"channel": "trades", "market": "BTC-PERP", "type": "update", "data": [trade] * 5000}
    with RawServer(sending(server_frame(1, json.dumps(frame).encode()))) as server:
        stream = FtxStream(url=server.url)
        calls: list[object] = []
        handler, stop = held_until_stopped(stream, calls)
        stream.on_trade(handler)
        stream.subscribe_trades("BTC-PERP")
        with stopped(stream):
            stream.start()
            stop()
    assert len(calls) == 1


def test_fills_that_a_stop_has_kept_back_are_no_duplicates_later() -> None:
    """After the next start, the server's repetition of a fill that no handler has seen would be dropped."""
    codec, state = FtxCodec(), FtxState()
    fill = {
        "fee": 1.0, "feeRate": 0.1, "future": None, "id": 7, "liquidity": "taker", "market": "BTC-PERP", "orderId": 1,
        "tradeId": 1, "price": 1.0, "side": "buy", "size": 1.0, "time": "2019-05-07T16:40:58.358438+00:00",
        "type": "order", "baseCurrency": None, "quoteCurrency": None, "feeCurrency": "USD",
    }  # fmt: skip
    payload = json.dumps({"channel": "fills", "type": "update", "data": fill}).encode()

    def taken() -> list[Any]:
        (frame,) = codec.decode([payload])
        return [message for _, message in state.take(frame, None, 0.0, ()).messages]

    first = taken()
    assert [one.id for one in first] == [7]
    assert taken() == [], "it counts as handed on"
    state.withheld(first)
    assert taken() == first


def test_an_image_of_many_rows_ends_with_a_stop() -> None:
    """A handler would be called a hundred thousand times after the stop."""
    rows = [{"symbol": f"X{number}", "bidPrice": 1} for number in range(5000)]
    frame = {"table": "quote", "action": "partial", "keys": [], "filter": {}, "data": rows}

    def script(connection: socket.socket) -> None:
        read_login(connection)
        connection.sendall(server_frame(1, json.dumps(frame).encode()))
        until_close_frame(connection)

    with RawServer(script) as server:
        stream = BitmexStream(url=server.url)
        calls: list[object] = []
        handler, stop = held_until_stopped(stream, calls)
        stream.on_table(handler)
        stream.subscribe("quote")
        with stopped(stream):
            stream.start()
            stop()
    assert len(calls) == 1


@pytest.mark.parametrize("rising", [False, True])
def test_an_order_book_has_bounds(rising: bool) -> None:
    """A server could fill the memory with levels, and each one more would take longer to put in its place."""
    book = FtxBook()
    for part in range(3):
        prices = [float(number) for number in range(part * 10**6 + 1, part * 10**6 + 3 * MAX_LEVELS)]
        levels = [(price, 1.0) for price in (prices if rising else reversed(prices))]
        update = BookUpdate(market="BTC-PERP", action="update" if part else "partial", bids=levels, asks=levels)
        assert book.apply(update)
        for side in (book._bids, book._asks):
            assert len(side._order) == len(side._sizes) == len(side._texts) <= MAX_LEVELS
            assert side._order == sorted(side._sizes)
    book.drop()
    assert book.apply(BookUpdate(market="BTC-PERP", action="partial", bids=[(1.0, 2.0)], asks=[]))
    assert book.bids() == [(1.0, 2.0)]


# Memory


def test_large_messages_under_new_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last values of made-up names would keep gigabytes: their number alone is no bound."""
    monkeypatch.setattr(latest, "MAX_BYTES", 8 * MEBIBYTE)
    monkeypatch.setattr("finx_sync.pipeline.delivery.WEIGH_AFTER", 4 * MEBIBYTE)
    count = 40

    def script(connection: socket.socket) -> None:
        read_login(connection)
        connection.sendall(server_frame(1, b'{"isAuth":true}'))
        for number in range(count):
            fields = {**SPOT, "pair": f"A:{number}", "exchange": "x" * MEBIBYTE}
            connection.sendall(server_frame(1, json.dumps(fields, separators=(",", ":")).encode()))
        connection.sendall(GOOD)
        until_close_frame(connection)

    ticked = threading.Event()
    with RawServer(script) as server:
        stream = StreamManager("sandbox-key", url=server.url.rstrip("/"))
        stream.on_contract(lambda tick: ticked.set())
        with stopped(stream):
            stream.start()
            assert ticked.wait(PATIENCE)
            kept = [name for name in (f"A:{number}" for number in range(count)) if stream.latest(name) is not None]
            assert 0 < len(kept) <= 8 + 4 + 2
            assert kept == [f"A:{number}" for number in range(count)][-len(kept) :], "the oldest go first"
            assert stream.latest("BTC-26AUG22-20000-C") is not None


def test_large_messages_do_not_fill_the_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it catches up, the dispatch thread would take in messages without a bound to their bytes."""
    monkeypatch.setattr(pipeline, "MAX_BACKLOG_BYTES", 1000)
    stream = StreamManager("sandbox-key", url="ws://127.0.0.1:9", overflow="latest")
    session = Session(stream._session_parts(live=True))
    connection = events.Connection("")
    session.queue._election.came = lambda *_, **__: None  # type: ignore[method-assign]
    source: Any = None
    for number in range(50):
        payload = json.dumps({**SPOT, "pair": f"A:{number}"}, separators=(",", ":")).encode()
        session.queue.put(events.Batch([payload], 1.0, 1.0, connection), source)
    backlog = Backlog()
    session.pipeline._absorb_waiting(backlog)
    assert 1000 <= backlog.size <= 1000 + len(payload)
    assert session.pipeline.counter.waiting == 50 - len(backlog)
    while len(backlog):
        backlog.pop()
    assert backlog.size == 0


def test_the_backlog_knows_its_bytes() -> None:
    """What has been replaced would count for ever, and the bound close for good."""
    stream = StreamManager("sandbox-key", url="ws://127.0.0.1:9")
    backlog = Backlog()
    for price in ("1", "22", "333"):
        payload = json.dumps({**SPOT, "price": price}, separators=(",", ":")).encode()
        (message,) = stream._codec.decode([payload])
        assert isinstance(message, SpotTick)
        backlog.add(Waiting(message, payload, 1.0, 1.0))
        assert backlog.size == len(payload)
    assert len(backlog) == 1


# One message


@pytest.mark.parametrize("depth", range(960, 1001, 4))
def test_an_error_however_deep_ends_no_stream(depth: int) -> None:
    """A single message would end the stream as a defect of ours; it did where it was 989 deep."""
    deep = '{"error":' + "[" * depth + "]" * depth + "}"
    errors: list[FinxSyncError] = []
    ticked = threading.Event()
    with RawServer(sending(GOOD, server_frame(1, deep.encode()), GOOD)) as server:
        stream = StreamManager("sandbox-key", url=server.url.rstrip("/"))
        stream.on_error(errors.append)
        seen: list[object] = []

        @stream.on_contract
        def note(tick: object) -> None:
            seen.append(tick)
            if len(seen) == 2:
                ticked.set()

        with stopped(stream):
            stream.start()
            assert ticked.wait(PATIENCE)
    assert len(errors) == 1


def test_a_control_message_that_nobody_can_act_on_is_reported_and_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect in what a message makes the library do would end every stream that meets one."""
    errors: list[FinxSyncError] = []
    ticked = threading.Event()
    with RawServer(sending(server_frame(1, b"{}") * 3, GOOD)) as server:
        stream = StreamManager("sandbox-key", url=server.url.rstrip("/"))
        stream.on_error(errors.append)
        stream.on_contract(lambda tick: ticked.set())
        take = "finx_sync.pipeline.controls.Controls.take"
        real = __import__("finx_sync.pipeline.controls", fromlist=["Controls"]).Controls.take

        def broken(self: Any, message: Any, connection: Any) -> Any:
            if type(message).__name__ == "Unknown":
                raise LookupError("a defect")
            return real(self, message, connection)

        monkeypatch.setattr(take, broken)
        with stopped(stream):
            stream.start()
            assert ticked.wait(PATIENCE)
            books = stream.stats().messages
    assert books.unreadable == 3
    assert [type(error) for error in errors] == [UnreadableMessageError] * 3
    assert isinstance(errors[0].__cause__, LookupError)
    assert len([one for one in caplog.records if "defect of finx_sync" in one.getMessage()]) == 1


@pytest.mark.parametrize("raised", [RecursionError("too deep"), ValueError("odd"), KeyError("gone")])
def test_a_message_that_a_decoder_chokes_on_is_reported_and_the_others_are_handled(
    raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect in a decoder would end every stream that meets such a message, and take its neighbours along."""
    errors: list[FinxSyncError] = []
    ticked = threading.Event()
    seen: list[object] = []
    evil = server_frame(1, b'{"evil":1}')
    with RawServer(sending(GOOD + evil + GOOD + evil + GOOD)) as server:
        stream = StreamManager("sandbox-key", url=server.url.rstrip("/"))
        real = stream._codec.decode

        def choking(payloads: Any) -> Any:
            if b'{"evil":1}' in payloads:
                raise raised
            return real(payloads)

        stream._codec.decode = choking  # type: ignore[method-assign]
        stream.on_error(errors.append)

        @stream.on_contract
        def note(tick: object) -> None:
            seen.append(tick)
            if len(seen) == 3:
                ticked.set()

        with stopped(stream):
            stream.start()
            assert ticked.wait(PATIENCE)
            assert stream.stats().messages.unreadable == 2
    assert [error.__cause__ for error in errors] == [raised, raised]
    assert len([one for one in caplog.records if "defect of finx_sync" in one.getMessage()]) == 1
