"""A stream's state, and how to wait for a change of it."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass

from finx_sync.errors import FinxSyncError
from finx_sync.interrupts import Notifier

__all__ = ["State", "StateBox", "StateChange"]


class State(enum.Enum):
    """A stream's states; `value` is the word used in messages."""

    NEW = "new"
    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


ENDED = frozenset({State.NEW, State.STOPPED, State.FAILED})
"""The states in which nothing is running."""


@dataclass(frozen=True)
class StateChange:
    """The argument of `on_state` handlers.

    Attributes:
        old, new: the states before and after the change.
        reason: the error that caused the change, if one did.
    """

    old: State
    new: State
    reason: FinxSyncError | None = None


class StateBox:
    """Holds the state, and lets threads wait for one. Safe to use from any thread.

    `on_change` is called without holding a lock, so it may call back into this object.
    """

    def __init__(self, on_change: Callable[[StateChange], None]) -> None:
        self._lock = threading.Lock()  # held to check and replace `_now`, so that no two threads change it at once
        self._on_change = on_change
        self._changes = Notifier()
        # One tuple, replaced in one assignment: readers need no lock and always see a state with its own reason.
        self._now: tuple[State, FinxSyncError | None] = (State.NEW, None)

    @property
    def state(self) -> State:
        """The current state."""
        return self._now[0]

    @property
    def failure(self) -> FinxSyncError | None:
        """Why the stream failed; None if it has not failed."""
        state, reason = self._now
        return reason if state is State.FAILED else None

    def move(
        self,
        new: State,
        reason: FinxSyncError | None = None,
        *,
        unless: frozenset[State] = frozenset(),
        provided: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Change the state, and wake the waiting threads.

        Args:
            new: the state to change to.
            reason: the error that caused the change.
            unless: states that must not be left, so that a late event cannot undo a stop.
            provided: a condition for the change. It is evaluated under the lock, so the state cannot change between
                the check and the assignment.

        Returns:
            Whether the state has changed.
        """
        with self._lock:
            old, _ = self._now
            if old in unless or old is new or not provided():
                return False
            self._now = (new, reason)
        # After the lock is released: waiting threads and `on_change` may read or change the state again.
        self._changes.notify()
        self._on_change(StateChange(old, new, reason))
        return True

    def wait(self, satisfied: Callable[[State], bool], timeout: float | None) -> bool:
        """Wait until `satisfied` returns True for the state. Returns False after `timeout` seconds."""
        return self._changes.wait_for(lambda: satisfied(self.state), timeout)
