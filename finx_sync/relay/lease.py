"""The lease: of several relays of one feed, the one that has it writes.

It only decides who tries. That no relay writes what another one has written already is the IDs' doing: see `wire`.
"""

from __future__ import annotations

from typing import Any, Final, Literal, cast

from finx_sync.relay.script import ACQUIRE, RELEASE, RENEW

__all__ = ["LEASE_SECONDS", "RENEW_SECONDS", "TRY_SECONDS", "Lease"]

LEASE_SECONDS: Final = 3.0
"""How long a lease lasts that is not renewed."""
RENEW_SECONDS: Final = 1.0
"""Between two renewals."""
TRY_SECONDS: Final = 0.5
"""Between two attempts of a relay on standby."""


class Lease:
    """The lease of one feed, as one relay sees it.

    Args:
        key: its Redis key.
        relay: the relay's own name, unlike any other's.
    """

    def __init__(self, key: str, relay: str) -> None:
        self._key = key
        self._relay = relay

    def acquire(self, client: Any) -> bool:
        """Take it if no other relay has it."""
        return bool(ACQUIRE.call(client, [self._key], [self._relay, int(LEASE_SECONDS * 1000)]))

    def renew(self, client: Any) -> Literal["ours", "free", "other"]:
        """Keep it. "free" if nobody has it any more, "other" if another relay does."""
        answer = RENEW.call(client, [self._key], [self._relay, int(LEASE_SECONDS * 1000)])
        return cast(Literal["ours", "free", "other"], answer.decode())

    def release(self, client: Any) -> None:
        """Give it up, so that another relay need not wait until it ends."""
        RELEASE.call(client, [self._key], [self._relay])
