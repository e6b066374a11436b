"""FinX's part of the sandbox: streams, functions, REST paths and the calculation grid."""

from __future__ import annotations

from aiohttp import web

from finx_sync.sandbox.host import SandboxHost, SandboxVenue
from finx_sync.venues.finx.sandbox.controls import FinxControls
from finx_sync.venues.finx.sandbox.functions import ServedFunctions
from finx_sync.venues.finx.sandbox.grid import FinxGrid
from finx_sync.venues.finx.sandbox.rest import FinxRest
from finx_sync.venues.finx.sandbox.server import FinxServer

__all__ = ["serve"]


def serve(host: SandboxHost) -> SandboxVenue:
    """Make it."""
    functions = ServedFunctions(host.market, host.history, host.now)

    def add_to(app: web.Application) -> None:
        FinxGrid(host.hub, functions, host.accepts).add_routes(app.router)
        FinxRest(functions, host.history, host.accepts, host.now).add_routes(app.router)
        FinxServer(host, functions).add_routes(app.router)

    return SandboxVenue(add_to, FinxControls(host))
