"""Lossless or labelled: keeps the account of each subscription, and tells of every gap before the message after it.

Everything here runs on the dispatch thread, in order with the messages; only `coverage` is for any thread. Nothing here
reads a clock: the time is that of the event or message which is being handled, so a recording's events give the same
account again.

A subscription *flows* from the first message after it was asked for, from the server's confirmation, or from the answer
to the probe that follows it; servers read in order, so an answer to what was sent later proves what was sent before.
Where none of these comes, it is taken to flow after `SETTLE` seconds. It is *lost* with its connection, and what may be
missing is what came after the last message of that connection: up to there TCP has brought everything.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from finx_sync.messages import Message
from finx_sync.notices import Gap, GapReason, Interval
from finx_sync.pipeline.backfill import Backfill
from finx_sync.pipeline.catchup import Conflated
from finx_sync.pipeline.coverage import Coverage
from finx_sync.pipeline.delivery import Delivery, Judgement
from finx_sync.pipeline.overlap import mark, skip_to
from finx_sync.pipeline.queue import Connection, Dropped
from finx_sync.pipeline.replacement import Handover, Successor
from finx_sync.session.clock import Clock
from finx_sync.venues.base import Dialect, Subscription

__all__ = ["Continuity"]

SETTLE: Final = 5.0
"""Seconds after which a subscription is taken to flow, where nothing proves it."""


@dataclass
class _Pending:
    """A subscription that does not flow.

    Attributes:
        connection: that was asked for it; None while there is none.
        asked_at: when, monotonic.
        is_probed: whether a probe was sent after it was asked for.
        since, reason: of the gap; None where it has never flowed.
    """

    connection: Connection | None
    asked_at: float
    is_probed: bool = True
    since: float | None = None
    reason: GapReason = "connection lost"


@dataclass
class _Echoes:
    """What a connection still will bring, and another one has brought before it went.

    Attributes:
        left: marks of the payloads of each subscription, in order; see `mark`.
        until: when they are forgotten, since they may never come; monotonic.
    """

    left: dict[Subscription, deque[bytes]]
    until: float


class Continuity:
    """The account of each subscription.

    Args:
        dialect: whose message types have which kind of subscription.
        wishes: the subscriptions of one line, or of all.
        delivery: whose gate this is.
        clock: times.
        on_missed: told of each gap, after `on_gap` was.
        overlap: seconds that two connections serve one line at most.

    Attributes:
        delivery: whose gate this is.
        filler: fills gaps; None where nothing can.
        looked: the time of the last look, monotonic; 0 while the end of a connection is being handled.
    """

    def __init__(
        self,
        *,
        dialect: Dialect,
        subscriptions: Callable[[str | None], Iterable[Subscription]],
        delivery: Delivery,
        clock: Clock,
        on_missed: Callable[[Gap], object],
        overlap: float,
    ) -> None:
        self._overlap = overlap
        self._dialect = dialect
        self._wishes = subscriptions
        self.delivery = delivery
        self._clock = clock
        self._on_missed = on_missed
        self._lock = threading.RLock()  # guards _coverage; re-entrant for signal handlers
        self._coverage = Coverage()
        self._pending: dict[Subscription, _Pending] = {}
        self._open: dict[str, Connection] = {}
        self._handovers: dict[str, Handover] = {}
        self._retired: set[Connection] = set()  # replaced; what they still bring, their successor brings too
        self._echoes: dict[Connection, _Echoes] = {}
        self.filler: Backfill | None = None
        self.looked = 0.0
        self._compared_since = 0.0
        self._now = clock.monotonic()
        self._wall = clock.wall()

    def happened(self, arrived: float, at: float) -> None:
        """What comes next happened at this time: monotonic, and UNIX seconds."""
        self._now, self._wall = arrived, at

    def coverage(self, name: str) -> list[Interval]:
        """What was received of `name` and what is missing, up to now. Any thread."""
        with self._lock:
            return self._coverage.of(name, self._clock.wall())

    # Connections

    def opened(self, connection: Connection) -> None:
        """A connection is open and has been asked for all its subscriptions."""
        if connection.is_given_up():  # while this thread was busy: what serves the line now brings the same
            self._retired.add(connection)
            self._set_gate()
            return
        handover = self._handovers.get(connection.line)
        if handover is not None and not handover.successor.owns(connection):  # the line has gone, and come back anew
            self.delivery.drop(self._handovers.pop(connection.line).dissolve()[1])
        elif handover is not None:
            if not self._compares():
                self._compared_since = self._wall
            handover.opened(connection, self._now + self._overlap)
            if self._dialect.asks_by_url:
                handover.read_at = self._wall
            for subscription, one in self._pending.items():
                if one.connection is handover.old and not handover.compares(subscription):  # it was asked of this one
                    one.connection = connection
            return
        self._open[connection.line] = connection
        for subscription in self._wishes(connection.line):
            pending = self._pending.get(subscription)
            if pending is None:
                self._pending[subscription] = _Pending(connection, self._now)
            else:
                pending.connection, pending.asked_at = connection, self._now
                pending.is_probed = True
        self._set_gate()

    def closed(self, connection: Connection, covered_until: float, reason: GapReason) -> None:
        """It is gone; everything up to `covered_until` (UNIX seconds) has been received on it."""
        handover = self._handovers.get(connection.line)
        self._echoes.pop(connection, None)
        if connection in self._retired:
            self._retired.discard(connection)
        elif handover is not None and connection is handover.new:
            self._dissolve(handover, covered_until, reason)
        elif handover is not None and connection is handover.old and handover.new is not None:
            self._succeed(handover, handover.new, covered_until, reason)
        elif self._open.get(connection.line) is connection:
            self._lose(connection.line, covered_until, reason)
            if handover is not None:
                del self._handovers[connection.line]
                handover.successor.give_up()
        self._set_gate()

    def left(self, connection: Connection, covered_until: float) -> None:
        """It was closed because the stream stops: its names are covered up to here, and no gap follows."""
        if connection in self._retired:
            return
        with self._lock:
            for subscription in self._wishes(connection.line):
                self._coverage.end(subscription.name, covered_until)

    def _lose(self, line: str, covered_until: float, reason: GapReason) -> None:
        del self._open[line]
        self._lost(self._wishes(line), covered_until, reason, None)

    def _lost(
        self,
        subscriptions: Iterable[Subscription],
        covered_until: float,
        reason: GapReason,
        connection: Connection | None,
        *,
        is_probed: bool = True,
    ) -> None:
        """These flow no more; `connection` has been asked for them, if there is one, and a probe sent after that."""
        for subscription in subscriptions:
            pending = self._pending.setdefault(subscription, _Pending(None, 0.0, is_probed, covered_until, reason))
            pending.connection, pending.asked_at = connection, self._now
            pending.is_probed = is_probed
            with self._lock:
                if pending.since is None:  # asked for, and lost before anything came
                    pending.since, pending.reason = covered_until, reason
                    self._coverage.begin(subscription.name, covered_until)
                self._coverage.lose(subscription.name, covered_until, reason)

    def wanted(self, subscription: Subscription) -> None:
        """A subscription was added."""
        line = self._dialect.endpoint_of(subscription)
        handover = self._handovers.get(line)
        connection = self._open.get(line) if handover is None or handover.new is None else handover.new
        if connection is not None and subscription not in self._pending:
            self._pending[subscription] = _Pending(connection, self._now, is_probed=False)
            self._set_gate()

    def unwanted(self, subscription: Subscription) -> None:
        """A subscription was removed."""
        self._pending.pop(subscription, None)
        with self._lock:
            self._coverage.end(subscription.name, self._wall)
        self._set_gate()

    def answered(self, connection: Connection) -> None:
        """The server answered what was sent after the subscriptions: all of them flow."""
        proven = [
            subscription
            for subscription, one in self._pending.items()
            if one.connection is connection and one.is_probed
        ]
        self._flow(proven, self._wall)
        handover = self._handovers.get(connection.line)
        if handover is not None and connection is handover.new and handover.read_at is None:
            handover.read_at = self._wall

    def confirmed(self, subscription: Subscription) -> None:
        """The server confirmed a subscription."""
        if subscription in self._pending and self._pending[subscription].connection is not None:
            self._flow([subscription], self._wall)

    def settle(self, now: float) -> None:
        """What was asked for long ago is taken to flow; overlaps and echoes end when their time is up. Now and then.

        Args:
            now: when it was looked; monotonic. All that had come in by then has been handled.
        """
        self.looked = now
        for connection in [one for one, echoes in self._echoes.items() if now >= echoes.until]:
            del self._echoes[connection]
            self._set_gate()
        self._flow(
            [
                subscription
                for subscription, one in self._pending.items()
                if one.connection is not None and now - one.asked_at > SETTLE
            ],
            self._wall,
        )
        for handover in list(self._handovers.values()):
            if (new := handover.new) is None:
                continue
            due = now >= handover.deadline or self._is_complete(handover)
            # Its key may yet be refused; or else it has failed, and the news is on its way.
            if due and handover.successor.is_confirmed and handover.successor.take_over(new):
                self._finish(handover)

    # Make before break

    def hand_over(self, handover: Handover) -> None:
        """A second connection is being opened for a line: remember the first one's messages, to compare with."""
        if self._open.get(handover.old.line) is not handover.old:  # it has gone meanwhile, and comes back by itself
            handover.successor.give_up()
            return
        handover.doubt_since = self._wall
        self._handovers[handover.old.line] = handover
        self._set_gate()

    def _is_complete(self, handover: Handover) -> bool:
        return handover.is_complete(set(self._wishes(handover.old.line)))

    def _succeed(self, handover: Handover, new: Connection, covered_until: float, reason: GapReason) -> None:
        """The old connection is gone: the new one serves the line, unless it has ended, too."""
        self.looked = 0.0
        if handover.successor.take_over(new):
            wanted = set(self._wishes(new.line))
            lost = [subscription for subscription in handover.unproven(covered_until) if subscription in wanted]
            self._finish(handover, lost)
            self._retired.discard(handover.old)
            self._lost(lost, covered_until, reason, new)
        else:
            self._retired.add(new)
            self._dissolve(handover, covered_until, reason)
            self._echoes.pop(handover.old, None)
            self._lose(new.line, covered_until, reason)

    def _finish(self, handover: Handover, lost: Sequence[Subscription] = ()) -> None:
        """The old connection has been retired; the new one serves the line, but for what is `lost`."""
        assert handover.new is not None
        line = handover.old.line
        del self._handovers[line]
        self._retired.add(handover.old)
        self._open[line] = handover.new
        for pending in self._pending.values():
            if pending.connection is handover.old:
                pending.connection = handover.new
        doubtful, kept = handover.finish()
        self._expect(handover, handover.new)
        wanted = set(self._wishes(line))
        doubtful = [subscription for subscription in doubtful if subscription in wanted and subscription not in lost]
        self._doubt(doubtful, handover.doubt_since, self._wall)
        for message, payload, received_at in kept:
            self.prepare([message], received_at, handover.new)
            self.delivery.deliver(message, payload, received_at)
        self._set_gate()

    def _dissolve(self, handover: Handover, now: float, reason: GapReason) -> None:
        """The new connection failed; the old one goes on serving the line."""
        del self._handovers[handover.old.line]
        gone_over, repeated = handover.dissolve()
        self.delivery.duplicates(repeated)
        wanted = list(self._wishes(handover.old.line))
        self._doubt([subscription for subscription in gone_over if subscription in wanted], now, self._wall)
        self._expect(handover, handover.old)
        alone = [one for one in wanted if not handover.compares(one)]
        self._lost(alone, now, reason, handover.old, is_probed=False)

    def _expect(self, handover: Handover, connection: Connection) -> None:
        """This one of the two goes on, and will repeat what the other one has brought."""
        if echoes := handover.echoes(connection):
            expected = self._echoes.setdefault(connection, _Echoes({}, 0.0))
            expected.until = self._now + self._overlap
            for subscription, payloads in echoes.items():
                expected.left.setdefault(subscription, deque()).extend(payloads)

    def _doubt(self, subscriptions: list[Subscription], since: float, now: float) -> None:
        if subscriptions:
            self._notify(
                Gap(
                    since,
                    max(since, now),
                    tuple(sorted({subscription.name for subscription in subscriptions})),
                    "rotation",
                )
            )

    def cancelled(self, line: str, successor: Successor) -> None:
        """The second connection of a line could not be opened."""
        handover = self._handovers.get(line)
        if handover is not None and handover.successor is successor and handover.new is None:
            del self._handovers[line]
            self._set_gate()

    # Recordings

    def serves(self, connection: Connection) -> bool:
        """Whether a connection alone serves its line."""
        line = connection.line
        return self._open.get(line) is connection and line not in self._handovers

    def _compares(self) -> bool:
        """Whether what one connection brought is left out since another one brings it."""
        return bool(self._retired or self._echoes) or any(one.new is not None for one in self._handovers.values())

    def damaged(self, gap: Gap, surviving: Container[Connection]) -> None:
        """A part of what a recording holds is missing: nothing is a duplicate on the strength of what came before it.

        Args:
            gap: what to tell.
            surviving: connections that served their lines alone, and still do.
        """
        if self._compares():  # what the old connection brought was left to the new one, which may have come to it here
            gap = dataclasses.replace(gap, start=min(gap.start, self._compared_since))
        for handover in self._handovers.values():
            for kept in handover.release():
                self.delivery.deliver(*kept)
        self._handovers.clear()
        self._retired.clear()
        self._echoes.clear()
        for subscription in self._wishes(None):
            if not self._coverage.has(subscription.name):
                self._pending.setdefault(
                    subscription, _Pending(self._open.get(self._dialect.endpoint_of(subscription)), self._now)
                )
        unknown = [
            subscription for subscription, one in self._pending.items() if one.since is None
        ]  # they may have flowed in it
        with self._lock:
            for subscription in unknown:
                self._pending[subscription].since, self._pending[subscription].reason = gap.end, gap.reason
                self._coverage.begin(subscription.name, gap.start)
        self._notify(gap)
        with self._lock:
            for subscription in unknown:
                self._coverage.lose(subscription.name, gap.end, gap.reason)
        for line, connection in list(self._open.items()):
            if connection not in surviving:
                self._lose(line, gap.end, gap.reason)
        self._set_gate()

    # The gate

    def _set_gate(self) -> None:
        busy = self._pending or self._handovers or self._retired or self._echoes or self.filler is not None
        self.delivery.gate = self if busy else None

    def prepare(self, messages: Sequence[Any], received_at: float, connection: Connection) -> None:
        """Tell of the gaps that end with one of `messages`."""
        self.happened(received_at - self._clock.offset, received_at)
        if not self._pending:
            return
        # Until all that was asked for flows, every message comes by here, so nothing is made that need not be.
        pending, kinds = cast("dict[tuple[str, str], _Pending]", self._pending), self._dialect.kinds
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
    def judges(self) -> bool:
        """Whether messages may be duplicates, or have to wait."""
        return bool(self._handovers or self._retired or self._echoes) or self.filler is not None

    def judge(self, message: Message, payload: bytes, received_at: float, connection: Connection) -> Judgement:
        """Whether `message` may pass: not what two connections brought, nor what must wait for a gap to be filled."""
        if connection in self._retired:
            return Judgement.DUPLICATE
        subscription = self._wish_of(message)
        is_echo = connection in self._echoes and self._is_echo(subscription, payload, connection)
        handover = self._handovers.get(connection.line)
        if handover is not None and subscription is not None:
            judgement = handover.judge(subscription, message, payload, received_at, connection, is_echo=is_echo)
            if judgement is not Judgement.PASS:
                return judgement
        if is_echo:
            return Judgement.DUPLICATE
        if self.filler is not None:
            return self.filler.judge(subscription, message, payload, received_at)
        return Judgement.PASS

    def _is_echo(self, subscription: Subscription | None, payload: bytes, connection: Connection) -> bool:
        """Whether a connection that failed has brought it; the first message beyond is the last that is compared."""
        echoes = self._echoes[connection].left
        found = subscription in echoes and skip_to(mark(payload), echoes[subscription])
        if subscription in echoes and not (found and echoes[subscription]):
            del echoes[subscription]
            if not echoes:
                del self._echoes[connection]
                self._set_gate()
        return found

    def _wish_of(self, message: object) -> Subscription | None:
        kind = self._dialect.kinds.get(type(message))
        return None if kind is None else Subscription(kind, type(message).name_of(message))  # type: ignore[attr-defined]

    # Gaps

    def _flow(self, subscriptions: Iterable[Subscription], now: float) -> None:
        """These flow from `now` on; tell of the gaps that end here, one for each beginning and reason."""
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
        self._set_gate()

    def _end_gap(self, since: float, now: float, reason: GapReason, lost: list[Subscription]) -> None:
        with self._lock:
            for subscription in lost:
                self._coverage.regain(subscription.name, now)
        gap = Gap(since, max(since, now), tuple(sorted({subscription.name for subscription in lost})), reason)
        left = [subscription for subscription in lost if self.filler is None or not self.filler.fill(gap, subscription)]
        if left:
            self._announce(Gap(gap.start, gap.end, tuple(sorted({subscription.name for subscription in left})), reason))

    def filled(self, gap: Gap, filled: bool, subscription: Subscription) -> None:
        """History has been asked for the gap of one subscription; what it could not fill is told."""
        if filled:
            with self._lock:
                self._coverage.fill(subscription.name, gap.start, gap.end)
        else:
            self._announce(Gap(gap.start, gap.end, (subscription.name,), gap.reason))

    def end(self) -> None:
        """The stream ends: what is kept back is dropped, counted."""
        if self.filler is not None:
            self.filler.end()
        for handover in self._handovers.values():
            self.delivery.drop(handover.dissolve()[1])

    def left_out(self, start: float, end: float, count: int) -> None:
        """A recorder could not keep up: so many messages of any name are missing from what is played."""
        self.missed(Dropped(start, end, count))

    def missed(self, what: Dropped | Conflated) -> None:
        """Messages were dropped or replaced."""
        if isinstance(what, Conflated):
            self._notify(Gap(what.start, what.end, tuple(sorted(what.names)), "conflated", what.count))
        else:
            names = tuple(sorted({subscription.name for subscription in self._wishes(None)}))
            self._notify(Gap(what.start, what.end, names, "slow consumer", what.count))

    def _notify(self, gap: Gap) -> None:
        with self._lock:
            self._coverage.hole(Interval(gap.start, gap.end, "missing", gap.reason, gap.missed), *gap.names)
        self._announce(gap)

    def _announce(self, gap: Gap) -> None:
        self.delivery.notify("gap", gap)
        self._on_missed(gap)
