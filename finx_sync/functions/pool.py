"""Pooled HTTP connections for requests that keep a whole call's deadline, and retry while it lasts.

requests and urllib3 bound each single read; a server that sends a byte now and then takes for ever. Here every read of
a thread's call ends with the call.
"""

from __future__ import annotations

import http.client
import io
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import MaxRetryError, ResponseError
from urllib3.util.retry import Retry

from finx_sync.errors import NameResolutionError, ProxyError
from finx_sync.redaction import RedactingFilter
from finx_sync.session.options import Options
from finx_sync.transport.proxy import ProxyAddress, Talk, talk

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Adapter", "Call", "current"]

RETRIES: Final = 3
"""Further attempts after a failed connection, a cut answer, or a status that asks for one."""
RETRIED_STATUS: Final = (429, 502, 503, 504)
BACKOFF: Final = 0.2
"""Seconds before the second of these; each following wait doubles, with jitter."""
LONGEST_BACKOFF: Final = 5.0


class Call(threading.local):
    """What the connections of this thread must know of its call.

    Attributes:
        ends_at: on the monotonic clock: urllib3's own timeouts are for single reads, and a slow body has many.
        socks: the SOCKS proxy to go through.
    """

    ends_at: float = float("inf")
    socks: ProxyAddress | None = None

    def left(self) -> float:
        """Seconds."""
        return self.ends_at - time.monotonic()


current: Final = Call()


class _Filter(RedactingFilter):
    """Silences urllib3's log within our calls, whose outcome is told once, by what they return or raise."""

    def filter(self, record: logging.LogRecord) -> bool:
        return current.ends_at == float("inf") and super().filter(record)


for _name in ("urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_Filter())


class _TimedReader(io.RawIOBase):
    """Reads from a socket while there is time."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        left = current.left()
        if left <= 0:
            raise TimeoutError("the call's time is over")
        self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        return super()._new_conn() if current.socks is None else _through(current.socks, self.host, self.port)


class _SecureConnection(HTTPSConnection):
    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        return super()._new_conn() if current.socks is None else _through(current.socks, self.host, self.port)


def _through(proxy: ProxyAddress, host: str, port: int) -> socket.socket:
    """Connect through a SOCKS proxy.

    Raises:
        ProxyError: it cannot be reached, hung up, or refused.
        NameResolutionError: it wants an address, and the host has none.
    """
    try:
        asked = host if proxy.looks_up else _address(proxy, host, port)
        sock = socket.create_connection((proxy.host, proxy.port), timeout=max(current.left(), 1e-3))
    except socket.gaierror as error:
        raise NameResolutionError(f"{host!r} or the proxy {proxy} has no address: {error}") from None
    except TimeoutError:
        raise
    except OSError as error:
        raise ProxyError(f"the proxy {proxy} cannot be reached: {error}") from None
    try:
        _converse(sock, talk(proxy, asked, port))
    except (ProxyError, TimeoutError):
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise ProxyError(f"the proxy {proxy} hung up: {error}") from None
    return sock


def _address(proxy: ProxyAddress, host: str, port: int) -> str:
    family = socket.AF_INET if proxy.scheme == "socks4" else socket.AF_UNSPEC
    return str(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4][0])


def _converse(sock: socket.socket, conversation: Talk) -> None:
    answer = b""
    try:
        wanted = next(conversation)
        while True:
            sock.settimeout(max(current.left(), 1e-3))
            if isinstance(wanted, int):
                answer = b""
                while len(answer) < wanted:
                    if not (piece := sock.recv(wanted - len(answer))):
                        raise ConnectionResetError("it closed the connection in the middle of its answer")
                    answer += piece
            else:
                sock.sendall(wanted)
            wanted = conversation.send(answer)
    except StopIteration:
        return


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Retry(Retry):
    """Retries while the call's time lasts; a server that wants a longer pause gets none, and the user is told."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        pause = self.get_retry_after(response) if response is not None else None
        if (pause or 0) >= current.left():
            raise MaxRetryError(_pool, url or "", error or ResponseError("no time left for another attempt"))
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def get_backoff_time(self) -> float:
        return max(0.0, min(super().get_backoff_time(), current.left()))


class Adapter(HTTPAdapter):
    """Connections that keep the deadline, and the user's TLS settings."""

    def __init__(self, options: Options) -> None:
        self._context = options.ssl_context
        retries = _Retry(
            total=RETRIES,
            redirect=False,
            status_forcelist=RETRIED_STATUS,
            backoff_factor=BACKOFF,
            backoff_jitter=BACKOFF,
            backoff_max=LONGEST_BACKOFF,
            raise_on_status=False,
        )
        super().__init__(max_retries=retries)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Make the pools; requests calls this."""
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._tls())
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make those for a proxy; requests calls this."""
        return self._watch(super().proxy_manager_for(proxy, **kwargs, **self._tls()))

    def _tls(self) -> dict[str, Any]:
        return {} if self._context is None else {"ssl_context": self._context}

    @staticmethod
    def _watch(manager: urllib3.PoolManager) -> urllib3.PoolManager:
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager
