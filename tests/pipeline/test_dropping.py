"""The queue that drops its oldest: in order, bounded, and counted to the last message."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from finx_sync.events import Batch, Connection, ErrorOccurred, MessagesDropped, NoticeGiven
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.queue import EventQueue

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
    queue = EventQueue(limit, counter, overflow="drop_oldest")
    sent = events = 0
    out: list[object] = []
    for what, count in steps:
        if what == "put":
            queue.put(numbered(sent, count), Reader())
            sent += count
        elif what == "get":
            if (item := queue.get_waiting()) is not None:
                out.append(item)
                if isinstance(item, Batch):
                    queue.take(len(item.payloads))
                    counter.settle(handled=len(item.payloads))
        else:
            events += 1
            number = events
            queue.emit(NoticeGiven if what == "ordered" else ErrorOccurred, number, "")  # type: ignore[arg-type]
        assert counter.waiting <= limit
    queue.close()
    while (item := queue.get()) is not None:
        out.append(item)
        if isinstance(item, Batch):
            queue.take(len(item.payloads))
            counter.settle(handled=len(item.payloads))
    check(out, sent, events, counter)


def check(out: list[object], sent: int, events: int, counter: MessageCounter) -> None:
    """Every number came, or is in a note at its place; every event came in its order."""
    position, dropped, seen = 0, 0, []
    for item in out:
        if isinstance(item, MessagesDropped):
            position += item.count
            dropped += item.count
            assert item.start <= item.end
        elif isinstance(item, Batch):
            for payload in item.payloads:
                assert int(bytes(payload)) == position
                position += 1
        else:
            seen.append(item.topic if isinstance(item, NoticeGiven) else item.error)  # type: ignore[attr-defined]
    assert position == sent
    assert seen == list(range(1, events + 1))
    books = counter.snapshot()
    assert (books.dropped, books.waiting, books.in_flight) == (dropped, 0, 0)
    assert books.received == books.handled + books.dropped


def test_throwing_away_empties_it() -> None:
    """A stop would leave messages in the books as waiting, or lose a change of state."""
    counter = MessageCounter()
    queue = EventQueue(5, counter, overflow="drop_oldest")
    queue.put(numbered(0, 3), Reader())
    queue.emit(NoticeGiven, "first", "")
    queue.emit(NoticeGiven, "second", "")
    queue.put(numbered(3, 6), Reader())
    queue.close()
    assert [event.topic for event in queue.drain()] == ["first", "second"]  # type: ignore[union-attr]
    assert counter.snapshot().dropped == 9
    assert queue.get_waiting() is None


def test_the_end_is_told_again() -> None:
    """A look at what waits would swallow the end, and the thread would wait for ever."""
    for rule in ("block", "drop_oldest"):
        queue = EventQueue(5, MessageCounter(), overflow=rule)  # type: ignore[arg-type]
        assert queue.get_waiting() is None
        queue.close()
        assert queue.get_waiting() is None
        assert queue.get() is None


def test_two_threads_lose_nothing() -> None:
    """Dropping on one thread while another takes would count a message twice, or not at all."""
    counter = MessageCounter()
    queue = EventQueue(20, counter, overflow="drop_oldest")
    out: list[object] = []

    def consume() -> None:
        while (item := queue.get()) is not None:
            out.append(item)
            if isinstance(item, Batch):
                queue.take(len(item.payloads))
                counter.settle(handled=len(item.payloads))

    thread = threading.Thread(target=consume)
    thread.start()
    for number in range(3000):
        queue.put(numbered(7 * number, 7), Reader())
    queue.close()
    thread.join(30)
    check(out, 21_000, 0, counter)
