"""FTX's part of the sandbox: tickers, trades, books with checksums, and accounts that trade."""

from __future__ import annotations

from finx_sync.sandbox.host import SandboxHost, SandboxVenue
from finx_sync.venues.ftx.sandbox.controls import FtxControls
from finx_sync.venues.ftx.sandbox.server import FtxServer

__all__ = ["serve"]


def serve(host: SandboxHost) -> SandboxVenue:
    """Make it."""
    server = FtxServer(host)
    return SandboxVenue(server.add_to, FtxControls(server, host.run))
