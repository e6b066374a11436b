"""One run of a stream, from start to stop: its connections, its inbox, its threads, its state.

Threads: an io thread for each connection (`Supervisor`), one dispatch thread (`Worker`), one watch (`Watch`), and
whoever calls `start` and `stop`. All report here; what concerns the user is queued to the dispatch thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from finx_sync.errors import (
    ConnectionLostError,
    FinxSyncError,
    HandlerRaisedError,
    SlowConsumerError,
    StreamTimeoutError,
)
from finx_sync.interrupts import uninterrupted
from finx_sync.notices import Gap, GapReason
from finx_sync.pipeline.backfill import Backfill
from finx_sync.pipeline.controls import Controls
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.delivery import Delivery, Fate
from finx_sync.pipeline.drift import DriftMonitor
from finx_sync.pipeline.gaps import Continuity
from finx_sync.pipeline.queue import Connection, Event, Inbox, Ordered
from finx_sync.pipeline.tap import Tap
from finx_sync.pipeline.venue import VenueDriver
from finx_sync.pipeline.worker import Worker
from finx_sync.redaction import secrets_of
from finx_sync.session.clock import Clock
from finx_sync.session.connections import Lines, Replacement
from finx_sync.session.flight import FlightRecorder
from finx_sync.session.lookout import Lookout
from finx_sync.session.parts import SessionParts
from finx_sync.session.staleness import Staleness
from finx_sync.session.state import ENDED, State, StateBox, StateChange
from finx_sync.session.supervisor import Supervisor
from finx_sync.session.tapped import (
    Asked,
    LineClosed,
    LineOpened,
    LineSucceeded,
    Look,
    Wish,
)
from finx_sync.session.watch import Watch
from finx_sync.transport.app import WebSocketApp
from finx_sync.venues.base import Changed, Command, Report, Request, Resubscribe, Subscription
from finx_sync.venues.guarded import guarded

__all__ = ["Session"]

logger = logging.getLogger("finx_sync")

OVER: Final = ENDED | {State.STOPPING}
"""States that a late report from a connection does not change."""
MATCH_PAUSE: Final = 5.0
"""Seconds between two attempts to replace a connection whose URL asks for other subscriptions than are wanted."""
DRIFT_PAUSE: Final = 300.0
"""Seconds between two replacements of a connection that falls behind: where each one does, another is no cure."""
LAST_JOIN: Final = 1.0
"""Seconds that the dispatch thread gives the other threads at its end; they are on their way out by then."""


class Session:
    """Runs a stream once. `start` and `stop` are for any thread but the io threads."""

    def __init__(self, parts: SessionParts, clock: Clock | None = None) -> None:
        options = parts.options
        self._parts = parts
        self.clock = clock or Clock()
        self.counter = MessageCounter()
        self.flight = FlightRecorder(self.clock.offset)
        self.state = StateBox(self._state_changed)
        self._inbox = Inbox(options.queue_size, self.counter, options.overflow, self._overflowed, parts.taps)
        self.venue = VenueDriver(parts.venue, lambda: self.delivery.now, parts.handlers, self._do)
        self.delivery = Delivery(
            parts.handlers,
            self.counter,
            parts.latest,
            self._take_control,
            self._handler_raised if options.handler_errors == "raise" else None,
            expander=self.venue,
        )
        self.continuity = Continuity(
            dialect=parts.dialect,
            subscriptions=parts.subscriptions.desired,
            delivery=self.delivery,
            clock=self.clock,
            on_missed=self._missed,
            overlap=options.overlap,
        )
        if parts.history is not None and options.backfill:
            self.continuity.filler = Backfill(
                parts.history,
                self.delivery,
                self.counter,
                self._inbox.post,
                timeout=options.backfill_timeout,
                on_filled=self.continuity.filled,
            )
        self._drift = DriftMonitor()
        self.worker = Worker(
            inbox=self._inbox,
            counter=self.counter,
            handlers=parts.handlers,
            delivery=self.delivery,
            decode=guarded(parts.dialect),
            message_types=parts.dialect.message_types,
            max_lag={"auto": options.max_lag, "latest": 0.0}.get(options.overflow),
            backlog_limit=options.queue_size,
            on_missed=self.continuity.missed,
            sample=self._drift.sample,
            on_end=self._worker_ended,
            name="finx-sync dispatch",
        )
        self.lines = Lines(parts.dialect, parts.subscriptions, self._new_line, self._replaced, self._replacement_failed)
        self._controls = Controls(
            parts.dialect.venue,
            subscriptions=parts.subscriptions,
            continuity=self.continuity,
            endpoint_of=self.lines.of,
            notify=self.delivery.notify,
            driver=self.venue,
        )
        self.lookout = Lookout(
            on_round=self._round,
            clock=self.clock,
            inbox=self._inbox,
            counter=self.counter,
            worker=self.worker,
            handlers=parts.handlers,
            staleness=Staleness(parts.dialect, parts.stale_limits, parts.latest),
            continuity=self.continuity,
            drift=self._drift,
            on_drift=self._fell_behind,
            notify=self.delivery.notify,
            post_look=lambda action, now, wall: self._happens(Look(), action, now, wall),
            is_open=lambda: self.state.state is State.OPEN,
            on_suspend=self._woke,
            on_stall=lambda handler: self._write_report(f"the handler {handler} does not return"),
            lag_limit=options.max_lag,
        )
        self._watch = Watch(self.lookout.interval(options), self.clock, self.lookout.look)
        self._lock = threading.Lock()  # guards the moment of the start, and the counter
        self._reconnects = 0
        self._secrets: tuple[str, ...] = ()
        self._match_after = 0.0  # monotonic
        self._drift_after = 0.0  # monotonic
        self._is_ending = False

    @property
    def reconnects(self) -> int:
        """How often an open connection was lost."""
        return self._reconnects

    def start(self, timeout: float | None) -> None:
        """Connect; returns when every connection is open, or when `stop` was called meanwhile.

        Raises:
            FinxSyncError: why the first attempt failed; nothing is left running.
        """
        try:
            with self._lock:
                if self.state.state is not State.NEW:
                    return
                self.worker.start()
                self._watch.start()
            self.announce(*self._parts.subscriptions.desired(), wanted=True)
            self.state.move(State.CONNECTING, unless=OVER - {State.NEW})
            self.adjust_lines()
            in_time = self.state.wait(lambda state: state is not State.CONNECTING, timeout)
        except BaseException:  # no further thread can be had, for one
            self.stop(LAST_JOIN, drain=False)
            raise
        if not in_time:
            self.stop(LAST_JOIN, drain=False)
            raise StreamTimeoutError(f"the stream was not open within {timeout:g} s, and has been stopped")
        if (failure := self.state.failure) is not None:
            self.join(LAST_JOIN)
            raise failure

    def stop(self, timeout: float, *, drain: bool) -> bool:
        """End everything; on the dispatch thread returns at once, else within `timeout` seconds.

        Returns:
            Whether all threads have ended.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            if not self.worker.started:  # a stop that comes before the start has got going wins
                self.state.move(State.STOPPED)
                return True
        self.state.move(State.STOPPING, unless=OVER - {State.NEW})
        self._stop_others()
        if drain and not self.worker.on_this_thread():
            self.lines.join(deadline)
        self.worker.stop(drain=drain)
        if self.worker.on_this_thread():
            return False
        return self.join(deadline - time.monotonic())

    def forked(self) -> None:
        """In the child of a fork, which may run on in a handler: let that one return, and call no other."""
        self.worker.forked()

    def join(self, timeout: float) -> bool:
        """Wait for the threads to end; returns whether they have."""
        deadline = time.monotonic() + timeout
        ended = self.lines.join(deadline)
        if self.worker.on_this_thread():
            return False
        ended = self.worker.join(max(0.0, deadline - time.monotonic())) and ended
        return self._watch.join(max(0.0, deadline - time.monotonic())) and ended

    @property
    def has_ended(self) -> bool:
        """Whether no thread of it is left, or none has been started."""
        return self.join(0.0)

    def _stop_others(self) -> None:
        self._watch.stop()
        self.lines.stop()

    # What the user asks for while it runs; any thread

    def announce(self, *subscriptions: Subscription, wanted: bool) -> None:
        """Subscriptions are about to be asked for, or taken back: this has to be known before any answer comes."""
        notify = self.venue.added if wanted else self.venue.removed
        for subscription in subscriptions:
            action = partial(self.continuity.wanted, subscription) if wanted else _nothing
            then = None if self.venue.is_idle else partial(notify, subscription)
            self._happens(self._wish(subscription, wanted=wanted), action, then=then)

    def unwanted(self, subscription: Subscription) -> None:
        """A subscription was removed."""
        now = self.clock.monotonic()
        self._inbox.post(
            partial(self._act, partial(self.continuity.unwanted, subscription), now, now + self.clock.offset)
        )
        self.fit_lines()

    def wants(self, subscription: Subscription) -> bool:
        """Whether a subscription is wanted now."""
        return self._parts.subscriptions.wants(subscription)

    def fit_lines(self) -> None:
        """`adjust_lines` where there is anything to do, which starts and ends threads."""
        if self._parts.dialect.asks_by_url or not self.lines.fit():
            uninterrupted(self.adjust_lines, "finx-sync control")

    def adjust_lines(self) -> None:
        """Have exactly the connections that the subscriptions need."""
        if self.state.state not in OVER:
            self.lines.adjust(patient=self.state.state is not State.CONNECTING)
            self._match_urls()
            self._settle_state()
            if self.state.state in OVER:  # a stop has passed by meanwhile, and may have missed the new ones
                self.lines.stop()

    def _match_urls(self) -> None:
        """Where URLs ask for the subscriptions: replace the connections whose URL asks for others than are wanted."""
        subscriptions = self._parts.subscriptions
        if not self._parts.dialect.asks_by_url or self.clock.monotonic() < self._match_after:
            return
        for line in self.lines.all():
            if subscriptions.differs(line.line):
                forget = partial(self._forget_refused, line.line)
                plan = Replacement(line, "reconnect", forget)
                self.lines.replace(plan, self.continuity, self._happens)

    def _forget_refused(self, line: str) -> None:
        """The server does not grant what the present connection of a line does not carry."""
        self._match_after = 0.0  # what is wanted now has not failed
        subscriptions = self._parts.subscriptions
        carried = subscriptions.carried(line)
        for subscription in subscriptions.desired(line):
            if subscription not in carried:
                subscriptions.refused(subscription)
                self._happens(self._wish(subscription, wanted=False), partial(self.continuity.unwanted, subscription))

    def introduce(self, tap: Tap) -> None:
        """Tell a tap that has just come what there is already."""
        for subscription in self._parts.subscriptions.desired():
            tap.note(self._wish(subscription, wanted=True))
        for line in self.lines.all():
            if (connection := line.connection) is not None:
                tap.note(LineOpened(connection, self._secrets))
        tap.note(StateChange(State.NEW, self.state.state))

    def app(self, line: str) -> WebSocketApp | None:
        """The open websocket of a line; None while it is not connected."""
        return next((one.app for one in self.lines.all() if one.line == line), None)

    def renew(self, reason: GapReason, on_refused: Callable[[], object]) -> None:
        """Replace every connection: the new one is open and subscribed before the old one goes, where that can be.

        Args:
            reason: what a gap is called that this leaves all the same.
            on_refused: called when the server refuses the key on the new connection; the old one goes on.
        """
        for line in self.lines.all():
            self._renew(line, reason, on_refused)

    def _renew(self, line: Supervisor, reason: GapReason, on_refused: Callable[[], object]) -> None:
        if self._parts.dialect.can_overlap and line.confirmed:
            self.lines.replace(Replacement(line, reason, on_refused), self.continuity, self._happens)
        else:
            line.reconnect(_asked_for(reason), reason)

    def dump(self, why: str) -> str:
        """The flight recorder's report; also written to a file when the stream stalls or fails."""
        counters = self.counter.snapshot()
        return self.flight.report(
            ("why", why),
            ("state", f"{self.state.state.value}\n{counters}\n{self._reconnects} reconnects"),
            ("handlers", "\n".join(f"{one.label}: {one.calls} calls" for one in self._parts.handlers.snapshot())),
        )

    def _note(self, event: object, arrived: float | None = None, at: float | None = None) -> None:
        if (tap := self._parts.taps.tap) is not None:
            tap.note(event, arrived, at)

    def _happens(
        self,
        event: object,
        action: Event,
        arrived: float | None = None,
        at: float | None = None,
        *,
        then: Event | None = None,
    ) -> None:
        """Have something done on the dispatch thread, and tell the tap of it in the same place among the messages.

        Args:
            event: what the tap is told.
            action: what is done.
            arrived: when it happened, monotonic; None for now.
            at: the same as UNIX seconds.
            then: what is done after that, and after all messages that came before.
        """
        with self._parts.taps.order:
            now = self.clock.monotonic() if arrived is None else arrived
            wall = now + self.clock.offset if at is None else at
            self._note(event, now, wall)
            self._inbox.post(partial(self._act, action, now, wall))
            if then is not None:
                self._inbox.post(Ordered(partial(self._act, then, now, wall)))

    def _wish(self, subscription: Subscription, *, wanted: bool) -> Wish:
        return Wish(subscription, wanted, self._parts.dialect.endpoint_of(subscription))

    def _act(self, action: Event, now: float, wall: float) -> None:
        self.continuity.happened(now, wall)
        self.delivery.now = now
        action()

    def _write_report(self, why: str) -> None:
        where = self._parts.options.flight_recorder
        if where is not False:
            self.flight.write(None if where is True else where, self.dump(why), why)

    # Observer: on the io threads.

    def line_connected(self, connection: Connection, key: Any) -> None:
        """A connection is open; its payloads follow."""
        self._secrets = tuple({*self._secrets, *secrets_of(key)})
        with self._parts.taps.order:
            then = partial(self.venue.opened, connection)
            opened = LineOpened(connection, self._secrets)
            self._happens(opened, lambda: self.continuity.opened(connection), then=then)
            self._inbox.post(lambda: self._drift.forget(connection.line))
        self._match_urls()  # a wish may have come after the URL was written

    def line_asked(self, connection: Connection, request: Request) -> None:
        """A request is about to be sent: whoever reads the answer has to know it by then. Any thread."""
        if not self.venue.is_idle:
            with self._parts.taps.order:
                self._note(Asked(connection, request))
                self._inbox.post(partial(self.venue.requested, connection, request))

    def line_closed(self, connection: Connection, covered_until: float, reason: GapReason) -> None:
        """It is gone; no payload of it follows."""
        is_over = self.state.state in OVER
        gone = LineClosed(connection, covered_until, reason, by_stop=is_over)
        then = partial(self.venue.closed, connection)
        if is_over:
            self._happens(gone, lambda: self.continuity.left(connection, covered_until), then=then)
        else:
            self._happens(gone, lambda: self.continuity.closed(connection, covered_until, reason), then=then)

    def line_opened(self, line: str) -> None:
        """A connection is ready; the stream is open when all are."""
        self._settle_state()

    def line_lost(self, line: str, error: FinxSyncError, *, was_open: bool) -> None:
        """A connection is gone for now."""
        if was_open:
            with self._lock:
                self._reconnects += 1
        self.state.move(State.RECONNECTING, error, unless=OVER, provided=lambda: not self._all_confirmed())

    def line_failed(self, line: str, error: FinxSyncError) -> None:
        """A connection is gone for good, and the stream with it."""
        self._fail(error, drain=True)

    def _overflowed(self) -> None:
        error = SlowConsumerError(
            f"more than {self._parts.options.queue_size} messages wait for the handlers; make them faster, or "
            "choose another overflow rule"
        )
        if self.worker.on_this_thread():  # it reads, and calls nobody before it has put what it read in its place
            self._inbox.post(Ordered(lambda: self._fail(error, drain=True)))
        else:
            self._fail(error, drain=True)

    def _fail(self, error: FinxSyncError, *, drain: bool) -> None:
        was_open = self.state.state not in (State.NEW, State.CONNECTING)
        has_failed = self.state.move(State.FAILED, error, unless=OVER)
        self._stop_others()
        self.worker.stop(drain=drain)
        if has_failed:
            level = logging.ERROR if was_open else logging.INFO  # start() raises it, which is report enough
            logger.log(level, "%s: the stream has ended: %s", self._parts.dialect.venue, error)
        if has_failed and was_open:
            self._write_report(f"the stream has failed: {error}")

    def _settle_state(self) -> None:
        self.state.move(State.OPEN, unless=OVER, provided=self._all_confirmed)

    def _all_confirmed(self) -> bool:
        return all(line.confirmed for line in self.lines.all())

    def _replaced(self, connection: Connection) -> None:
        """On the dispatch thread, in the middle of a handover: what may call handlers comes after it."""
        self._note(LineSucceeded(connection, self.continuity.looked))
        self._inbox.post(self._settle_state)
        self._match_urls()

    def _new_line(self, name: str, patient: bool) -> Supervisor:
        parts = self._parts
        return Supervisor(
            name,
            dialect=parts.dialect,
            account=parts.account,
            options=parts.options,
            subscriptions=parts.subscriptions,
            inbox=self._inbox,
            observer=self,
            clock=self.clock,
            flight=self.flight,
            patient=patient,
            thread_name=f"finx-sync io {name}".rstrip(),
        )

    def _replacement_failed(self, error: FinxSyncError) -> None:
        self._match_after = self.clock.monotonic() + MATCH_PAUSE

        def notify() -> None:
            if not self.delivery.notify("error", error):
                logger.warning("%s: a second connection could not take over: %s", self._parts.dialect.venue, error)

        self._inbox.post(notify)

    # On the watch's thread.

    def _woke(self, slept: float) -> None:
        """The machine has slept: no connection can be trusted, and nobody waits for a back-off."""
        for line in self.lines.all():
            line.reconnect(_asked_for("suspend"), "suspend")
        logger.warning("the machine slept for %.0f s; connecting anew", slept)

    # On the dispatch thread.

    def _take_control(self, message: object, connection: Connection) -> Fate:
        if type(message) in self.venue.answers:
            self.venue.answer(message, connection)
            return "control"
        return self._controls.take(message, connection)

    def _do(self, command: Command, connection: Connection | None) -> None:
        """What the venue's state wants done."""
        if isinstance(command, Resubscribe):
            self._resubscribe(command)
        elif isinstance(command, Report):
            self._controls.report(command.error)
        elif isinstance(command, Changed):
            self._parts.venue_changed()
        elif connection is not None:
            self._controls.take(command, connection)

    def _resubscribe(self, command: Resubscribe) -> None:
        """Ask anew for what the server has sent wrongly or incompletely: taken back and asked for on one connection."""
        if command.why:
            names = ", ".join(sorted(subscription.name for subscription in command.subscriptions))
            logger.warning("%s: %s; asking anew for %s", self._parts.dialect.venue, command.why, names)
        subscriptions = self._parts.subscriptions
        for subscription in command.subscriptions:
            if subscriptions.remove(subscription):
                subscriptions.add(subscription)

    def _missed(self, gap: Gap) -> None:
        self.venue.missed(gap.reason)

    def _handler_raised(self, error: HandlerRaisedError) -> None:
        self._fail(error, drain=False)

    def _round(self) -> None:
        self._controls.round()
        self._match_urls()
        self._settle_venue()

    def _settle_venue(self) -> None:
        """The part of a round that a replay has as well."""
        self._controls.settle_doubts()
        self.venue.round()

    def _fell_behind(self, name: str) -> None:
        """The feed of a line falls behind."""
        now = self.clock.monotonic()
        if not self._parts.options.reconnect_on_drift or now < self._drift_after:
            return
        self._drift_after = now + DRIFT_PAUSE
        for line in self.lines.all():
            if line.line == name:
                self._renew(line, "drift", lambda: None)

    def _worker_ended(self, crash: FinxSyncError | None) -> None:
        """The last act of the dispatch thread: the others are ending too, and the state says so."""
        self._is_ending = True
        self.continuity.end()
        if crash is not None:
            self._fail(crash, drain=False)
        self._stop_others()
        self.lines.join(time.monotonic() + LAST_JOIN)
        self.state.move(State.STOPPED, unless=ENDED)

    def _state_changed(self, change: StateChange) -> None:
        self.flight.note("state", f"{change.old.value} -> {change.new.value} {change.reason or ''}")
        self._parts.listen(change)
        if self._is_ending:
            self._note(change)
            self.delivery.notify("state", change)
        else:  # on the dispatch thread, too, or the tap would have it in another place among the messages
            self._happens(change, lambda: self.delivery.notify("state", change))


def _asked_for(reason: GapReason) -> FinxSyncError:
    return ConnectionLostError(f"a new connection was asked for ({reason})")


def _nothing() -> None:
    """Where an event is for the tap alone."""
