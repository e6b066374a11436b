"""The moment at which a successor takes over or fails: whoever comes first settles it, and the other one hears so."""

from __future__ import annotations

from typing import Any

from finx_sync.errors import ConnectionLostError
from finx_sync.pipeline.queue import Connection
from finx_sync.session.connections import Lines, Replacement
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.venues.finx import FinxDialect

LOST = ConnectionLostError("it was lost")
NEW = Connection("")


class Line:
    """A supervisor that runs nothing."""

    is_alive = True
    answers_probes = confirmed = False

    def __init__(self, line: str, patient: bool) -> None:
        self.line, self.patient = line, patient
        self.connection: Connection | None = Connection(line)
        self.on_failure: Any = None
        self.given_up = self.has_taken_over = False
        self.told_to_reconnect: list[Exception] = []

    def start(self) -> None:
        pass

    def give_up(self) -> None:
        self.given_up = True

    def take_over(self) -> None:
        self.has_taken_over, self.on_failure = True, None

    def reconnect(self, error: Exception, reason: str) -> None:
        self.told_to_reconnect.append(error)


class Replacing:
    """A line of which a replacement is under way."""

    def __init__(self) -> None:
        made: list[Any] = []
        handovers: list[Any] = []

        class Book:
            hand_over = staticmethod(handovers.append)
            delivery = None
            cancelled = staticmethod(lambda *_: None)

        def new_line(name: str, patient: bool) -> Any:
            made.append(Line(name, patient))
            return made[-1]

        dialect = FinxDialect("ws://host")
        self.lines = Lines(dialect, Subscriptions(dialect), new_line, lambda connection: None, lambda error: None)
        self.lines.adjust(patient=True)
        book: Any = Book
        plan = Replacement(self.lines.all()[0], "rotation", lambda: None)
        self.lines.replace(plan, book, lambda event, action: action())
        self.old, self.new = made
        (self.handover,) = handovers


def test_a_successor_that_has_taken_over_is_lost_like_any_other() -> None:
    """Its end would be taken for a failed replacement: it would be given up, and the line never come back."""
    replacing = Replacing()
    failed = replacing.new.on_failure  # its io thread has just read it, when the dispatch thread retires the old one
    assert replacing.handover.successor.take_over(NEW)
    assert failed(LOST) is False
    assert replacing.lines.all() == [replacing.new]
    assert (replacing.new.has_taken_over, replacing.new.given_up, replacing.old.given_up) == (True, False, True)


def test_a_successor_that_has_failed_does_not_take_over() -> None:
    """The old connection would be closed in favour of one that is gone, or its messages taken for duplicates."""
    replacing = Replacing()
    assert replacing.new.on_failure(LOST) is True
    assert not replacing.handover.successor.take_over(NEW)
    assert replacing.lines.all() == [replacing.old]
    assert (replacing.new.given_up, replacing.old.given_up) == (True, False)
    assert replacing.old.told_to_reconnect == [LOST]


def test_a_cancelled_successor_does_not_come_back() -> None:
    """Two connections would serve one line."""
    replacing = Replacing()
    replacing.handover.successor.give_up()
    assert replacing.new.given_up
    assert not replacing.handover.successor.take_over(NEW)
    assert replacing.lines.all() == [replacing.old]
