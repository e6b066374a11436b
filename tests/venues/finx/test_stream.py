"""StreamManager from end to end: real sockets, servers that misbehave."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest
import trustme
from websockets.sync.server import ServerConnection

import finx_sync
from finx_sync import (
    AuthorizationError,
    Backoff,
    ConfigError,
    ConnectError,
    ContractTick,
    SpotTick,
    State,
    StreamManager,
)
from finx_sync.errors import (
    ConnectionLostError,
    ConnectTimeoutError,
    HandlerError,
    HandshakeError,
    InternalError,
    InvalidInputError,
    ServerRefusedError,
    StreamTimeoutError,
    UnreadableMessageError,
    UsageError,
)
from finx_sync.pipeline.pipeline import Pipeline
from finx_sync.sandbox import Sandbox
from finx_sync.venues.finx import FinxCodec
from tests.scripted import ScriptedServer, text
from tests.servers import RawServer, server_frame
from tests.waiting import FAST, NAME, Collector, books_balance, stream_to, wait_until

# The main job


def test_the_documented_program(sandbox: Sandbox) -> None:
    """The program in the README would not do what it says."""
    stream = StreamManager(environment="sandbox", url=sandbox.url)
    contracts, named, spots = Collector(), Collector(), Collector()

    @stream.on_contract
    def risk(tick: ContractTick) -> None:
        contracts(tick)

    stream.on_contract(NAME)(named)
    assert stream.on_spot(spots) is spots
    stream.subscribe_contract(NAME, "BTC-PERPETUAL")
    stream.subscribe_spot("BTC:USDC")
    before = time.time()
    stream.start()
    assert stream.is_connected
    contracts.wait(lambda items: {tick.name for tick in items} == {NAME, "BTC-PERPETUAL"})
    ticks = named.wait(lambda items: len(items) >= 3)
    assert {tick.name for tick in ticks} == {NAME}
    assert all(before <= tick.received_at <= time.time() for tick in ticks)
    assert all(isinstance(tick, SpotTick) and tick.pair == "BTC:USDC" for tick in spots.wait(len))
    assert len(stream.get_tick_history("BTC:USD", "2022-06-15", limit=1000)) == 1000
    assert books_balance(stream)
    stream.stop()
    assert stream.state is State.STOPPED


def test_embedded_sandbox_needs_nothing() -> None:
    """A newcomer without a key could not run anything."""
    with StreamManager(environment="sandbox") as stream:
        stream.subscribe_spot("BTC:USDC")
        (tick,) = stream.take(1, "BTC:USDC", timeout=10)
        assert stream.latest("BTC:USDC") is not None
        assert stream.get_tick_snap("BTC:USD").price is not None
    assert tick.pair == "BTC:USDC"
    assert "BTC-PERPETUAL" in finx_sync.list_contracts(environment="sandbox")


def test_100_000_messages_from_another_process_once_and_in_order(caplog: pytest.LogCaptureFixture) -> None:
    """A bot would miss ticks, see them twice or out of order, or find its key in the log."""
    count, key = 100_000, "a-very-secret-word"
    program = f"""
        from tests.scripted import ScriptedServer, text
        before, after = text(timestamp="NUMBER").split("NUMBER")
        def burst(connection):
            for number in range({count}):
                connection.send(before + str(number) + after)
        with ScriptedServer(burst) as server:
            print(server.url, flush=True)
            input()
    """
    server = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[3])},
    )
    assert server.stdout is not None
    caplog.set_level(logging.DEBUG)
    numbers: list[int | None] = []
    done = threading.Event()
    stream = StreamManager(key, url=server.stdout.readline().strip())

    @stream.on_contract
    def collect(tick: ContractTick) -> None:
        numbers.append(tick.timestamp)
        if len(numbers) == count:
            done.set()

    stream.start()
    assert done.wait(50), len(numbers)
    assert books_balance(stream)
    stream.stop()
    server.communicate("")
    assert numbers == list(range(count))
    assert stream.stats().messages.handled == count
    assert key not in caplog.text


def test_slow_handlers_lose_nothing_and_hold_the_server_back() -> None:
    """A slow handler would fill the memory, or lose messages, or look like a dead peer."""
    count = 3000
    gate = threading.Event()

    def burst(connection: ServerConnection) -> None:
        for number in range(count):
            connection.send(text(timestamp=str(number), filler="x" * 20_000))

    seen = Collector()

    def handler(tick: ContractTick) -> None:
        gate.wait(30)
        seen(tick.timestamp)

    with ScriptedServer(burst) as server:
        stream = stream_to(server, queue_size=50, overflow="block", ping_interval=0.4, ping_timeout=0.4)
        stream.on_contract(handler)
        stream.start()
        assert not wait_until(lambda: stream.stats().messages.waiting > 150, 1.2)
        gate.set()
        assert seen.wait(lambda items: len(items) >= count, 50) == list(range(count))
        assert stream.stats().reconnects == 0
        stream.stop()


# Handlers


def test_a_raising_handler_hurts_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """One bug in one callback would stop the feed, or be eaten."""
    errors, others = Collector(), Collector()
    with ScriptedServer(
        lambda connection: [connection.send(text(timestamp=str(n))) for n in range(3)] and None
    ) as server:
        stream = stream_to(server)

        @stream.on_contract
        def broken(tick: ContractTick) -> None:
            raise ValueError("a bug in a bot")

        stream.on_contract(others)
        stream.on_error(errors)
        stream.start()
        others.wait(lambda items: len(items) == 3)
        (first, *_) = errors.wait(lambda items: len(items) == 3)
        stream.stop()
    assert isinstance(first.__cause__, ValueError)
    assert first.handler is broken
    assert first.message.timestamp == 0
    assert caplog.text.count("Traceback") == 1
    stats = stream.stats()
    assert stats.messages.handled == 3
    assert [one.failures for one in stats.handlers] == [3, 0, 0]


def test_unreadable_and_unknown_messages_leave_the_stream_alive() -> None:
    """One torn message would end the stream, or vanish in silence."""
    errors, texts, ticks = Collector(), Collector(), Collector()

    def script(connection: ServerConnection) -> None:
        for payload in ('{"redis_key":', '{"hello": 1}', text(mark_price="nan"), text()):
            connection.send(payload)

    with ScriptedServer(script) as server:
        stream = stream_to(server)
        stream.on_error(errors)
        stream.on_contract(ticks)
        stream.start()
        ticks.wait(len)
        assert wait_until(lambda: stream.stats().messages.in_flight == 0)
        books = stream.stats().messages
        stream.stop()
        assert (books.unreadable, books.unclaimed, books.unknown, books.handled) == (2, 1, 1, 1)
        assert all(isinstance(error, UnreadableMessageError) for error in errors.items)
        stream.on_message(texts)
        stream.start()
        raw = texts.wait(lambda items: text() in items)
        assert '{"hello": 1}' in raw
        stream.stop()
        assert stream.stats().messages.unclaimed == 0
        assert stream.stats().messages.unknown == 1


@pytest.mark.parametrize(
    "bad",
    [
        None,
        5,
        "not a function",
        lambda: None,
        lambda a, b: None,
        lambda *, tick: None,
        pytest.param("async", id="async"),
    ],
)
def test_bad_handlers_fail_at_once(bad: Any) -> None:
    """A handler that can never be called would be noticed only when the first message comes."""
    if bad == "async":

        async def bad(tick: object) -> None:
            pass

    stream = StreamManager("sandbox-key", url="ws://127.0.0.1:1")
    with pytest.raises(HandlerError):
        stream.on_error(bad)


def test_handlers_can_be_removed_and_added_inside_handlers() -> None:
    """Registering from a callback would deadlock, or the removed handler would still be called."""
    seen: list[str] = []
    done = threading.Event()
    with ScriptedServer(
        lambda connection: [connection.send(text(timestamp=str(n))) for n in range(3)] and None
    ) as server:
        stream = stream_to(server)

        def first(tick: ContractTick) -> None:
            seen.append(f"first {tick.timestamp}")
            assert stream.off(first)
            stream.on_contract(second)

        def second(tick: ContractTick) -> None:
            seen.append(f"second {tick.timestamp}")
            if tick.timestamp == 2:
                done.set()

        stream.on_contract(first)
        stream.start()
        assert done.wait(10)
        stream.stop()
    assert seen == ["first 0", "second 1", "second 2"]
    assert not stream.off(first)


@pytest.mark.parametrize("place", ["dispatch", "opening"])
def test_a_defect_of_our_own_ends_the_stream_loudly(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crashed thread would leave a stream that looks alive and never ticks again."""

    def crash(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    with ScriptedServer(lambda connection: connection.send(text())) as server:
        stream = stream_to(server)
        if place == "dispatch":
            monkeypatch.setattr(Pipeline, "_process_batch", crash)
        else:
            monkeypatch.setattr(FinxCodec, "url", crash)
        with pytest.raises(InternalError):
            stream.run()
        assert stream.state is State.FAILED


# Subscriptions


def test_each_subscription_once_per_connection() -> None:
    """After a reconnect there would be no data, or everything twice."""
    with ScriptedServer() as server:
        stream = stream_to(server)
        stream.subscribe_contract("A", "B", "A")
        stream.start()
        stream.subscribe_spot("X:Y")
        stream.subscribe_contract("B")
        stream.unsubscribe_contract("A")
        for round_number in range(4):
            connection = server.next_connection()
            calls = [server.received.get(timeout=10) for _ in range(4 if round_number == 0 else 3)]
            asked = [call.get("instrumentName") or call.get("pair") for call in calls]
            assert calls[0]["functionName"] == "authenticate"
            assert asked[1:] == (["A", "B", "X:Y"] if round_number == 0 else ["B", "X:Y"])
            connection.close_socket()
        stream.stop()


def test_unsubscribed_names_become_unclaimed() -> None:
    """Messages that nobody wants any more would vanish from the books."""
    with ScriptedServer() as server:
        stream = stream_to(server)
        stream.subscribe_contract(NAME)
        stream.start()
        stream.unsubscribe_contract(NAME)
        server.next_connection().send(text())
        assert wait_until(lambda: stream.stats().messages.unclaimed == 1)
        stream.stop()


def test_one_stream_per_url() -> None:
    """Servers of July 2022, which stream one name on one URL, could not be used."""
    ticks = Collector()
    with Sandbox(contract_interval=0.01, spot_interval=0.01) as sandbox:
        stream = stream_to(sandbox.url, stream_per_url=True)
        stream.on_spot(ticks)
        stream.subscribe_spot("BTC:USD")
        stream.start()
        stream.subscribe_spot("ETH:USD")
        ticks.wait(lambda items: {tick.pair for tick in items} == {"BTC:USD", "ETH:USD"})
        stream.unsubscribe_spot("BTC:USD")
        assert wait_until(lambda: len(sandbox.connections()) == 1)
        stream.stop()


@pytest.mark.parametrize("path", ["streaming", "streamer", "root"])
def test_every_documented_path(sandbox: Sandbox, path: Any) -> None:
    """A server of another revision would not answer."""
    with stream_to(sandbox.url, path=path) as stream:
        stream.subscribe_contract(NAME)
        assert stream.take(2, timeout=10)


# Reconnecting


def test_reconnects_after_a_cut_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """A cut connection would stay cut, or flood the log."""
    states, ticks = Collector(), Collector()
    caplog.set_level(logging.DEBUG, "finx_sync")
    with ScriptedServer(lambda connection: connection.send(text())) as server:
        stream = stream_to(server)
        stream.on_state(states)
        stream.on_contract(ticks)
        stream.start()
        ticks.wait(len)
        server.next_connection().close(1011, "boom")
        states.wait(lambda items: sum(change.new is State.OPEN for change in items) == 2)
        stream.stop()
    lost = next(change for change in states.items if change.new is State.RECONNECTING)
    assert isinstance(lost.reason, ConnectionLostError)
    assert (lost.reason.code, lost.reason.reason) == (1011, "boom")
    assert states.items[-1].new is State.STOPPED
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) == 1
    assert stream.stats().reconnects == 1


def test_a_peer_gone_silent_is_noticed() -> None:
    """A dead feed would go unnoticed for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    states = Collector()
    with ScriptedServer() as server:
        relay = threading.Thread(target=one_sided_relay, args=(listener, server.port))
        relay.start()
        stream = stream_to(f"ws://127.0.0.1:{port}", ping_interval=0.1, ping_timeout=0.1)
        stream.on_state(states)
        stream.start()
        lost = states.wait(lambda items: any(change.new is State.RECONNECTING for change in items))
        stream.stop()
        listener.close()
        relay.join(10)
    assert any("answered no ping" in str(change.reason) for change in lost)


def one_sided_relay(listener: socket.socket, port: int) -> None:
    """Pass on the handshake and the login, then nothing more: a black hole. Serves one connection."""
    client, _ = listener.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        server.sendall(client.recv(65536))
        client.sendall(server.recv(65536))
        server.sendall(client.recv(65536))
        client.sendall(server.recv(65536))
        while client.recv(65536):
            pass


def test_a_rotating_key_is_asked_for_at_each_connect() -> None:
    """FinX changes keys every 24 hours: the stream would die at the first reconnect after that."""
    keys = iter(["first-key", "second-key"])
    with ScriptedServer() as server:
        stream = StreamManager(lambda: next(keys), url=server.url, reconnect=FAST)
        stream.start()
        server.next_connection().close_socket()
        server.next_connection()
        assert server.next_call("authenticate")["APIKey"] == "first-key"
        assert server.next_call("authenticate")["APIKey"] == "second-key"
        stream.stop()
    assert server.paths == ["/streaming/first-key", "/streaming/second-key"]


# What ends the stream


def test_a_refused_key_raises_from_start(sandbox: Sandbox) -> None:
    """A wrong key would look like a quiet market."""
    stream = StreamManager("wrong-key", url=sandbox.url)
    with pytest.raises(AuthorizationError, match="isAuth"):
        stream.start()
    assert stream.state is State.FAILED
    assert len({connection for connection, _ in sandbox.requests}) == 1


@pytest.mark.parametrize("verdict", ["true", "false"])
def test_a_verdict_counts_though_the_server_hangs_up_with_it(verdict: str) -> None:
    """A refused key would look like a lost connection, and be tried for ever: the end overtakes what was said."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(server_frame(1, b'{"isAuth":%s}' % verdict.encode()))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
        ended.set()

    def busy(change: object) -> None:
        """The dispatch thread comes to the verdict well after the end."""
        ended.wait(10)
        threading.Event().wait(0.1)

    ended = threading.Event()
    with RawServer(script, connections=2) as server:
        stream = StreamManager("sandbox-key", url=server.url.rstrip("/"), reconnect=Backoff(first=60, cap=60))
        stream.on_state(busy)
        if verdict == "true":
            stream.start()
        else:
            with pytest.raises(AuthorizationError, match="isAuth: false"):
                stream.start()
        assert ended.is_set()
        stream.stop()
    assert server.accepted == 1


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusing_handshake_raises_from_start(code: int) -> None:
    """A refused key would be retried for ever."""
    with raw_http_server(f"HTTP/1.1 {code} No\r\nContent-Length: 0\r\n\r\n".encode()) as (url, hits):
        stream = stream_to(url)
        with pytest.raises(AuthorizationError, match=str(code)):
            stream.start()
        assert stream.state is State.FAILED
        assert len(hits) == 1


def test_policy_violation_later_ends_run_and_iterators() -> None:
    """An expired key would be retried for ever, and run() would never return."""
    with ScriptedServer(lambda connection: connection.send(text())) as server:
        stream = stream_to(server)
        stream.on_contract(lambda tick: server.next_connection().close(1008, "key expired"))
        with pytest.raises(AuthorizationError, match="key expired"):
            stream.run()
        assert stream.state is State.FAILED
        with pytest.raises(AuthorizationError, match="key expired"):
            stream.ticks()


def test_an_error_frame_later_goes_to_on_error() -> None:
    """The server's complaint about a subscription would go unheard."""
    errors = Collector()
    with ScriptedServer() as server:
        stream = stream_to(server)
        stream.on_error(errors)
        stream.start()
        server.next_connection().send('{"error":"no such contract"}')
        (error,) = errors.wait(len)
        stream.stop()
    assert isinstance(error, ServerRefusedError)
    assert error.said == "no such contract"


def test_a_silent_server_is_taken_as_consent() -> None:
    """A server that answers authenticate with silence could not be used."""
    with ScriptedServer() as server:
        server.answer = lambda connection, message: None  # type: ignore[method-assign]
        stream = stream_to(server)
        stream.start()
        assert stream.is_connected
        stream.stop()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", HandshakeError),
        (b"HTTP/1.1 302 Go\r\nLocation: ws://elsewhere/\r\n\r\n", HandshakeError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ConnectError),
        (b"", ConnectError),
    ],
)
def test_first_failure_raises_and_leaves_nothing_running(answer: bytes, error: type[Exception]) -> None:
    """start() would return although nothing works, or leave threads behind."""
    with raw_http_server(answer) as (url, _):
        stream = stream_to(url)
        with pytest.raises(error):
            stream.start()
        assert stream.state is State.FAILED


def test_unreachable_hosts_say_what_is_wrong() -> None:
    """A typo in the host name would end in a riddle."""
    with pytest.raises(ConnectError, match="refused"):
        stream_to(f"ws://127.0.0.1:{unused_port()}").start()
    with pytest.raises(ConnectTimeoutError, match="connect_timeout"), silent_listener() as url:
        stream_to(url, connect_timeout=0.1).start()


# Stopping


@pytest.fixture(params=["ws", "wss"])
def tls(request: pytest.FixtureRequest) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Server's and client's TLS contexts; None for plain."""
    if request.param == "ws":
        return None, None
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def assert_stops(stream: StreamManager) -> None:
    """When stop() returns, no thread is left: it has not given up."""
    stream.stop()
    assert not [one for one in threading.enumerate() if one.name.startswith(("finx-sync io", "finx-sync dispatch"))]


def test_stop_before_start_and_twice() -> None:
    """Cleaning up would raise in programs that failed early."""
    stream = stream_to("ws://127.0.0.1:1")
    assert_stops(stream)
    assert stream.state is State.NEW
    assert_stops(stream)


def test_stop_while_the_handshake_is_not_answered(tls: Any) -> None:
    """A half-dead server would make the program unstoppable for minutes."""
    with silent_listener("wss" if tls[0] else "ws") as url:
        stream = stream_to(url, ssl_context=tls[1])
        failure: list[BaseException] = []

        def start() -> None:
            try:
                stream.start()
            except finx_sync.FinxSyncError as error:
                failure.append(error)

        starter = threading.Thread(target=start)
        starter.start()
        assert wait_until(lambda: stream.state is State.CONNECTING)
        assert_stops(stream)
        starter.join(5)
        assert not starter.is_alive()


def test_stop_while_open_and_streaming(tls: Any) -> None:
    """stop() would hang on a busy connection."""

    def flood(connection: ServerConnection) -> None:
        while True:
            connection.send(text())

    with ScriptedServer(flood, tls[0]) as server:
        stream = stream_to(server, ssl_context=tls[1])
        ticks = Collector()
        stream.on_contract(ticks)
        stream.start()
        ticks.wait(len)
        assert_stops(stream)
        assert books_balance(stream)


def test_stop_while_waiting_to_reconnect(tls: Any) -> None:
    """A long back-off would keep the program alive."""
    with ScriptedServer(ssl_context=tls[0]) as server:
        stream = stream_to(server, ssl_context=tls[1], reconnect=Backoff(first=60, cap=60))
        stream.start()
        server.next_connection().close_socket()
        assert wait_until(lambda: stream.state is State.RECONNECTING)
        assert_stops(stream)


def test_stop_inside_a_handler(tls: Any) -> None:
    """A bot that stops itself would wait for itself."""
    release, returned = threading.Event(), threading.Event()
    after: list[ContractTick] = []
    with ScriptedServer(lambda connection: [connection.send(text()) for _ in range(10)] and None, tls[0]) as server:
        stream = stream_to(server, ssl_context=tls[1])

        @stream.on_contract
        def stop_here(tick: ContractTick) -> None:
            after.append(tick)
            stream.stop(3600)
            returned.set()
            release.wait(10)

        stream.start()
        assert returned.wait(10)
        assert stream.state is State.STOPPING
        release.set()
        assert wait_until(lambda: stream.state is State.STOPPED)
        assert_stops(stream)
    assert len(after) == 1
    assert books_balance(stream)


def test_stop_with_a_blocked_handler_reports_it(caplog: pytest.LogCaptureFixture) -> None:
    """stop() would wait for ever for a handler that never returns."""
    gate, inside = threading.Event(), threading.Event()
    with ScriptedServer(lambda connection: connection.send(text())) as server:
        stream = stream_to(server)

        @stream.on_contract
        def stuck(tick: ContractTick) -> None:
            inside.set()
            gate.wait(30)

        stream.start()
        assert inside.wait(10)
        stream.stop(timeout=0.1)
        assert "stuck has not returned" in caplog.text
        with pytest.raises(UsageError, match="stopping"):
            stream.start()
        gate.set()
        assert wait_until(lambda: stream.state is State.STOPPED)


def test_stop_drains_when_asked() -> None:
    """The last fills before a stop would be thrown away although the user asked for them."""
    gate = threading.Event()
    seen: list[int | None] = []
    with ScriptedServer(
        lambda connection: [connection.send(text(timestamp=str(n))) for n in range(500)] and None
    ) as server:
        stream = stream_to(server, overflow="block")

        @stream.on_contract
        def handler(tick: ContractTick) -> None:
            gate.wait(30)
            seen.append(tick.timestamp)

        stream.start()
        assert wait_until(
            lambda: stream.stats().messages.received == 502
        )  # and the replies to the key and to the keep-alive
        threading.Timer(0.05, gate.set).start()
        stream.stop(drain=True)
    assert seen == list(range(500))


def test_start_and_stop_a_hundred_times() -> None:
    """A bot that restarts its stream would run out of threads or descriptors, or could not start again."""
    with ScriptedServer() as server:
        stream = stream_to(server)
        for _ in range(100):
            stream.start()
            assert_stops(stream)
        assert len(server.paths) == 100


def test_ctrl_c_ends_run_in_order() -> None:
    """`while True: stream.run()` would survive Ctrl+C, or the program would hang."""
    program = """
        import os, signal, threading
        from finx_sync import StreamManager
        stream = StreamManager(environment="sandbox")
        stream.subscribe_spot("BTC:USDC")
        stream.on_spot(lambda tick: os.kill(os.getpid(), signal.SIGINT))
        try:
            stream.run()
        except KeyboardInterrupt:
            print(stream.state.value, [t.name for t in threading.enumerate()])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "stopped ['MainThread']\n", done.stderr


def test_interpreter_exit_with_an_open_stream() -> None:
    """A script that forgets stop() would hang or crash at its end."""
    program = """
        from finx_sync import StreamManager
        stream = StreamManager(environment="sandbox")
        stream.subscribe_spot("BTC:USDC")
        stream.start()
        print(stream.take(1, timeout=10)[0].pair)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("BTC:USDC\n", "", 0)


# The REPL


def test_iterators_have_their_own_queue() -> None:
    """An iterator that nobody reads would stop the handlers."""
    seen = Collector()
    with ScriptedServer() as server:
        stream = stream_to(server)
        stream.start()
        stream.on_contract(seen)
        feed = stream.ticks(NAME, timeout=10, size=10)
        connection = server.next_connection()
        for number in range(100):
            connection.send(text(timestamp=str(number)))
        seen.wait(lambda items: len(items) == 100)
        assert [next(feed).timestamp for _ in range(10)] == list(range(90, 100))
        assert feed.dropped == 90
        waiter = threading.Timer(0.05, stream.stop)
        waiter.start()
        assert list(feed) == []
        waiter.join()


def test_wait_for_and_take() -> None:
    """REPL experiments would hang or give the wrong tick."""
    with ScriptedServer() as server:
        stream = stream_to(server)
        stream.start()
        connection = server.next_connection()
        sender = threading.Timer(0.05, lambda: [connection.send(text(timestamp=str(n))) for n in range(5)])
        sender.start()
        assert stream.wait_for(lambda tick: tick.timestamp == 3, timeout=10).timestamp == 3
        sender.join()
        assert wait_until(lambda: stream.latest(NAME).timestamp == 4)
        assert stream.latest("NOBODY") is None
        with pytest.raises(StreamTimeoutError):
            stream.take(1, timeout=0.01)
        with pytest.raises(StreamTimeoutError):
            stream.wait_for(lambda tick: True, timeout=0.01)
        stream.stop()


def test_blocking_methods_refuse_the_dispatch_thread(sandbox: Sandbox) -> None:
    """A handler that waits for the next message would wait for ever."""
    caught = Collector()
    stream = stream_to(sandbox.url)

    @stream.on_contract
    def handler(tick: ContractTick) -> None:
        for method in (stream.start, stream.run, lambda: stream.take(1), stream.ticks, lambda: stream.wait_for(bool)):
            with pytest.raises(UsageError):
                method()
        caught(stream.get_tick_snap("BTC:USD", timeout=10))
        stream.off(handler)

    stream.subscribe_contract(NAME)
    stream.start()
    caught.wait(len)
    stream.stop()


# Bad input


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({}, "FINX_API_KEY"),
        ({"api_key": " "}, "FINX_API_KEY"),
        ({"api_key": 5}, "string"),
        ({"environment": "prod"}, "production"),
        ({"api_key": "k", "url": "http://x"}, "wss://"),
        ({"api_key": "k", "url": "wss://"}, "wss://"),
        ({"api_key": "k", "path": "stream"}, "streamer"),
        ({"api_key": "k", "request_form": "post"}, "segment"),
        ({"api_key": "k", "ping_interval": 0}, "seconds"),
        ({"api_key": "k", "connect_timeout": -1}, "seconds"),
        ({"api_key": "k", "max_size": 0}, "bytes"),
        ({"api_key": "k", "queue_size": 0}, "messages"),
    ],
)
def test_bad_settings_fail_in_the_constructor(arguments: dict[str, Any], hint: str) -> None:
    """A wrong setting would be noticed only when the market opens."""
    with pytest.raises(ConfigError, match=hint):
        StreamManager(**arguments)


def test_bad_names_fail_before_any_io() -> None:
    """A typo in a name would be a subscription that never ticks."""
    stream = StreamManager("sandbox-key", url="ws://127.0.0.1:1")
    for bad in ("", "BTC USD", None, 5):
        with pytest.raises(InvalidInputError):
            stream.subscribe_contract(bad)  # type: ignore[arg-type]
    for bad in ("BTCUSD", "BTC/USD", ""):
        with pytest.raises(InvalidInputError, match="BTC:USD"):
            stream.subscribe_spot(bad)


# Secrets


def test_the_key_is_in_no_log_repr_or_error(caplog: pytest.LogCaptureFixture) -> None:
    """A key would end up in a log file or a bug report."""
    import websocket

    key = "a-very-secret-word"
    shown: list[str] = []
    caplog.set_level(1)
    websocket.enableTrace(True)
    try:

        def script(connection: ServerConnection) -> None:
            connection.send(json.dumps({"error": f"you sent APIKey={key}", "APIKey": key}))
            connection.send(json.dumps({"redis_key": 5, "APIKey": key}))

        with ScriptedServer(script) as server:
            stream = StreamManager(key, url=server.url, reconnect=FAST)
            stream.subscribe_contract(NAME)
            with pytest.raises(AuthorizationError) as refused:
                stream.start()
            shown += [repr(stream), str(refused.value), repr(refused.value), repr(stream.stats())]
        refusal = f"HTTP/1.1 403 /streaming/{key}\r\nX-Api-Key: {key}\r\nContent-Length: 0\r\n\r\n".encode()
        with raw_http_server(refusal) as (url, _), pytest.raises(AuthorizationError) as refused:
            StreamManager(key, url=url).start()
        shown += [str(refused.value), repr(refused.value), str(refused.value.__cause__)]
        with pytest.raises(ConfigError) as config:
            StreamManager(key, url=f"http://host/streaming/{key}")
        shown.append(str(config.value))
    finally:
        websocket.enableTrace(False)
    ours = [record for record in caplog.records if record.name in ("finx_sync", "websocket")]
    assert ours
    assert not [record for record in ours if key in record.getMessage()]
    assert not [one for one in shown if key in one]


# Servers


class raw_http_server:  # noqa: N801  # used as a function
    """Answers every connection with the same bytes and closes; yields its URL and the list of requests."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._hits: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65536)
                if request:
                    self._hits.append(request)
                    connection.sendall(self._answer)

    def __enter__(self) -> tuple[str, list[bytes]]:
        self._thread.start()
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}", self._hits

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


class silent_listener:  # noqa: N801  # used as a function
    """Takes connections and never says a word."""

    def __init__(self, scheme: str = "ws") -> None:
        self._scheme = scheme
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
