"""After a fork, leave the open connections to the parent.

Two processes on one socket would corrupt each other's frames, and a fork copies no threads into the child. So the child
closes every inherited descriptor at once (which the parent and its peers do not notice), and every object that had a
connection refuses to be used. A lock that another thread held during the fork would never be released in the child:
the functions called in the child replace the locks that they may need.
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
    """Call `in_child(thing)` in every child, before any other code, on its only thread, as long as `thing` exists."""
    _watched[thing] = in_child


def _in_child() -> None:
    for thing, in_child in list(_watched.items()):
        in_child(thing)


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)


def is_disowned(thing: object) -> bool:
    """Return whether `thing` belongs to the parent; for code that also runs in the child, such as finalizers."""
    return hasattr(type(thing), "__orphan__")


def disown(thing: object, why: str) -> None:
    """Make every use of `thing`, except its repr, raise UsageError from now on.

    Replacing the class covers every method, also those of subclasses, and costs nothing without a fork.
    """
    kind = type(thing)

    def refuse(self: Any, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise UsageError(why)

    def show(self: Any) -> str:
        return f"<{kind.__name__} of another process>"

    orphan = {"__getattribute__": refuse, "__repr__": show, "__module__": kind.__module__, "__orphan__": True}
    _watched.pop(thing, None)  # nothing is left to do in a child of the child
    thing.__class__ = type(kind.__name__, (kind,), orphan)
