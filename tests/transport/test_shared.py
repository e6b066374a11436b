"""Calls that nothing can interrupt: one of a kind at a time."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

import pytest

from finx_sync.errors import ConnectTimeoutError
from finx_sync.transport import dial
from finx_sync.transport.shared import SharedCalls
from tests.servers import Server, echo
from tests.transport.log import connects, failure
from tests.waiting import wait_until

PATIENCE = 20.0


def resolving() -> int:
    """How many threads look up a name now."""
    return sum(one.name == "finx-sync resolving" for one in threading.enumerate())


def test_a_name_server_that_hangs_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt to connect would leave one more thread behind."""
    gate = threading.Event()
    asked: list[Any] = []

    def slow(*what: Any) -> Any:
        asked.append(what)
        assert gate.wait(PATIENCE)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]

    with Server(echo) as server:
        monkeypatch.setattr(dial.socket, "getaddrinfo", slow)
        try:
            for _ in range(20):
                assert isinstance(failure("ws://slow.test:1/", connect_timeout=0.01), ConnectTimeoutError)
            assert len(asked) == resolving() == 1
            assert isinstance(failure("ws://other.test:1/", connect_timeout=0.01), ConnectTimeoutError)
            assert len(asked) == resolving() == 2, "another name is another question"
        finally:
            gate.set()
        assert wait_until(lambda: not resolving(), PATIENCE)
        connects("ws://slow.test:1/")
        assert len(asked) == 3, "an answer is not kept: addresses change"


def test_all_who_wait_for_a_call_are_woken() -> None:
    """The second of two connections to one host would wait until its time is up."""
    calls: SharedCalls[int] = SharedCalls()
    gate = threading.Event()
    ran: list[int] = []

    def work() -> int:
        ran.append(1)
        assert gate.wait(PATIENCE)
        return 7

    first = calls.join("kind", "finx-sync test", work)
    woken = [threading.Event() for _ in range(3)]
    for one in woken[:2]:
        calls.join("kind", "finx-sync test", work).wake(one.set)
    first.leave(woken[0].set)
    gate.set()
    assert woken[1].wait(PATIENCE)
    assert not woken[0].is_set()
    first.wake(woken[2].set)
    assert woken[2].is_set(), "one that comes late is woken at once"
    assert first.result() == 7
    assert ran == [1]
    assert calls.join("kind", "finx-sync test", lambda: 8) is not first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system knows no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that is the point
def test_a_child_does_not_wait_for_the_parents_call() -> None:
    """In the child of a fork the thread has not come along: every attempt there would wait for an answer in vain."""
    calls: SharedCalls[int] = SharedCalls()
    gate = threading.Event()
    call = calls.join("kind", "finx-sync test", lambda: int(gate.wait(PATIENCE)))
    child = os.fork()
    if child == 0:
        done = threading.Event()
        calls.join("kind", "finx-sync test", lambda: 8).wake(done.set)
        os._exit(0 if done.wait(PATIENCE) else 1)
    _, status = os.waitpid(child, 0)
    gate.set()
    assert os.waitstatus_to_exitcode(status) == 0
    assert wait_until(lambda: call.finished, PATIENCE)
