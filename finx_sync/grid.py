"""`Grid`: FinX's calculation grid, by websocket or by POST (finx-io SDK 0.2 to 2.0).

The server describes its own methods. The SDK generates source code from that description and executes it. Here the
description is data, used to check a call before it is sent; nothing from a server is ever executed.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from finx_sync import embedded
from finx_sync.config import KeySource, check_secrecy, read_grid_account
from finx_sync.errors import (
    AuthorizationError,
    ConfigError,
    FinxSyncError,
    InvalidInputError,
    ServerRefusedError,
    UnexpectedReplyError,
    UnreadableMessageError,
)
from finx_sync.functions.backend import DEFAULT_TIMEOUT
from finx_sync.functions.exchange import exchange
from finx_sync.functions.http import HttpClient
from finx_sync.functions.inputs import checked_name, checked_timeout
from finx_sync.functions.rest import http_url
from finx_sync.moments import is_date_or_time, read_day
from finx_sync.redaction import excerpt
from finx_sync.session.options import Options, takes_options
from finx_sync.transport.app import WebSocketApp
from finx_sync.transport.frames import DEFAULT_MAX_SIZE

__all__ = ["Grid", "GridFunction"]

LIST: Final = "list_api_functions"
AUTHENTICATION_TIMEOUT: Final = 5.0
"""Seconds; like the SDK, the library takes silence after a key as a refusal."""
Progress = Callable[[Mapping[str, Any]], object]


@dataclass(frozen=True)
class GridFunction:
    """A method of the grid, as the server describes it.

    Attributes:
        name: the method's name.
        required: the parameters that a call must have.
        optional: the optional parameters, with their defaults as the server's text, not as values.
    """

    name: str
    required: tuple[str, ...]
    optional: Mapping[str, str]

    def __str__(self) -> str:
        parameters = [*self.required, *(f"{name}={default}" for name, default in self.optional.items())]
        return f"{self.name}({', '.join(parameters)})"

    def check(self, params: Mapping[str, Any]) -> None:
        """Check a call's parameters.

        Raises:
            InvalidInputError: a parameter is missing or unknown.
        """
        missing = [name for name in self.required if name not in params]
        unknown = [name for name in params if name not in self.required and name not in self.optional]
        if missing or unknown:
            what = [
                f"{', '.join(names)} {word}" for names, word in ((missing, "missing"), (unknown, "unknown")) if names
            ]
            raise InvalidInputError(f"{self.name}: {'; '.join(what)}; call it as {self}")


class Grid:
    """FinX's calculation grid. The constructor does no I/O; each call uses its own connection. Any thread.

    Args:
        api_key: the key, or a function that returns the current one; None means ``FINX_API_KEY``.
        environment: "production" or "sandbox" (embedded, no key needed); None means ``FINX_ENVIRONMENT``.
        url: another server, like "https://hedgefunds.finx.io"; None means ``FINX_API_URL`` or ``FINX_API_ENDPOINT``.
        via: "websocket" or "rest".
        authentication_timeout: seconds of silence after which the key counts as refused (websocket only).
        connect_timeout: seconds from name look-up to the open connection.
        max_size: the maximum size of an answer in bytes.
        proxy: as for `StreamManager`.
        ssl_context: as for `StreamManager`.
        allow_insecure: whether the key may be sent unencrypted, over http:// or ws://, to another machine.

    Raises:
        ConfigError: the key is missing, the environment is unknown, or an option is invalid.
    """

    @takes_options()
    def __init__(
        self,
        api_key: KeySource | None = None,
        *,
        # where
        environment: str | None = None,
        url: str | None = None,
        via: Literal["websocket", "rest"] = "websocket",
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        # timeouts, seconds
        authentication_timeout: float = AUTHENTICATION_TIMEOUT,
        connect_timeout: float = 10.0,
        # limits
        max_size: int = DEFAULT_MAX_SIZE,
        allow_insecure: bool = False,
    ) -> None:
        if via not in ("websocket", "rest"):
            raise ConfigError(f"via is {via!r}; it must be 'websocket' or 'rest'")
        self._account = read_grid_account(api_key, environment, url)
        self._options = Options(
            proxy=proxy,
            ssl_context=ssl_context,
            connect_timeout=connect_timeout,
            max_size=max_size,
            allow_insecure=allow_insecure,
        )
        check_secrecy(self._account.base_url, self._account.key, allow_insecure=allow_insecure)
        self._via = via
        self._authentication_timeout = checked_timeout(authentication_timeout)
        self._lock = threading.Lock()  # guards `_functions`; held only to read or replace it, never during I/O
        self._functions: dict[str, GridFunction] | None = None

    def __repr__(self) -> str:
        return f"<Grid {self._account!r} via {self._via}>"

    def list_functions(self, *, timeout: float = DEFAULT_TIMEOUT) -> list[GridFunction]:
        """Fetch the list of methods; later calls are checked against it.

        Args:
            timeout: seconds for the whole call.

        Raises:
            UnexpectedReplyError: the server's description has an unknown structure.
            FinxSyncError: as `call`.
        """
        functions = _read_functions(self._ask(LIST, {}, checked_timeout(timeout), None))
        with self._lock:
            self._functions = functions
        return list(functions.values())

    def call(
        self, method: str, /, *, timeout: float = DEFAULT_TIMEOUT, on_progress: Progress | None = None, **params: Any
    ) -> Any:
        """Call a method and return its result as plain JSON values.

        The first call also fetches the list of methods, to check its parameters before they are sent.

        Args:
            method: like "calculate_greeks".
            timeout: seconds for the whole call.
            on_progress: called, on this thread, with the server's reports on the progress of a long calculation.
            params: the method's parameters: JSON values, and dates, which are sent like "2022-06-15".

        Raises:
            InvalidInputError: there is no such method; a parameter is missing, unknown or not a JSON value; or a
                datetime is not a whole day in UTC, the only form of date that the grid accepts.
            FunctionTimeoutError: the call took longer than `timeout`.
            AuthorizationError: the key was refused.
            ServerRefusedError: the server answered with an error.
            ConnectError, ConnectionLostError: there was no connection, or it ended before the answer.
            UnreadableMessageError, UnexpectedReplyError: the answer differs from what the sources describe.
        """
        checked_name(method, "a method", "calculate_greeks")
        until = time.monotonic() + checked_timeout(timeout)
        params = {name: _with_dates_as_text(value) for name, value in params.items()}
        try:
            json.dumps(params, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"{method}: a parameter cannot be sent as JSON: {error}") from None
        if method.startswith("batch_"):
            raise InvalidInputError(
                f"{method}: batches use files whose format is not published; call {method[6:]} once for each security"
            )
        with self._lock:
            functions = self._functions
        if functions is None:
            functions = {one.name: one for one in self.list_functions(timeout=timeout)}
        if method not in functions and method != LIST:
            raise InvalidInputError(f"the grid has no method {method!r}; choose one of {', '.join(functions)}")
        if method in functions:
            functions[method].check(params)
        return self._ask(method, params, max(until - time.monotonic(), 1e-3), on_progress)

    def _ask(self, method: str, params: Mapping[str, Any], timeout: float, on_progress: Progress | None) -> Any:
        key = self._account.current_key()
        with self._server() as base_url:
            if self._via == "rest":
                return self._post(base_url, {**params, "finx_api_key": key, "api_method": method}, timeout)
            message = {**params, "api_method": method, "cache_key": _cache_key(method, params)}
            talk = _Talk(message, self._authentication_timeout, on_progress)
            return self._exchange(f"{base_url}/ws/api/", key, talk, timeout)

    def _exchange(self, url: str, key: str, talk: _Talk, timeout: float) -> Any:
        method, hello = talk.method, json.dumps({"finx_api_key": key})
        try:
            answer, _ = exchange(
                method, url, hello, talk.read, options=self._options, timeout=timeout, opened=talk.opened
            )
        except FinxSyncError:
            if talk.raised is not None:
                raise talk.raised from None
            if talk.is_refused:
                raise AuthorizationError(f"{method}: the grid did not accept the key; check the key") from None
            raise
        if answer.get("error") is not None:
            raise ServerRefusedError(method, answer["error"])
        return answer.get("data")

    def _post(self, base_url: str, content: dict[str, Any], timeout: float) -> Any:
        client = HttpClient(self._options)
        try:
            value = client.post(content["api_method"], f"{http_url(base_url)}/api/", content, timeout)
        finally:
            client.close()
        return value["data"] if isinstance(value, dict) and "data" in value else value

    @contextmanager
    def _server(self) -> Iterator[str]:
        if self._account.base_url is not None:
            yield self._account.base_url
            return
        base_url = embedded.acquire()
        try:
            yield base_url
        finally:
            embedded.release()


class _Talk:
    """One call over its own websocket: the key, the call, the answer. All on the calling thread."""

    def __init__(self, message: dict[str, Any], patience: float, on_progress: Progress | None) -> None:
        self.method: str = message["api_method"]
        self._message = message
        self._patience = patience
        self._on_progress = on_progress
        self._app: WebSocketApp | None = None
        self._is_authorized = False
        self.is_refused = False
        self.raised: Exception | None = None

    def opened(self, app: WebSocketApp) -> None:
        """Start the authentication timeout; the connection is open, and the key is about to be sent."""
        self._app = app
        app.call_later(self._patience, self._refuse)

    def _refuse(self) -> None:
        assert self._app is not None
        if not self._is_authorized:
            self.is_refused = True
            self._app.abort()

    def read(self, text: str) -> dict[str, Any] | None:
        """Handle a message; return the answer to the call, or None for any other message.

        Raises:
            UnreadableMessageError: the message is not a JSON object.
        """
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UnreadableMessageError(f"{self.method}: the answer is not JSON: {error}", text) from None
        if not isinstance(message, dict):
            raise UnreadableMessageError(f"{self.method}: the answer is not a JSON object", text)
        if "is_authenticated" in message and not self._is_authorized:
            self._authenticated(message["is_authenticated"] is True)
        elif "data" in message or "error" in message:
            # An answer to another call does not belong on this connection; the echo of the cache key may be missing.
            return message if message.get("cache_key") in (None, self._message["cache_key"]) else None
        else:
            self._notify(message)
        return None

    def _authenticated(self, accepted: bool) -> None:
        assert self._app is not None
        self._is_authorized = accepted
        if accepted:
            self._app.try_send(json.dumps(self._message))
        else:
            self._refuse()

    def _notify(self, message: dict[str, Any]) -> None:
        """Call `on_progress` with a progress report; ignore messages of any other kind."""
        content = message.get("message", message)
        if self._on_progress is None or not isinstance(content, dict) or "progress" not in content:
            return
        try:
            self._on_progress(content)
        except Exception as error:  # noqa: BLE001 - user code may raise anything; `call` raises it unchanged
            self.raised = error
            assert self._app is not None
            self._app.abort()


def _with_dates_as_text(value: Any) -> Any:
    """Return a parameter with its dates, also those in lists, replaced by text; anything else stays unchanged."""
    if isinstance(value, (list, tuple)):
        return [_with_dates_as_text(one) for one in value]
    return read_day(value).isoformat() if is_date_or_time(value) else value


def _cache_key(method: str, params: Mapping[str, Any]) -> list[list[str | None]]:
    """Return the key that the server echoes, by which a call recognises its answer (the SDK looks up results by it)."""
    security = params.get("security_id")
    name = f"{security}:{params.get('as_of_date')}:{method}" if security else method
    left_out = ("security_id", "as_of_date", "api_method", "input_file", "output_file")
    shown = ",".join(f"{key}:{params[key]}" for key in sorted(params) if key not in left_out)
    return [[None, name, shown or "NONE"]]


def _read_functions(value: Any) -> dict[str, GridFunction]:
    rows = value.get("data", value) if isinstance(value, dict) else value
    try:
        functions = [
            GridFunction(
                name=checked_name(row["name"], "a method's name", "calculate_greeks"),
                required=tuple(map(str, row["required"] or ())),
                optional={str(name): str(default) for name, default in (row["optional"] or {}).items()},
            )
            for row in rows
        ]
    except (TypeError, KeyError, AttributeError, InvalidInputError):
        shown = excerpt(repr(value), 200)
        raise UnexpectedReplyError(f"{LIST}: the list of methods has an unknown structure: {shown}") from None
    return {function.name: function for function in functions}
