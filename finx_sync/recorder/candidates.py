"""The new connections of recorded replacements; the records that follow contain their outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from finx_sync.events import Connection
from finx_sync.pipeline.wanted import Wanted
from finx_sync.venues.base import Subscription

__all__ = ["Assumed", "Carried", "Planned"]

View = Callable[[], Iterable[Subscription]]


class Carried:
    """The subscriptions requested on each recorded connection: those wanted when it opened or while it was the newest.

    Args:
        wanted: the wanted subscriptions.
        by_url: whether the URL names them, so that none is requested later.
    """

    def __init__(self, wanted: Wanted, *, by_url: bool) -> None:
        self._wanted = wanted
        self._by_url = by_url
        self._of: dict[Connection, dict[Subscription, None]] = {}

    def opened(self, connection: Connection) -> None:
        """Record that a connection opened: all wanted subscriptions of its endpoint are requested on it."""
        self._of[connection] = dict.fromkeys(self._wanted.of(connection.endpoint))

    def asked(self, subscription: Subscription, *newest: Connection) -> None:
        """Record an added subscription, which is requested on the newest connection of its endpoint, if any."""
        if not self._by_url:
            for connection in newest:
                self._of.setdefault(connection, {})[subscription] = None

    def closed(self, connection: Connection, left: Iterable[Connection]) -> None:
        """Record that a connection closed: its subscriptions are requested on the endpoint's other connections."""
        self._of.pop(connection, None)
        if not self._by_url:
            for other in left:
                self._of[other].update(dict.fromkeys(self._wanted.of(other.endpoint)))

    def view(self, connection: Connection) -> View:
        """Return a function that returns the subscriptions requested on a connection at the time of the call."""
        return lambda: list(self._of.get(connection, ()))


class Assumed:
    """A candidate of which only the opening is known: it takes over as soon as possible."""

    is_confirmed = True

    def __init__(self, connection: Connection, carried: View) -> None:
        self._connection = connection
        self.carried = carried

    def owns(self, connection: Connection) -> bool:
        """Return whether `connection` is this candidate's."""
        return connection is self._connection

    def take_over(self, new: Connection, timer: float) -> bool:
        """Return True: it always takes over."""
        return True

    def give_up(self) -> None:
        """Do nothing: the recording contains what followed."""


class Planned:
    """A candidate that takes over when the recorded one did.

    Args:
        owner: the recorder's number for the opener of the connection.
        decided_at: returns the timer at which it took over; 0 if the older connection's end decided it, None if it
            never took over.
        settled: returns the timer that is being handled.
        carried: returns the subscriptions requested on the older connection.
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
        """Set the connection, which is open now, and return it."""
        self._connection = connection
        connection.is_given_up = self._is_given_up
        return connection

    @property
    def is_confirmed(self) -> bool:
        """Whether it takes over at the present timer."""
        return self._connection is not None and self._decided_at(self._connection) == self._settled()

    def owns(self, connection: Connection) -> bool:
        """Return whether `connection` is this candidate's."""
        return connection is self._connection

    def take_over(self, new: Connection, timer: float) -> bool:
        """Return whether the recorded candidate took over."""
        return self._decided_at(new) is not None

    def give_up(self) -> None:
        """Mark its connection as given up, now or when it opens, because another one serves the endpoint."""
        self._is_given_up = True
        if self._connection is not None:
            self._connection.is_given_up = True
