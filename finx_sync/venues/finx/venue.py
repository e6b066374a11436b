"""FinX's entry in the registry of venues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from finx_sync.config import ENVIRONMENTS
from finx_sync.venues.finx.service import FinxService
from finx_sync.venues.finx.stream import StreamManager
from finx_sync.venues.registry import Show, Venue

if TYPE_CHECKING:
    from finx_sync.sandbox.host import SandboxHost, SandboxVenue

__all__ = ["VENUE", "listen", "subscribe"]


def subscribe(stream: StreamManager, names: Sequence[str]) -> None:
    """Subscribe to names: those with a colon are pairs, all others are contracts."""
    stream.subscribe_spot(*(name for name in names if ":" in name))
    stream.subscribe_contract(*(name for name in names if ":" not in name))


def listen(stream: StreamManager, show: Show) -> None:
    """Call `show` with every tick."""
    stream.on_contract(show)
    stream.on_spot(show)


def _sandbox(host: SandboxHost) -> SandboxVenue:
    from finx_sync.venues.finx.sandbox import serve

    return serve(host)


VENUE: Final = Venue(
    name="finx",
    example="BTC-PERPETUAL BTC:USDC",
    environments=ENVIRONMENTS,
    stream=StreamManager,
    subscribe=subscribe,
    listen=listen,
    credentials={"api_key": ""},
    sandbox=_sandbox,
    service=FinxService,
)
