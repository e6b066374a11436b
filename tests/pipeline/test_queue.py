"""The inbox and the books."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.queue import Batch, Connection, Inbox


class Tap:
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
    books = counter.snapshot()
    return books.received == (
        books.handled
        + books.unclaimed
        + books.control
        + books.unreadable
        + books.duplicate
        + books.dropped
        + books.in_flight
        + books.waiting
    )


@given(st.integers(1, 20), st.lists(st.one_of(st.integers(1, 30), st.none()), max_size=60))
def test_readers_are_held_back_and_let_go(limit: int, steps: list[int | None]) -> None:
    """Memory would grow without bound, or a held reader would never read again."""
    counter, tap = MessageCounter(), Tap()
    inbox = Inbox(limit, counter)
    waiting: list[int] = []
    for step in steps:
        if step is not None and not tap.held:
            inbox.put(batch(step), tap)
            waiting.append(step)
        elif step is None and waiting:
            item = inbox.get()
            assert isinstance(item, Batch)
            assert len(item.payloads) == waiting.pop(0)
            inbox.take(len(item.payloads))
            counter.settle(handled=len(item.payloads))
        assert counter.waiting == sum(waiting)
        assert balance(counter)
        if sum(waiting) >= limit:
            assert tap.held
        if sum(waiting) <= limit // 2:
            assert not tap.held


def test_a_reader_held_after_the_queue_was_emptied_goes_on() -> None:
    """The stream would stand still: the reader waits for a queue that is empty already."""
    counter, tap = MessageCounter(), Tap()
    inbox = Inbox(1, counter)

    class EmptiesFirst(Tap):
        """Between the put and the hold, the dispatch thread takes everything."""

        def pause_reading(self) -> None:
            super().pause_reading()
            if counter.waiting:
                counter.take(1)

    tap = EmptiesFirst()
    inbox.put(batch(1), tap)
    assert not tap.held


def test_throwing_away_keeps_events_and_counts() -> None:
    """stop() would lose messages from the books, or a change of state."""
    counter = MessageCounter()
    inbox = Inbox(100, counter)
    inbox.put(batch(3), Tap())
    inbox.post(lambda: "event")
    inbox.put(batch(4), Tap())
    inbox.close()
    (event,) = inbox.throw_away()
    assert event() == "event"
    assert counter.snapshot().dropped == 7
    assert balance(counter)


def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few messages of megabytes each would fill the memory long before their number is too large."""
    monkeypatch.setattr("finx_sync.pipeline.queue.MAX_WAITING_BYTES", 2)
    tap, inbox = Tap(), Inbox(100, MessageCounter())
    inbox.put(batch(1), tap)
    assert not tap.held
    inbox.put(batch(1), tap)
    assert tap.held


def test_a_child_of_a_fork_needs_no_lock_of_the_parents() -> None:
    """A child would wait for ever for a lock whose holder has not come along."""
    inbox, tap = Inbox(1, MessageCounter()), Tap()
    inbox._lock.acquire()
    inbox.forked()
    inbox.put(batch(1), tap)
    assert tap.held
