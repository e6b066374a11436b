"""One question and one answer over their own short-lived connection, on the caller's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from finx_sync.errors import ConnectTimeoutError, FinxSyncError, FunctionTimeoutError
from finx_sync.session.failures import judged
from finx_sync.session.options import Options
from finx_sync.transport.app import WebSocketApp, as_finx_error, quiet_thread

__all__ = ["Cancel", "exchange"]

PARTING_TIME: Final = 0.005
"""Seconds for the close frame to leave; the answer has been received, so nothing else matters."""


class Cancel:
    """Ends exchanges on other threads. May be used from any thread."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._lock = threading.Lock()  # guards _apps; held for assignments only
        self._apps: set[WebSocketApp] = set()

    @property
    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._wake.is_set()

    def set(self) -> None:
        """End running exchanges at once, and those that begin later as soon as they begin."""
        with self._lock:
            self._wake.set()
            apps = list(self._apps)
        for app in apps:
            app.close(timeout=PARTING_TIME, wait=False)

    def wait(self, seconds: float) -> bool:
        """Sleep until `set` is called, or for the given time; return whether it was called."""
        return self._wake.wait(seconds)

    @contextmanager
    def covering(self, app: WebSocketApp) -> Iterator[None]:
        """Within this context `set` ends the connection, even while it is being opened."""
        with self._lock:
            self._apps.add(app)
            if self.is_set:
                app.close(wait=False)
        try:
            yield
        finally:
            with self._lock:
                self._apps.discard(app)


def exchange(
    function: str,
    url: str,
    message: str | None,
    read: Callable[[str], Any],
    *,
    options: Options,
    timeout: float,
    opened: Callable[[WebSocketApp], object] | None = None,
    cancel: Cancel | None = None,
) -> tuple[Any, str]:
    """Connect, send `message` if there is one, wait for the answer, close.

    Args:
        function: its name, for the texts of errors.
        url: where to connect.
        message: what to send; None if the URL is the question.
        read: parses a text; returns None for one that is not the answer, so that the wait continues.
        options: TLS, proxy and size limit are taken from here.
        timeout: seconds, from name look-up to the last byte.
        opened: called with the open connection, so that `read` can send more.
        cancel: ends the exchange from another thread; then it raises ConnectionLostError.

    Returns:
        What `read` returned for the answer, and the answer's text.

    Raises:
        FunctionTimeoutError: it took longer.
        AuthorizationError: the handshake or the close code refused the key.
        ConnectError, ConnectionLostError: there was no connection, or it ended before the answer.
        FinxSyncError: whatever `read` raised.
    """
    one = _Exchange(message, read, time.monotonic() + timeout, opened)
    app = WebSocketApp(
        url,
        on_open=one.opened,
        on_message=one.received,
        on_error=one.failed,
        max_size=options.max_size,
        connect_timeout=timeout,
    )
    with quiet_thread(), (cancel or Cancel()).covering(app):
        app.run_forever(**options.run_arguments())
    if one.expired or isinstance(one.error, ConnectTimeoutError):
        raise FunctionTimeoutError(f"{function}: no answer within {timeout:.3g} s") from one.error
    if one.answer is None:
        raise judged(one.error or as_finx_error(ConnectionError(f"{function}: the server closed without an answer")))
    return one.answer


class _Exchange:
    """The callbacks of one exchange."""

    def __init__(
        self,
        message: str | None,
        read: Callable[[str], Any],
        deadline: float,
        opened: Callable[[WebSocketApp], object] | None,
    ) -> None:
        self._opened = opened
        self._message = message
        self._read = read
        self._deadline = deadline
        self.answer: tuple[Any, str] | None = None
        self.error: FinxSyncError | None = None
        self.expired = False

    def opened(self, app: WebSocketApp) -> None:
        app.call_later(self._deadline - time.monotonic(), lambda: self._expire(app))
        if self._opened is not None:
            self._opened(app)
        if self._message is not None:
            app.try_send(self._message)

    def received(self, app: WebSocketApp, text: str | bytes) -> None:
        if self.answer is not None or isinstance(text, bytes):
            return
        try:
            value = self._read(text)
        except FinxSyncError as error:
            self.error = error
        else:
            if value is None:
                return  # not the answer, which follows
            self.answer = value, text
        app.close(timeout=PARTING_TIME, wait=False)

    def failed(self, app: WebSocketApp, error: BaseException) -> None:
        if self.error is None and self.answer is None:
            self.error = as_finx_error(error)

    def _expire(self, app: WebSocketApp) -> None:
        self.expired = self.answer is None
        app.abort()
