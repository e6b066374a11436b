"""The frame reader: every split of every stream, and every way to break the protocol."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.transport import frames
from finx_sync.transport.frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Frame,
    FrameReader,
    Violation,
    close_payload,
    encode_frame,
    parse_close,
)
from tests.servers import client_frames, server_frame

pytestmark = pytest.mark.usefixtures("engine")


def read(reader: FrameReader, stream: bytes, sizes: list[int]) -> list[object]:
    """Feed a stream in pieces; returns texts as str and everything else as it came."""
    seen: list[object] = []
    position = step = 0
    while position < len(stream):
        space = reader.space()
        size = min(sizes[step % len(sizes)], len(space), len(stream) - position)
        space[:size] = stream[position : position + size]
        reader.received(size)
        position += size
        step += 1
        while True:
            payloads, event = reader.cut()
            seen += [str(payload, "utf-8") for payload in payloads]
            if event is None:
                break
            seen.append(event)
            if isinstance(event, Violation):
                return seen
    return seen


def only(stream: bytes, **options: object) -> object:
    """The single thing that a stream gives."""
    (seen,) = read(FrameReader(**options), stream, [len(stream)])  # type: ignore[arg-type]
    return seen


texts = st.one_of(
    st.text(max_size=40),
    st.integers(100, 140).map(lambda size: "é" * size),
    st.just(2_000).map(lambda size: "x" * size),
)
control = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[object]]:
    """A legal stream, and what it means."""
    stream, meaning = b"", []
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["text", "binary", "control", "fragments"]))
        if kind == "control":
            opcode, data = draw(control)
            stream += server_frame(opcode, data)
            meaning.append(Frame(opcode, data))
            continue
        text = draw(texts)
        payload = text.encode()
        opcode = BINARY if kind == "binary" else TEXT
        if kind == "fragments":
            cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
            parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                stream += server_frame(TEXT if index == 0 else CONT, part, fin=last)
                if not last and draw(st.booleans()):
                    code, data = draw(control)
                    stream += server_frame(code, data)
                    meaning.append(Frame(code, data))
        else:
            stream += server_frame(opcode, payload)
        meaning.append(Frame(BINARY, payload) if opcode == BINARY else text)
    return stream, meaning


@given(streams(), st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_every_split_gives_the_same_messages(made: tuple[bytes, list[object]], sizes: list[int]) -> None:
    """Messages would be torn, merged, reordered or lost, depending on how the network cuts the stream."""
    stream, meaning = made
    assert read(FrameReader(), stream, sizes) == meaning


def test_byte_by_byte() -> None:
    """The slowest network would break the reader."""
    stream = server_frame(TEXT, b"a" * 130) + server_frame(PING, b"p") + server_frame(TEXT, "ü".encode())
    assert read(FrameReader(), stream, [1]) == ["a" * 130, Frame(PING, b"p"), "ü"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 3 * frames.BUFFER_SIZE])
def test_every_length_form(size: int) -> None:
    """Messages of some sizes would be unreadable."""
    stream = server_frame(TEXT, b"x" * size) * 2 + server_frame(BINARY, b"y" * size)
    seen = read(FrameReader(), stream, [100_000])
    assert seen == ["x" * size, "x" * size, Frame(BINARY, b"y" * size)]


def test_control_frames_count_for_no_message() -> None:
    """A ping between the fragments of a message that is just small enough would end the connection."""
    parts = server_frame(TEXT, b"x" * 90, fin=False) + server_frame(PING, b"p" * 20) + server_frame(CONT, b"y" * 10)
    assert read(FrameReader(100), parts, [1000]) == [Frame(PING, b"p" * 20), "x" * 90 + "y" * 10]
    assert only(server_frame(PING, b"p" * 20), max_size=10) == Frame(PING, b"p" * 20)


@pytest.mark.parametrize("max_size", [float("inf"), 2**63, 1e9])
def test_any_number_is_a_size_limit(max_size: Any) -> None:
    """The compiled part would raise at the first message, where Python does not."""
    assert only(server_frame(TEXT, b"x"), max_size=max_size) == "x"


def test_a_large_frame_that_drips_in_is_not_copied_at_each_read() -> None:
    """A slow peer would keep the processor busy."""
    reader = FrameReader()
    assert read(reader, server_frame(TEXT, b"x" * 200_000)[:-1], [50_000]) == []
    assert reader._copy is None


def test_the_buffer_shrinks_after_a_large_message() -> None:
    """One large message would cost its memory for ever."""
    reader = FrameReader()
    assert len(read(reader, server_frame(TEXT, b"x" * 5_000_000), [1_000_000])) == 1
    assert len(reader.space()) <= frames.BUFFER_SIZE


def test_the_buffer_grows_with_the_feed() -> None:
    """A quiet feed would take a flood's memory, or a flood too many reads."""
    reader, stream = FrameReader(), server_frame(TEXT, b"x" * 700) * 5000
    assert read(reader, stream[: 704 * 10], [704]) == ["x" * 700] * 10
    assert len(reader.space()) == frames.FIRST_SIZE
    assert len(read(reader, stream, [len(stream)])) == 5000
    assert len(reader.space()) > frames.BUFFER_SIZE - 1000


def test_payloads_outlive_the_buffer() -> None:
    """A handler would see the next message's bytes in the last message's place."""
    reader = FrameReader()
    kept = []
    for letter in b"ab":
        data = server_frame(TEXT, bytes([letter]) * 200)
        reader.space()[: len(data)] = data
        reader.received(len(data))
        kept += reader.cut()[0]
    assert [bytes(payload[:1]) for payload in kept] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (server_frame(TEXT, b"x", reserved=0x40), 1002),
        (server_frame(TEXT, b"x", reserved=0x10), 1002),
        (server_frame(TEXT, b"x", masked=0x80), 1002),
        (server_frame(3, b""), 1002),
        (server_frame(0xB, b""), 1002),
        (server_frame(CONT, b"x"), 1002),
        (server_frame(TEXT, b"x", fin=False) + server_frame(TEXT, b"y"), 1002),
        (server_frame(PING, b"x", fin=False), 1002),
        (server_frame(PING, b"x" * 126), 1002),
        (server_frame(CLOSE, b"\x03"), 1002),
        (server_frame(CLOSE, struct.pack("!H", 1005)), 1002),
        (server_frame(CLOSE, struct.pack("!H", 5000)), 1002),
        (server_frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
        (server_frame(TEXT, b"\xff"), 1007),
        (server_frame(TEXT, b"\xce" * 200), 1007),
        (server_frame(TEXT, b"\xce", fin=False) + server_frame(CONT, b"x"), 1007),
        (server_frame(TEXT, b"\xed\xa0\x80"), 1007),
        (bytes([0x81, 127]) + struct.pack("!Q", 2**63), 1009),
        (bytes([0x81, 127]) + struct.pack("!Q", 2**64 - 1), 1009),
    ],
)
def test_violations_and_their_close_codes(stream: bytes, code: int) -> None:
    """A broken or hostile server would be believed, or closed with the wrong code."""
    seen = only(stream)
    assert isinstance(seen, Violation)
    assert seen.code == code


def test_messages_before_a_violation_are_delivered() -> None:
    """Good messages would be lost because a bad one came in the same read."""
    for bad in (server_frame(TEXT, b"\xff"), server_frame(3, b"")):
        seen = read(FrameReader(), server_frame(TEXT, b"good") + bad + server_frame(TEXT, b"after"), [1000])
        assert seen[0] == "good"
        assert isinstance(seen[1], Violation)
        assert len(seen) == 2


def test_a_violation_stays() -> None:
    """Bytes after a violation would be read as if nothing had happened."""
    reader = FrameReader()
    (first,) = read(reader, server_frame(3, b""), [10])
    assert reader.cut() == ([], first)


@pytest.mark.parametrize("size", [100, 200, 70_000])
def test_the_size_limit_is_exact(size: int) -> None:
    """A message of exactly the limit would be refused, or one above it taken."""
    assert only(server_frame(TEXT, b"x" * size), max_size=size) == "x" * size
    seen = only(server_frame(TEXT, b"x" * (size + 1)), max_size=size)
    assert isinstance(seen, Violation)
    assert seen.code == 1009
    endless = server_frame(TEXT, b"x" * size, fin=False) + server_frame(CONT, b"x", fin=False)
    (seen,) = read(FrameReader(size), endless, [50_000])
    assert isinstance(seen, Violation)
    assert seen.code == 1009


def test_text_unchecked_when_asked_for() -> None:
    """`skip_utf8_validation` of a legacy bot would not work."""
    reader = FrameReader(check_utf8=False)
    data = server_frame(TEXT, b"\xff") + server_frame(TEXT, b"\xff", fin=False) + server_frame(CONT, b"")
    reader.space()[: len(data)] = data
    reader.received(len(data))
    payloads, event = reader.cut()
    assert [bytes(payload) for payload in payloads] == [b"\xff", b"\xff"]
    assert event is None


def test_fragments_one_by_one_when_asked_for() -> None:
    """`on_cont_message` of a legacy bot would never be called."""
    stream = server_frame(TEXT, b"a", fin=False) + server_frame(CONT, b"b", fin=False) + server_frame(CONT, b"c")
    assert read(FrameReader(fragments=True), stream, [3]) == [
        Frame(TEXT, b"a", False),
        Frame(CONT, b"b", False),
        Frame(CONT, b"c", True),
    ]


def test_fragmented_binary() -> None:
    """A binary message in pieces would be lost."""
    stream = server_frame(BINARY, b"\xff", fin=False) + server_frame(CONT, b"\xfe")
    assert read(FrameReader(), stream, [100]) == [Frame(BINARY, b"\xff\xfe")]


@given(st.sampled_from([TEXT, BINARY, PING]), st.binary(max_size=70_000), st.binary(min_size=4, max_size=4))
def test_encoded_frames_are_what_rfc_6455_says(opcode: int, payload: bytes, mask: bytes) -> None:
    """No server would understand what we send."""
    frame = encode_frame(opcode, payload, mask)
    assert frame[0] == 0x80 | opcode
    size = frame[1] & 0x7F
    assert frame[1] & 0x80
    header = 2
    if size == 126:
        (size,), header = struct.unpack("!H", frame[2:4]), 4
    elif size == 127:
        (size,), header = struct.unpack("!Q", frame[2:10]), 10
    assert size == len(payload)
    assert frame[header : header + 4] == mask
    masked = frame[header + 4 :]
    assert bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked)) == payload


@given(st.sampled_from([1000, 1001, 1008, 1011, 3000, 4999]), st.text(max_size=200))
def test_close_payloads_round_trip(code: int, reason: str) -> None:
    """A long reason would make an illegal frame, or be cut inside a character."""
    payload = close_payload(code, reason)
    assert len(payload) <= 125
    got, text = parse_close(payload)
    assert got == code
    assert reason.startswith(text)
    assert parse_close(close_payload(None)) == (None, "")


def test_every_pair_of_cuts_through_one_mixed_stream() -> None:
    """One unlucky packet boundary would lose a message, in a header, a character or between fragments."""
    euro = "€".encode()
    stream = (
        server_frame(TEXT, b"x" * 126)
        + server_frame(TEXT)
        + server_frame(TEXT, euro[:1], fin=False)
        + server_frame(PING, b"p")
        + server_frame(CONT, euro[1:])
        + server_frame(BINARY, b"\0")
        + server_frame(TEXT, b"end")
    )
    meaning = ["x" * 126, "", Frame(PING, b"p"), "€", Frame(BINARY, b"\0"), "end"]
    for first in range(1, len(stream)):
        for second in range(1, len(stream) - first, 5):
            assert read(FrameReader(), stream, [first, second, len(stream)]) == meaning


def test_a_held_payload_survives_the_growth_of_the_buffer() -> None:
    """A large message behind a small one would raise BufferError on the io thread."""
    reader = FrameReader()
    large = server_frame(TEXT, b"y" * 2_000_000)
    begin = server_frame(TEXT, b"small") + large[:1000]
    reader.space()[: len(begin)] = begin
    reader.received(len(begin))
    (held,), event = reader.cut()
    assert event is None
    assert read(reader, large[1000:], [100_000]) == ["y" * 2_000_000]
    assert len(held) == len("small")


FORBIDDEN = {
    **{f"reserved bit {bit:#x}": server_frame(TEXT, b"x", reserved=bit) for bit in (0x40, 0x20, 0x10)},
    "reserved bit of a ping": server_frame(PING, b"x", reserved=0x40),
    **{f"opcode {opcode:#x}": server_frame(opcode, b"x") for opcode in (*range(3, 8), *range(11, 16))},
    "masked": server_frame(TEXT, b"abcdefgh", masked=0x80),
    "masked and empty": server_frame(PING, b"", masked=0x80),
    "ping of 126 bytes": server_frame(PING, b"x" * 126),
    "ping of 70,000 bytes": server_frame(PING, b"x" * 70_000),
    "ping in fragments": server_frame(PING, b"x", fin=False),
    "close in fragments": server_frame(CLOSE, b"", fin=False),
    "close of 126 bytes": server_frame(CLOSE, struct.pack("!H", 1000) + b"x" * 124),
    "half a close code": server_frame(CLOSE, b"\x03"),
    "continuation of nothing": server_frame(CONT, b"x"),
    "beginning with a continuation": server_frame(CONT, b"x", fin=False),
    "text inside a message": server_frame(TEXT, b"x", fin=False) + server_frame(TEXT, b"y"),
    "binary inside a message": server_frame(BINARY, b"x", fin=False) + server_frame(BINARY, b"y", fin=False),
    "continuation after the end": server_frame(TEXT, b"x", fin=False) + server_frame(CONT) + server_frame(CONT),
}


@pytest.mark.parametrize("stream", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_the_rfc_forbids_ends_the_stream_with_1002(stream: bytes) -> None:
    """A broken or hostile peer would be believed, or the good message before its fault lost."""
    seen = read(FrameReader(), server_frame(TEXT, b"good") + stream + server_frame(TEXT, b"after"), [100_000])
    assert seen[0] == "good"
    assert isinstance(seen[-1], Violation)
    assert seen[-1].code == 1002
    assert "after" not in seen


NOT_UTF8 = {
    "beyond 64 KiB": server_frame(TEXT, b"x" * 70_000 + b"\xff"),
    "cut off": server_frame(TEXT, b"\xe2\x82"),
    "in a first fragment": server_frame(TEXT, b"\xed\xa0\x80", fin=False),
    "in a middle fragment": server_frame(TEXT, b"a", fin=False) + server_frame(CONT, b"\xff", fin=False),
    "across an edge": server_frame(TEXT, b"\xed", fin=False) + server_frame(CONT, b"\xa0\x80"),
    "cut off by the end": server_frame(TEXT, b"\xe2", fin=False) + server_frame(CONT, b"\x82"),
    "cut off by an empty end": server_frame(TEXT, b"\xe2\x82", fin=False) + server_frame(CONT),
    "the second of three": server_frame(TEXT, b"{}") + server_frame(TEXT, b"\xff") + server_frame(TEXT, b"{}"),
}


@pytest.mark.parametrize("stream", NOT_UTF8.values(), ids=NOT_UTF8.keys())
def test_text_that_is_not_utf8_ends_the_stream_with_1007(stream: bytes) -> None:
    """Handlers would get replaced characters, or an exception far from its cause."""
    reader = FrameReader()
    seen = read(reader, stream, [100_000])
    assert isinstance(seen[-1], Violation)
    assert seen[-1].code == 1007
    assert reader.cut() == ([], seen[-1])


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=3))
def test_a_text_is_taken_exactly_when_python_can_decode_it(data: bytes, edges: list[int]) -> None:
    """Whole and fragmented texts would be judged differently."""
    cuts = sorted(min(edge, len(data)) for edge in edges)
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    stream = b"".join(
        server_frame(CONT if index else TEXT, part, fin=index == len(parts) - 1) for index, part in enumerate(parts)
    )
    seen = only(stream)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert isinstance(seen, Violation)
        assert seen.code == 1007
    else:
        assert seen == text


def test_small_fragments_cannot_outgrow_the_limit() -> None:
    """Endless small fragments would fill the memory."""
    stream = server_frame(BINARY, b"x" * 10, fin=False) + server_frame(CONT, b"x" * 10, fin=False) * 9
    assert read(FrameReader(100), stream, [1000]) == []
    (seen,) = read(FrameReader(100), stream + server_frame(CONT, b"x", fin=False), [1000])
    assert isinstance(seen, Violation)
    assert seen.code == 1009


def test_exactly_the_registered_close_codes_are_taken() -> None:
    """A server's reason for closing would be taken for a fault of the protocol, or the reverse."""
    registered = {1000, 1001, 1002, 1003, *range(1007, 1015)}
    for code in [0, 999, *range(1000, 1017), 1100, 2999, 3000, 4999, 5000, 65535]:
        payload = struct.pack("!H", code) + "Grüße".encode()
        seen = only(server_frame(CLOSE, payload))
        if code in registered or 3000 <= code <= 4999:
            assert seen == Frame(CLOSE, payload)
            assert parse_close(payload) == (code, "Grüße")
        else:
            assert isinstance(seen, Violation)
            assert seen.code == 1002
    assert only(server_frame(CLOSE)) == Frame(CLOSE, b"")


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 65535, 65536, 1_000_000])
def test_sent_frames_of_every_length_form_read_back(size: int) -> None:
    """Messages of some sizes would be refused by every server."""
    payload = (b"0123456789" * (size // 10 + 1))[:size]
    frame = encode_frame(TEXT, payload, b"\x01\x02\x03\xff")
    assert client_frames(frame) == [(TEXT, payload)]
    assert len(frame) - size == 6 + (2 if 126 <= size < 65536 else 8 if size >= 65536 else 0), "the shortest form"


def test_a_flood_of_silent_frames_lets_the_caller_look_up() -> None:
    """Whoever reads could not be stopped before the end of the flood."""
    stream = (
        server_frame(TEXT, b"a", fin=False) + server_frame(CONT, b"", fin=False) * 10_000 + server_frame(CONT, b"b")
    )
    assert read(FrameReader(), stream, [len(stream)]) == [frames.PAUSE, frames.PAUSE, "ab"]
