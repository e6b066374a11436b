"""`RelaySource`: a relay's feed in place of connections to the venue, for one run of a stream.

Its events go through the same queue into the same pipeline. One logical `Connection` stays open from the beginning to
the end: a cut of the connection to Redis is no gap, since reading goes on where it was. What is missing all the same
comes as `GapReported`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from finx_sync.clock import Clock
from finx_sync.errors import ConfigError, ConnectionLostError, FinxSyncError
from finx_sync.events import (
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from finx_sync.notices import GapReason
from finx_sync.pipeline.commands import Command, DropSubscription, FailStream
from finx_sync.pipeline.queue import EventQueue
from finx_sync.redaction import shown
from finx_sync.relay.about import About, about_of
from finx_sync.relay.address import RelayAddress
from finx_sync.relay.events import PartitionEvents
from finx_sync.relay.feed import SILENCE, PartitionFeed
from finx_sync.relay.reader import FeedReader, Opening
from finx_sync.session.failures import is_fatal, too_slow
from finx_sync.session.flight import FlightRecorder
from finx_sync.session.manager import MakeConnections
from finx_sync.session.parts import SessionParts
from finx_sync.session.status import OVER, Status
from finx_sync.state import State
from finx_sync.venues.base import MAIN_ENDPOINT, Notify, Subscription

__all__ = ["RelaySource", "reading_from"]

OURS: Final = frozenset({"reconnect", "suspend"})
"""Why another connection to Redis is opened; a key that is rotated, or a feed that falls behind, is not Redis's."""


def reading_from(url: str, venue: str) -> MakeConnections:
    """What makes a session read a feed.

    Args:
        url: of the feed.
        venue: the venue's name; the feed has the same name unless the URL gives another.

    Raises:
        ConfigError: the URL cannot be used.
    """
    address = RelayAddress.parse(url, default_feed=venue.lower())

    def make(
        parts: SessionParts, queue: EventQueue, status: Status, clock: Clock, flight: FlightRecorder
    ) -> RelaySource:
        return RelaySource(address, parts, queue, status=status, clock=clock, flight=flight)

    return make


class RelaySource:
    """Reads a feed; see `ConnectionManager`.

    Args:
        address: of the feed.
        parts: the stream's.
        queue: where events go.
        status: the run's.
        clock: times.
        flight: the flight recorder.

    Attributes:
        codec, queue, clock, flight, connection, about, version: see `FeedRun`.
    """

    def __init__(
        self,
        address: RelayAddress,
        parts: SessionParts,
        queue: EventQueue,
        *,
        status: Status,
        clock: Clock,
        flight: FlightRecorder,
    ) -> None:
        self.codec = parts.codec
        self.queue = queue
        self.clock = clock
        self.flight = flight
        self.connection = Connection(MAIN_ENDPOINT)
        self.connection.is_confirmed = True
        self.about = About({})
        self.version = 0
        self._address = address
        self._parts = parts
        self._status = status
        self._lock = threading.RLock()  # guards what follows; re-entrant for signal handlers
        self._wanted: dict[Subscription, None] = {}
        self._feeds: dict[PartitionFeed, PartitionEvents] = {}
        self._is_known = False  # whether the relay has said what the feed is
        self._opened_at = 0.0
        self._has_opened = False
        self._stopped = False
        self._error: FinxSyncError | None = None

    # Subscriptions; see `ConnectionManager`

    def wanted(self) -> list[Subscription]:
        """The wanted subscriptions."""
        with self._lock:
            return list(self._wanted)

    def added(self, subscriptions: Iterable[Subscription]) -> None:
        """Want more from now on."""
        for one in subscriptions:
            self.queue.emit(SubscriptionAdded, one, MAIN_ENDPOINT)
            with self._lock:
                self._wanted[one] = None
                self.version += 1

    def removed(self, subscription: Subscription) -> None:
        """Want one less."""
        self.queue.emit(SubscriptionRemoved, subscription, MAIN_ENDPOINT)
        with self._lock:
            self._wanted.pop(subscription, None)
            self.version += 1

    @property
    def fit(self) -> bool:
        """Whether `adjust` has nothing to do: one set of threads reads whatever is wanted."""
        with self._lock:
            return self._stopped or bool(self._feeds)

    def adjust(self) -> None:
        """Begin to read."""
        self._begin([0])

    def match_urls(self) -> None:
        """There are none."""

    def _begin(self, partitions: Iterable[int]) -> None:
        with self._lock:
            known = {feed.partition for feed in self._feeds}
            if self._stopped or self._status.state in OVER:
                return
            for partition in partitions:
                if partition not in known:
                    events, reader = PartitionEvents(self, partition), FeedReader(self._address, partition)
                    feed = PartitionFeed(
                        reader,
                        partition,
                        events,
                        self._parts.options.reconnect,
                        may_move="+" in self._address.scheme,
                    )
                    self._feeds[feed] = events
                    feed.start()

    # Other connections

    def renew_all(self, reason: GapReason, on_refused: Callable[[], object] = lambda: None) -> None:
        """Open another connection to Redis, if that is what was asked for."""
        self.reconnect_all(reason)

    def reconnect_all(self, reason: GapReason) -> None:
        """Open another connection to Redis, if that can help."""
        if reason in OURS:
            for feed in self._all():
                feed.reconnect()

    def execute(self, command: Command) -> None:
        """See `CommandSink`. What concerns the venue's own connections is the relay's to do."""
        match command:
            case DropSubscription():
                self._parts.subscriptions.refused(command.subscription)
            case Notify():
                self._parts.venue_changes.notify()
            case FailStream():
                self.fail(command.error)

    # What the partitions report, on their io threads

    def learn(self, opening: Opening) -> None:
        """See `FeedRun`."""
        if self._is_known and not opening.about:  # Redis was emptied; a relay that writes on will say it again
            return
        about = about_of(opening.about, self._address, self.codec.venue)
        if self._is_known and about.partitions != self.about.partitions:
            raise ConfigError(
                f"the feed {self._address.feed!r} had {self.about.partitions} partitions and has {about.partitions} "
                "now: start the stream again"
            )
        if self._is_known:  # of that, notices tell, and only they
            about.is_open, about.why = self.about.is_open, self.about.why
        self.about = about
        if not self._is_known:
            self._is_known = True
            self._opened_at = self.clock.monotonic()
            self.queue.emit(ConnectionOpened, self.connection)
            self._begin(range(about.partitions))

    def changed(self) -> None:
        """See `FeedRun`."""
        with self._lock:
            if not self._has_opened:
                self._has_opened = self._is_known and all(one.has_joined for one in self._feeds.values())
                if not self._has_opened:
                    return
        if not self._status.move(State.OPEN, unless=OVER, provided=self._is_open):
            self._status.move(State.RECONNECTING, self._why(), unless=OVER, provided=lambda: not self._is_open())

    def _is_open(self) -> bool:
        feeds = self._all()
        return self.about.is_open and all(feed.is_connected for feed in feeds) and not _are_silent(feeds)

    def _why(self) -> FinxSyncError:
        feeds = self._all()
        if not all(feed.is_connected for feed in feeds) and self._error is not None:
            return self._error
        if _are_silent(feeds):
            return ConnectionLostError(
                f"the relay of the feed {self._address.feed!r} has been silent for {SILENCE:g} s"
            )
        why = f": {shown(self.about.why, 300)}" if self.about.why else ""
        return ConnectionLostError(f"the relay of the feed {self._address.feed!r} is not connected to the venue{why}")

    def ended(self, feed: PartitionFeed, error: FinxSyncError) -> bool:
        """See `FeedOwner`."""
        if is_fatal(error) or not (self._has_opened or feed.is_in_hurry):
            self.fail(error)
            return False
        self._error = error
        self.flight.note("closed", f"partition {feed.partition}: {error}")
        if feed.was_connected:
            self._status.lost()
        self.changed()
        return True

    def left(self, feed: PartitionFeed) -> None:
        """See `FeedOwner`."""
        with self._lock:
            feed.has_left = True
            if not self._is_known or not all(one.has_left for one in self._feeds) or self.connection.is_over:
                return
            self.connection.is_over = True
        heard = min(one.reader.heard_at for one in self._all())
        until = max(heard, self._opened_at) + self.clock.offset
        by_stop = self._status.state in OVER
        self.queue.emit(ConnectionClosed, self.connection, until, "connection lost", by_stop)

    def overflowed(self) -> None:
        """See `FeedRun`."""
        self.fail(too_slow(self._parts.options.queue_size))

    # The end

    def fail(self, error: FinxSyncError) -> None:
        """No further attempt follows, and the stream ends with an error, after what has been received."""
        self._status.fail(error)
        self.stop()
        self.queue.close()

    def stop(self) -> None:
        """End all io threads. Returns at once."""
        with self._lock:
            self._stopped = True
        for feed in self._all():
            feed.stop()

    def join(self, deadline: float) -> bool:
        """Wait until `deadline` (monotonic) for all to end; returns whether they have."""
        ended = True
        for feed in self._all():
            ended = feed.join(max(0.0, deadline - time.monotonic())) and ended
        return ended

    def _all(self) -> list[PartitionFeed]:
        with self._lock:
            return list(self._feeds)


def _are_silent(feeds: list[PartitionFeed]) -> bool:
    """Whether the relay is; a partition by itself may have nothing to say."""
    return all(feed.is_silent for feed in feeds)
