"""When something goes wrong: handlers that raise or hang, busy servers, and the flight recorder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from finx_sync import ContractTick, State, StreamManager
from finx_sync.errors import HandlerRaisedError
from tests.guarantees.feeds import Feed
from tests.scripted import ScriptedServer, text
from tests.waiting import NAME, Collector, stream_to, wait_until


def ticking(connection: Any) -> None:
    """Ten ticks."""
    for number in range(10):
        connection.send(text(timestamp=str(number)))


@pytest.mark.parametrize("reader", [lambda stream: list(stream.ticks(timeout=10)), lambda stream: stream.take(100)])
def test_a_raising_handler_ends_the_stream_where_asked(reader: Callable[[Any], object]) -> None:
    """A bug in a bot's handler would be one line in a log that nobody reads."""
    gate = threading.Event()

    def script(connection: Any) -> None:
        gate.wait(10)
        ticking(connection)

    with ScriptedServer(script) as server:
        stream = stream_to(server, handler_errors="raise")

        @stream.on_contract
        def handler(tick: ContractTick) -> None:
            raise ZeroDivisionError("a bug")

        stream.start()
        threading.Timer(0.05, gate.set).start()
        with pytest.raises(HandlerRaisedError) as caught:
            reader(stream)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert stream.state is State.FAILED
        stream.stop()


def test_a_raising_handler_ends_run_where_asked() -> None:
    """The program would go on with a broken handler."""
    with ScriptedServer(ticking) as server:
        stream = stream_to(server, handler_errors="raise")
        calls = Collector()

        @stream.on_contract
        def handler(tick: ContractTick) -> None:
            calls(tick)
            raise ZeroDivisionError("a bug")

        with pytest.raises(HandlerRaisedError):
            stream.run()
        assert len(calls.items) == 1
        calls.items.clear()
        with pytest.raises(HandlerRaisedError):  # and it can be started again
            stream.run()


def test_the_server_says_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is overloaded would be asked again at once, and block the account."""
    attempts: list[float] = []
    with Feed() as feed:
        stream = stream_to(feed)
        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")

        def refuse(connection: Any, request: Any) -> Any:
            attempts.append(time.monotonic())
            if len(attempts) < 2:
                response = connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "later")
                response.headers["Retry-After"] = "1"
                return response
            return None

        feed.process_request = refuse
        feed.cut("A")
        feed.wait_for_subscribers("A")
        stream.stop()
    assert attempts[1] - attempts[0] >= 1.0


def test_the_report_has_what_a_maintainer_asks_for_and_no_key() -> None:
    """A bug report would lack what is needed, or hold the user's key."""
    key = "a-very-secret-word"
    with Feed() as feed:
        stream = StreamManager(key, url=feed.url)
        stream.subscribe_contract(NAME)
        stream.start()
        feed.wait_for_subscribers(NAME)
        feed.send(NAME)
        assert wait_until(lambda: stream.latest(NAME) and NAME in stream.dump())
        report = stream.dump()
        stream.stop()
    for expected in ("finx-sync io", "finx-sync dispatch", "connecting -> open", NAME, "received=", "session.py"):
        assert expected in report
    assert key not in report


def test_a_failure_and_a_hanging_handler_are_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The moment at which a stream hangs or ends would be gone when somebody looks."""
    monkeypatch.setattr("finx_sync.session.health.STALLED", 0.1)
    gate = threading.Event()
    with Feed() as feed:
        stream = stream_to(feed, flight_recorder=tmp_path)

        @stream.on_contract
        def stuck(tick: ContractTick) -> None:
            gate.wait(10)

        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        feed.send("A")
        assert wait_until(lambda: list(tmp_path.glob("finx_sync-*.txt")))
        (report,) = tmp_path.glob("finx_sync-*.txt")
        assert wait_until(lambda: "stuck" in report.read_text())
        assert report.stat().st_mode & 0o077 == 0
        assert "stuck has been running" in caplog.text
        gate.set()
        feed.refused_keys.add("sandbox-key")
        feed.cut("A")
        assert wait_until(lambda: stream.state is State.FAILED)
        assert wait_until(lambda: len(list(tmp_path.glob("finx_sync-*.txt"))) == 2)
        stream.stop()


def test_no_report_where_none_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that leaves files behind unasked would not be welcome on a server."""
    with Feed() as feed:
        stream = stream_to(feed, flight_recorder=False)
        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        feed.refused_keys.add("sandbox-key")
        feed.cut("A")
        assert wait_until(lambda: stream.state is State.FAILED)
        stream.stop()
    assert not list(tmp_path.glob("finx_sync-*"))


def test_figures_of_handlers_are_sampled() -> None:
    """A user could not see which handler is slow before the lag comes."""
    with Feed() as feed:
        stream = stream_to(feed)
        pause = threading.Event()

        @stream.on_contract
        def slow(tick: ContractTick) -> None:
            pause.wait(0.002)

        @stream.on_contract
        def fast(tick: ContractTick) -> None:
            pass

        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        feed.pace(0.005, "A")
        assert wait_until(lambda: stream.stats().handlers[0].rate > 0)
        figures, others = stream.stats().handlers
        feed.quiet()
        stream.stop()
        assert 0.002 <= figures.p50 <= figures.p99 < 1
        assert others.p50 < figures.p50
        assert 0 < others.share < figures.share <= 1
        assert "% of the dispatch thread" in str(figures)
        assert stream.stats().advice == ()
