"""Who may connect: keys, origins and how many connections there may be. On the event loop's thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from finx_sync.errors import FinxSyncError
from finx_sync.gateway.keys import Key, KeyRing
from finx_sync.gateway.metrics import Refusals

__all__ = ["Access", "RefusedError"]

MOST_NAMES: Final = 10_000
"""Names that one connection may subscribe to, whatever its key allows."""


class RefusedError(FinxSyncError):
    """A client that is not let in.

    Attributes:
        status_code: the HTTP status; the close code 1008 or 1013 says the same on a websocket.
    """

    def __init__(self, status_code: int, why: str) -> None:
        super().__init__(why)
        self.status_code = status_code


@dataclass
class Access:
    """Lets clients in.

    Attributes:
        keys: the keys.
        origins: the web pages that may connect beside the gateway's own, like "https://example.com"; "*" for all.
        connections: how many clients there may be.
        refusals: counts those that were refused.
        is_draining: whether the gateway is about to end, and lets nobody in any more.
    """

    keys: KeyRing
    origins: frozenset[str] = frozenset()
    connections: int = 20_000
    refusals: Refusals = field(default_factory=Refusals)
    is_draining: bool = False
    _count: int = 0

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """Refuse the scripts of foreign web pages; programs send no origin.

        Raises:
            RefusedError: the page may not connect.
        """
        if origin is None or "*" in self.origins or origin in self.origins:
            return
        if host is not None and urlsplit(origin).netloc == host:
            return
        self.refuse("origin", 403, "this gateway does not serve scripts of that web page")

    def check_key(self, key: str | None) -> Key:
        """What a key allows.

        Raises:
            RefusedError: there is no such key.
        """
        found = self.keys.find(key)
        return self.refuse("key", 401, "no such key") if found is None else found

    def check_names(self, key: Key, tags: Sequence[str], present: Set[str] = frozenset()) -> None:
        """Refuse more names than a client may have, and those that its key does not allow.

        Args:
            key: the client's.
            tags: what it wants.
            present: what it has.

        Raises:
            RefusedError: it may not.
        """
        for tag in tags:
            if not key.allows(tag):
                self.refuse("name", 403, f"this key may not subscribe to {tag}")
        most = min(key.subscriptions or MOST_NAMES, MOST_NAMES)
        if len(present | set(tags)) > most:
            self.refuse("subscriptions", 429, f"at most {most} names can be subscribed to")

    @contextmanager
    def entered(self, key: Key) -> Iterator[None]:
        """The time of one connection.

        Raises:
            RefusedError: there are too many.
        """
        if self.is_draining:
            self.refuse("draining", 503, "the gateway is about to end; connect again")
        if self._count >= self.connections:
            self.refuse("full", 503, "the gateway has as many clients as it may have")
        if not self.keys.enter(key):
            self.refuse("connections", 429, "this key has as many connections as it may have")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self.keys.leave(key)

    def refuse(self, reason: str, status: int, text: str) -> Key:
        """Refuse a client; always raises.

        Raises:
            RefusedError: as said.
        """
        self.refusals.add(reason)
        raise RefusedError(status, text)
