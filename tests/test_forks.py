"""A fork under an open stream: the connection stays the parent's, and the child can have its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import trustme
import websocket
from websockets.sync.server import ServerConnection

from finx_sync import ContractTick, StreamManager, WebSocketApp
from finx_sync.errors import UsageError
from tests.scripted import ScriptedServer, text
from tests.servers import Server, echo

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
NAME = "BTC-26AUG22-20000-C"
PATIENCE = 20.0


def fork() -> int:
    """os.fork, without Python 3.12's warning about the very thing that is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return os.fork()


def in_child(action: Callable[[], Any]) -> Any:
    """What `action` returns in a forked child, as JSON; fails when the child hangs."""
    reader, writer = os.pipe()
    child = fork()
    if child == 0:
        try:
            answer = json.dumps(action())
        except BaseException as error:  # noqa: BLE001  # it is shown by the parent
            answer = json.dumps(f"{type(error).__name__}: {error}")
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], PATIENCE)
        if not ready:
            os.kill(child, signal.SIGKILL)
        assert ready, "the child hangs"
        return json.loads(os.read(reader, 1 << 20))
    finally:
        os.close(reader)
        os.waitpid(child, 0)


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


class Numbers:
    """A handler that collects the messages' numbers, and can be waited for."""

    def __init__(self) -> None:
        self.seen: list[int | None] = []
        self._condition = threading.Condition()

    def __call__(self, tick: ContractTick) -> None:
        with self._condition:
            self.seen.append(tick.timestamp)
            self._condition.notify_all()

    def wait(self, count: int) -> list[int | None]:
        """Wait for so many."""
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.seen) >= count, PATIENCE), self.seen
            return list(self.seen)


def uses(stream: StreamManager) -> list[str]:
    """Every public name of a stream, methods called as far as they can be, that does not raise UsageError."""
    fine = []
    arguments: dict[str, tuple[Any, ...]] = {
        "subscribe_contract": (NAME,),
        "subscribe_spot": ("A:B",),
        "unsubscribe_contract": (NAME,),
        "get_tick_snap": ("A:B",),
        "get_tick_history": ("A:B", "2022-06-15"),
        "on_contract": (print,),
        "on_spot": (print,),
        "latest": (NAME,),
        "take": (1,),
        "wait_for": (bool,),
    }
    for name in dir(StreamManager):
        if name.startswith("_"):
            continue
        try:
            value = getattr(stream, name)
            if callable(value):
                value(*arguments.get(name, ()))
        except UsageError as error:
            assert "make a new one in the child" in str(error)  # noqa: PT017
            continue
        fine.append(name)
    return fine


def test_every_use_in_the_child_raises_and_the_parent_goes_on(tls: Any) -> None:
    """Two processes would tear each other's frames on one socket, or the child wait for ever."""
    numbers = Numbers()
    with ScriptedServer(ssl_context=tls[0]) as server:
        stream = StreamManager("sandbox-key", url=server.url, ssl_context=tls[1])
        stream.on_contract(numbers)
        stream.subscribe_contract(NAME)
        with stream:
            connection = server.next_connection()
            feed = stream.ticks()
            connection.send(text(timestamp="0"))
            numbers.wait(1)
            for number in range(1, 6):
                assert in_child(lambda: uses(stream)) == []
                assert "make a new one" in in_child(lambda: next(feed))
                assert in_child(lambda: repr(stream)) == "<StreamManager of another process>"
                connection.send(text(timestamp=str(number)))
                numbers.wait(number + 1)
            assert numbers.seen == list(range(6))
            assert stream.stats().reconnects == 0
            assert connection.ping().wait(PATIENCE)


def test_the_child_can_have_its_own_stream(tls: Any) -> None:
    """A pool of worker processes could not stream."""

    def script(connection: ServerConnection) -> None:
        connection.send(text(timestamp="7"))

    def own() -> int | None:
        with StreamManager("sandbox-key", url=server.url, ssl_context=tls[1]) as stream:
            stream.subscribe_contract(NAME)
            return server_sent(stream)

    def server_sent(stream: StreamManager) -> int | None:
        numbers = Numbers()
        stream.on_contract(numbers)
        return stream.latest(NAME).timestamp if stream.latest(NAME) else numbers.wait(1)[0]

    with ScriptedServer(script, tls[0]) as server, StreamManager("sandbox-key", url=server.url, ssl_context=tls[1]):
        assert in_child(own) == 7
        unstarted = StreamManager("sandbox-key", url=server.url, ssl_context=tls[1])

        def start_here() -> int | None:
            with unstarted:
                return server_sent(unstarted)

        assert in_child(start_here) == 7


def test_the_embedded_sandbox_is_there_in_the_child_too() -> None:
    """The child would wait for a sandbox whose thread stayed behind, or stop the parent's."""

    def own() -> Any:
        with StreamManager(environment="sandbox") as stream:
            stream.subscribe_spot("BTC:USDC")
            return [stream.take(1, timeout=PATIENCE)[0].pair, stream.get_tick_snap("BTC:USD").pair]

    with StreamManager(environment="sandbox") as stream:
        stream.subscribe_spot("ETH:USDC")
        assert in_child(own) == ["BTC:USDC", "BTC:USD"]
        assert in_child(own) == ["BTC:USDC", "BTC:USD"]
        assert stream.take(3, timeout=PATIENCE)
        assert stream.stats().reconnects == 0


def test_a_child_that_exits_in_order_says_nothing_to_the_server() -> None:
    """The child's atexit would close the parent's connection, or print a traceback."""
    program = """
        import os, sys
        from finx_sync import StreamManager
        stream = StreamManager("sandbox-key", url=sys.argv[1])
        stream.subscribe_contract("BTC-26AUG22-20000-C")
        with stream:
            stream.take(1, timeout=20)
            for leave in (sys.exit, lambda: None):
                if os.fork() == 0:
                    leave()
                    break
                os.wait()
            else:
                print("parent", stream.is_connected, stream.stats().reconnects, flush=True)
    """
    closed: list[int | None] = []

    def script(connection: ServerConnection) -> None:
        connection.send(text())

    with ScriptedServer(script) as server:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program), server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection = server.next_connection()
        feeder = threading.Thread(target=feed_until_closed, args=(connection, closed))
        feeder.start()
        out, errors = process.communicate(timeout=200)
        feeder.join(PATIENCE)
        assert (out, errors, process.returncode) == ("parent True 0\n", "", 0)
        assert closed == [1000], "the parent's own close, and no other"
        assert server.connections.empty()


def feed_until_closed(connection: ServerConnection, closed: list[int | None]) -> None:
    """Send ticks until the client closes; notes its code."""
    from websockets.exceptions import ConnectionClosed

    try:
        while True:
            connection.send(text())
            time.sleep(0.01)
    except ConnectionClosed:
        closed.append(connection.close_code)


def test_a_child_does_not_keep_a_dead_parents_connection_alive(tls: Any) -> None:
    """The server would go on sending to nobody after the parent was killed."""
    program = """
        import os, ssl, sys, time
        from finx_sync import StreamManager
        context = ssl.create_default_context(cafile=sys.argv[2]) if sys.argv[2] else None
        stream = StreamManager("sandbox-key", url=sys.argv[1], ssl_context=context)
        stream.start()
        if os.fork() == 0:
            sys.stdin.read()
            os._exit(0)
        print("forked", flush=True)
        time.sleep(60)
    """
    authority = trustme.CA()
    cafile = ""
    context = tls[0]
    if context is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
    with authority.cert_pem.tempfile() as path, ScriptedServer(ssl_context=context) as server:
        cafile = path if context is not None else ""
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), server.url, cafile],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"forked\n"
        connection = server.next_connection()
        process.kill()
        process.wait(PATIENCE)
        deadline = time.monotonic() + 5
        while connection.state.name != "CLOSED":
            assert time.monotonic() < deadline, "the child holds the connection"
            time.sleep(0.01)
        process.stdin.close()  # ends the child
        process.stdout.close()


def test_a_fork_in_a_handler_leaves_the_rest_to_the_parent() -> None:
    """The child would handle the next messages as well, or hang for ever as half a process."""
    program = """
        import os, sys
        from finx_sync import StreamManager
        stream = StreamManager("sandbox-key", url=sys.argv[1])
        done = []

        @stream.on_contract
        def handler(tick):
            os.write(1, b"%d\\n" % tick.timestamp)
            if tick.timestamp == 3 and os.fork() != 0:
                os.wait()
            if tick.timestamp == 9:
                stream.stop()

        stream.run()
    """

    def script(connection: ServerConnection) -> None:
        for number in range(10):
            connection.send(text(timestamp=str(number)))

    with ScriptedServer(script) as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), server.url],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert (done.stdout.split(), done.stderr, done.returncode) == ([str(n) for n in range(10)], "", 0)
        assert len(server.paths) == 1


def test_multiprocessing_with_fork() -> None:
    """A pool that inherits the stream would share its socket."""
    with ScriptedServer() as server, StreamManager("sandbox-key", url=server.url) as stream:
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)

        def work() -> None:
            try:
                stream.stop()
            except UsageError as error:
                sender.send(str(error))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            process = context.Process(target=work)
            process.start()
        assert receiver.poll(PATIENCE)
        assert "make a new one" in receiver.recv()
        process.join(PATIENCE)
        assert process.exitcode == 0
        assert stream.is_connected
        receiver.close()
        sender.close()


def test_the_drop_in_is_closed_in_the_child() -> None:
    """A legacy bot's child would write into the parent's connection."""
    opened, heard = threading.Event(), threading.Event()

    def run_again() -> bool:
        app.on_open = lambda app: app.close()
        return app.run_forever()

    def use() -> list[Any]:
        refused = False
        try:
            app.send("from the child")
        except websocket.WebSocketConnectionClosedException:
            refused = True
        app.close(timeout=3600)  # which waits for nothing
        return [refused, app.try_send("x"), run_again()]

    with Server(echo) as server:
        app = WebSocketApp(server.url, on_open=lambda app: opened.set(), on_message=lambda app, text: heard.set())
        runner = threading.Thread(target=app.run_forever)
        runner.start()
        assert opened.wait(PATIENCE)
        assert in_child(use) == [True, False, False]
        app.send("from the parent")
        assert heard.wait(PATIENCE)
        app.close()
        runner.join(PATIENCE)


def test_a_fork_in_a_callback_of_the_drop_in_ends_the_childs_loop() -> None:
    """The child of a legacy bot would read the parent's messages."""
    program = """
        import os, sys
        from finx_sync import WebSocketApp
        parent = os.getpid()

        def on_message(app, message):
            os.write(1, message.encode() + b"\\n")
            if message == "fork" and os.fork() != 0:
                os.wait()

        WebSocketApp(sys.argv[1], on_message=on_message).run_forever()
        os.write(1, b"parent ends\\n" if os.getpid() == parent else b"child ends\\n")
    """

    def script(connection: ServerConnection) -> None:
        for message in ("1", "fork", "2", "3"):
            connection.send(message)

    with Server(script) as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), server.url],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    lines = done.stdout.split("\n")
    assert (lines, done.stderr) == (["1", "fork", "child ends", "2", "3", "parent ends", ""], "")
