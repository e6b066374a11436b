"""What the transport stands on: the `websocket` package, and waiting."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finx_sync.transport import waker
from finx_sync.transport.channel import Channel
from finx_sync.transport.frames import FrameReader
from finx_sync.transport.loop import Heartbeat, ReadLoop
from finx_sync.transport.waker import Poller, Waker

# What everything stands on.


@pytest.mark.parametrize("source", ["", "def create_connection(): ...\n", "class WebSocketApp: ...\n"])
@pytest.mark.parametrize("package", [False, True])
def test_an_impostor_named_websocket_is_refused_with_the_remedy(source: str, package: bool, tmp_path: Path) -> None:
    """The user would see `module 'websocket' has no attribute ...` and not know why."""
    file = tmp_path / ("websocket/__init__.py" if package else "websocket.py")
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import finx_sync"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError")
    assert "pip uninstall -y websocket websocket-client && pip install 'websocket-client>=1.9.2,<2'" in last


IMPLEMENTATIONS = [waker._Select, waker._Poll]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_waiting_sees_data_room_wakes_and_the_time(
    implementation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The io thread would sleep through data, or spin."""
    monkeypatch.setattr(waker, "LONGEST_WAIT", 0.01)
    left, right = socket.socketpair()
    awake = Waker()
    with left, right:
        poller = Poller(left, awake)
        poller._impl = implementation(left.fileno(), awake.fileno())
        assert poller.wait(read=True) == (False, False), "for a moment only, lest Ctrl+C wait"
        assert poller.wait(read=True, write=True, timeout=5) == (False, True)
        assert poller.wait(timeout=0) == (False, False)
        awake.wake()
        awake.wake()
        assert poller.wait(read=True) == (False, False)
        right.send(b"x")
        assert poller.wait(read=True) == (True, False)
        assert poller.wait(timeout=-1) == (False, False)
        assert poller.wait(write=True) == (False, True)
        assert poller.wait(read=True) == (True, False)
    awake.close()
    awake.wake()


def test_a_wake_that_comes_with_data_is_told() -> None:
    """A close, or a message to send, that was asked for as data came would wait while the data flows."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bell = Waker()
        poller = Poller(ours, bell)
        theirs.send(b"x")
        bell.wake()
        assert poller.wait_for_data(5.0) == (True, True)
        assert poller.wait_for_data(5.0) == (True, False), "a wake is told once"
        assert ours.recv(8) == b"x"
        assert poller.wait_for_data(0.0) == (False, False)
        theirs.close()
        assert poller.wait_for_data(5.0) == (True, False), "an end is to be read"
        bell.close()


def test_a_flood_of_data_does_not_keep_a_close_waiting() -> None:
    """`stop` would wait for as long as messages come."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    bell = Waker()
    loop = ReadLoop(bell, FrameReader(), Heartbeat(), lambda payloads: None, lambda frame: None)
    ended = threading.Event()

    def flood() -> None:
        with contextlib.suppress(OSError):
            while not ended.wait(0.001):
                theirs.send(b"\x81\x01x")

    def send(data: memoryview) -> int:
        loop.request_close(b"\x03\xe8", 0.2)  # just before the wait, with data there already: both show in it
        return ours.send(data)

    theirs.send(b"\x81\x01x")
    loop.outbox.put(b"\x8a\x80xxxx")
    sock = SimpleNamespace(fileno=ours.fileno, recv_into=ours.recv_into, send=send)
    thread = threading.Thread(target=flood)
    thread.start()
    try:
        loop.run(cast(Channel, SimpleNamespace(sock=sock, take_rest=lambda: b"", close=ours.close)))
    finally:
        ended.set()
        thread.join()
        theirs.close()
        bell.close()
