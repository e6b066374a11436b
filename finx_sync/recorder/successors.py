"""The new connection of a replacement that has been recorded: what became of it is in the records that follow."""

from __future__ import annotations

from collections.abc import Callable

from finx_sync.pipeline.queue import Connection

__all__ = ["Assumed", "Planned"]


class Assumed:
    """A successor of which nothing more is known than that it is open: it takes over as soon as it can."""

    is_confirmed = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def owns(self, connection: Connection) -> bool:
        """Whether it is this one."""
        return connection is self._connection

    def take_over(self, new: Connection) -> bool:
        """It does."""
        return True

    def give_up(self) -> None:
        """The recording goes on as it did."""


class Planned:
    """A successor that takes over when it did.

    Args:
        owner: the recorder's number of whoever opens it.
        decided_at: the look at which it took over, 0 for the older one's end, None if it never did.
        looked: the present look.
    """

    def __init__(
        self, owner: int, decided_at: Callable[[Connection], float | None], looked: Callable[[], float]
    ) -> None:
        self.owner = owner
        self._decided_at = decided_at
        self._looked = looked
        self._is_given_up = False
        self._connection: Connection | None = None

    def open(self, line: str) -> Connection:
        """Its connection, which is open now."""
        self._connection = Connection(line, lambda: self._is_given_up)
        return self._connection

    @property
    def is_confirmed(self) -> bool:
        """Whether it takes over at this look."""
        return self._connection is not None and self._decided_at(self._connection) == self._looked()

    def owns(self, connection: Connection) -> bool:
        """Whether it is its connection."""
        return connection is self._connection

    def take_over(self, new: Connection) -> bool:
        """Whether it did."""
        return self._decided_at(new) is not None

    def give_up(self) -> None:
        """Another serves the line: what it still opens is superfluous."""
        self._is_given_up = True
