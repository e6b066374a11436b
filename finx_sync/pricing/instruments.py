"""Read the names of instruments, like ``BTC-26AUG22-20000-C`` (FinX documentation, page *Streams*)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final, Literal

from finx_sync.errors import InvalidInputError

__all__ = ["EXPIRY_HOUR_UTC", "Instrument", "InstrumentKind", "OptionSide", "expiry_code", "parse_instrument"]

OptionSide = Literal["call", "put"]
InstrumentKind = Literal["option", "future", "perpetual"]

EXPIRY_HOUR_UTC: Final = 8
"""Deribit's instruments expire at 08:00 UTC of the day in their name."""

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_NAME: Final = re.compile(
    r"(?P<base>[A-Z0-9]+)(?:_(?P<quote>[A-Z0-9]+))?-"
    r"(?:PERPETUAL|(?P<day>[0-9]{1,2})(?P<month>[A-Z]{3})(?P<year>[0-9]{2})"
    r"(?:-(?P<strike>[0-9]+(?:d[0-9]+)?)-(?P<side>[CP]))?)"
)


@dataclass(frozen=True, slots=True)
class Instrument:
    """What an instrument's name says.

    Attributes:
        base: the currency the contract is on, e.g. ``BTC``.
        expiry: 08:00 UTC of the day in the name; None for a perpetual.
        strike: in `quote`; None unless an option.
        option_side: ``call`` or ``put``; None unless an option.
        kind: ``option``, ``future`` or ``perpetual``.
        quote: ``USDC`` in ``BTC_USDC-PERPETUAL``, else ``USD``.
        name: the name that was parsed.
    """

    base: str
    expiry: datetime | None
    strike: float | None
    option_side: OptionSide | None
    kind: InstrumentKind
    quote: str = "USD"
    name: str = ""

    @property
    def is_linear(self) -> bool:
        """Whether prices are in the currency after the name's underscore: ``BTC_USDC-26AUG22-20000-C``."""
        return self.quote != "USD" or "_" in self.name.partition("-")[0]

    @property
    def price_unit(self) -> str:
        """The currency of its prices: the base for an inverse option (``BTC-26AUG22-20000-C``), otherwise `quote`."""
        return self.base if self.kind == "option" and not self.is_linear else self.quote


def parse_instrument(name: str) -> Instrument:
    """Read a Deribit instrument name (FinX docs, streams page: "format is like BTC-26AUG22-20000-C").

    Args:
        name: e.g. ``BTC-26AUG22-20000-C``, ``BTC-26AUG22``, ``BTC-PERPETUAL``, ``BTC_USDC-PERPETUAL``. A ``d`` in a
            strike is Deribit's decimal point: ``XRP_USDC-30JUN23-0d625-C`` has the strike 0.625 (Deribit API
            documentation, *Naming*).

    Raises:
        InvalidInputError: the name has another form, or holds a date that does not exist.
    """
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise InvalidInputError(
            f"{name!r} is not an instrument name; names look like BTC-26AUG22-20000-C, BTC-26AUG22 or BTC-PERPETUAL"
        )
    base, quote = match["base"], match["quote"] or "USD"
    if match["day"] is None:
        return Instrument(base, None, None, None, "perpetual", quote, name)
    expiry = _expiry(name, match["day"], match["month"], match["year"])
    if match["strike"] is None:
        return Instrument(base, expiry, None, None, "future", quote, name)
    strike = float(match["strike"].replace("d", "."))
    if strike <= 0:
        raise InvalidInputError(f"the strike in {name!r} must be above 0")
    return Instrument(base, expiry, strike, "call" if match["side"] == "C" else "put", "option", quote, name)


def _expiry(name: str, day: str, month: str, year: str) -> datetime:
    try:
        return datetime(2000 + int(year), _MONTHS.index(month) + 1, int(day), EXPIRY_HOUR_UTC, tzinfo=timezone.utc)
    except ValueError:
        raise InvalidInputError(f"{day}{month}{year} in {name!r} is not a date; it looks like 26AUG22") from None


def expiry_code(expiry: datetime) -> str:
    """Return the date as an instrument name spells it: ``26AUG22``, ``5AUG22``."""
    return f"{expiry.day}{_MONTHS[expiry.month - 1]}{expiry.year % 100:02d}"
