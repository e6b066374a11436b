"""Every way in which a connection of `WebSocketApp` can end: close, Ctrl+C, resets, silence; and what is told of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest
import websocket
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from finx_sync import WebSocketApp
from finx_sync.errors import ConnectionLostError
from finx_sync.transport import dial
from finx_sync.transport.loop import MAX_OUTBOX, Outbox
from finx_sync.transport.waker import Waker
from tests.servers import RawServer, Server, client_frames, echo, reset, server_frame, swallowing_address, until_closed
from tests.transport.log import Log
from tests.waiting import wait_until

CLOSE = 8


class Runner:
    """`run_forever` in a thread; at the end of the block it must have ended."""

    def __init__(self, app: WebSocketApp, **options: Any) -> None:
        self.result: bool | None = None
        self._thread = threading.Thread(target=self._run, args=(app, options))

    def _run(self, app: WebSocketApp, options: dict[str, Any]) -> None:
        self.result = app.run_forever(**options)

    def __enter__(self) -> Runner:
        self._thread.start()
        return self

    def join(self, within: float) -> None:
        """Fail unless it ends in time."""
        self._thread.join(within)
        assert not self._thread.is_alive(), f"run_forever still runs after {within} s"

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


def server_side(said: list[Any]) -> Callable[[ServerConnection], None]:
    """A script that notes each message, and how the client closed."""

    def script(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            said.extend(connection)
        said.append((connection.close_code, connection.close_reason))

    return script


# Closing in order.


def test_close_in_on_open_sends_what_was_sent_before_and_closes_in_order() -> None:
    """A script that connects, sends one message and closes would lose the message."""
    said: list[Any] = []

    def on_open(app: WebSocketApp) -> None:
        app.send("order")
        app.close(3001, "done")

    log = Log()
    with Server(server_side(said)) as server:
        assert log.app(server.url, on_open=on_open).run_forever() is False
    assert wait_until(lambda: said == ["order", (3001, "done")]), said
    assert log.errors == []
    assert log.events[-1] == ("on_close", 3001, "done")


def by_method(app: WebSocketApp) -> None:
    app.close()


def by_flag(app: WebSocketApp) -> None:
    app.keep_running = False


def by_socket(app: WebSocketApp) -> None:
    assert app.sock is not None
    app.sock.close()


@pytest.mark.parametrize("close", [by_method, by_flag, by_socket])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_every_legacy_way_to_close_closes_in_order(close: Callable[[WebSocketApp], None], elsewhere: bool) -> None:
    """A legacy bot that sets `keep_running = False`, or closes `app.sock`, would run for ever."""
    said: list[Any] = []
    log = Log()

    def on_message(app: WebSocketApp, message: str) -> None:
        if elsewhere:
            thread = threading.Thread(target=close, args=(app,))
            thread.start()
            closers.append(thread)
        else:
            close(app)

    def script(connection: ServerConnection) -> None:
        connection.send("go")
        server_side(said)(connection)

    closers: list[threading.Thread] = []
    with Server(script) as server:
        assert log.app(server.url, on_message=on_message).run_forever() is False
    for thread in closers:
        thread.join(5)
    assert wait_until(lambda: said == [(1000, "")]), said
    assert log.errors == []
    assert log.events[-1] == ("on_close", 1000, None)


@pytest.mark.parametrize(
    "cut", [lambda app: app.abort(), lambda app: app.sock.shutdown(), lambda app: app.sock.abort()]
)
def test_cutting_from_another_thread_ends_at_once(cut: Callable[[Any], None], server_tls: ssl.SSLContext) -> None:
    """Code that cuts a dead connection from a watchdog thread would leave `run_forever` waiting."""
    gate, opened = threading.Event(), threading.Event()
    app = WebSocketApp("", on_open=lambda app: opened.set())
    with RawServer(lambda connection: gate.wait(10), tls=server_tls) as server:
        app.url = server.url
        with Runner(app, sslopt={"cert_reqs": ssl.CERT_NONE}) as runner:
            assert opened.wait(5)
            cut(app)
            runner.join(10)
            gate.set()


def test_nothing_is_delivered_after_close() -> None:
    """A handler that closed would still be called with the rest of the batch."""
    log = Log()

    def on_message(app: WebSocketApp, message: str) -> None:
        log.events.append(("message", message))
        app.close()

    def script(connection: socket.socket) -> None:
        frames = [server_frame(1, b"a"), server_frame(1, b"b"), server_frame(9, b"ping"), server_frame(2, b"c")]
        connection.sendall(b"".join(frames))
        connection.recv(4096)

    with RawServer(script) as server:
        app = log.app(server.url, on_open=None, on_message=on_message, on_data=None, on_close=None)
        app.run_forever(ping_timeout=None)
    assert log.events == [("message", "a")]


def test_close_while_reading_is_held_back_does_not_wait_for_the_timeout() -> None:
    """stop() would take its full timeout whenever handlers are behind."""
    opened, said = threading.Event(), []

    def on_open(app: WebSocketApp) -> None:
        app.pause_reading()
        opened.set()

    with Server(server_side(said)) as server:
        app = WebSocketApp(server.url, on_open=on_open)
        with Runner(app) as runner:
            assert opened.wait(5)
            app.close(timeout=3600)
            runner.join(10)
    assert wait_until(lambda: said == [(1000, "")]), said


def test_send_after_the_end_raises() -> None:
    """An order sent over a dead connection would vanish without a word."""
    late: list[BaseException] = []

    def on_error(app: WebSocketApp, error: BaseException) -> None:
        with pytest.raises(websocket.WebSocketConnectionClosedException) as caught:
            app.send("late")
        late.append(caught.value)

    with RawServer(lambda connection: None) as server:
        app = WebSocketApp(server.url, on_error=on_error)
        app.run_forever()
    assert len(late) == 1
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        app.send("later")
    assert app.try_send("latest") is False


def test_send_after_close_raises_and_nothing_follows_the_close_frame() -> None:
    """Data behind the close frame would be a fault of ours, and an order there would be lost in silence."""
    got: list[bytes] = []
    results: list[bool] = []

    def on_message(app: WebSocketApp, message: str) -> None:
        app.close()

    def on_pong(app: WebSocketApp, data: bytes) -> None: ...

    def script(connection: socket.socket) -> None:
        connection.sendall(server_frame(1, b"go"))
        data = b""
        while not data:
            data += connection.recv(4096)
        results.append(app.try_send("late"))
        connection.sendall(server_frame(9, b"p") + server_frame(CLOSE, struct.pack("!H", 1000)))
        connection.shutdown(socket.SHUT_WR)
        got.append(data + until_closed(connection))

    with RawServer(script) as server:
        app = WebSocketApp(server.url, on_message=on_message, on_pong=on_pong)
        assert app.run_forever() is False
    assert results == [False]
    assert client_frames(got[0]) == [(CLOSE, struct.pack("!H", 1000))]


def test_send_while_connecting_raises() -> None:
    """A message sent too early would be queued for a connection that may never open."""
    results: list[bool] = []

    def header() -> list[str]:
        results.append(app.try_send("early"))
        return []

    with Server(echo) as server:
        app = WebSocketApp(server.url, header=header, on_open=lambda app: app.close())
        app.run_forever()
    assert results == [False]


# The peer's end.


def test_the_close_code_survives_a_reset() -> None:
    """A server that says 1008 and cuts at once would look like a network fault, and be retried for ever."""

    def script(connection: socket.socket) -> None:
        connection.recv(1)  # the rest stays unread: closing now resets the connection
        connection.sendall(server_frame(CLOSE, struct.pack("!H", 1008) + b"wrong key"))

    for _ in range(20):
        log = Log()
        with RawServer(script) as server:
            log.app(server.url, on_open=lambda app: app.send("x" * 100_000)).run_forever()
        assert log.events[-1] == ("on_close", 1008, "wrong key")
        assert [getattr(error, "status_code", None) for error in log.errors] == [1008]


def test_a_reset_says_so() -> None:
    """A cut cable would be reported as an end in order, or with a riddle."""
    log = Log()
    with RawServer(reset) as server:
        assert log.app(server.url).run_forever() is True
    (error,) = log.errors
    assert isinstance(error, ConnectionLostError)
    assert isinstance(error, websocket.WebSocketConnectionClosedException)
    assert log.events[-1] == ("on_close", None, None)


def test_a_reset_after_our_close_is_an_end_in_order() -> None:
    """close() would report an error because a server slams the door."""

    def script(connection: socket.socket) -> None:
        connection.recv(4096)
        reset(connection)

    log = Log()
    with RawServer(script) as server:
        assert log.app(server.url, on_open=lambda app: app.close()).run_forever() is False
    assert log.errors == []


def test_a_server_that_keeps_the_socket_open_after_closing_is_left() -> None:
    """A server that never ends the TCP connection would hold the program."""
    gate = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.sendall(server_frame(CLOSE, struct.pack("!H", 1001)) + server_frame(1, b"late"))
        gate.wait(600)

    log = Log()
    with RawServer(script) as server:
        assert log.app(server.url).run_forever() is False
        gate.set()
    assert log.events[-1] == ("on_close", 1001, None)
    assert ("on_message", "late") not in log.events


def test_the_first_frames_may_come_with_the_handshake() -> None:
    """A tick that the server sends at once would be lost, or read as part of the handshake."""
    frames = server_frame(1, b"first") + server_frame(1, b"x" * 60_000) + server_frame(CLOSE, struct.pack("!H", 1000))
    head = b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n" + frames
    log = Log()
    with RawServer(lambda connection: None, head=head) as server:
        log.app(server.url, on_data=None).run_forever()
    assert [event[1] for event in log.events if event[0] == "on_message"] == ["first", "x" * 60_000]
    assert log.events[-1] == ("on_close", 1000, None)


# Closing what does not answer.


def test_close_during_a_handshake_that_is_never_answered() -> None:
    """close() would do nothing, and the thread hang for ever, as in the original."""
    gate, asked = threading.Event(), threading.Event()

    def script(connection: socket.socket) -> None:
        asked.set()
        gate.wait(600)

    log = Log()
    with RawServer(script, head=b"") as server:
        app = log.app(server.url)
        with Runner(app) as runner:
            assert asked.wait(5)
            app.close()
            runner.join(30)
            assert runner.result is False
        gate.set()
    assert log.events == [("on_close", None, None)]


def test_close_while_the_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer would hold close() for half a minute."""
    gate, asked = threading.Event(), threading.Event()

    def slow(*_: Any) -> list[Any]:
        asked.set()
        gate.wait(10)
        return []

    monkeypatch.setattr(dial.socket, "getaddrinfo", slow)
    app = WebSocketApp("ws://slow.invalid/")
    with Runner(app) as runner:
        assert asked.wait(5)
        app.close()
        runner.join(10)
        gate.set()


def test_close_while_tcp_is_not_answered() -> None:
    """A firewall that swallows packets would hold close() for minutes."""
    with swallowing_address() as (host, port):
        app = WebSocketApp(f"ws://{host}:{port}/")
        with Runner(app) as runner:
            while app._attempt is None:  # until it is on its way
                assert runner.result is None
            app.close()
            runner.join(10)


@pytest.mark.parametrize("secure", [False, True])
def test_a_flood_cannot_hold_up_close(secure: bool, server_tls: ssl.SSLContext) -> None:
    """A server that sends faster than we read would make close() time out."""

    def flood(connection: socket.socket) -> None:
        chunk = server_frame(1, b"x" * 60_000) * 20
        while True:
            connection.sendall(chunk)

    opened = threading.Event()
    with RawServer(flood, tls=server_tls if secure else None) as server:
        app = WebSocketApp(server.url, on_batch=lambda app, payloads: opened.set())
        with Runner(app, sslopt={"cert_reqs": ssl.CERT_NONE}) as runner:
            assert opened.wait(5)
            app.close(timeout=0.2)
            runner.join(10)


def test_close_in_reconnects_wait_ends_it() -> None:
    """close() during `reconnect=20` would take 20 seconds."""
    ended = threading.Event()
    with RawServer(lambda connection: None) as server:
        app = WebSocketApp(server.url, on_open=lambda app: ended.set())
        with Runner(app, reconnect=20) as runner:
            assert ended.wait(5)
            app.close()
            runner.join(10)


def test_a_second_run_beside_the_first_is_refused() -> None:
    """Two loops on one app would share one socket."""
    refused: list[BaseException] = []

    def on_open(app: WebSocketApp) -> None:
        with pytest.raises(websocket.WebSocketException, match="already") as caught:
            app.run_forever()
        refused.append(caught.value)
        app.close()

    with Server(echo) as server:
        assert WebSocketApp(server.url, on_open=on_open).run_forever() is False
    assert refused


# Ctrl+C.


def interrupt() -> None:
    """As Ctrl+C does."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.parametrize("reconnect", [None, 1])
@pytest.mark.parametrize("where", ["on_open", "on_message", "on_close", "handshake", "waiting"])
def test_ctrl_c_leaves_run_forever_wherever_it_is(where: str, reconnect: int | None) -> None:
    """Ctrl+C would be swallowed, as in the original, and the program go on."""

    def script(connection: socket.socket) -> None:
        if where in ("handshake", "waiting"):
            interrupt()
        if where == "on_message":
            connection.sendall(server_frame(1, b"x"))
        if where == "on_close":
            connection.sendall(server_frame(CLOSE, struct.pack("!H", 1000)))
            connection.shutdown(socket.SHUT_WR)
        until_closed(connection)

    def at_once(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    callbacks = {where: at_once} if where.startswith("on_") else {}
    if where == "on_close" and reconnect:
        pytest.skip("the original calls on_close only at the very end")
    with RawServer(script, head=b"" if where == "handshake" else None) as server:
        app = WebSocketApp(server.url, **callbacks)  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            app.run_forever(reconnect=reconnect)
    assert app.keep_running is False


def test_a_run_inside_the_handling_of_ctrl_c_is_none_itself() -> None:
    """A bot that says goodbye over a new connection after Ctrl+C would crash in the middle of it."""
    said: list[Any] = []
    with Server(server_side(said)) as server:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            app = WebSocketApp(server.url, on_open=lambda app: (app.send("bye"), app.close()))
            assert app.run_forever() is False
    assert wait_until(lambda: said == ["bye", (1000, "")]), said


def test_system_exit_in_a_callback_ends_the_program() -> None:
    """sys.exit() in a handler would be swallowed."""
    program = """
        import sys
        from finx_sync import WebSocketApp
        WebSocketApp(sys.argv[1], on_open=lambda app: sys.exit(7)).run_forever()
    """
    with Server(echo) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), server.url], timeout=30, check=False, capture_output=True
        )
    assert done.returncode == 7, done.stderr


# The outbox.


def test_a_full_outbox_refuses_and_the_connection_lives() -> None:
    """A server that stops reading would fill the memory, or one refused message would end the connection."""
    gate, opened = threading.Event(), threading.Event()
    said: list[Any] = []

    def script(connection: ServerConnection) -> None:
        gate.wait(10)
        server_side(said)(connection)

    with Server(script) as server:
        app = WebSocketApp(server.url, on_open=lambda app: opened.set())
        small = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)]
        with Runner(app, ping_interval=0.01, sockopt=small) as runner:
            assert opened.wait(5)
            sent = 0
            while app.try_send("x" * 500_000):
                sent += 1
                assert sent < 1000
            with pytest.raises(websocket.WebSocketConnectionClosedException, match="unread"):
                app.send("x" * MAX_OUTBOX)
            assert runner.result is None
            gate.set()
            app.close(timeout=10)
            runner.join(10)
    assert wait_until(lambda: len(said) == sent + 1)
    assert said[-1] == (1000, "")


def test_the_outbox_counts_right_with_many_threads() -> None:
    """After weeks of sending from many threads the outbox would think that it is full."""
    waker = Waker()
    outbox = Outbox(waker)
    frame = b"x" * 10
    threads = [threading.Thread(target=lambda: [outbox.put(frame) for _ in range(3000)]) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            outbox.flush(lambda data: min(len(data), 7))
        outbox.flush(len)
    finally:
        sys.setswitchinterval(interval)
        waker.close()
    assert outbox.waiting == 0


def test_two_hundred_connections_leave_nothing_behind() -> None:
    """A bot that reconnects for weeks would run out of descriptors or threads."""
    with Server(echo) as server:
        descriptors = threads = 0
        for number in range(200):
            app = WebSocketApp(server.url, on_open=lambda app: app.close())
            assert app.run_forever() is False
            if number == 20:
                descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        # The server's own ends are on their way out.
        assert wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 2)
        assert wait_until(lambda: threading.active_count() <= threads + 2)
