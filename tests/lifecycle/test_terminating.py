"""SIGTERM while a stream runs: what systemd and Docker send to end a program."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from tests.lifecycle.test_signals import tick
from tests.scripted import ScriptedServer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there, SIGTERM ends a process without asking it")

BEGIN = """
import atexit, os, random, signal, sys, threading, time
from finx_sync import State, StreamManager

def make():
    stream = StreamManager("sandbox-key", url=sys.argv[1], flight_recorder=False)
    stream.subscribe_contract("BTC-26AUG22-20000-C")
    return stream

stream = make()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    """One for all programs."""
    with ScriptedServer(tick) as server:
        yield server


def run(program: str, url: str, *, until: str = "") -> tuple[int, list[str]]:
    """Run a program; send it SIGTERM when it has written `until`. Returns its status and the lines after that."""
    code = BEGIN + textwrap.dedent(program)
    with subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", code, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            if until:
                assert process.stdout.readline() == f"{until}\n"
                process.send_signal(signal.SIGTERM)
            lines, _ = process.communicate(timeout=200)
        finally:
            process.kill()
    return process.returncode, lines.splitlines()


def test_sigterm_ends_run_in_order(server: ScriptedServer) -> None:
    """A service would be killed in the middle of its work, and lose what its end was to save."""
    program = """
        atexit.register(print, "at exit")
        first = threading.Event()
        stream.on_contract(lambda tick: first.is_set() or (first.set(), print("runs")))
        try:
            stream.run()
            print("returned", stream.state.value, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        finally:
            print("finally")
        while threading.active_count() > 1:  # else the test would time out
            time.sleep(0.001)
    """
    assert run(program, server.url, until="runs") == (0, ["returned stopped True", "finally", "at exit"])


def test_sigterm_ends_a_start_that_waits() -> None:
    """A service that cannot connect would have to be killed."""
    program = """
        stream.on_state(lambda change: print("connects") if change.new is State.CONNECTING else None)
        stream.run()
        print("returned", stream.state.value)
    """
    with ScriptedServer() as server:
        server.answer = lambda connection, message: None  # type: ignore[method-assign]
        assert run(program, server.url, until="connects") == (0, ["returned stopped"])


def test_a_handler_of_the_users_own_is_left_alone(server: ScriptedServer) -> None:
    """A program that counts on its own handler would not be told."""
    program = """
        def own(number, frame):
            print("own handler")
            stream.stop()
        signal.signal(signal.SIGTERM, own)
        first = threading.Event()
        stream.on_contract(lambda tick: first.is_set() or (first.set(), print("runs")))
        stream.run()
        print(signal.getsignal(signal.SIGTERM) is own)
    """
    assert run(program, server.url, until="runs") == (0, ["own handler", "True"])


def test_a_program_that_ignores_it_goes_on(server: ScriptedServer) -> None:
    """A program that is meant to outlive its session would end with it."""
    program = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        seen = []
        def count(tick):
            seen.append(tick)
            if len(seen) == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            if len(seen) == 5:
                print("goes on")
                stream.stop()
        stream.on_contract(count)
        stream.run()
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
    """
    assert run(program, server.url) == (0, ["goes on", "True"])


def test_after_run_it_ends_the_program_as_ever(server: ScriptedServer) -> None:
    """A program that does something else after `run` could not be ended any more."""
    program = """
        threading.Timer(0.3, stream.stop).start()
        stream.run()
        print("over")
        time.sleep(60)
    """
    assert run(program, server.url, until="over") == (-signal.SIGTERM, [])


def test_on_another_thread_nothing_is_changed(server: ScriptedServer) -> None:
    """`run` in a thread would raise there, or take the signal from the program's main part."""
    program = """
        thread = threading.Thread(target=stream.run)
        thread.start()
        while not stream.is_connected:
            time.sleep(0.001)
        print("runs", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        stream.stop()
        thread.join()
    """
    assert run(program, server.url) == (0, ["runs True"])


def test_sigterm_at_any_moment_of_run(server: ScriptedServer) -> None:
    """One service in a hundred would hang until it is killed, or leave threads behind."""
    program = """
        moments = random.Random(7)
        def send(delay):
            while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # it would end the program
                time.sleep(0)
            time.sleep(delay)
            os.kill(os.getpid(), signal.SIGTERM)
        for number in range(60):
            stream = make()
            sender = threading.Thread(target=send, args=(moments.uniform(0, 0.006 if number % 4 else 0.06),))
            sender.start()
            stream.run()
            sender.join()
            stream.stop()
            assert stream.state in (State.STOPPED, State.NEW), stream.state
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            deadline = time.monotonic() + 10
            while [one for one in threading.enumerate() if one.name.startswith("finx-sync")]:
                assert time.monotonic() < deadline, threading.enumerate()
                time.sleep(0.001)
        print("ok")
    """
    assert run(program, server.url) == (0, ["ok"])
