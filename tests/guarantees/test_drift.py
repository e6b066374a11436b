"""A feed that crawls: reported, and its connection replaced, over real sockets."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from finx_sync import StreamManager
from finx_sync.notices import Drift
from finx_sync.pipeline import drift, health
from tests.scripted import ScriptedServer, text
from tests.waiting import Collector, books_balance, stream_to


class CrawlingServer(ScriptedServer):
    """Sends a contract's tick every few milliseconds; the venue's times go at `speed` on each connection.

    Args:
        speeds: of the first connection, the second and so on; the last one goes on.
        padding: bytes that each message has besides.
    """

    def __init__(self, *speeds: float, padding: int = 0) -> None:
        super().__init__(None)
        self.padding = "." * padding
        self.speeds = list(speeds)
        self.ended = threading.Event()
        self.feeders: list[threading.Thread] = []

    def answer(self, connection: Any, message: dict[str, Any]) -> None:
        """As FinX does, and begins to send."""
        super().answer(connection, message)
        if message.get("functionName") == "getDeribitContractStream":
            speed = self.speeds.pop(0) if len(self.speeds) > 1 else self.speeds[0]
            feeder = threading.Thread(target=self.feed, args=(connection, message["instrumentName"], speed))
            self.feeders.append(feeder)
            feeder.start()

    def feed(self, connection: Any, name: str, speed: float) -> None:
        """Send until the connection or the server ends."""
        begun, wall = time.monotonic(), time.time()
        try:
            while not self.ended.wait(0.02):
                at = wall + (time.monotonic() - begun) * speed
                connection.send(
                    text(redis_key=name, instrument_name=name, timestamp=str(round(at * 1000)), pad=self.padding)
                )
        except ConnectionClosed:
            return

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.ended.set()
        super().__exit__(kind, error, trace)
        for feeder in self.feeders:
            feeder.join(10)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is a time is a tenth of what it is."""
    monkeypatch.setattr(drift, "HORIZONS", tuple(one / 10 for one in drift.HORIZONS))
    for name in ("RESOLUTION", "MIN_LAG", "CHECK_INTERVAL"):
        monkeypatch.setattr(drift, name, getattr(drift, name) / 10)
    monkeypatch.setattr(health, "SAMPLE_INTERVAL", health.SAMPLE_INTERVAL / 10)


def crawl(server: CrawlingServer, **options: Any) -> tuple[StreamManager, Collector]:
    """A stream that has started, and what it reports."""
    stream = stream_to(server, **options)
    reports = Collector()
    stream.on_drift(reports)
    stream.on_contract(lambda tick: None)
    stream.subscribe_contract("A")
    stream.start()
    return stream, reports


@pytest.mark.usefixtures("hasty")
def test_a_feed_that_crawls_is_reported_while_data_flows() -> None:
    """The connection is open, ticks come, nothing is stale, and a bot trades on old prices."""
    with CrawlingServer(0.6) as server:
        stream, reports = crawl(server)
        first = reports.wait(len)[0]
        stream.stop()
    assert isinstance(first, Drift)
    assert first.kind == "ContractTick"
    assert first.growth == pytest.approx(0.4, abs=0.2)
    assert first.lag > 0.1
    assert abs(first.since - time.time()) < 60
    assert stream.stats().reconnects == 0
    assert books_balance(stream)


@pytest.mark.usefixtures("hasty")
def test_a_crawling_connection_is_replaced_on_request() -> None:
    """A stream that nobody watches would crawl until somebody restarts it."""
    with CrawlingServer(0.6, 1.0) as server:
        stream, reports = crawl(server, reconnect_on_drift=True, overlap=0.2)
        reports.wait(len)
        stream.wait_for(lambda tick: time.time() - tick.venue_time < 0.05, timeout=10)
        assert len(server.paths) == 2
        stream.stop()
    assert books_balance(stream)


@pytest.mark.usefixtures("hasty")
def test_a_reader_that_is_held_back_is_no_drift() -> None:
    """Slow handlers would be blamed on the venue."""
    with CrawlingServer(1.0, padding=200_000) as server:  # more than one read takes in: messages age in the kernel
        stream, reports = crawl(server, queue_size=2, overflow="block")
        ages = Collector()

        def handle(tick: Any) -> None:
            time.sleep(0.04)  # a handler that takes twice as long as a tick takes to come is what is tested
            ages(tick.received_at - tick.venue_time)

        stream.on_contract(handle)
        ages.wait(lambda seen: len(seen) > 75 and max(seen) > 0.3)
        stream.stop()
    assert reports.items == []


@pytest.mark.long
@pytest.mark.timeout(90)
def test_four_fifths_of_the_speed_in_real_time() -> None:
    """The half minute that the documentation promises would be a simulation's."""
    with CrawlingServer(0.8) as server:
        stream, reports = crawl(server)
        begun = time.monotonic()
        first = reports.wait(len, timeout=60)[0]
        waited = time.monotonic() - begun
        stream.stop()
    assert waited < 30
    assert first.growth == pytest.approx(0.2, abs=0.05)
