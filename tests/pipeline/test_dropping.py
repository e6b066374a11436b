"""The inbox that drops its oldest: in order, bounded, and counted to the last message."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.queue import Batch, Connection, Dropped, Inbox, Ordered

CONNECTION = Connection("")


class Reader:
    """A connection that must never be told to wait."""

    def pause_reading(self) -> None:
        raise AssertionError("the rule is to read on")

    def resume_reading(self) -> None:
        """Never needed."""


def numbered(first: int, count: int) -> Batch:
    """A batch whose payloads are numbers; received at the time that is its first number."""
    return Batch([b"%d" % number for number in range(first, first + count)], float(first), float(first), CONNECTION)


STEPS = st.lists(
    st.one_of(
        st.integers(1, 12).map(lambda count: ("put", count)),
        st.just(("event", 0)),
        st.just(("ordered", 0)),
        st.just(("get", 0)),
    ),
    max_size=60,
)


@given(st.integers(1, 15), STEPS)
def test_what_comes_out_is_what_went_in_but_for_what_is_counted(limit: int, steps: list[tuple[str, int]]) -> None:
    """A dropped message would be in nobody's count, or an event lost or out of its place."""
    counter = MessageCounter()
    inbox = Inbox(limit, counter, "drop_oldest")
    sent = events = 0
    out: list[object] = []
    for what, count in steps:
        if what == "put":
            inbox.put(numbered(sent, count), Reader())
            sent += count
        elif what == "get":
            if (item := inbox.get_waiting()) is not None:
                out.append(item)
                if isinstance(item, Batch):
                    inbox.take(len(item.payloads))
                    counter.settle(handled=len(item.payloads))
        else:
            events += 1
            number = events
            event = lambda number=number: number  # noqa: E731  # distinguishable
            inbox.post(Ordered(event) if what == "ordered" else event)
        assert counter.waiting <= limit
    inbox.close()
    while (item := inbox.get()) is not None:
        out.append(item)
        if isinstance(item, Batch):
            inbox.take(len(item.payloads))
            counter.settle(handled=len(item.payloads))
    check(out, sent, events, counter)


def check(out: list[object], sent: int, events: int, counter: MessageCounter) -> None:
    """Every number came, or is in a note at its place; every event came in its order."""
    position, dropped, seen = 0, 0, []
    for item in out:
        if isinstance(item, Dropped):
            position += item.count
            dropped += item.count
            assert item.start <= item.end
        elif isinstance(item, Batch):
            for payload in item.payloads:
                assert int(bytes(payload)) == position
                position += 1
        else:
            seen.append(item.event() if isinstance(item, Ordered) else item())  # type: ignore[operator]
    assert position == sent
    assert seen == list(range(1, events + 1))
    books = counter.snapshot()
    assert (books.dropped, books.waiting, books.in_flight) == (dropped, 0, 0)
    assert books.received == books.handled + books.dropped


def test_throwing_away_empties_it() -> None:
    """A stop would leave messages in the books as waiting, or lose a change of state."""
    counter = MessageCounter()
    inbox = Inbox(5, counter, "drop_oldest")
    inbox.put(numbered(0, 3), Reader())
    inbox.post(lambda: "event")
    inbox.post(Ordered(lambda: "ordered"))
    inbox.put(numbered(3, 6), Reader())
    inbox.close()
    assert [event() for event in inbox.throw_away()] == ["event", "ordered"]
    assert counter.snapshot().dropped == 9
    assert inbox.get_waiting() is None


def test_the_end_is_told_again() -> None:
    """A look at what waits would swallow the end, and the thread would wait for ever."""
    for rule in ("block", "drop_oldest"):
        inbox = Inbox(5, MessageCounter(), rule)  # type: ignore[arg-type]
        assert inbox.get_waiting() is None
        inbox.close()
        assert inbox.get_waiting() is None
        assert inbox.get() is None


def test_two_threads_lose_nothing() -> None:
    """Dropping on one thread while another takes would count a message twice, or not at all."""
    counter = MessageCounter()
    inbox = Inbox(20, counter, "drop_oldest")
    out: list[object] = []

    def consume() -> None:
        while (item := inbox.get()) is not None:
            out.append(item)
            if isinstance(item, Batch):
                inbox.take(len(item.payloads))
                counter.settle(handled=len(item.payloads))

    thread = threading.Thread(target=consume)
    thread.start()
    for number in range(3000):
        inbox.put(numbered(7 * number, 7), Reader())
    inbox.close()
    thread.join(30)
    check(out, 21_000, 0, counter)
