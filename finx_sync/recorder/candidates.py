"""The new connection of a replacement that has been recorded: what became of it is in the records that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from finx_sync.events import Connection
from finx_sync.pipeline.wanted import Wanted
from finx_sync.venues.base import Subscription

__all__ = ["Assumed", "Carried", "Planned"]

View = Callable[[], Iterable[Subscription]]


class Carried:
    """What each recorded connection was asked for: all that was wanted when it opened, and while it was the newest.

    Args:
        wanted: the subscriptions.
        by_url: whether the URL asks for them, so that nothing is asked for later.
    """

    def __init__(self, wanted: Wanted, *, by_url: bool) -> None:
        self._wanted = wanted
        self._by_url = by_url
        self._of: dict[Connection, dict[Subscription, None]] = {}

    def opened(self, connection: Connection) -> None:
        """It is asked for what is wanted of its endpoint."""
        self._of[connection] = dict.fromkeys(self._wanted.of(connection.endpoint))

    def asked(self, subscription: Subscription, *newest: Connection) -> None:
        """A subscription was added, and asked of the newest connection of its endpoint, if there is one."""
        if not self._by_url:
            for connection in newest:
                self._of.setdefault(connection, {})[subscription] = None

    def closed(self, connection: Connection, left: Iterable[Connection]) -> None:
        """It is gone; those that are left are asked for what was asked of it alone."""
        self._of.pop(connection, None)
        if not self._by_url:
            for other in left:
                self._of[other].update(dict.fromkeys(self._wanted.of(other.endpoint)))

    def view(self, connection: Connection) -> View:
        """Says what it was asked for, whenever it is called."""
        return lambda: list(self._of.get(connection, ()))


class Assumed:
    """A candidate that is known only to be open: it takes over as soon as it can."""

    is_confirmed = True

    def __init__(self, connection: Connection, carried: View) -> None:
        self._connection = connection
        self.carried = carried

    def owns(self, connection: Connection) -> bool:
        """Whether it is this one."""
        return connection is self._connection

    def take_over(self, new: Connection, timer: float) -> bool:
        """It does."""
        return True

    def give_up(self) -> None:
        """The recording goes on as it did."""


class Planned:
    """A candidate that takes over when it did.

    Args:
        owner: the recorder's number of whoever opens it.
        decided_at: the timer at which it took over, 0 for the older one's end, None if it never did.
        settled: the timer that is being handled.
        carried: what the older one was asked for.
    """

    def __init__(
        self,
        owner: int,
        decided_at: Callable[[Connection], float | None],
        settled: Callable[[], float],
        carried: View,
    ) -> None:
        self.owner = owner
        self.carried = carried
        self._decided_at = decided_at
        self._settled = settled
        self._is_given_up = False
        self._connection: Connection | None = None

    def open(self, connection: Connection) -> Connection:
        """Its connection is open now; returns it."""
        self._connection = connection
        connection.is_given_up = self._is_given_up
        return connection

    @property
    def is_confirmed(self) -> bool:
        """Whether it takes over at this timer."""
        return self._connection is not None and self._decided_at(self._connection) == self._settled()

    def owns(self, connection: Connection) -> bool:
        """Whether it is its connection."""
        return connection is self._connection

    def take_over(self, new: Connection, timer: float) -> bool:
        """Whether it did."""
        return self._decided_at(new) is not None

    def give_up(self) -> None:
        """Another serves the endpoint: what it still opens is superfluous."""
        self._is_given_up = True
        if self._connection is not None:
            self._connection.is_given_up = True
