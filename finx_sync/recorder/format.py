"""The file format: blocks that stand by themselves, each with its checksum. Pure; no I/O.

A file is a row of blocks::

    mark (4 bytes) | codec (1) | length unpacked (4) | length stored (4) | CRC-32 of all but itself (4) | content

Numbers are little-endian. The content, unpacked, is a MessagePack array of records, each an array that begins with its
tag. A file ends where it ends: nothing is written at its beginning afterwards, so a crash costs the last block at most.
A reader that meets a damaged block looks for the next mark whose checksum is right.

Since version 2 each block begins with a `BlockHeader`: its recording, its number in it, how many messages
came before it, and which connections, subscriptions and state it begins with. So any sound block can be read without
those before it, and a reader knows what is missing. In version 1 only a file's first block did so (`Started`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

__all__ = [
    "VERSION",
    "Block",
    "BlockHeader",
    "Cancelled",
    "Changed",
    "Closed",
    "Known",
    "Lost",
    "Opened",
    "Received",
    "Record",
    "Replacing",
    "Reported",
    "Requested",
    "Started",
    "Subscribed",
    "Succeeded",
    "Timed",
    "block",
    "blocks",
    "pack",
    "packer",
    "time_of",
    "unpack",
]

T = TypeVar("T")

VERSION: Final = 2
MARK: Final = b"\x9eFXR"
HEAD: Final = struct.Struct("<4sBII")
CHECK: Final = struct.Struct("<I")
OVERHEAD: Final = HEAD.size + CHECK.size
MAX_BLOCK: Final = 256 * 1024 * 1024
"""Bytes; a length beyond it is damage."""
RAW, ZLIB, ZSTD = 0, 1, 2


class Started(msgspec.Struct, tag="run", array_like=True, frozen=True):
    """The first record of each file of version 1.

    Attributes:
        version: of the format.
        run: the same in all files of one recording.
        part: the file's number in it, from 0.
        venue: whose feed.
        at: UNIX seconds.
    """

    version: int
    run: str
    part: int
    venue: str
    at: float


class Opened(msgspec.Struct, tag="open", array_like=True, frozen=True):
    """A connection is open; in a file's beginning also one that has been for some time.

    Attributes:
        number: of the connection in this run.
        endpoint: which it serves.
        at, arrived: UNIX seconds, and seconds on the recorder's monotonic clock.
        owner: a number of whoever opened it, which tells a replacement from an endpoint that came back; 0 if not known.
    """

    number: int
    endpoint: str
    at: float
    arrived: float
    owner: int = 0


class Closed(msgspec.Struct, tag="close", array_like=True, frozen=True):
    """A connection is gone; everything up to `covered_until` (UNIX seconds) had been received on it.

    `by_stop` says that the stream was stopped, so that no gap follows.
    """

    number: int
    covered_until: float
    reason: str
    by_stop: bool
    at: float
    arrived: float


class Received(msgspec.Struct, tag="in", array_like=True, frozen=True):
    """What several reads brought, as long as nothing else happened between them.

    Attributes:
        numbers, at, arrived: of each read: its connection, and when it was.
        counts: how many messages it brought.
        payloads: of all of them, in order.
    """

    numbers: list[int]
    at: list[float]
    arrived: list[float]
    counts: list[int]
    payloads: list[bytes]

    @classmethod
    def empty(cls) -> Received:
        """To be filled."""
        return cls([], [], [], [], [])

    def spread(self, values: list[T]) -> list[T]:
        """Values of the reads, repeated for each message."""
        if len(self.counts) == len(self.payloads):
            return values
        return [value for value, count in zip(values, self.counts, strict=True) for _ in range(count)]


class Subscribed(msgspec.Struct, tag="wish", array_like=True, frozen=True):
    """A subscription was added or removed; version 1 says neither which `endpoint` serves it nor when it was."""

    kind: str
    name: str
    wanted: bool
    endpoint: str | None = None
    at: float = 0.0
    arrived: float = 0.0


class Requested(msgspec.Struct, tag="ask", array_like=True, frozen=True):
    """A request is about to be sent, for venues whose answers mean nothing without it. Its text is not kept.

    Attributes:
        connection: number of the connection that it goes to.
        op: "open", "subscribe" or "unsubscribe".
        number: its id, where it has one.
        subscriptions: kind and name of what it is about.
    """

    connection: int
    op: str
    number: int | None
    subscriptions: list[tuple[str, str]]


class Changed(msgspec.Struct, tag="state", array_like=True, frozen=True):
    """The stream's state; `error`, `text` and `details` say why, where something went wrong."""

    old: str
    new: str
    error: str
    text: str
    at: float
    arrived: float
    details: dict[str, int | str | None] = {}


class Lost(msgspec.Struct, tag="lost", array_like=True, frozen=True):
    """Messages that the recorder could not keep up with, between two moments (UNIX seconds)."""

    count: int
    start: float
    end: float


class Reported(msgspec.Struct, tag="gap", array_like=True, frozen=True):
    """A gap that a relay's feed showed; without names it concerns all that is wanted. See `finx_sync.notices.Gap`."""

    start: float
    end: float
    names: list[str]
    reason: str
    missed: int | None
    at: float
    arrived: float


class Known(msgspec.Struct, tag="known", array_like=True, frozen=True):
    """Reading from a relay's feed began for subscriptions, and what their newest messages were until then.

    Attributes:
        payloads: these messages.
        times: when the relay received each, UNIX seconds.
        granted: kind and name of the subscriptions that the feed contains.
        at, arrived: when that was.
    """

    payloads: list[bytes]
    times: list[float]
    granted: list[tuple[str, str]]
    at: float
    arrived: float


class Replacing(msgspec.Struct, tag="replace", array_like=True, frozen=True):
    """The connection that serves an endpoint is to be replaced by one that `owner` opens."""

    endpoint: str
    owner: int
    at: float
    arrived: float


class Cancelled(msgspec.Struct, tag="cancel", array_like=True, frozen=True):
    """The connection that `owner` was to open, to replace another, could not be opened."""

    owner: int
    at: float
    arrived: float


class Succeeded(msgspec.Struct, tag="succeed", array_like=True, frozen=True):
    """A connection serves its endpoint from now on, in place of an older one.

    Attributes:
        number: of the connection.
        timer: the `arrived` of the timer at which that was decided; 0 where the older one's end decided it.
    """

    number: int
    timer: float


class Timed(msgspec.Struct, tag="look", array_like=True, frozen=True):
    """The timer fired: the stream looked at what is taken to flow, and at replacements that are due."""

    at: float
    arrived: float


class BlockHeader(msgspec.Struct, tag="head", array_like=True, frozen=True):
    """The first record of each block, and all that its reader must know of what came before.

    Attributes:
        version: of the format.
        run: the same in all files of one recording.
        venue: whose feed.
        began: when the recording began, UNIX seconds.
        part: the file's number in the recording, from 0.
        first_block, first_received: `block` and `received` of the file's first block.
        block: the block's number in the recording, from 0.
        received: messages that came before this block, those left out included.
        at: when the block was begun, UNIX seconds.
        closes: "part" where no block of this file follows, "run" where none of the recording does, else "".
        connections: the open ones.
        state: the last change; None before the first.
        subscriptions: None where they are left out for brevity: they come at intervals, and in the first
            and the last block of each file.
    """

    version: int
    run: str
    venue: str
    began: float
    part: int
    first_block: int
    first_received: int
    block: int
    received: int
    at: float
    closes: str
    connections: list[Opened]
    state: Changed | None
    subscriptions: list[Subscribed] | None


Record = (
    Started
    | Opened
    | Closed
    | Received
    | Subscribed
    | Requested
    | Changed
    | Lost
    | Reported
    | Known
    | Replacing
    | Cancelled
    | Succeeded
    | Timed
    | BlockHeader
)


def time_of(record: Record) -> float | None:
    """When the first of what a record holds was, UNIX seconds; None where it does not say."""
    if isinstance(record, Received):
        return record.at[0] if record.at else None
    if isinstance(record, Lost):
        return record.start
    return None if isinstance(record, (Subscribed, Requested, Succeeded, BlockHeader)) else record.at


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Record]).decode


class Block(NamedTuple):
    """A block's place in a file, or damage.

    Attributes:
        offset: where it begins.
        records: None for damage.
        skipped: bytes of damage.
    """

    offset: int
    records: list[Record] | None
    skipped: int = 0


def packer(compress: bool) -> tuple[int, Callable[[bytes], bytes]]:
    """The codec, and what compresses: zstd where the package is installed, else zlib."""
    if not compress:
        return RAW, lambda content: content
    try:
        import zstandard
    except ImportError:
        return ZLIB, lambda content: zlib.compress(content, 1)
    return ZSTD, zstandard.ZstdCompressor(level=3).compress


def pack(records: Sequence[Record]) -> bytes:
    """Records as a block's content."""
    return _encode(records)


def block(content: bytes, codec: int, compress: Callable[[bytes], bytes]) -> bytes:
    """A block of a packed content."""
    stored = compress(content)
    head = HEAD.pack(MARK, codec, len(content), len(stored))
    return head + CHECK.pack(zlib.crc32(stored, zlib.crc32(head))) + stored


def blocks(data: memoryview | bytes) -> Iterator[Block]:
    """The blocks of a file's content, and the damage between them."""
    view, offset = memoryview(data), 0
    while offset < len(view):
        found = _block_at(view, offset)
        if found is not None:
            content, end = found
            yield Block(offset, content)
            offset = end
            continue
        following = _next_mark(view, offset + 1)
        yield Block(offset, None, following - offset)
        offset = following


def _block_at(view: memoryview, offset: int) -> tuple[list[Record], int] | None:
    begin = offset + OVERHEAD
    if begin > len(view):
        return None
    mark, codec, unpacked, length = HEAD.unpack_from(view, offset)
    if mark != MARK or begin + length > len(view) or unpacked > MAX_BLOCK:
        return None
    stored = view[begin : begin + length]
    (check,) = CHECK.unpack_from(view, offset + HEAD.size)
    if zlib.crc32(stored, zlib.crc32(view[offset : offset + HEAD.size])) != check:
        return None
    return unpack(codec, stored, unpacked), begin + length


def _next_mark(view: memoryview, offset: int) -> int:
    """Where the next sound block begins; the end of the file where none does."""
    step = 1024 * 1024
    while offset < len(view):
        place = bytes(view[offset : offset + step + len(MARK) - 1]).find(MARK)
        if place < 0:
            offset += step
        elif _block_at(view, offset + place) is not None:
            return offset + place
        else:
            offset += place + 1
    return len(view)


def unpack(codec: int, stored: memoryview | bytes, length: int) -> list[Record]:
    """A block's records.

    Raises:
        MissingExtraError: it was compressed by a package that is not installed.
        msgspec.MsgspecError, zlib.error: it is from another version.
    """
    if codec == ZSTD:
        from finx_sync.recorder.extras import zstandard

        content = zstandard().ZstdDecompressor().decompress(stored, max_output_size=length)
    elif codec == ZLIB:
        content = zlib.decompress(stored, bufsize=max(1, length))
    else:
        content = bytes(stored)
    return _decode(content)
