"""The connections that the subscriptions need: one supervisor for each endpoint, or two while one replaces the other.

Supervisors report the opening and the end of their connections here, on their io threads. Whatever concerns messages
and handlers is queued as an event, and the pipeline answers with commands. All methods may be called from any thread;
the lock is held for assignments and thread starts only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from finx_sync.clock import Clock
from finx_sync.errors import (
    AuthorizationError,
    ConnectionLostError,
    FinxSyncError,
    HandshakeError,
)
from finx_sync.events import (
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    ErrorOccurred,
    FailureOccurred,
    ReplacementBegan,
    ReplacementCancelled,
    ReplacementTookOver,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from finx_sync.notices import GapReason
from finx_sync.pipeline.commands import (
    AskAgain,
    Command,
    Confirm,
    DropSubscription,
    FailStream,
    ProbeAnswered,
    Refuse,
    RenewConnection,
    Replace,
)
from finx_sync.pipeline.queue import EventQueue
from finx_sync.redaction import secrets_of
from finx_sync.session.failures import is_fatal, too_slow
from finx_sync.session.flight import FlightRecorder
from finx_sync.session.parts import SessionParts
from finx_sync.session.status import OVER, Status
from finx_sync.session.supervisor import Supervisor
from finx_sync.state import State
from finx_sync.venues.base import MAIN_ENDPOINT, Notify, Resubscribe, Subscription

__all__ = ["Connections"]

logger = logging.getLogger("finx_sync")

MATCH_PAUSE: Final = 5.0
"""Seconds between two attempts to replace a connection whose URL names other subscriptions than those wanted."""

OnRefused = Callable[[], object]
"""Called when the server refuses the key on a connection that is to replace another one."""


class Connections:
    """The supervisors of one session. Executes the pipeline's commands.

    Args:
        parts: the parts of the stream.
        queue: receives the events.
        status: the status of the run.
        clock: the clock of the run.
        flight: the flight recorder.
    """

    def __init__(
        self, parts: SessionParts, queue: EventQueue, status: Status, clock: Clock, flight: FlightRecorder
    ) -> None:
        self._parts = parts
        self._codec = parts.codec
        self._subscriptions = parts.subscriptions
        self._queue = queue
        self._status = status
        self._clock = clock
        self._flight = flight
        self._lock = threading.RLock()  # re-entrant, for signal handlers
        self._serving: dict[str, Supervisor] = {}
        self._candidates: dict[str, _Candidate] = {}
        self._trials: dict[Supervisor, OnRefused] = {}  # those with a new key that may still be refused
        self._leaving: list[Supervisor] = []
        self._stopped = False
        self._match_after = 0.0  # monotonic

    def all(self) -> list[Supervisor]:
        """Return the supervisors that serve the stream."""
        with self._lock:
            return list(self._serving.values())

    def _of(self, connection: Connection) -> Supervisor | None:
        """Return the supervisor whose present connection this is; None if it has another connection by now."""
        with self._lock:
            candidate = self._candidates.get(connection.endpoint)
            known = (self._serving.get(connection.endpoint), None if candidate is None else candidate.new)
        return next((one for one in known if one is not None and one.connection is connection), None)

    # Which connections are needed

    def adjust(self) -> None:
        """Open the connections that the subscriptions need, and close those that they do not need."""
        state = self._status.state
        if state in OVER:
            return
        with self._lock:
            surplus = self._adjust(patient=state is not State.CONNECTING)
        for supervisor in surplus:
            supervisor.stop()
        self.match_urls()
        self.settle_state()
        if self._status.state in OVER:  # a stop meanwhile may have missed the new supervisors
            self.stop()

    @property
    def fit(self) -> bool:
        """Whether `adjust`, which starts and ends threads, would have nothing to do now."""
        with self._lock:
            return not self._codec.asks_by_url and (self._stopped or set(self._needed()) == set(self._serving))

    def _needed(self) -> list[str]:
        """Return the endpoints that the subscriptions need."""
        needed = self._subscriptions.endpoints()
        if self._codec.has_main_endpoint and MAIN_ENDPOINT not in needed:
            needed.append(MAIN_ENDPOINT)
        return needed

    def _adjust(self, *, patient: bool) -> list[Supervisor]:
        if self._stopped:
            return []
        needed = self._needed()  # under the lock, so that of two threads the later one sees the newer subscriptions
        surplus = [self._serving.pop(name) for name in list(self._serving) if name not in needed]
        surplus += [self._candidates.pop(name).new for name in list(self._candidates) if name not in needed]
        self._leave(surplus)
        for name in needed:
            if name not in self._serving:
                supervisor = self._serving[name] = self._new(name, patient=patient)
                supervisor.start()
        return surplus

    def _new(self, endpoint: str, *, patient: bool) -> Supervisor:
        parts = self._parts
        return Supervisor(
            endpoint,
            codec=parts.codec,
            account=parts.account,
            options=parts.options,
            subscriptions=parts.subscriptions,
            queue=self._queue,
            owner=self,
            clock=self._clock,
            flight=self._flight,
            patient=patient,
            notes_requests=parts.venue is not None,
        )

    def _leave(self, supervisors: list[Supervisor]) -> None:
        self._leaving = [one for one in [*self._leaving, *supervisors] if one.is_alive]

    def settle_state(self) -> None:
        """Report the stream as open if all connections are."""
        self._status.move(State.OPEN, unless=OVER, provided=self._all_confirmed)

    def _all_confirmed(self) -> bool:
        return all(supervisor.confirmed for supervisor in self.all())

    # Subscriptions

    def added(self, subscriptions: Iterable[Subscription]) -> None:
        """Announce subscriptions before they are requested, so that the pipeline knows them before any answer comes."""
        for one in subscriptions:
            self._queue.emit(SubscriptionAdded, one, self._codec.endpoint_of(one))

    def removed(self, subscription: Subscription) -> None:
        """Announce a subscription that is about to be removed."""
        self._queue.emit(SubscriptionRemoved, subscription, self._codec.endpoint_of(subscription))

    def match_urls(self) -> None:
        """If URLs name the subscriptions, replace the connections whose URL names others than those wanted."""
        if not self._codec.asks_by_url or self._clock.monotonic() < self._match_after:
            return
        for supervisor in self.all():
            if self._subscriptions.differs(supervisor.endpoint):
                self.replace(supervisor, "reconnect", partial(self._drop_refused, supervisor.endpoint))

    def _drop_refused(self, endpoint: str) -> None:
        """Remove the subscriptions that only a refused replacement would have carried: the server refused them."""
        self._match_after = 0.0  # the subscriptions that remain have not failed
        carried = self._subscriptions.carried(endpoint)
        for subscription in self._subscriptions.desired(endpoint):
            if subscription not in carried:
                self._subscriptions.refused(subscription)
                self.removed(subscription)

    # Replacing

    def renew_all(self, reason: GapReason, on_refused: OnRefused = lambda: None) -> None:
        """Replace every connection. If possible, the new one is open and subscribed before the old one is closed.

        Args:
            reason: the reason of any gap that this leaves.
            on_refused: called if the server refuses the key on the new connection; the old one stays in use.
        """
        for supervisor in self.all():
            self._renew(supervisor, reason, on_refused)

    def _renew(self, supervisor: Supervisor, reason: GapReason, on_refused: OnRefused) -> None:
        if self._codec.can_overlap and supervisor.confirmed:
            self.replace(supervisor, reason, on_refused)
        else:
            supervisor.reconnect(_asked_for(reason), reason)

    def reconnect_all(self, reason: GapReason) -> None:
        """Close every connection and open a new one at once, because none of them can be trusted."""
        for supervisor in self.all():
            supervisor.reconnect(_asked_for(reason), reason)

    def replace(self, old: Supervisor, reason: GapReason, on_refused: OnRefused) -> None:
        """Open a second connection for an endpoint; once it has taken over, the first one is closed."""
        endpoint = old.endpoint
        with self._lock:
            connection = old.connection
            if self._stopped or connection is None or endpoint in self._candidates:
                return  # it is connecting anyway, or is already being replaced
            if self._serving.get(endpoint) is not old:
                return
            new = self._new(endpoint, patient=False)
            candidate = self._candidates[endpoint] = _Candidate(self, old, new, reason, on_refused)
        new.answers_probes = old.answers_probes
        self._queue.emit(ReplacementBegan, connection, new.token, candidate)
        with self._lock:
            if not self._stopped:
                new.start()

    def carried(self, endpoint: str) -> list[Subscription]:
        """Return the subscriptions requested on the connection that serves an endpoint."""
        return self._subscriptions.asked(endpoint)

    def take_over(self, candidate: _Candidate, connection: Connection, timer: float) -> bool:
        """Let the candidate serve the endpoint from now on; return False if it has just failed.

        The dispatch thread calls this while an io thread may call `_drop`. The lock decides which of them comes first;
        the other one then finds the endpoint settled and returns False.

        Args:
            candidate: the candidate.
            connection: its connection.
            timer: see `ReplacementTookOver`.
        """
        old, new = candidate.old, candidate.new
        with self._lock:
            if self._candidates.get(old.endpoint) is not candidate:
                return False
            del self._candidates[old.endpoint]
            self._serving[old.endpoint] = new
            self._leave([old])
            if not new.confirmed:
                self._try_key(new, candidate)
            new.take_over()
        old.give_up()
        self._queue.emit(ReplacementTookOver, connection, timer)
        self.settle_state()
        self.match_urls()
        return True

    def give_up(self, candidate: _Candidate) -> None:
        """Cancel the replacement: the old connection ended before the new one was open, and will reconnect itself.

        It reconnects with the new key.
        """
        self._try_key(candidate.old, candidate)
        self._drop(candidate)

    def _try_key(self, supervisor: Supervisor, candidate: _Candidate) -> None:
        """Have `on_refused` called, which restores the old key, if the server refuses the new one on `supervisor`."""
        if candidate.reason == "rotation":
            self._trials[supervisor] = candidate.on_refused

    def _drop(self, candidate: _Candidate) -> bool:
        """Leave the endpoint to the old connection; return False if the new one serves it already."""
        endpoint, new = candidate.old.endpoint, candidate.new
        with self._lock:
            if self._serving.get(endpoint) is new:
                return False
            if self._candidates.get(endpoint) is candidate:
                del self._candidates[endpoint]
            self._leave([new])
        new.give_up()
        return True

    def _candidate_failed(self, candidate: _Candidate, error: FinxSyncError) -> bool:
        """Handle a candidate that failed to open, or was lost before it took over; return False if it took over."""
        if not self._drop(candidate):
            return False
        endpoint = candidate.old.endpoint
        self._queue.emit(ReplacementCancelled, endpoint, candidate.new.token, candidate)
        if self._codec.asks_by_url and not self._subscriptions.desired(endpoint):
            return True  # no subscription needed it any more
        self._replacement_failed(error)
        if isinstance(error, AuthorizationError):
            candidate.on_refused()
        elif isinstance(
            error, (HandshakeError, ConnectionLostError)
        ):  # the server may allow only one connection: reconnect the old one
            candidate.old.reconnect(error, candidate.reason)
        return True

    def _replacement_failed(self, error: FinxSyncError) -> None:
        self._match_after = self._clock.monotonic() + MATCH_PAUSE
        self._queue.emit(ErrorOccurred, error, f"{self._codec.venue}: a second connection could not take over")

    # Reports of the supervisors, on their io threads

    def opened(self, connection: Connection, key: Any) -> None:
        """Take the report that a connection is open, with these credentials; its payloads follow."""
        self._queue.emit(ConnectionOpened, connection, secrets_of(key))
        self.match_urls()  # a subscription may have been added after the URL was made

    def closed(self, connection: Connection, covered_until: float, reason: GapReason) -> None:
        """Take the report that a connection has ended; everything up to `covered_until` (UNIX seconds) was received."""
        self._queue.emit(ConnectionClosed, connection, covered_until, reason, self._status.state in OVER)

    def confirmed(self, supervisor: Supervisor) -> None:
        """Take the report that the server accepted the key, or did not refuse it in time."""
        self._trials.pop(supervisor, None)
        self.settle_state()

    def is_being_replaced(self, supervisor: Supervisor) -> bool:
        """Return whether another connection is to replace this one's; if so, no failure of this one is fatal."""
        with self._lock:
            candidate = self._candidates.get(supervisor.endpoint)
        return candidate is not None and candidate.old is supervisor

    def ended(self, supervisor: Supervisor, error: FinxSyncError, *, may_retry: bool, was_being_replaced: bool) -> bool:
        """Take the report that an attempt or an open connection has ended; return whether to make another attempt."""
        with self._lock:
            candidate = self._candidates.get(supervisor.endpoint)
        if candidate is not None and candidate.new is supervisor and self._candidate_failed(candidate, error):
            return False
        on_refused = self._trials.get(supervisor)
        if on_refused is not None and isinstance(error, AuthorizationError):
            del self._trials[supervisor]
            self._replacement_failed(error)
            on_refused()
        elif (is_fatal(error) and not was_being_replaced) or not may_retry:
            self.fail(error)
            return False
        return True

    def lost(self, error: FinxSyncError, *, was_open: bool) -> None:
        """Take the report that a connection is lost and will be reopened."""
        if was_open:
            self._status.lost()
        over = OVER if was_open else OVER | {State.CONNECTING}  # a restarted first attempt is still the first
        self._status.move(State.RECONNECTING, error, unless=over, provided=lambda: not self._all_confirmed())

    def overflowed(self, *, on_io_thread: bool) -> None:
        """Take the report that too many messages wait; the overflow rule is to end the stream."""
        error = too_slow(self._parts.options.queue_size)
        if on_io_thread:
            self.fail(error)
        else:  # the dispatch thread is reading: the stream ends once it has handled what it has read
            self._queue.emit(FailureOccurred, error)

    # Commands of the pipeline, on the dispatch thread

    def execute(self, command: Command) -> None:
        """Execute a command; see `CommandSink`."""
        match command:
            case Confirm() | Refuse() | RenewConnection() | ProbeAnswered():
                if (supervisor := self._of(command.connection)) is not None:
                    _obey(supervisor, command)
            case Replace():
                for supervisor in self.all():
                    if supervisor.endpoint == command.endpoint:
                        self._renew(supervisor, command.reason, lambda: None)
            case DropSubscription():
                self._subscriptions.refused(command.subscription)
            case AskAgain():
                self._subscriptions.again(command.subscription)
            case Resubscribe():
                for subscription in command.subscriptions:
                    if self._subscriptions.remove(subscription):
                        self._subscriptions.add(subscription)
            case Notify():
                self._parts.venue_changes.notify()
            case FailStream():
                self.fail(command.error)

    # The end

    def fail(self, error: FinxSyncError) -> None:
        """Make no further attempt, and end the stream with an error once everything received has been handled."""
        self._status.fail(error)
        self.stop()
        self._queue.close()

    def stop(self) -> None:
        """Tell all io threads to end, and start no others. Return at once."""
        with self._lock:
            self._stopped = True
        for supervisor in self._everyone():
            supervisor.stop()

    def join(self, deadline: float) -> bool:
        """Wait until `deadline` (monotonic seconds) for all io threads to end; return whether they have."""
        ended = True
        for supervisor in self._everyone():
            ended = supervisor.join(max(0.0, deadline - time.monotonic())) and ended
        return ended

    def _everyone(self) -> list[Supervisor]:
        with self._lock:
            return [*self._serving.values(), *(one.new for one in self._candidates.values()), *self._leaving]


class _Candidate:
    """A supervisor that opens a connection to replace another supervisor's; see `finx_sync.events.Candidate`."""

    def __init__(
        self, connections: Connections, old: Supervisor, new: Supervisor, reason: GapReason, on_refused: OnRefused
    ) -> None:
        self._connections = connections
        self.old = old
        self.new = new
        self.reason: GapReason = reason
        self.on_refused = on_refused

    @property
    def is_confirmed(self) -> bool:
        return self.new.confirmed

    def owns(self, connection: Connection) -> bool:
        return connection.owner is self.new.token

    def carried(self) -> list[Subscription]:
        return self._connections.carried(self.old.endpoint)

    def take_over(self, new: Connection, timer: float) -> bool:
        return self._connections.take_over(self, new, timer)

    def give_up(self) -> None:
        self._connections.give_up(self)


def _obey(supervisor: Supervisor, command: Confirm | Refuse | RenewConnection | ProbeAnswered) -> None:
    match command:
        case Confirm():
            supervisor.confirm()
        case Refuse(error=error):
            supervisor.refuse(error)
        case RenewConnection(error=error, reason=reason):
            supervisor.reconnect(error, reason)
        case ProbeAnswered():
            supervisor.answers_probes = True


def _asked_for(reason: GapReason) -> FinxSyncError:
    return ConnectionLostError(f"a new connection was requested ({reason})")
