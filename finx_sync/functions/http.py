"""HTTPS calls on the caller's thread: pooled, retried, bounded in time and size, and never revealing the key.

FinX's REST paths take the key in the query, so any text that contains a URL contains the key. Redirects to other
servers are therefore refused, and errors of other libraries are replaced by our own, never chained to them.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urljoin, urlsplit

from finx_sync.errors import (
    AuthorizationError,
    ConnectError,
    ConnectionLostError,
    FunctionTimeoutError,
    RateLimitedError,
    ServerRefusedError,
    TLSError,
    UnreadableMessageError,
)
from finx_sync.functions.pool import Deadline, HttpAnswer, Pool
from finx_sync.redaction import shown
from finx_sync.session.backoff import Backoff
from finx_sync.session.failures import read_retry_after
from finx_sync.session.options import Options

__all__ = ["HttpClient"]

REDIRECTS: Final = 3
RETRIES: Final = 3
"""Further attempts after a failed connection, a truncated answer, or a status that suggests it."""
RETRIED_STATUS: Final = (429, 502, 503, 504)
RETRY: Final = Backoff(first=0.2, cap=5.0)
REFUSING_STATUS: Final = (401, 403)
TOO_MANY: Final = 429


class HttpClient:
    """Calls the paths of one server, from any thread.

    Args:
        options: TLS, proxy, the time to connect, and the size limit are taken from here.
    """

    def __init__(self, options: Options) -> None:
        self._pool = Pool(options)

    def __repr__(self) -> str:
        return "<HttpClient>"

    def close(self) -> None:
        """Close the connections that are kept for the next call."""
        self._pool.close()

    def get(self, function: str, url: str, params: Mapping[str, str], timeout: float) -> Any:
        """Request `url`, and return the JSON value of the answer.

        Args:
            function: its name, for the texts of errors.
            url: the URL without the query.
            params: the query, including the key.
            timeout: seconds for the whole call, retries included.

        Raises:
            FunctionTimeoutError: it took longer.
            AuthorizationError: 401 or 403.
            RateLimitedError: 429, and the call has no time for the pause that the server asks for.
            ServerRefusedError: another status, an error object, or a redirect to another server.
            ConnectError, ConnectionLostError: there was no connection, or it ended before the answer was complete.
            UnexpectedReplyError: the answer is larger than the limit.
            UnreadableMessageError: the answer is not JSON.
        """
        return self._call(function, "GET", f"{url}?{urlencode(params)}", timeout)

    def post(self, function: str, url: str, content: Mapping[str, Any], timeout: float) -> Any:
        """Send a JSON object to `url`; otherwise as `get`. Tries again only if the connection fails."""
        return self._call(function, "POST", url, timeout, json.dumps(content).encode())

    def _call(self, function: str, method: str, url: str, timeout: float, content: bytes | None = None) -> Any:
        deadline = Deadline(timeout)
        try:
            for _ in range(1 + REDIRECTS):
                answer = self._insist(method, url, content, deadline)
                if not 300 <= answer.status < 400:
                    return _read(function, answer)
                url = _followed(function, url, answer)
        except TimeoutError:
            if not deadline.is_over:  # a step of connecting took too long, rather than the whole call
                raise
            raise FunctionTimeoutError(f"{function}: no answer within {timeout:g} s") from None
        raise ServerRefusedError(function, f"more than {REDIRECTS} redirects")

    def _insist(self, method: str, url: str, content: bytes | None, deadline: Deadline) -> HttpAnswer:
        """Repeat a request, after growing pauses, as long as that may help and there is time."""
        for failures in range(1, RETRIES + 1):
            pause = RETRY.delay(failures, random.random)
            try:
                answer = self._pool.exchange(method, url, content, deadline)
            except TLSError:
                raise
            except (ConnectError, ConnectionLostError) as error:
                if method != "GET" and not isinstance(error, ConnectError):
                    raise
            else:
                pause = _pause_of(answer) or pause
                if method != "GET" or answer.status not in RETRIED_STATUS or pause >= deadline.left():
                    return answer
            time.sleep(min(pause, deadline.left()))
        return self._pool.exchange(method, url, content, deadline)


def _followed(function: str, url: str, answer: HttpAnswer) -> str:
    """Return the target of a redirect that stays on the server."""
    target = quote(urljoin(url, answer.headers.get("Location", "")), safe="%/:=&?~#+!$,;'@()*[]")
    if urlsplit(url)[:2] != urlsplit(target)[:2] or target == url:
        raise ServerRefusedError(
            function,
            f"HTTP {answer.status}, a redirect to {shown(target)} (not followed: it would reveal the key)",
            answer.status,
        )
    return target


def _read(function: str, answer: HttpAnswer) -> Any:
    text = answer.body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if answer.status < 400:
            raise UnreadableMessageError(f"{function}: not JSON: {error}", text) from None
        value = None
    if answer.status in REFUSING_STATUS:
        raise AuthorizationError(
            f"{function}: the server refused the key (HTTP {answer.status}); check it, and that it has not expired"
        )
    if isinstance(value, dict) and "error" in value:
        said = str(value["error"])
    elif answer.status >= 400:
        said = f"HTTP {answer.status} {answer.reason}".rstrip()
    else:
        return value
    if answer.status == TOO_MANY:
        raise RateLimitedError(function, said, _pause_of(answer))
    raise ServerRefusedError(function, said, answer.status)


def _pause_of(answer: HttpAnswer) -> float | None:
    """Return the pause in seconds that the server requests; None if it requests none."""
    return read_retry_after(answer.headers.get("Retry-After", ""), time.time())
