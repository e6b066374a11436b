"""BitMEX's part of the sandbox: its tables, and accounts that trade."""

from __future__ import annotations

from finx_sync.sandbox.host import SandboxHost, SandboxVenue
from finx_sync.venues.bitmex.sandbox.controls import BitmexControls
from finx_sync.venues.bitmex.sandbox.server import BitmexServer

__all__ = ["serve"]


def serve(host: SandboxHost) -> SandboxVenue:
    """Make it."""
    server = BitmexServer(host)
    return SandboxVenue(server.add_to, BitmexControls(server, host.run))
