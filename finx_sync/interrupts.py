"""What keeps the library whole when a signal interrupts the main thread.

Python runs signal handlers on the main thread, between any two of its steps. Ctrl+C raises KeyboardInterrupt there, and
a handler may call `stop()` while the very call that it has interrupted holds a lock. Three rules follow from that:

- What starts or ends threads does not run on the main thread itself, but on a short-lived thread for which the main
  thread waits (`uninterrupted`): so nothing is left half started, and nothing half stopped.
- The main thread waits on no `threading.Condition` or `threading.Event` that other threads use. These are written in
  Python, and an interrupt inside them can leave their lock held for ever. A `SimpleQueue` and a plain lock in a `with`
  statement are written in C, and are not interrupted half-way.
- A `stop()` that finds a call of the library below it on the stack (`is_inside_a_call`) has the stop done by another
  thread and returns at once, so that the interrupted call can go on and release what it holds.
"""

from __future__ import annotations

import _thread
import logging
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final, Generic, TypeVar

__all__ = ["LONGEST_WAIT", "Flag", "Notifier", "Task", "is_inside_a_call", "on_main_thread", "uninterrupted"]

T = TypeVar("T")

LONGEST_WAIT: Final = 0.5
"""Seconds. A signal that comes just before the system call does not end it, and Ctrl+C must not wait for a message."""

UNDO_TIMEOUT: Final = 5.0
"""Seconds that an interrupted caller waits for what is to be undone."""

_HERE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
_CALLERS: Final = (
    *(_HERE + name + os.sep for name in ("cli", "compat", "doctor", "sandbox", "testing")),
    _HERE + "oneshot.py",
)
"""Parts of the package that use streams as any program does: they hold none of a stream's locks."""
_LOGGING: Final = os.path.dirname(os.path.abspath(logging.__file__)) + os.sep


def on_main_thread() -> bool:
    """Whether this is the thread on which Python runs signal handlers."""
    return threading.get_ident() == threading.main_thread().ident


def is_inside_a_call(frame: FrameType | None) -> bool:
    """Whether `frame` or one of its callers belongs to a call of this library, or of `logging`, which has locks too.

    Args:
        frame: the caller of the function that asks.
    """
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_LOGGING) or (file.startswith(_HERE) and not file.startswith(_CALLERS)):
            return True
        frame = frame.f_back
    return False


class Task(Generic[T]):
    """An action on a thread of its own, which no signal interrupts.

    Args:
        action: what to do.
        name: of the thread.

    Attributes:
        error: what it raised; None until then.
        is_done: whether it has come to an end.
    """

    def __init__(self, action: Callable[[], T], name: str) -> None:
        self._action = action
        self._name = name
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._values: list[T] = []
        self.error: BaseException | None = None
        self.is_done = False

    def begin(self) -> None:
        """Have it done; returns at once. At the interpreter's end, when no thread can be started, do it here."""
        try:
            # `Thread.start` waits in Python code for the new thread, which an interrupt could leave waiting for ever.
            _thread.start_new_thread(self._launch, ())
        except RuntimeError:
            self._run()

    def _launch(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # no further thread can be had: this one will do
            self._thread = None
            self._run()

    def _run(self) -> None:
        try:
            self._values.append(self._action())
        except BaseException as error:  # noqa: BLE001  # raised where the result is asked for
            self.error = error
        self.is_done = True
        self._ended.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, at most `timeout` seconds; returns whether it came."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_done:
            left = LONGEST_WAIT if deadline is None else min(LONGEST_WAIT, deadline - time.monotonic())
            if left <= 0:
                return False
            try:
                self._ended.get(timeout=left)
            except Empty:
                pass
        if (thread := self._thread) is not None and thread is not threading.current_thread():
            thread.join(LONGEST_WAIT)  # all that it has left to do is to end
        return True

    def result(self) -> T:
        """Wait for its end; returns what it returned, or raises what it raised."""
        self.wait()
        if self.error is not None:
            raise self.error
        return self._values[0]


def uninterrupted(action: Callable[[], T], name: str, undo: Callable[[T], object] | None = None) -> T:
    """Do something, on a thread of its own where the caller is the main thread; returns or raises what it does.

    An interrupt ends the wait for it, not the action.

    Args:
        action: what to do.
        name: of the thread.
        undo: called with the result that an interrupt keeps from the caller.
    """
    if not on_main_thread():
        return action()
    task = Task(lambda: made.append(action()), name)
    made: list[T] = []
    try:
        task.begin()
        task.result()
        return made[0]
    except BaseException:
        if undo is not None and task.wait(UNDO_TIMEOUT):
            for result in made:
                undo(result)
        raise


class Notifier:
    """Wakes those who wait for a change, like a Condition, but has no lock that an interrupted waiter could keep."""

    def __init__(self) -> None:
        self._waiting: list[SimpleQueue[None]] = []

    def notify(self) -> None:
        """Make all who wait look again. Any thread; call it after the change."""
        for waiter in list(self._waiting):
            waiter.put(None)

    def wait_for(self, satisfied: Callable[[], object], timeout: float | None) -> bool:
        """Wait until `satisfied()`, which is called on this thread; returns False when the time is up.

        Args:
            satisfied: looked at now and after each change.
            timeout: seconds; None for ever.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        changed: SimpleQueue[None] = SimpleQueue()
        try:
            self._waiting.append(changed)
            while not satisfied():
                left = LONGEST_WAIT if deadline is None else min(LONGEST_WAIT, deadline - time.monotonic())
                if left <= 0:
                    return False
                try:
                    changed.get(timeout=left)
                except Empty:
                    pass
            return True
        finally:
            try:
                self._waiting.remove(changed)
            except ValueError:  # an interrupt came before it was added
                pass


class Flag:
    """Something that is so or not, and can be waited for, like an Event; without a lock, for the same reason."""

    def __init__(self) -> None:
        self._is_set = False
        self._changes = Notifier()

    def is_set(self) -> bool:
        """Whether it is so."""
        return self._is_set

    def set(self) -> None:
        """Make it so, and wake those who wait. Any thread, also in a signal handler."""
        self._is_set = True
        self._changes.notify()

    def clear(self) -> None:
        """Make it not so."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is so, at most `timeout` seconds; returns whether it is."""
        return self._changes.wait_for(self.is_set, timeout)
