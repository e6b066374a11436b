"""Messages made of the words of each venue's own protocol, in any disorder: no codec raises."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import finx_sync
from finx_sync.errors import UnreadableMessageError
from finx_sync.venues.base import Codec
from finx_sync.venues.bitmex.codec import BitmexCodec
from finx_sync.venues.deribit.codec import DeribitCodec
from finx_sync.venues.finx import FinxCodec, parse_reply
from finx_sync.venues.ftx.codec import FtxCodec
from finx_sync.venues.ime.codec import ImeCodec

VENUES = Path(finx_sync.__file__).parent / "venues"
CODECS: dict[str, tuple[Callable[[], Codec], str]] = {
    "finx": (lambda: FinxCodec("ws://x"), "finx/*.py"),
    "bitmex": (lambda: BitmexCodec("ws://x"), "bitmex/*.py"),
    "deribit": (lambda: DeribitCodec("ws://x"), "deribit/*.py"),
    "ftx": (FtxCodec, "ftx/*.py"),
    "ime": (lambda: ImeCodec("ws://x"), "ime/*.py"),
}
ODD_NUMBERS = (0, -1, 1.5, 10**30, -(10**30), 1e308, 2**63, 2**64)
ODD_TEXTS = ("", " ", "nan", "inf", "-1", "1e999", "0x1", "²", "٣", "\x00", "2022-99-99", "25:61:61", "1" * 400, "A:B")


def vocabulary(pattern: str) -> list[str]:
    """The words of a venue's protocol, as they stand in the source of its codec: keys, types, names."""
    words = set()
    for path in VENUES.glob(pattern):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) <= 30:
                words.add(node.value)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                words.add(node.target.id)
    return sorted(words)


def payloads(words: list[str]) -> st.SearchStrategy[bytes]:
    """Messages out of a venue's words, and rubbish."""
    texts = st.sampled_from(words) | st.sampled_from(ODD_TEXTS) | st.text(max_size=5)
    leaves = st.none() | st.booleans() | st.sampled_from(ODD_NUMBERS) | st.floats(allow_nan=True) | texts
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=6),
        max_leaves=12,
    )
    objects = st.dictionaries(st.sampled_from(words), values, max_size=10)
    written = (objects | values).map(lambda value: json.dumps(value).encode())
    torn = st.tuples(written, st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]])
    return written | torn | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))


@pytest.mark.parametrize("venue", CODECS)
def test_no_payload_makes_a_codec_raise(venue: str) -> None:
    """One odd message would end the stream for good."""
    make, pattern = CODECS[venue]
    words = vocabulary(pattern)
    assert len(words) > 20

    @settings(max_examples=settings.default.max_examples * 2, suppress_health_check=list(HealthCheck))
    @given(st.lists(payloads(words), min_size=1, max_size=4))
    def attack(batch: list[bytes]) -> None:
        codec = make()
        payloads = [bytes(payload) for payload in batch]
        assert len(codec.decode(payloads)) == len(batch)
        if codec.reflex is not None:
            assert all(isinstance(text, str) for text in codec.reflex(payloads))

    attack()


def test_no_reply_of_a_function_is_a_riddle() -> None:
    """A blocking call would raise KeyError from inside the library."""

    @settings(max_examples=settings.default.max_examples * 2, suppress_health_check=list(HealthCheck))
    @given(payloads(vocabulary("finx/*.py")))
    def attack(payload: bytes) -> None:
        try:
            parse_reply(payload.decode("utf-8", "replace"))
        except UnreadableMessageError:
            pass

    attack()
