"""What one connection still will bring, and another one has brought before it went: it is not repeated, ever."""

from __future__ import annotations

import time
from typing import Any

from finx_sync.notices import Gap
from tests.guarantees.feeds import Feed
from tests.guarantees.stages import Stage, tick
from tests.waiting import books_balance, wait_until


class Lagging(Stage):
    """A stage whose second connection serves the line, and still will bring 1 and 2 of A, which have been handled."""

    def __init__(self, feed: Feed, *names: str, **options: Any) -> None:
        super().__init__(feed, *names, **options)
        self.second = self.replace(*names)
        assert self.both_are_open()
        for number in (1, 2):
            self.old.send(tick("A", number))
        assert wait_until(lambda: self.numbers("A") == [1, 2])
        self.old.close_socket()
        assert self.has_taken_over()
        (self.first,) = self.stream._session.connections.all()
        assert wait_until(lambda: self.is_echoing() and not self.continuity._replacements and self.first.confirmed)

    @property
    def continuity(self) -> Any:
        return self.stream._session.pipeline.gaps

    def is_echoing(self) -> bool:
        """Whether anything of the kind is expected."""
        return bool(self.continuity._echoes)

    def end_of_their_time(self) -> None:
        """Nothing of the kind is expected from now on."""
        (echoes,) = self.continuity._echoes.values()
        echoes.until = time.monotonic()

    def replace_again(self, *names: str) -> Any:
        """A third connection, beside the second one."""
        self.stream.reconnect_now()
        third = self.feed.next_connection()
        for name in names:
            self.feed.wait_for_subscribers(name, 3)
        assert self.both_are_open()
        return third


def test_an_echo_may_be_the_proof_of_the_next_replacement() -> None:
    """The third connection is ahead of the second one: one message would be in hand for ever, or handled twice."""
    with Feed() as feed:
        stage = Lagging(feed, "A")
        third = stage.replace_again("A")
        read = stage.stream.stats().messages.received
        third.send(tick("A", 2))
        assert stage.received(read + 1)
        stage.second.send(tick("A", 1))
        stage.second.send(tick("A", 2))
        assert stage.duplicates(3)
        assert wait_until(lambda: stage.stream.stats().messages.in_flight == 0)
        third.send(tick("A", 3))
        assert wait_until(lambda: 3 in stage.numbers("A"))
        stage.stream.stop()
        assert stage.numbers("A") == [1, 2, 3]
        assert books_balance(stage.stream)


def test_echoes_of_two_replacements_add_up() -> None:
    """The second failure would make the stream forget what the first one has left to come."""
    with Feed() as feed:
        stage = Lagging(feed, "A", "B")
        stage.keep_the_old_connection()
        third = stage.replace_again("A", "B")
        stage.second.send(tick("B", 5))
        assert wait_until(lambda: stage.numbers("B") == [5])
        third.send(tick("B", 5))
        third.send(tick("B", 6))
        assert wait_until(lambda: stage.numbers("B") == [5, 6])
        third.close_socket()
        assert wait_until(lambda: not stage.continuity._replacements)
        for name, numbers in {"A": (1, 2, 3), "B": (6, 7)}.items():
            for number in numbers:
                stage.second.send(tick(name, number))
        assert wait_until(lambda: 7 in stage.numbers("B"))
        stage.stream.stop()
        assert stage.numbers("A") == [1, 2, 3]
        assert stage.numbers("B") == [5, 6, 7]
        assert books_balance(stage.stream)


def test_echoes_that_came_in_time_are_known_however_late_they_are_handled() -> None:
    """A slow handler would make the stream forget them while they wait in the queue."""
    with Feed() as feed:
        stage = Lagging(feed, "A", "B")
        feed.subscribers["B"] = [stage.second]
        stage.hold("B")
        health = stage.stream._session.health
        assert wait_until(lambda: not health._timer.is_set())  # a timer waits in the queue, before the echoes
        read = stage.stream.stats().messages.received
        for number in (1, 2, 3):
            stage.second.send(tick("A", number))
        assert stage.received(read + 3)
        stage.end_of_their_time()
        stage.go_on()
        assert wait_until(lambda: 3 in stage.numbers("A"))
        stage.stream.stop()
        assert stage.numbers("A") == [1, 2, 3]
        assert books_balance(stage.stream)


def test_what_does_not_come_is_forgotten() -> None:
    """A name that falls silent would keep every message on the slow path, and a true repeat be swallowed much later."""
    with Feed() as feed:
        stage = Lagging(feed, "A")
        stage.end_of_their_time()
        assert wait_until(lambda: not stage.is_echoing())
        feed.sent["A"] = 2
        feed.subscribers["A"] = [stage.second]
        feed.send("A")
        assert wait_until(lambda: 3 in stage.numbers("A"))
        stage.stream.stop()
        assert [item for item in stage.seen.items if not isinstance(item, Gap)] == [("A", 1), ("A", 2), ("A", 3)]
