"""Quiet or dead: told apart, and told in time."""

from __future__ import annotations

import threading
import time

import pytest

from finx_sync import ContractTick, State
from finx_sync.errors import StaleDataError
from finx_sync.notices import Stale
from finx_sync.transport.waker import Poller
from tests.guarantees.feeds import Feed
from tests.waiting import Collector, stream_to, wait_until


def test_a_silent_subscription_is_told_once_until_it_speaks() -> None:
    """A muted contract would look like a calm market."""
    with Feed() as feed:
        stream = stream_to(feed, stale_after=0.2)
        stale = Collector()
        stream.on_stale(stale)
        stream.subscribe_contract("A", stale_after=60)
        stream.subscribe_contract("B")
        stream.start()
        feed.wait_for_subscribers("B")
        feed.pace(0.02, "A")
        (first,) = stale.wait(len)
        assert isinstance(first, Stale)
        assert first.name == "B"
        assert first.connected
        assert first.age > 0.2
        feed.send("B")
        stale.wait(lambda items: len(items) == 2)
        feed.quiet()
        stream.stop()
        assert {one.name for one in stale.items[:2]} == {"B"}
        assert stream.stats().reconnects == 0


def test_a_name_can_have_a_limit_of_its_own() -> None:
    """One limit cannot suit a perpetual and an option that trades once a day."""
    with Feed() as feed:
        stream = stream_to(feed)
        stale = Collector()
        stream.on_stale(stale)
        stream.subscribe_contract("SLOW")
        stream.subscribe_contract("FAST", stale_after=0.1)
        stream.start()
        (one,) = stale.wait(len)
        assert one.name == "FAST"
        stream.stop()


def test_a_quiet_feed_that_answers_is_left_alone() -> None:
    """A calm market would be answered with reconnects."""
    with Feed() as feed:
        stream = stream_to(feed, stale_after=0.05, ping_timeout=1.0)
        stream.subscribe_contract("A")
        stream.start()
        for _ in range(3):  # for longer than an answer may take
            feed.kept_alive.get(timeout=10)  # asked again and again, and answered
        assert stream.stats().reconnects == 0
        stream.stop()


def test_a_feed_that_answers_no_more_is_left() -> None:
    """A server that pings but sends no data would be believed for ever."""
    with Feed() as feed:
        stream = stream_to(feed, stale_after=0.1, ping_timeout=0.2)
        gaps = Collector()
        stream.on_gap(gaps)
        stream.subscribe_contract("A")
        stream.start()
        assert wait_until(lambda: stream.coverage("A"))
        feed.answers_keep_alive = False
        assert wait_until(lambda: stream.stats().reconnects)
        feed.answers_keep_alive = True
        assert gaps.wait(len)[0].reason == "stale"
        stream.stop()


def test_a_server_that_never_answers_is_not_judged_by_it() -> None:
    """No source promises that every server answers; a healthy one would be left again and again."""
    with Feed() as feed:
        feed.answers_keep_alive = False
        stream = stream_to(feed, stale_after=0.05, ping_timeout=0.05)
        stream.subscribe_contract("A")
        stream.start()
        for _ in range(3):
            feed.kept_alive.get(timeout=10)
        assert not wait_until(lambda: stream.stats().reconnects, 0.5)
        stream.stop()


def test_sleep_is_noticed_and_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a suspended laptop wakes, a dead connection would be believed for minutes."""
    slept = 0.0
    monkeypatch.setattr("finx_sync.clock.boot_time", lambda: time.monotonic() + slept)
    with Feed() as feed:
        stream = stream_to(feed)
        gaps = Collector()
        stream.on_gap(gaps)
        stream.subscribe_contract("A")
        stream.start()
        assert wait_until(lambda: stream.coverage("A"))
        slept = 60.0
        (gap,) = gaps.wait(len)
        assert gap.reason == "suspend"
        assert wait_until(lambda: stream.is_connected)
        stream.stop()


def test_sleep_ends_a_long_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop that was closed during an outage would wait out its back-off after it wakes."""
    from finx_sync import Backoff

    slept = 0.0
    monkeypatch.setattr("finx_sync.clock.boot_time", lambda: time.monotonic() + slept)
    monkeypatch.setattr("finx_sync.session.supervisor.random.random", lambda: 1.0)
    with Feed() as feed:
        stream = stream_to(feed, reconnect=Backoff(first=50, cap=50))
        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        feed.cut("A")
        assert wait_until(lambda: stream.state is State.RECONNECTING)
        slept = 60.0
        assert wait_until(lambda: stream.is_connected, 5)
        stream.stop()


def test_a_step_of_the_wall_clock_is_no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator who sets the clock would cut every stream, or make every name stale."""
    step = 0.0
    with Feed() as feed:
        stream = stream_to(feed, stale_after=30.0)
        stale = Collector()
        stream.on_stale(stale)
        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        feed.send("A")
        assert wait_until(lambda: stream.latest("A"))
        real = time.time
        session = stream._session
        assert session is not None
        monkeypatch.setattr(session._clock, "_wall", lambda: real() + step)
        step = 3600.0
        before = session._clock.offset
        assert wait_until(lambda: session._clock.offset > before + 3000)
        feed.send("A")
        assert wait_until(lambda: stream.latest("A").timestamp == 2)
        assert stale.items == []
        assert stream.stats().reconnects == 0
        stream.stop()


def test_the_guard_refuses_old_data() -> None:
    """A bot would place an order on a price from before the outage."""
    with Feed() as feed:
        stream = stream_to(feed)
        stream.subscribe_contract("A")
        stream.start()
        with pytest.raises(StaleDataError, match="not arrived yet"):
            stream.guard("A", max_age=1)
        feed.wait_for_subscribers("A")
        feed.send("A")
        assert wait_until(lambda: stream.latest("A"))
        with stream.guard("A", max_age=30) as tick:
            assert isinstance(tick, ContractTick)
        assert stream.last_message_age("A") < 30
        threading.Event().wait(0.05)
        with pytest.raises(StaleDataError) as caught:
            stream.guard("A", max_age=0.02)
        assert caught.value.age > 0.02
        stream.stop()
    with pytest.raises(ValueError, match="max_age"):
        stream.guard("A", max_age=0)


def test_an_hour_of_healthy_silence_causes_no_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contract that trades once a day would cost a reconnect every few minutes."""
    real, speed = time.monotonic, 600.0  # an hour in six seconds
    begun = real()

    class FastTime:
        """The clock of the modules that keep a connection alive; their waits are as much shorter."""

        def __getattr__(self, name: str) -> object:
            return getattr(time, name)

        @staticmethod
        def monotonic() -> float:
            return begun + (real() - begun) * speed

    wait, wait_for_data = Poller.wait, Poller.wait_for_data

    def short_wait(self: Poller, *, read: bool = False, write: bool = False, timeout: float | None = None) -> object:
        return wait(self, read=read, write=write, timeout=None if timeout is None else timeout / speed)

    with Feed() as feed:
        # A pong may take a minute, which is a tenth of a second here: a busy machine needs longer than a network does.
        stream = stream_to(feed, ping_interval=15, ping_timeout=60, connect_timeout=3000)
        stream.subscribe_contract("A")
        for module in ("finx_sync.transport.loop", "finx_sync.session.liveness", "finx_sync.session.supervisor"):
            monkeypatch.setattr(f"{module}.time", FastTime())
        monkeypatch.setattr(Poller, "wait", short_wait)
        monkeypatch.setattr(Poller, "wait_for_data", lambda self, timeout: wait_for_data(self, timeout / speed))
        with stream:
            assert not wait_until(lambda: stream.stats().reconnects, 3600 / speed)
            assert stream.is_connected
            assert feed.kept_alive.qsize() > 20  # asked every minute, and answered
