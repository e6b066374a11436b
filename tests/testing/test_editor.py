"""The proxy's own reader of frames: passes all it is not told to change, and damages what it is told to."""

from __future__ import annotations

import itertools
import json
import struct
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from finx_sync.testing.editor import DAMAGE, Conversation, FrameEditor, WholeFrame, close_frame, http_answer
from tests.servers import server_frame

REQUEST = (
    b"GET /streaming HTTP/1.1\r\nHost: 127.0.0.1:9\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Key: abc\r\n\r\n"
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"

payloads = st.one_of(st.binary(max_size=40), st.sampled_from((125, 126, 65535, 65536)).map(bytes))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A stream of valid frames, as a server or a client writes it."""
    mask = draw(st.booleans())
    made = draw(st.lists(st.tuples(st.sampled_from((Opcode.BINARY, Opcode.PING, Opcode.CLOSE)), payloads), max_size=6))
    return b"".join(Frame(opcode, data[: 125 if opcode >= 8 else None]).serialize(mask=mask) for opcode, data in made)


def fed(editor: FrameEditor, data: bytes, cuts: list[int]) -> bytes:
    """What goes on of `data` that comes in pieces."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return b"".join(editor.feed(data[begin:end]) for begin, end in itertools.pairwise(edges))


@given(frames(), st.lists(st.integers(0, 200_000), max_size=6))
def test_whatever_is_not_touched_passes_unchanged(stream: bytes, cuts: list[int]) -> None:
    """The proxy would break connections all by itself."""
    assert fed(FrameEditor(), stream, cuts) == stream


@given(st.lists(st.tuples(st.booleans(), payloads), max_size=6), st.lists(st.integers(0, 200_000), max_size=6))
def test_mute_swallows_messages_and_lets_control_frames_pass(made: list[tuple[bool, bytes]], cuts: list[int]) -> None:
    """A muted peer would look dead instead of quiet, or would send half messages."""
    editor = FrameEditor()
    editor.muted = True
    data = [Frame(Opcode.PING if is_ping else Opcode.TEXT, body[: 125 if is_ping else None]) for is_ping, body in made]
    stream = b"".join(frame.serialize(mask=False) for frame in data)
    expected = b"".join(frame.serialize(mask=False) for frame in data if frame.opcode is Opcode.PING)
    assert fed(editor, stream, cuts) == expected


def test_mute_leaves_no_half_message_behind() -> None:
    """A fragmented message would be cut in the middle: a protocol error where silence was asked for."""
    editor = FrameEditor()
    begin, middle, end = server_frame(1, b"a", fin=False), server_frame(0, b"b", fin=False), server_frame(0, b"c")
    assert editor.feed(begin) == begin
    editor.muted = True
    assert editor.feed(middle + end + server_frame(1, b"d", fin=False)) == middle + end
    editor.muted = False
    assert editor.feed(server_frame(0, b"e") + server_frame(1, b"f")) == server_frame(1, b"f")


@given(st.integers(0, 4), st.lists(st.integers(0, 100), max_size=4))
def test_the_last_frame_comes_between_two_others(at: int, cuts: list[int]) -> None:
    """A close would land inside a message and look like garbage."""
    first, second = server_frame(1, b"abc"), server_frame(2, b"d")
    editor = FrameEditor()
    passed = editor.feed(first[:at])
    editor.end_with(close_frame(4000, "x"))
    passed += editor.feed(b"") + fed(editor, first[at:] + second, cuts)
    boundary = first if at >= 2 else b""  # an incomplete header has not been passed on
    assert passed == boundary + server_frame(8, struct.pack("!H", 4000) + b"x")
    assert editor.has_ended


def read_by_another(stream: bytes) -> tuple[State, list[object], BaseException | None]:
    """What the `websockets` project's client makes of a server's bytes."""
    client = Protocol(Side.CLIENT)
    client.receive_data(stream)
    return client.state, client.events_received(), client.parser_exc


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_header_is_always_noticed(seed: int) -> None:
    """A fault would have no effect, and the test that injects it would show nothing."""
    raw = server_frame(1, b'{"a": 1}')
    changed = DAMAGE["header"](WholeFrame(raw, 2, b""), Random(seed))
    assert changed is not None
    assert isinstance(read_by_another(changed[0])[2], ProtocolError)


@pytest.mark.parametrize("mask", [b"", b"\x01\x02\x03\xff"])
@given(text=st.text(min_size=1), seed=st.integers(0, 9))
def test_damaged_utf8_is_no_utf8(mask: bytes, text: str, seed: int) -> None:
    """The damage would be another valid text, which no one can notice."""
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(text.encode())) if mask else text.encode()
    head = b"\x81\x00" + mask
    changed = DAMAGE["utf8"](WholeFrame(head + body, len(head), mask), Random(seed))
    assert changed is not None
    with pytest.raises(UnicodeDecodeError):
        WholeFrame(changed[0], len(head), mask).payload().decode()


@given(
    value=st.dictionaries(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists), max_size=5),
    seed=st.integers(0, 99),
)
def test_damaged_json_is_valid_utf8_and_no_json(value: dict[str, object], seed: int) -> None:
    """The damage would hit a character inside a string, which no one can notice."""
    raw = b"\x81\x00" + json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    changed = DAMAGE["json"](WholeFrame(raw, 2, b""), Random(seed))
    assert changed is not None
    with pytest.raises(json.JSONDecodeError):
        json.loads(changed[0][2:].decode())


def test_damage_waits_for_a_frame_that_suits() -> None:
    """A ping or a text that is no JSON would use the fault up."""
    editor = FrameEditor()
    editor.edit(lambda frame: (DAMAGE["json"](frame, Random(0)) or (None,))[0])
    before = (
        server_frame(9, b"{}") + server_frame(1, b"hello") + server_frame(2, b"{}") + server_frame(1, b"", fin=False)
    )
    assert editor.feed(before) == before
    assert editor.feed(server_frame(0, b"x")) == server_frame(0, b"x")
    assert editor.feed(server_frame(1, b"{}")) != server_frame(1, b"{}")
    assert editor.feed(server_frame(1, b"{}")) == server_frame(1, b"{}")


def test_the_request_names_the_target_and_offers_no_compression() -> None:
    """A server would refuse the proxy's name, or messages would come compressed and could not be damaged."""
    talk = Conversation("ws.example:8000")
    passed = b"".join(talk.from_client(REQUEST[at : at + 7]) for at in range(0, len(REQUEST), 7))
    assert passed == REQUEST.replace(b"Host: 127.0.0.1:9", b"Host: ws.example:8000").replace(
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n", b""
    )


@given(st.lists(st.integers(0, 500), max_size=5))
def test_frames_behind_the_handshake_are_seen(cuts: list[int]) -> None:
    """A first message that comes together with the handshake would escape its fault."""
    talk = Conversation("host")
    talk.from_client(REQUEST)
    talk.down.muted = True
    stream = SWITCHING + server_frame(1, b"x") + server_frame(9, b"y")
    edges = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    passed = b"".join(talk.from_server(stream[begin:end]) for begin, end in itertools.pairwise(edges))
    assert passed == SWITCHING + server_frame(9, b"y")
    assert talk.is_websocket


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (b"\x16\x03\x01", b"\x16\x03\x03"),
        (b"POST / HTTP/1.1\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"GET " + b"x" * 70_000, b"no"),
    ],
)
def test_what_is_no_websocket_passes_untouched(request_bytes: bytes, answer: bytes) -> None:
    """The proxy would serve websockets only."""
    talk = Conversation("host")
    assert talk.from_client(request_bytes) + talk.from_client(b"more") == request_bytes + b"more"
    assert talk.from_server(answer) + talk.from_server(b"more") == answer + b"more"
    assert not talk.is_websocket


def test_a_refused_upgrade_goes_on_as_plain_http() -> None:
    """The next request on a kept-alive connection would be taken for frames, and hang."""
    talk = Conversation("host")
    talk.from_client(REQUEST)
    early = talk.from_client(b"G")  # waits for the rest of a header
    refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    assert talk.from_server(refusal) == refusal
    assert early + talk.from_client(b"ET / HTTP/1.1\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"


def test_an_answer_that_is_no_http_passes() -> None:
    """Bytes would be held for ever."""
    talk = Conversation("host")
    talk.from_client(REQUEST)
    assert talk.from_server(b"SSH-2.0\r\n") == b"SSH-2.0\r\n"


def test_http_answer_is_one_that_others_read() -> None:
    """A client would see a broken answer instead of the status that was asked for."""
    answer = http_answer(429, [("Retry-After", "2")], "slow down")
    assert answer == (
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 9\r\nConnection: close\r\n\r\nslow down"
    )


def test_close_frames_are_read_by_others_as_meant() -> None:
    """The code would arrive as another one."""
    state, _, error = read_by_another(close_frame(4321, "bye"))
    assert state is State.CLOSING
    assert error is None
    assert isinstance(ConnectionClosed, type)
    assert read_by_another(close_frame(None, ""))[2] is None
    assert read_by_another(close_frame(1005, ""))[2] is not None
