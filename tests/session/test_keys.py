"""A key that a function returns: there is one call at a time, whatever the function does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from finx_sync import Backoff, State, StreamManager
from finx_sync.config import Account
from finx_sync.errors import AuthorizationError, ConnectError
from finx_sync.session.keys import current_key
from tests.scripted import ScriptedServer
from tests.waiting import wait_until

PATIENCE = 20.0


def ask(account: Account, timeout: float = PATIENCE) -> Any:
    """Get the key as a supervisor does."""
    return current_key(account, threading.Event(), lambda: False, timeout)


def asking() -> int:
    """Return the number of threads that are getting a key now."""
    return sum(one.name == "finx-sync key" for one in threading.enumerate())


class Hanging:
    """A user's function that does not return until its gate is opened."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = threading.Event()

    def __call__(self) -> str:
        self.calls += 1
        assert self.gate.wait(PATIENCE)
        return f"key {self.calls}"


def test_a_function_that_hangs_is_called_once() -> None:
    """Each attempt to connect would leave one more thread behind: fifty threads after fifty attempts."""
    function = Hanging()
    account = Account("ws://127.0.0.1:9", function)
    try:
        for _ in range(50):
            with pytest.raises(ConnectError, match="not called again"):
                ask(account, 0.001)
        assert function.calls == asking() == 1
    finally:
        function.gate.set()
    assert wait_until(lambda: not asking(), PATIENCE)
    assert ask(account) == "key 2", "once it has returned, it is called again, since keys change"


def test_the_next_attempt_has_what_the_hanging_call_returns() -> None:
    """A function that takes longer than one attempt may would never return a key."""
    function = Hanging()
    account = Account("ws://127.0.0.1:9", function)
    with pytest.raises(ConnectError):
        ask(account, 0.001)
    nudge = threading.Event()
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(current_key(account, nudge, lambda: False, PATIENCE)))
    waiting.start()
    function.gate.set()
    waiting.join(PATIENCE)
    assert found == ["key 1"]
    assert function.calls == 1


def test_another_function_is_not_answered_by_the_hanging_one() -> None:
    """After `rotate_key`, the old key or none would be used for as long as the old function hangs."""
    function = Hanging()
    account = Account("ws://127.0.0.1:9", function)
    try:
        with pytest.raises(ConnectError):
            ask(account, 0.001)
        account.key = lambda: "another"
        assert ask(account) == "another"
        with pytest.raises(ConnectError):
            ask(Account("ws://127.0.0.1:9", function), 0.001)
        assert function.calls == 2, "nor is another account's"
    finally:
        function.gate.set()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(ValueError("x"), ConnectError), (SystemExit(), ConnectError), (AuthorizationError("no"), AuthorizationError)],
)
def test_what_the_function_raises_is_known_to_all_who_wait(raised: BaseException, expected: type[Exception]) -> None:
    """A second connection would wait for a key that never comes."""
    gate = threading.Event()

    def fail() -> str:
        assert gate.wait(PATIENCE)
        raise raised

    account = Account("ws://127.0.0.1:9", fail)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            ask(account)
        except BaseException as error:  # noqa: BLE001  # checked below
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for one in threads:
        one.start()
    gate.set()
    for one in threads:
        one.join(PATIENCE)
    assert [type(error) for error in errors] == [expected] * 3


def test_a_stream_whose_key_function_hangs_starts_one_call(caplog: pytest.LogCaptureFixture) -> None:
    """A stream that lost its connection would fill the process with threads while it tries to reconnect."""
    answers: list[Callable[[], str]] = [lambda: "sandbox-key"]
    function = Hanging()
    caplog.set_level(logging.DEBUG)

    def key() -> str:
        return answers.pop()() if answers else function()

    with ScriptedServer() as server:
        stream = StreamManager(key, url=server.url, connect_timeout=0.05, reconnect=Backoff(0.001, 0.001))
        try:
            stream.start()
            server.next_connection().close_socket()
            assert wait_until(lambda: sum("trying again" in text for text in caplog.messages) > 10, PATIENCE)
            assert function.calls == asking() == 1
            function.gate.set()
            assert wait_until(lambda: stream.state is State.OPEN, PATIENCE)
        finally:
            function.gate.set()
            stream.stop()
