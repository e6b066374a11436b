"""FinX's REST paths below ``/backend/``: the paths and parameters that the finx-io SDK uses (`FinXRest`, `TickPlant`).

The SDK only shows the replies of `tick/snap` (a tick row, which may be empty), `time_slice` (a list of contract
objects) and the list of contracts. Assumptions where it is silent: the pairs are a list of names; a bad request is
answered with ``{"error": "..."}`` and status 400, a wrong key with the same and status 401. The width of a time slice
has no effect, because the simulated market has a value for every point in time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from finx_sync.errors import InvalidInputError
from finx_sync.sandbox.history import PriceHistory
from finx_sync.sandbox.host import dumps
from finx_sync.sandbox.market import PAIRS, check_pair
from finx_sync.sandbox.prices import DAY_MS
from finx_sync.venues.finx.sandbox.codec import tick_row
from finx_sync.venues.finx.sandbox.functions import Params, ServedFunctions, moment, require

__all__ = ["FinxRest"]

DEFAULT_WIDTH: Final = 10.0
"""Seconds on each side of `unixTimeTarget`: the SDK's default."""


class FinxRest:
    """The REST part of the FinX service.

    Args:
        functions: shared with the websocket part.
        history: the past prices.
        accepts: returns whether a key is currently valid.
        now: returns the time in milliseconds since 1970.
    """

    def __init__(
        self, functions: ServedFunctions, history: PriceHistory, accepts: Callable[[str], bool], now: Callable[[], int]
    ) -> None:
        self._functions = functions
        self._history = history
        self._accepts = accepts
        self._now = now

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Register the paths."""
        calls: dict[str, Callable[[Params], Any]] = {
            "observations/pairs": lambda params: list(PAIRS),
            "observations/tick/snap": self._tick_snap,
            "observations/options/time_slice": self._time_slice,
            "reference/secdb": self._functions.reference_data,
            "deribit/list-deribit-contracts": self._functions.list_contracts,
        }
        for path, call in calls.items():
            router.add_get(f"/backend/{path}", self._handler(call))
            router.add_get(f"/backend/{path}/", self._handler(call))  # the SDK requests `reference/secdb/`

    def _handler(self, call: Callable[[Params], Any]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            if not self._accepts(request.query.get("APIKey", "")):
                return _json({"error": "Invalid APIKey"}, status=401)
            try:
                return _json(call(request.query))
            except InvalidInputError as error:
                return _json({"error": str(error)}, status=400)

        return handle

    def _tick_snap(self, params: Params) -> dict[str, str]:
        """Return the last tick within the width around a target time; an empty object if there is none."""
        if not params.get("unixTimeTarget"):
            return self._functions.tick_snap({"pair": require(params, "pair")})
        pair = check_pair(require(params, "pair"))
        target = moment(require(params, "unixTimeTarget"))
        width = _milliseconds(params.get("timeTargetWidthSeconds") or str(DEFAULT_WIDTH))
        latest = min(target + width, self._now())
        row = self._history.last(pair, latest // DAY_MS * DAY_MS, latest)
        return tick_row(row) if row is not None and target - width <= row.timestamp <= latest else {}

    def _time_slice(self, params: Params) -> list[dict[str, str]]:
        target = moment(require(params, "timeslice_target_datestamp"))
        if target > self._now():
            return []
        objects = self._functions.contracts_of(require(params, "underlying_symbol"), target)
        # Only options, as the path says; futures have no volatility.
        return [contract for contract in objects if "mark_iv" in contract]


def _milliseconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text):
        raise InvalidInputError(f"bad timeTargetWidthSeconds {text!r}; it must be a number of seconds")
    return round(float(text) * 1000)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(text=dumps(value), status=status, content_type="application/json")
