"""What a stream is doing, for whoever asks or waits."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from finx_sync.errors import FinxSyncError

__all__ = ["State", "StateBox", "StateChange"]


class State(enum.Enum):
    """A stream's states; `value` is what texts show."""

    NEW = "new"
    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


ENDED = frozenset({State.NEW, State.STOPPED, State.FAILED})
"""Nothing runs in these."""


@dataclass(frozen=True)
class StateChange:
    """What `on_state` is given.

    Attributes:
        old, new: the states.
        reason: why, as an error, where something went wrong.
    """

    old: State
    new: State
    reason: FinxSyncError | None = None


class StateBox:
    """The state, and a condition to wait on. Safe from any thread; `on_change` is called under no lock."""

    def __init__(self, on_change: Callable[[StateChange], None]) -> None:
        self._condition = threading.Condition()
        self._on_change = on_change
        self._state = State.NEW
        self._reason: FinxSyncError | None = None

    @property
    def state(self) -> State:
        """The state now."""
        return self._state

    @property
    def failure(self) -> FinxSyncError | None:
        """Why the stream failed; None unless it did."""
        return self._reason if self._state is State.FAILED else None

    def move(
        self,
        new: State,
        reason: FinxSyncError | None = None,
        *,
        unless: frozenset[State] = frozenset(),
        provided: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Change the state, and wake those who wait.

        Args:
            new: the state to go to.
            reason: why.
            unless: states that are not left, so that a late event cannot undo a stop.
            provided: asked when nobody else can change the state, so that it is not overtaken by what it asks about.
        """
        with self._condition:
            old = self._state
            if old in unless or old is new or not provided():
                return False
            self._state, self._reason = new, reason
            self._condition.notify_all()
        self._on_change(StateChange(old, new, reason))
        return True

    def wait(self, satisfied: Callable[[State], bool], timeout: float | None) -> bool:
        """Wait until the state is as wanted; returns False when the time is up."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while not satisfied(self._state):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._condition.wait(left)
        return True
