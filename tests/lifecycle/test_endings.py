"""Every way to end: stop() in each state and on each thread, Ctrl+C in each call, the interpreter's own end."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from finx_sync import Backoff, FinxSyncError, State, StreamManager
from finx_sync.transport import dial
from tests.scripted import ScriptedServer, text
from tests.servers import Listener, RawServer, server_frame, swallowing_address, until_closed

NAME = "BTC-26AUG22-20000-C"
PATIENCE = 20.0
"""Seconds that stop() may take in any state."""


def ours() -> list[str]:
    """The library's threads that run now, but for those that wait for a name server or for the user's api_key function:
    nothing can interrupt these, and they hold up nobody.
    """
    names = [one.name for one in threading.enumerate() if one.name.startswith("finx-sync")]
    return [name for name in names if "resolving" not in name and name != "finx-sync key"]


def wait_until(satisfied: Callable[[], object], within: float = PATIENCE) -> None:
    """Poll for what nothing signals."""
    deadline = time.monotonic() + within
    while not satisfied():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# stop(), in every state.


def flood(connection: ServerConnection) -> None:
    """Take the key, and send ticks for as long as anyone listens."""
    connection.recv()
    connection.send('{"isAuth":true}')
    while True:
        connection.send(text())


@contextmanager
def connecting(url: str, **options: Any) -> Iterator[StreamManager]:
    """A stream whose start() does not come to an end by itself."""
    stream = StreamManager("sandbox-key", url=url, **{"connect_timeout": 60, "allow_insecure": True, **options})

    def start() -> None:
        try:
            stream.start()
        except FinxSyncError:
            pass

    starter = threading.Thread(target=start)
    starter.start()
    wait_until(lambda: stream.state is State.CONNECTING)
    yield stream
    starter.join(PATIENCE)
    assert not starter.is_alive()


@contextmanager
def opened_at_the_end(gate: threading.Event) -> Iterator[None]:
    """Let whoever waits at the gate go, also when the test fails."""
    try:
        yield
    finally:
        gate.set()


@contextmanager
def never_started(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    yield StreamManager("sandbox-key", url="ws://127.0.0.1:1")


numbers = itertools.count()


@contextmanager
def looking_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    gate = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(dial.socket, "getaddrinfo", lambda *_: gate.wait(PATIENCE) and [])
        # A name of its own: a look-up that is still on its way is shared by all who want the same name.
        with opened_at_the_end(gate), connecting(f"ws://slow-{next(numbers)}.test") as stream:
            yield stream


@contextmanager
def waiting_for_tcp(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    with swallowing_address() as (host, port), connecting(f"ws://{host}:{port}") as stream:
        yield stream


@contextmanager
def waiting_for_tls(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    with Listener(until_closed) as server, connecting(f"wss://127.0.0.1:{server.port}") as stream:
        yield stream


@contextmanager
def waiting_for_the_handshake(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    with Listener(until_closed) as server, connecting(f"ws://127.0.0.1:{server.port}") as stream:
        yield stream


@contextmanager
def waiting_for_the_proxy(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    with (
        Listener(until_closed) as server,
        connecting("ws://x.test", proxy=f"http://127.0.0.1:{server.port}") as stream,
    ):
        yield stream


@contextmanager
def waiting_for_the_key(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    gate = threading.Event()
    stream = StreamManager(lambda: str(gate.wait(PATIENCE)), url="ws://127.0.0.1:1", connect_timeout=60)
    starter = threading.Thread(target=stream.start)
    starter.start()
    wait_until(lambda: stream.state is State.CONNECTING)
    with opened_at_the_end(gate):
        yield stream
    starter.join(PATIENCE)


@contextmanager
def waiting_for_the_login(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    with ScriptedServer() as server:
        server.answer = lambda connection, message: None  # type: ignore[method-assign]
        with connecting(server.url) as stream:
            server.next_connection()
            yield stream


@contextmanager
def idle(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    with ScriptedServer() as server:
        stream = StreamManager("sandbox-key", url=server.url)
        stream.start()
        yield stream


@contextmanager
def flooded(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    with ScriptedServer(flood) as server:
        stream = StreamManager("sandbox-key", url=server.url, queue_size=100)
        stream.on_contract(lambda tick: None)
        stream.start()
        wait_until(lambda: stream.stats().messages.received > 100)
        yield stream


@contextmanager
def held_back(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    gate = threading.Event()
    with ScriptedServer(flood) as server:
        stream = StreamManager("sandbox-key", url=server.url, queue_size=10, overflow="block")
        stream.on_contract(lambda tick: gate.wait(0.01))
        stream.start()
        wait_until(lambda: stream.stats().messages.waiting >= 10)
        yield stream


@contextmanager
def black_holed(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    gate = threading.Event()
    with (
        RawServer(lambda connection: gate.wait(PATIENCE)) as server,
        opened_at_the_end(gate),
        connecting(server.url.rstrip("/")) as stream,
    ):
        wait_until(lambda: server.requests)
        yield stream


@contextmanager
def backing_off(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    with ScriptedServer() as server:
        stream = StreamManager("sandbox-key", url=server.url, reconnect=Backoff(first=60, cap=60))
        stream.start()
        server.next_connection().close_socket()
        wait_until(lambda: stream.state is State.RECONNECTING)
        yield stream


@contextmanager
def failed(_: pytest.MonkeyPatch) -> Iterator[StreamManager]:
    with ScriptedServer() as server:
        stream = StreamManager("sandbox-key", url=server.url, flight_recorder=False)
        stream.start()
        server.next_connection().close(1008)
        wait_until(lambda: stream.state is State.FAILED)
        yield stream


STATES = (
    never_started,
    looking_up,
    waiting_for_tcp,
    waiting_for_tls,
    waiting_for_the_handshake,
    waiting_for_the_proxy,
    waiting_for_the_key,
    waiting_for_the_login,
    idle,
    flooded,
    held_back,
    black_holed,
    backing_off,
    failed,
)


def here(stream: StreamManager) -> None:
    stream.stop()


def elsewhere(stream: StreamManager) -> None:
    thread = threading.Thread(target=stream.stop)
    thread.start()
    thread.join(PATIENCE)


def four_at_once(stream: StreamManager) -> None:
    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=lambda: (barrier.wait(PATIENCE), stream.stop())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)


def in_a_signal_handler(stream: StreamManager) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: stream.stop())
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


CALLERS = (here, elsewhere, four_at_once, in_a_signal_handler)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.__name__)
def test_stop_in_every_state_from_every_thread(
    state: Callable[..., Any],
    caller: Callable[[StreamManager], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """stop() would hang, raise, or leave a thread behind."""
    with state(monkeypatch) as stream:
        caller(stream)
        assert "gave up" not in caplog.text
        wait_until(lambda: not ours())
        assert stream.state in (State.STOPPED, State.FAILED, State.NEW)
        stream.stop()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_stop_a_hundred_times_in_a_row(
    state: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What works once would fail one time in fifty."""
    for number in range(20 if state is black_holed else 100):  # that one takes its grace of 0.4 s each time
        with state(monkeypatch) as stream:
            CALLERS[number % len(CALLERS)](stream)
            assert "gave up" not in caplog.text
            wait_until(lambda: not ours())


@pytest.mark.parametrize("topic", ["on_contract", "on_spot", "on_message", "on_error", "on_state"])
def test_stop_in_every_kind_of_handler(topic: str) -> None:
    """A bot that stops itself would wait for itself."""

    def handler(_: object) -> None:
        stream.stop(3600)

    def script(connection: ServerConnection) -> None:
        connection.send('{"redis_key":')
        connection.send(text())
        connection.send('{"pair":"A:B","unixDate":1,"UTCDate":"x","exchange":"E","price":"1"}')

    with ScriptedServer(script) as server:
        for _ in range(20):
            stream = StreamManager("sandbox-key", url=server.url)
            getattr(stream, topic)(handler)
            stream.start()
            wait_until(lambda stream=stream: stream.state is State.STOPPED)  # type: ignore[misc]
            wait_until(lambda: not ours())


def test_stop_races_with_start() -> None:
    """A stop that comes while the start has just begun would be forgotten, or leave it half done."""
    with ScriptedServer() as server:
        for number in range(100):
            stream = StreamManager("sandbox-key", url=server.url)
            stopper = threading.Timer(number * 0.0003, stream.stop)
            stopper.start()
            stream.start()
            stopper.join(PATIENCE)
            stream.stop()
            wait_until(lambda: not ours())


# Ctrl+C, in every call that waits.

CALLS = {
    "run": "stream.run()",
    "start": "silent.start()",
    "iterator": "stream.start(); [tick for tick in stream.ticks('NOBODY')]",
    "take": "stream.start(); stream.take(10**9, 'NOBODY')",
    "wait_for": "stream.start(); stream.wait_for(lambda tick: False)",
    "get_tick_history": "silent.get_tick_history('BTC:USD', '2022-06-15', timeout=3600)",
    "get_tick_snap": "silent.get_tick_snap('BTC:USD', timeout=3600)",
    "with": "stream.__enter__(); threading.Event().wait()",
    "stop": "stuck.start(); inside.wait(); stuck.stop(3600)",
}


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_ends_every_call_that_waits(call: str) -> None:
    """Ctrl+C would be swallowed, come too late, or leave threads behind that keep the program alive."""
    program = f"""
        import os, signal, sys, threading, time
        from finx_sync import StreamManager

        def press():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

        stream = StreamManager("sandbox-key", url=sys.argv[1])
        silent = StreamManager("sandbox-key", url=sys.argv[2], connect_timeout=3600)
        stuck = StreamManager("sandbox-key", url=sys.argv[1])
        inside, gate = threading.Event(), threading.Event()
        stuck.on_state(lambda change: change.new.value == "open" and (inside.set(), gate.wait(3600)))
        threading.Thread(target=press, daemon=True).start()
        try:
            {CALLS[call]}
            print("returned", end=" ")
        except KeyboardInterrupt:
            print("interrupted", end=" ")
        gate.set()
        for one in (stream, silent, stuck):
            one.stop()
        print("at once", [one.name for one in threading.enumerate() if "finx" in one.name])
    """

    def greet(connection: ServerConnection) -> None:
        connection.send(text())

    with ScriptedServer(greet) as server, Listener(until_closed, connections=3) as silent:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), server.url, f"ws://127.0.0.1:{silent.port}"],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("interrupted at once []\n", "")


# The interpreter's end.

ENDS = {
    "falling off the end": ("", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "an exception": ("raise ValueError('of the user')", 1, "of the user"),
    "with a blocked handler": (
        "stream.on_contract(lambda tick: time.sleep(60)); time.sleep(0.2)",
        0,
        "has not returned",
    ),
    "with a handler's daemon thread": (
        "threading.Thread(target=lambda: [tick for tick in stream.ticks()], daemon=True).start(); time.sleep(0.1)",
        0,
        "",
    ),
    "with an open iterator": ("feed = stream.ticks(); next(feed)", 0, ""),
    "in a handler's flood": ("stream.on_contract(lambda tick: None); time.sleep(0.2)", 0, ""),
    "while reconnecting": ("while stream.is_connected: time.sleep(0.01)", 0, ""),
    "from another thread": ("threading.Thread(target=stream.take, args=(50,)).start()", 0, ""),
    "with two streams": ("other = StreamManager('sandbox-key', url=sys.argv[1]); other.start()", 0, ""),
    "after stop": ("stream.stop()", 0, ""),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_ends_promptly_and_quietly(end: str) -> None:
    """A script that forgets stop() would hang at its end, or print a traceback of ours."""
    code, status, said = ENDS[end]
    program = f"""
        import logging, sys, threading, time
        logging.basicConfig(level="WARNING")
        from finx_sync import Backoff, StreamManager
        stream = StreamManager(
            "sandbox-key", url=sys.argv[1], reconnect=Backoff(first=30, cap=30), flight_recorder=False
        )
        stream.on_contract(lambda tick: None)
        stream.subscribe_contract("BTC-26AUG22-20000-C")
        stream.start()
        print("ends", flush=True)
        {code}
    """
    with ScriptedServer(short_feed if end == "while reconnecting" else slow_feed) as server:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(program), server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ends\n"
        _, errors = process.communicate(timeout=30)
    assert process.returncode == status, errors
    assert errors.count("Traceback") == (1 if end == "an exception" else 0), errors
    assert said in errors
    if not said and end != "while reconnecting":
        assert errors == ""


def short_feed(connection: ServerConnection) -> None:
    """The key is taken; some ticks, and the end of the connection."""
    connection.recv()
    connection.send('{"isAuth":true}')
    for _ in range(20):
        connection.send(text())
        time.sleep(0.005)
    connection.close()


def slow_feed(connection: ServerConnection) -> None:
    """A tick every few milliseconds."""
    try:
        while True:
            connection.send(text())
            time.sleep(0.005)
    except ConnectionClosed:
        pass


# Failing on and on.


@dataclass(frozen=True)
class Gauge(Backoff):
    """Comes back at once, and notes at each failure, on the io thread, what is in use."""

    first: float = 1e-4
    cap: float = 1e-4
    enough: threading.Event = field(default_factory=threading.Event)
    depths: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        frame, depth = sys._getframe(), 0
        while frame.f_back is not None:
            frame, depth = frame.f_back, depth + 1
        self.depths.append(depth)
        self.threads.append(threading.active_count())
        self.descriptors.append(len(os.listdir("/proc/self/fd")))
        if len(self.depths) >= 1000:
            self.enough.set()
        return 1e-4


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_thousand_failed_connects_leave_everything_as_it_was() -> None:
    """A stream that is down for a weekend would run out of stack, threads or descriptors."""
    answers = [b"HTTP/1.1 503 No\r\n\r\n", b"nonsense", b"HTTP/1.1 302 Go\r\nLocation: ws://else.test/\r\n\r\n", b""]

    class Down(RawServer):
        """Works once; then fails in four ways, in turn."""

        def _talk(self, connection: socket.socket) -> None:
            if self.accepted > 1:
                self._head = answers[self.accepted % len(answers)]
            super()._talk(connection)

    def script(connection: socket.socket) -> None:
        if server.accepted == 1:
            connection.recv(65536)
            connection.sendall(server_frame(1, b'{"isAuth":true}'))

    gauge = Gauge()
    with Down(script, connections=2000) as server:
        stream = StreamManager("sandbox-key", url=server.url.rstrip("/"), reconnect=gauge)
        stream.start()
        assert gauge.enough.wait(50), len(gauge.depths)
        stream.stop()
    assert set(gauge.depths[:1000]) == {gauge.depths[0]}
    assert max(gauge.threads[10:1000]) <= max(gauge.threads[:10]) + 1
    assert max(gauge.descriptors[10:1000]) <= max(gauge.descriptors[:10]) + 2
    assert stream.stats().reconnects == 1, "only one connection was ever lost"


def test_healthy_data_resets_the_back_off() -> None:
    """After a bad night each single loss by day would cost half a minute."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(server_frame(1, b'{"isAuth":true}') + server_frame(1, text().encode()))
        opened.wait(PATIENCE)

    opened = threading.Event()
    backoff = Counting(healthy_after=0.0)
    with RawServer(script, connections=20) as server:
        stream = StreamManager("sandbox-key", url=server.url.rstrip("/"), reconnect=backoff)
        stream.start()
        opened.set()
        wait_until(lambda: len(backoff.asked) >= 5)
        stream.stop()
    assert backoff.asked[1:5] == [1, 1, 1, 1]


@dataclass(frozen=True)
class Counting(Backoff):
    """Comes back at once, and notes how many failures in a row it was told of."""

    asked: list[int] = field(default_factory=list)

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        self.asked.append(failures)
        return 0.001
