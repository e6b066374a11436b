"""Plain frames, cut in C and in Python: both do the same to every byte, and neither reads or keeps one too many."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.transport import cutting
from finx_sync.transport.cutting import cut_plain_in_python, is_utf8
from tests.servers import server_frame

needs_compiled = pytest.mark.skipif(not cutting.IS_COMPILED, reason="nothing was compiled when finx_sync was installed")

texts = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=60).map(str.encode),
    st.sampled_from([b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe2\x82", "€".encode() * 50, b"x" * 126]),
)
frames = st.one_of(
    texts.map(lambda text: server_frame(1, text)),
    texts.map(lambda text: b"\x81\x7e" + len(text).to_bytes(2, "big") + text),  # a longer length than need be
    st.binary(max_size=6),
    st.builds(server_frame, st.sampled_from([0, 1, 2, 8, 9]), st.binary(max_size=5), fin=st.booleans()),
)


@needs_compiled
@given(st.lists(frames, max_size=8).map(b"".join), st.integers(0, 30), st.integers(0, 30), st.booleans(), st.data())
def test_c_and_python_do_the_same(stream: bytes, skip: int, lack: int, check: bool, data: st.DataObject) -> None:
    """Where a compiler was found, handlers would get other messages than elsewhere."""
    start = min(skip, len(stream))
    end = max(start, len(stream) - lack)
    limit = data.draw(st.sampled_from([0, 3, 125, 126, 70_000]))
    theirs: list[bytes] = [b"before"]
    expected = cut_plain_in_python(stream, start, end, limit, check, theirs)
    for source in (stream, bytearray(stream), bytearray(stream[:end])):
        ours: list[bytes] = [b"before"]
        assert cutting.cut_plain(source, start, end, limit, check, ours) == expected
        assert ours == theirs


@given(st.one_of(st.binary(max_size=40), texts, st.text().map(str.encode)))
def test_text_is_judged_as_python_judges_it(text: bytes) -> None:
    """Broken text would reach a handler, or good text end the connection."""
    try:
        text.decode()
        valid = True
    except UnicodeDecodeError:
        valid = False
    assert is_utf8(text) is valid
    taken: list[bytes] = []
    stream = server_frame(1, text) + b"\x89\x00\x00\x00"  # a ping, which no plain frame is
    stop = cutting.cut_plain(stream, 0, len(stream), 70_000, True, taken)
    assert (stop > 0) is valid
    assert taken == [text] * valid


@needs_compiled
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"", 0, 1, 10, True, []), ValueError),
        ((b"abcd", -1, 4, 10, True, []), ValueError),
        ((b"abcd", 3, 2, 10, True, []), ValueError),
        ((b"abcd", 0, 2**70, 10, True, []), OverflowError),
        (("abcd", 0, 4, 10, True, []), TypeError),
        ((b"abcd", 0, 4, None, True, []), TypeError),
        ((b"abcd", 0, 4, 10, True, ()), TypeError),
        ((b"abcd", 0, 4, 10, True), TypeError),
    ],
)
def test_wrong_calls_of_the_compiled_one_raise(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    """A slip in the reader would read memory that is not its own."""
    with pytest.raises(error):
        cutting.cut_plain(*arguments)


@needs_compiled
def test_the_compiled_one_keeps_nothing() -> None:
    """Each message would leave some bytes behind for ever: good ones, and those that are refused."""
    stream = server_frame(1, b"x" * 700) * 20 + server_frame(1, "ü".encode() * 100) + server_frame(1, b"\xff" * 700)

    def cut(times: int) -> None:
        for _ in range(times):
            taken: list[bytes] = []
            assert cutting.cut_plain(stream, 0, len(stream), 70_000, True, taken) == len(stream) - 704
            assert len(taken) == 21

    tracemalloc.start()
    try:
        cut(10)
        before, _ = tracemalloc.get_traced_memory()
        cut(200)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 700


def test_python_can_be_asked_for() -> None:
    """Who suspects the compiled part could not do without it."""
    program = "from finx_sync.transport import cutting as c; print(c.IS_COMPILED, c.cut_plain is c.cut_plain_in_python)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FINX_SYNC_PURE_PYTHON": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]


def test_a_compiled_one_of_another_revision_is_not_used() -> None:
    """What an older version has left in the folder would do what it did then."""
    program = """
import sys, types
stale = types.ModuleType("finx_sync.transport._cutting")
stale.REVISION, stale.cut_plain = 0, print
sys.modules[stale.__name__] = stale
from finx_sync.transport import cutting
print(cutting.IS_COMPILED)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False"]
