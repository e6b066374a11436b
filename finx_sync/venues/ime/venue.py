"""IME's entry in the registry of venues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from finx_sync.config import SANDBOX
from finx_sync.venues.ime.stream import ImeStream
from finx_sync.venues.registry import Show, Venue

if TYPE_CHECKING:
    from finx_sync.sandbox.host import SandboxHost, SandboxVenue

__all__ = ["VENUE"]


def _subscribe(stream: ImeStream, names: Sequence[str]) -> None:
    """Subscribe to contracts: a number is an id, anything else a name."""
    stream.subscribe_name(*(name for name in names if not name.isdigit()))
    stream.subscribe_id(*(name for name in names if name.isdigit()))


def _listen(stream: ImeStream, show: Show) -> None:
    stream.on_contract(show)


def _sandbox(host: SandboxHost) -> SandboxVenue:
    from finx_sync.venues.ime.sandbox import serve

    return serve(host)


VENUE: Final = Venue(
    name="ime",
    example="ContractA 12345",
    environments={SANDBOX: None},
    stream=ImeStream,
    subscribe=_subscribe,
    listen=_listen,
    credentials={"auth": "IME_API_KEY"},
    sandbox=_sandbox,
)
