"""One call over one short-lived connection: connect, ask, read the answer, close. Runs on the caller's thread.

The sources say that a call goes to ``backend/[params]`` (FinX documentation, *Functions*, 2022-08-05) and, two days
later, that it is a message on the streaming path; they do not say how ``[params]`` is written. So the form is a
setting, which only this module knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote, urlencode, urlsplit

from finx_sync.config import Account
from finx_sync.errors import AuthorizationError, ServerRefusedError
from finx_sync.functions.exchange import Cancel, exchange
from finx_sync.session.options import Options
from finx_sync.venues.base import Authentication, KeepAliveReply, ServerError
from finx_sync.venues.finx import FinxCodec, Reply, parse_reply, request

__all__ = ["DEFAULT_TIMEOUT", "Backend", "FunctionAnswer", "Functions", "RequestForm", "reader"]

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds for a whole call, from name look-up to the last byte."""

RequestForm = Literal["query", "segment", "message"]
"""``/backend/?APIKey=..&pair=..``, ``/backend/APIKey=..&pair=..``, or a message on the streaming path."""


@dataclass(frozen=True)
class FunctionAnswer:
    """The answer of a function.

    Attributes:
        reply: the answer as the codec reads it.
        text: the answer as received.
    """

    reply: Reply
    text: str

    @property
    def value(self) -> Any:
        """The plain JSON value."""
        return json.loads(self.text)


class Functions(Protocol):
    """A server that answers functions."""

    def call(self, function: str, params: Mapping[str, Any], timeout: float) -> FunctionAnswer:
        """Call `function` by its wire name; see `Backend.call`."""


class Backend:
    """Calls functions of one server.

    Args:
        base_url: ``wss://host``.
        account: has the key.
        options: TLS, proxy and size limit are taken from here.
        form: how requests are written.
        codec: knows the streaming path, for the "message" form.
    """

    def __init__(self, base_url: str, account: Account, options: Options, form: RequestForm, codec: FinxCodec) -> None:
        self._base_url = base_url.rstrip("/")
        self._account = account
        self._options = options
        self._form = form
        self._codec = codec

    def call(self, function: str, params: Mapping[str, Any], timeout: float) -> FunctionAnswer:
        """Call `function` and wait for its answer.

        Raises:
            FunctionTimeoutError: the whole call took longer than `timeout` seconds.
            ServerRefusedError: the server answered with an error object.
            AuthorizationError: the key was refused.
            ConnectError, ConnectionLostError: there was no connection, or it ended before the answer.
            UnreadableMessageError: the answer is not a message.
        """
        return FunctionAnswer(*self.ask(function, params, timeout, reader(function)))

    def ask(
        self,
        function: str,
        params: Mapping[str, Any],
        timeout: float,
        read: Callable[[str], Any],
        cancel: Cancel | None = None,
    ) -> tuple[Any, str]:
        """As `call`, with the caller's own reader; returns what it read, and the text of the answer. See `exchange`."""
        key = self._account.current_key()
        reply, text = exchange(
            function,
            self._url(key, function, params),
            self._message(key, function, params),
            read,
            options=self._options,
            timeout=timeout,
            cancel=cancel,
        )
        if isinstance(reply, ServerError):
            raise ServerRefusedError(function, reply.said)
        if isinstance(reply, Authentication) and not reply.accepted:
            raise AuthorizationError(
                f"{function}: the server refused the key (isAuth: false); check it, and that it has not expired"
            )
        return reply, text

    def with_one_key(self) -> Backend:
        """Return a copy that keeps the current key, so that many calls on several threads need not ask for it."""
        account = replace(self._account, key=self._account.current_key())
        return Backend(self._base_url, account, self._options, self._form, self._codec)

    @property
    def host(self) -> str:
        """The server, for file names; the embedded sandbox is the same server on every port."""
        return "sandbox" if self._account.base_url is None else urlsplit(self._base_url).netloc

    def _url(self, key: str, function: str, params: Mapping[str, Any]) -> str:
        if self._form == "message":
            return self._codec.url(key, "")
        query = urlencode({"APIKey": key, "functionName": function, **params}, quote_via=quote)
        return f"{self._base_url}/backend/{'?' if self._form == 'query' else ''}{query}"

    def _message(self, key: str, function: str, params: Mapping[str, Any]) -> str | None:
        return request(key, function, **params) if self._form == "message" else None


def reader(function: str) -> Callable[[str], Reply | None]:
    """Return a reader of replies; it returns None for a greeting, which answers no question."""

    def read(text: str) -> Reply | None:
        reply = parse_reply(text)
        if isinstance(reply, KeepAliveReply):
            is_greeting = function != "keepAlive"
        else:
            is_greeting = isinstance(reply, Authentication) and reply.accepted and function != "authenticate"
        return None if is_greeting else reply

    return read
