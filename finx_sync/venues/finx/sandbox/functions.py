"""FinX's functions in the sandbox: from parsed parameters to a JSON value; no I/O.

Sources: FinX docs, functions page (authenticate, tickSnap, tickHistory) and its later revisions (keepAlive,
listDeribitContracts, getFiveMinMatrix, getTickHistory), the finx-io SDK (referenceData, the REST paths). Assumptions
where they are silent:

- `tickSnap` without a date returns the current trade. With a date, it returns the last tick at or before `time` (the
  end of the day if there is no time); if there is none, the first tick of the day; and for a day without ticks, the
  last tick before it.
- `tickHistory` and `getTickHistory` return an empty object for a day in the future, and if no ticks follow the time.
- `referenceData` (shape not documented) returns an object made from the instrument's name.
- `getFiveMinMatrix` returns a list of contract objects (shape not shown); its base ``USDC`` means the contracts quoted
  in USDC.
- `getTickHistory` of a base currency returns the ticks of its USD pair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Final

from finx_sync.errors import InvalidInputError
from finx_sync.sandbox.chain import instruments
from finx_sync.sandbox.history import PriceHistory, day_start, time_of_day
from finx_sync.sandbox.market import Market, check_pair
from finx_sync.sandbox.prices import DAY_MS
from finx_sync.venues.finx.sandbox.codec import contract_object, numbered_rows, tick_row

__all__ = ["Params", "ServedFunctions", "moment", "require"]

Params = Mapping[str, Any]

FIVE_MINUTES_MS: Final = 300_000
MATRIX_BASES: Final = ("BTC", "ETH", "SOL", "USDC")
_FIRST_CONTRACT_DAY: Final = day_start("2016-06-01")
"""Milliseconds since 1970; Deribit listed no contracts before."""
_MINUTE_STAMP: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2})")


def require(params: Params, name: str) -> str:
    """Return a parameter that must be text.

    Raises:
        InvalidInputError: the parameter is missing, empty or not text.
    """
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{name} is missing, or is not text")
    return value


class ServedFunctions:
    """FinX's functions over the simulated market.

    Args:
        market: the current prices.
        history: the past prices.
        now: returns the time in milliseconds since 1970.
    """

    def __init__(self, market: Market, history: PriceHistory, now: Callable[[], int]) -> None:
        self._market = market
        self._history = history
        self._now = now
        self._by_name: dict[str, Callable[[Params], Any]] = {
            "keepAlive": lambda params: {"keepAlive": True},
            "listDeribitContracts": self.list_contracts,
            "tickSnap": self.tick_snap,
            "tickHistory": self.tick_history,
            "referenceData": self.reference_data,
            "getFiveMinMatrix": self.five_minute_matrix,
            "getTickHistory": self.tick_history_from,
        }

    def reply(self, function: str, params: Params) -> Any:
        """Answer one call.

        Raises:
            InvalidInputError: there is no such function, or a parameter is wrong.
        """
        handler = self._by_name.get(function)
        if handler is None:
            raise InvalidInputError(f"unknown functionName {function!r}")
        return handler(params)

    def list_contracts(self, params: Params) -> list[str]:
        """Return all names, or those of the day `as_of_date` (REST only). The SDK sends ``None`` for no day."""
        if params.get("as_of_date") in (None, "", "None"):
            return self._market.names(self._now())
        return self._market.names(_listed_at(day_start(require(params, "as_of_date")) + DAY_MS // 2))

    def tick_snap(self, params: Params) -> dict[str, str]:
        """Return one tick row."""
        pair = check_pair(require(params, "pair"))
        now = self._now()
        within = _optional_time(params)
        if not params.get("date"):
            if within is not None:
                raise InvalidInputError("time needs a date")
            return tick_row(self._market.trade(pair, now))
        start = day_start(require(params, "date"))
        if start + (within or 0) > now:
            raise InvalidInputError("the requested date and time are in the future")
        at = start + (DAY_MS - 1 if within is None else within)
        row = self._history.last(pair, start, min(at, now))
        if row is None or row.timestamp > now:  # just after midnight, the day's first tick may be in the future
            row = self._history.before(pair, start)
        return tick_row(self._market.trade(pair, now) if row is None else row)

    def tick_history(self, params: Params) -> dict[str, dict[str, str]]:
        """Return up to 1000 rows of a day, unsorted."""
        pair = check_pair(require(params, "pair"))
        start = day_start(require(params, "date"))
        return numbered_rows(self._history.page(pair, start, _optional_time(params), self._now()))

    def tick_history_from(self, params: Params) -> dict[str, dict[str, str]]:
        """Return up to 1000 rows after a minute, unsorted."""
        pair = check_pair(f"{require(params, 'baseInstrument')}:USD")
        start, after = _minute_stamp("startDate", require(params, "startDate"))
        return numbered_rows(self._history.page(pair, start, after, self._now()))

    def reference_data(self, params: Params) -> dict[str, str]:
        """Return the parts of an instrument's name, as text."""
        instrument = self._market.instrument(require(params, "securityId"), self._now())
        described = {
            "securityId": instrument.name,
            "kind": instrument.kind,
            "base": instrument.base,
            "quote": instrument.quote,
        }
        if instrument.expiry is not None:
            described["expiry"] = f"{instrument.expiry:%Y-%m-%dT%H:%M:%S}.000Z"
        if instrument.strike is not None and instrument.option_side is not None:
            described |= {"strike": f"{instrument.strike:g}", "optionSide": instrument.option_side}
        return described

    def five_minute_matrix(self, params: Params) -> list[dict[str, str]]:
        """Return the contract objects of a base at a time on the five-minute grid."""
        base = require(params, "baseInstrument")
        stamp = require(params, "fiveMinuteDateTime")
        now = self._now()
        if stamp == "latest":
            at = now // FIVE_MINUTES_MS * FIVE_MINUTES_MS
        else:
            start, within = _minute_stamp("fiveMinuteDateTime", stamp)
            at = start + within
        if at % FIVE_MINUTES_MS:
            raise InvalidInputError(f"fiveMinuteDateTime {stamp!r} is not on the five-minute grid")
        if at > now:
            raise InvalidInputError(f"fiveMinuteDateTime {stamp!r} is in the future")
        return self.contracts_of(base, at)

    def contracts_of(self, base: str, at: int) -> list[dict[str, str]]:
        """Return the contract objects of a base currency at a time in milliseconds since 1970."""
        if base not in MATRIX_BASES:
            raise InvalidInputError(f"unknown base {base!r}; choose one of {', '.join(MATRIX_BASES)}")
        return [
            contract_object(self._market.ticker(name, at))
            for name, instrument in instruments(_listed_at(at)).items()
            if base in (instrument.base, instrument.quote)
        ]


def _listed_at(at: int) -> int:
    if at < _FIRST_CONTRACT_DAY:
        raise InvalidInputError("no contracts were listed before 2016-06-01")
    return at


def _optional_time(params: Params) -> int | None:
    return time_of_day(require(params, "time")) if params.get("time") else None


def _minute_stamp(name: str, text: str) -> tuple[int, int]:
    """Convert ``2022-08-04T04:05`` to (start of the day in ms since 1970, milliseconds since the start of the day)."""
    match = _MINUTE_STAMP.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"bad {name} {text!r}; it looks like 2022-08-04T04:05")
    return day_start(match[1]), time_of_day(match[2])


def moment(text: str) -> int:
    """Convert a UNIX time in seconds, or an ISO 8601 date and time in UTC, to milliseconds since 1970."""
    try:
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            return round(float(text) * 1000)
        parsed = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        raise InvalidInputError(f"bad time {text!r}; it is a UNIX time in seconds") from None
    return round(parsed.replace(tzinfo=parsed.tzinfo or timezone.utc).timestamp() * 1000)
