"""What tests may ask of the sandbox's IME, from any thread."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from finx_sync.venues.ime.sandbox.server import ImeServer

__all__ = ["ImeControls"]


class ImeControls:
    """Moves the service; each call returns when it is done.

    Args:
        venue: the service.
        call: runs a coroutine on the sandbox's thread.
    """

    def __init__(self, venue: ImeServer, call: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._venue = venue
        self._call = call

    def publish(self, name: str, data: dict[str, Any]) -> None:
        """Publish a contract's data, exactly this, to whoever listens by name or by id."""
        self._call(self._venue.publish(name, data))

    def accept_first(self, accept: bool = True) -> None:
        """From now on, refuse with close code 1008 after the handshake, not with HTTP 403 in it."""
        self._venue.accepts_first = accept
