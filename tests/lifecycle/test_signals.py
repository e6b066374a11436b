"""Signals at random moments of every public call: `stop()` in a signal handler, and Ctrl+C."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection

from tests.lifecycle.interrupted import NEW, RUNNING
from tests.scripted import ScriptedServer, text

ROOT = Path(__file__).parents[2]
CALLS = (*NEW, *RUNNING)


def tick(connection: ServerConnection) -> None:
    """Take the key, then send ticks."""
    connection.recv()
    connection.send('{"isAuth":true}')
    while True:
        connection.send(text())
        with suppress(TimeoutError):
            connection.recv(timeout=0.002)  # paces them, and takes what is asked for
            for _ in range(1000):
                connection.recv(timeout=0)


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    """One for all rounds."""
    with ScriptedServer(tick) as server:
        yield server


def interrupt(mode: str, rounds: dict[str, int], server: ScriptedServer, folder: Path, timeout: float) -> str:
    """Run so many rounds of each call in one program; returns what went wrong."""
    calls = [f"{call}={count}" for call, count in rounds.items()]
    command = [sys.executable, "-X", "dev", "-m", "tests.lifecycle.interrupted", mode, "7", server.url, str(folder)]
    done = subprocess.run([*command, *calls], capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT)
    return "" if done.stdout.endswith("\nok\n") else f"{mode} in {done.stdout}{done.stderr[-6000:]}"


@pytest.mark.parametrize("mode", ["stop", "ctrl_c"])
def test_a_signal_at_any_moment_of_any_call(mode: str, server: ScriptedServer, tmp_path: Path) -> None:
    """The usual SIGTERM idiom would hang the program, or Ctrl+C leave a thread that nothing ends."""
    rounds = {call: 30 if call in NEW else 6 for call in CALLS}
    assert not interrupt(mode, rounds, server, tmp_path, 55)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", ["stop", "ctrl_c"])
@pytest.mark.parametrize("call", CALLS)
def test_a_thousand_signals(mode: str, call: str, server: ScriptedServer, tmp_path: Path) -> None:
    """What goes well thirty times would fail a program that runs for a year."""
    assert not interrupt(mode, {call: 1000}, server, tmp_path, 3000)
