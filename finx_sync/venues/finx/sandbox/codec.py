"""FinX's wire format for the simulated market.

It shares no code with the client's codec, so that a mistake in one is not hidden by the same mistake in the other.

Sources: FinX docs, streams page (contract object) and functions page (tick rows); the docs' later example of a spot
message; Deribit's ticker, from which FinX's 31 keys follow in FinX's order. Numbers are strings in JavaScript's format.
A missing value is ``""``: no source shows how FinX renders Deribit's null, so this is an assumption.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from finx_sync.sandbox.market import SpotTrade, Values

__all__ = ["contract_object", "js_number", "numbered_rows", "spot_object", "stream_frame", "tick_row", "utc"]


def js_number(value: float) -> str:
    """Format a number like JavaScript's ``String(value)``: ``0``, ``846.5``, ``0.00006``, ``1e-7``, ``1e+21``."""
    if value == 0:
        return "0"
    # Like JavaScript, repr gives the shortest digits that parse to the same value; only the layout differs.
    mantissa, _, exponent = repr(float(value)).partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    # the decimal point follows the first `point` significant digits
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    return sign + _layout(digits, point)


def _layout(digits: str, point: int) -> str:
    """Place the decimal point according to ECMAScript's Number::toString."""
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def contract_object(values: Values) -> dict[str, str]:
    """Return the fields of a contract message, all as text (FinX docs, streams page)."""
    return {
        key: value if isinstance(value, str) else "" if value is None else js_number(value)
        for key, value in values.items()
    }


def spot_object(trade: SpotTrade) -> dict[str, str | int]:
    """Return the fields of a spot message; both times are in whole seconds (FinX docs, revision of 2022-08-07)."""
    seconds = trade.timestamp // 1000
    return {
        "pair": trade.pair,
        "unixDate": seconds,
        "UTCDate": f"{utc(seconds * 1000):%Y-%m-%dT%H:%M:%S}.000Z",
        "exchange": trade.exchange,
        "price": price_text(trade),
    }


def tick_row(trade: SpotTrade) -> dict[str, str]:
    """Return one tick in the format of `tickSnap` and `tickHistory` (FinX docs, functions page)."""
    moment = utc(trade.timestamp)
    return {
        "pair": trade.pair,
        "date": f"{moment:%Y-%m-%d}",
        "time": f"{moment:%H:%M:%S}.{trade.timestamp % 1000:03d}Z",
        "exchange": trade.exchange,
        "price": price_text(trade),
    }


def stream_frame(trade: SpotTrade) -> dict[str, Any]:
    """Return the message of a stream whose URL contains the pair (FinX docs of 2022-07-03)."""
    return {"results": "streaming", "resultData": tick_row(trade)}


def numbered_rows(trades: Iterable[SpotTrade]) -> dict[str, dict[str, str]]:
    """Return rows with the keys "0", "1", ... (FinX docs, functions page, tick history)."""
    return {str(number): tick_row(trade) for number, trade in enumerate(trades)}


def price_text(trade: SpotTrade) -> str:
    """Format the price as its exchange does: GEMINI like ``21100.50``, the others like JavaScript."""
    if trade.exchange == "GEMINI" and trade.price >= 100:
        return f"{trade.price:.2f}"
    return js_number(trade.price)


def utc(timestamp: int) -> datetime:
    """Convert milliseconds since 1970 to a UTC datetime in whole seconds."""
    return datetime.fromtimestamp(timestamp // 1000, timezone.utc)
