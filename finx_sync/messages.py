"""The typed messages that handlers receive, and the conversion of the wire's strings to numbers.

Every message is frozen and records which fields the wire carried: attributes are typed, and None if the field was
absent or an empty string; `[]`, `get`, `in`, `keys`, `items` and `to_dict` behave like a dictionary of the JSON object
with typed values, and `[]` raises KeyError for an absent field. So a bot written for dictionaries keeps working.

Field names and order of FinX messages: FinX documentation, pages *Streams* and *Functions* (August 2022).
"""

from __future__ import annotations

import datetime as dt
import enum
import operator
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import msgspec

from finx_sync.pricing import ContractGreeks, recompute

__all__ = [
    "ContractTick",
    "InternalText",
    "Message",
    "SpotTick",
    "Tick",
    "unix_seconds",
    "wire_fields",
    "without_internal",
]

UTC = dt.timezone.utc


class _Empty(enum.Enum):
    """The empty string on the wire, which means "no value"."""

    EMPTY = ""


# msgspec looks up enum values in this map while decoding, so an empty string becomes None in the same pass. A hook or a
# second pass would cost more than the whole decoding. About 30 % of real option tickers have such fields.
_Empty._value2member_map_[""] = None  # type: ignore[assignment]


class Internal:
    """The type, for msgspec, of a field that only this library sets: no value on the wire has it.

    A message that carries such a field is read field by field, like a message that lacks fields, and the field is
    ignored.
    """


if TYPE_CHECKING:
    InternalFloat = float
    InternalBool = bool
    InternalText = str
    InternalNames = tuple[str, ...]
    Number = float | None
    Integer = int | None
    Text = str | None
    Name = str
    NameReader = operator.attrgetter[str]
    StateReader = operator.attrgetter[Any]
else:
    InternalFloat = InternalBool = InternalText = InternalNames = Internal
    # msgspec reads "nan" and "inf" as numbers, but a price is neither.
    Number = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)] | _Empty | None
    Integer = int | _Empty | None
    # An empty text fails here, and the codec then decodes field by field and turns it into None; it is rare.
    Text = Annotated[str, msgspec.Meta(min_length=1)] | None
    Name = Annotated[str, msgspec.Meta(min_length=1)]
    NameReader = StateReader = operator.attrgetter

_Message = TypeVar("_Message", bound="Message")


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The base class of all messages.

    Attributes:
        received_at: when the bytes were read from the socket, UNIX seconds (wall clock); 0.0 for a message returned
            by a blocking function.
        backfilled: True for a message that was fetched later to fill a gap.
        absent: wire names of the fields that this message did not carry.
    """

    received_at: InternalFloat = msgspec.field(default=0.0, name="@received_at")
    backfilled: InternalBool = msgspec.field(default=False, name="@backfilled")
    absent: InternalNames = msgspec.field(default=(), name="@absent")

    name_of: ClassVar[NameReader]
    """Reads `name`, implemented in C; for the dispatch thread."""
    is_state: ClassVar[bool] = False
    """Whether a newer message supersedes an older one with the same `state_of`; otherwise each message is an event."""
    state_of: ClassVar[StateReader]
    """Reads what distinguishes two states, such as name and exchange; for types with `is_state`."""
    venue_time_has_zone: ClassVar[bool] = True
    """Whether `venue_time` can be compared with a clock; otherwise only with other venue times."""
    _attributes: ClassVar[dict[str, str]] = {}
    """Maps wire names to attribute names, in the order of the wire."""

    @property
    def venue_time(self) -> float | None:
        """The venue's own time of the message, UNIX seconds; None if it is absent or invalid."""
        return None

    def __getitem__(self, name: str) -> Any:
        if name in self.absent:
            raise KeyError(name)
        return getattr(self, self._attributes[name])

    def __contains__(self, name: object) -> bool:
        return name in self._attributes and name not in self.absent

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._attributes) - len(self.absent)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a wire field, or `default` if the message did not carry it."""
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> list[str]:
        """Return the wire names that this message carried, in the order of the wire."""
        return [name for name in self._attributes if name not in self.absent]

    def values(self) -> list[Any]:
        """Return the typed values, in the order of `keys`."""
        return [self[name] for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """Return pairs of wire name and typed value."""
        return [(name, self[name]) for name in self.keys()]

    def to_dict(self) -> dict[str, Any]:
        """Return the message as a plain dictionary of wire names and typed values."""
        return dict(self.items())

    def __repr__(self) -> str:
        fields = ", ".join(f"{self._attributes[name]}={value!r}" for name, value in self.items())
        return f"{type(self).__name__}({fields})"


def without_internal(row: dict[str, Any]) -> dict[str, Any]:
    """Return an object from the wire without the names of this library's own fields."""
    return {name: value for name, value in row.items() if not name.startswith("@")}


def wire_fields(kind: type[_Message]) -> type[_Message]:
    """Fill in `_attributes` with the class's wire fields, without those of `Message`; a class decorator."""
    own = [field for field in msgspec.structs.fields(kind) if not field.encode_name.startswith("@")]
    kind._attributes = {field.encode_name: field.name for field in own}
    return kind


@wire_fields
class ContractTick(Message, frozen=True, kw_only=True, gc=False):
    """The complete state of one contract: prices, volatilities, greeks.

    Prices of options are in the base currency (BTC for BTC options), volatilities in percent, amounts in contracts.
    Greeks are as Deribit defines them: delta per unit, gamma per dollar, vega and rho per percentage point, theta per
    day. Futures and perpetuals have no greeks, volatilities or underlying: those are None.

    Attributes:
        redis_key: FinX's key of the record; the same as `instrument_name`.
        underlying_price: price of the underlying future or synthetic forward, in dollars.
        underlying_index: name of that future.
        timestamp: milliseconds since the UNIX epoch, as received.
        state: "open" or "closed".
        settlement_price, min_price, max_price, mark_price, last_price: in the base currency.
        open_interest: contracts outstanding.
        mark_iv, bid_iv, ask_iv: implied volatility in percent; 0 if there is no quote.
        interest_rate: the rate used for the greeks, as a fraction.
        instrument_name: like "BTC-26AUG22-20000-C".
        index_price, estimated_delivery_price: in dollars.
        best_bid_price, best_ask_price: best quotes in the base currency; 0 or None if there is none.
        best_bid_amount, best_ask_amount: their sizes.
        vega, theta, rho, gamma, delta: the greeks.
        volume: amount traded in 24 hours.
        price_change: percent in 24 hours.
        low, high: lowest and highest price in 24 hours.
    """

    redis_key: Name
    underlying_price: Number
    underlying_index: Text
    timestamp: Integer
    state: Text
    settlement_price: Number
    open_interest: Number
    min_price: Number
    max_price: Number
    mark_price: Number
    mark_iv: Number
    last_price: Number
    interest_rate: Number
    instrument_name: Name
    index_price: Number
    estimated_delivery_price: Number
    bid_iv: Number
    best_bid_price: Number
    best_bid_amount: Number
    best_ask_price: Number
    best_ask_amount: Number
    ask_iv: Number
    vega: Number
    theta: Number
    rho: Number
    gamma: Number
    delta: Number
    volume: Number
    price_change: Number
    low: Number
    high: Number

    name_of = operator.attrgetter("instrument_name")
    is_state = True
    state_of = name_of

    @property
    def name(self) -> str:
        """The name that is subscribed: `instrument_name`."""
        return self.instrument_name

    @property
    def datetime(self) -> dt.datetime | None:
        """`timestamp` in UTC; None if it is absent or outside the calendar."""
        return None if self.timestamp is None else _from_unix(self.timestamp, 1000)

    @property
    def venue_time(self) -> float | None:
        """`timestamp` in UNIX seconds."""
        return None if self.timestamp is None else self.timestamp / 1000

    def greeks(self, days: float | None = None, *, refine: bool = False) -> ContractGreeks:
        """Recompute price, greeks and quoted volatilities from this message's own fields, alongside the feed's values.

        `interest_rate` is not used: it was 0 in every message seen so far, and its meaning is unknown.

        Args:
            days: days to expiry; None takes them from the name and `timestamp`. (The sandbox always lists the
                documentation's own contract, with 20.144 days left.)
            refine: compute with the unrounded volatility that the published greeks imply, instead of `mark_iv`.

        Raises:
            InvalidInputError: the contract is not an option, had expired, or lacks `underlying_price`, `mark_iv` or
                `timestamp`.
        """
        return recompute(self.instrument_name, self, days, refine=refine)


@wire_fields
class SpotTick(Message, frozen=True, kw_only=True, gc=False):
    """The price of a pair on one exchange.

    FinX has sent two forms: one with `unixDate` and `UTCDate`, and an older one with `date` and `time` inside
    ``resultData``. Both are decoded to this type; `unix_date` is computed for the older one.

    Attributes:
        pair: like "BTC:USDC".
        unix_date: seconds since the UNIX epoch.
        utc_date: the same as text, like "2022-08-07T18:34:55.000Z".
        exchange: the exchange of the trade.
        price: in the pair's second currency.
        date, time: in the older form only, like "2022-06-15" and "21:27:40.453Z".
    """

    pair: Name
    unix_date: Integer = msgspec.field(name="unixDate")
    utc_date: Text = msgspec.field(name="UTCDate")
    exchange: Text
    price: Number
    date: Text = None
    time: Text = None
    absent: InternalNames = msgspec.field(default=("date", "time"), name="@absent")

    name_of = operator.attrgetter("pair")
    is_state = True
    state_of = operator.attrgetter("pair", "exchange")

    @property
    def name(self) -> str:
        """The name that is subscribed: `pair`."""
        return self.pair

    @property
    def datetime(self) -> dt.datetime | None:
        """The time in UTC, to the millisecond in the older form; None if it is absent or outside the calendar."""
        if self.date and self.time:
            return _moment(self.date, self.time)
        return None if self.unix_date is None else _from_unix(self.unix_date, 1)

    @property
    def venue_time(self) -> float | None:
        """`datetime` in UNIX seconds."""
        return unix_seconds(lambda: self.datetime)


@wire_fields
class Tick(Message, frozen=True, kw_only=True, gc=False):
    """A row of tick history, or a tick snap: the price of a pair on one exchange at one point in time.

    Attributes:
        pair: like "BTC:USD".
        date: the day in UTC, like "2022-06-15".
        time: like "21:27:40.453Z".
        exchange: the exchange of the trade.
        price: in the pair's second currency.
    """

    pair: Name
    date: Name
    time: Name
    exchange: Text
    price: Number

    name_of = operator.attrgetter("pair")

    @property
    def name(self) -> str:
        """The pair."""
        return self.pair

    @property
    def datetime(self) -> dt.datetime:
        """`date` and `time` in UTC, to the millisecond.

        Raises:
            ValueError: they are not a valid date and time.
        """
        return _moment(self.date, self.time)

    @property
    def venue_time(self) -> float | None:
        """`datetime` in UNIX seconds."""
        return unix_seconds(lambda: self.datetime)


def unix_seconds(read: Callable[[], dt.datetime | None]) -> float | None:
    """Return the datetime that `read` returns as UNIX seconds; None if there is none or it raises ValueError.

    A datetime without a time zone is taken as UTC.
    """
    try:
        moment = read()
    except ValueError:
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _from_unix(units: int, a_second: int) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(units / a_second, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _moment(date: str, time: str) -> dt.datetime:
    # Before Python 3.11, fromisoformat accepts neither "Z" nor fractions that do not have 3 or 6 digits.
    clock, _, fraction = time.removesuffix("Z").partition(".")
    whole = dt.datetime.fromisoformat(f"{date}T{clock}")
    return whole.replace(microsecond=int(fraction[:6].ljust(6, "0")) if fraction else 0, tzinfo=UTC)
