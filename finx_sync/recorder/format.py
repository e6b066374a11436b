"""The file format: self-contained blocks, each with a checksum. This module does no I/O.

A file is a sequence of blocks::

    mark (4 bytes) | codec (1) | unpacked length (4) | stored length (4) | CRC-32 of everything else (4) | content

Numbers are little-endian. The unpacked content is a MessagePack array of records, each of which is an array that begins
with its tag. Files are only appended to, so a crash costs the last block at most. After a damaged block, a reader
continues at the next mark that begins a block with a correct checksum.

Since version 2 each block begins with a `BlockHeader`: the recording, the block's number, the number of messages before
it, and the connections, subscriptions and state at its start. So a block can be read without those before it, and a
reader knows how much is missing. In version 1 only a file's first block has a header (`Started`).
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
"""The greatest unpacked length of a block, bytes; a greater one is damage."""
RAW, ZLIB, ZSTD = 0, 1, 2


class Started(msgspec.Struct, tag="run", array_like=True, frozen=True):
    """The first record of each file of version 1.

    Attributes:
        version: the version of the format.
        run: an identifier, the same in all files of one recording.
        part: the file's number in the recording, from 0.
        venue: the venue of the feed.
        at: when the file was begun, UNIX seconds.
    """

    version: int
    run: str
    part: int
    venue: str
    at: float


class Opened(msgspec.Struct, tag="open", array_like=True, frozen=True):
    """A connection is open. At the beginning of a file, it may have been open for some time.

    Attributes:
        number: the connection's number in this run.
        endpoint: the endpoint that it is connected to.
        at, arrived: when it opened, UNIX seconds and seconds on the recorder's monotonic clock.
        owner: a number that identifies its opener, to distinguish a replacement from a reconnect; 0 if unknown.
    """

    number: int
    endpoint: str
    at: float
    arrived: float
    owner: int = 0


class Closed(msgspec.Struct, tag="close", array_like=True, frozen=True):
    """A connection has closed; everything sent on it before `covered_until` (UNIX seconds) has been received.

    `by_stop` is True if the stream was stopped, so that no gap follows.
    """

    number: int
    covered_until: float
    reason: str
    by_stop: bool
    at: float
    arrived: float


class Received(msgspec.Struct, tag="in", array_like=True, frozen=True):
    """The messages of one or more reads between which nothing else happened.

    Attributes:
        numbers, at, arrived: for each read, the number of its connection and its times, as in `Opened`.
        counts: for each read, its number of messages.
        payloads: all messages, in order.
    """

    numbers: list[int]
    at: list[float]
    arrived: list[float]
    counts: list[int]
    payloads: list[bytes]

    @classmethod
    def empty(cls) -> Received:
        """Return a record without messages, to be filled."""
        return cls([], [], [], [], [])

    def spread(self, values: list[T]) -> list[T]:
        """Turn a list with one value for each read into a list with one value for each message."""
        if len(self.counts) == len(self.payloads):
            return values
        return [value for value, count in zip(values, self.counts, strict=True) for _ in range(count)]


class Subscribed(msgspec.Struct, tag="wish", array_like=True, frozen=True):
    """A subscription was added (`wanted`) or removed. Version 1 contains neither its `endpoint` nor the times."""

    kind: str
    name: str
    wanted: bool
    endpoint: str | None = None
    at: float = 0.0
    arrived: float = 0.0


class Requested(msgspec.Struct, tag="ask", array_like=True, frozen=True):
    """A request is about to be sent. Recorded for venues whose answers mean nothing without it; its text is not kept.

    Attributes:
        connection: the number of the connection that it is sent on.
        op: "open", "subscribe" or "unsubscribe".
        number: its id; None if it has none.
        subscriptions: the kind and name of each subscription that it concerns.
    """

    connection: int
    op: str
    number: int | None
    subscriptions: list[tuple[str, str]]


class Changed(msgspec.Struct, tag="state", array_like=True, frozen=True):
    """The stream's state changed; `error`, `text` and `details` describe the cause if it was an error."""

    old: str
    new: str
    error: str
    text: str
    at: float
    arrived: float
    details: dict[str, int | str | None] = {}


class Lost(msgspec.Struct, tag="lost", array_like=True, frozen=True):
    """Messages received from `start` to `end` (UNIX seconds) were left out because the recorder could not keep up."""

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
    """A connection that `owner` opens is to replace the one that serves an endpoint."""

    endpoint: str
    owner: int
    at: float
    arrived: float


class Cancelled(msgspec.Struct, tag="cancel", array_like=True, frozen=True):
    """The connection that `owner` was to open as a replacement could not be opened."""

    owner: int
    at: float
    arrived: float


class Succeeded(msgspec.Struct, tag="succeed", array_like=True, frozen=True):
    """A connection has replaced the older one of its endpoint.

    Attributes:
        number: the number of the connection.
        timer: the `arrived` of the timer at which that was decided; 0 if the older connection's end decided it.
    """

    number: int
    timer: float


class Timed(msgspec.Struct, tag="look", array_like=True, frozen=True):
    """The timer fired: the stream checked for silent subscriptions and for replacements that are due."""

    at: float
    arrived: float


class BlockHeader(msgspec.Struct, tag="head", array_like=True, frozen=True):
    """The first record of each block, with everything that a reader must know about the blocks before it.

    Attributes:
        version: the version of the format.
        run: an identifier, the same in all files of one recording.
        venue: the venue of the feed.
        began: when the recording began, UNIX seconds.
        part: the file's number in the recording, from 0.
        first_block, first_received: `block` and `received` of the file's first block.
        block: the block's number in the recording, from 0.
        received: the number of messages received before this block, including those left out.
        at: when the block was begun, UNIX seconds.
        closes: "part" if this is the last block of its file, "run" if it is the last of the recording, otherwise "".
        connections: the open connections.
        state: the latest change of state; None before the first.
        subscriptions: the wanted subscriptions; None if left out for brevity. They are repeated at intervals, and in
            the first and the last block of each file.
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
    """Return the earliest time in a record, UNIX seconds; None if it has none."""
    if isinstance(record, Received):
        return record.at[0] if record.at else None
    if isinstance(record, Lost):
        return record.start
    return None if isinstance(record, (Subscribed, Requested, Succeeded, BlockHeader)) else record.at


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Record]).decode


class Block(NamedTuple):
    """A block of a file, or damage.

    Attributes:
        offset: its position in the file, bytes.
        records: its records; None for damage.
        skipped: the number of damaged bytes; 0 for a block.
    """

    offset: int
    records: list[Record] | None
    skipped: int = 0


def packer(compress: bool) -> tuple[int, Callable[[bytes], bytes]]:
    """Return the number of a codec and its compression function: zstd if it is installed, otherwise zlib."""
    if not compress:
        return RAW, lambda content: content
    try:
        import zstandard
    except ImportError:
        return ZLIB, lambda content: zlib.compress(content, 1)
    return ZSTD, zstandard.ZstdCompressor(level=3).compress


def pack(records: Sequence[Record]) -> bytes:
    """Encode records as the content of a block."""
    return _encode(records)


def block(content: bytes, codec: int, compress: Callable[[bytes], bytes]) -> bytes:
    """Compress a content and return it as a block."""
    stored = compress(content)
    head = HEAD.pack(MARK, codec, len(content), len(stored))
    return head + CHECK.pack(zlib.crc32(stored, zlib.crc32(head))) + stored


def blocks(data: memoryview | bytes) -> Iterator[Block]:
    """Iterate over the blocks in the content of a file, and the damage between them."""
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
    """Return the offset of the next undamaged block; the length of the file if there is none."""
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
    """Decompress and decode the records of a block.

    Raises:
        MissingExtraError: it was compressed with a package that is not installed.
        msgspec.MsgspecError, zlib.error: it was written by another version.
    """
    if codec == ZSTD:
        from finx_sync.recorder.extras import zstandard

        content = zstandard().ZstdDecompressor().decompress(stored, max_output_size=length)
    elif codec == ZLIB:
        content = zlib.decompress(stored, bufsize=max(1, length))
    else:
        content = bytes(stored)
    return _decode(content)
