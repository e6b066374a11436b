"""Controls of the sandbox's Deribit for tests; any thread may use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finx_sync.venues.deribit.sandbox.server import DeribitServer

__all__ = ["DeribitControls"]


class DeribitControls:
    """Controls the service. Each call runs on the sandbox's thread and returns when it is done.

    Args:
        venue: the service.
        run: runs a function on the sandbox's thread.
    """

    def __init__(self, venue: DeribitServer, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._venue = venue
        self._run = run

    def demand(self, within: float) -> None:
        """Send every client a test request now, then heartbeats every `within` seconds; disconnect silent clients."""

        def demand() -> None:
            for session in self._venue.sessions:
                session.demand(within)

        self._run(demand)

    def refuse(self, method: str, code: int, message: str, count: int = 1) -> None:
        """Answer the next `count` requests of a method, like "public/subscribe", with an error."""
        self._run(lambda: self._venue.refusals.extend([(method, {"code": code, "message": message})] * count))
