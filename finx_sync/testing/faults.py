"""The faults of a `FaultProxy`: values that are checked when made, and whose repr is the code that makes them.

Faults of an open connection work at once; faults of the handshake wait for the next handshake. Those marked *frames*
need to see the websocket: over plain TCP, or over TLS that the proxy terminates itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

from finx_sync.errors import InvalidInputError

__all__ = [
    "Answer",
    "BlackHole",
    "Close",
    "Corrupt",
    "Cut",
    "Delay",
    "Direction",
    "Fault",
    "Mute",
    "Reset",
    "Split",
    "SwallowHandshake",
    "Throttle",
]

Direction = Literal["both", "to_client", "to_server"]
"""Which direction: to the client, to the server, or both."""
OneWay = Literal["to_client", "to_server"]
Part = Literal["header", "utf8", "json"]

MAX_CLOSE_CODE: Final = 0xFFFF
MAX_CLOSE_REASON: Final = 123
"""Bytes that fit into a close frame besides the code (RFC 6455 5.5)."""


class Fault:
    """The base of all faults.

    Attributes:
        needs_frames: whether the proxy must be able to read the websocket's frames or HTTP.
        at_handshake: whether it waits for the next handshake instead of affecting open connections.
    """

    needs_frames = False
    at_handshake = False


@dataclass(frozen=True)
class Cut(Fault):
    """End the TCP connection on both sides with a FIN, in the middle of whatever is in flight."""


@dataclass(frozen=True)
class Reset(Fault):
    """End the TCP connection on both sides with a RST."""


@dataclass(frozen=True)
class BlackHole(Fault):
    """Let nothing pass, silently. What was sent in the meantime arrives afterwards, as if TCP had retransmitted it.

    If the client gives up and disconnects, the connection to the server ends at once.

    Attributes:
        direction: the direction that is affected.
        lasting: seconds; None until the connection ends or `FaultProxy.clear` is called.
    """

    direction: Direction = "both"
    lasting: float | None = None

    def __post_init__(self) -> None:
        _check_direction(self.direction)
        _check_lasting(self.lasting)


@dataclass(frozen=True)
class Delay(Fault):
    """Let everything arrive later, in the original order.

    Attributes:
        seconds: how much later.
        direction, lasting: as in `BlackHole`.
    """

    seconds: float
    direction: Direction = "both"
    lasting: float | None = None

    def __post_init__(self) -> None:
        _check_positive("seconds", self.seconds)
        _check_direction(self.direction)
        _check_lasting(self.lasting)


@dataclass(frozen=True)
class Throttle(Fault):
    """Limit the number of bytes that pass in a second.

    Attributes:
        bytes_per_second: the limit for each direction.
        direction, lasting: as in `BlackHole`.
    """

    bytes_per_second: float
    direction: Direction = "both"
    lasting: float | None = None

    def __post_init__(self) -> None:
        _check_positive("bytes_per_second", self.bytes_per_second)
        _check_direction(self.direction)
        _check_lasting(self.lasting)


@dataclass(frozen=True)
class Split(Fault):
    """Send what passes in small pieces.

    Attributes:
        size: bytes of a piece.
        pause: seconds between two pieces. With 0 the receiver's system may join them again.
        count: bytes that are split like this in each direction; None for all from now on.
        direction: as in `BlackHole`.
    """

    size: int = 1
    pause: float = 0.0
    count: int | None = None
    direction: Direction = "both"

    def __post_init__(self) -> None:
        _check_whole("size", self.size)
        if self.count is not None:
            _check_whole("count", self.count)
        if not 0 <= self.pause < math.inf:
            raise InvalidInputError(f"pause is {self.pause!r}; it is a number of seconds, 0 or more")
        _check_direction(self.direction)


@dataclass(frozen=True)
class Corrupt(Fault):
    """Damage the next messages in a way that any reader must notice (frames).

    Attributes:
        part: "header" makes a frame that RFC 6455 forbids, "utf8" puts a byte that is invalid in UTF-8 into a text,
            "json" damages a bracket, colon or comma outside of strings. The seed decides which one, and where.
        times: how many messages.
        direction: one way; both would be two faults.
    """

    needs_frames = True

    part: Part = "header"
    times: int = 1
    direction: OneWay = "to_client"

    def __post_init__(self) -> None:
        _check_choice("part", self.part, get_args(Part))
        _check_choice("direction", self.direction, get_args(OneWay))
        _check_whole("times", self.times)


@dataclass(frozen=True)
class Mute(Fault):
    """Drop whole messages, while pings, pongs and close frames still pass, so that the peer looks alive (frames).

    Attributes:
        direction, lasting: as in `BlackHole`; what was dropped never arrives.
    """

    needs_frames = True

    direction: Direction = "to_client"
    lasting: float | None = None

    def __post_init__(self) -> None:
        _check_direction(self.direction)
        _check_lasting(self.lasting)


@dataclass(frozen=True)
class Close(Fault):
    """Close the websocket towards the client after the current frame, as its server would (frames).

    Attributes:
        code: any number of two bytes, even one that RFC 6455 forbids; None for a close frame without a code.
        reason: at most 123 bytes.
    """

    needs_frames = True

    code: int | None = 1000
    reason: str = ""

    def __post_init__(self) -> None:
        if self.code is not None and not (isinstance(self.code, int) and 0 <= self.code <= MAX_CLOSE_CODE):
            raise InvalidInputError(f"code is {self.code!r}; it is a whole number from 0 to {MAX_CLOSE_CODE}, or None")
        if len(self.reason.encode()) > MAX_CLOSE_REASON or (self.reason and self.code is None):
            raise InvalidInputError(f"reason needs a code, and at most {MAX_CLOSE_REASON} bytes fit")


@dataclass(frozen=True)
class SwallowHandshake(Fault):
    """Accept the connection and what the client sends, and never answer; nothing reaches the server."""

    at_handshake = True


@dataclass(frozen=True)
class Answer(Fault):
    """Answer the handshake with an HTTP status instead of passing it to the server (frames).

    Attributes:
        status: such as 401, 403, 429, 503 or 302.
        retry_after: the value of a ``Retry-After`` header: seconds, or a text such as an HTTP date; None for no header.
        location: the value of a ``Location`` header, to which a redirect leads; None for no header.
        headers: further (name, value) pairs.
        body: the text after the headers.
    """

    needs_frames = True
    at_handshake = True

    status: int
    retry_after: float | str | None = None
    location: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.status, int) and 200 <= self.status <= 599):
            raise InvalidInputError(f"status is {self.status!r}; it is an HTTP status from 200 to 599")
        for name, value in self.all_headers():
            if not name or any(character in name + value for character in "\r\n"):
                raise InvalidInputError("a header has a name, and no line break in it")

    def all_headers(self) -> list[tuple[str, str]]:
        """All headers of the answer; ``Retry-After`` and ``Location`` come first."""
        after = f"{self.retry_after:g}" if isinstance(self.retry_after, (int, float)) else self.retry_after
        special = (("Retry-After", after), ("Location", self.location))
        return [(name, value) for name, value in special if value is not None] + list(self.headers)


def _check_direction(direction: str) -> None:
    _check_choice("direction", direction, get_args(Direction))


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInputError(f"{name} is {value!r}; it is one of {', '.join(choices)}")


def _check_lasting(lasting: float | None) -> None:
    if lasting is not None:
        _check_positive("lasting", lasting)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise InvalidInputError(f"{name} is {value!r}; it must be above 0, and finite")


def _check_whole(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"{name} is {value!r}; it is a whole number above 0")
