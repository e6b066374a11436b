"""What the sandbox and a venue's half of it need of each other.

A venue's half is a function that is given a `SandboxHost` and returns a `SandboxVenue`. It adds the venue's paths to
the server, and makes messages of the market that all venues share, by a codec of its own: a mistake in the client's
codec would cancel itself out here. Everything on a socket happens on the sandbox's event loop; `SandboxHost.run` and
`call` are how another thread gets there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from aiohttp import web

    from finx_sync.sandbox.history import PriceHistory
    from finx_sync.sandbox.hub import Hub
    from finx_sync.sandbox.market import Market

__all__ = ["SandboxHost", "SandboxVenue", "dumps"]

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class SandboxHost:
    """What each venue's half is given.

    Attributes:
        hub: accepts connections and keeps the record of them.
        market: prices and tickers at any moment.
        history: the prices of past days.
        now: milliseconds since 1970.
        accepts: says whether a key is valid now.
        secret_of: the secret of a key that is valid now, else None.
        contract_interval: seconds between two messages of a contract.
        spot_interval: seconds between two messages of a spot rate.
        exchange_interval: seconds between two steps of an exchange's tables or books.
        robots: whether a robot trades on each account.
        numbered: whether messages carry a running number, where the venue's half can do that.
        redis_url: where data that a venue publishes goes; None for inside the process.
        call: runs a coroutine on the event loop, for another thread, and returns its result.
    """

    hub: Hub
    market: Market
    history: PriceHistory
    now: Callable[[], int]
    accepts: Callable[[str], bool]
    secret_of: Callable[[str], str | None]
    contract_interval: float
    spot_interval: float
    exchange_interval: float
    robots: bool
    numbered: bool
    redis_url: str | None
    call: Callable[[Coroutine[Any, Any, Any]], Any]

    def run(self, function: Callable[[], _T]) -> _T:
        """Run a function on the event loop, for another thread, and return its result."""

        async def run() -> _T:
            return function()

        result: _T = self.call(run())
        return result


@dataclass(frozen=True)
class SandboxVenue:
    """A venue's half of the sandbox.

    Attributes:
        add_to: adds its paths to the server, and what begins and ends with it.
        controls: what tests may ask of it, from any thread: `Sandbox.controls`.
    """

    add_to: Callable[[web.Application], None]
    controls: Any = None


def dumps(value: Any) -> str:
    """Return compact JSON, as JavaScript's ``JSON.stringify`` writes it; non-finite numbers are a mistake of ours."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
