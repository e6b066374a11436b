"""Streams to test servers, and ways to wait for what they bring."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from finx_sync import Backoff, StreamManager
from finx_sync.stream import Stream
from tests.scripted import ScriptedServer

FAST = Backoff(first=0.01, cap=0.05, healthy_after=0.0)
NAME = "BTC-26AUG22-20000-C"


def stream_to(server: ScriptedServer | str, **options: Any) -> StreamManager:
    """A stream to a test's own server."""
    url = server if isinstance(server, str) else server.url
    return StreamManager("sandbox-key", url=url, **{"reconnect": FAST, **options})


def python_calls(work: Callable[[], object]) -> int:
    """How many functions `work` calls on this thread, Python's own in C among them: what it costs, on any machine."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


class Collector:
    """A handler that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._condition = threading.Condition()

    def __call__(self, item: Any) -> None:
        with self._condition:
            self.items.append(item)
            self._condition.notify_all()

    def wait(self, satisfied: Callable[[list[Any]], object], timeout: float = 10.0) -> list[Any]:
        """Wait until what came is as wanted."""
        with self._condition:
            assert self._condition.wait_for(lambda: satisfied(self.items), timeout), f"got only {self.items!r}"
            return list(self.items)


def books_balance(stream: Stream) -> bool:
    """The conservation equation of the stream's counters."""
    books = stream.stats().messages
    return books.received == (
        books.handled
        + books.unclaimed
        + books.control
        + books.unreadable
        + books.duplicate
        + books.dropped
        + books.in_flight
        + books.waiting
    )


def wait_until(satisfied: Callable[[], object], timeout: float = 10.0) -> bool:
    """Poll for what nothing signals."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while time.monotonic() < deadline:
        if satisfied():
            return True
        pause.wait(0.005)
    return False
