"""Slow handlers: bounded memory, exact counts, and no reconnect, by every rule."""

from __future__ import annotations

import threading

from finx_sync import ContractTick, State
from finx_sync.errors import SlowConsumerError
from finx_sync.messages import Tick
from finx_sync.notices import Gap, Lag
from tests.guarantees.feeds import Feed
from tests.scripted import TICK, ScriptedServer, text
from tests.waiting import Collector, books_balance, stream_to, wait_until


def test_latest_keeps_up_and_counts_what_it_replaces() -> None:
    """A slow handler would work on old prices, or lose count of what it did not see."""
    with Feed() as feed:
        stream = stream_to(feed, overflow="latest", ping_interval=0.5, ping_timeout=0.4)
        behind: list[int] = []
        numbers: list[int | None] = []
        gaps = Collector()
        pause = threading.Event()

        @stream.on_contract
        def handler(tick: ContractTick) -> None:
            behind.append(feed.sent["A"] - (tick.timestamp or 0))
            numbers.append(tick.timestamp)
            pause.wait(0.005)

        stream.on_gap(gaps)
        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        feed.pace(0.001, "A")
        assert wait_until(lambda: len(numbers) > 300, 30)
        feed.quiet()
        total = feed.sent["A"]
        assert wait_until(lambda: numbers[-1] == total)
        stream.stop()
        books = stream.stats().messages
        assert numbers == sorted(set(numbers))
        assert books.dropped == total - len(numbers) > 0
        assert sum(gap.missed for gap in gaps.items) == books.dropped
        assert {gap.reason for gap in gaps.items} == {"conflated"}
        assert sorted(behind)[len(behind) // 2] < total // 4
        assert stream.stats().reconnects == 0
        assert books_balance(stream)
        assert {one.reason for one in stream.coverage("A")} == {"", "conflated"}


def test_auto_absorbs_a_burst_and_then_catches_up() -> None:
    """A burst would lose messages at once, or a slow handler fall behind for ever."""
    gate = threading.Event()
    seen: list[tuple[str, int | None]] = []
    gaps = Collector()

    def burst(connection: object) -> None:
        for number in range(200):
            connection.send(text(timestamp=str(number)))  # type: ignore[attr-defined]
        gate.wait(10)

    with ScriptedServer(burst) as server:
        stream = stream_to(server, max_lag=0.2)
        lag = Collector()
        stream.on_lag(lag)
        stream.on_gap(gaps)

        @stream.on_contract
        def handler(tick: ContractTick) -> None:
            seen.append((tick.name, tick.timestamp))
            if len(seen) == 100:
                gate.wait(10)

        stream.start()
        assert wait_until(lambda: len(seen) == 100 and stream.stats().messages.received == 200)
        all_there = stream.stats().lag
        assert wait_until(lambda: stream.stats().lag > all_there + 0.3)  # so all that waits is old
        gate.set()
        assert wait_until(lambda: seen[-1][1] == 199)
        behind, caught_up = lag.wait(lambda items: len(items) == 2)
        stream.stop()
        numbers = [number for _, number in seen]  # those after the 100th were handed on before anybody had looked up
        assert numbers[:100] == list(range(100))
        assert numbers == [*range(len(numbers) - 1), 199]
        missed = 200 - len(numbers)
        assert missed > 50
        assert sum(gap.missed for gap in gaps.items) == missed
        assert isinstance(behind, Lag)
        assert behind.seconds > 0.2
        assert caught_up.seconds == 0
        assert caught_up.dropped == missed
        assert "caught up" in str(caught_up)


def test_events_are_never_replaced() -> None:
    """A fill that is dropped is a position that nobody knows of."""
    gate = threading.Event()
    rows: list[float | None] = []
    states: list[int | None] = []

    def burst(connection: object) -> None:
        import json

        for number in range(50):
            connection.send(text(timestamp=str(number)))  # type: ignore[attr-defined]
            connection.send(json.dumps({**TICK, "price": number}))  # type: ignore[attr-defined]

    with ScriptedServer(burst) as server:
        stream = stream_to(server, overflow="latest")

        def state(tick: ContractTick) -> None:
            gate.wait(10)
            states.append(tick.timestamp)

        stream.on_contract(state)
        stream._register(Tick, lambda tick: rows.append(tick.price), ())  # an event of FinX's that no method is for
        texts = Collector()
        stream.on_message(texts)
        stream.start()
        assert wait_until(lambda: stream.stats().messages.received >= 102)
        gate.set()
        assert wait_until(lambda: len(rows) == 50)
        stream.stop()
        assert rows == list(range(50))
        assert states[-1] == 49
        assert len(states) < 50
        assert books_balance(stream)


def test_drop_oldest_keeps_the_newest_and_counts_the_rest() -> None:
    """The reader would stop although the user asked for the newest, or memory would grow."""
    gate, entered = threading.Event(), threading.Event()
    seen: list[int | None] = []
    gaps = Collector()
    with Feed() as feed:
        stream = stream_to(feed, overflow="drop_oldest", queue_size=100)

        @stream.on_contract
        def handler(tick: ContractTick) -> None:
            entered.set()
            gate.wait(10)
            seen.append(tick.timestamp)

        stream.on_gap(gaps)
        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        assert wait_until(lambda: stream.stats().messages.control == 2)  # so that all that is dropped are ticks
        feed.send("A")
        assert entered.wait(10)
        feed.send("A", 1000)
        assert wait_until(lambda: stream.stats().messages.received >= 1003)
        assert stream.stats().messages.waiting <= 100
        gate.set()
        assert wait_until(lambda: seen and seen[-1] == 1001)
        stream.stop()
        books = stream.stats().messages
        assert seen[1:] == list(range(1001 - len(seen) + 2, 1002))
        assert books.dropped == 1001 - len(seen)
        dropped = [gap for gap in gaps.items if isinstance(gap, Gap)]
        assert {gap.reason for gap in dropped} == {"slow consumer"}
        assert sum(gap.missed for gap in dropped if gap.missed) == books.dropped
        assert all(gap.names == ("A",) for gap in dropped)
        assert books_balance(stream)


def test_error_ends_the_stream() -> None:
    """A user who would rather stop than be late could not say so."""
    gate = threading.Event()
    with Feed() as feed:
        stream = stream_to(feed, overflow="error", queue_size=10)
        stream.on_contract(lambda tick: gate.wait(10))
        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        feed.send("A", 50)
        assert wait_until(lambda: stream.state is State.FAILED)
        gate.set()
        assert isinstance(stream.failure, SlowConsumerError)
        stream.stop()


def test_a_slow_handler_never_looks_like_a_dead_peer() -> None:
    """A healthy server would be left because the user's own code is slow."""
    with Feed() as feed:
        stream = stream_to(feed, ping_interval=0.5, ping_timeout=0.4, stale_after=1.2, queue_size=50)
        stale = Collector()
        stream.on_stale(stale)
        pause = threading.Event()
        calls = Collector()

        @stream.on_contract
        def handler(tick: ContractTick) -> None:
            calls(tick)
            pause.wait(1.5)

        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        feed.pace(0.002, "A")
        calls.wait(lambda items: len(items) == 4)
        feed.quiet()
        assert stream.stats().reconnects == 0
        assert stale.items == []
        assert any("latest" in sentence for sentence in stream.stats().advice)
        assert "cannot keep up" in str(stream.stats())
        stream.stop()
