"""Keep the library consistent when a signal interrupts the main thread.

Python runs signal handlers on the main thread, between any two bytecode instructions. Ctrl+C raises KeyboardInterrupt
there, and a handler may call `stop()` while the interrupted call holds a lock. Three rules follow:

- Code that starts or ends threads does not run on the main thread itself, but on a short-lived thread that the main
  thread waits for (`uninterrupted`). So nothing is left half started or half stopped.
- The main thread never waits on a `threading.Condition` or `threading.Event` that other threads use. These are written
  in Python, and an interrupt inside them can leave their lock held forever. A `SimpleQueue` and a plain lock in a
  `with` statement are written in C, and are not interrupted half-way.
- A `stop()` that was called from a signal handler inside another call of the library (`is_inside_a_call`) lets another
  thread do the work and returns at once, so that the interrupted call can continue and release its locks.
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
"""Seconds. A signal just before a blocking system call does not end that call, so a wait is divided into short ones:
Ctrl+C must not have to wait for the next message."""

UNDO_TIMEOUT: Final = 5.0
"""Seconds that an interrupted caller waits for the result that it has to undo."""

_HERE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
_CALLERS: Final = (
    *(_HERE + name + os.sep for name in ("cli", "compat", "doctor", "sandbox", "testing")),
    _HERE + "oneshot.py",
)
"""Parts of the package that use streams like any other program: they hold none of a stream's locks."""
_LOGGING: Final = os.path.dirname(os.path.abspath(logging.__file__)) + os.sep


def on_main_thread() -> bool:
    """Return whether this is the thread on which Python runs signal handlers."""
    return threading.get_ident() == threading.main_thread().ident


def is_inside_a_call(frame: FrameType | None) -> bool:
    """Return whether `frame` or one of its callers belongs to this library, or to `logging`, which has locks too.

    Args:
        frame: where to begin, which is the caller of the function that asks.
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
        action: the function to call.
        name: the name of the thread.

    Attributes:
        error: the exception that the action raised, if any.
        is_done: whether the action has ended. It is set after the result or the error, so a thread that sees it set
            may read both.
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
        """Start the action and return at once. At interpreter exit, when no thread can be started, run it here."""
        try:
            # `Thread.start` waits for the new thread in Python code: an interrupt there could leave its lock held.
            _thread.start_new_thread(self._launch, ())
        except RuntimeError:
            self._run()

    def _launch(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # no further thread can be started: run the action on this one
            self._thread = None
            self._run()

    def _run(self) -> None:
        try:
            self._values.append(self._action())
        except BaseException as error:  # noqa: BLE001  # `result` raises it
            self.error = error
        self.is_done = True
        self._ended.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds for the action to end; return whether it has."""
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
            thread.join(LONGEST_WAIT)  # short: the thread is about to exit
        return True

    def result(self) -> T:
        """Wait for the action to end; return its result, or raise its exception."""
        self.wait()
        if self.error is not None:
            raise self.error
        return self._values[0]


def uninterrupted(action: Callable[[], T], name: str, undo: Callable[[T], object] | None = None) -> T:
    """Run an action, on a thread of its own if the caller is the main thread; return its result, or raise its error.

    An interrupt ends the wait for the action, not the action itself.

    Args:
        action: the function to call.
        name: the name of the thread.
        undo: called with the result if an interrupt prevented the caller from getting it.
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
    """Wakes threads that wait for a change, like a Condition, but without a lock that an interrupted one could keep.

    A waiter appends its queue before it checks the condition, and a notifier makes its change before it reads the list:
    so either the check sees the change, or the notifier finds the queue. List operations are atomic in CPython.
    """

    def __init__(self) -> None:
        self._waiting: list[SimpleQueue[None]] = []

    def notify(self) -> None:
        """Let all waiting threads check their condition again. Any thread; call it after the change."""
        for waiter in list(self._waiting):
            waiter.put(None)

    def wait_for(self, satisfied: Callable[[], object], timeout: float | None) -> bool:
        """Wait until `satisfied()` is true; return False if it is not within `timeout`.

        Args:
            satisfied: called on this thread, now and after each change.
            timeout: seconds; None to wait without a limit.
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
            except ValueError:  # an interrupt came before the append
                pass


class Flag:
    """A flag that threads can wait for, like an Event; without a lock, for the same reason as `Notifier`."""

    def __init__(self) -> None:
        self._is_set = False
        self._changes = Notifier()

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._is_set

    def set(self) -> None:
        """Set the flag, and wake the waiting threads. Any thread, also in a signal handler."""
        self._is_set = True
        self._changes.notify()

    def clear(self) -> None:
        """Clear the flag."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds until the flag is set; return whether it is."""
        return self._changes.wait_for(self.is_set, timeout)
