"""The live data of a contract, with types.

Values that mean "no data" on the wire become None: an empty string, a price of 0, the placeholders 1 and 9999999999 of
the allowed range, and all values of a section in which every value is zero or empty. In other sections, a count of 0 is
a count. `message["data"]` has the original values.

Source: IME Live Data WebSocket documentation, *Data Payload Structure*, in whose example all values are zero.
"""

from __future__ import annotations

import datetime as dt
import operator
from typing import Any, Final

import msgspec

from finx_sync.messages import Message, Number, unix_seconds, wire_fields

__all__ = ["Aggregate", "AllowedRange", "ContractInfo", "ImeContract", "Limit", "read_contract"]

LEVELS: Final = ("1", "2", "3")
LOWEST: Final = 1
HIGHEST: Final = 9_999_999_999
"""`LOWEST` and `HIGHEST` are the allowed range of a contract without limits."""


class Limit(msgspec.Struct, frozen=True):
    """One level of the order book, with its bid and its ask.

    Attributes:
        buy_quantity, sell_quantity: lots; None if there is no such order.
        buy_price, sell_price: rials; None if there is no such order.
    """

    buy_quantity: Number = None
    buy_price: Number = None
    sell_quantity: Number = None
    sell_price: Number = None


class Aggregate(msgspec.Struct, frozen=True):
    """The statistics of the day.

    Attributes:
        date, time: the time of the last update as the server sends it; its calendar and time zone are not documented.
        trade_count, total_volume, total_value: totals of the day.
        closing_price, last_price, low_price, high_price, open_price, previous_close: rials.
    """

    date: str | None = None
    time: str | None = None
    trade_count: Number = None
    total_volume: Number = None
    total_value: Number = None
    closing_price: Number = None
    last_price: Number = None
    low_price: Number = None
    high_price: Number = None
    open_price: Number = None
    previous_close: Number = None


class AllowedRange(msgspec.Struct, frozen=True):
    """The range of prices allowed for orders today.

    Attributes:
        lowest, highest: rials; None if there is no limit.
    """

    lowest: Number = msgspec.field(default=None, name="minAllowedPrice")
    highest: Number = msgspec.field(default=None, name="maxAllowedPrice")


class ContractInfo(msgspec.Struct, frozen=True):
    """The open positions of a contract.

    Attributes:
        open_interest: the number of open positions.
        open_interest_changes: the change since the previous day.
    """

    open_interest: Number = None
    open_interest_changes: Number = None


@wire_fields
class ImeContract(Message, frozen=True, kw_only=True, gc=False):
    """The complete state of one contract. The server sends it whenever something has changed.

    Attributes:
        channel: "IME Stream".
        contract_name: the name, if the contract is subscribed to by name.
        contract_id: the id, if the contract is subscribed to by id.
        timestamp: the time that the server sent, in ISO 8601 without a time zone.
        data: the original sections and values.
        limits: the three best levels of the order book, best first.
        aggregate, allowed, info: the other sections.
    """

    channel: str | None = None
    contract_name: str | None = msgspec.field(default=None, name="contractName")
    contract_id: str | None = msgspec.field(default=None, name="ContractId")
    timestamp: str | None = None
    data: dict[str, Any]
    limits: tuple[Limit, Limit, Limit] = msgspec.field(name="@limits")
    aggregate: Aggregate = msgspec.field(name="@aggregate")
    allowed: AllowedRange = msgspec.field(name="@allowed")
    info: ContractInfo = msgspec.field(name="@info")

    name_of = operator.attrgetter("name")
    is_state = True
    state_of = name_of
    venue_time_has_zone = False

    @property
    def name(self) -> str:
        """The name or the id that the contract is subscribed to by."""
        return self.contract_name or self.contract_id or ""

    @property
    def best(self) -> Limit:
        """The best level of the order book."""
        return self.limits[0]

    @property
    def datetime(self) -> dt.datetime | None:
        """`timestamp` without a time zone, because the documentation does not specify one.

        Raises:
            ValueError: it is not an ISO 8601 time.
        """
        return None if self.timestamp is None else dt.datetime.fromisoformat(self.timestamp)

    @property
    def venue_time(self) -> float | None:
        """`timestamp` as UNIX seconds, assuming UTC, because the documentation does not specify a time zone."""
        return unix_seconds(lambda: self.datetime)


class _Envelope(msgspec.Struct):
    data: dict[str, Any]
    channel: str | None = None
    contract_name: str | None = msgspec.field(default=None, name="contractName")
    contract_id: str | int | None = msgspec.field(default=None, name="ContractId")
    timestamp: str | None = None


_WIRE_NAMES: Final = {field.encode_name: field.name for field in msgspec.structs.fields(_Envelope)}


def read_contract(frame: dict[str, Any]) -> ImeContract:
    """Convert a decoded frame to a message.

    Raises:
        msgspec.ValidationError: it names no contract, or a value has the wrong type.
    """
    envelope = msgspec.convert(frame, _Envelope)
    name, number = envelope.contract_name, envelope.contract_id
    if not name and number in (None, ""):
        raise msgspec.ValidationError("it has neither a contractName nor a ContractId")
    data = envelope.data
    levels = _section(data, "BestLimit")
    first, second, third = (_limit(_section(levels, level)) for level in LEVELS)
    return ImeContract(
        channel=envelope.channel,
        contract_name=name,
        contract_id=None if number is None else str(number),
        timestamp=envelope.timestamp,
        data=data,
        limits=(first, second, third),
        aggregate=msgspec.convert(_said(_section(data, "Aggregate")), Aggregate, strict=False),
        allowed=msgspec.convert(_bounds(_section(data, "AllowedPriceRange")), AllowedRange, strict=False),
        info=msgspec.convert(_said(_section(data, "ContractInfo")), ContractInfo, strict=False),
        absent=tuple(name for name in _WIRE_NAMES if name not in frame),
    )


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name) or {}
    if not isinstance(section, dict):
        raise msgspec.ValidationError(f"{name} is not an object")
    return section


def _said(section: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a section, with None for missing data; nothing if all values are zero or empty."""
    if not any(section.values()):
        return {}
    return {name: None if value == "" or (_is_price(name) and value == 0) else value for name, value in section.items()}


def _is_price(name: str) -> bool:
    return name.endswith(("_price", "_close"))


def _limit(section: dict[str, Any]) -> Limit:
    """Convert a level; each side may be missing independently of the other."""
    sides = ({name: value for name, value in section.items() if name.startswith(side)} for side in ("buy_", "sell_"))
    said = [_said(side) for side in sides]
    return msgspec.convert(said[0] | said[1], Limit, strict=False)


def _bounds(section: dict[str, Any]) -> dict[str, Any]:
    lowest, highest = section.get("minAllowedPrice") or None, section.get("maxAllowedPrice") or None
    if highest == HIGHEST:
        lowest, highest = None if lowest == LOWEST else lowest, None
    return {"minAllowedPrice": lowest, "maxAllowedPrice": highest}
