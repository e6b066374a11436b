"""What `StreamManager` needs of a venue: FinX's own here, another's from its folder, as `Venue.service`."""

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
    from finx_sync.functions.http import HttpClient  # slow to import: only when asked for

__all__ = ["Between", "FinxService", "Service"]

Between = Callable[[str, int, int, float, Cancel], TickHistory]
"""The ticks of a pair from one millisecond since the epoch to another; see `SpotHistory`."""


class Service(abc.ABC):
    """A feed of contracts and spot rates, and whatever functions there are. Making one does no I/O.

    Args:
        api_key, environment, url: as `StreamManager` was given them.
        own: those of its arguments that are in `options` and were given.

    Attributes:
        options: the arguments of `StreamManager` that are this service's own.
        account: where to connect, and as whom.
        codec: the protocol.
    """

    options: ClassVar[frozenset[str]]
    account: Account
    codec: Codec

    @abc.abstractmethod
    def __init__(self, api_key: KeySource | None, environment: str | None, url: str | None, **own: Any) -> None: ...

    @abc.abstractmethod
    def functions(self, base_url: str, options: Options) -> Functions:
        """What answers functions, at a server."""

    @abc.abstractmethod
    def rest(self, base_url: str, client: Callable[[], HttpClient]) -> RestBackend:
        """What answers the REST functions.

        Raises:
            UnsupportedError: this service has none.
        """

    @abc.abstractmethod
    def history(self, between: Between) -> History | None:
        """Where gaps are filled from; None where there is no history."""


class FinxService(Service):
    """FinX itself; its options are those of `StreamManager`."""

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
            raise ConfigError(f"path is 'streaming', 'streamer' or 'root', not {path!r}")
        if request_form not in ("query", "segment", "message"):
            raise ConfigError(f"request_form is 'query', 'segment' or 'message', not {request_form!r}")
        checked_switch("stream_per_url", stream_per_url)
        self.account = read_account(api_key, environment, url)
        self.codec = FinxCodec(self.account.base_url or "", path, stream_per_url=stream_per_url)
        self._path: Path = path
        self._request_form: RequestForm = request_form

    def functions(self, base_url: str, options: Options) -> Functions:
        """Calls of one short-lived connection each."""
        return Backend(base_url, self.account, options, self._request_form, FinxCodec(base_url, self._path))

    def rest(self, base_url: str, client: Callable[[], HttpClient]) -> RestBackend:
        """The paths below ``/backend/``."""
        return RestBackend(base_url, self.account, client())

    def history(self, between: Between) -> History | None:
        """Tick history."""
        return SpotHistory(between)
