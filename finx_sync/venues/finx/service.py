"""The part of a venue that `StreamManager` uses: the base class `Service`, and FinX's implementation.

Other venues define theirs in their folders and name it as `Venue.service`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from finx_sync.config import Account, KeySource, read_account
from finx_sync.errors import ConfigError
from finx_sync.functions.backend import Backend, Functions, RequestForm
from finx_sync.functions.exchange import Cancel
from finx_sync.functions.gaps import SpotHistory
from finx_sync.functions.rest import RestBackend
from finx_sync.pipeline.backfill import History
from finx_sync.session.options import Options
from finx_sync.stream.checks import checked_switch
from finx_sync.ticks import TickHistory
from finx_sync.venues.base import Codec
from finx_sync.venues.finx.codec import FinxCodec, Path

if TYPE_CHECKING:
    from finx_sync.functions.http import HttpClient  # slow to import, so imported only when used

__all__ = ["Between", "FinxService", "Service"]

Between = Callable[[str, int, int, float, Cancel], TickHistory]
"""Returns the ticks of a pair between two times, in milliseconds since the UNIX epoch; see `SpotHistory`."""


class Service(abc.ABC):
    """A feed of contracts and spot rates, and the venue's functions. Creating one does no I/O.

    Args:
        api_key, environment, url: the arguments given to `StreamManager`.
        own: those of its arguments that are in `options` and were given.

    Attributes:
        options: the arguments of `StreamManager` that are specific to this service.
        account: the address and the key to connect with.
        codec: the codec of the protocol.
    """

    options: ClassVar[frozenset[str]]
    account: Account
    codec: Codec

    @abc.abstractmethod
    def __init__(self, api_key: KeySource | None, environment: str | None, url: str | None, **own: Any) -> None: ...

    @abc.abstractmethod
    def functions(self, base_url: str, options: Options) -> Functions:
        """Return the object that calls functions at the server `base_url`."""

    @abc.abstractmethod
    def rest(self, base_url: str, client: Callable[[], HttpClient]) -> RestBackend:
        """Return the object that calls the REST functions.

        Raises:
            UnsupportedError: this service has no REST functions.
        """

    @abc.abstractmethod
    def history(self, between: Between) -> History | None:
        """Return the history that gaps are filled from; None if the venue has none."""


class FinxService(Service):
    """FinX's service; for its options, see `StreamManager`."""

    options: ClassVar[frozenset[str]] = frozenset({"path", "stream_per_url", "request_form"})

    def __init__(
        self,
        api_key: KeySource | None,
        environment: str | None,
        url: str | None,
        *,
        path: Path = "streaming",
        stream_per_url: bool = False,
        request_form: RequestForm = "query",
    ) -> None:
        if path not in ("streaming", "streamer", "root"):
            raise ConfigError(f"path must be 'streaming', 'streamer' or 'root', not {path!r}")
        if request_form not in ("query", "segment", "message"):
            raise ConfigError(f"request_form must be 'query', 'segment' or 'message', not {request_form!r}")
        checked_switch("stream_per_url", stream_per_url)
        self.account = read_account(api_key, environment, url)
        self.codec = FinxCodec(self.account.base_url or "", path, stream_per_url=stream_per_url)
        self._path: Path = path
        self._request_form: RequestForm = request_form

    def functions(self, base_url: str, options: Options) -> Functions:
        """Return a backend that opens a short-lived connection for each call."""
        return Backend(base_url, self.account, options, self._request_form, FinxCodec(base_url, self._path))

    def rest(self, base_url: str, client: Callable[[], HttpClient]) -> RestBackend:
        """Return a client of the paths below ``/backend/``."""
        return RestBackend(base_url, self.account, client())

    def history(self, between: Between) -> History | None:
        """Return the tick history."""
        return SpotHistory(between)
