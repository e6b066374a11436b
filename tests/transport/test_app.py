"""`WebSocketApp` as a drop-in: real servers by others, and raw sockets that misbehave."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from typing import Any

import pytest
import trustme
import websocket
from websockets.sync.server import ServerConnection

from finx_sync import ConfigError, WebSocketApp
from finx_sync.errors import (
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    HandshakeError,
    PeerTimeoutError,
    ProtocolError,
    TLSError,
)
from finx_sync.transport.app import as_finx_error
from tests.servers import RawServer, Server, echo, server_frame, until_close_frame, until_closed
from tests.transport.log import Log
from tests.waiting import wait_until


def test_callbacks_arguments_and_order_are_the_originals() -> None:
    """A legacy bot would break on its first callback."""

    def script(connection: ServerConnection) -> None:
        connection.send("text é")
        connection.send(b"\xff\x00")
        connection.ping("p").wait(5)
        connection.close(4001, "bye")

    seen = []
    for kind in (websocket.WebSocketApp, WebSocketApp):
        log = Log()
        with Server(script) as server:
            template = log.app(server.url)
            names = ("on_open", "on_message", "on_data", "on_close", "on_ping", "on_pong", "on_error")
            app = kind(server.url, **{name: getattr(template, name) for name in names})
            result = app.run_forever()
        with warnings.catch_warnings():  # the original leaves its socket to the garbage collector
            warnings.simplefilter("ignore" if kind is websocket.WebSocketApp else "error")
            del app
            gc.collect()
        seen.append((log.events, result, [(type(error), str(error)) for error in log.errors]))
    assert seen[0] == seen[1]
    assert ("on_message", "text é") in seen[1][0]
    assert seen[1][0][-1] == ("on_close", 4001, "bye")


@pytest.mark.parametrize("tls", [False, True])
def test_echo_of_every_size(tls: bool, server_tls: ssl.SSLContext, authority: trustme.CA) -> None:
    """Large messages would be torn, or stall the connection."""
    sizes = [0, 1, 125, 126, 65_535, 65_536, 8_000_000]
    got: list[int] = []

    def on_message(app: WebSocketApp, message: str) -> None:
        got.append(len(message))
        if len(got) == len(sizes):
            app.close()

    log = Log()
    with Server(echo, ssl=server_tls if tls else None) as server:
        app = log.app(
            server.url,
            on_message=on_message,
            on_data=None,
            on_open=lambda app: [app.send("x" * size) for size in sizes],
        )
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        assert app.run_forever(sslopt={"context": trust}) is False
    assert (got, log.errors) == (sizes, [])


def test_untrusted_certificates_are_refused(server_tls: ssl.SSLContext) -> None:
    """Anyone on the way could read the key."""
    log = Log()
    with Server(echo, ssl=server_tls) as server:
        assert log.app(server.url).run_forever() is True
        assert isinstance(as_finx_error(log.errors[0]), TLSError)
        opened = Log()
        app = opened.app(server.url, on_open=lambda app: app.close())
        assert app.run_forever(sslopt={"cert_reqs": ssl.CERT_NONE}) is False
        assert opened.errors == []


def test_send_from_many_threads() -> None:
    """Frames of two threads would be mixed on the wire, or a thread would touch OpenSSL under another's hands."""
    got: list[str] = []

    def on_message(app: WebSocketApp, message: str) -> None:
        got.append(message)
        if len(got) == 800:
            app.close()

    def on_open(app: WebSocketApp) -> None:
        for letter in "abcdefgh":
            threading.Thread(
                target=lambda letter=letter: [app.send(f"{letter}{n:03}" * 50) for n in range(100)]
            ).start()

    with Server(echo) as server:
        WebSocketApp(server.url, on_open=on_open, on_message=on_message).run_forever()
    assert sorted(message[:4] for message in got) == [f"{letter}{n:03}" for letter in "abcdefgh" for n in range(100)]
    for letter in "abcdefgh":
        assert [message for message in got if message[0] == letter] == sorted(m for m in got if m[0] == letter)


def test_batches_come_whole_and_in_order() -> None:
    """The fast path would lose messages, or call on_message besides."""
    got: list[str] = []
    log = Log()

    def on_batch(app: WebSocketApp, payloads: list[bytes]) -> None:
        got.extend(str(payload, "utf-8") for payload in payloads)
        if len(got) >= 1000:
            app.close()

    with Server(lambda connection: [connection.send(f"{n}") for n in range(1000)]) as server:
        log.app(server.url, on_batch=on_batch).run_forever()
    assert got == [str(n) for n in range(1000)]
    assert not [event for event in log.events if event[0] in ("on_message", "on_data")]


def test_an_app_can_run_again_and_a_close_before_the_first_run_wins() -> None:
    """A bot that reconnects by calling run_forever again would be stuck; a close that comes early would be lost."""
    log = Log()
    with Server(echo) as server:
        app = log.app(server.url, on_open=lambda app: app.close())
        for _ in range(3):
            assert app.run_forever() is False
        app.close()
        assert app.run_forever() is False
        early = log.app(server.url)
        early.close()
        assert early.run_forever() is False
    assert log.errors == []
    assert sum(event[0] == "on_close" for event in log.events) == 4


def test_close_from_another_thread_and_twice() -> None:
    """close() would hang, or raise when called by two threads."""
    opened = threading.Event()
    with Server(echo) as server:
        app = WebSocketApp(server.url, on_open=lambda app: opened.set())
        runner = threading.Thread(target=app.run_forever)
        runner.start()
        assert opened.wait(5)
        closers = [threading.Thread(target=app.close) for _ in range(4)]
        for thread in (*closers, runner):
            thread.start() if thread is not runner else None
        for thread in (*closers, runner):
            thread.join(5)
        assert not runner.is_alive()


def test_close_cuts_a_peer_that_does_not_answer() -> None:
    """close() on a dead connection would take the original's 9.5 seconds."""
    gate, opened = threading.Event(), threading.Event()
    with RawServer(lambda connection: gate.wait(600)) as server:
        app = WebSocketApp(server.url, on_open=lambda app: opened.set())
        runner = threading.Thread(target=app.run_forever)
        runner.start()
        assert opened.wait(5)
        app.close(timeout=0.2)
        runner.join(30)
        assert not runner.is_alive(), "before the peer does anything"
        gate.set()


def test_the_handshake_is_bounded() -> None:
    """A server that answers one byte a moment would hold the program for ever."""
    stop = threading.Event()

    def trickle(connection: socket.socket) -> None:
        while not stop.wait(0.02):
            connection.sendall(b"X")

    log = Log()
    with RawServer(trickle, head=b"HTTP/1.1 1") as server:
        assert log.app(server.url, connect_timeout=0.3).run_forever() is True
        stop.set()
    assert isinstance(as_finx_error(log.errors[0]), ConnectTimeoutError)


@pytest.mark.parametrize(
    ("head", "kind", "hint"),
    [
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", HandshakeError, "404"),
        (b"HTTP/1.1 301 Go\r\nLocation: ws://elsewhere/streaming/key\r\n\r\n", HandshakeError, "redirect"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", HandshakeError, "longer"),
        (
            b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
            ConnectError,
            "",
        ),
        (
            b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            HandshakeError,
            "compression",
        ),
    ],
)
def test_bad_handshakes_are_clear_errors(head: bytes, kind: type[Exception], hint: str) -> None:
    """The user would see a parser's riddle, or the key would follow a redirect."""
    log = Log()
    with RawServer(lambda connection: None, head=head) as server:
        assert log.app(server.url, connect_timeout=5).run_forever() is True
    error = as_finx_error(log.errors[0])
    assert isinstance(error, kind)
    assert hint in str(error)
    assert "/key" not in str(error)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (server_frame(1, b"x", reserved=0x40), 1002),
        (server_frame(1, b"\xff"), 1007),
        (server_frame(1, b"x" * 300), 1009),
    ],
)
def test_protocol_errors_close_with_their_code(data: bytes, code: int) -> None:
    """The server would not learn what it did wrong, or the bot would believe garbage."""
    answer: list[bytes] = []

    def script(connection: socket.socket) -> None:
        connection.sendall(data)
        answer.append(until_close_frame(connection))

    log = Log()
    with RawServer(script) as server:
        assert log.app(server.url, max_size=200).run_forever() is True
    assert isinstance(log.errors[0], (ProtocolError, websocket.WebSocketException))
    assert log.errors[0].code == code
    mask = answer[0][2:6]
    assert bytes(byte ^ mask[index % 4] for index, byte in enumerate(answer[0][6:8])) == code.to_bytes(2, "big")


def test_a_lost_connection_is_an_error() -> None:
    """A cut connection would look like an orderly end."""
    log = Log()
    with RawServer(lambda connection: None) as server:
        assert log.app(server.url).run_forever() is True
    assert isinstance(log.errors[0], ConnectionLostError)
    assert isinstance(log.errors[0], websocket.WebSocketConnectionClosedException)


def test_a_peer_that_answers_no_pings_is_dead() -> None:
    """A black hole would go unnoticed."""
    log = Log()
    with RawServer(until_closed) as server:
        begin = time.monotonic()
        assert log.app(server.url).run_forever(ping_interval=0.1, ping_timeout=0.1) is True
        assert time.monotonic() - begin >= 0.2
    assert isinstance(log.errors[0], PeerTimeoutError)
    assert isinstance(log.errors[0], websocket.WebSocketTimeoutException)


def test_a_peer_that_sends_but_hears_nothing_is_dead() -> None:
    """A line that is open one way only would never be given up, and no subscription would get through any more."""
    log = Log()

    def talk(connection: socket.socket) -> None:
        connection.settimeout(0.002)
        with contextlib.suppress(ConnectionError):
            while True:
                connection.sendall(server_frame(1, b"tick"))
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65536):
                        return

    with RawServer(talk) as server:
        begin = time.monotonic()
        assert log.app(server.url).run_forever(ping_interval=0.1, ping_timeout=0.2) is True
        assert time.monotonic() - begin >= 0.3
    assert isinstance(log.errors[0], PeerTimeoutError)


def test_a_slow_callback_never_makes_a_living_peer_look_dead() -> None:
    """The original kills a healthy connection when a callback takes longer than ping_timeout."""
    log = Log()
    calls: list[str] = []
    pause = threading.Event()

    def slow(app: WebSocketApp, message: str) -> None:
        calls.append(message)
        pause.wait(0.6)
        if len(calls) == 4:
            app.close()

    with Server(lambda connection: [connection.send(f"{n}") for n in range(50)] and echo(connection)) as server:
        assert log.app(server.url, on_message=slow).run_forever(ping_interval=0.5, ping_timeout=0.5) is False
    assert log.errors == []


def test_a_callback_may_close_while_the_reading_is_lent() -> None:
    """It would wait for the io thread, which waits for it, until the connection is cut."""
    offered: queue.SimpleQueue[Any] = queue.SimpleQueue()
    handed_over, closed_on, log = threading.Event(), [], Log()

    def promote() -> None:
        leadership = offered.get(timeout=10)
        handed_over.set()
        leadership.turn()

    def on_batch(app: WebSocketApp, payloads: list[bytes]) -> None:
        if handed_over.is_set():
            closed_on.append(threading.current_thread())
            app.close(timeout=10)
        else:
            app.hand_over_reading(offered.put)

    def script(connection: ServerConnection) -> None:
        while not handed_over.wait(0.01):
            connection.send("1")
        connection.send("2")
        connection.recv()

    leader = threading.Thread(target=promote)
    leader.start()
    with Server(script) as server:
        log.app(server.url, on_batch=on_batch).run_forever()
    leader.join(10)
    if closed_on == [leader]:  # and not the io thread, which takes the reading back after a while
        assert log.events[-1][:2] == ("on_close", 1000)
    assert closed_on


def test_a_close_counts_though_a_ping_was_not_answered() -> None:
    """The peer's code and reason would be lost, which say whether to come back."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)  # the ping
        connection.sendall(server_frame(8, b"\x0f\xa1go away"))
        until_closed(connection)

    log = Log()
    with RawServer(script) as server:
        log.app(server.url).run_forever(ping_interval=0.1, ping_timeout=0.09)
    assert log.events[-1] == ("on_close", 4001, "go away")


def test_pausing_and_resuming() -> None:
    """A held reader would lose messages, or take its own silence for a dead peer."""
    log = Log()

    def on_batch(app: WebSocketApp, payloads: list[bytes]) -> None:
        if len(log.events) < 2:
            app.pause_reading()
            threading.Timer(1.2, app.resume_reading).start()
        log.events.append(("batch", len(payloads)))
        if sum(event[1] for event in log.events if event[0] == "batch") == 5000:
            app.close()

    with Server(lambda connection: [connection.send("x" * 2000) for _ in range(5000)] and echo(connection)) as server:
        assert log.app(server.url, on_batch=on_batch).run_forever(ping_interval=0.5, ping_timeout=0.5) is False
    assert log.errors == []


def test_raising_callbacks_reach_on_error_and_the_connection_lives() -> None:
    """A bug in a callback would end the connection, or be eaten."""
    errors: list[Exception] = []

    def on_message(app: WebSocketApp, message: str) -> None:
        if message == "2":
            app.close()
        raise ValueError(message)

    with Server(lambda connection: [connection.send(f"{n}") for n in range(3)] and echo(connection)) as server:
        app = WebSocketApp(server.url, on_message=on_message, on_error=lambda app, error: errors.append(error))
        assert app.run_forever() is False
    assert [str(error) for error in errors] == ["0", "1", "2"]


def test_headers_cookies_and_subprotocols() -> None:
    """A service that needs a header, a cookie or a subprotocol could not be reached."""
    seen: list[Any] = []

    def script(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(
            (connection.request.headers["X-Token"], connection.request.headers["Cookie"], connection.subprotocol)
        )

    with Server(script, subprotocols=["a"]) as server:
        WebSocketApp(server.url, header=lambda: {"X-Token": "now"}, cookie="c=1", subprotocols=["a"]).run_forever()
    assert seen == [("now", "c=1", "a")]


def test_reconnect_as_in_the_original() -> None:
    """`run_forever(reconnect=...)` of a legacy bot would not come back."""
    opens: list[str] = []
    served: list[ServerConnection] = []

    def script(connection: ServerConnection) -> None:
        served.append(connection)
        if len(served) < 4:
            connection.close(1011)
        else:
            echo(connection)

    with Server(script) as server:
        app = WebSocketApp(server.url, on_open=lambda app: opens.append("open"))

        def again(app: WebSocketApp) -> None:
            opens.append("again")
            if len(opens) == 4:
                app.close()

        app.on_reconnect = again
        app.run_forever(reconnect=0.05)  # type: ignore[arg-type]  # seconds
    assert opens == ["open", "again", "again", "again"]


def test_nothing_is_left_after_many_connections() -> None:
    """A bot that reconnects for weeks would run out of descriptors."""
    with Server(echo) as server:
        app = WebSocketApp(server.url, on_open=lambda app: app.close())
        app.run_forever()
        descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        for _ in range(100):
            assert app.run_forever() is False
            assert WebSocketApp("ws://127.0.0.1:1/").run_forever() is True
        # The server's own threads are on their way out.
        assert wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
        assert wait_until(lambda: threading.active_count() <= threads)


def test_ctrl_c_leaves_run_forever() -> None:
    """Ctrl+C would be swallowed, and the program would go on."""
    program = f"""
        import os, sys, threading
        from finx_sync import WebSocketApp
        closed = []
        interrupt = threading.Timer(0.1, os.kill, (os.getpid(), {signal.SIGINT.value}))
        app = WebSocketApp(
            sys.argv[1], on_open=lambda app: interrupt.start(), on_close=lambda app, *how: closed.append(how)
        )
        try:
            app.run_forever()
        except KeyboardInterrupt:
            print("interrupted", closed)
    """
    with Server(echo) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), server.url],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.stdout == "interrupted [(None, None)]\n", done.stderr


@pytest.mark.parametrize("call", [{"dispatcher": object()}, {"ping_interval": -1}, {"ping_timeout": 0}])
def test_impossible_arguments_fail_at_once(call: dict[str, Any]) -> None:
    """A wrong option would be ignored in silence."""
    with pytest.raises(ConfigError):
        WebSocketApp("ws://127.0.0.1:1/").run_forever(**call)
    for url in ("http://host/", "ws://", "nonsense", "ws://host:99999999/"):
        with pytest.raises((ConfigError, ValueError)):
            WebSocketApp(url).run_forever()
