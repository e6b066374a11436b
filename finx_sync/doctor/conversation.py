"""The steps over the open connection: handshake, clock, key, first tick, keepAlive, ping."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from finx_sync.doctor.findings import Finding, Report, Step, failure, judge_clock
from finx_sync.errors import (
    LONGEST_COMPLAINT,
    AuthorizationError,
    ConnectionLostError,
    FinxSyncError,
    ServerRefusedError,
    StreamTimeoutError,
    UnreadableMessageError,
)
from finx_sync.messages import Message
from finx_sync.redaction import excerpt
from finx_sync.session.failures import judged
from finx_sync.stream import Stream
from finx_sync.transport.app import WebSocketApp, as_finx_error, quiet_thread
from finx_sync.venues.base import (
    MAIN_ENDPOINT,
    Authentication,
    KeepAliveReply,
    Refused,
    ServerError,
    Subscription,
    Unreadable,
)
from finx_sync.venues.base.guarded import guarded

__all__ = ["ServerConversation", "first_connection"]

CONSENT: Final = 1.0
"""Seconds of silence after which a key counts as accepted; see docs/choices.md."""
PATIENCE: Final = 5.0
"""Seconds that the server may take to answer a keepAlive or a ping."""
CHECK_KEY: Final = "check it, and that it has not expired (FinX changes keys every 24 hours)"
CHECK_NAMES: Final = "check the names (finx-sync contracts), and that their market is open"


def first_connection(stream: Stream) -> tuple[str, list[Subscription]]:
    """Return the endpoint of the first subscription, and all subscriptions of that endpoint."""
    endpoint_of, wanted = stream._codec.endpoint_of, stream._subscriptions.desired()
    endpoint = endpoint_of(wanted[0]) if wanted else MAIN_ENDPOINT
    return endpoint, [subscription for subscription in wanted if endpoint_of(subscription) == endpoint]


class ServerConversation:
    """The steps over the open connection; its callbacks run on the calling thread, in `run`."""

    def __init__(  # noqa: PLR0917  # the results of the earlier steps
        self, stream: Stream, key: Any, url: str, sock: socket.socket, note: Report, tick_timeout: float
    ) -> None:
        self._stream = stream
        self._key = key
        self._note = note
        self._tick_timeout = tick_timeout
        self._steps: list[Step] = ["handshake", "key", "tick", "keepAlive", "ping"]
        self._begun = time.monotonic()
        self._sent_at = time.time()
        self._connect_timeout = stream._options.connect_timeout
        self._unreadable: UnreadableMessageError | None = None  # the last one
        self._app = WebSocketApp(
            url,
            header=stream._codec.headers(key, first_connection(stream)[0], time.time()),
            socket=sock,
            on_open=self._opened,
            on_batch=self._received,
            on_pong=self._ponged,
            on_error=self._broken,
            connect_timeout=self._connect_timeout,
        )

    def run(self) -> None:
        """Take the steps; end early if a step fails without which the later ones make no sense."""
        with quiet_thread():
            self._app.run_forever()
        self._fail(ConnectionLostError("the server ended the connection; try again"))

    @property
    def _step(self) -> Step | None:
        return self._steps[0] if self._steps else None

    def _next(self, finding: Finding) -> None:
        """Report the current step and go to the next one."""
        self._note(finding)
        self._steps.pop(0)
        self._begun = time.monotonic()
        if not self._steps:
            self._app.close(wait=False)

    def _passed(self, text: str, *, timed: bool = True) -> None:
        step = self._step
        assert step is not None
        self._next(Finding(step, "ok", text, seconds=time.monotonic() - self._begun if timed else None))

    def _fail(self, error: FinxSyncError) -> None:
        step = self._step
        if step is not None:
            self._note(failure(step, error, time.monotonic() - self._begun))
            self._steps.clear()
            self._app.abort()

    def _expect(self, step: Step, seconds: float, late: Callable[[], object]) -> None:
        """Call `late` if `step` is still the current one after `seconds`."""
        self._app.call_later(seconds, lambda: late() if self._step == step else None)

    def _opened(self, app: WebSocketApp) -> None:
        self._passed("the server speaks websocket")
        headers = getattr(app.sock, "headers", None) or {}
        self._note(judge_clock(headers.get("date"), self._sent_at, time.time()))
        opening: Sequence[str] = self._stream._codec.opening(self._key, time.time())
        for text in opening:
            app.send(text)
        if opening:
            self._expect("key", CONSENT, lambda: self._accepted("not refused within a second"))
        else:
            self._accepted("none is needed")

    def _accepted(self, text: str) -> None:
        self._passed(text)
        _, subscriptions = first_connection(self._stream)
        for request in self._stream._codec.subscribe_all(self._key, subscriptions, 0):
            self._app.send(request.text)
        if not subscriptions:
            self._quiet("nothing is subscribed", "")
            return
        names = ", ".join(subscription.name for subscription in subscriptions)
        self._expect(
            "tick",
            self._tick_timeout,
            lambda: self._quiet(
                f"nothing of {names} within {self._tick_timeout:g} s",
                CHECK_NAMES,
            ),
        )

    def _quiet(self, text: str, remedy: str) -> None:
        if self._unreadable is not None:
            text = f"{text}, but messages that cannot be read: {self._unreadable}"
            remedy = "check that this is the venue's server; if it is, report the message"
        error = StreamTimeoutError(text) if remedy else None
        self._next(Finding("tick", "failed" if remedy else "skipped", text, remedy, error=error))
        self._probe()

    def _probe(self) -> None:
        message = self._stream._codec.probe(self._key)
        if message is None:
            self._next(Finding("keepAlive", "skipped", "this venue has none"))
            self._ping()
            return
        self._app.send(message)
        self._expect("keepAlive", PATIENCE, lambda: self._unanswered("keepAlive", self._ping))

    def _ping(self) -> None:
        self._app.send(b"doctor", 0x9)
        self._expect("ping", PATIENCE, lambda: self._unanswered("ping", lambda: None))

    def _unanswered(self, step: Step, go_on: Callable[[], object]) -> None:
        text = f"no answer within {PATIENCE:g} s"
        remedy = "a proxy on the way may swallow it; without it a dead connection is noticed late, by ping_timeout only"
        self._next(Finding(step, "failed", text, remedy, error=StreamTimeoutError(f"{step}: {text}")))
        go_on()

    def _received(self, app: WebSocketApp, payloads: list[bytes]) -> None:
        for message in guarded(self._stream._codec)(payloads):
            if isinstance(message, Authentication) and self._step == "key":
                if message.accepted:
                    self._accepted("the server took the key")
                else:
                    self._fail(AuthorizationError(f"the server refused the key (isAuth: false); {CHECK_KEY}"))
            elif isinstance(message, ServerError) and self._step == "key":
                said = excerpt(message.said, LONGEST_COMPLAINT).replace(";", ",")
                self._fail(AuthorizationError(f"the server refused the key and said {said!r}; {CHECK_KEY}"))
            elif isinstance(message, (ServerError, Refused)) and self._step == "tick":
                error = ServerRefusedError("subscribe", message.said)
                self._next(Finding("tick", "failed", f"the server said {error.said!r}", CHECK_NAMES, error=error))
                self._probe()
            elif isinstance(message, Message) and self._step == "tick":
                name_of = getattr(message, "name_of", lambda one: type(one).__name__)
                self._passed(f"the first is of {name_of(message)}")
                self._probe()
            elif isinstance(message, Unreadable):
                self._unreadable = message.error
            elif isinstance(message, KeepAliveReply) and self._step == "keepAlive":
                self._passed("answered")
                self._ping()

    def _ponged(self, app: WebSocketApp, data: bytes) -> None:
        if self._step == "ping":
            self._passed("answered")

    def _broken(self, app: WebSocketApp, error: BaseException) -> None:
        self._fail(judged(as_finx_error(error)))
