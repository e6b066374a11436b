"""Where two looks make one answer, nothing may come between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finx_sync import StaleDataError, StreamManager
from finx_sync.dispatch.worker import Worker
from finx_sync.session.lookout import Lookout
from finx_sync.stream import Stream
from finx_sync.streams.bitmex import BitmexStream
from finx_sync.streams.ftx import FtxStream
from finx_sync.streams.ime import ImeStream
from tests.scripted import ScriptedServer, text
from tests.waiting import NAME, stream_to

STREAMS: dict[str, Callable[[], Stream]] = {
    "finx": lambda: StreamManager("sandbox-key", url="ws://127.0.0.1:1"),
    "bitmex": lambda: BitmexStream(endpoint="ws://127.0.0.1:1"),
    "ftx": lambda: FtxStream(url="ws://127.0.0.1:1"),
    "ime": lambda: ImeStream("ws://127.0.0.1:1", auth="sandbox-key"),
}


@pytest.mark.parametrize("venue", STREAMS)
@pytest.mark.parametrize("before", ["an old message", "none"])
def test_the_guard_judges_the_message_that_it_hands_out(
    venue: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick that comes just between two looks would let an old price, or None, pass for a fresh one."""
    old = None if before == "none" else SimpleNamespace(received_at=time.time() - 100)
    looks: list[object] = []

    def latest(name: str) -> object:
        """What a look finds: from the second one on, the tick that has just come."""
        looks.append(name)
        return old if len(looks) == 1 else SimpleNamespace(received_at=time.time())

    stream = STREAMS[venue]()
    monkeypatch.setattr(stream, "latest", latest)
    with pytest.raises(StaleDataError):
        stream.guard(NAME, 1.0)
    guard = stream.guard(NAME, 1.0)
    looks.clear()
    with pytest.raises(StaleDataError), guard as tick:
        pytest.fail(f"it passed {tick!r}")
    looks.append("")
    assert stream.last_message_age(NAME) is not None


def test_a_plan_that_comes_while_another_is_due_waits_for_its_time() -> None:
    """A reconnect planned for the night would be done at once, or forgotten, if the one before it is just due."""
    done: list[str] = []
    planners: list[threading.Thread] = []

    def wall() -> float:
        """The moment between the two looks, in which another thread plans."""
        if not planners:
            planners.append(threading.Thread(target=lookout.plan, args=(1e12, lambda: done.append("second"))))
            planners[0].start()
            planners[0].join(0.3)
        return 100.0

    lookout = Lookout.__new__(Lookout)
    lookout._plan_lock = threading.RLock()
    lookout._clock = cast(Any, SimpleNamespace(wall=wall))
    lookout.plan(1.0, lambda: done.append("first"))
    action = lookout._due_plan()
    assert action is not None
    action()
    planners[0].join(10)
    assert done == ["first"]
    assert lookout._plan is not None, "the second one still waits"


def test_a_thread_with_the_number_of_one_that_has_ended_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system gives numbers out again: a restart or stop() would be refused as if it came from a handler."""
    with ScriptedServer(lambda connection: connection.send(text())) as server:
        stream = stream_to(server)
        stream.start()
        session = stream._session
        assert session is not None
        stream.stop()
        monkeypatch.setattr(Worker, "started", property(lambda self: True))
        monkeypatch.setattr(session.worker._thread, "_ident", threading.get_ident())
        stream.start()
        stream.stop()
