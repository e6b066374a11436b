"""Servers that mean harm: whatever they send, the error is clear, memory and time stay bounded, and the key unseen."""

from __future__ import annotations

import json
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from finx_sync import Backoff, ConnectionLostError, SpotTick, State, StreamManager
from finx_sync.errors import (
    AuthorizationError,
    ConnectTimeoutError,
    FinxSyncError,
    HandshakeError,
    ProtocolError,
    UnreadableMessageError,
)
from finx_sync.pipeline import queue
from tests.scripted import SPOT, text
from tests.servers import SWITCHING, RawServer, client_frames, server_frame, until_close_frame, until_closed

KEY = "a-very-secret-word"
PATIENCE = 10.0
GOOD = server_frame(1, text().encode())
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Impatient(Backoff):
    """Comes back at once, and notes how many failures in a row it was told of."""

    first: float = 0.001
    cap: float = 0.001
    asked: list[int] = field(default_factory=list)

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        self.asked.append(failures)
        return 0.001


class Watch:
    """What a stream tells, and waiting for it."""

    def __init__(self, server: RawServer, **options: Any) -> None:
        self.backoff = Impatient()
        self.stream = StreamManager(
            KEY, url=server.url.rstrip("/"), **{"reconnect": self.backoff, "connect_timeout": PATIENCE, **options}
        )
        self.errors: list[Exception] = []
        self.lost: list[FinxSyncError] = []
        self.ticks = 0
        self._condition = threading.Condition()
        self.stream.on_error(lambda error: self._note(self.errors.append, error))
        self.stream.on_state(lambda change: self._note(self.lost.append, change.reason) if change.reason else None)
        self.stream.on_contract(lambda tick: self._note(lambda _: None, tick, ticks=1))
        self.stream.subscribe_contract("BTC-26AUG22-20000-C")

    def start(self) -> None:
        """Start, and let the server's script go on after the login."""
        self.stream.start()
        OPEN.set()

    def _note(self, take: Callable[[Any], object], value: Any, ticks: int = 0) -> None:
        with self._condition:
            take(value)
            self.ticks += ticks
            self._condition.notify_all()

    def until(self, satisfied: Callable[[], object], within: float = PATIENCE) -> None:
        """Wait, and fail when it does not come."""
        deadline = time.monotonic() + within
        with self._condition:
            while not satisfied():
                assert time.monotonic() < deadline, (self.lost, self.errors, self.stream.stats())
                self._condition.wait(0.02)  # the books are not announced

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.stop(PATIENCE)
        names = [one.name for one in threading.enumerate()]
        assert not [name for name in names if name.startswith(("finx-sync io", "finx-sync dispatch"))], "it gave up"
        shown = [str(error) + repr(error) for error in (*self.errors, *self.lost)]
        assert KEY not in "".join([*shown, repr(self.stream)])
        assert all(len(one) < 3000 for one in shown)
        books = self.stream.stats().messages
        assert books.received == (
            books.handled + books.unclaimed + books.control + books.unreadable + books.dropped + books.waiting
        )


OPEN = threading.Event()
"""Whether the stream is open: what comes in one read with the login's answer may overtake it."""


def log_in(connection: socket.socket) -> None:
    """Wait for the key, take it, and wait until the stream knows."""
    data = b""
    while not client_frames(data):
        data += connection.recv(65536)
    connection.sendall(server_frame(1, b'{"isAuth":true}'))
    OPEN.wait(PATIENCE)


class Turns:
    """A script whose first connections send something evil after the login, and whose later ones a good tick."""

    def __init__(self, evil: bytes | Callable[[socket.socket], object], times: int = 1) -> None:
        self._evil = evil
        self._left = times
        self.closes: list[bytes] = []

    def __call__(self, connection: socket.socket) -> None:
        log_in(connection)
        connection.settimeout(PATIENCE)
        if not self._left:
            connection.sendall(GOOD)
            until_close_frame(connection)
            return
        self._left -= 1
        sent = bytearray()
        reader = threading.Thread(target=lambda: sent.extend(until_close_frame(connection)))
        reader.start()
        try:
            if callable(self._evil):
                self._evil(connection)
            else:
                connection.sendall(self._evil)
        except OSError:
            pass  # it hung up on us, as it should
        reader.join(PATIENCE)
        self.closes += [payload for opcode, payload in client_frames(bytes(sent)) if opcode == 8]


# Frames.


def length_64(opcode: int, length: int) -> bytes:
    """The header of a frame that claims to be so long."""
    return bytes([0x80 | opcode, 127]) + length.to_bytes(8, "big")


def endless_fragments(connection: socket.socket) -> None:
    """One message that never ends."""
    connection.sendall(server_frame(1, b"x", fin=False))
    chunk = server_frame(0, b"x" * 1000, fin=False) * 1000
    while True:
        connection.sendall(chunk)


def endless_large_frame(connection: socket.socket) -> None:
    """A frame of 16 GiB, from its first byte on."""
    connection.sendall(length_64(1, 1 << 34))
    while True:
        connection.sendall(b"x" * MEBIBYTE)


FRAMES: dict[str, tuple[bytes | Callable[[socket.socket], object], int, str]] = {
    "masked": (server_frame(1, b"\0\0\0\0{}", masked=0x80), 1002, "mask"),
    "reserved bits": (server_frame(1, b"{}", reserved=0x20), 1002, "reserved bits"),
    "compressed, never offered": (server_frame(1, zlib.compress(b"{}" * 1000), reserved=0x40), 1002, "compression"),
    "reserved opcode": (server_frame(3, b"{}"), 1002, "opcode 3"),
    "reserved control opcode": (server_frame(0xB, b""), 1002, "opcode 11"),
    "fragmented ping": (server_frame(9, b"", fin=False), 1002, "control frame"),
    "long ping": (server_frame(9, b"x" * 126), 1002, "control frame"),
    "2^63 bytes": (length_64(1, 1 << 63), 1009, "larger"),
    "2^64 - 1 bytes": (length_64(1, (1 << 64) - 1), 1009, "larger"),
    "2^63 bytes of binary": (length_64(2, 1 << 63), 1009, "larger"),
    "2^63 bytes of ping": (length_64(9, 1 << 63), 1002, "control frame"),
    "continuation of nothing": (server_frame(0, b"x"), 1002, "out of order"),
    "text inside a fragmented text": (server_frame(1, b"x", fin=False) + server_frame(1, b"y"), 1002, "out of order"),
    "not UTF-8": (server_frame(1, b'{"a": "\xff"}'), 1007, "UTF-8"),
    "a surrogate in UTF-8": (server_frame(1, b'{"a": "\xed\xa0\x80"}'), 1007, "UTF-8"),
    "an overlong slash": (server_frame(1, b"\xc0\xaf"), 1007, "UTF-8"),
    "UTF-8 torn at the end": (server_frame(1, b"\xe2\x82"), 1007, "UTF-8"),
    "half a close code": (server_frame(8, b"\x03"), 1002, "half a code"),
    "close code 1005": (server_frame(8, b"\x03\xed"), 1002, "1005"),
    "close code 65535": (server_frame(8, b"\xff\xff"), 1002, "65535"),
    "a close reason that is not UTF-8": (server_frame(8, b"\x03\xe8\xff"), 1007, "UTF-8"),
    "endless fragments": (endless_fragments, 1009, "larger"),
    "an endless frame": (endless_large_frame, 1009, "larger"),
}


@pytest.mark.parametrize("attack", FRAMES)
def test_a_broken_frame_ends_the_connection_and_the_next_one_works(attack: str) -> None:
    """The stream would believe garbage, fill the memory, hang, or never come back."""
    evil, code, hint = FRAMES[attack]
    script = Turns(evil)
    with RawServer(script, connections=2) as server, Watch(server, max_size=MEBIBYTE) as watch:
        tracemalloc.start()
        try:
            watch.start()
            watch.until(lambda: watch.ticks)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        (error,) = watch.lost
        assert isinstance(error, ProtocolError)
        assert error.code == code
        assert hint in str(error)
        assert peak < 16 * MEBIBYTE
    assert [close[:2] for close in script.closes] == [code.to_bytes(2, "big")]


@pytest.mark.parametrize("attack", ["masked", "2^63 bytes", "not UTF-8", "endless fragments"])
def test_a_broken_frame_at_the_very_beginning_raises_from_start(attack: str) -> None:
    """start() would wait for ever, or return although nothing works."""
    evil, code, _ = FRAMES[attack]

    def script(connection: socket.socket) -> None:
        connection.sendall(evil) if isinstance(evil, bytes) else evil(connection)
        until_close_frame(connection)

    with RawServer(script) as server, Watch(server, max_size=MEBIBYTE) as watch:
        with pytest.raises(ProtocolError) as caught:
            watch.start()
        assert caught.value.code == code
        assert watch.stream.state is State.FAILED


def test_a_server_that_breaks_every_connection_is_left_alone_longer_and_longer() -> None:
    """A handshake that works would reset the back-off, and the client hammer the server."""
    script = Turns(server_frame(3), times=30)
    with RawServer(script, connections=31) as server, Watch(server) as watch:
        watch.start()
        watch.until(lambda: watch.ticks)
        assert watch.backoff.asked == list(range(1, 31))


def test_a_flood_of_pings_is_answered_within_bounds() -> None:
    """A server that pings and never reads would fill the memory, or starve the data."""

    def script(connection: socket.socket) -> None:
        log_in(connection)
        for _ in range(80):  # more than may be held of it
            connection.sendall(chunk)
        connection.sendall(GOOD)
        done.wait(PATIENCE)
        until_close_frame(connection)

    chunk = server_frame(9, b"x" * 125) * 1000
    done = threading.Event()
    with RawServer(script) as server, Watch(server) as watch:
        tracemalloc.start()
        try:
            watch.start()
            watch.until(lambda: watch.ticks, 50)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        done.set()
        assert watch.lost == []
        assert peak < 8 * MEBIBYTE


def test_endless_empty_fragments_cost_nothing_and_hold_up_nobody() -> None:
    """A message that grows by nothing for ever would fill the memory, or make stop() wait."""
    sent = threading.Event()

    def script(connection: socket.socket) -> None:
        log_in(connection)
        connection.sendall(GOOD + server_frame(1, b"", fin=False))
        chunk = server_frame(0, b"", fin=False) * 10_000
        while True:
            connection.sendall(chunk)
            sent.set()

    with RawServer(script) as server, Watch(server) as watch:
        watch.start()
        watch.until(lambda: watch.ticks)
        assert sent.wait(PATIENCE)
        tracemalloc.start()
        try:
            threading.Event().wait(0.3)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * MEBIBYTE
        assert watch.lost == []


def test_a_frame_in_single_bytes_is_a_frame() -> None:
    """A server that dribbles would make the reader copy its buffer for every byte."""

    def script(connection: socket.socket) -> None:
        log_in(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GOOD:
            connection.sendall(bytes([byte]))
        until_close_frame(connection)

    with RawServer(script) as server, Watch(server) as watch:
        watch.start()
        watch.until(lambda: watch.ticks)
        assert watch.lost == []


@pytest.mark.parametrize("flood", [server_frame(0, b"", fin=False), server_frame(9)], ids=["fragments", "pings"])
def test_stop_is_prompt_in_a_flood_of_tiny_frames(flood: bytes) -> None:
    """One read holds a quarter of a million of them, and stop() would wait until each was looked at."""

    def script(connection: socket.socket) -> None:
        log_in(connection)
        connection.sendall(GOOD + server_frame(1, b"", fin=False))
        chunk = flood * 100_000
        while True:
            connection.sendall(chunk)

    with RawServer(script) as server, Watch(server) as watch:
        watch.start()
        watch.until(lambda: watch.ticks)
        threading.Event().wait(0.2)
        # The end of the watch stops the stream, and looks whether its threads have ended.


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 3000, 4999])
def test_every_other_close_code_is_a_loss_with_its_code(code: int) -> None:
    """A server's orderly end would look like a network fault, or end the stream."""
    evil = server_frame(8, code.to_bytes(2, "big") + f"see /streaming/{KEY}".encode())
    with RawServer(Turns(evil), connections=2) as server, Watch(server) as watch:
        watch.start()
        watch.until(lambda: watch.ticks)
        (error,) = watch.lost
        assert isinstance(error, ConnectionLostError)
        assert (error.code, error.reason) == (code, "see /streaming/***")


# Texts.

DEEP = 200_000
TEXTS: dict[str, str | bytes] = {
    "nothing": "",
    "a space": " ",
    "a number": "5",
    "a string": '"redis_key"',
    "null": "null",
    "half an object": '{"redis_key":',
    "two objects": "{}{}",
    "a NUL": "\0",
    "a byte order mark": "\ufeff{}",
    "deep lists": "[" * DEEP,
    "deep lists, closed": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "deep inside a contract": text().replace('"0.83341"', "[" * DEEP + "]" * DEEP),
    "a lone surrogate": '{"redis_key": "\\ud800", "instrument_name": "\\ud800"}',
    "NaN": text(mark_price="nan"),
    "NaN, bare": text().replace('"0.1553"', "NaN"),
    "infinity": text(mark_price="inf"),
    "minus infinity, bare": text().replace('"0.1553"', "-Infinity"),
    "a number beyond every float": text().replace('"0.1553"', "1e999999"),
    "the same as text": text(mark_price="1e999999"),
    "ten thousand digits": text().replace('"0.1553"', "9" * 10_000),
    "ten thousand digits for a time": text(timestamp="9" * 10_000),
    "a time beyond the calendar": text(timestamp="9" * 18),
    "a time before the calendar": text(timestamp="-" + "9" * 18),
    "a spot time beyond the calendar": json.dumps({**SPOT, "unixDate": 10**18}),
    "a price that is an object": text(mark_price={"a": 1}),
    "a price that is a list": text(mark_price=[1]),
    "a price that is true": text(mark_price=True),
    "a name that is a number": text(instrument_name=5, redis_key=5),
    "a name that is empty": text(instrument_name="", redis_key=""),
    "a name that is null": text(instrument_name=None, redis_key=None),
    "no name": '{"redis_key": null}',
    "two names": '{"redis_key": "a", "instrument_name": "b"}',
    "one key a hundred thousand times": "{" + ",".join(['"redis_key":"x"'] * 100_000) + "}",
    "a hundred thousand keys": json.dumps({f"key{number}": number for number in range(100_000)}),
    "a history nobody asked for": json.dumps({str(number): {"pair": 5} for number in range(1000)}),
    "names nobody asked for": json.dumps(["x"] * 100_000),
    "a key that echoes": json.dumps({"redis_key": 5, "APIKey": KEY}),
    "a long string": '{"redis_key": "' + "x" * 900_000,
    "a spot tick with a bad date": '{"pair":"A:B","unixDate":"soon","UTCDate":"x","exchange":"E","price":"1"}',
    "an old spot tick without a pair": '{"results": "streaming", "resultData": {}}',
    "an old spot tick with a bad date": json.dumps(
        {
            "results": "streaming",
            "resultData": {"pair": "A:B", "date": "2022-99-99", "time": "25:61", "exchange": "E", "price": "1"},
        }
    ),
    "a tick with a bad date": '{"pair":"A:B","date":"x","time":"y","exchange":"E","price":"1"}',
    "isAuth that is no boolean": '{"isAuth": "maybe"}',
    "a keepAlive nobody asked for": '{"keepAlive": true}',
    "an error with an object": json.dumps({"error": {"APIKey": KEY, "why": ["x"] * 1000}}),
    "pickle": "cos\nsystem\n(S'echo gotcha'\ntR.",
    "a class": '{"__class__": "os.system", "py/object": "os.system", "redis_key": "x"}',
}


@pytest.mark.parametrize("attack", TEXTS)
def test_an_evil_text_is_counted_and_the_next_message_is_handled(attack: str) -> None:
    """One message would crash the dispatch thread, end the stream, or vanish from the books."""
    payload = TEXTS[attack]
    evil = server_frame(1, payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload)
    touched: list[str] = []

    def script(connection: socket.socket) -> None:
        log_in(connection)
        connection.sendall(GOOD + evil * 3 + GOOD)
        until_close_frame(connection)

    def touch(tick: Any) -> None:  # what a handler may do to a message must not hurt it either
        touched.append(repr(tick) + str(tick.to_dict()) + str(tick.datetime))

    with RawServer(script) as server, Watch(server) as watch:
        watch.stream.on_contract(touch)
        watch.stream.on_spot(touch)
        watch.stream.on_message(touched.append)
        watch.start()
        good = [text()] * 2
        watch.until(lambda: watch.stream.stats().messages.received == 6 and touched.count(good[0]) == 2)
        watch.until(lambda: watch.stream.stats().messages.in_flight == 0)
        books = watch.stream.stats().messages
        assert watch.lost == []
        assert books.waiting == books.dropped == 0
        assert not [
            error
            for error in watch.errors
            if not isinstance(error, UnreadableMessageError) and "refused" not in str(error)
        ]
        assert [len(error.excerpt) <= 200 for error in watch.errors if isinstance(error, UnreadableMessageError)].count(
            True
        ) == books.unreadable


UNREADABLE = ("NaN", "infinity", "deep lists", "half an object", "a lone surrogate", "ten thousand digits", "a NUL")


@pytest.mark.parametrize("attack", UNREADABLE)
def test_what_is_no_message_is_told(attack: str) -> None:
    """A bot would never learn that the server sends rubbish."""
    payload = TEXTS[attack]
    assert isinstance(payload, str)

    def script(connection: socket.socket) -> None:
        log_in(connection)
        connection.sendall(server_frame(1, payload.encode()) + GOOD)
        until_close_frame(connection)

    with RawServer(script) as server, Watch(server) as watch:
        watch.start()
        watch.until(lambda: watch.ticks)
        (error,) = watch.errors
        assert isinstance(error, UnreadableMessageError)
        assert watch.stream.stats().messages.unreadable == 1


@pytest.mark.parametrize("overflow", ["block", "drop_oldest"])
def test_large_messages_cannot_fill_the_memory_while_they_wait(overflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of waiting messages would let a server that sends large ones take a terabyte."""
    monkeypatch.setattr(queue, "MAX_WAITING_BYTES", 8 * MEBIBYTE)
    count, gate = 100, threading.Event()
    seen: list[Any] = []

    def script(connection: socket.socket) -> None:
        log_in(connection)
        for number in range(count):
            connection.sendall(server_frame(1, text(timestamp=str(number), filler="x" * MEBIBYTE).encode()))
        until_close_frame(connection)

    def slow(tick: Any) -> None:
        gate.wait(PATIENCE)
        seen.append(tick.timestamp)

    with RawServer(script) as server, Watch(server, overflow=overflow) as watch:
        watch.stream.on_contract(slow)
        tracemalloc.start()
        try:
            watch.start()
            watch.until(lambda: watch.stream.stats().messages.waiting >= 5)
            threading.Event().wait(0.5)  # long enough for all of them to come, if nothing held them back
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gate.set()
        assert peak < 32 * MEBIBYTE
        watch.until(lambda: seen and seen[-1] == count - 1, 30)
        assert seen == (list(range(count)) if overflow == "block" else sorted(set(seen)))
        assert len(seen) + watch.stream.stats().messages.dropped == count
        assert watch.lost == []


def test_a_server_that_makes_up_names_does_not_fill_the_memory() -> None:
    """The table of last values would grow with every name for ever."""
    count = 120_000

    def script(connection: socket.socket) -> None:
        log_in(connection)
        for begin in range(0, count, 1000):
            connection.sendall(
                b"".join(
                    server_frame(1, b'{"pair":"A:%d","unixDate":1,"UTCDate":"x","exchange":"E","price":"1"}' % number)
                    for number in range(begin, begin + 1000)
                )
            )
        until_close_frame(connection)

    with RawServer(script) as server, Watch(server) as watch:
        watch.start()
        watch.until(lambda: watch.stream.stats().messages.unclaimed == count, 30)
        assert watch.stream.latest(f"A:{count - 1}") is not None
        assert watch.stream.latest("A:0") is None
        assert len(watch.stream._latest[SpotTick]) < 60_000


@pytest.mark.parametrize("data", [b"", b"\x00\xff" * 1000, text().encode() + b"\xff"])
def test_a_binary_message_is_no_message_and_is_told(data: bytes) -> None:
    """Binary messages would vanish without a word."""

    def script(connection: socket.socket) -> None:
        log_in(connection)
        connection.sendall(server_frame(2, data) + server_frame(2, text().encode()) + GOOD)
        until_close_frame(connection)

    with RawServer(script) as server, Watch(server) as watch:
        watch.start()
        watch.until(lambda: watch.ticks == 2)  # JSON is JSON, whatever the frame calls it
        (error,) = watch.errors
        assert isinstance(error, UnreadableMessageError)
        assert watch.stream.stats().messages.unreadable == 1
        assert watch.lost == []


# Handshakes.


def head(*lines: str, status: str = "HTTP/1.1 101 OK") -> bytes:
    """An answer that agrees, with some more lines."""
    return b"\r\n".join(
        [status.encode(), *SWITCHING.split(b"\r\n")[1:-2], *(line.encode() for line in lines), b"", b""]
    )


HANDSHAKES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "closed the connection"),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", "not answer in HTTP"),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x46", "not answer in HTTP"),
    "HTTP/2": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "not answer in HTTP"),
    "HTTP/0.9": (b"<html>hello</html>", "not answer in HTTP"),
    "no status": (b"HTTP/1.1\r\n\r\n", "status line"),
    "status abc": (b"HTTP/1.1 abc OK\r\n\r\n", "status line"),
    "status 99999": (b"HTTP/1.1 99999 OK\r\n\r\n", "status line"),
    "status -1": (b"HTTP/1.1 -1 OK\r\n\r\n", "status line"),
    "no colon": (head("NoColonHere"), "not a header"),
    "a space before the colon": (head("Name : x"), "not a header"),
    "a folded header": (head("X: a", " b"), "not a header"),
    "a bare line feed": (head("X: a\nSec-WebSocket-Extensions: x"), "not a header"),
    "not UTF-8": (head("X: ?").replace(b"?", b"\xff"), "UTF-8"),
    "one endless header": (head("X: " + "x" * 100_000), "longer"),
    "a flood of headers": (head(*["X: y"] * 50_000), "longer"),
    "continue, for ever": (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, "100"),
    "a redirect": (head(f"Location: wss://else.test/streaming/{KEY}", status="HTTP/1.1 301 Go"), "redirect"),
    "a redirect to a file": (head(f"Location: file:///etc/passwd?APIKey={KEY}", status="HTTP/1.1 302 Go"), "redirect"),
    "wrong accept": (SWITCHING.replace(b"%s", b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "Accept"),
    "no accept": (SWITCHING.replace(b"Sec-WebSocket-Accept: %s\r\n", b""), "Accept"),
    "two accepts": (head("Sec-WebSocket-Accept: AAAA"), "Accept"),
    "no upgrade": (SWITCHING.replace(b"Upgrade: websocket\r\n", b""), "upgrade"),
    "upgrade to something else": (SWITCHING.replace(b"Upgrade: websocket", b"Upgrade: h2c"), "upgrade"),
    "no connection": (SWITCHING.replace(b"Connection: Upgrade\r\n", b""), "connection"),
    "compression never offered": (head("Sec-WebSocket-Extensions: permessage-deflate"), "compression"),
    "an extension never offered": (head("Sec-WebSocket-Extensions: x-" + "y" * 1000), "not offered"),
    "a subprotocol never offered": (head(f"Sec-WebSocket-Protocol: {'v' * 1000}"), "not offered"),
    "a teapot that echoes": (f"HTTP/1.1 418 /streaming/{KEY}\r\nX-API-Key: {KEY}\r\n\r\n".encode(), "418"),
    "an error page that echoes": (
        f'HTTP/1.1 500 No\r\nContent-Length: 200\r\n\r\n{{"APIKey": "{KEY}"}}{" " * 200}'.encode(),
        "500",
    ),
}


@pytest.mark.parametrize("attack", HANDSHAKES)
def test_an_evil_handshake_raises_from_start(attack: str) -> None:
    """start() would hang, or raise a parser's riddle, or show the key."""
    answer, hint = HANDSHAKES[attack]

    def script(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)

    with RawServer(script, head=answer) as server, Watch(server) as watch:
        with pytest.raises(HandshakeError) as caught:
            watch.start()
        shown = str(caught.value) + repr(caught.value) + str(caught.value.headers)
        assert hint in shown
        assert KEY not in shown
        assert len(str(caught.value)) < 600
        assert watch.stream.state is State.FAILED
        assert server.accepted == 1
        assert watch.backoff.asked == []


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 101 OK\r\nX: "])
def test_an_endless_handshake_meets_the_time_limit(begin: bytes) -> None:
    """A server that sends a byte now and then would hold start() for ever."""
    stop = threading.Event()

    def dribble(connection: socket.socket) -> None:
        while not stop.wait(0.01):
            connection.sendall(b"x" if begin else b"")

    with RawServer(dribble, head=begin) as server, Watch(server, connect_timeout=0.3) as watch:
        with pytest.raises(ConnectTimeoutError, match="connect_timeout"):
            watch.start()
        stop.set()


def test_an_evil_handshake_later_is_retried_longer_and_longer() -> None:
    """A server that goes mad would be hammered, or the stream would give up on it."""
    evil = [answer for answer, _ in HANDSHAKES.values()]

    class Mad(RawServer):
        """Agrees to the first and the last handshake only."""

        def _talk(self, connection: socket.socket) -> None:
            number = self.accepted - 1
            self._head = evil[number - 1] if 0 < number <= len(evil) else SWITCHING
            super()._talk(connection)

    def script(connection: socket.socket) -> None:
        if server.accepted == 1:
            log_in(connection)
        elif server.accepted == len(evil) + 2:
            log_in(connection)
            connection.sendall(GOOD)
            until_closed(connection)

    with Mad(script, connections=len(evil) + 2) as server, Watch(server) as watch:
        watch.start()
        watch.until(lambda: watch.ticks, 30)
        assert watch.backoff.asked == list(range(1, len(evil) + 2))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_one_attempt_also_after_the_stream_was_open(status: int) -> None:
    """An expired key would be tried again and again, until the server bans the address."""

    class Refusing(RawServer):
        """Agrees once, then refuses with a body that never comes."""

        def _talk(self, connection: socket.socket) -> None:
            if self.accepted > 1:
                self._head = f"HTTP/1.1 {status} No\r\nContent-Length: 5000\r\n\r\n".encode()
            super()._talk(connection)

    def script(connection: socket.socket) -> None:
        if server.accepted == 1:
            log_in(connection)

    with Refusing(script, connections=5) as server, Watch(server) as watch:
        watch.start()
        watch.until(lambda: watch.stream.state is State.FAILED)
        assert isinstance(watch.stream.failure, AuthorizationError)
        assert server.accepted == 2


@pytest.fixture(autouse=True)
def no_thread_crashes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No attack may crash one of our threads, or put the key into the log."""
    OPEN.clear()
    yield
    assert not [record for record in caplog.records if "crash" in record.getMessage()]
    assert KEY not in caplog.text
