"""Errors travel: process pools pickle them, programs copy and keep them."""

from __future__ import annotations

import concurrent.futures
import copy
import importlib
import inspect
import json
import multiprocessing
import pickle
import pkgutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

import finx_sync
from finx_sync import StreamManager
from finx_sync.errors import (
    FinxSyncError,
    FunctionTimeoutError,
    HandlerRaisedError,
    ServerRefusedError,
    UnreadableMessageError,
)
from tests.scripted import ScriptedServer

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
REFUSED = "no such pair"


def handler(message: object) -> None:
    """A user's function."""


class StubbornError(Exception):
    """Pickles, and cannot be loaded again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


@dataclass(frozen=True)
class Rows:
    """What an incomplete history is asked for."""

    pair: str = "BTC:USD"
    unproven: tuple[str, ...] = ("12:00 to 13:00",)
    discarded: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return 7


ARGUMENTS: dict[str, Any] = {
    "age": 1.5,
    "code": 1008,
    "function": "get_tick_snap",
    "handler": handler,
    "headers": {"retry-after": "3"},
    "history": Rows(),
    "kind": "contract",
    "market": "BTC-PERP",
    "max_age": 1.0,
    "message": "what happened; what to do",
    "name": "BTC:USD",
    "payload": '{"a": 1}',
    "reason": "going away",
    "retry_after": 2.5,
    "said": "no",
    "status_code": 503,
    "why": "it is no message",
}
"""A value for each parameter that an error's constructor has."""


def every_error() -> list[type[FinxSyncError]]:
    """All of the package, also those that other modules keep to themselves."""
    for module in pkgutil.walk_packages(finx_sync.__path__, "finx_sync."):
        if not module.name.endswith(("__main__", "transport._cutting")):
            importlib.import_module(module.name)

    def below(kind: type[FinxSyncError]) -> Iterator[type[FinxSyncError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from below(one)

    return [one for one in dict.fromkeys(below(FinxSyncError)) if one.__module__.startswith("finx_sync.")]


EVERY = every_error()


def new(kind: type[FinxSyncError]) -> FinxSyncError:
    """One of them, as full as it gets."""
    own = next(
        (vars(one)["__init__"] for one in kind.__mro__ if isinstance(vars(one).get("__init__"), FunctionType)), None
    )
    if own is None or own is FinxSyncError.__init__:
        error = kind(ARGUMENTS["message"])
    else:
        asked = list(inspect.signature(own).parameters.values())[1:]
        known = {one.name for one in asked if one.name in ARGUMENTS or one.default is inspect.Parameter.empty}
        error = kind(**{name: ARGUMENTS[name] for name in known})
    error.extra = {"asked": ["BTC:USD"]}  # type: ignore[attr-defined]  # as a later version or a user may add
    error.__notes__ = ["while the bot was starting"]
    error.__cause__ = KeyError("inner")
    error.__cause__.__cause__ = OSError(111, "refused")
    return error


def assert_same(other: FinxSyncError, error: FinxSyncError) -> None:
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert repr(other) == repr(error)
    assert other.args == error.args
    assert vars(other) == vars(error)
    assert other.__suppress_context__ == error.__suppress_context__
    assert repr(other.__cause__) == repr(error.__cause__)
    assert other.__cause__ is not None
    assert repr(other.__cause__.__cause__) == "ConnectionRefusedError(111, 'refused')"
    for name in ("errno", "name", "path", "msg"):  # what the built-in exception knows, whose kind it is too
        assert getattr(other, name, None) == getattr(error, name, None)


def test_the_list_of_errors_is_whole() -> None:
    """An error that the list missed would go untested."""
    assert {getattr(finx_sync.errors, name) for name in finx_sync.errors.__all__} <= set(EVERY)
    assert len(EVERY) > len(finx_sync.errors.__all__)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_error_survives_pickling(kind: type[FinxSyncError], protocol: int) -> None:
    """A process pool would hang for ever, or break, for one call that failed."""
    error = new(kind)
    assert_same(pickle.loads(pickle.dumps(error, protocol)), error)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_every_error_survives_copying(kind: type[FinxSyncError], copied: Any) -> None:
    """A program that keeps copies of what went wrong would fail over it."""
    error = new(kind)
    other = copied(error)
    assert other is not error
    assert_same(other, error)
    assert (vars(other)["extra"] is vars(error)["extra"]) == (copied is copy.copy)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_cannot_be_pickled_becomes_a_text(protocol: int) -> None:
    """One attribute of a user's own would take the whole error with it."""
    error = HandlerRaisedError("trade", lambda message: None, threading.Lock())
    error.__cause__ = StubbornError("two", "arguments")
    error.__cause__.__cause__ = ValueError(threading.Lock())
    other = pickle.loads(pickle.dumps(error, protocol))
    assert str(other) == str(error)
    assert "lambda" in other.handler
    assert "lock" in other.message
    assert "StubbornError: two arguments" in str(other.__cause__)
    assert "ValueError" in str(other.__cause__.__cause__)
    copied = copy.deepcopy(error)
    assert copied.message is error.message
    assert copied.handler is error.handler


def test_a_handler_is_pickled_without_what_it_belongs_to() -> None:
    """A whole bot would be copied into another process, for a word in an error."""

    class Bot:
        def __reduce__(self) -> Any:
            raise AssertionError("the bot is pickled")

        def trade(self, message: object) -> None: ...

    other = pickle.loads(pickle.dumps(HandlerRaisedError("trade", Bot().trade, None)))
    assert "Bot.trade" in other.handler


def test_errors_that_cause_each_other_survive() -> None:
    """A chain of causes, even one in a circle, would never end, or cost twice as much with each link."""
    chain: FinxSyncError = ServerRefusedError("getTickSnap", "no")
    for _ in range(30):
        error = FunctionTimeoutError("it took too long")
        error.__cause__ = chain
        chain = error
    other: BaseException | None = pickle.loads(pickle.dumps(chain))
    for _ in range(30):
        assert other is not None
        other = other.__cause__
    assert isinstance(other, ServerRefusedError)
    circle = UnreadableMessageError("odd", "{")
    circle.__cause__ = circle
    other = pickle.loads(pickle.dumps(circle))
    assert other is not None
    assert other.__cause__ is other
    assert copy.deepcopy(circle).__cause__ is circle


# Real pools, a real server


def refuse(connection: ServerConnection) -> None:
    """Refuse every call, which is in the URL."""
    connection.send(json.dumps({"error": REFUSED}))


def snap(url: str) -> Any:
    """In another process."""
    stream = StreamManager("sandbox-key", url=url)
    return stream.get_tick_snap("BTC:USD", "2022-06-15", "12:00", timeout=20)


@pytest.fixture
def refusing() -> Iterator[str]:
    with ScriptedServer(refuse) as server:
        yield server.url


def test_a_refused_call_in_a_pool_raises_here(refusing: str) -> None:
    """`multiprocessing.Pool` would wait for ever for an answer that was thrown away."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with pytest.raises(ServerRefusedError) as caught:
            pool.apply_async(snap, [refusing]).get(50)
        assert caught.value.said == REFUSED
        assert pool.apply_async(int, ["7"]).get(50) == 7, "and the pool goes on"


def test_a_refused_call_in_an_executor_raises_here(refusing: str) -> None:
    """`ProcessPoolExecutor` would be broken for good, with all that was in it."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        with pytest.raises(ServerRefusedError) as caught:
            pool.submit(snap, refusing).result(50)
        assert caught.value.said == REFUSED
        assert pool.submit(int, "7").result(50) == 7
