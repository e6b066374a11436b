"""FinX: its messages, recognised by their shape.

No request id, acknowledgement or error frame is documented, and streams share one connection, so a payload's keys are
all there is to know it by (FinX documentation, pages *Streams* and *Functions*, August 2022; finx-io SDK 0.0.996 and
later). A payload's first characters route the common shapes; whatever does not fit there is looked at whole.

Where the sources are silent, chosen here: an object with an ``error`` key is an error frame (the calculation grid's
form); no message ends a subscription.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, cast
from urllib.parse import quote

import msgspec

from finx_sync.errors import UnreadableMessageError
from finx_sync.messages import ContractTick, Message, SpotTick, Tick
from finx_sync.venues.base import (
    MAIN_ENDPOINT,
    Authentication,
    Codec,
    Decoded,
    KeepAliveReply,
    Periodic,
    ServerError,
    Subscription,
    Unknown,
    Unreadable,
    words,
)

__all__ = [
    "FinxCodec",
    "HistoryReply",
    "Interval",
    "NameList",
    "Path",
    "Raw",
    "Reply",
    "parse_reply",
    "read_contracts",
    "read_tick",
    "request",
]

KEEP_ALIVE_INTERVAL: Final = 270.0
"""Seconds; the server closes after 300 without a message (FinX documentation, *Streams*, later revisions)."""

CONTRACT: Final = "contract"
SPOT: Final = "spot"

Path = Literal["streaming", "streamer", "root"]
"""``/streaming/KEY`` (documentation to 2022-08-05), ``/streamer/KEY`` (later, and the SDK), or ``/`` (SDK 0.0.1)."""

Interval = Literal["100ms", "agg2", "raw"]
"""How often Deribit may send a contract: every 0.1 s, every 2 s, or with every change, for those who log in."""

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True)
class HistoryReply:
    """A reply of tick rows, in the order of the wire: unsorted."""

    rows: list[Tick]


@dataclass(frozen=True)
class NameList:
    """A reply of names."""

    names: list[str]


@dataclass(frozen=True)
class Raw:
    """A reply of a shape that is not documented: the JSON as it came."""

    value: Any


Reply = Message | Authentication | KeepAliveReply | ServerError | HistoryReply | NameList | Raw


def request(key: str, function: str, /, **params: Any) -> str:
    """A message that calls `function` (FinX documentation, *Streams*: the key goes into every message)."""
    return json.dumps({"APIKey": key, "functionName": function, **params}, separators=(",", ":"))


class _FieldReader:
    """Reads one type of message: fast where all its fields are there, else field by field."""

    def __init__(self, kind: type[_M], required: Sequence[str]) -> None:
        self.decode = cast(Callable[[bytes], Any], msgspec.json.Decoder(kind, strict=False).decode)
        self._kind = kind
        self._required = tuple(required)
        wire = {
            field.encode_name: field for field in msgspec.structs.fields(kind) if not field.encode_name.startswith("@")
        }
        self._names = tuple(wire)
        self._sparse = msgspec.defstruct(
            f"Sparse{kind.__name__}",
            [
                (
                    field.name,
                    field.type | msgspec.UnsetType,
                    msgspec.field(default=msgspec.UNSET, name=field.encode_name),
                )
                for field in wire.values()
            ],
            kw_only=True,
        )

    def convert(self, row: dict[str, Any], **known: Any) -> Message:
        """Build a message from a decoded object that may lack fields.

        Raises:
            msgspec.ValidationError: a value of the wrong type, or an identifying field is missing.
        """
        for name in self._required:
            if known.get(name, row.get(name)) in (None, ""):
                raise msgspec.ValidationError(f"Object missing required field `{name}`")
        filled = {name: None if value == "" else value for name, value in row.items()}
        sparse = msgspec.convert(filled, self._sparse, strict=False)
        values = {
            name: None if value is msgspec.UNSET else value for name, value in msgspec.structs.asdict(sparse).items()
        }
        absent = tuple(name for name in self._names if name not in row)
        return self._kind(**{**values, **known, "absent": absent})


_contract = _FieldReader(ContractTick, ["instrument_name"])
_spot = _FieldReader(SpotTick, ["pair"])
_tick = _FieldReader(Tick, ["pair", "date", "time"])
_any = msgspec.json.Decoder()
_third_byte = operator.itemgetter(2)
_BY_THIRD_BYTE: Final[dict[int, Callable[[bytes], Decoded]]] = {
    ord("r"): _contract.decode,
    ord("p"): _spot.decode,
}
"""A peek at ``{"redis_key"`` and ``{"pair"``: a guess at the shape, which decoding confirms."""
_NOT_PLAIN: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding raises when fields are missing, or another shape stands behind the same first key."""
_NO_MESSAGE: Final = (msgspec.ValidationError, ValueError, OverflowError, RecursionError)
"""What reading a known shape raises, when its values are impossible."""
_history = msgspec.json.Decoder(dict[str, Tick], strict=False)


def _contract_from(row: dict[str, Any]) -> Message:
    # The two names are one (FinX: redis_key == instrument_name), so either identifies the contract.
    redis_key, name = row.get("redis_key"), row.get("instrument_name")
    return _contract.convert(row, redis_key=redis_key or name, instrument_name=name or redis_key)


def _old_spot_from(value: dict[str, Any]) -> Message:
    """The frame of the per-pair URLs (documentation of July 2022): date and time instead of unixDate and UTCDate."""
    tick = cast(SpotTick, _spot.convert(value["resultData"]))
    moment = tick.datetime
    return msgspec.structs.replace(tick, unix_date=None if moment is None else int(moment.timestamp()))


def _history_from(value: dict[str, Any]) -> HistoryReply:
    return HistoryReply([cast(Tick, _tick.convert(row)) for row in value.values()])


_Test = Callable[[dict[str, Any]], object]
_SHAPES: Final[tuple[tuple[_Test, Callable[[dict[str, Any]], Reply]], ...]] = (
    (lambda value: "redis_key" in value or "instrument_name" in value, _contract_from),
    (lambda value: "unixDate" in value, _spot.convert),
    (lambda value: value.get("results") == "streaming" and isinstance(value.get("resultData"), dict), _old_spot_from),
    (lambda value: "pair" in value and "time" in value, _tick.convert),
    (lambda value: isinstance(value.get("isAuth"), bool), lambda value: Authentication(value["isAuth"])),
    (lambda value: "keepAlive" in value, lambda value: KeepAliveReply()),
    (lambda value: "error" in value, lambda value: ServerError(words(value["error"]))),
    (
        lambda value: bool(value) and all(key.isdigit() and isinstance(row, dict) for key, row in value.items()),
        _history_from,
    ),
)
"""What distinguishes the shapes of objects, in this order, and what reads each."""


def _shape(value: Any) -> Reply | None:
    """Tell what a decoded payload is; None for a shape that nobody documented."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return NameList(value)
    if isinstance(value, dict):
        for is_it, read in _SHAPES:
            if is_it(value):
                return read(value)
    return None


def _load(text: str) -> Any:
    try:
        return _any.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnreadableMessageError(f"not JSON: {error}", text) from error


def parse_reply(text: str) -> Reply:
    """Read the reply of a blocking function.

    Raises:
        UnreadableMessageError: it is no JSON, or a known shape with impossible values.
    """
    if text.startswith('{"0"'):  # a page of history has a thousand rows, and is read in one go
        try:
            return HistoryReply(list(_history.decode(text).values()))
        except (msgspec.DecodeError, RecursionError):
            pass  # rows that lack a field, or another shape: look at all of it
    value = _load(text)
    if value == {}:
        return HistoryReply([])  # an empty day
    try:
        reply = _shape(value)
    except _NO_MESSAGE as error:
        raise UnreadableMessageError(str(error), text) from error
    return Raw(value) if reply is None else reply


def read_contracts(rows: Sequence[dict[str, Any]]) -> list[ContractTick]:
    """Read a list of contract objects, as `getFiveMinMatrix` returns it.

    Raises:
        msgspec.ValidationError: one of them is no contract.
    """
    return [cast(ContractTick, _contract_from(row)) for row in rows]


def read_tick(row: dict[str, Any]) -> Tick:
    """Read one tick row.

    Raises:
        msgspec.ValidationError: it is none.
    """
    return cast(Tick, _tick.convert(row))


class FinxCodec(Codec):
    """FinX's streaming protocol.

    Args:
        base_url: ``wss://host``, without a path of FinX's own.
        path: which of the documented paths to connect to.
        stream_per_url: one connection for each subscription, ``/streaming/KEY/NAME`` (documentation of July 2022).
    """

    venue = "FinX"
    message_types = (ContractTick, SpotTick, Tick)
    kinds = {ContractTick: CONTRACT, SpotTick: SPOT}  # noqa: RUF012  # a ClassVar of the base
    can_overlap = True

    def __init__(self, base_url: str, path: Path = "streaming", *, stream_per_url: bool = False) -> None:
        super().__init__(base_url)
        self._path = path
        self._stream_per_url = stream_per_url

    def endpoint_of(self, subscription: Subscription) -> str:
        return subscription.name if self._stream_per_url else MAIN_ENDPOINT

    @property
    def has_main_endpoint(self) -> bool:
        return not self._stream_per_url

    def url(self, key: str, endpoint: str) -> str:
        parts = [self.base_url]
        if self._path != "root":
            parts += [self._path, quote(key, safe="")]
        if endpoint:
            parts.append(quote(endpoint, safe=":"))
        return "/".join(parts) if len(parts) > 1 else f"{self.base_url}/"

    def opening(self, key: str, now: float) -> Sequence[str]:
        return [request(key, "authenticate")]

    def subscribe(self, key: str, subscription: Subscription) -> str | None:
        if self._stream_per_url:
            return None
        if subscription.kind == CONTRACT:
            return request(key, "getDeribitContractStream", instrumentName=subscription.name)
        return request(key, "getSpotRates", pair=subscription.name)

    def probe(self, key: str) -> str | None:
        return request(key, "keepAlive")

    def periodic(self, key: str) -> Sequence[Periodic]:
        return [Periodic(KEEP_ALIVE_INTERVAL, request(key, "keepAlive"))]

    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        if len(payloads) == 1:  # without what pays only for several
            payload = payloads[0]
            try:
                return [_BY_THIRD_BYTE.get(payload[2], _decode_whole)(payload)]
            except (*_NOT_PLAIN, IndexError):
                return [_decode_whole(payload)]
        try:
            kinds = bytes(map(_third_byte, payloads))
        except IndexError:  # a payload too short to be an object
            return [_decode_whole(payload) for payload in payloads]
        messages: list[Decoded] = []
        if kinds.count(kinds[:1]) == len(kinds):
            decode = _BY_THIRD_BYTE.get(kinds[0], _decode_whole)
            rest = iter(payloads)
            while len(messages) < len(payloads):
                try:
                    messages.extend(map(decode, rest))  # one call in C for a run of one kind
                except _NOT_PLAIN:  # what was decoded before is in the list, so this is the one that failed
                    messages.append(_decode_whole(payloads[len(messages)]))
            return messages
        append, decoders = messages.append, _BY_THIRD_BYTE
        for third, payload in zip(kinds, payloads, strict=True):
            try:
                append(decoders.get(third, _decode_whole)(payload))
            except _NOT_PLAIN:
                append(_decode_whole(payload))
        return messages


def _decode_whole(payload: bytes) -> Decoded:
    text = str(payload, "utf-8", "replace")  # the transport has checked it; a replay may not have
    try:
        reply = _shape(_load(text))
    except UnreadableMessageError as error:
        return Unreadable(error)
    except _NO_MESSAGE as error:
        return Unreadable(UnreadableMessageError(str(error), text))
    if reply is None or isinstance(reply, (HistoryReply, NameList, Raw)):
        return Unknown()
    return reply
