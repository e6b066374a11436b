"""Deribit's part of the sandbox: JSON-RPC, channels and heartbeats."""

from __future__ import annotations

from finx_sync.sandbox.host import SandboxHost, SandboxVenue
from finx_sync.venues.deribit.sandbox.controls import DeribitControls
from finx_sync.venues.deribit.sandbox.server import DeribitServer

__all__ = ["serve"]


def serve(host: SandboxHost) -> SandboxVenue:
    """Make it."""
    server = DeribitServer(host)
    return SandboxVenue(server.add_to, DeribitControls(server, host.run))
