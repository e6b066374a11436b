"""What a stream is doing, for whoever asks or waits."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass

from finx_sync.errors import FinxSyncError
from finx_sync.interrupts import Notifier

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
    """The state, and a way to wait for one. Safe from any thread; `on_change` is called under no lock."""

    def __init__(self, on_change: Callable[[StateChange], None]) -> None:
        self._lock = threading.Lock()  # guards _now being replaced
        self._on_change = on_change
        self._changes = Notifier()
        # In one piece: whoever sees the state sees the reason that belongs to it.
        self._now: tuple[State, FinxSyncError | None] = (State.NEW, None)

    @property
    def state(self) -> State:
        """The state now."""
        return self._now[0]

    @property
    def failure(self) -> FinxSyncError | None:
        """Why the stream failed; None unless it did."""
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
        """Change the state, and wake those who wait.

        Args:
            new: the state to go to.
            reason: why.
            unless: states that are not left, so that a late event cannot undo a stop.
            provided: asked when nobody else can change the state, so that it is not overtaken by what it asks about.
        """
        with self._lock:
            old, _ = self._now
            if old in unless or old is new or not provided():
                return False
            self._now = (new, reason)
        self._changes.notify()
        self._on_change(StateChange(old, new, reason))
        return True

    def wait(self, satisfied: Callable[[State], bool], timeout: float | None) -> bool:
        """Wait until the state is as wanted; returns False when the time is up."""
        return self._changes.wait_for(lambda: satisfied(self.state), timeout)
