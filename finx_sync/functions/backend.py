"""One call, one short-lived connection: connect, ask, take the one answer, close. On the caller's own thread.

The sources say that a call goes to ``backend/[params]`` (FinX documentation, *Functions*, 2022-08-05) and, two days
later, that it is a message on the streaming path; how ``[params]`` is written they do not say. So the form is a
setting, and this module the only place that knows about it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from finx_sync.config import Account
from finx_sync.errors import (
    AuthorizationError,
    ConnectTimeoutError,
    FinxSyncError,
    FunctionTimeoutError,
    ServerRefusedError,
)
from finx_sync.session.failures import judged
from finx_sync.session.options import Options
from finx_sync.transport.app import WebSocketApp, as_finx_error, quiet_thread
from finx_sync.venues.base import Authentication, KeepAliveReply, ServerError
from finx_sync.venues.finx import FinxDialect, Reply, parse_reply, request

__all__ = ["DEFAULT_TIMEOUT", "Answer", "Backend", "RequestForm"]

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds for a whole call, from name look-up to the last byte."""
PARTING_TIME: Final = 0.005
"""Seconds for the close frame to leave; the answer is here, so nothing more is waited for."""

RequestForm = Literal["query", "segment", "message"]
"""``/backend/?APIKey=..&pair=..``, ``/backend/APIKey=..&pair=..``, or a message on the streaming path."""


@dataclass(frozen=True)
class Answer:
    """What a function returned.

    Attributes:
        reply: as the dialect reads it.
        text: as it came.
    """

    reply: Reply
    text: str

    @property
    def value(self) -> Any:
        """The plain JSON value."""
        return json.loads(self.text)


class Backend:
    """Calls functions of one server.

    Args:
        base_url: ``wss://host``.
        account: whose key.
        options: TLS, proxy and size limit are taken from here.
        form: how a request is written.
        dialect: for the "message" form: where the streaming path is.
    """

    def __init__(
        self, base_url: str, account: Account, options: Options, form: RequestForm, dialect: FinxDialect
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._account = account
        self._options = options
        self._form = form
        self._dialect = dialect

    def call(self, function: str, params: Mapping[str, Any], timeout: float) -> Answer:
        """Call `function` and wait for its answer.

        Raises:
            FunctionTimeoutError: the whole call took longer than `timeout` seconds.
            ServerRefusedError: the server answered with an error object.
            AuthorizationError: the key was refused.
            ConnectError, ConnectionLostError: no connection, or it ended before the answer.
            UnreadableMessageError: the answer is no message.
        """
        deadline = time.monotonic() + timeout
        key = self._account.current_key()
        exchange = _Exchange(function, self._message(key, function, params), deadline)
        app = WebSocketApp(
            self._url(key, function, params),
            on_open=exchange.opened,
            on_message=exchange.received,
            on_error=exchange.failed,
            max_size=self._options.max_size,
            connect_timeout=timeout,
        )
        with quiet_thread():
            app.run_forever(**self._options.run_arguments())
        if exchange.expired or isinstance(exchange.error, ConnectTimeoutError):
            raise FunctionTimeoutError(f"{function}: no answer within {timeout:g} s") from exchange.error
        if exchange.reply is None:
            raise judged(
                exchange.error or as_finx_error(ConnectionError(f"{function}: the server closed without an answer"))
            )
        if isinstance(exchange.reply, ServerError):
            raise ServerRefusedError(function, exchange.reply.said)
        if isinstance(exchange.reply, Authentication) and not exchange.reply.accepted:
            raise AuthorizationError(
                f"{function}: the server refused the key (isAuth: false); check it, and that it has not expired"
            )
        return Answer(exchange.reply, exchange.text)

    def _url(self, key: str, function: str, params: Mapping[str, Any]) -> str:
        if self._form == "message":
            return self._dialect.url(key, "")
        query = urlencode({"APIKey": key, "functionName": function, **params}, quote_via=quote)
        return f"{self._base_url}/backend/{'?' if self._form == 'query' else ''}{query}"

    def _message(self, key: str, function: str, params: Mapping[str, Any]) -> str | None:
        return request(key, function, **params) if self._form == "message" else None


class _Exchange:
    """One question and its answer; the callbacks run on the calling thread."""

    def __init__(self, function: str, message: str | None, deadline: float) -> None:
        self._function = function
        self._message = message
        self._deadline = deadline
        self.reply: Reply | None = None
        self.text = ""
        self.error: FinxSyncError | None = None
        self.expired = False

    def opened(self, app: WebSocketApp) -> None:
        app.call_later(self._deadline - time.monotonic(), lambda: self._expire(app))
        if self._message is not None:
            app.try_send(self._message)

    def received(self, app: WebSocketApp, text: str | bytes) -> None:
        if self.reply is not None or isinstance(text, bytes):
            return
        try:
            reply = parse_reply(text)
        except FinxSyncError as error:
            self.error = error
        else:
            if self._is_greeting(reply):
                return  # not what was asked for; the answer follows
            self.reply, self.text = reply, text
        app.close(timeout=PARTING_TIME, wait=False)

    def _is_greeting(self, reply: Reply) -> bool:
        if isinstance(reply, KeepAliveReply):
            return self._function != "keepAlive"
        return isinstance(reply, Authentication) and reply.accepted and self._function != "authenticate"

    def failed(self, app: WebSocketApp, error: BaseException) -> None:
        if self.error is None and self.reply is None:
            self.error = as_finx_error(error)

    def _expire(self, app: WebSocketApp) -> None:
        self.expired = self.reply is None
        app.abort()
