"""What the transport stands on: the `websocket` package, and waiting."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finx_sync.transport import waker
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
