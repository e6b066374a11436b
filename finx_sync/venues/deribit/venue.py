"""Deribit's entry in the registry of venues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finx_sync.venues.deribit.service import ENVIRONMENTS, DeribitService
from finx_sync.venues.finx.stream import StreamManager
from finx_sync.venues.finx.venue import listen, subscribe
from finx_sync.venues.registry import Venue

if TYPE_CHECKING:
    from finx_sync.sandbox.host import SandboxHost, SandboxVenue

__all__ = ["VENUE"]


def _stream(*, environment: str | None = None, **options: Any) -> StreamManager:
    name = (environment or "deribit").removeprefix("deribit-")
    return StreamManager(environment="deribit" if name == "deribit" else f"deribit-{name}", **options)


def _sandbox(host: SandboxHost) -> SandboxVenue:
    from finx_sync.venues.deribit.sandbox import serve

    return serve(host)


VENUE: Final = Venue(
    name="deribit",
    example="BTC-PERPETUAL BTC:USD",
    environments=ENVIRONMENTS,
    stream=_stream,
    subscribe=subscribe,
    listen=listen,
    sandbox=_sandbox,
    service=DeribitService,
)
