"""The path of every event: codec, gap tracking, venue state, last values, handlers, counters.

`Pipeline.process` takes events in order, from a live session's queue, a recording or a test. Everything runs on one
thread, the dispatch thread, which is the only one that runs user code. If handlers are too slow, the pipeline catches
up according to the overflow rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from finx_sync.events import (
    Batch,
    ConnectionClosed,
    ConnectionOpened,
    ErrorOccurred,
    Event,
    FailureOccurred,
    GapReported,
    HistoryFetched,
    LastValuesRead,
    MessagesDropped,
    NoticeGiven,
    Reached,
    RecordingDamaged,
    ReplacementBegan,
    ReplacementCancelled,
    RequestSent,
    StateChanged,
    SubscriptionAdded,
    SubscriptionRemoved,
    TimerFired,
)
from finx_sync.messages import Message
from finx_sync.pipeline.catchup import Backlog, Waiting
from finx_sync.pipeline.commands import CommandSink, FailStream
from finx_sync.pipeline.controls import Controls
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.delivery import Delivery
from finx_sync.pipeline.gaps import GapTracker
from finx_sync.pipeline.handlers import Handlers
from finx_sync.pipeline.health import FeedHealth
from finx_sync.pipeline.latest import LastValues
from finx_sync.pipeline.output import Outlet
from finx_sync.pipeline.overlap import Verdict
from finx_sync.pipeline.queue import EventQueue
from finx_sync.pipeline.rows import BatchRow
from finx_sync.pipeline.venue import VenueDriver
from finx_sync.pipeline.wanted import Wanted
from finx_sync.state import State
from finx_sync.venues.base import Codec, VenueState
from finx_sync.venues.base.guarded import guarded

__all__ = ["Pipeline"]

SLICE: Final = 128
"""The maximum number of messages between two updates of the counters."""
MAX_BACKLOG_BYTES: Final = 256 * 1024 * 1024
"""Bytes of messages in the backlog while catching up; the others stay in the queue."""
SLOW_SLICE: Final = 0.02
"""Seconds; if a slice takes longer, the next ones are shorter, so that slow handlers are noticed soon."""
IN_PLACE: Final = (
    ConnectionOpened,
    ConnectionClosed,
    SubscriptionAdded,
    SubscriptionRemoved,
    ErrorOccurred,
    FailureOccurred,
    Reached,
)
"""Events with a second part (`_apply`) that must not overtake earlier messages, even while the pipeline catches up."""


class Pipeline:
    """Handles the events of one run.

    Args:
        codec: the venue's codec.
        state: the venue's state for this run; None if the venue has none.
        handlers: the registered handlers.
        latest: the tables of last values.
        wall: returns the current time, UNIX seconds, for queries of the coverage up to now.
        commands: executes commands.
        overlap: the maximum number of seconds for which two connections serve one endpoint.
        counter: counts messages; None for a new counter.
        ends_on_handler_error: whether an exception of a handler ends the stream.
        queue: the queue to take waiting events from while catching up; None in a replay.
        max_lag: seconds that a message may wait before newer states replace older ones; None for no limit.
        backlog_limit: the number of messages that may wait in the backlog while catching up.
        health: finds feeds that fall silent or behind; None if that is not wanted.
        wanted: the wanted subscriptions; None for a new, empty set.
        outlet: where an output is attached that gets what is delivered; None for nowhere.

    Attributes:
        counter: counts the disposition of each message.
        gaps: tracks what is missing.
        delivery: calls the handlers.
        venue: drives the venue's state.
        state: the state of the stream at the event being handled.
        arrived: when the message being delivered arrived, monotonic seconds; None if there is none. Written by the
            dispatch thread only; any thread may read it.
        busy_since: when the dispatch thread began its current slice, monotonic seconds; None while it is idle. Written
            by the dispatch thread only; any thread may read it.
    """

    def __init__(
        self,
        *,
        codec: Codec,
        state: VenueState | None,
        handlers: Handlers,
        latest: LastValues,
        wall: Callable[[], float],
        commands: CommandSink,
        overlap: float,
        counter: MessageCounter | None = None,
        ends_on_handler_error: bool = False,
        queue: EventQueue | None = None,
        max_lag: float | None = None,
        backlog_limit: int = 0,
        health: FeedHealth | None = None,
        wanted: Wanted | None = None,
        outlet: Outlet | None = None,
    ) -> None:
        self.counter = MessageCounter() if counter is None else counter
        self.wanted = Wanted() if wanted is None else wanted
        self.venue = VenueDriver(state, handlers)
        self.delivery = Delivery(
            handlers,
            self.counter,
            latest,
            self.venue,
            commands if ends_on_handler_error else None,
            outlet=outlet,
        )
        self.gaps = GapTracker(
            codec=codec,
            wanted=self.wanted,
            delivery=self.delivery,
            venue=self.venue,
            wall=wall,
            overlap=overlap,
        )
        self.controls = Controls(
            codec.venue,
            wanted=self.wanted,
            gaps=self.gaps,
            delivery=self.delivery,
            venue=self.venue,
            commands=commands,
        )
        self.delivery.controls = self.controls
        self.venue.obey = self.controls.obey
        self.state = State.NEW
        self.arrived: float | None = None
        self.busy_since: float | None = None
        self._decode: Callable[[Sequence[bytes]], list[Any]] = guarded(codec)
        self._message_types = frozenset(codec.message_types)
        self._commands = commands
        self._queue = queue
        self._take = self.counter.take if queue is None else queue.take
        self._max_lag = max_lag
        self._backlog_limit = backlog_limit
        self._health = health
        self._backlog: Backlog | None = None  # while it catches up
        self._slice = 1

    def process(self, event: Event) -> None:
        """Handle one event. All earlier events have been handled."""
        if isinstance(event, Batch):
            self.arrived = self.delivery.now = self.venue.now = event.arrived
            self._process_batch(event)
            self.delivery.weigh(event.size)
            self.arrived = self.busy_since = None
        else:
            self._note(event)
            if isinstance(event, IN_PLACE):
                self._apply(event)

    def process_row(self, row: BatchRow, begin: int, end: int) -> int:
        """Handle recorded messages `begin` to `end` of a row. For replays without pauses.

        Returns:
            How many messages were handled; fewer than all only if the stream is stopping.
        """
        payloads = row.payloads[begin:end]
        self.counter.receive(end - begin)
        self.counter.take(end - begin)
        messages, place = self._decode(payloads), 0
        while place < len(payloads) and not self.delivery.stopping:
            arrived, at = row.arrived[begin + place], row.at[begin + place]
            self._set_time(arrived)
            self.gaps.happened(arrived, at)
            done = self.delivery.run_timed(messages[place:], payloads[place:], row.at[begin + place : end])
            if not done:  # not a simple message: deliver the rest of its batch
                stop = min(row.end_of_batch(begin + place), end) - begin
                connection = row.connections[begin + place]
                done = self.delivery.run(messages[place:stop], payloads[place:stop], at, connection)
            place += done
        self.counter.settle(dropped=len(payloads) - place)
        self.delivery.weigh(sum(map(len, payloads)))
        return place

    def end(self) -> None:
        """End the run: drop the messages that are held back, and count them as dropped."""
        self.gaps.end()

    def reset_after_fork(self) -> None:
        """Stop in a forked child: if the fork happened inside a handler, let it return, and call no other."""
        self.counter.reset_after_fork()
        self.delivery.stopping = True

    def lag(self, now: float) -> float:
        """Seconds since the message being delivered arrived; 0 if there is none. Any thread."""
        arrived = self.arrived  # read once: the dispatch thread may set it to None at any moment
        return 0.0 if arrived is None else max(0.0, now - arrived)

    def busy_for(self, now: float) -> float:
        """Seconds that the dispatch thread has spent in its current slice; 0 while it is idle. Any thread."""
        since = self.busy_since  # read once, like `arrived` in `lag`
        return 0.0 if since is None else max(0.0, now - since)

    def is_late(self, now: float) -> bool:
        """Whether the message being delivered has waited longer than `max_lag`. Any thread."""
        return self._max_lag is not None and self.lag(now) > self._max_lag

    # Events

    def _set_time(self, arrived: float) -> None:
        self.delivery.now = self.venue.now = arrived

    def _note(self, event: Event) -> None:  # noqa: PLR0912  # a table
        """The first part of handling an event, when it is taken from the queue: everything that concerns gaps."""
        assert not isinstance(event, Batch)
        self._set_time(event.arrived)
        self.gaps.happened(event.arrived, event.at)
        match event:
            case TimerFired():
                self._fire_timer(event)
            case RequestSent():
                self.venue.requested(event.connection, event.request)
            case ConnectionOpened():
                self.gaps.opened(event)
                if self._health is not None:
                    self._health.restart(event.connection.endpoint)
            case ConnectionClosed():
                self.gaps.closed(event)
            case SubscriptionAdded():
                self.wanted.add(event.subscription, event.endpoint)
                self.gaps.added(event.subscription)
                self.delivery.subscription("added", event.subscription)
            case SubscriptionRemoved():
                self.wanted.remove(event.subscription)
                self.gaps.removed(event.subscription)
                self.delivery.subscription("removed", event.subscription)
            case ReplacementBegan():
                self.gaps.replacing(event)
            case ReplacementCancelled():
                self.gaps.cancelled(event.endpoint, event.candidate)
            case StateChanged():
                self.state = event.change.new
                self.delivery.notify("state", event.change)
            case MessagesDropped():
                self.gaps.missed(event)
            case GapReported():
                self.gaps.reported(event.gap)
            case LastValuesRead():
                self._read_last_values(event)
            case NoticeGiven():
                self.delivery.notify(event.topic, event.value)
            case HistoryFetched():
                self.gaps.fetched(event.filling, event.fetched)
            case RecordingDamaged():
                self._damaged(event)

    def _apply(self, event: Event) -> None:
        """The second part, after all earlier messages are delivered: what handlers and the venue's state see."""
        assert not isinstance(event, Batch)
        self._set_time(event.arrived)
        match event:
            case ConnectionOpened():
                self.venue.opened(event.connection)
            case ConnectionClosed():
                self.venue.closed(event.connection)
            case SubscriptionAdded():
                self.venue.added(event.subscription)
            case SubscriptionRemoved():
                self.venue.removed(event.subscription)
            case ErrorOccurred():
                self.controls.report(event.error, event.what)
            case FailureOccurred():
                self._commands.execute(FailStream(event.error))
            case Reached():
                event.event.set()

    def _fire_timer(self, event: TimerFired) -> None:
        self.gaps.settle(event.arrived)
        self.controls.fire_timer(event.arrived)
        self.venue.round()
        if self._health is not None:
            self._health.look(event, self.delivery, self._backlog, is_open=self.state is State.OPEN)
        if event.handled is not None:  # last: the thread that waits for it then sees everything done above
            event.handled.set()

    def _read_last_values(self, event: LastValuesRead) -> None:
        for begin in range(0, len(event.payloads), SLICE):
            if self.delivery.stopping:
                return
            part = event.payloads[begin : begin + SLICE]
            for message, payload, at in zip(self._decode(part), part, event.times[begin:], strict=False):
                if type(message) in self._message_types:
                    self.delivery.remember(message, payload, at)
        for subscription in event.granted:
            self.gaps.confirmed(subscription)
            self.venue.granted(subscription)

    def _damaged(self, event: RecordingDamaged) -> None:
        before = list(self.wanted)
        wanted = event.subscriptions
        for subscription, endpoint in (wanted or {}).items():
            self.venue.added(subscription)
            self.wanted.add(subscription, endpoint)
        self.gaps.damaged(event)
        for subscription in before:
            if wanted is not None and subscription not in wanted:
                self.venue.removed(subscription)
                self.wanted.remove(subscription)
                self.gaps.removed(subscription)
        for connection in event.lost:
            self.venue.closed(connection)

    # Batches

    def _process_batch(self, batch: Batch) -> None:
        payloads, position = batch.payloads, 0
        if self._health is not None and batch.arrived >= self._health.sample_due:
            (message,) = self._decode(payloads[:1])
            self._health.sample(message, batch.arrived, batch.connection.endpoint)
        delivery, max_lag = self.delivery, self._max_lag
        while position < len(payloads):
            if delivery.stopping:
                self.counter.drop_waiting(len(payloads) - position)
                return
            begun = self.busy_since = time.monotonic()
            # A quick check of the time first. With `max_lag` 0 it always succeeds, and `_is_behind` decides.
            if (
                max_lag is not None
                and begun - batch.arrived >= max_lag
                and self._is_behind(batch, len(payloads) - position, begun)
            ):
                self._catch_up(batch.since(position), [], [])
                return
            # A filter gets the whole batch at once. The slice size depends on the machine's speed, and a replay must
            # give the same gaps.
            size = self._slice if delivery.filter is None else len(payloads)
            part = payloads[position : position + size] if len(payloads) > 1 else payloads
            position += len(part)
            self._take(len(part))
            messages = self._decode(part)  # slice by slice, so that they stay in the CPU cache
            if len(part) == 1 and delivery.run(messages, part, batch.at, batch.connection):
                done = 1
            else:
                done = self._process_slice(messages, part, batch)
            if done < len(part):  # it stopped because messages have waited too long
                self._catch_up(batch.since(position), messages[done:], part[done:])
                return
            if time.monotonic() - begun > SLOW_SLICE:
                self._slice = max(1, self._slice // 4)
            elif self._slice < SLICE:
                self._slice = min(SLICE, self._slice * 2)

    def _process_slice(self, messages: list[Any], part: list[bytes], batch: Batch) -> int:
        """Deliver a slice. Returns how many messages are done; fewer than all only if it is time to catch up."""
        delivery, received_at, connection = self.delivery, batch.at, batch.connection
        done = 0
        if len(part) > 1 and delivery.filter is None:  # the first one alone, to time its handler
            done = delivery.run(messages[:1], part[:1], received_at, connection)
        while done < len(part):
            rest = (messages[done:], part[done:]) if done else (messages, part)
            done += delivery.run(*rest, received_at, connection)
            if done == len(part):
                break
            if delivery.stopping:
                self.counter.settle(dropped=len(part) - done)
                return len(part)
            if self._is_behind(batch, len(part) - done, time.monotonic()):
                break
        return done

    # Catching up

    def _is_behind(self, batch: Batch, left: int, now: float) -> bool:
        if self._max_lag is None:
            return False
        if self._max_lag > 0:
            return now - batch.arrived > self._max_lag
        return self.counter.waiting > 1 or left > 1

    def _catch_up(self, batch: Batch, messages: list[Any], payloads: list[bytes]) -> None:
        """Move all waiting messages into a backlog, and deliver from its front until it is empty.

        The backlog keeps the newest states and all events.

        Args:
            batch: the rest of a batch, not decoded yet.
            messages: the messages of the batch before that rest, decoded and in flight.
            payloads: the payloads of `messages`.
        """
        backlog = self._backlog = Backlog()
        self.delivery.queue = partial(self._hold, backlog)
        self._add(messages, payloads, batch, backlog)
        self._absorb(batch, backlog)
        while len(backlog) and not self.delivery.stopping:
            self._absorb_waiting(backlog)
            if self.delivery.stopping:  # set meanwhile: call no more handlers
                break
            if backlog.conflated is not None:
                self.gaps.missed(backlog.conflated)
                backlog.conflated = None
            self._deliver_oldest(backlog)
        self.delivery.queue = self._backlog = None
        self.counter.settle(dropped=backlog.messages())
        for event in backlog.events():  # no more messages are delivered, so nothing is overtaken
            self._apply(event)

    def _absorb_waiting(self, backlog: Backlog) -> None:
        """Move what is waiting now into the backlog. Later messages have to wait until the oldest is delivered."""
        queue, left = self._queue, self.counter.waiting
        assert queue is not None
        while len(backlog) < self._backlog_limit and backlog.size < MAX_BACKLOG_BYTES and left >= 0:
            if self.delivery.stopping or (event := queue.get_waiting()) is None:
                return
            if isinstance(event, Batch):
                left -= len(event.payloads)
                self._absorb(event, backlog)
                self.delivery.weigh(event.size)
                continue
            self._note(event)
            if isinstance(event, IN_PLACE):
                backlog.add_event(event)

    def _absorb(self, batch: Batch, backlog: Backlog) -> None:
        """Move a batch into the backlog, in slices, so that a stop does not have to wait for a large batch."""
        payloads = batch.payloads
        for position in range(0, len(payloads), SLICE):
            if self.delivery.stopping:
                self.counter.drop_waiting(len(payloads) - position)
                return
            part = payloads[position : position + SLICE]
            self._take(len(part))
            self._add(self._decode(part), part, batch, backlog)

    def _add(self, messages: list[Any], payloads: list[bytes], batch: Batch, backlog: Backlog) -> None:
        """Put messages in flight into the backlog. Act at once on those that are not for the user."""
        delivery, received_at, connection = self.delivery, batch.at, batch.connection
        self._set_time(batch.arrived)
        if delivery.filter is not None:
            delivery.prepare(delivery.filter, messages, received_at, connection)
        dropped = duplicates = done = 0
        for message, payload in zip(messages, payloads, strict=True):
            if delivery.stopping:
                dropped += len(messages) - done
                break
            done += 1
            if type(message) not in self._message_types:
                delivery.other(message, payload, connection)
                continue
            try:
                if delivery.filter is not None:
                    verdict = delivery.filter.check(message, payload, received_at, connection)
                    if verdict is not Verdict.PASS:
                        duplicates += verdict is Verdict.DUPLICATE
                        continue
                dropped += backlog.add(Waiting(message, payload, received_at, batch.arrived))
            except Exception as error:  # noqa: BLE001  # see `Delivery.spoiled`
                delivery.spoiled(payload, error)
        self.counter.settle(dropped=dropped, duplicate=duplicates)

    def _hold(self, backlog: Backlog, message: Message, payload: bytes, received_at: float) -> None:
        """Put a message that the filter held, and releases now, into the backlog."""
        replaced = backlog.add(Waiting(message, payload, received_at, self.delivery.now))
        self.counter.settle(dropped=replaced)

    def _deliver_oldest(self, backlog: Backlog) -> None:
        oldest = backlog.pop()
        if not isinstance(oldest, Waiting):
            self._apply(oldest)
            return
        self.arrived, self.busy_since = oldest.arrived, time.monotonic()
        self._set_time(oldest.arrived)
        self.delivery.hand_on(oldest.message, oldest.payload, oldest.received_at)
