"""IME's part of the sandbox: two endpoints, and a bus with a channel for each contract."""

from __future__ import annotations

from finx_sync.sandbox.bus import LocalBus, RedisBus
from finx_sync.sandbox.host import SandboxHost, SandboxVenue
from finx_sync.venues.ime.sandbox.controls import ImeControls
from finx_sync.venues.ime.sandbox.server import ImeServer

__all__ = ["serve"]


def serve(host: SandboxHost) -> SandboxVenue:
    """Make it."""
    server = ImeServer(host, LocalBus() if host.redis_url is None else RedisBus(host.redis_url))
    return SandboxVenue(server.add_to, ImeControls(server, host.call))
