"""HTTPS calls on the caller's own thread: pooled, retried, bounded in time and size, and silent about the key.

FinX's REST paths take the key in the query, so whatever shows a URL shows the key: redirects to elsewhere are refused,
what requests and urllib3 log is redacted, and their exceptions are replaced by ours, never chained to them.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from urllib3.util.retry import Retry

from finx_sync import forks
from finx_sync.errors import (
    AuthorizationError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    FinxSyncError,
    FunctionTimeoutError,
    NameResolutionError,
    ProxyError,
    RateLimitedError,
    ServerRefusedError,
    TLSError,
    UnexpectedReplyError,
    UnreadableMessageError,
)
from finx_sync.functions.pool import Adapter, current
from finx_sync.redaction import redact, shown
from finx_sync.session.options import Options
from finx_sync.transport.proxy import read_proxy

__all__ = ["HttpClient"]

REDIRECTS: Final = 3
CHUNK: Final = 65_536
REFUSING_STATUS: Final = (401, 403)
TOO_MANY: Final = 429


@dataclass(frozen=True)
class _Answer:
    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Calls the paths of one server; from any thread.

    Args:
        options: TLS, proxy, the time to connect, and the size limit are taken from here.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._session = self._new_session()
        forks.watch(self)

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        # The environment's proxies are asked for below; its .netrc has no business here, and cookies have none either.
        session.trust_env = False
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = Adapter(self._options)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def forked(self) -> None:
        """In the child of a fork: leave the parent's connections to it."""
        self._session = self._new_session()

    def __repr__(self) -> str:
        return "<HttpClient>"

    def close(self) -> None:
        """Close the connections that are kept for the next call."""
        self._session.close()

    def get(self, function: str, url: str, params: Mapping[str, str], timeout: float) -> Any:
        """Ask for `url`, and return the JSON value that it answers with.

        Args:
            function: what to call it in errors.
            url: without the query.
            params: the query, the key among them.
            timeout: seconds for the whole call, retries included.

        Raises:
            FunctionTimeoutError: it took longer.
            AuthorizationError: 401 or 403.
            RateLimitedError: 429, and no time to wait as long as the server asks.
            ServerRefusedError: another status, an error object, or a redirect to elsewhere.
            ConnectError, ConnectionLostError: no connection, or it ended within the answer.
            UnexpectedReplyError: the answer is larger than the limit.
            UnreadableMessageError: the answer is no JSON.
        """
        return self._call(function, "GET", url, timeout, params=params)

    def post(self, function: str, url: str, content: Mapping[str, Any], timeout: float) -> Any:
        """Send a JSON object to `url`; otherwise as `get`."""
        return self._call(function, "POST", url, timeout, json=content)

    def _call(self, function: str, method: str, url: str, timeout: float, **content: Any) -> Any:
        current.ends_at = time.monotonic() + timeout
        failure: FinxSyncError | None = None
        try:
            for _ in range(1 + REDIRECTS):
                answer = self._exchange(method, url, **content)
                if not 300 <= answer.status < 400:
                    return _read(function, answer)
                url, content = self._followed(function, url, answer), {**content, "params": None}
        except FinxSyncError:
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            failure = _mapped(function, error, timeout)
        finally:
            current.ends_at = float("inf")
        # Raised out here, so that the original, whose text has the URL, is not its context.
        raise failure or ServerRefusedError(function, f"more than {REDIRECTS} redirects")

    def _exchange(self, method: str, url: str, **content: Any) -> _Answer:
        left = max(current.left(), 1e-3)
        response = self._session.request(
            method,
            url,
            **content,
            timeout=(min(left, self._options.connect_timeout), left),
            allow_redirects=False,
            proxies=self._route(url),
            stream=True,
            headers={"Accept": "application/json"},
        )
        with response:
            return _Answer(response.status_code, response.reason or "", response.headers, self._body(response))

    def _route(self, url: str) -> dict[str, str]:
        """The HTTP proxies for `url`, as requests takes them; a SOCKS proxy is for our own connections."""
        proxy = self._options.proxy
        if proxy is None:
            proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
        address = read_proxy(proxy) if proxy else None
        current.socks = address if address is not None and address.scheme != "http" else None
        return {"http": proxy, "https": proxy} if proxy and current.socks is None else {}

    def _body(self, response: requests.Response) -> bytes:
        limit, pieces, size = self._options.max_size, [], 0
        for piece in response.iter_content(CHUNK):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise UnexpectedReplyError(f"the answer is larger than max_size, {limit} bytes")
        return b"".join(pieces)

    @staticmethod
    def _followed(function: str, url: str, answer: _Answer) -> str:
        """Where a redirect leads, if it stays on the server."""
        target = urljoin(url, answer.headers.get("Location", ""))
        old, new = urlsplit(url), urlsplit(target)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc) or target == url:
            raise ServerRefusedError(
                function,
                f"HTTP {answer.status}, a redirect to {shown(target)} (not followed: it would tell the key)",
                answer.status,
            )
        return target


def _read(function: str, answer: _Answer) -> Any:
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
        raise RateLimitedError(function, said, _seconds(answer.headers.get("Retry-After")))
    raise ServerRefusedError(function, said, answer.status)


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    try:
        return float(Retry().parse_retry_after(retry_after))
    except urllib3.exceptions.InvalidHeader:
        return None


def _mapped(function: str, error: Exception, timeout: float) -> FinxSyncError:
    """Our error for one of requests', urllib3's or the socket's."""
    reasons = list(_reasons(error))
    text = redact(f"{function}: {reasons[-1]}")
    if current.left() <= 0 or any(isinstance(one, (requests.ReadTimeout, TimeoutError)) for one in reasons):
        return FunctionTimeoutError(f"{function}: no answer within {timeout:g} s")
    for one in reasons:
        if isinstance(one, FinxSyncError):  # raised by our own connections, inside urllib3's
            return type(one)(f"{function}: {one}")
    for kinds, ours in _KINDS:
        if any(isinstance(one, kinds) for one in reasons):
            return ours(text)
    return ConnectionLostError(text)


def _reasons(error: BaseException) -> list[BaseException]:
    """An error and those inside it, outermost first; these libraries nest them in arguments and attributes."""
    found: list[BaseException] = []
    inner: Any = error
    while isinstance(inner, BaseException) and inner not in found:
        found.append(inner)
        nested = [one for one in (getattr(inner, "reason", None), *reversed(inner.args)) if isinstance(one, Exception)]
        inner = nested[0] if nested else inner.__cause__
    return found


_KINDS: Final[tuple[tuple[Any, type[FinxSyncError]], ...]] = (
    ((requests.exceptions.ProxyError, urllib3.exceptions.ProxyError), ProxyError),
    ((requests.exceptions.SSLError, urllib3.exceptions.SSLError), TLSError),
    ((urllib3.exceptions.NameResolutionError, socket.gaierror), NameResolutionError),
    # In urllib3's tree the two above and this are kinds of the one below.
    ((urllib3.exceptions.NewConnectionError, ConnectionRefusedError), ConnectError),
    ((requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError), ConnectTimeoutError),
)
"""Which of their errors is which of ours; the first that fits."""
