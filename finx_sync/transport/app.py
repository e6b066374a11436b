"""`WebSocketApp`: websocket-client's, with the read loop replaced. The only module that imports `websocket`.

websocket-client keeps the constructor, the callbacks and their order, and the handshake. Ours are opening the socket
(`dial`) and reading, pinging and closing (`loop`). They are attached at the two public places that websocket-client
offers for them: the prepared socket and `create_dispatcher`.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from finx_sync import forks
from finx_sync.errors import (
    ConfigError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    FinxSyncError,
    HandshakeError,
    PeerTimeoutError,
    ProtocolError,
)
from finx_sync.interrupts import Flag
from finx_sync.redaction import RedactingFilter, excerpt, redact, remember_from, shown
from finx_sync.transport.channel import Channel
from finx_sync.transport.dial import Aborted, Attempt, Target, dial
from finx_sync.transport.frames import CONT, DEFAULT_MAX_SIZE, PING, PONG, TEXT, Frame, FrameReader, close_payload
from finx_sync.transport.handshake import redacted_headers
from finx_sync.transport.loop import Heartbeat, Promote, ReadLoop
from finx_sync.transport.options import proxy_for, target_of
from finx_sync.transport.proxy import read_proxy
from finx_sync.transport.waker import Waker

try:
    from websocket import (
        ABNF,
        WebSocketBadStatusException,
        WebSocketConnectionClosedException,
        WebSocketException,
        WebSocketPayloadException,
        WebSocketProtocolException,
        WebSocketTimeoutException,
    )
    from websocket import WebSocketApp as _OriginalApp
except ImportError as error:
    raise ImportError(
        "the module named 'websocket' is missing or is not websocket-client's (another package has that name too); "
        "repair it with: pip uninstall -y websocket websocket-client && pip install 'websocket-client>=1.9.2,<2'"
    ) from error

__all__ = ["WebSocketApp", "as_finx_error"]

NORMAL_CLOSURE: Final = 1000
CLOSE_TIMEOUT: Final = 3.0
"""Seconds that `close` gives the peer, as in websocket-client."""
STATUS_REMEDIES: Final = {
    401: "check the key",
    403: "check the key, and whether it may connect from here",
    404: "check the address and its path",
    429: "wait before trying again: the server reports too many connections",
}
EXCERPT_LENGTH: Final = 200
"""Characters of an error page that an error's text may quote."""

_quiet_threads = threading.local()


class _Filter(RedactingFilter):
    """Redacts websocket-client's log, and silences it on our own threads, where *our* log reports an outage, once."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(_quiet_threads, "on", False):
            return False
        return super().filter(record)


logging.getLogger("websocket").addFilter(_Filter())


class _LegacyTimeoutError(PeerTimeoutError, WebSocketTimeoutException):
    """An error of ours and of websocket-client's, so that a legacy `except` clause still catches it."""


class _LegacyProtocolError(ProtocolError, WebSocketProtocolException):
    """An error of ours and of websocket-client's."""


class _LegacyPayloadError(ProtocolError, WebSocketPayloadException):
    """An error of ours and of websocket-client's: text that is not UTF-8."""


class _LegacyLostError(ConnectionLostError, WebSocketConnectionClosedException):
    """An error of ours and of websocket-client's."""


class WebSocketApp(_OriginalApp):
    """A drop-in for `websocket.WebSocketApp`: the same constructor, callbacks and `run_forever`; strict and fast.

    Callbacks run on the thread that called `run_forever`, as the original's do. `send` and `close` are safe from any
    thread. It differs on purpose in four points: Ctrl+C leaves `run_forever` as KeyboardInterrupt, redirects are
    refused (a URL may contain a key), the pong deadline counts only time spent listening, and `on_data` gets TEXT for a
    text message joined from fragments (as the original documents it, though it passes CONT).

    Args:
        url: ``ws://`` or ``wss://``.
        header, on_open, on_message, on_error, on_close, ...: as in websocket-client 1.9.
        on_batch: ``on_batch(app, payloads)``, the fast path: every complete text message of one read, as a list of
            `bytes` that are valid UTF-8. When set, `on_message` and `on_data` are not called for text.
        max_size: bytes of one message, fragments joined; a larger one closes with 1009.
        connect_timeout: seconds from name look-up to the end of the handshake; None for no limit, as in the original.
    """

    def __init__(
        self,
        url: str,
        *args: Any,
        on_batch: Callable[[WebSocketApp, list[bytes]], object] | None = None,
        max_size: int = DEFAULT_MAX_SIZE,
        connect_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        self._waker: Waker | None = None
        self._attempt: Attempt | None = None
        self._loop: ReadLoop | None = None
        self._run: _Run | None = None
        self._loop_dispatcher: _LoopDispatcher | None = None
        self._finished = Flag()
        self._stopping = Flag()
        # Guards `_run`, `_attempt`, `_loop` and `_waker`, which run_forever sets and close and abort read from any
        # thread: under it they find either the attempt or the loop, and a request that comes too late does no harm.
        # Held for a few assignments only. Re-entrant, since a signal handler that closes may interrupt its holder.
        self._lock = threading.RLock()
        self._close_first = False
        self._has_run = False
        self._keep_running = False
        self._user_socket: Any = None
        self._channel: Channel | None = None
        self.on_batch = on_batch
        self.max_size = max_size
        self.connect_timeout = connect_timeout
        super().__init__(url, *args, **kwargs)
        forks.watch(self, WebSocketApp._forked)

    def _forked(self) -> None:
        """In the child of a fork: the connection belongs to the parent, so this app is closed."""
        self._lock = threading.RLock()
        self._keep_running = False
        if self._run is not None and self._run.thread != threading.get_ident():
            self._run = self._attempt = self._loop = self._loop_dispatcher = self._waker = self._channel = None
            self._finished, self._stopping = Flag(), Flag()
            self.sock = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redact(self.url)} {'open' if self._loop is not None else 'closed'}>"

    @property
    def keep_running(self) -> bool:
        """Whether the connection is meant to continue; setting it to False closes it, as legacy code expects."""
        return self._keep_running

    @keep_running.setter
    def keep_running(self, on: bool) -> None:
        self._keep_running = on
        if not on and self._run is not None:
            self.close(wait=False)

    # The original reads this attribute inside its own error handling, just before the handshake: the right place to
    # dial.
    @property
    def prepared_socket(self) -> Any:
        """The socket for the handshake, opened now."""
        assert self._run is not None
        assert self._attempt is not None
        assert self.sock is not None
        self.sock.close = self.close  # type: ignore[method-assign]  # legacy code calls app.sock.close()
        sock = self._user_socket if self._user_socket is not None else dial(self._run.target, self._attempt)
        self._channel = Channel(sock, self._attempt, self.subprotocols or ())
        return self._channel

    @prepared_socket.setter
    def prepared_socket(self, sock: Any) -> None:
        self._user_socket = sock

    def run_forever(  # noqa: PLR0917  # the original's signature
        self,
        sockopt: Sequence[tuple[Any, ...]] | None = None,
        sslopt: Mapping[str, Any] | None = None,
        ping_interval: float = 0,
        ping_timeout: float | None = None,
        ping_payload: str = "",
        http_proxy_host: str | None = None,
        http_proxy_port: int | str | None = None,
        http_no_proxy: list[str] | None = None,
        http_proxy_auth: tuple[str, str] | None = None,
        http_proxy_timeout: float | None = None,
        skip_utf8_validation: bool = False,
        host: str | None = None,
        origin: str | None = None,
        dispatcher: Any = None,
        suppress_origin: bool = False,
        suppress_host: bool = False,
        proxy_type: str | None = None,
        reconnect: int | None = None,
        *,
        proxy: str | None = None,
    ) -> bool:
        """Connect and serve until the connection ends; arguments as in websocket-client, plus `proxy`.

        `ping_timeout` may be as long as `ping_interval` or longer. A foreign `dispatcher` (rel, gevent) is refused,
        because this class has a read loop of its own. `proxy` is a URL, or "" for no proxy; with None the other
        arguments decide, and without these the environment.

        Returns:
            False if it was closed properly, True after an error, which `on_error` was given.

        Raises:
            ConfigError: a URL, timeout or option that cannot be right.
            KeyboardInterrupt: Ctrl+C, after the connection was closed.
        """
        if dispatcher is not None:
            raise ConfigError("a custom dispatcher is not supported: this WebSocketApp has a read loop of its own")
        if ping_interval < 0 or (ping_timeout is not None and ping_timeout <= 0):
            raise ConfigError("ping_interval must not be negative, and ping_timeout must be above 0 or None")
        if proxy is None:
            address = proxy_for(
                self.url,
                host=http_proxy_host,
                port=http_proxy_port,
                no_proxy=http_no_proxy,
                auth=http_proxy_auth,
                kind=proxy_type,
            )
        else:
            address = read_proxy(proxy) if proxy else None
        target = target_of(self.url, dict(sslopt or {}), address, tuple(sockopt or ()))
        self._remember_secrets()
        payload = ping_payload.encode() if isinstance(ping_payload, str) else bytes(ping_payload)
        run = _Run(target, Heartbeat(ping_interval, ping_timeout, payload), skip_utf8_validation)
        if not self._begin(run):
            return False
        try:
            failed = super().run_forever(
                skip_utf8_validation=skip_utf8_validation,
                host=host,
                origin=origin,
                suppress_origin=suppress_origin,
                suppress_host=suppress_host,
                reconnect=reconnect,
            )
        except Aborted:
            failed = False  # closed while it was still connecting
        finally:
            self._end()
        if run.interrupt is not None:
            raise run.interrupt
        return bool(failed)

    def _remember_secrets(self) -> None:
        """Redact the values of the secrets in the URL and the headers: a server may echo them anywhere."""
        headers = () if callable(self.header) else self.header or ()  # a function is called once for each connection
        if isinstance(headers, Mapping):
            headers = [f"{name}: {value}" for name, value in headers.items()]
        for text in (self.url, *headers):
            remember_from(str(text))

    def _begin(self, run: _Run) -> bool:
        with self._lock:
            if self._run is not None:
                raise WebSocketException("socket is already opened")
            if self._close_first:  # a close() before the first run applies to it; the original forgets it
                self._close_first = False
                return False
            self._has_run = True
            self._run = run
            self._waker = Waker()
            self._attempt = Attempt(self._waker, self.connect_timeout)
            self._finished.clear()
            self._stopping.clear()
        return True

    def _end(self) -> None:
        # First out of reach of close() and abort(), then closed, and only then do the threads in close() return.
        with self._lock:
            waker, self._waker = self._waker, None
            channel, self._channel = self._channel, None
            self._run = self._attempt = self._loop = self._loop_dispatcher = None
        if channel is not None:  # left open by a Ctrl+C in on_open, which comes before the read loop
            channel.close()
        if waker is not None:
            waker.close()
        self._finished.set()

    def create_dispatcher(
        self, ping_timeout: Any, dispatcher: Any = None, is_ssl: bool = False, handle: Any = None
    ) -> Any:
        """The read loop, behind the interface that websocket-client calls a dispatcher."""
        self._loop_dispatcher = _LoopDispatcher(self, handle)
        return self._loop_dispatcher

    def close(  # type: ignore[override]  # the original's keywords, spelled out
        self,
        status: int = NORMAL_CLOSURE,
        reason: str | bytes = "",
        timeout: float | None = CLOSE_TIMEOUT,
        *,
        wait: bool = True,
    ) -> None:
        """Close the connection. Any thread, any moment; before the first `run_forever` it makes that return at once.

        On the thread that reads, which is usually that of `run_forever`, it returns at once and the closing follows. On
        others it waits until `run_forever` has ended, at most `timeout` seconds; then the connection is cut.

        Args:
            status: close code (RFC 6455 7.4).
            reason: up to 123 bytes of UTF-8.
            timeout: seconds that the peer has to answer the close frame.
            wait: False returns at once on every thread.
        """
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
        patience = CLOSE_TIMEOUT if timeout is None else timeout
        self._keep_running = False
        with self._lock:
            loop, attempt, run = self._open_loop(), self._attempt, self._run
            if run is None:
                self._close_first = self._close_first or not self._has_run
                return
            self._stopping.set()
            if loop is not None:
                loop.request_close(close_payload(status, text), patience)
            elif attempt is not None:
                attempt.abort()
        # A thread that reads must not wait for itself. If another thread takes the lead just now, nothing changes:
        # what is asked here is only whether it is this one.
        reading = (run.thread, loop.leader if loop is not None else None)
        if wait and threading.get_ident() not in reading and not self._finished.wait(patience):
            self.abort()

    def abort(self) -> None:
        """Cut the connection or the attempt to open one, without a closing handshake. Any thread; never waits."""
        self._keep_running = False
        with self._lock:
            loop, attempt = self._open_loop(), self._attempt
            self._stopping.set()
        if loop is not None:
            loop.request_abort()
        elif attempt is not None:
            attempt.abort()

    def _open_loop(self) -> ReadLoop | None:
        """The read loop, from the end of the handshake on: in `on_open` it does not run yet, but takes requests."""
        if self._loop is None and self._loop_dispatcher is not None and self.sock is not None and self.sock.connected:
            return self._loop_dispatcher.loop
        return self._loop

    def try_send(self, text: str) -> bool:
        """Like `send`, but does not raise if the connection is closing; returns whether the text was queued."""
        try:
            self.send(text)
        except (WebSocketException, FinxSyncError):
            return False
        return True

    def call_later(self, delay: float, action: Callable[[], object], *, every: float | None = None) -> None:
        """Call `action` on the thread of `run_forever` while the connection is open. Call this from callbacks only.

        Args:
            delay: seconds until the first call.
            action: takes no argument; must not block.
            every: seconds between further calls; None for a single call.
        """
        if self._loop_dispatcher is not None:
            self._loop_dispatcher.call_later(delay, action, every)

    def pause_reading(self) -> None:
        """Read nothing more until `resume_reading`: TCP's flow control makes the peer wait. Any thread."""
        if (loop := self._loop) is not None:
            loop.pause()

    def resume_reading(self) -> None:
        """Continue reading after `pause_reading`. Any thread."""
        if (loop := self._loop) is not None:
            loop.resume()

    def hand_over_reading(self, promote: Promote | None) -> None:
        """Let another thread read in place of the one in `run_forever`, as long as that one has nothing else to do.

        Call this from `on_batch` only. Callbacks then run on the leader's thread, still one at a time. `run_forever`
        takes the reading back within 40 ms if the leader does not come back for the next message.

        Args:
            promote: is given a `ReadLeadership`, on which the leader calls `turn`; None takes the reading back.
        """
        if (loop := self._loop) is not None:
            loop.hand_over(promote)

    # The read loop calls the following, on the thread of run_forever or on the leader's.

    def _callback(self, callback: Any, *args: Any) -> None:
        """As the original, which reports Ctrl+C through this method too, and then drops it; `run_forever` raises it."""
        run = self._run
        if callback is self.on_error and args and isinstance(args[0], WebSocketException):
            # websocket-client puts the server's headers and its error page into the text unredacted.
            args[0].args = tuple(shown(one) if isinstance(one, str) else one for one in args[0].args)
        try:
            super()._callback(callback, *args)
        finally:
            if run is not None:
                run.note_interrupt()

    def _on_payloads(self, payloads: list[bytes]) -> None:
        if self.on_batch is not None:
            try:
                self.on_batch(self, payloads)
            except BaseException as error:  # noqa: BLE001  # reported as `_callback` reports it
                self._callback(_raise, error)
            return
        raw = self._run is not None and self._run.skip_utf8
        for payload in payloads:
            data = payload if raw else payload.decode("utf-8")
            self._callback(self.on_data, data, TEXT, True)
            self._callback(self.on_message, data)
            if not self.keep_running:
                return

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode == PING:
            self._callback(self.on_ping, frame.data)
        elif frame.opcode == PONG:
            self.last_pong_tm = time.time()
            self._callback(self.on_pong, frame.data)
        elif frame.opcode == CONT:
            self._callback(self.on_data, frame.data, CONT, frame.fin)
            self._callback(self.on_cont_message, frame.data, frame.fin)
        else:
            data: bytes | str = frame.data
            if frame.opcode == TEXT and self._run is not None and not self._run.skip_utf8:
                data = frame.data.decode("utf-8", "replace")  # a first fragment may end inside a character
            self._callback(self.on_data, data, frame.opcode, True)
            self._callback(self.on_message, data)


def _raise(_: object, error: BaseException) -> None:
    raise error


class _Run:
    """The options of one call of `run_forever`, and the Ctrl+C that ended it, if one did."""

    def __init__(self, target: Target, heartbeat: Heartbeat, skip_utf8: bool) -> None:
        self.target = target
        self.heartbeat = heartbeat
        self.skip_utf8 = skip_utf8
        self.thread = threading.get_ident()
        self.interrupt: KeyboardInterrupt | None = None
        self._surrounding = sys.exc_info()[1]  # run_forever may be called in an `except` clause

    def note_interrupt(self) -> None:
        """Remember the KeyboardInterrupt that is being handled now, if any."""
        handled = sys.exc_info()[1]
        if isinstance(handled, KeyboardInterrupt) and handled is not self._surrounding:
            self.interrupt = handled


class _LoopDispatcher:
    """websocket-client's dispatcher interface in front of a `ReadLoop`."""

    def __init__(self, app: WebSocketApp, handle_end: Callable[[Any], Any]) -> None:
        assert app._run is not None
        assert app._waker is not None
        self._app = app
        self._run = app._run
        self._handle_end = handle_end
        self._new_loop(app._waker)

    def _new_loop(self, waker: Waker) -> None:
        app, run = self._app, self._run
        reader = FrameReader(app.max_size, check_utf8=not run.skip_utf8, fragments=app.on_cont_message is not None)
        self._waker = waker
        self.loop = ReadLoop(waker, reader, run.heartbeat, app._on_payloads, app._on_frame)

    def send(self, sock: Any, data: bytes | str) -> int:
        """Queue an encoded frame for the io thread."""
        frame = data.encode() if isinstance(data, str) else bytes(data)
        ws = self._app.sock
        if ws is None or not ws.connected:
            raise _LegacyLostError("the connection is not open; nothing was sent")
        try:
            self.loop.outbox.put(frame)
        except ConnectionLostError as error:
            raise _LegacyLostError(str(error)) from error
        return len(frame)

    def call_later(self, delay: float, action: Callable[[], object], every: float | None) -> None:
        """See `WebSocketApp.call_later`."""
        self.loop.call_later(delay, action, every=every)

    def read(self, channel: Channel, read_callback: Any, check_callback: Any) -> None:
        """Serve the connection; returns after a close, otherwise raises what went wrong."""
        app = self._app
        # From here on close() finds the loop. If it found the attempt before, `aborted` is set, and checked below.
        with app._lock:
            attempt, app._loop = app._attempt, self.loop
        ws = app.sock
        assert ws is not None
        app.ping_interval = self._run.heartbeat.interval
        app.ping_timeout = self._run.heartbeat.timeout
        try:
            if attempt is not None and attempt.aborted:  # by a close() just before the handshake ended
                raise Aborted
            closed = self.loop.run(channel)
        except PeerTimeoutError as error:
            raise _LegacyTimeoutError(str(error), error.code, error.reason) from error
        except ProtocolError as error:
            kind = _LegacyPayloadError if error.code == 1007 else _LegacyProtocolError
            raise kind(str(error), error.code, error.reason) from error
        except ConnectionLostError as error:
            raise _LegacyLostError(str(error), error.code, error.reason) from error
        finally:
            ws.connected = False  # the closing handshake is done; the original would do another, for up to 3 s
            ws.sock = None
            channel.close()
        if closed.by_peer:
            self._handle_end(ABNF(1, 0, 0, 0, ABNF.OPCODE_CLOSE, 0, closed.payload))
        elif closed.payload:
            app.last_close_frame = ABNF(1, 0, 0, 0, ABNF.OPCODE_CLOSE, 0, closed.payload)

    def reconnect(self, seconds: float, reconnector: Callable[..., Any]) -> None:
        """The original's `reconnect=`: wait, then connect again; `close` ends the wait."""
        app = self._app
        if app._stopping.wait(seconds):
            return
        with app._lock:
            if app._stopping.is_set():  # by a close() just now, which has aborted the previous attempt
                return
            app._loop = None
            app._attempt = Attempt(self._waker, app.connect_timeout)
            self._new_loop(self._waker)
        reconnector(reconnecting=True)


@contextlib.contextmanager
def quiet_thread() -> Iterator[None]:
    """Keep websocket-client from logging on this thread; the session logs what matters itself."""
    before = getattr(_quiet_threads, "on", False)
    _quiet_threads.on = True
    try:
        yield
    finally:
        _quiet_threads.on = before


def _excerpt(body: bytes | None) -> str:
    """What an error page says, unless it is HTML."""
    text = " ".join((body or b"").decode("utf-8", "replace").split())
    return f" and said {excerpt(text, EXCERPT_LENGTH)!r}" if text and not text.startswith("<") else ""


def as_finx_error(error: BaseException) -> FinxSyncError:
    """Translate websocket-client's exceptions into ours; the texts are redacted.

    Args:
        error: what `on_error` was given.

    Returns:
        The error itself if it is ours, the one of ours that caused it, or a new one.
    """
    # websocket-client turns each TimeoutError, even ours, into one of its own. Other contexts may be older than the
    # attempt, so only this one is followed.
    inner = error.__context__ if isinstance(error, WebSocketTimeoutException) else error.__cause__
    for known in (error, inner):
        if isinstance(known, FinxSyncError):
            return known
    text = redact(str(error))
    if isinstance(error, WebSocketBadStatusException):
        status = error.status_code
        headers = redacted_headers(error.resp_headers or {})
        said = _excerpt(error.resp_body)
        remedy = STATUS_REMEDIES.get(status, "try again later" if status >= 500 else "check the address")
        return HandshakeError(f"the server answered the handshake with HTTP {status}{said}; {remedy}", status, headers)
    if isinstance(error, (WebSocketTimeoutException, TimeoutError)):
        return ConnectTimeoutError(f"the connection attempt timed out: {text}")
    if isinstance(error, WebSocketConnectionClosedException):
        code = getattr(error, "status_code", None)
        if code is not None or "Connection closed" in text:
            reason = redact(getattr(error, "reason", None) or "")
            return ConnectionLostError(
                f"the server closed the connection ({code}{': ' + reason if reason else ''})", code or 1005, reason
            )
        return HandshakeError("the server closed the connection during the handshake; is it a websocket server?")
    if isinstance(error, WebSocketException):
        return HandshakeError(f"the handshake failed: {text}")
    return ConnectError(f"cannot connect: {text}")
