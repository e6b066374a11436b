"""The registry of handlers."""

from __future__ import annotations

import functools

import pytest

from finx_sync.dispatch.handlers import Handlers, check_handler
from finx_sync.errors import HandlerError
from finx_sync.messages import ContractTick, SpotTick


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
