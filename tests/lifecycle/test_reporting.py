"""The user's own code in the log, and what it may not disturb."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from finx_sync import State, StreamManager
from finx_sync import reporting as log
from finx_sync.session import health
from tests.scripted import ScriptedServer, text
from tests.waiting import FAST, Collector, books_balance, stream_to, wait_until

RAISED = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit]


class Broken(logging.Handler):
    """A handler of the log that raises, as one that has lost its own server does."""

    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self.kind = kind
        self.threads: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.threads.append(threading.current_thread().name)
        raise self.kind("the log's own server is down")

    def filter(self, record: logging.LogRecord) -> bool:
        return True


class BrokenFilter(logging.Filter):
    """The same as a filter."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise ValueError("a bug in the filter")


@pytest.fixture(params=RAISED, ids=lambda kind: kind.__name__)
def broken(request: pytest.FixtureRequest) -> Iterator[Broken]:
    """Attached to the library's log."""
    handler = Broken(request.param)
    log.logger.addHandler(handler)
    yield handler
    log.logger.removeHandler(handler)


def raising(tick: object) -> None:
    raise ValueError("a bug in a bot")


def outage(stream: StreamManager, server: ScriptedServer) -> list[Any]:
    """Lose the connection; returns the gaps that were reported."""
    gaps, ticks = Collector(), Collector()
    stream.on_gap(gaps)
    stream.on_contract(ticks)
    stream.on_contract(raising)
    stream.subscribe_contract("BTC-26AUG22-20000-C")
    stream.start()
    ticks.wait(len)
    server.next_connection().close_socket()
    server.next_connection()
    ticks.wait(lambda items: len(items) >= 2)
    gaps.wait(len)
    assert wait_until(lambda: stream.state is State.OPEN)
    return gaps.items


def test_a_log_that_raises_disturbs_no_thread(broken: Broken) -> None:
    """The io thread would end at the first outage: state OPEN for ever, no reconnect, no gap."""
    with ScriptedServer(lambda connection: connection.send(text())) as server:
        stream = stream_to(server)
        (gap,) = outage(stream, server)
        assert gap.reason == "connection lost"
        assert stream.stats().reconnects == 1
        stream.stop()
    assert any(name.startswith("finx-sync io") for name in broken.threads), "the outage was logged where it was noticed"
    assert "finx-sync dispatch" in broken.threads, "and the handler that raised"
    assert books_balance(stream)
    assert stream.state is State.STOPPED


def test_a_filter_that_raises_disturbs_no_thread(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug in a filter of the log would end the stream, or pass without a word."""
    log._told.clear()
    bug = BrokenFilter()
    log.logger.addFilter(bug)
    try:
        with ScriptedServer(lambda connection: connection.send(text())) as server:
            stream = stream_to(server)
            assert len(outage(stream, server)) == 1
            stream.stop()
    finally:
        log.logger.removeFilter(bug)
    assert (
        capsys.readouterr().err
        == "finx_sync: a logging handler or filter raised ValueError; fix it; the stream goes on\n"
    )


def test_a_log_that_raises_leaves_the_health_monitor_alive(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first warning of a slow handler nobody would notice lag, silence or sleep any more."""
    monkeypatch.setattr(health, "STALLED", 0.05)
    gate, lags = threading.Event(), Collector()
    with ScriptedServer(lambda connection: [connection.send(text()) for _ in range(3)] and None) as server:
        stream = stream_to(server, max_lag=0.1, flight_recorder=False)
        stream.on_contract(lambda tick: gate.wait(20))
        stream.on_lag(lags)
        stream.start()
        assert wait_until(lambda: "finx-sync health" in broken.threads)
        gate.set()
        lags.wait(lambda items: any(not lag.seconds and not lag.held for lag in items))
        assert any(one.name == "finx-sync health" for one in threading.enumerate())
        stream.stop()


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_a_key_function_that_raises_anything_is_asked_again(kind: type[BaseException]) -> None:
    """A key server that is down for a moment would end the stream for good, or hold up each attempt."""
    asked: list[str] = []

    def key() -> str:
        asked.append("")
        if len(asked) == 2:
            raise kind("the key server is down")
        return "sandbox-key"

    with ScriptedServer() as server:
        stream = StreamManager(key, url=server.url, reconnect=FAST, connect_timeout=30)
        stream.start()
        server.next_connection().close_socket()
        server.next_connection()
        assert wait_until(lambda: stream.state is State.OPEN)
        assert len(asked) == 3
        stream.stop()


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("topic", ["on_state", "on_gap", "on_error", "on_message", "on_contract"])
def test_a_handler_that_raises_anything_disturbs_no_thread(topic: str, kind: type[BaseException]) -> None:
    """sys.exit() in a callback would end the dispatch thread, and the stream would be deaf."""

    def handler(_: object) -> None:
        raise kind("out of a handler")

    with ScriptedServer(lambda connection: connection.send(text())) as server:
        stream = stream_to(server)
        getattr(stream, topic)(handler)
        assert len(outage(stream, server)) == 1
        stream.stop()
    assert books_balance(stream)
