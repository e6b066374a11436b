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

from finx_sync.redaction import RedactingFilter
from finx_sync.session.options import Options

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Adapter", "deadline"]

RETRIES: Final = 3
"""Further attempts after a failed connection, a cut answer, or a status that asks for one."""
RETRIED_STATUS: Final = (429, 502, 503, 504)
BACKOFF: Final = 0.2
"""Seconds before the second of these; each following wait doubles, with jitter."""
LONGEST_BACKOFF: Final = 5.0


class Deadline(threading.local):
    """When the call of this thread ends: urllib3's own timeouts are for single reads, and a slow body has many."""

    at: float = float("inf")

    def left(self) -> float:
        """Seconds."""
        return self.at - time.monotonic()


deadline: Final = Deadline()


class _Filter(RedactingFilter):
    """Silences urllib3's log within our calls, whose outcome is told once, by what they return or raise."""

    def filter(self, record: logging.LogRecord) -> bool:
        return deadline.at == float("inf") and super().filter(record)


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
        left = deadline.left()
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


class _SecureConnection(HTTPSConnection):
    response_class = _TimedResponse


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
        if (pause or 0) >= deadline.left():
            raise MaxRetryError(_pool, url or "", error or ResponseError("no time left for another attempt"))
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def get_backoff_time(self) -> float:
        return max(0.0, min(super().get_backoff_time(), deadline.left()))


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
        if "socks" not in type(manager).__name__.lower():  # its own connections know their way through the proxy
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager
