"""The registry of handlers, by message type and name. Handlers are checked when they are registered.

Handlers may be registered and removed at any time, on any thread, even inside a handler. The tables that the dispatch
thread reads are never modified, only replaced in one assignment. It therefore needs no lock, and can see that a table
has changed by comparing identities.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from finx_sync.errors import HandlerError
from finx_sync.messages import Message

__all__ = ["Handler", "Handlers", "Route", "Routes", "check_handler"]

Function = Callable[[Any], object]

TIMED_CALLS: Final = 512
"""The number of calls of one handler whose durations are kept."""
MARKS: Final = 11
"""The number of marks of one handler, one second apart: its rate is measured over ten seconds."""


@dataclass(eq=False)
class Handler:
    """One registered function.

    Attributes:
        function: the user's function.
        topic: the message type, or the name of an event such as "error".
        names: the names whose messages it gets; None for all.
        calls: how often it was called. Written by the dispatch thread only; any thread may read it.
        failures: how often it raised. Written by the dispatch thread only.
        times: the durations of its latest timed calls, seconds. Written by the dispatch thread only.
        marks: times (monotonic) and the number of calls up to each, the latest last. Written by the health monitor.
        label: its name in messages.
    """

    function: Function
    topic: type[Message] | str
    names: frozenset[str] | None = None
    calls: int = 0
    failures: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=TIMED_CALLS))
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=MARKS))
    label: str = field(init=False)

    def __post_init__(self) -> None:
        self.label = getattr(self.function, "__qualname__", None) or repr(self.function)


@dataclass(frozen=True)
class Route:
    """The handlers of one message type.

    Attributes:
        everyone: the handlers registered for all names.
        by_name: for each name with handlers of its own, its handlers, including those in `everyone`.
        only: the handler, if there is exactly one and it is registered for all names; otherwise None.
    """

    everyone: tuple[Handler, ...] = ()
    by_name: dict[str, tuple[Handler, ...]] = field(default_factory=dict)
    only: Handler | None = None


Routes = dict[type[Message], Route]


class Handlers:
    """The registry. All methods are safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a signal handler may register a handler during another call
        self._all: list[Handler] = []
        self.routes: Routes = {}
        """By message type; replaced as a whole."""
        self.topics: dict[str, tuple[Handler, ...]] = {}
        """By event name; replaced as a whole."""
        self.wanted: frozenset[type[Message] | str] = frozenset()
        """Everything that has a handler; replaced as a whole."""

    def add(self, topic: type[Message] | str, function: Function, names: Iterable[str] | None = None) -> Handler:
        """Register `function`.

        Raises:
            HandlerError: it cannot be called with one argument; see `check_handler`.
        """
        check_handler(function)
        handler = Handler(function, topic, None if names is None else frozenset(names))
        self._change(lambda handlers: [*handlers, handler])
        return handler

    def remove(self, function: Function | Handler) -> int:
        """Remove every registration of `function`. Returns how many there were."""
        before, after = self._change(
            lambda handlers: [one for one in handlers if one is not function and one.function != function]
        )
        return len(before) - len(after)

    def reset_after_fork(self) -> None:
        """Remove all handlers in a forked child, and replace the lock: its holder does not exist there."""
        self._lock = threading.RLock()
        self._all = []
        self.touch()

    def touch(self) -> None:
        """Replace the tables by equal ones, so that the dispatch thread interrupts its batch and checks its flags."""
        self._change(list)

    def snapshot(self) -> list[Handler]:
        """All handlers, in the order of registration."""
        return list(self._all)

    def _change(self, change: Callable[[list[Handler]], list[Handler]]) -> tuple[list[Handler], list[Handler]]:
        """Replace the list and the tables. An interrupt leaves either all old or all new ones.

        Returns:
            The list before and after the change.
        """
        with self._lock:
            while True:
                before = self._all
                after = change(before)
                routes, topics = _tables(after)
                wanted = frozenset(handler.topic for handler in after)
                if self._all is before:  # otherwise a signal handler changed it on this thread: start over
                    self._all, self.routes, self.topics, self.wanted = after, routes, topics, wanted
                    return before, after


def _tables(handlers: list[Handler]) -> tuple[Routes, dict[str, tuple[Handler, ...]]]:
    routes: Routes = {}
    topics: dict[str, tuple[Handler, ...]] = {}
    for topic in dict.fromkeys(handler.topic for handler in handlers):
        mine = [handler for handler in handlers if handler.topic is topic or handler.topic == topic]
        if isinstance(topic, str):
            topics[topic] = tuple(mine)
        else:
            routes[topic] = _route(mine)
    return routes, topics


def _route(handlers: list[Handler]) -> Route:
    names = {name for handler in handlers for name in handler.names or ()}
    return Route(
        only=handlers[0] if len(handlers) == 1 and not names else None,
        everyone=tuple(handler for handler in handlers if handler.names is None),
        by_name={
            name: tuple(handler for handler in handlers if handler.names is None or name in handler.names)
            for name in names
        },
    )


def check_handler(function: object) -> None:
    """Check a handler when it is registered, not only at the first message.

    Raises:
        HandlerError: `function` is not callable or cannot be called with one argument, or calling it would not run its
            code because it is a coroutine function or a generator function.
    """
    if not callable(function):
        raise HandlerError(
            f"a handler must be callable, got {type(function).__name__}; pass a function of one argument"
        )
    called = _what_is_called(function)
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise HandlerError(
            "a handler must be a plain function: this library runs no event loop, so nobody would await it"
        )
    if inspect.isgeneratorfunction(called):
        raise HandlerError(
            "a handler must be a plain function: this one has a yield, so a call would only make a generator, and run "
            "nothing of it"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a builtin without a signature: assume that it can be called
    try:
        signature.bind(None)
    except TypeError as error:
        name = getattr(function, "__qualname__", repr(function))
        raise HandlerError(
            f"the handler {name}{signature} cannot be called with one argument, the message ({error})"
        ) from error


def _what_is_called(function: Any) -> Any:
    """The function whose code a call runs: that of a `functools.partial`, or an object's own `__call__`."""
    while isinstance(function, (functools.partial, functools.partialmethod)):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return type(function).__call__
