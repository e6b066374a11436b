"""Lossless or labelled: every gap is told before the message after it, and shown in the coverage."""

from __future__ import annotations

from typing import Any

import pytest

from finx_sync import ContractTick, State
from finx_sync.errors import UsageError
from finx_sync.notices import Gap
from tests.guarantees.feeds import Feed
from tests.waiting import Collector, books_balance, stream_to, wait_until


def events_of(stream: Any) -> Collector:
    """Gaps and tick numbers, in the order in which handlers saw them."""
    seen = Collector()
    stream.on_gap(seen)
    stream.on_contract(lambda tick: seen((tick.name, tick.timestamp)))
    return seen


def test_an_outage_is_told_before_the_next_message() -> None:
    """A bot would go on as if it had seen everything."""
    with Feed() as feed:
        stream = stream_to(feed)
        seen = events_of(stream)
        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        feed.send("A")
        seen.wait(len)
        feed.send("A", 2)
        seen.wait(lambda items: len(items) == 3)
        feed.cut("A")
        feed.send("A", 2)  # nobody gets these
        feed.wait_for_subscribers("A")
        feed.send("A", 2)
        items = seen.wait(lambda items: ("A", 7) in items)
        stream.stop()
        (gap,) = [item for item in items if isinstance(item, Gap)]
        assert [item for item in items if item is not gap] == [("A", n) for n in (1, 2, 3, 6, 7)]
        assert items.index(gap) == 3
        assert (gap.names, gap.reason, gap.missed) == (("A",), "connection lost", None)
        assert 0 < gap.duration < 10
        kinds = [(one.kind, one.reason) for one in stream.coverage("A")]
        assert kinds == [("received", ""), ("missing", "connection lost"), ("received", "")]
        assert books_balance(stream)


def test_a_quiet_names_gap_ends_with_the_answer_to_the_probe() -> None:
    """A contract that trades once an hour would be "missing" for an hour after every reconnect."""
    with Feed() as feed:
        stream = stream_to(feed)
        gaps = Collector()
        stream.on_gap(gaps)
        stream.subscribe_contract("QUIET")
        stream.start()
        feed.wait_for_subscribers("QUIET")
        assert wait_until(lambda: stream.coverage("QUIET"))
        feed.cut("QUIET")
        (gap,) = gaps.wait(len)
        assert gap.names == ("QUIET",)
        assert stream.is_connected
        stream.stop()


def test_without_any_answer_a_subscription_flows_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server that never answers, a quiet name would be in a gap for ever."""
    monkeypatch.setattr("finx_sync.pipeline.gaps.SETTLE", 0.2)
    with Feed() as feed:
        feed.answers_keep_alive = False
        stream = stream_to(feed)
        stream.subscribe_contract("QUIET")
        stream.start()
        assert wait_until(lambda: stream.coverage("QUIET"))
        stream.stop()


def test_the_first_connection_and_a_later_wish_begin_without_a_gap() -> None:
    """Every start would cry wolf."""
    with Feed() as feed:
        stream = stream_to(feed)
        seen = events_of(stream)
        stream.subscribe_contract("A")
        stream.start()
        stream.subscribe_contract("B")
        feed.wait_for_subscribers("A")
        feed.wait_for_subscribers("B")
        feed.send("A")
        feed.send("B")
        assert sorted(seen.wait(lambda items: len(items) == 2)) == [("A", 1), ("B", 1)]
        assert [one.kind for one in stream.coverage("B")] == ["received"]
        stream.unsubscribe_contract("B")
        assert wait_until(lambda: stream.coverage("B")[-1].end < stream.coverage("A")[-1].end)
        stream.stop()
    assert stream.coverage("NOBODY") == []


def test_a_close_by_the_server_says_so() -> None:
    """A user could not tell a maintenance window from a broken network."""
    with Feed() as feed:
        stream = stream_to(feed)
        gaps = Collector()
        stream.on_gap(gaps)
        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        assert wait_until(lambda: stream.coverage("A"))
        feed.next_connection().close(1012, "restart")
        (gap,) = gaps.wait(len)
        assert gap.reason == "server"
        stream.stop()


def test_two_outages_in_a_row_are_one_gap() -> None:
    """The messages between two failed connections would be in no gap."""
    with Feed() as feed:
        stream = stream_to(feed)
        seen = events_of(stream)
        stream.subscribe_contract("A")
        stream.start()
        feed.wait_for_subscribers("A")
        feed.send("A")
        before = seen.wait(len)
        feed.answers_keep_alive = False  # so that nothing ends the gap but a message
        for _ in range(3):
            feed.cut("A")
            feed.wait_for_subscribers("A")
        feed.send("A")
        items = seen.wait(lambda items: len(items) == 3)
        stream.stop()
    assert before[0] == ("A", 1)
    assert isinstance(items[1], Gap)
    missing = [one for one in stream.coverage("A") if one.kind == "missing"]
    assert len(missing) == 1
    assert (missing[0].start, missing[0].end) == pytest.approx((items[1].start, items[1].end), abs=0.1)


def test_a_stopped_stream_refuses_to_reconnect() -> None:
    """A call that does nothing would look as if it had worked."""
    with Feed() as feed:
        stream = stream_to(feed)
        calls = ((stream.reconnect_now, ()), (stream.rotate_key, ("sandbox-key",)), (stream.reconnect_at, (4e9,)))
        for method, arguments in calls:
            with pytest.raises(UsageError, match="start"):
                method(*arguments)
        assert stream.state is State.NEW
        assert stream.coverage("A") == []
        assert "never run" in stream.dump()


def test_every_number_is_handled_once_or_inside_a_gap() -> None:
    """Under many cuts, some message would be lost between the accounts."""
    with Feed() as feed:
        stream = stream_to(feed)
        seen = events_of(stream)
        names = ("A", "B", "C")
        stream.subscribe_contract(*names)
        stream.start()
        feed.wait_for_subscribers("C")
        feed.pace(0.001, *names)
        for round_number in range(10):
            count = len(seen.items)
            seen.wait(lambda items, count=count: len(items) > count + 50)
            feed.cut("A")
            feed.cut("B")
            feed.cut("C")
            assert wait_until(lambda: stream.stats().reconnects > round_number)  # noqa: B023  # called at once
        count = len(seen.items)
        items = seen.wait(lambda items: len(items) > count + 50)
        feed.quiet()
        stream.stop()
    for name in names:
        last, in_gap = 0, True
        for item in items:
            if isinstance(item, Gap):
                in_gap = in_gap or name in item.names
            elif item[0] == name:
                assert item[1] > last
                assert item[1] == last + 1 or in_gap, f"{name}: {last} -> {item[1]} without a gap"
                last, in_gap = item[1], False


def test_the_conservation_equation_holds_at_every_moment() -> None:
    """A counter that is right only at the end is no use to whoever watches the stream."""
    with Feed() as feed:
        stream = stream_to(feed, overflow="latest")

        @stream.on_contract
        def slow(tick: ContractTick) -> None:
            assert books_balance(stream)

        stream.subscribe_contract("A", "B")
        stream.start()
        feed.wait_for_subscribers("B")
        feed.pace(0.0005, "A", "B")
        for _ in range(300):
            assert books_balance(stream)
        feed.quiet()
        assert stream.stats().handlers[0].failures == 0
        stream.stop()
        assert books_balance(stream)
