"""Whatever a server sends, a codec makes one thing of each payload and raises nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.venues.base import Codec
from finx_sync.venues.deribit import DeribitCodec
from finx_sync.venues.ime import ImeCodec
from tests.venues.deribit.test_codec import A_CHANNEL, B_CHANNEL, OPTION, PERPETUAL, note
from tests.venues.ime.test_codec import NOTHING, frame

CODECS = (DeribitCodec("wss://host"), ImeCodec("wss://host"))
WHOLE = (
    note(A_CHANNEL, OPTION),
    note("ticker.BTC-PERPETUAL.100ms", PERPETUAL),
    note(B_CHANNEL, {"timestamp": 1, "price": 1.0, "index_name": "btc_usd"}),
    json.dumps({"jsonrpc": "2.0", "id": 3, "result": [A_CHANNEL]}),
    json.dumps({"jsonrpc": "2.0", "id": 3, "error": {"code": 1, "message": "x"}}),
    '{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}',
    frame(NOTHING),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A message of which a piece was replaced."""
    whole = draw(st.sampled_from(WHOLE)).encode()
    begin = draw(st.integers(0, len(whole)))
    end = draw(st.integers(begin, min(len(whole), begin + 40)))
    return whole[:begin] + draw(st.binary(max_size=8)) + whole[end:]


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """A message in which some value, at any depth, is another."""
    value = json.loads(draw(st.sampled_from(WHOLE)))
    place = value
    while True:
        key = draw(st.sampled_from(sorted(place)))
        if not (isinstance(place[key], dict) and place[key] and draw(st.booleans())):
            break
        place = place[key]
    place[key] = draw(JSON)
    return json.dumps(value, separators=(",", ":")).encode()


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.venue)
@given(
    payloads=st.lists(st.binary(max_size=60) | damaged() | altered() | JSON.map(json.dumps).map(str.encode), max_size=5)
)
def test_one_thing_for_each_payload(codec: Codec, payloads: list[bytes]) -> None:
    """A hostile message would end the stream, or shift the ones behind it."""
    assert len(codec.decode(payloads)) == len(payloads)
    if codec.reflex is not None:
        codec.reflex(payloads)
