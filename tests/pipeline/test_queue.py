"""The event queue and the counters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.events import Batch, Connection, NoticeGiven
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.queue import EventQueue


class Reader:
    """A connection that can be told to wait."""

    def __init__(self) -> None:
        self.held = False

    def pause_reading(self) -> None:
        self.held = True

    def resume_reading(self) -> None:
        self.held = False

    def hand_over_reading(self, offered: object) -> None:
        """Keeps it: what is put here was never read from a socket."""


def batch(count: int) -> Batch:
    """A batch of so many payloads."""
    return Batch([b"x"] * count, 0.0, 0.0, Connection(""))


def balance(counter: MessageCounter) -> bool:
    """The conservation equation."""
    counters = counter.snapshot()
    return counters.received == (
        counters.handled
        + counters.unclaimed
        + counters.control
        + counters.unreadable
        + counters.duplicate
        + counters.dropped
        + counters.in_flight
        + counters.waiting
    )


@given(st.integers(1, 20), st.lists(st.one_of(st.integers(1, 30), st.none()), max_size=60))
def test_readers_are_held_back_and_let_go(limit: int, steps: list[int | None]) -> None:
    """Memory would grow without bound, or a held reader would never read again."""
    counter, reader = MessageCounter(), Reader()
    queue = EventQueue(limit, counter)
    waiting: list[int] = []
    for step in steps:
        if step is not None and not reader.held:
            queue.put(batch(step), reader)
            waiting.append(step)
        elif step is None and waiting:
            item = queue.get()
            assert isinstance(item, Batch)
            assert len(item.payloads) == waiting.pop(0)
            queue.take(len(item.payloads))
            counter.settle(handled=len(item.payloads))
        assert counter.waiting == sum(waiting)
        assert balance(counter)
        if sum(waiting) >= limit:
            assert reader.held
        if sum(waiting) <= limit // 2:
            assert not reader.held


def test_a_reader_held_after_the_queue_was_emptied_goes_on() -> None:
    """The stream would stand still: the reader waits for a queue that is empty already."""
    counter, reader = MessageCounter(), Reader()
    queue = EventQueue(1, counter)

    class EmptiesFirst(Reader):
        """Between the put and the hold, the dispatch thread takes everything."""

        def pause_reading(self) -> None:
            super().pause_reading()
            if counter.waiting:
                counter.take(1)

    reader = EmptiesFirst()
    queue.put(batch(1), reader)
    assert not reader.held


def test_throwing_away_keeps_events_and_counts() -> None:
    """stop() would lose messages from the counters, or a change of state."""
    counter = MessageCounter()
    queue = EventQueue(100, counter)
    queue.put(batch(3), Reader())
    queue.emit(NoticeGiven, "lag", "event")
    queue.put(batch(4), Reader())
    queue.close()
    (event,) = queue.drain()
    assert isinstance(event, NoticeGiven)
    assert event.value == "event"
    assert counter.snapshot().dropped == 7
    assert balance(counter)


def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few messages of megabytes each would fill the memory long before their number is too large."""
    monkeypatch.setattr("finx_sync.pipeline.queue.MAX_WAITING_BYTES", 2)
    reader, queue = Reader(), EventQueue(100, MessageCounter())
    queue.put(batch(1), reader)
    assert not reader.held
    queue.put(batch(1), reader)
    assert reader.held


def test_a_child_of_a_fork_needs_no_lock_of_the_parents() -> None:
    """A child would wait for ever for a lock whose holder has not come along."""
    queue, reader = EventQueue(1, MessageCounter()), Reader()
    queue._lock.acquire()
    queue.reset_after_fork()
    queue.put(batch(1), reader)
    assert reader.held
