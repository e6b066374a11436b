"""Calls that nothing can interrupt: each runs on a thread of its own, which is left behind when nobody waits any more.

A name look-up, or a user's function that returns the key, may hang. The caller gives up in time, but if every
connection attempt began another such call, each would leave a thread behind. So only one call of a kind runs at a time,
and the next attempt waits for the one that is running.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from finx_sync import forks

__all__ = ["Call", "SharedCalls"]

T = TypeVar("T")


class Call(Generic[T]):
    """One call. All methods are safe from any thread.

    Attributes:
        finished: whether `result` may be called.
    """

    def __init__(self, name: str, function: Callable[[], T], on_end: Callable[[Call[T]], object]) -> None:
        self._function = function
        self._on_end = on_end
        self._lock = threading.Lock()  # decides whether `wake` comes before the end, and is called then, or after it
        self._waiting: list[Callable[[], object]] = []
        self._value: T | None = None
        self._failure: BaseException | None = None
        self.finished = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet. In the child of a fork, where its thread does not exist, it counts as ended."""
        return self._thread.is_alive() and not self.finished

    def wake(self, waiting: Callable[[], object]) -> None:
        """Call this function when the call ends, on its thread; at once, on this thread, if it has already ended."""
        with self._lock:
            if not self.finished:
                self._waiting.append(waiting)
                return
        waiting()

    def leave(self, waiting: Callable[[], object]) -> None:
        """Take back a `wake`: do not call this function any more."""
        with self._lock:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def result(self) -> T:
        """What the function returned.

        Raises:
            BaseException: what it raised.
        """
        assert self.finished
        if self._failure is not None:
            raise self._failure
        return self._value  # type: ignore[return-value]  # the function returned it

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001  # it is raised on the threads that wait
            self._failure = error
        with self._lock:
            # After the result was stored, so a thread that sees `finished` without the lock finds the result, too.
            self.finished = True
            waiting, self._waiting = self._waiting, []
        self._on_end(self)
        for one in waiting:
            one()


class SharedCalls(Generic[T]):
    """Runs at most one call of each kind at a time. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, Call[T]] = {}
        forks.watch(self, SharedCalls.forked)

    def forked(self) -> None:
        """In the child of a fork: start afresh, since neither the lock's holder nor any running thread exists there."""
        self._lock = threading.Lock()
        self._running = {}

    def join(self, kind: Hashable, name: str, function: Callable[[], T]) -> Call[T]:
        """Return the running call of this kind, or start one.

        Args:
            kind: calls of equal kind share one thread and one result.
            name: the name of a new call's thread.
            function: what to call.
        """
        # Started under the lock, so that no other thread finds it here before it runs and takes it for ended.
        with self._lock:
            call = self._running.get(kind)
            if call is None or not call.is_running:
                call = self._running[kind] = Call(name, function, lambda ended: self._ended(kind, ended))
                call.start()
            return call

    def _ended(self, kind: Hashable, call: Call[T]) -> None:
        with self._lock:  # another call may have taken its place meanwhile: `finished` is set before this runs
            if self._running.get(kind) is call:
                del self._running[kind]
