"""The registry of handlers."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator

import pytest

from finx_sync.errors import HandlerError
from finx_sync.messages import ContractTick, SpotTick
from finx_sync.pipeline.handlers import Handler, Handlers, _tables, check_handler


class Book:
    """Handlers as users write them."""

    def update(self, tick: object) -> None: ...

    def __call__(self, tick: object) -> None: ...

    @staticmethod
    def static(tick: object) -> None: ...


@pytest.mark.parametrize(
    "good",
    [
        print,
        [].append,
        Book().update,
        Book(),
        Book.static,
        lambda tick, extra=5: None,
        lambda *all_of_it: None,
        functools.partial(max, 5),
        dict,
    ],
)
def test_whatever_takes_one_argument_is_a_handler(good: object) -> None:
    """A bound method, a builtin or a partial would be refused."""
    check_handler(good)


@pytest.mark.parametrize("bad", [Book.update, lambda: None, functools.partial(lambda a, b: None), 5, None, "print"])
def test_whatever_does_not_is_none(bad: object) -> None:
    """A forgotten self would show only when the first message comes."""
    with pytest.raises(HandlerError, match=r"argument|callable"):
        check_handler(bad)


async def coroutine(tick: object) -> None: ...


async def async_generator(tick: object) -> AsyncIterator[object]:
    yield tick


def generator(tick: object) -> Iterator[object]:
    yield tick


class Async:
    """Objects that are called, in ways that run nothing."""

    async def __call__(self, tick: object) -> None: ...

    async def method(self, tick: object) -> None: ...


class Generating:
    """The same with a yield."""

    def __call__(self, tick: object) -> Iterator[object]:
        yield tick

    @staticmethod
    def static(tick: object) -> Iterator[object]:
        yield tick


@pytest.mark.parametrize(
    "bad",
    [
        *(coroutine, async_generator, generator, Async(), Async().method, Generating(), Generating.static),
        functools.partial(coroutine),
        functools.partial(functools.partial(async_generator)),
        functools.partial(generator),
        functools.partial(Async()),
    ],
)
def test_what_a_call_would_not_run_is_no_handler(bad: object) -> None:
    """It would be taken, and then never run: every message lost without a word."""
    with pytest.raises(HandlerError, match="plain function"):
        check_handler(bad)


def test_a_class_is_called_itself() -> None:
    """A class would be refused for what its instances do when they are called."""
    check_handler(type("Made", (Async,), {"__init__": lambda self, tick: None}))


def test_an_interrupted_registration_leaves_the_tables_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl+C in the REPL a handler would be listed, and never called."""
    handlers = Handlers()
    handlers.add("error", print)

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("finx_sync.pipeline.handlers._tables", interrupted)
        with pytest.raises(KeyboardInterrupt):
            handlers.add("error", repr)
    assert (
        [one.function for one in handlers.snapshot()] == [one.function for one in handlers.topics["error"]] == [print]
    )


def test_a_registration_within_another_loses_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that registers a handler would hang the program, or have its registration undone."""
    handlers = Handlers()

    def signalled(given: list[Handler]) -> object:
        monkeypatch.undo()
        handlers.add("error", repr)
        return _tables(given)

    monkeypatch.setattr("finx_sync.pipeline.handlers._tables", signalled)
    handlers.add("error", print)
    assert {one.function for one in handlers.topics["error"]} == {print, repr}


def test_routes_by_type_and_name() -> None:
    """A message would reach the wrong handlers, or in another order than they were registered in."""
    handlers = Handlers()
    everyone = handlers.add(ContractTick, print)
    some = handlers.add(ContractTick, repr, ["A", "B"])
    other = handlers.add(SpotTick, str)
    route = handlers.routes[ContractTick]
    assert route.everyone == (everyone,)
    assert route.by_name == {"A": (everyone, some), "B": (everyone, some)}
    assert handlers.routes[SpotTick].everyone == (other,)
    before = handlers.routes
    assert handlers.remove(repr) == 1
    assert handlers.routes is not before
    assert handlers.routes[ContractTick].by_name == {}
    assert handlers.remove(repr) == 0


def test_a_function_registered_twice_is_called_twice_and_removed_once() -> None:
    """off() would leave a registration behind."""
    handlers = Handlers()
    handlers.add("error", print)
    handlers.add("state", print)
    assert handlers.remove(print) == 2
    assert handlers.topics == {}
    assert handlers.snapshot() == []
