"""What a program sees that has set up nothing: no logging, no `on_error`."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest
from websockets.sync.server import ServerConnection

from tests.scripted import ScriptedServer, text

Script = Callable[[ServerConnection], None]
HEAD = """
import logging, sys, threading
from finx_sync import Backoff, FinxSyncError, StreamManager
stream = StreamManager(
    "sandbox-key", url=sys.argv[1], reconnect=Backoff(first=0.01, cap=0.02), flight_recorder=False, **options
)
seen = threading.Event()
"""


def run(program: str, script: Script, options: str = "{}") -> subprocess.CompletedProcess[str]:
    """Run a user's program against a server."""
    with ScriptedServer(script) as server:
        return subprocess.run(
            [sys.executable, "-c", f"options = {options}\n{HEAD}\n{textwrap.dedent(program)}", server.url],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )


def three_ticks(connection: ServerConnection) -> None:
    for _ in range(3):
        connection.send(text())


def refuse_later(connection: ServerConnection) -> None:
    """Take the key, send a tick, and refuse the key when the client's next message comes."""
    connection.recv()
    connection.send('{"isAuth":true}')
    connection.send(text())
    connection.recv()
    connection.close(1008, "key expired")


def refuse_when_asked(connection: ServerConnection) -> None:
    """The same, but refuse it only when the program asks for a pair."""
    connection.recv()
    connection.send('{"isAuth":true}')
    while "BTC:USDC" not in connection.recv():
        pass
    connection.close(1008, "key expired")


TYPO = """
def handler(tick):
    if seen.is_set():
        done.set()
    seen.set()
    tick.prise
done = threading.Event()
stream.on_contract(handler)
"""


def test_a_handler_with_a_typo_is_visible() -> None:
    """A bot would do nothing at all, print nothing, and exit with 0."""
    done = run(f"{TYPO}\nwith stream:\n    done.wait(20)", three_ticks)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Traceback") == 1, done.stderr
    assert "the handler handler raised; the stream goes on" in done.stderr
    assert "prise" in done.stderr


def test_nothing_is_printed_beside_on_error() -> None:
    """Whoever handles errors would find each one twice on the terminal."""
    done = run(f"{TYPO}\nstream.on_error(lambda e: print(repr(e.__cause__)))\nwith stream: done.wait(20)", three_ticks)
    assert done.stdout.count("prise") >= 1
    assert done.stderr == ""


def test_nothing_is_printed_beside_the_programs_own_log() -> None:
    """A service with a log would find the same lines on stderr."""
    program = f"""
logging.basicConfig(stream=sys.stdout, level="WARNING")
{TYPO}
with stream:
    done.wait(20)
"""
    done = run(program, three_ticks)
    assert done.stderr == ""
    assert done.stdout.count("Traceback") == 1


def test_a_handler_that_ends_the_stream_says_so() -> None:
    """With handler_errors="raise" the text would claim that the stream goes on."""
    done = run(f"{TYPO}\nwith stream:\n    threading.Event().wait(2)", three_ticks, '{"handler_errors": "raise"}')
    assert done.returncode == 1
    assert "HandlerRaisedError: the handler handler raised; the stream has ended" in done.stderr
    assert "goes on" not in done.stderr


ENDS = {
    "with": "with stream:\n    seen.wait(20)",
    "run": "stream.run()",
    "ticks": "stream.start()\nfor tick in stream.ticks(): pass",
    "take": "stream.start()\nstream.take(100)",
    "wait_for": "stream.start()\nstream.wait_for(lambda tick: False)",
    "ticks afterwards": "stream.start()\nseen.wait(20)\nstream.ticks()",
}


@pytest.mark.parametrize("way", ENDS)
def test_a_key_that_is_refused_later_is_raised(way: str) -> None:
    """A program whose key has expired would end in order, with nothing said."""
    done = run(
        f"stream.on_state(lambda change: change.new.value == 'failed' and seen.set())\n{ENDS[way]}", refuse_later
    )
    assert done.returncode == 1, done.stderr
    assert "\nfinx_sync.errors.AuthorizationError: " in done.stderr


def test_what_the_block_raises_comes_first() -> None:
    """The program's own error would be hidden behind the stream's."""
    program = """
        stream.on_state(lambda change: change.new.value == 'failed' and seen.set())
        try:
            with stream:
                stream.subscribe_spot("BTC:USDC")
                seen.wait(20)
                raise ValueError("the user's own")
        except ValueError as error:
            print(error)
    """
    assert run(program, refuse_when_asked).stdout == "the user's own\n"


def test_a_key_that_is_refused_at_once_is_raised_and_not_printed_twice() -> None:
    """The same failure would stand on the terminal twice."""

    def refuse(connection: ServerConnection) -> None:
        connection.close(1008, "no such key")

    done = run("try:\n    stream.start()\nexcept FinxSyncError as error:\n    print(type(error).__name__)", refuse)
    assert (done.stdout, done.stderr) == ("AuthorizationError\n", "")


def test_a_stop_that_waits_in_vain_is_visible() -> None:
    """stop() would take five seconds, and nobody would know why."""
    program = """
        gate = threading.Event()
        def stuck(tick):
            seen.set()
            gate.wait(20)
        stream.on_contract(stuck)
        stream.start()
        seen.wait(20)
        stream.stop(timeout=0.1)
        gate.set()
    """
    done = run(program, three_ticks)
    assert "stop() gave up after 0.1 s: the handler stuck has not returned" in done.stderr, done


def test_each_outage_is_a_line() -> None:
    """A connection that is lost ten times would be reported once, and its attempts be counted as losses."""

    def ten_times(connection: ServerConnection) -> None:
        connection.recv()
        connection.send('{"isAuth":true}')
        connection.send(text())
        if len(opened) < 10:
            opened.append(connection)
            connection.recv()
            connection.close(1011, "once more")

    opened: list[ServerConnection] = []
    program = """
        count = 0
        def opened(change):
            global count
            count += change.new.value == "open"
            if count == 11:
                seen.set()
        stream.on_state(opened)
        with stream:
            seen.wait(30)
            print(stream.stats().reconnects)
    """
    done = run(program, ten_times)
    assert done.stdout == "10\n", done
    assert done.stderr.count("connection lost") == 10


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_hundred_programs_without_logging() -> None:
    """What is visible once would be lost in a race."""
    for _ in range(100):
        test_a_handler_with_a_typo_is_visible()
