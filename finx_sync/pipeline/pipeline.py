"""The one way of an event: codec, gap tracking, venue state, last values, handlers, counters.

`Pipeline.process` takes events in order, wherever they come from: a live session's queue, a recording, a test. All of
it runs on one thread, the dispatch thread, which is the only one that runs user code. When handlers are too slow, it
catches up by the overflow rule.
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
    HistoryFetched,
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
"""Messages between two entries in the counters, at most."""
MAX_BACKLOG_BYTES: Final = 256 * 1024 * 1024
"""Bytes of messages that are taken in while catching up; the others wait where they are."""
SLOW_SLICE: Final = 0.02
"""Seconds; slices that take longer get shorter, so that slow handlers are noticed soon."""
IN_PLACE: Final = (
    ConnectionOpened,
    ConnectionClosed,
    SubscriptionAdded,
    SubscriptionRemoved,
    ErrorOccurred,
    FailureOccurred,
    Reached,
)
"""Events whose second part must not overtake any message before them, not even while the pipeline catches up."""


class Pipeline:
    """Handles the events of one run.

    Args:
        codec: of the venue.
        state: what the venue remembers in this run; None where it remembers nothing.
        handlers: who wants what.
        latest: the table of last values.
        wall: tells the present time, UNIX seconds, to whoever asks for coverage up to now.
        commands: does what the events ask for.
        overlap: seconds that two connections serve one endpoint at most.
        ends_on_handler_error: whether an exception of a handler ends the stream.
        queue: where events wait, to take in what waits while catching up; None where nothing does.
        max_lag: seconds that a message may wait before newer states replace older ones; None for ever.
        backlog_limit: messages that may wait while catching up.
        health: looks for feeds that fall silent or behind; None where nobody does.

    Attributes:
        counter: what became of each message.
        gaps: what is missing.
        delivery: calls the handlers.
        venue: drives the venue's state.
        state: the stream's, as of the event that is being handled.
        arrived: when the message arrived that is being handed on, monotonic; None when none is. Read by any thread.
        busy_since: since when the dispatch thread has been in one slice, monotonic; None when idle. Likewise.
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
    ) -> None:
        self.counter = MessageCounter() if counter is None else counter
        self.wanted = Wanted() if wanted is None else wanted
        self.venue = VenueDriver(state, handlers)
        self.delivery = Delivery(
            handlers, self.counter, latest, self.venue, commands if ends_on_handler_error else None
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
        self._slice = 1

    def process(self, event: Event) -> None:
        """Handle one event, after all that came before it."""
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
        """Handle some messages of batches that were received before: a recording's, without their pauses.

        Returns:
            How many; fewer than all only where the stream is stopping.
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
            if not done:  # not so simple: batch by batch, as they came
                stop = min(row.end_of_batch(begin + place), end) - begin
                connection = row.connections[begin + place]
                done = self.delivery.run(messages[place:stop], payloads[place:stop], at, connection)
            place += done
        self.counter.settle(dropped=len(payloads) - place)
        self.delivery.weigh(sum(map(len, payloads)))
        return place

    def end(self) -> None:
        """No event follows: what is kept back is dropped, counted."""
        self.gaps.end()

    def reset_after_fork(self) -> None:
        """In the child of a fork, which may run on in a handler: let that one return, and call no other."""
        self.counter.reset_after_fork()
        self.delivery.stopping = True

    def lag(self, now: float) -> float:
        """Seconds since the message arrived that is being handed on now; 0 when none is. Any thread."""
        arrived = self.arrived
        return 0.0 if arrived is None else max(0.0, now - arrived)

    def busy_for(self, now: float) -> float:
        """Seconds that the dispatch thread has been in one handler, or a few fast ones; 0 when idle. Any thread."""
        since = self.busy_since
        return 0.0 if since is None else max(0.0, now - since)

    def is_late(self, now: float) -> bool:
        """Whether the message that is being handed on has waited for longer than it may. Any thread."""
        return self._max_lag is not None and self.lag(now) > self._max_lag

    # Events

    def _set_time(self, arrived: float) -> None:
        self.delivery.now = self.venue.now = arrived

    def _note(self, event: Event) -> None:  # noqa: PLR0912  # a table
        """The first part, as soon as the event is taken from the queue: what decides which messages are missing."""
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
            case SubscriptionRemoved():
                self.wanted.remove(event.subscription)
                self.gaps.removed(event.subscription)
            case ReplacementBegan():
                self.gaps.replacing(event)
            case ReplacementCancelled():
                self.gaps.cancelled(event.endpoint, event.candidate)
            case StateChanged():
                self.state = event.change.new
                self.delivery.notify("state", event.change)
            case MessagesDropped():
                self.gaps.missed(event)
            case NoticeGiven():
                self.delivery.notify(event.topic, event.value)
            case HistoryFetched():
                self.gaps.fetched(event.filling, event.fetched)
            case RecordingDamaged():
                self._damaged(event)

    def _apply(self, event: Event) -> None:
        """The second part, after all messages that came before it: what handlers and the venue's state see."""
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
            self._health.look(event, self.delivery, is_open=self.state is State.OPEN)
        if event.handled is not None:
            event.handled.set()

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
            # Beyond its wait at most, or with no wait at all, which is looked at more closely.
            if (
                max_lag is not None
                and begun - batch.arrived >= max_lag
                and self._is_behind(batch, len(payloads) - position, begun)
            ):
                self._catch_up(batch.since(position), [], [])
                return
            # A filter is shown what came together as one, however fast this machine is: so a replay judges it alike.
            size = self._slice if delivery.filter is None else len(payloads)
            part = payloads[position : position + size] if len(payloads) > 1 else payloads
            position += len(part)
            self._take(len(part))
            messages = self._decode(part)  # not the whole batch at once: these stay in the processor's cache
            if len(part) == 1 and delivery.run(messages, part, batch.at, batch.connection):
                done = 1
            else:
                done = self._process_slice(messages, part, batch)
            if done < len(part):  # it broke off, since messages have waited for too long
                self._catch_up(batch.since(position), messages[done:], part[done:])
                return
            if time.monotonic() - begun > SLOW_SLICE:
                self._slice = max(1, self._slice // 4)
            elif self._slice < SLICE:
                self._slice = min(SLICE, self._slice * 2)

    def _process_slice(self, messages: list[Any], part: list[bytes], batch: Batch) -> int:
        """Hand on; returns how many, fewer than all only where it is time to catch up."""
        delivery, received_at, connection = self.delivery, batch.at, batch.connection
        done = 0
        if len(part) > 1 and delivery.filter is None:  # one alone first: its time is taken
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
        """Take in all that waits, keep the newest states and every event, hand on the oldest; until nothing is left.

        Args:
            batch: what has not been decoded yet.
            messages: of the same batch, before that: decoded already, and in flight.
            payloads: theirs.
        """
        backlog = Backlog()
        self.delivery.queue = partial(self._hold, backlog)
        self._add(messages, payloads, batch, backlog)
        self._absorb(batch, backlog)
        while len(backlog) and not self.delivery.stopping:
            self._absorb_waiting(backlog)
            if self.delivery.stopping:  # meanwhile: nobody is called any more
                break
            if backlog.conflated is not None:
                self.gaps.missed(backlog.conflated)
                backlog.conflated = None
            self._deliver_oldest(backlog)
        self.delivery.queue = None
        self.counter.settle(dropped=backlog.messages())
        for event in backlog.events():  # the stream is stopping: no message follows that they could be early for
            self._apply(event)

    def _absorb_waiting(self, backlog: Backlog) -> None:
        """Take in what waits now. What comes meanwhile has to wait for the oldest message to be handed on."""
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
        """Take in a batch, in slices: one read may have brought half a million messages, and a stop must not wait."""
        payloads = batch.payloads
        for position in range(0, len(payloads), SLICE):
            if self.delivery.stopping:
                self.counter.drop_waiting(len(payloads) - position)
                return
            part = payloads[position : position + SLICE]
            self._take(len(part))
            self._add(self._decode(part), part, batch, backlog)

    def _add(self, messages: list[Any], payloads: list[bytes], batch: Batch, backlog: Backlog) -> None:
        """Put messages in flight into the backlog; act at once on those that are for the library."""
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
        """What a filter has kept, and lets go on now."""
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
