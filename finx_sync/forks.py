"""What becomes of open connections in the child of a fork: they stay the parent's.

Two processes on one socket would tear each other's frames, and threads do not come along into the child. So there every
inherited descriptor is closed at once (which the parent and its peers do not notice), and whatever had a connection
refuses to be used. Locks that another thread held at the moment of the fork would never be released in the child:
what is called in the child replaces those that it may meet.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from finx_sync.errors import UsageError

__all__ = ["disown", "is_disowned", "watch"]

T = TypeVar("T")


_watched: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def watch(thing: T, in_child: Callable[[T], None]) -> None:
    """Have `in_child(thing)` called in every child, first thing, on its only thread, as long as `thing` lives."""
    _watched[thing] = in_child


def _in_child() -> None:
    for thing, in_child in list(_watched.items()):
        in_child(thing)


if hasattr(os, "register_at_fork"):  # not on Windows, which knows no fork
    os.register_at_fork(after_in_child=_in_child)


def is_disowned(thing: object) -> bool:
    """Whether `thing` belongs to the parent; for what runs in the child without being asked for."""
    return hasattr(type(thing), "__orphan__")


def disown(thing: object, why: str) -> None:
    """From now on let every use of `thing` raise UsageError, only its repr not.

    Swapping the class covers every method, those of subclasses too, and costs nothing where nobody forks.
    """
    kind = type(thing)

    def refuse(self: Any, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise UsageError(why)

    def show(self: Any) -> str:
        return f"<{kind.__name__} of another process>"

    orphan = {"__getattribute__": refuse, "__repr__": show, "__module__": kind.__module__, "__orphan__": True}
    _watched.pop(thing, None)  # a child of the child has no more to do
    thing.__class__ = type(kind.__name__, (kind,), orphan)
