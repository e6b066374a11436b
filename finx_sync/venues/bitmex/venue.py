"""BitMEX's entry in the registry of venues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finx_sync.venues.bitmex.codec import ENVIRONMENTS
from finx_sync.venues.bitmex.messages import TableItem
from finx_sync.venues.bitmex.stream import BitmexStream
from finx_sync.venues.registry import Show, Venue

if TYPE_CHECKING:
    from finx_sync.sandbox.host import SandboxHost, SandboxVenue

__all__ = ["VENUE"]


class ShownRow(NamedTuple):
    """A row of a table in the form that the command line shows."""

    topic: str
    action: str
    item: dict[str, Any]


def _subscribe(stream: BitmexStream, names: Sequence[str]) -> None:
    """Subscribe only to `names`: one in capitals is a symbol, for its quotes and trades; any other is a topic."""
    stream.unsubscribe(*stream.topics)
    for name in names:
        stream.subscribe(*([name] if ":" in name or name[:1].islower() else [f"quote:{name}", f"trade:{name}"]))


def _listen(stream: BitmexStream, show: Show) -> None:
    def show_row(row: TableItem) -> None:
        show(ShownRow(f"{row.table}:{row.symbol}" if row.symbol else row.table, row.action, row.item))

    stream.on_table(show_row)


def _sandbox(host: SandboxHost) -> SandboxVenue:
    from finx_sync.venues.bitmex.sandbox import serve

    return serve(host)


VENUE: Final = Venue(
    name="bitmex",
    example="XBTUSD orderBook10:XBTUSD margin",
    environments=ENVIRONMENTS,
    stream=BitmexStream,
    subscribe=_subscribe,
    listen=_listen,
    credentials={"api_key": "BITMEX_API_KEY", "api_secret": "BITMEX_API_SECRET"},
    sandbox=_sandbox,
)
