"""What the library itself says about a message never comes from the wire."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from finx_sync.messages import Message
from finx_sync.venues.finx import parse_reply
from finx_sync.venues.ftx.messages import FtxEvents
from tests.fuzzing.payloads import VENUES, Venue
from tests.scripted import CONTRACT, TICK

VALUES: tuple[Any, ...] = (5.0, 0, True, None, "x", [], ["pair"], ["instrument_name", "market"], {"a": 1})


def every_message_type(kind: type[Message] = Message) -> Iterator[type[Message]]:
    """All that are defined."""
    yield kind
    for one in kind.__subclasses__():
        yield from every_message_type(one)


NAMES = sorted(
    name
    for name in {field.encode_name for kind in every_message_type() for field in msgspec.structs.fields(kind)}
    if name.startswith("@")
)
MAPS = (("types",), ("foreignKeys",), ("attributes",), ("data", "data"))
"""Objects whose keys are names of the server's choice, so that any name is one."""


def with_internal(value: Any, extra: dict[str, Any], at: tuple[str, ...] = ()) -> Any:
    """The same with these fields in every object."""
    if isinstance(value, dict):
        inner = {name: with_internal(one, extra, (*at, name)) for name, one in value.items()}
        return inner if any(at[-len(one) :] == one for one in MAPS) else {**extra, **inner}
    if isinstance(value, list):
        return [with_internal(one, extra, at) for one in value]
    return value


def messages_of(message: Any) -> list[Message]:
    """It, and those inside."""
    return [message, *message.events] if isinstance(message, FtxEvents) else [message]


def test_there_are_such_fields() -> None:
    """The test would try nothing."""
    assert {"@received_at", "@backfilled", "@absent"} <= set(NAMES)


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("venue", VENUES.values(), ids=list(VENUES))
def test_a_server_cannot_set_them(venue: Venue, value: Any) -> None:
    """Old prices would pass for new ones, live ones for backfilled, and fields that are there for missing."""
    plain, evil = venue.stream()._codec, venue.stream()._codec
    seen = 0
    for frame in venue.frames:
        changed = with_internal(copy.deepcopy(frame), dict.fromkeys(NAMES, value))
        (expected,) = plain.decode([json.dumps(frame, separators=(",", ":")).encode()])
        (found,) = evil.decode([json.dumps(changed, separators=(",", ":")).encode()])
        assert type(found) is type(expected), changed
        if not isinstance(found, Message):
            continue
        for one, other in zip(messages_of(found), messages_of(expected), strict=True):
            seen += 1
            assert (one.received_at, one.backfilled) == (0.0, False)
            assert one.absent == other.absent
            assert one.name_of(one) == other.name_of(other)
            assert getattr(one, "market", None) == getattr(other, "market", None)
    assert seen


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_nor_in_a_reply(value: Any) -> None:
    """A page of history would claim that its rows were received, or have no price."""
    extra = dict.fromkeys(NAMES, value)
    for frame in (CONTRACT, TICK, {"0": TICK, "1": TICK}):
        text = json.dumps(with_internal(frame, extra), separators=(",", ":"))
        if "0" in frame:  # rows are numbered: anything else beside them makes it another shape
            text = json.dumps({number: with_internal(TICK, extra) for number in "01"}, separators=(",", ":"))
        found, expected = parse_reply(text), parse_reply(json.dumps(frame, separators=(",", ":")))
        assert found == expected
