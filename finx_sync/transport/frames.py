"""RFC 6455 frames, without I/O: bytes in, text payloads and events out; and the frames that a client sends.

The reader owns one buffer, which it reuses. The caller receives into `space`, reports with `received` how many bytes
came, and takes out everything complete with `cut`. Most market data comes in plain frames, which `cutting.py` cuts; all
other frames are cut here.

This module uses no thread, socket, clock or random source: the mask of an outgoing frame is an argument.
"""

from __future__ import annotations

import codecs
import struct
import sys
from functools import cache
from typing import Final, NamedTuple

from finx_sync.transport.cutting import FIN_TEXT, IS_COMPILED, LENGTH_16, cut_plain, is_utf8

__all__ = [
    "BINARY",
    "CLOSE",
    "CONT",
    "DEFAULT_MAX_SIZE",
    "MANY_FRAMES",
    "PAUSE",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "FrameReader",
    "Violation",
    "close_payload",
    "encode_frame",
    "parse_close",
]

CONT: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

FIN: Final = 0x80
RESERVED_BITS: Final = 0x70
MASKED: Final = 0x80
LENGTH_64: Final = 127
MAX_CONTROL_PAYLOAD: Final = 125

FIRST_SIZE: Final = 64 * 1024
"""Bytes of the buffer at first, which limits what one read takes from the socket."""
BUFFER_SIZE: Final = 1024 * 1024
"""Bytes to which the buffer grows under heavy traffic; it grows further only for a larger frame."""
NEARLY_FULL: Final = 16 * 1024
"""With less space than this many bytes left, the buffer counts as full: a TLS record may need as many."""
DEFAULT_MAX_SIZE: Final = 16 * 1024 * 1024
"""Bytes that one message may have, fragments joined; a larger one closes the connection with 1009."""

PROTOCOL_ERROR: Final = 1002
INVALID_UTF8: Final = 1007
TOO_BIG: Final = 1009

_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
"""Codes allowed in a close frame (RFC 6455 7.4 and the IANA registry), besides 3000 to 4999."""

_unpack_length_16 = struct.Struct("!H").unpack_from
_unpack_length_64 = struct.Struct("!Q").unpack_from


class Frame(NamedTuple):
    """What `cut` stopped at: a control frame, a whole binary message, or (if requested) one fragment.

    Attributes:
        opcode: TEXT (a first fragment), CONT, BINARY, CLOSE, PING or PONG.
        data: the payload, a copy.
        fin: False for a fragment that others follow.
    """

    opcode: int
    data: bytes
    fin: bool = True


class Violation(NamedTuple):
    """The peer broke the protocol; nothing after it can be trusted.

    Attributes:
        code: the close code to answer with (1002, 1007 or 1009).
        reason: what was wrong, in a few words.
    """

    code: int
    reason: str


class _Joining:
    """A fragmented message that is not complete yet: its opcode, the bytes so far, and the state of its UTF-8 check."""

    __slots__ = ("data", "opcode", "utf8")

    def __init__(self, opcode: int) -> None:
        self.opcode = opcode
        self.data = bytearray()
        self.utf8 = codecs.getincrementaldecoder("utf-8")()


MANY_FRAMES: Final = 4096
"""Frames cut in a row before the caller gets a chance to stop."""
PAUSE: Final = Frame(-1, b"")
"""Not a frame: `MANY_FRAMES` have been cut, and the caller may check whether to stop."""
_MORE: Final = object()
"""The buffer ends inside a frame."""


class FrameReader:
    """Cuts a byte stream from a server into messages.

    Args:
        max_size: the largest message accepted, in bytes, fragments joined.
        check_utf8: whether text is validated; the legacy `skip_utf8_validation` turns it off.
        fragments: whether to return each fragment by itself instead of joining them.
    """

    def __init__(
        self,
        max_size: int = DEFAULT_MAX_SIZE,
        *,
        check_utf8: bool = True,
        fragments: bool = False,
    ) -> None:
        self._max_size = int(min(max_size, sys.maxsize))
        self._check_utf8 = check_utf8
        self._fragments = fragments
        _keep_freed_memory()
        self._size = FIRST_SIZE  # of the buffer, unless a larger frame needs more
        self._full = FIRST_SIZE - NEARLY_FULL
        self._joining: _Joining | None = None
        self._broken: Violation | None = None
        self._buffer = bytearray(FIRST_SIZE)
        self._view = memoryview(self._buffer)
        self._copy: bytes | None = None  # of the buffer, for `cut_plain` in Python: one copy for each read
        self._start = 0
        self._end = 0

    def space(self) -> memoryview:
        """The free part of the buffer, to receive into; never empty."""
        start, end, size = self._start, self._end, len(self._buffer)
        if start == end:
            self._start = self._end = 0
            if size != self._size:
                self._move(self._size)
        elif start:
            # An incomplete frame moves to the front only once: while the rest of it is missing, start stays 0.
            self._move(max(size, self._size))
        elif end == size:
            # Doubling keeps the copying linear; the size limit has been checked against the frame's header.
            self._move(2 * size)
        return self._view[self._end :]

    def _move(self, size: int) -> None:
        """Move what is left to the front of a buffer of this size."""
        left = self._view[self._start : self._end]
        if size != len(self._buffer):  # a new one, since the old one cannot be resized while a view of it exists
            self._buffer = bytearray(size)
            self._view = memoryview(self._buffer)
            self._full = size - NEARLY_FULL
        self._view[: len(left)] = left
        self._start, self._end = 0, len(left)

    def received(self, count: int) -> None:
        """Report how many bytes were written into `space`."""
        self._copy = None
        self._end += count
        if self._end > self._full:
            self._grow()

    def _grow(self) -> None:
        """The buffer is nearly full, so more data is probably waiting; a larger one takes fewer reads."""
        if len(self._buffer) == self._size < BUFFER_SIZE:
            self._size *= 2

    def cut(self) -> tuple[list[bytes], Frame | Violation | None]:
        """Take out the complete text messages up to the next event.

        Returns:
            The payloads in order, and what follows them: a frame that is not a whole text message, a violation, or None
            if more bytes are needed. Call again until it is None; a violation is returned again each time. `PAUSE` is
            not a frame, but a chance to stop: one read can hold a hundred thousand fragments.
        """
        if self._broken is not None:
            return [], self._broken
        payloads: list[bytes] = []
        event: object = None
        silent = 0
        while event is None:
            self._cut_plain(payloads)
            event = _MORE if self._start == self._end else self._cut_one(payloads)
            silent += 1
            if silent == MANY_FRAMES and event is None:
                event = PAUSE
        if event is _MORE:
            return payloads, None
        if isinstance(event, Violation):
            self._broken = event
        assert isinstance(event, (Frame, Violation))
        return payloads, event

    def _cut_plain(self, payloads: list[bytes]) -> None:
        """Cut the frames of the one shape that matters for speed."""
        start, end = self._start, self._end
        if self._joining is not None or start == end or self._buffer[start] != FIN_TEXT:
            return
        source: bytes | bytearray = self._buffer
        if not IS_COMPILED:
            if end > BUFFER_SIZE or (end - start > 1 and self._buffer[start + 1] == LENGTH_64):
                return  # a large frame is coming in: copying all of it at each read would be quadratic
            if self._copy is None:
                self._copy = bytes(self._view[:end])
            source = self._copy
        self._start = cut_plain(source, start, end, self._max_size, self._check_utf8, payloads)

    def _cut_one(self, payloads: list[bytes]) -> object:
        """Cut one frame of any kind; returns _MORE, an event, or None if the frame needs no event."""
        start, available = self._start, self._end - self._start
        if available < 2:
            return _MORE
        first, second = self._buffer[start], self._buffer[start + 1]
        wrong = self._header_fault(first, second)
        if wrong is not None:
            return wrong
        length, header = second, 2
        if length == LENGTH_16:
            header = 4
        elif length == LENGTH_64:
            header = 10
        if available < header:
            return _MORE
        if header == 4:
            (length,) = _unpack_length_16(self._buffer, start + 2)
        elif header == 10:
            (length,) = _unpack_length_64(self._buffer, start + 2)
        opcode, fin = first & 0x0F, bool(first & FIN)
        joined = len(self._joining.data) if self._joining is not None else 0
        if joined + length > self._max_size and opcode < CLOSE:
            return Violation(TOO_BIG, f"a message is larger than {self._max_size} bytes")
        if available < header + length:
            return _MORE
        self._start = start + header + length
        payload = self._view[start + header : self._start]
        if opcode >= CLOSE:
            return _control(opcode, bytes(payload))
        return self._data(opcode, fin, payload, payloads)

    def _header_fault(self, first: int, second: int) -> Violation | None:
        """What the first two bytes show to be forbidden by RFC 6455 5.2 to 5.5; None if nothing is."""
        opcode, fin = first & 0x0F, first & FIN
        if first & RESERVED_BITS:
            return Violation(PROTOCOL_ERROR, "reserved bits are set; no extension such as compression was agreed on")
        if second & MASKED:
            return Violation(PROTOCOL_ERROR, "a server must not mask its frames")
        if opcode in (PING, PONG, CLOSE):
            if not fin or second > MAX_CONTROL_PAYLOAD:
                return Violation(PROTOCOL_ERROR, "a control frame is fragmented or longer than 125 bytes")
        elif opcode not in (CONT, TEXT, BINARY):
            return Violation(PROTOCOL_ERROR, f"opcode {opcode} is reserved")
        elif (opcode == CONT) != (self._joining is not None):
            return Violation(PROTOCOL_ERROR, "a fragment is out of order")
        return None

    def _data(self, opcode: int, fin: bool, payload: memoryview, payloads: list[bytes]) -> object:
        if fin and opcode == TEXT:
            text = bytes(payload)
            if self._check_utf8 and not is_utf8(text):
                return Violation(INVALID_UTF8, "a text message is not valid UTF-8")
            payloads.append(text)
            return None
        if fin and opcode == BINARY:
            return Frame(BINARY, bytes(payload))
        joining = self._joining
        if joining is None:
            joining = self._joining = _Joining(opcode)
        if joining.opcode == TEXT and self._check_utf8:
            try:  # fragment by fragment, so that invalid text fails at once and not at the end of the message
                joining.utf8.decode(payload, final=fin)
            except UnicodeDecodeError:
                return Violation(INVALID_UTF8, "a fragmented text message is not valid UTF-8")
        if fin:
            self._joining = None
        if self._fragments:
            return Frame(opcode, bytes(payload), fin)
        joining.data += payload
        if not fin:
            return None
        if joining.opcode == BINARY:
            return Frame(BINARY, bytes(joining.data))
        payloads.append(bytes(joining.data))
        return None


@cache
def _keep_freed_memory() -> None:
    """Make the C library keep the memory that one batch frees for the next one.

    glibc returns the memory of large blocks to the system at once, and the next read gets it back zeroed page by page,
    which costs a tenth of the throughput. Freeing one larger block raises both limits that decide this, for the whole
    process. With other C libraries it does nothing.
    """
    bytearray(4 * BUFFER_SIZE)


def _control(opcode: int, data: bytes) -> Frame | Violation:
    if opcode == CLOSE:
        try:
            parse_close(data)
        except UnicodeDecodeError:
            return Violation(INVALID_UTF8, "the reason of a close frame is not valid UTF-8")
        except ValueError as error:
            return Violation(PROTOCOL_ERROR, str(error))
    return Frame(opcode, data)


def parse_close(data: bytes) -> tuple[int | None, str]:
    """Parse a close frame's payload.

    Returns:
        The code (None if the frame is empty) and the reason.

    Raises:
        UnicodeDecodeError: the reason is not UTF-8.
        ValueError: the payload has only one byte, or a code that may not be sent (RFC 6455 7.4).
    """
    if not data:
        return None, ""
    if len(data) == 1:
        raise ValueError("a close frame has half a code")
    (code,) = _unpack_length_16(data)
    if code not in _CLOSE_CODES and not 3000 <= code <= 4999:
        raise ValueError(f"close code {code} may not be sent")
    return code, data[2:].decode("utf-8")


def close_payload(code: int | None, reason: str = "") -> bytes:
    """Build a close frame's payload; the reason is cut to what fits."""
    if code is None:
        return b""
    text = reason.encode("utf-8")[: MAX_CONTROL_PAYLOAD - 2]
    return struct.pack("!H", code) + text.decode("utf-8", "ignore").encode("utf-8")


def encode_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """Build one whole, masked frame, as a client must send it (RFC 6455 5.3).

    Args:
        opcode: TEXT, BINARY, CLOSE, PING or PONG.
        payload: the bytes to send.
        mask: four random bytes.
    """
    size = len(payload)
    if size < LENGTH_16:
        header = struct.pack("!BB", FIN | opcode, MASKED | size)
    elif size < 1 << 16:
        header = struct.pack("!BBH", FIN | opcode, MASKED | LENGTH_16, size)
    else:
        header = struct.pack("!BBQ", FIN | opcode, MASKED | LENGTH_64, size)
    # XOR of two big integers: the whole payload at once, in C.
    key = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
    return header + mask + masked.to_bytes(size, "little")
