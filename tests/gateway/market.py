"""The sandbox's market as payloads by tag."""

from __future__ import annotations

import time
from typing import Any

from finx_sync.sandbox.market import PAIRS, Market
from finx_sync.venues.finx.sandbox.codec import contract_object, spot_object


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Payloads:
    """What a relay of the sandbox's market would write."""

    def __init__(self) -> None:
        self._market = Market(7)
        self.tags = [f"contract:{name}" for name in self._market.names(now())] + [f"spot:{pair}" for pair in PAIRS]

    def __call__(self, tag: str) -> dict[str, Any]:
        """The payload of a tag at this moment."""
        kind, _, name = tag.partition(":")
        if kind == "spot":
            return dict(spot_object(self._market.trade(name, now())))
        return dict(contract_object(self._market.ticker(name, now())))
