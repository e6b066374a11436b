"""FinX's calculation grid: ``/ws/api/`` by websocket and ``/api/`` by POST, with the methods of the finx-io SDK 2.0.

On the websocket the first message is ``{"finx_api_key": K}``, answered by ``{"is_authenticated": true}``; a wrong key
gets no answer, which the SDK treats as a refusal after five seconds. Calls are ``{"api_method": M, ..., "cache_key":
...}``, answered by ``{"data": ..., "cache_key": ...}`` or ``{"error": ..., "cache_key": ...}``.

The methods and their parameters are the SDK's. The SDK shows only one result, that of `calculate_greeks`. The sandbox
computes it, and a few others whose result is obvious; for the rest it answers with an error that says it has no data.
Assumptions where the SDK is silent:

- `coverage_check` returns ``{"result": {"security_id": ..., "is_covered": ...}}``. `get_security_reference_data`
  returns the parts of the contract's name. `interpolate_curve` returns ``{"result": [...]}``, linear between the
  observations and constant beyond them.
- By POST, a result is ``{"data": ...}``, a bad request ``{"error": ...}`` with status 400, and a wrong key the same
  with status 401.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

from aiohttp import web

from finx_sync.errors import InvalidInputError
from finx_sync.pricing import calculate_greeks
from finx_sync.sandbox.connection import ClientConnection
from finx_sync.sandbox.host import dumps
from finx_sync.sandbox.hub import Hub
from finx_sync.venues.finx.sandbox.functions import ServedFunctions

__all__ = ["FinxGrid"]

_BOND: Final = ("security_id",)
_BOND_OPTIONS: Final = {"as_of_date": "None", "price": "100.0"}
_RATE_OPTIONS: Final = {
    **_BOND_OPTIONS,
    "lognormal": "False",
    "volatility": "1.0",
    "drift_a": "1.0",
    "yield_shift": "100.0",
    "price_as_yield": "False",
    "cpr": "-9999.0",
    "psa": "-9999.0",
}
METHODS: Final[dict[str, tuple[tuple[str, ...], dict[str, str]]]] = {
    "list_api_functions": ((), {}),
    "coverage_check": (_BOND, {}),
    "list_fixings": ((), {"as_of_date": "None", "currency": "None"}),
    "get_fixings": (("fixings",), {"as_of_date": "None", "tenors": "None"}),
    "get_curve": (
        ("curve_name", "currency", "start_date"),
        {"end_date": "None", "country_code": "None", "fixing": "None", "tenor": "None"},
    ),
    "interpolate_curve": (("t_obs", "r_obs", "t_new"), {"interpolator": "None"}),
    "get_exchange_rate_history": (("currency_list",), {}),
    "forecast_exchange_rates": (("currency_list", "as_of_date"), {"post_convert_currency": "None"}),
    "upload_private_data": (("filename", "test_data"), {}),
    "calculate_greeks": (
        ("s0", "k", "r", "sigma", "q", "T", "price"),
        {"option_side": "None", "option_type": "None"},
    ),
    "get_security_reference_data": (
        _BOND,
        {**_BOND_OPTIONS, "price_as_yield": "False", "include_schedule": "False", "use_test_data": "False"},
    ),
    "get_security_cpr": (_BOND, _BOND_OPTIONS),
    "get_security_cash_flows": (_BOND, {**_RATE_OPTIONS, "shock_in_bp": "0.0"}),
    "calculate_security_analytics": (_BOND, {**_RATE_OPTIONS, "shock_in_bp": "0.0"}),
    "calculate_security_key_rates": (_BOND, {**_RATE_OPTIONS, "key_rate_times": "None"}),
    "forecast_cf_and_prices": (_BOND, {**_RATE_OPTIONS, "shock_in_bp": "0.0", "skip_projections": "True"}),
    "register_temporary_bond": (("reference_data", "schedule_data"), {}),
    "calibrate_vol_surface": (("filename",), {}),
}
"""The required parameters of each method, and the optional ones with their defaults as Python source."""

INVALID_KEY: Final = {"error": "Invalid API key"}


class FinxGrid:
    """The calculation grid; on the event loop only.

    Args:
        hub: manages the websockets.
        functions: answers questions about contracts.
        accepts: returns whether a key is currently valid.
    """

    def __init__(self, hub: Hub, functions: ServedFunctions, accepts: Callable[[str], bool]) -> None:
        self.hub: Final = hub
        self.accepts: Final = accepts
        self._functions = functions
        self._by_name: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "list_api_functions": lambda params: [_described(name) for name in METHODS],
            "coverage_check": self._coverage,
            "get_security_reference_data": self._reference_data,
            "interpolate_curve": _interpolate,
            "calculate_greeks": _greeks,
        }

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Register the paths."""
        router.add_get("/ws/api/", self._websocket)
        router.add_post("/api/", self._post)

    def call(self, request: Mapping[str, Any]) -> Any:
        """Answer one call.

        Raises:
            InvalidInputError: there is no such method, a parameter is missing or wrong, or the sandbox has no data.
        """
        method = request.get("api_method")
        if not isinstance(method, str) or method not in METHODS:
            raise InvalidInputError(f"unknown api_method {method!r}; list_api_functions lists them")
        missing = [name for name in METHODS[method][0] if name not in request]
        if missing:
            raise InvalidInputError(f"{method}: {', '.join(missing)} missing")
        handler = self._by_name.get(method)
        if handler is None:
            raise InvalidInputError(f"{method}: no source shows its result, so the sandbox cannot answer it")
        return handler(request)

    def _coverage(self, params: Mapping[str, Any]) -> Any:
        try:
            self._functions.reference_data({"securityId": params["security_id"]})
        except InvalidInputError:
            return {"result": {"security_id": params["security_id"], "is_covered": False}}
        return {"result": {"security_id": params["security_id"], "is_covered": True}}

    def _reference_data(self, params: Mapping[str, Any]) -> Any:
        return self._functions.reference_data({"securityId": params["security_id"]})

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        connection, response = await self.hub.accept(request, "/ws/api/")
        await self.hub.serve(connection, _GridSession(self, connection))
        return response

    async def _post(self, request: web.Request) -> web.Response:
        try:
            if request.content_type == "application/json":
                call = await request.json()
            else:  # SDKs before 2.0 send a form, with numbers as text
                call = {name: _number(str(value)) for name, value in (await request.post()).items()}
            if not isinstance(call, dict):
                raise InvalidInputError("a call must be a JSON object")
            if not self.accepts(str(call.get("finx_api_key", ""))):
                return _json(INVALID_KEY, 401)
            return _json({"data": self.call(call)})
        except (InvalidInputError, ValueError) as error:
            return _json({"error": str(error)}, 400)


class _GridSession:
    """One websocket; it answers no calls before it has received a valid key."""

    def __init__(self, grid: FinxGrid, connection: ClientConnection) -> None:
        self._grid = grid
        self._connection = connection
        self._is_authorized = False

    def opened(self) -> None:
        """Do nothing; the client sends the first message."""

    def received(self, text: str) -> None:
        """Check the key, or answer a call."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self._reply({"error": "a message must be a JSON object"})
            return
        shown = {**message, "finx_api_key": "***"} if "finx_api_key" in message else message
        self._grid.hub.note_request(self._connection, shown)
        if "api_method" in message:
            self._answer(message)
        elif isinstance(message.get("finx_api_key"), str) and self._grid.accepts(message["finx_api_key"]):
            self._is_authorized = True
            self._reply({"is_authenticated": True})

    def _answer(self, message: dict[str, Any]) -> None:
        echoed = {"cache_key": message.get("cache_key")}
        if not self._is_authorized:
            self._reply({**INVALID_KEY, **echoed})
            return
        try:
            self._reply({"data": self._grid.call(message), **echoed})
        except InvalidInputError as error:
            self._reply({"error": str(error), **echoed})

    def _reply(self, value: Any) -> None:
        self._connection.send(dumps(value))


def _described(name: str) -> dict[str, Any]:
    required, optional = METHODS[name]
    # The SDK generates a function from this, which fails for an empty object.
    return {"name": name, "required": list(required), "optional": dict(optional) or None}


def _greeks(params: Mapping[str, Any]) -> Any:
    names = ("s0", "k", "r", "sigma", "q", "T")
    values: list[Any] = [params[name] for name in names]
    if not all(
        _is_number(value) or (value is None and name == "sigma") for name, value in zip(names, values, strict=True)
    ):
        raise InvalidInputError("calculate_greeks: s0, k, r, sigma, q and T must be numbers; sigma may be null")
    side: Any = params.get("option_side") or "call"
    kind: Any = params.get("option_type") or "european"
    s0, k, r, sigma, q, days = values
    found = calculate_greeks(s0, k, r, sigma, q, days, params["price"], side, kind).to_dict()
    return {"result": {"greeks": {name: found[name] for name in ("delta", "gamma", "vega", "theta", "rho", "vol")}}}


def _interpolate(params: Mapping[str, Any]) -> Any:
    times, rates, wanted = params["t_obs"], params["r_obs"], params["t_new"]
    for values in (times, rates, wanted):
        if not isinstance(values, list) or not all(_is_number(value) for value in values):
            raise InvalidInputError("interpolate_curve: t_obs, r_obs and t_new must be lists of numbers")
    if not times or len(times) != len(rates) or any(b <= a for a, b in pairwise(times)):
        raise InvalidInputError("interpolate_curve: t_obs must increase, and r_obs must have a rate for each time")
    return {"result": [_between(at, times, rates) for at in wanted]}


def _between(at: float, times: list[float], rates: list[float]) -> float:
    right = bisect_right(times, at)
    if right in (0, len(times)):
        return rates[min(right, len(times) - 1)]
    share = (at - times[right - 1]) / (times[right] - times[right - 1])
    return rates[right - 1] + share * (rates[right] - rates[right - 1])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(text=dumps(value), status=status, content_type="application/json")
