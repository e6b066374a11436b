"""What becomes of open connections in the child of a fork: they stay the parent's.

Two processes on one socket would tear each other's frames, and threads do not come along into the child. So there every
inherited descriptor is closed at once (which the parent and its peers do not notice), and whatever had a connection
refuses to be used. Locks that another thread held at the moment of the fork would never be released in the child:
each `forked` method replaces those that it may meet.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

from finx_sync.errors import UsageError

__all__ = ["Forkable", "disown", "is_disowned", "watch"]


class Forkable(Protocol):
    """Something that must not be shared with a child."""

    def forked(self) -> None:
        """Called in the child, first thing, on its only thread."""


_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def watch(thing: Forkable) -> None:
    """Have `thing.forked` called in every child, as long as `thing` lives."""
    _watched.add(thing)


def _in_child() -> None:
    for thing in list(_watched):
        thing.forked()


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
    thing.__class__ = type(kind.__name__, (kind,), orphan)
