"""Controls of the sandbox's IME for tests; any thread may use them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from finx_sync.venues.ime.sandbox.server import ImeServer

__all__ = ["ImeControls"]


class ImeControls:
    """Controls the service. Each call returns when it is done.

    Args:
        venue: the service.
        call: runs a coroutine on the sandbox's thread.
    """

    def __init__(self, venue: ImeServer, call: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._venue = venue
        self._call = call

    def publish(self, name: str, data: dict[str, Any]) -> None:
        """Publish `data` unchanged as a contract's data to all subscribers, by name or by id."""
        self._call(self._venue.publish(name, data))

    def accept_first(self, accept: bool = True) -> None:
        """From now on, refuse clients with close code 1008 after the handshake instead of HTTP 403.

        Args:
            accept: False for HTTP 403 again.
        """
        self._venue.accepts_first = accept
