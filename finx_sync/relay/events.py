"""`PartitionEvents`: turns what is read from one partition of a feed into a stream's events. On its io thread."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, get_args

from finx_sync.clock import Clock
from finx_sync.errors import AuthorizationError, ConnectionLostError, FinxSyncError, SubscriptionRefusedError
from finx_sync.events import Batch, Connection, ErrorOccurred, GapReported, LastValuesRead, Reached
from finx_sync.notices import Gap, GapReason
from finx_sync.pipeline.queue import EventQueue
from finx_sync.recorder import reasons
from finx_sync.redaction import shown
from finx_sync.relay import wire
from finx_sync.relay.about import About
from finx_sync.relay.feed import PartitionFeed
from finx_sync.relay.filtering import TagFilter
from finx_sync.relay.reader import Hole, Notice, Opening, Read, Records
from finx_sync.relay.wire import Position
from finx_sync.session.flight import FlightRecorder
from finx_sync.venues.base import Codec, Subscription

__all__ = ["FeedRun", "PartitionEvents"]

REASONS: Final = frozenset(get_args(GapReason))
ABSENT: Final = "the relay of this feed does not subscribe to it: name it where the relay is started"
DEMAND_INTERVAL: Final = 10.0
DEMANDED: Final = 30.0
"""Seconds between two demands, and seconds that one holds: a reader that has ended is forgotten soon."""
JOIN_PATIENCE: Final = 5.0
"""Seconds for the dispatch thread to take in the last values before the stream counts as open."""


class FeedRun(Protocol):
    """The run that the partitions of a feed belong to. Any thread.

    Attributes:
        codec, queue, clock, flight: the run's.
        connection: the logical connection.
        about: what the relay says; set before any partition is read.
        version: how often the wanted subscriptions have changed.
    """

    codec: Codec
    queue: EventQueue
    clock: Clock
    flight: FlightRecorder
    connection: Connection
    about: About
    version: int

    def wanted(self) -> list[Subscription]:
        """The wanted subscriptions."""

    def learn(self, opening: Opening) -> None:
        """What the relay says about the feed; called by partition 0 each time that it is opened.

        Raises:
            FinxSyncError: this stream cannot read the feed.
        """

    def changed(self) -> None:
        """The state may be another one."""

    def ended(self, feed: PartitionFeed, error: FinxSyncError) -> bool:
        """See `FeedOwner`."""

    def left(self, feed: PartitionFeed) -> None:
        """See `FeedOwner`."""

    def fail(self, error: FinxSyncError) -> None:
        """See `FeedOwner`."""

    def overflowed(self) -> None:
        """More messages wait than may, and the rule is to end the stream."""


class PartitionEvents:
    """The owner of one `PartitionFeed`.

    Args:
        run: what it belongs to.
        partition: the partition's number.

    Attributes:
        has_joined: whether the last values of what was wanted at first have been handled.
    """

    def __init__(self, run: FeedRun, partition: int) -> None:
        self._run = run
        self._partition = partition
        self._filter = TagFilter(run.codec)
        self._version = -1
        self._known: set[Subscription] = set()
        self._demand_at = 0.0
        self.has_joined = False
        self.changed, self.ended = run.changed, run.ended
        self.left, self.fail = run.left, run.fail

    # What `FeedOwner` asks for

    def tags(self) -> list[bytes]:
        """The tags whose last values are read at the opening."""
        return [] if self.has_joined else self._tags_of(self._run.wanted())

    def opened(self, feed: PartitionFeed, opening: Opening) -> None:
        """See `FeedOwner`."""
        if self._partition == 0:
            self._run.learn(opening)
        self._run.flight.note("open", f"partition {self._partition} at {feed.reader.position}")
        for tag in opening.damaged:
            self._report(ConnectionLostError(f"the last value of {shown(repr(tag), 100)} cannot be read"))
        if not self.has_joined:
            self._take_news(feed, opening)
            self._wait_until_handled(feed)
            self.has_joined = True

    def read(self, feed: PartitionFeed, parts: list[Read]) -> None:
        """See `FeedOwner`."""
        arrived = self._run.clock.monotonic()
        for part in parts:
            if isinstance(part, Records):
                self._put(feed, self._filter.sift(part.tags, part.payloads), part.at, arrived)
            elif isinstance(part, Hole):
                self._report_gap(Gap(part.start, part.end, (), part.reason, part.missed))
            else:
                self._note(part)

    def look(self, feed: PartitionFeed) -> None:
        """See `FeedOwner`."""
        if self._version != self._run.version:
            self._take_news(feed)
        if self._partition == 0 and self._run.about.on_demand and time.monotonic() >= self._demand_at:
            self._demand(feed)

    # Messages

    def _put(self, feed: PartitionFeed, payloads: list[bytes], at: float, arrived: float) -> None:
        if not payloads:
            return
        run = self._run
        payloads = _readable(payloads)
        if not run.queue.put(Batch(payloads, at, arrived, run.connection), feed):
            run.overflowed()
        run.flight.frames(arrived, payloads)

    # Subscriptions

    def _take_news(self, feed: PartitionFeed, opening: Opening | None = None) -> None:
        """Begin to read for subscriptions that are new. `opening` has the values of the moment at which reading began.

        Values that were written after the last record that was read are left out: their messages are still to come.
        """
        run, reader, end = self._run, feed.reader, feed.reader.position
        self._version = run.version  # before the rest: what comes meanwhile is news again
        wanted = run.wanted()
        new = [one for one in wanted if one not in self._known]
        self._known = set(wanted)
        self._filter.want(self._known)
        if self._demand_at < math.inf:
            self._demand_at = 0.0
        if not new:
            return
        tags = self._tags_of(new)
        last = reader.last_values(tags) if opening is None else opening.last
        old = [one for one in last.values() if end is not None and one.position <= end]
        granted = [one for one in new if self._is_mine(one) and run.about.lists(one, run.codec)]
        payloads, times = tuple(_readable([one.payload for one in old])), tuple(one.at for one in old)
        run.queue.emit(LastValuesRead, payloads, times, tuple(granted))
        if self._partition == 0 and not run.about.on_demand:
            self._report_absent(one for one in new if one not in granted and not run.about.lists(one, run.codec))
        if end is not None:
            self._catch_up(feed, new, reader.snapshots() if opening is None else opening.since, end)

    def _catch_up(
        self, feed: PartitionFeed, new: list[Subscription], snapshots: Mapping[bytes, Position], end: Position
    ) -> None:
        """Read tables and books that consist of changes from their newest snapshots on, up to where the reader is."""
        wanted = TagFilter(self._run.codec)
        wanted.want(set(new))
        begin = {tag: since for tag, since in snapshots.items() if since <= end and wanted.passes(tag)}
        if not begin:
            return
        lost = dict(begin)  # snapshots that are not found
        arrived = self._run.clock.monotonic()
        for entry, parts in feed.reader.between(min(begin.values()), end):
            for part in parts:
                if isinstance(part, Records):
                    pairs = zip(part.tags, part.payloads, strict=True)
                    found = [payload for tag, payload in pairs if tag in begin and begin[tag] <= entry]
                    self._put(feed, found, part.at, arrived)
            for tag in [tag for tag, since in lost.items() if since == entry]:
                del lost[tag]
            if not feed.wait_while_pausing():
                return
        for tag in lost:
            self._report(
                ConnectionLostError(
                    f"the newest snapshot of {tag.decode('utf-8', 'replace')} is no longer in Redis; it is complete "
                    "again when the relay receives the next one"
                )
            )

    def _is_mine(self, subscription: Subscription) -> bool:
        return wire.partition_of(wire.tag_of(*subscription), self._run.about.partitions) == self._partition

    def _tags_of(self, subscriptions: Iterable[Subscription]) -> list[bytes]:
        """Their tags. At the first opening the number of partitions is not known; then none is left out."""
        return [wire.tag_of(*one) for one in subscriptions]

    def _report_absent(self, subscriptions: Iterable[Subscription]) -> None:
        for one in subscriptions:
            self._report(SubscriptionRefusedError(one.kind, one.name, ABSENT))

    def _demand(self, feed: PartitionFeed) -> None:
        self._demand_at = time.monotonic() + DEMAND_INTERVAL
        try:
            feed.reader.demand(self._tags_of(self._known), DEMANDED)
        except (
            AuthorizationError
        ) as error:  # a user who may only read; the feed may contain what is wanted all the same
            self._demand_at = math.inf
            self._report(error)
            raise ConnectionLostError("Redis refused a demand; reading goes on without it") from error

    def _wait_until_handled(self, feed: PartitionFeed) -> None:
        """So that `latest` has the last values when `start` returns."""
        handled, deadline = threading.Event(), time.monotonic() + JOIN_PATIENCE
        self._run.queue.emit(Reached, handled)
        while not handled.wait(0.05) and not feed.is_stopping and time.monotonic() < deadline:
            pass

    # What the relay says

    def _note(self, notice: Notice) -> None:
        content = notice.content
        if notice.name == wire.GAP:
            self._report_gap(_gap(content, notice.at))
        elif notice.name == wire.TERM:
            self._run.flight.note("term", f"{notice.position.term} of partition {self._partition}")
        elif self._partition == 0:  # the others repeat it
            self._note_of_all(notice.name, content)

    def _note_of_all(self, name: bytes, content: Mapping[str, Any]) -> None:
        """Names that are not known yet are left alone: a newer relay may write them."""
        about = self._run.about
        if name == wire.STATE:
            about.change_state(content)
            self._run.changed()
        elif name == wire.SUBSCRIPTIONS:
            before = [one for one in self._known if about.lists(one, self._run.codec)]
            about.change_subscriptions(content)
            self._report_absent(one for one in before if not about.lists(one, self._run.codec))
        elif name == wire.ERROR:
            kind, text = str(content.get("type") or "FinxSyncError"), shown(str(content.get("text") or ""), 1000)
            error = reasons.read(kind, text, {})
            self._report(FinxSyncError(text) if error is None else error)

    def _report_gap(self, gap: Gap) -> None:
        """Report a gap; where the feed has several partitions, only for the names of this one."""
        if self._run.about.partitions > 1:
            names = tuple(one.name for one in self._known if self._is_mine(one))
            names = tuple(name for name in names if not gap.names or name in gap.names)
            if not names:
                return
            gap = Gap(gap.start, gap.end, names, gap.reason, gap.missed)
        self._run.queue.emit(GapReported, gap)

    def _report(self, error: FinxSyncError) -> None:
        self._run.queue.emit(ErrorOccurred, error, f"{self._run.codec.venue}: the relay's feed")


def _gap(content: Mapping[str, Any], at: float) -> Gap:
    """The gap that a notice is about; what it does not say, or says wrongly, is left open."""
    start, end, missed, names, reason = (content.get(name) for name in ("start", "end", "missed", "names", "reason"))
    begin = float(start) if isinstance(start, (int, float)) else at
    known: Any = reason if reason in REASONS else "relay lost"
    return Gap(
        begin,
        max(begin, float(end) if isinstance(end, (int, float)) else at),
        tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else (),
        known,
        missed if isinstance(missed, int) else None,
    )


def _readable(payloads: list[bytes]) -> list[bytes]:
    """Payloads that are valid UTF-8, as those of a websocket are; another program may have written others."""
    if b"".join(payloads).isascii():
        return payloads
    return [_as_text(payload) for payload in payloads]


def _as_text(payload: bytes) -> bytes:
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        return b"binary: " + payload.decode("utf-8", "backslashreplace").encode()
    return payload
