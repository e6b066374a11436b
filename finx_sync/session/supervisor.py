"""Keeps one endpoint connected: connect, serve, wait, connect again. There is one io thread for each connection.

One loop runs a new `WebSocketApp` for each attempt. Nothing reconnects from inside a callback, so a thousand failures
use no more stack, threads or descriptors than one.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from finx_sync.clock import Clock
from finx_sync.config import Account
from finx_sync.errors import ConnectionLostError, FinxSyncError, InternalError, PeerTimeoutError
from finx_sync.events import Batch, Connection, Reached, RequestSent
from finx_sync.notices import GapReason
from finx_sync.pipeline.queue import EventQueue
from finx_sync.session.failures import gap_reason, is_fatal, judged, retry_after
from finx_sync.session.flight import FlightRecorder
from finx_sync.session.keys import current_key
from finx_sync.session.liveness import PROBE_AFTER, Liveness
from finx_sync.session.options import Options
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.transport.app import WebSocketApp, as_finx_error, quiet_thread
from finx_sync.venues.base import Codec, Request, Subscription

__all__ = ["Owner", "Supervisor"]

logger = logging.getLogger("finx_sync")

AUTHENTICATION_GRACE: Final = 1.0
"""Seconds that a server may take to refuse a key; after that the key counts as accepted (FinX documents no refusal)."""
CLOSE_GRACE: Final = 0.4
"""Seconds that a server may take to answer the close frame when the stream stops."""
VERDICT_PATIENCE: Final = 1.0
"""Seconds that the dispatch thread may take, after a connection's end, to reach what the server said about the key."""

OURS: Final = frozenset({"reconnect", "rotation", "suspend"})
"""The reasons to close a connection that is not at fault."""


class Owner(Protocol):
    """Is notified about connections, and decides what follows. Called on the io threads; its methods must not block."""

    def opened(self, connection: Connection, key: Any) -> None:
        """Take the report that a connection is open, with these credentials; its payloads follow."""

    def closed(self, connection: Connection, covered_until: float, reason: GapReason) -> None:
        """Take the report that a connection has ended; everything up to `covered_until` (UNIX seconds) was received."""

    def confirmed(self, supervisor: Supervisor) -> None:
        """Take the report that the server accepted the key, or did not refuse it in time."""

    def is_being_replaced(self, supervisor: Supervisor) -> bool:
        """Return whether another connection is to replace this one's."""

    def ended(self, supervisor: Supervisor, error: FinxSyncError, *, may_retry: bool, was_being_replaced: bool) -> bool:
        """Take the report that an attempt or an open connection has ended; return whether to make another attempt."""

    def lost(self, error: FinxSyncError, *, was_open: bool) -> None:
        """Take the report that an open connection or an attempt to reopen it failed; another attempt follows."""

    def overflowed(self, *, on_io_thread: bool) -> None:
        """Take the report that too many messages wait; the overflow rule is to end the stream."""

    def fail(self, error: FinxSyncError) -> None:
        """Make no further attempt, and end the stream with an error."""


class _Sender:
    """Sends requests on one connection, from any thread. It holds only a weak reference to the `WebSocketApp`."""

    def __init__(self, app: WebSocketApp, connection: Connection, queue: EventQueue | None) -> None:
        self._app = weakref.ref(app)
        self._connection = connection
        self._queue = queue

    def __call__(self, request: Request) -> None:
        if self._queue is not None:  # before sending, so that the event comes before the answer
            self._queue.emit(RequestSent, self._connection, request)
        if (app := self._app()) is not None:
            app.try_send(request.text)


class _Token:
    """Identifies a supervisor without a reference to it."""

    __slots__ = ("__weakref__",)


class Supervisor:
    """Runs the connections of one endpoint, one after the other. Public methods may be called from any thread.

    Args:
        endpoint: the endpoint's name.
        codec: the venue's codec.
        account: the account, which has the key.
        options: the stream's options.
        subscriptions: the subscriptions to request.
        queue: receives the payloads.
        owner: is notified about the connections.
        clock: the clock of the run.
        flight: the flight recorder.
        patient: whether a failure before the first open is retried.
        notes_requests: whether requests are events too, for venues whose answers mean nothing without them.

    Attributes:
        connection: the open connection; None while there is none. Written by the io thread.
        token: the `owner` of its connections.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        codec: Codec,
        account: Account,
        options: Options,
        subscriptions: Subscriptions,
        queue: EventQueue,
        owner: Owner,
        clock: Clock,
        flight: FlightRecorder,
        patient: bool,
        notes_requests: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.connection: Connection | None = None
        self.token = _Token()
        self._codec = codec
        self._account = account
        self._options = options
        self._subscriptions = subscriptions
        self._queue = queue
        self._owner = owner
        self._was_being_replaced = False
        self._clock = clock
        self._flight = flight
        self._patient = patient
        self._notes_requests = notes_requests
        self._lock = threading.Lock()  # guards against a stop or a verdict just as an attempt begins or ends
        self._app: WebSocketApp | None = None
        self._ask: _Sender | None = None  # of the present connection
        self._liveness = Liveness(queue)
        self._stopping = threading.Event()
        self._given_up = threading.Event()
        self._nudge = threading.Event()  # ends the wait for a key
        self._heard = threading.Event()  # ends the wait for the server's verdict on it
        self._refusal: FinxSyncError | None = None
        self._error: FinxSyncError | None = None
        self._carried: list[Subscription] = []  # those that the URL names
        self._gap_reason: GapReason | None = None
        self._hurry = threading.Event()  # ends a wait between attempts
        self._reflex = codec.reflex
        self._thread = threading.Thread(target=self._run, name=f"finx-sync io {endpoint}".rstrip(), daemon=True)

    def start(self) -> None:
        """Start the io thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the io thread to end, whatever it is doing. Return at once."""
        with self._lock:
            self._stopping.set()
            self._nudge.set()
            self._heard.set()
            self._hurry.set()
            app = self._app
        if app is not None:
            app.close(timeout=CLOSE_GRACE, wait=False)

    def take_over(self) -> None:
        """Serve the endpoint from now on, which means to reconnect when the connection ends."""
        self._patient = True

    def give_up(self) -> None:
        """Stop, because another supervisor serves the endpoint. Return at once.

        If a connection is just being opened, it is marked as given up.
        """
        self._given_up.set()
        if (connection := self.connection) is not None:
            connection.is_given_up = True
        if (ask := self._ask) is not None:
            self._subscriptions.closed(self.endpoint, ask)  # nothing more is requested on it
        self.stop()

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the io thread to end; return whether it has."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether the io thread is running."""
        return self._thread.is_alive()

    @property
    def answers_probes(self) -> bool:
        """Whether this server has ever answered a probe; only then is a missing answer a sign of a dead feed."""
        return self._liveness.answers_probes

    @answers_probes.setter
    def answers_probes(self, yes: bool) -> None:
        self._liveness.answers_probes = yes

    @property
    def confirmed(self) -> bool:
        """Whether the present connection is open and its key accepted."""
        connection = self.connection
        return connection is not None and connection.is_confirmed

    def confirm(self) -> None:
        """Mark the present connection as confirmed: its key was accepted, or the time to refuse it has passed."""
        with self._lock:
            connection = self.connection
            if connection is None or connection.is_confirmed or self._refusal is not None:
                return
            connection.is_confirmed = self._patient = True
        self._owner.confirmed(self)

    def refuse(self, error: FinxSyncError) -> None:
        """Close the connection and do not reconnect, because the server refused the key."""
        self._refusal = self._refusal or error
        app = self._app
        if app is not None:
            app.close(timeout=CLOSE_GRACE, wait=False)

    def reconnect(self, error: FinxSyncError, reason: GapReason) -> None:
        """Abandon the present connection, attempt or wait, and connect again at once."""
        with self._lock:
            app = self._app
            # The server's request to reconnect may be read only after it has hung up: see `_hear_verdict`.
            if app is not None or (self.connection is not None and reason == "server"):
                self._error, self._gap_reason = error, reason
        if app is not None:
            app.close(timeout=CLOSE_GRACE, wait=False)
        self._hurry.set()

    # The io thread

    def _run(self) -> None:
        try:
            self._keep_connected()
        except BaseException as error:
            crash = InternalError(f"the io thread has crashed: {type(error).__name__}; please report it")
            crash.__cause__ = error
            self._owner.fail(crash)
            logger.critical("the io thread has crashed", exc_info=error)

    def _keep_connected(self) -> None:
        failures = 0
        with quiet_thread():
            while not self._stopping.is_set():
                error = self._attempt()
                if self._stopping.is_set():
                    return
                # A first attempt that was abandoned because the user wanted a new connection has not failed.
                may_retry = self._patient or self._gap_reason in OURS
                if not self._owner.ended(self, error, may_retry=may_retry, was_being_replaced=self._was_being_replaced):
                    return
                failures = 1 if self._was_healthy() else failures + 1
                until = time.monotonic() + (delay := self._delay(failures, error))
                was_open = self._liveness.opened_at is not None
                self._owner.lost(error, was_open=was_open)
                logger.log(
                    logging.WARNING if was_open or failures == 1 else logging.DEBUG,  # one outage, one warning
                    "%s: connection lost: %s; trying again in %.1f s",
                    self._codec.venue,
                    error,
                    delay,
                )
                if self._hurry.wait(max(0.0, until - time.monotonic())):
                    self._hurry.clear()

    def _delay(self, failures: int, error: FinxSyncError) -> float:
        """Return the seconds to wait before the next attempt: 0 if this side closed the connection on purpose.

        Otherwise it is at least what the server asked for.
        """
        if self._gap_reason in OURS:
            return 0.0
        return max(self._options.reconnect.delay(failures, random.random), retry_after(error, self._clock.wall()))

    def _was_healthy(self) -> bool:
        if self._liveness.opened_at is None or self._liveness.last_data_at is None:
            return False
        return time.monotonic() - self._liveness.opened_at >= self._options.reconnect.healthy_after

    def _attempt(self) -> FinxSyncError:
        """Connect and serve until the connection ends; return the reason."""
        self._error = self._refusal = self._gap_reason = self._ask = None
        self._was_being_replaced = False
        self._liveness.reset()
        try:
            key = current_key(self._account, self._nudge, self._stopping.is_set, self._options.connect_timeout)
            app = self._new_app(key)
        except FinxSyncError as error:
            return error
        with self._lock:
            if self._stopping.is_set():
                return ConnectionLostError("the stream was stopped")
            self._app = app
        options = self._options
        try:
            app.run_forever(
                ping_interval=options.ping_interval, ping_timeout=options.ping_timeout, **options.run_arguments()
            )
        except FinxSyncError as error:
            self._error = error
        finally:
            with self._lock:
                self._app = None
                ask, self._ask = self._ask, None
            self._hear_verdict()
        self._was_being_replaced = self._owner.is_being_replaced(
            self
        )  # before this end is reported, which may settle it
        asked = (subscription.name for subscription in self._carried)
        why = self._refusal or judged(self._error or ConnectionLostError("the connection ended"), asked)
        self._report_closed(why, self._queue.holds(app))
        # Only now, so that requests on the endpoint's other connection come after the report of this end.
        if ask is not None:
            self._subscriptions.closed(self.endpoint, ask)
        return why

    def _hear_verdict(self) -> None:
        """Let the dispatch thread handle what the server said before it hung up, since that may be a refusal.

        The server may have refused a key. It may also have reported too many requests; then a close code that looks
        like a refused key is none.
        """
        if self._refusal is not None or self._liveness.last_data_at is None:
            return
        if self.confirmed and (self._error is None or not is_fatal(judged(self._error))):
            return
        with self._lock:
            if self._stopping.is_set():
                return
            heard = self._heard = threading.Event()  # a new one, since an earlier one may be set late
        self._queue.emit(Reached, heard)
        heard.wait(VERDICT_PATIENCE)

    def _report_closed(self, error: FinxSyncError, held: bool) -> None:
        with self._lock:
            connection, self.connection = self.connection, None
        if connection is None:
            return
        connection.is_over = True
        self._flight.note("closed", f"{self.endpoint} {error}")
        reason = self._gap_reason or ("slow consumer" if held else gap_reason(error))
        self._owner.closed(connection, self._liveness.quiet_since() + self._clock.offset, reason)

    def _new_app(self, key: Any) -> WebSocketApp:
        by_url = self._codec.asks_by_url
        self._carried = self._subscriptions.desired(self.endpoint) if by_url else []
        return WebSocketApp(
            self._codec.url_for(key, self.endpoint, self._carried),
            header=self._codec.headers(key, self.endpoint, time.time()),
            on_open=lambda app: self._open(app, key),
            on_error=self._failed,
            on_batch=self._received,
            on_message=self._received_binary,
            max_size=self._options.max_size,
            connect_timeout=self._options.connect_timeout,
        )

    def _open(self, app: WebSocketApp, key: Any) -> None:
        """Set up the open websocket; end the stream if the codec raises, since nothing would be requested on it."""
        try:
            self._opened(app, key)
        except Exception as error:  # noqa: BLE001  # any defect of a venue's codec
            venue = self._codec.venue
            defect = InternalError(
                f"the codec of {venue} raised {type(error).__name__} while the connection was opened ({error}); "
                "please report it to the author of the venue"
            )
            defect.__cause__ = error
            self._owner.fail(defect)

    def _opened(self, app: WebSocketApp, key: Any) -> None:
        self._liveness.opened_at = time.monotonic()
        connection = self.connection = Connection(self.endpoint, self.token)
        connection.is_given_up = self._given_up.is_set()
        self._flight.note("open", self.endpoint)
        ask = self._ask = _Sender(app, connection, self._queue if self._notes_requests else None)
        opening = self._codec.opening(key, self._clock.wall())
        for text in opening:
            ask(Request(text, "open"))
        self._subscriptions.opened(self.endpoint, key, ask, self._carried)
        if self._given_up.is_set():  # just now
            self._subscriptions.closed(self.endpoint, ask)
        self._owner.opened(connection, key)
        self._probe(app, self._codec.probe(key))
        for message in self._codec.periodic(key):
            app.call_later(message.interval, _sender(app, message.text), every=message.interval)
        if self._codec.idle_ping is not None:
            self._liveness.ping_when_idle(app, *self._codec.idle_ping)
        if opening or self._carried:
            app.call_later(AUTHENTICATION_GRACE, self.confirm)
        else:
            self.confirm()

    def _probe(self, app: WebSocketApp, text: str | None) -> None:
        """Send a probe, whose answer shows that the subscriptions have been read; then watch for a dead feed."""
        if text is not None:
            app.try_send(text)
            patience, grace = self._options.stale_after or PROBE_AFTER, self._options.ping_timeout
            if grace is not None:
                self._liveness.probe_when_quiet(app, text, patience, grace, self._feed_died)

    def _feed_died(self) -> None:
        self.reconnect(PeerTimeoutError("the server does not answer keep-alives: its feed is dead"), "stale")

    def _received(self, app: WebSocketApp, payloads: list[bytes]) -> None:
        arrived = self._liveness.last_data_at = time.monotonic()
        if self._reflex is not None:
            for text in self._reflex(payloads):
                app.try_send(text)
        if self._carried and not self.confirmed:  # data means that the server granted what the URL names
            self.confirm()
        assert self.connection is not None
        batch = Batch(payloads, arrived + self._clock.offset, arrived, self.connection)
        if not self._queue.put(batch, app):
            self._owner.overflowed(on_io_thread=threading.current_thread() is self._thread)
        self._flight.frames(arrived, payloads)

    def _received_binary(self, app: WebSocketApp, data: bytes) -> None:
        """Take a binary message, which no venue sends: JSON is read as usual, anything else becomes an error."""
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            data = b"binary: " + data.decode("utf-8", "backslashreplace").encode()
        self._received(app, [data])

    def _failed(self, app: WebSocketApp, error: BaseException) -> None:
        if self._error is None:
            self._error = as_finx_error(error)


def _sender(app: WebSocketApp, text: str) -> Callable[[], object]:
    return lambda: app.try_send(text)
