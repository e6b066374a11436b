"""What a session needs of whatever brings it events: connections to a venue, or a relay's feed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from finx_sync.clock import Clock
from finx_sync.errors import FinxSyncError
from finx_sync.notices import GapReason
from finx_sync.pipeline.commands import CommandSink
from finx_sync.pipeline.queue import EventQueue
from finx_sync.session.flight import FlightRecorder
from finx_sync.venues.base import Subscription

if TYPE_CHECKING:
    from finx_sync.session.parts import SessionParts
    from finx_sync.session.status import Status

__all__ = ["ConnectionManager", "MakeConnections"]


class ConnectionManager(CommandSink, Protocol):
    """Opens connections, puts what they bring into the queue, and moves the state. Its methods are for any thread."""

    @property
    def fit(self) -> bool:
        """Whether `adjust`, which starts and ends threads, has nothing to do now."""

    def adjust(self) -> None:
        """Have exactly the connections that the subscriptions need; the first call begins the run."""

    def added(self, subscriptions: Iterable[Subscription]) -> None:
        """Subscriptions are about to be asked for: this has to be known before any answer comes."""

    def removed(self, subscription: Subscription) -> None:
        """A subscription is about to be taken back."""

    def match_urls(self) -> None:
        """Called at each look of the health monitor: replace connections that ask for others than are wanted."""

    def renew_all(self, reason: GapReason, on_refused: Callable[[], object] = ...) -> None:
        """Replace every connection; `on_refused` is called if the server refuses the key on the new one."""

    def reconnect_all(self, reason: GapReason) -> None:
        """Close every connection and open another at once: none of them can be trusted."""

    def fail(self, error: FinxSyncError) -> None:
        """No further attempt follows, and the stream ends with an error, after what has been received."""

    def stop(self) -> None:
        """End all io threads, and start no others. Returns at once."""

    def join(self, deadline: float) -> bool:
        """Wait until `deadline` (monotonic) for all to end; returns whether they have."""


MakeConnections = Callable[["SessionParts", EventQueue, "Status", Clock, FlightRecorder], ConnectionManager]
"""Makes the connections of one run, without any I/O."""
