"""A replacement takes over or fails, on two threads: the first one decides, and the other one is told so."""

from __future__ import annotations

from typing import Any

import pytest

from finx_sync import StreamManager
from finx_sync.errors import ConnectionLostError
from finx_sync.events import Connection, ReplacementBegan
from finx_sync.session.connections import Connections
from finx_sync.session.session import Session

LOST = ConnectionLostError("it was lost")
NEW = Connection("")


class Supervisor:
    """A supervisor that starts no thread."""

    is_alive = True
    answers_probes = confirmed = False

    def __init__(self, endpoint: str, **_: Any) -> None:
        self.endpoint, self.token = endpoint, object()
        self.connection: Connection | None = Connection(endpoint)
        self.given_up = self.has_taken_over = False
        self.told_to_reconnect: list[Exception] = []

    def start(self) -> None:
        pass

    def give_up(self) -> None:
        self.given_up = True

    def take_over(self) -> None:
        self.has_taken_over = True

    def reconnect(self, error: Exception, reason: str) -> None:
        self.told_to_reconnect.append(error)


class Replacing:
    """An endpoint whose connection is being replaced."""

    def __init__(self) -> None:
        stream = StreamManager("sandbox-key", url="ws://127.0.0.1:9")
        session = Session(stream._session_parts(live=True))
        self.connections: Connections = session.connections
        self.connections.adjust()
        (self.old,) = self.connections.all()
        self.connections.replace(self.old, "rotation", lambda: None)
        waiting = session.queue.drain()
        (event,) = [event for event in waiting if isinstance(event, ReplacementBegan)]
        self.candidate: Any = event.candidate
        self.new = self.candidate.new

    def failed(self, supervisor: Any) -> bool:
        """Report the end of a supervisor's connection, as its io thread does; return whether it tries again."""
        return self.connections.ended(supervisor, LOST, may_retry=True, was_being_replaced=False)


@pytest.fixture
def replacing(monkeypatch: pytest.MonkeyPatch) -> Replacing:
    """An endpoint being replaced, whose supervisors start no threads."""
    monkeypatch.setattr("finx_sync.session.connections.Supervisor", Supervisor)
    monkeypatch.setattr("finx_sync.session.connections.OVER", frozenset())
    return Replacing()


def test_a_replacement_that_has_taken_over_is_lost_like_any_other(replacing: Replacing) -> None:
    """Its end would count as a failed replacement: it would be given up, and nothing would serve the endpoint again."""
    assert replacing.candidate.take_over(NEW, 0.0)
    assert replacing.failed(replacing.new)
    assert replacing.connections.all() == [replacing.new]
    assert (replacing.new.has_taken_over, replacing.new.given_up, replacing.old.given_up) == (True, False, True)


def test_a_replacement_that_has_failed_does_not_take_over(replacing: Replacing) -> None:
    """The old connection would be closed in favour of a lost one, or its messages taken for duplicates."""
    assert not replacing.failed(replacing.new)
    assert not replacing.candidate.take_over(NEW, 0.0)
    assert replacing.connections.all() == [replacing.old]
    assert (replacing.new.given_up, replacing.old.given_up) == (True, False)
    assert replacing.old.told_to_reconnect == [LOST]


def test_a_cancelled_replacement_does_not_come_back(replacing: Replacing) -> None:
    """Two connections would serve one endpoint."""
    replacing.candidate.give_up()
    assert replacing.new.given_up
    assert not replacing.candidate.take_over(NEW, 0.0)
    assert replacing.connections.all() == [replacing.old]
