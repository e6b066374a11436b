"""Deribit's public feed for `StreamManager`: the handlers, ticks and functions that FinX has, as far as Deribit can."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from finx_sync.config import SANDBOX, KeySource, account_of, read_address, read_environment
from finx_sync.errors import UnsupportedError
from finx_sync.functions.backend import Functions
from finx_sync.functions.rest import RestBackend
from finx_sync.pipeline.backfill import History
from finx_sync.session.options import Options
from finx_sync.venues.deribit.codec import DeribitCodec, Interval
from finx_sync.venues.deribit.functions import DeribitBackend
from finx_sync.venues.finx.service import Between, Service

if TYPE_CHECKING:
    from finx_sync.functions.http import HttpClient  # slow to import: only when asked for

__all__ = ["ENVIRONMENTS", "DeribitService"]

ENVIRONMENTS: Final[dict[str, str | None]] = {
    "production": "wss://www.deribit.com",
    "test": "wss://test.deribit.com",
    SANDBOX: None,
}
"""Deribit API documentation, *Overview*."""


class DeribitService(Service):
    """Takes no key: one of FinX's has no business at Deribit."""

    options: ClassVar[frozenset[str]] = frozenset({"interval"})

    def __init__(
        self, api_key: KeySource | None, environment: str | None, url: str | None, *, interval: Interval = "100ms"
    ) -> None:
        address = read_address(url, environment)
        chosen = read_environment(environment)
        self.account = account_of("deribit", ENVIRONMENTS, chosen, address, "wss://www.deribit.com")
        self.account.key = ""
        self.codec = DeribitCodec(self.account.base_url or "", interval)

    def functions(self, base_url: str, options: Options) -> Functions:
        """Deribit's public methods."""
        return DeribitBackend(base_url, options)

    def rest(self, base_url: str, client: Callable[[], HttpClient]) -> RestBackend:
        """None of FinX's paths.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("this function is one of FinX's REST paths; Deribit has none of them")

    def history(self, between: Between) -> History | None:
        """Deribit has no history of index prices."""
        return None
