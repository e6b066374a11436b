"""Tracks each subscription, and reports every gap before the message that follows it.

Everything here runs on the dispatch thread, in order with the messages; only `coverage` may be called from any thread.
Nothing here reads a clock: the time is that of the event or message being handled, so a replay gives the same gaps.

A subscription is *flowing* after its first message, the server's confirmation, or the answer to a probe that was sent
after the request. Servers read in order, so the answer to the probe proves that the request was read. If none of these
arrives, the subscription is assumed to be flowing after `SETTLE` seconds. It is *lost* when its connection ends.
Messages may be missing from the last message of that connection on: up to it, TCP has delivered everything.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from finx_sync.events import (
    Candidate,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    MessagesDropped,
    RecordingDamaged,
    ReplacementBegan,
)
from finx_sync.messages import Message
from finx_sync.notices import Gap, GapReason, Interval
from finx_sync.pipeline.backfill import Backfill, Fetched, Filling
from finx_sync.pipeline.catchup import Conflated
from finx_sync.pipeline.coverage import Coverage
from finx_sync.pipeline.delivery import Delivery
from finx_sync.pipeline.overlap import Verdict, mark, skip_to
from finx_sync.pipeline.replacement import Replacement
from finx_sync.pipeline.venue import VenueDriver
from finx_sync.pipeline.wanted import Wanted
from finx_sync.venues.base import Codec, Subscription

__all__ = ["GapTracker"]

SETTLE: Final = 5.0
"""Seconds after which a subscription is assumed to be flowing, if nothing has proved it."""


@dataclass
class _Pending:
    """A subscription that is not flowing.

    Attributes:
        connection: the connection that it was requested on; None while there is none.
        asked_at: when it was requested, monotonic seconds.
        is_probed: whether a probe was sent after the request.
        since: when its gap began, UNIX seconds; None if it has never been flowing.
        reason: the reason of the gap.
    """

    connection: Connection | None
    asked_at: float
    is_probed: bool = True
    since: float | None = None
    reason: GapReason = "connection lost"


@dataclass
class _Echoes:
    """Messages that a connection will repeat, because another one delivered them before it ended.

    Attributes:
        left: marks of the payloads of each subscription, in order; see `mark`.
        until: when they are forgotten, since they may never come; monotonic seconds.
    """

    left: dict[Subscription, deque[bytes]]
    until: float


class GapTracker:
    """Tracks each subscription.

    Args:
        codec: says which kind of subscription each message type belongs to.
        wanted: the wanted subscriptions.
        delivery: delivers messages. The tracker is its filter while any subscription needs it.
        venue: notified of every gap, after the handlers.
        wall: returns the current time, UNIX seconds, for `coverage`, which extends to now.
        overlap: the maximum number of seconds for which two connections serve one endpoint.

    Attributes:
        filler: fills gaps from history; None if there is no history.
        settled: the time of the last timer, monotonic seconds; 0 while the end of a connection is being handled.
    """

    def __init__(
        self,
        *,
        codec: Codec,
        wanted: Wanted,
        delivery: Delivery,
        venue: VenueDriver,
        wall: Callable[[], float],
        overlap: float,
    ) -> None:
        self._overlap = overlap
        self._kinds = codec.kinds
        self._asks_by_url = codec.asks_by_url
        self._wanted = wanted
        self._delivery = delivery
        self._venue = venue
        self._until = wall
        self._lock = threading.RLock()  # guards _coverage; reentrant for signal handlers
        self._coverage = Coverage()
        self._pending: dict[Subscription, _Pending] = {}
        self._open: dict[str, Connection] = {}
        self._replacements: dict[str, Replacement] = {}
        self._retired: set[Connection] = set()  # replaced; the replacement brings their messages too
        self._echoes: dict[Connection, _Echoes] = {}
        self.filler: Backfill | None = None
        self.settled = 0.0
        self._compared_since = 0.0
        self._now = self._wall = 0.0

    def happened(self, arrived: float, at: float) -> None:
        """Set the time of what is handled next: `arrived` in monotonic seconds, `at` in UNIX seconds."""
        self._now, self._wall = arrived, at

    def coverage(self, name: str) -> list[Interval]:
        """What was received of `name` and what is missing, until now. Any thread."""
        with self._lock:
            return self._coverage.of(name, self._until())

    # Connections

    def opened(self, event: ConnectionOpened) -> None:
        """A connection is open and all its subscriptions have been requested."""
        connection = event.connection
        # The flag may be set while this thread works through earlier events. It never goes back to False, so the
        # connection that serves the endpoint instead brings the same messages.
        if connection.is_given_up:
            self._retired.add(connection)
            self._set_filter()
            return
        replacement = self._replacements.get(connection.endpoint)
        if replacement is not None and not replacement.candidate.owns(
            connection
        ):  # the endpoint was lost and has reconnected
            self._delivery.drop(self._replacements.pop(connection.endpoint).dissolve()[1])
        elif replacement is not None:
            if not self._compares():
                self._compared_since = self._wall
            replacement.opened(connection, self._now + self._overlap)
            if self._asks_by_url:
                replacement.read_at = self._wall
            for subscription, one in self._pending.items():
                if one.connection is replacement.old and not replacement.compares(
                    subscription
                ):  # it was requested on the new one
                    one.connection = connection
            return
        self._open[connection.endpoint] = connection
        for subscription in self._wanted.of(connection.endpoint):
            pending = self._pending.get(subscription)
            if pending is None:
                self._pending[subscription] = _Pending(connection, self._now)
            else:
                pending.connection, pending.asked_at = connection, self._now
                pending.is_probed = True
        self._set_filter()

    def closed(self, event: ConnectionClosed) -> None:
        """A connection has ended; everything up to `covered_until` has been received on it."""
        connection, covered_until, reason = event.connection, event.covered_until, event.reason
        if event.by_stop:
            self._left(connection, covered_until)
            return
        replacement = self._replacements.get(connection.endpoint)
        self._echoes.pop(connection, None)
        if connection in self._retired:
            self._retired.discard(connection)
        elif replacement is not None and connection is replacement.new:
            self._dissolve(replacement, covered_until, reason)
        elif replacement is not None and connection is replacement.old and replacement.new is not None:
            self._succeed(replacement, replacement.new, covered_until, reason)
        elif self._open.get(connection.endpoint) is connection:
            self._lose(connection.endpoint, covered_until, reason)
            if replacement is not None:
                del self._replacements[connection.endpoint]
                replacement.candidate.give_up()
        self._set_filter()

    def _left(self, connection: Connection, covered_until: float) -> None:
        """A connection was closed because the stream is stopping. Its names end here, without a gap."""
        if connection in self._retired:
            return
        with self._lock:
            for subscription in self._wanted.of(connection.endpoint):
                self._coverage.end(subscription.name, covered_until)

    def _lose(self, endpoint: str, covered_until: float, reason: GapReason) -> None:
        del self._open[endpoint]
        self._lost(self._wanted.of(endpoint), covered_until, reason, None)

    def _lost(
        self,
        subscriptions: Iterable[Subscription],
        covered_until: float,
        reason: GapReason,
        connection: Connection | None,
        *,
        is_probed: bool = True,
    ) -> None:
        """Note that subscriptions are no longer flowing.

        Args:
            subscriptions: the subscriptions.
            covered_until: until when they were received, UNIX seconds.
            reason: the reason of the gap.
            connection: the connection that they have been requested on; None if there is none.
            is_probed: whether a probe was sent after these requests.
        """
        for subscription in subscriptions:
            pending = self._pending.setdefault(subscription, _Pending(None, 0.0, is_probed, covered_until, reason))
            pending.connection, pending.asked_at = connection, self._now
            pending.is_probed = is_probed
            with self._lock:
                if pending.since is None:  # requested, and lost before anything came
                    pending.since, pending.reason = covered_until, reason
                    self._coverage.begin(subscription.name, covered_until)
                self._coverage.lose(subscription.name, covered_until, reason)

    def added(self, subscription: Subscription) -> None:
        """A subscription was added."""
        endpoint = self._wanted.endpoint_of(subscription)
        replacement = self._replacements.get(endpoint)
        connection = self._open.get(endpoint) if replacement is None or replacement.new is None else replacement.new
        if connection is not None and subscription not in self._pending:
            self._pending[subscription] = _Pending(connection, self._now, is_probed=False)
            self._set_filter()

    def removed(self, subscription: Subscription) -> None:
        """A subscription was removed."""
        self._pending.pop(subscription, None)
        with self._lock:
            self._coverage.end(subscription.name, self._wall)
        self._set_filter()

    def answered(self, connection: Connection) -> None:
        """The server answered a probe that was sent after the subscriptions: all of them are flowing."""
        proven = [
            subscription
            for subscription, one in self._pending.items()
            if one.connection is connection and one.is_probed
        ]
        self._flow(proven, self._wall)
        replacement = self._replacements.get(connection.endpoint)
        if replacement is not None and connection is replacement.new and replacement.read_at is None:
            replacement.read_at = self._wall

    def confirmed(self, subscription: Subscription) -> None:
        """The server confirmed a subscription."""
        if subscription in self._pending and self._pending[subscription].connection is not None:
            self._flow([subscription], self._wall)

    def settle(self, now: float) -> None:
        """End what has timed out: unproven subscriptions are assumed to be flowing; overlaps and echoes end.

        Args:
            now: the time of the timer, monotonic seconds. Everything received before it has been handled.
        """
        self.settled = now
        for connection in [one for one, echoes in self._echoes.items() if now >= echoes.until]:
            del self._echoes[connection]
            self._set_filter()
        self._flow(
            [
                subscription
                for subscription, one in self._pending.items()
                if one.connection is not None and now - one.asked_at > SETTLE
            ],
            self._wall,
        )
        for replacement in list(self._replacements.values()):
            if (new := replacement.new) is None:
                continue
            due = now >= replacement.deadline or self._is_complete(replacement)
            # Not while its key may still be refused. `take_over` decides under the lock of `Connections`: it returns
            # False if the new connection has failed already and its `ConnectionClosed` is still in the queue.
            if due and replacement.candidate.is_confirmed and replacement.candidate.take_over(new, self.settled):
                self._finish(replacement)

    # Make before break

    def replacing(self, event: ReplacementBegan) -> None:
        """A second connection is being opened for an endpoint: remember the first one's messages for comparison."""
        endpoint = event.old.endpoint
        if self._open.get(endpoint) is not event.old:  # it has ended meanwhile and reconnects by itself
            event.candidate.give_up()
            return
        self._replacements[endpoint] = Replacement(event.old, event.candidate, self._delivery, self._wall)
        self._set_filter()

    def _is_complete(self, replacement: Replacement) -> bool:
        return replacement.is_complete(set(self._wanted.of(replacement.old.endpoint)))

    def _succeed(self, replacement: Replacement, new: Connection, covered_until: float, reason: GapReason) -> None:
        """The old connection has ended: the new one serves the endpoint, unless it has ended too."""
        self.settled = 0.0
        if replacement.candidate.take_over(new, self.settled):
            wanted = set(self._wanted.of(new.endpoint))
            lost = [subscription for subscription in replacement.unproven(covered_until) if subscription in wanted]
            self._finish(replacement, lost)
            self._retired.discard(replacement.old)
            self._lost(lost, covered_until, reason, new)
        else:
            self._retired.add(new)
            self._dissolve(replacement, covered_until, reason)
            self._echoes.pop(replacement.old, None)
            self._lose(new.endpoint, covered_until, reason)

    def _finish(self, replacement: Replacement, lost: Sequence[Subscription] = ()) -> None:
        """Let the new connection serve the endpoint, except for the subscriptions in `lost`, and retire the old one."""
        assert replacement.new is not None
        endpoint = replacement.old.endpoint
        del self._replacements[endpoint]
        self._retired.add(replacement.old)
        self._open[endpoint] = replacement.new
        for pending in self._pending.values():
            if pending.connection is replacement.old:
                pending.connection = replacement.new
        doubtful, kept = replacement.finish()
        self._expect(replacement, replacement.new)
        wanted = set(self._wanted.of(endpoint))
        doubtful = [subscription for subscription in doubtful if subscription in wanted and subscription not in lost]
        self._doubt(doubtful, replacement.doubt_since, self._wall)
        for message, payload, received_at in kept:
            self.prepare([message], received_at, replacement.new)
            self._delivery.deliver(message, payload, received_at)
        self._set_filter()

    def _dissolve(self, replacement: Replacement, now: float, reason: GapReason) -> None:
        """The new connection has failed; the old one continues to serve the endpoint."""
        del self._replacements[replacement.old.endpoint]
        gone_over, repeated = replacement.dissolve()
        self._delivery.duplicates(repeated)
        wanted = list(self._wanted.of(replacement.old.endpoint))
        self._doubt([subscription for subscription in gone_over if subscription in wanted], now, self._wall)
        self._expect(replacement, replacement.old)
        alone = [one for one in wanted if not replacement.compares(one)]
        self._lost(alone, now, reason, replacement.old, is_probed=False)

    def _expect(self, replacement: Replacement, connection: Connection) -> None:
        """Expect `connection`, which continues, to repeat messages that the other connection has delivered."""
        if echoes := replacement.echoes(connection):
            expected = self._echoes.setdefault(connection, _Echoes({}, 0.0))
            expected.until = self._now + self._overlap
            for subscription, payloads in echoes.items():
                expected.left.setdefault(subscription, deque()).extend(payloads)

    def _doubt(self, subscriptions: list[Subscription], since: float, now: float) -> None:
        if subscriptions:
            self._report(
                Gap(
                    since,
                    max(since, now),
                    tuple(sorted({subscription.name for subscription in subscriptions})),
                    "rotation",
                )
            )

    def cancelled(self, endpoint: str, candidate: Candidate) -> None:
        """The second connection of an endpoint could not be opened."""
        replacement = self._replacements.get(endpoint)
        if replacement is not None and replacement.candidate is candidate and replacement.new is None:
            del self._replacements[endpoint]
            self._set_filter()

    # Recordings

    def serves(self, connection: Connection) -> bool:
        """Whether `connection` is the only one that serves its endpoint."""
        endpoint = connection.endpoint
        return self._open.get(endpoint) is connection and endpoint not in self._replacements

    def _compares(self) -> bool:
        """Whether messages of one connection are left out because another one brings them."""
        return bool(self._retired or self._echoes) or any(one.new is not None for one in self._replacements.values())

    def damaged(self, event: RecordingDamaged) -> None:
        """A part of a recording is missing: no message after it is a duplicate of one before it."""
        start = event.start
        # Messages left out on one connection may have come on the other one within the missing part.
        if self._compares():
            start = min(start, self._compared_since)
        gap = Gap(start, max(start, event.end), self._wanted.names(), "damaged recording", event.missed)
        for replacement in self._replacements.values():
            for kept in replacement.release():
                self._delivery.deliver(*kept)
        self._replacements.clear()
        self._retired.clear()
        self._echoes.clear()
        for subscription in self._wanted:
            if not self._coverage.has(subscription.name):
                connection = self._open.get(self._wanted.endpoint_of(subscription))
                self._pending.setdefault(subscription, _Pending(connection, self._now))
        unknown = [subscription for subscription, one in self._pending.items() if one.since is None]
        with self._lock:  # their messages may be in the missing part
            for subscription in unknown:
                self._pending[subscription].since, self._pending[subscription].reason = gap.end, gap.reason
                self._coverage.begin(subscription.name, gap.start)
        self._report(gap)
        with self._lock:
            for subscription in unknown:
                self._coverage.lose(subscription.name, gap.end, gap.reason)
        for endpoint, connection in list(self._open.items()):
            if connection not in event.surviving:
                self._lose(endpoint, gap.end, gap.reason)
        self._set_filter()

    # The filter

    def _set_filter(self) -> None:
        busy = self._pending or self._replacements or self._retired or self._echoes or self.filler is not None
        self._delivery.filter = self if busy else None

    def prepare(self, messages: Sequence[Any], received_at: float, connection: Connection) -> None:
        """Report the gaps that end with one of `messages`."""
        self._now, self._wall = self._delivery.now, received_at
        if not self._pending:
            return
        # Every message passes here until all subscriptions are flowing, so no objects are created needlessly.
        pending, kinds = cast("dict[tuple[str, str], _Pending]", self._pending), self._kinds
        flowing: dict[Subscription, None] = {}
        seen: type | None = None
        for message in messages:
            if type(message) is not seen:
                seen = type(message)
                kind, name_of = kinds.get(seen), getattr(seen, "name_of", None)
            if kind is None or name_of is None:
                continue
            one = pending.get((kind, name_of(message)))
            if one is not None and one.connection is connection:
                flowing[Subscription(kind, name_of(message))] = None
        if flowing:
            self._flow(flowing, received_at)

    @property
    def checks(self) -> bool:
        """Whether messages may be duplicates or may have to wait."""
        return bool(self._replacements or self._retired or self._echoes) or self.filler is not None

    def check(self, message: Message, payload: bytes, received_at: float, connection: Connection) -> Verdict:
        """Whether `message` may pass, is a duplicate from a second connection, or must wait until a gap is filled."""
        if connection in self._retired:
            return Verdict.DUPLICATE
        subscription = self._subscription_of(message)
        is_echo = connection in self._echoes and self._is_echo(subscription, payload, connection)
        replacement = self._replacements.get(connection.endpoint)
        if replacement is not None and subscription is not None:
            verdict = replacement.check(subscription, message, payload, received_at, connection, is_echo=is_echo)
            if verdict is not Verdict.PASS:
                return verdict
        if is_echo:
            return Verdict.DUPLICATE
        if self.filler is not None:
            return self.filler.check(subscription, message, payload, received_at)
        return Verdict.PASS

    def _is_echo(self, subscription: Subscription | None, payload: bytes, connection: Connection) -> bool:
        """Whether a connection that has ended delivered this payload. The first one that it did not ends the search."""
        echoes = self._echoes[connection].left
        found = subscription in echoes and skip_to(mark(payload), echoes[subscription])
        if subscription in echoes and not (found and echoes[subscription]):
            del echoes[subscription]
            if not echoes:
                del self._echoes[connection]
                self._set_filter()
        return found

    def _subscription_of(self, message: object) -> Subscription | None:
        kind = self._kinds.get(type(message))
        return None if kind is None else Subscription(kind, type(message).name_of(message))  # type: ignore[attr-defined]

    # Gaps

    def _flow(self, subscriptions: Iterable[Subscription], now: float) -> None:
        """Note that subscriptions are flowing from `now` on, and report their gaps, one for each start and reason."""
        gaps: dict[tuple[float, GapReason], list[Subscription]] = {}
        for subscription in list(subscriptions):
            pending = self._pending.pop(subscription)
            if pending.since is None:
                with self._lock:
                    self._coverage.begin(subscription.name, now)
            else:
                gaps.setdefault((pending.since, pending.reason), []).append(subscription)
        for (since, reason), lost in gaps.items():
            self._end_gap(since, now, reason, lost)
        self._set_filter()

    def _end_gap(self, since: float, now: float, reason: GapReason, lost: list[Subscription]) -> None:
        with self._lock:
            for subscription in lost:
                self._coverage.regain(subscription.name, now)
        gap = Gap(since, max(since, now), tuple(sorted({subscription.name for subscription in lost})), reason)
        left = [subscription for subscription in lost if self.filler is None or not self.filler.fill(gap, subscription)]
        if left:
            self._announce(Gap(gap.start, gap.end, tuple(sorted({subscription.name for subscription in left})), reason))

    def fetched(self, filling: Filling, fetched: Fetched) -> None:
        """History has been fetched for the gap of one subscription; report the gap if it could not be filled."""
        if self.filler is None or not self.filler.is_waited_for(filling):
            return
        gap, name = filling.gap, filling.subscription.name
        if fetched.missing is None:
            with self._lock:
                self._coverage.fill(name, gap.start, gap.end)
        else:
            self._announce(Gap(gap.start, gap.end, (name,), gap.reason, gap.missed))
        self.filler.finish(filling, fetched)

    def end(self) -> None:
        """End with the stream: drop the messages that are held back, and count them as dropped."""
        if self.filler is not None:
            self.filler.end()
        for replacement in self._replacements.values():
            self._delivery.drop(replacement.dissolve()[1])

    def missed(self, what: MessagesDropped | Conflated) -> None:
        """Messages were dropped or replaced by newer ones."""
        if isinstance(what, Conflated):
            self._report(Gap(what.start, what.end, tuple(sorted(what.names)), "conflated", what.count))
        else:
            self._report(Gap(what.start, what.end, self._wanted.names(), "slow consumer", what.count))

    def reported(self, gap: Gap) -> None:
        """A relay reports a gap on a connection that stays open; see `GapReported`."""
        lost = [one for one in self._wanted if not gap.names or one.name in gap.names]
        if not lost:
            return
        with self._lock:
            hole = Interval(gap.start, gap.end, "missing", gap.reason, gap.missed)
            self._coverage.hole(hole, *{subscription.name for subscription in lost})
        left = [subscription for subscription in lost if self.filler is None or not self.filler.fill(gap, subscription)]
        if left:
            names = tuple(sorted({subscription.name for subscription in left}))
            self._announce(Gap(gap.start, gap.end, names, gap.reason, gap.missed))

    def _report(self, gap: Gap) -> None:
        with self._lock:
            self._coverage.hole(Interval(gap.start, gap.end, "missing", gap.reason, gap.missed), *gap.names)
        self._announce(gap)

    def _announce(self, gap: Gap) -> None:
        self._delivery.notify("gap", gap)
        self._venue.missed(gap.reason)
