"""Where two looks make one answer, nothing may come between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finx_sync import StaleDataError, StreamManager
from finx_sync.errors import InvalidInputError
from finx_sync.messages import SpotTick
from finx_sync.pipeline.dispatcher import Dispatcher
from finx_sync.session.health import HealthMonitor
from finx_sync.stream import Stream
from finx_sync.venues.bitmex.messages import TableItem, TableUpdate
from finx_sync.venues.bitmex.stream import BitmexStream
from finx_sync.venues.ftx.stream import FtxStream
from finx_sync.venues.ime.messages import read_contract
from finx_sync.venues.ime.stream import ImeStream
from tests.scripted import ScriptedServer, text
from tests.waiting import NAME, stream_to, wait_until

FUNDING = TableUpdate(table="funding", action="insert", data=[])
SPOT = SpotTick(pair="A", unix_date=None, utc_date="", exchange="FTX", price=1.0)
QUOTE = TableUpdate(table="quote", action="insert", data=[])
STREAMS: dict[str, Callable[[], Stream]] = {
    "finx": lambda: StreamManager("sandbox-key", url="ws://127.0.0.1:1"),
    "bitmex": lambda: BitmexStream(url="ws://127.0.0.1:1"),
    "ftx": lambda: FtxStream(url="ws://127.0.0.1:1"),
    "ime": lambda: ImeStream(url="ws://127.0.0.1:1", auth="sandbox-key"),
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


def test_a_guard_by_the_venues_time_refuses_what_came_late() -> None:
    """A feed that crawls brings fresh messages with old prices."""
    with ScriptedServer() as server:
        stream = stream_to(server)
        stream.subscribe_contract(NAME)
        stream.start()
        connection = server.next_connection()
        with pytest.raises(StaleDataError, match="has not arrived yet"):
            stream.guard(NAME, 60.0, by="venue")
        for age, passes in ((0.0, True), (300.0, False), (-300.0, False)):
            timestamp = round((time.time() - age) * 1000)
            connection.send(text(timestamp=str(timestamp)))
            assert wait_until(lambda: (tick := stream.latest(NAME)) and tick.timestamp == timestamp)  # noqa: B023
            assert stream.guard(NAME, 60.0).message.timestamp == timestamp
            if passes:
                with stream.guard(NAME, 60.0, by="venue") as tick:
                    assert tick.timestamp == timestamp
            else:
                with pytest.raises(StaleDataError, match=r"\d\d\d\.\d\d s (old by the venue's time|ahead of)"):
                    stream.guard(NAME, 60.0, by="venue")
        stream.stop()


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (read_contract({"contractName": "A", "timestamp": "2022-01-21T08:28:37", "data": {}}), "names no time zone"),
        (read_contract({"contractName": "A", "data": {}}), "does not say when"),
        (TableItem.of({"symbol": "A", "timestamp": "2022-01-21T08:00:00.000Z"}, FUNDING), "does not say when"),
    ],
)
def test_a_guard_by_the_venues_time_needs_one(message: Any, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order would be placed, or held back, by a time that means something else."""
    stream = STREAMS["ime"]()
    monkeypatch.setattr(stream, "latest", lambda name: message)
    with pytest.raises(InvalidInputError, match=why):
        stream.guard("A", 1.0, by="venue")
    with pytest.raises(InvalidInputError, match="'receipt' or 'venue'"):
        stream.guard("A", 1.0, by="clock")  # type: ignore[arg-type]


@pytest.mark.parametrize("undated", [SPOT, TableItem.of({"symbol": "A"}, QUOTE)])
def test_a_message_without_the_time_of_its_kind_is_stale(undated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bot that holds its orders back on StaleDataError would end, or trade, on one tick with an empty timestamp."""
    stream = STREAMS["finx"]()
    monkeypatch.setattr(stream, "latest", lambda name: undated)
    with pytest.raises(StaleDataError, match="carries no venue time") as caught:
        stream.guard("A", 1.0, by="venue")
    assert caught.value.by == "venue"
    assert caught.value.age is None


def test_a_row_of_a_timed_table_has_its_time() -> None:
    """BitMEX's quotes could be guarded by their arrival only."""
    assert TableItem.of({"timestamp": "2022-01-21T08:28:37.500Z"}, QUOTE).venue_time == 1642753717.5


def test_a_plan_that_comes_while_another_is_due_waits_for_its_time() -> None:
    """A reconnect planned for the night would be done at once, or forgotten, if the one before it is just due."""
    done: list[str] = []
    planners: list[threading.Thread] = []

    def wall() -> float:
        """The moment between the two looks, in which another thread plans."""
        if not planners:
            planners.append(threading.Thread(target=health.plan, args=(1e12, lambda: done.append("second"))))
            planners[0].start()
            planners[0].join(0.3)
        return 100.0

    health = HealthMonitor.__new__(HealthMonitor)
    health._plan_lock = threading.RLock()
    health._clock = cast(Any, SimpleNamespace(wall=wall))
    health.plan(1.0, lambda: done.append("first"))
    action = health._due_plan()
    assert action is not None
    action()
    planners[0].join(10)
    assert done == ["first"]
    assert health._plan is not None, "the second one still waits"


def test_a_thread_with_the_number_of_one_that_has_ended_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system gives numbers out again: a restart or stop() would be refused as if it came from a handler."""
    with ScriptedServer(lambda connection: connection.send(text())) as server:
        stream = stream_to(server)
        stream.start()
        session = stream._session
        assert session is not None
        stream.stop()
        monkeypatch.setattr(Dispatcher, "started", property(lambda self: True))
        monkeypatch.setattr(session.dispatcher.thread, "_ident", threading.get_ident())
        stream.start()
        stream.stop()
