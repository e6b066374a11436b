"""The interface between the sandbox and a venue's part of it.

A venue's part is a function that takes a `SandboxHost` and returns a `SandboxVenue`. It adds the venue's paths to the
server, and encodes the market, which all venues share, with a codec of its own: a mistake in the client's codec would
cancel itself out here. All socket I/O happens on the sandbox's event loop; other threads get there by
`SandboxHost.run` and `call`.
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
    """The services that each venue's part receives.

    Attributes:
        hub: accepts connections and records their requests and messages.
        market: prices and tickers at any time.
        history: the prices of past days.
        now: returns the current time, milliseconds since 1970.
        accepts: returns whether a key is valid now.
        secret_of: returns the secret of a key, or None if the key is not valid now.
        contract_interval: seconds between two messages of a contract.
        spot_interval: seconds between two messages of a spot rate.
        exchange_interval: seconds between two updates of an exchange's tables or books.
        robots: whether a robot trades on each account.
        numbered: whether messages carry a sequence number, if the venue's part supports that.
        redis_url: the Redis server that a venue publishes its data on; None for inside the process.
        call: runs a coroutine on the event loop and returns its result; called on any other thread.
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
        """Run a function on the event loop and return its result; called on any other thread."""

        async def run() -> _T:
            return function()

        result: _T = self.call(run())
        return result


@dataclass(frozen=True)
class SandboxVenue:
    """A venue's part of the sandbox.

    Attributes:
        add_to: adds its paths, and its startup and cleanup functions, to the server.
        controls: its controls for tests, usable from any thread; see `Sandbox.controls`.
    """

    add_to: Callable[[web.Application], None]
    controls: Any = None


def dumps(value: Any) -> str:
    """Return compact JSON, like JavaScript's ``JSON.stringify``; raises ValueError for non-finite numbers."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
