"""Keeps one connection alive: connect, serve, wait, connect again. One io thread for each connection.

A fresh `WebSocketApp` for each attempt, run by one loop: nothing reconnects from inside a callback, so a thousand
failures leave the stack, the threads and the descriptors as they were.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from finx_sync.config import Account
from finx_sync.dispatch.inbox import Batch, Connection, Inbox
from finx_sync.errors import ConnectError, ConnectionLostError, FinxSyncError, InternalError
from finx_sync.session.failures import is_fatal, judged
from finx_sync.session.options import Options
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.transport.app import WebSocketApp, as_finx_error, quiet_thread
from finx_sync.venues.base import Dialect

__all__ = ["Observer", "Supervisor"]

logger = logging.getLogger("finx_sync")

AUTHENTICATION_GRACE: Final = 1.0
"""Seconds that a server may take to refuse a key; silence beyond it is consent, since FinX documents no refusal."""
CLOSE_GRACE: Final = 0.4
"""Seconds that a server may take to answer our close frame when the stream stops."""


class Observer(Protocol):
    """Told by the io thread what becomes of a connection; must not block."""

    def line_connected(self, connection: Connection) -> None:
        """A connection is open; the payloads that follow are its own."""

    def line_closed(self, connection: Connection) -> None:
        """That connection is gone; no payload of it follows."""

    def line_opened(self, line: str) -> None:
        """The server took the key, or did not refuse it in time."""

    def line_lost(self, line: str, error: FinxSyncError) -> None:
        """An open connection ended, or an attempt to reopen it failed; the next attempt follows."""

    def line_failed(self, line: str, error: FinxSyncError) -> None:
        """No further attempt follows."""


class Supervisor:
    """One line's life: its connections, one after the other. All methods up to `reconnect` are for any thread.

    Args:
        line: its name.
        dialect: what to say.
        account: where, and with which key.
        options: how.
        subscriptions: what to ask for.
        inbox: where the payloads go.
        observer: who is told.
        patient: whether a failure before the first open is retried.
        thread_name: of the io thread.
    """

    def __init__(
        self,
        line: str,
        *,
        dialect: Dialect,
        account: Account,
        options: Options,
        subscriptions: Subscriptions,
        inbox: Inbox,
        observer: Observer,
        patient: bool,
        thread_name: str,
    ) -> None:
        self.line = line
        self.connection: Connection | None = None
        """The open one; written by the io thread."""
        self._dialect = dialect
        self._account = account
        self._options = options
        self._subscriptions = subscriptions
        self._inbox = inbox
        self._observer = observer
        self._patient = patient
        self._lock = threading.Lock()  # guards _app against a stop that meets the beginning of an attempt
        self._app: WebSocketApp | None = None
        self._stopping = threading.Event()
        self._nudge = threading.Event()  # ends the wait for a key
        self._refusal: FinxSyncError | None = None
        self._error: FinxSyncError | None = None
        self._confirmed = False
        self._opened_at: float | None = None
        self._last_data_at: float | None = None  # monotonic
        self._reflex = dialect.reflex
        self._thread = threading.Thread(target=self._run, name=thread_name, daemon=True)

    def start(self) -> None:
        """Start the io thread."""
        self._thread.start()

    def stop(self) -> None:
        """Make the io thread end, whatever it is doing. Returns at once."""
        with self._lock:
            self._stopping.set()
            self._nudge.set()
            app = self._app
        if app is not None:
            app.close(timeout=CLOSE_GRACE, wait=False)

    def join(self, timeout: float) -> bool:
        """Wait for the io thread's end; cuts the connection if it does not come. Returns whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def app(self) -> WebSocketApp | None:
        """The websocket of the present connection; None while there is none."""
        return self._app if self.connection is not None else None

    @property
    def confirmed(self) -> bool:
        """Whether the present connection is open and its key taken."""
        return self._confirmed

    def confirm(self) -> None:
        """The server took the key, or has had its time to refuse it."""
        if not self._confirmed and self._opened_at is not None and self._refusal is None:
            self._confirmed = self._patient = True
            self._observer.line_opened(self.line)

    def refuse(self, error: FinxSyncError) -> None:
        """The server refused the key on this connection: close it and do not come back."""
        self._refusal = error
        app = self._app
        if app is not None:
            app.close(timeout=CLOSE_GRACE, wait=False)

    def reconnect(self, error: FinxSyncError) -> None:
        """Give the present connection up, for the reason `error`, and open another."""
        self._error = error
        app = self._app
        if app is not None:
            app.close(timeout=CLOSE_GRACE, wait=False)

    # The io thread.

    def _run(self) -> None:
        try:
            self._keep_connected()
        except Exception as error:
            logger.critical("the io thread has crashed", exc_info=error)
            crash = InternalError(f"the io thread has crashed: {type(error).__name__}; please report it")
            crash.__cause__ = error
            self._observer.line_failed(self.line, crash)

    def _keep_connected(self) -> None:
        failures = 0
        with quiet_thread():
            while not self._stopping.is_set():
                error = self._attempt()
                if self._stopping.is_set():
                    return
                if is_fatal(error) or not self._patient:
                    self._observer.line_failed(self.line, error)
                    return
                failures = 1 if self._was_healthy() else failures + 1
                delay = self._options.reconnect.delay(failures, random.random)
                logger.log(
                    logging.WARNING if failures == 1 else logging.DEBUG,  # one outage, one warning
                    "%s: connection lost: %s; trying again in %.1f s",
                    self._dialect.venue,
                    error,
                    delay,
                )
                self._observer.line_lost(self.line, error)
                self._stopping.wait(delay)

    def _was_healthy(self) -> bool:
        if self._opened_at is None or self._last_data_at is None:
            return False
        return time.monotonic() - self._opened_at >= self._options.reconnect.healthy_after

    def _attempt(self) -> FinxSyncError:
        """Connect and serve until the end; returns why it ended."""
        self._error = self._refusal = self._opened_at = self._last_data_at = None
        self._confirmed = False
        try:
            key = self._ask_key()
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
            self._subscriptions.closed(self.line)
            if (connection := self.connection) is not None:
                self.connection = None
                self._observer.line_closed(connection)
            with self._lock:
                self._app = None
            self._confirmed = False
        return self._refusal or judged(self._error or ConnectionLostError("the connection ended"))

    def _new_app(self, key: Any) -> WebSocketApp:
        return WebSocketApp(
            self._dialect.url(key, self.line),
            header=self._dialect.headers(key, self.line, time.time()),
            on_open=lambda app: self._opened(app, key),
            on_error=self._failed,
            on_batch=self._received,
            own_payloads=True,
            max_size=self._options.max_size,
            connect_timeout=self._options.connect_timeout,
        )

    def _ask_key(self) -> Any:
        """The key; a function that returns it is user code: it runs on its own thread, and cannot hold up a stop."""
        if not callable(self._account.key):
            return self._account.key
        answer: list[Any] = []

        def ask() -> None:
            try:
                answer.append(self._account.current_key())
            except Exception as error:  # noqa: BLE001  # it is handed on below
                answer.append(error)
            self._nudge.set()

        self._nudge.clear()
        threading.Thread(target=ask, name="finx-sync key", daemon=True).start()
        if not self._stopping.is_set():  # a stop from here on sets the nudge
            self._nudge.wait(self._options.connect_timeout)
        if not answer:
            raise ConnectError(f"the api_key function returned no key within {self._options.connect_timeout:g} s")
        if isinstance(answer[0], FinxSyncError):
            raise answer[0]
        if isinstance(answer[0], Exception):
            raise ConnectError(f"the api_key function raised {type(answer[0]).__name__}") from answer[0]
        return answer[0]

    def _opened(self, app: WebSocketApp, key: Any) -> None:
        self._opened_at = time.monotonic()
        self.connection = Connection(self.line)
        self._observer.line_connected(self.connection)
        opening = self._dialect.opening(key, time.time())
        for text in opening:
            app.try_send(text)
        self._subscriptions.opened(self.line, key, app.try_send)
        for message in self._dialect.periodic(key):
            app.call_later(message.interval, _sender(app, message.text), every=message.interval)
        if self._dialect.idle_ping is not None:
            self._ping_when_idle(app, *self._dialect.idle_ping)
        if opening:
            app.call_later(AUTHENTICATION_GRACE, self.confirm)
        else:
            self.confirm()

    def _received(self, app: WebSocketApp, payloads: list[memoryview]) -> None:
        self._last_data_at = time.monotonic()
        if self._reflex is not None:
            for text in self._reflex(payloads):
                app.try_send(text)
        assert self.connection is not None
        self._inbox.put(Batch(payloads, time.time(), self.connection), app)

    def _ping_when_idle(self, app: WebSocketApp, patience: float, text: str) -> None:
        """Send `text` after `patience` seconds without data, and again after as many more."""
        pinged_at = time.monotonic()

        def look() -> None:
            nonlocal pinged_at
            due = max(pinged_at, self._last_data_at or 0.0) + patience
            now = time.monotonic()
            if now >= due:
                app.try_send(text)
                pinged_at, due = now, now + patience
            app.call_later(due - now, look)

        app.call_later(patience, look)

    def _failed(self, app: WebSocketApp, error: BaseException) -> None:
        if self._error is None:
            self._error = as_finx_error(error)


def _sender(app: WebSocketApp, text: str) -> Callable[[], object]:
    return lambda: app.try_send(text)
