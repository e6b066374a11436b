"""A recording made by an earlier version of the library: handlers receive the same as they did then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finx_sync import Gap, StateChange, StreamManager

DATA = Path(__file__).with_name("earlier")


def shown(item: Any) -> list[Any]:
    """Return what a handler received, in the form of the data that is stored with the recording."""
    if isinstance(item, Gap):
        return ["gap", item.start, item.end, list(item.names), item.reason]
    if isinstance(item, StateChange):
        return ["state", item.old.value, item.new.value, str(item.reason) if item.reason else None]
    return [type(item).__name__, item.name, item.received_at, str(getattr(item, "timestamp", ""))]


def test_a_recording_of_two_connections_a_cut_and_a_replacement_replays_as_it_was() -> None:
    """After an update, existing recordings would be unreadable, or silently be read differently."""
    seen: list[Any] = []
    stream = StreamManager("sandbox-key", url="ws://127.0.0.1:9", overlap=0.5)
    stream.on_contract(lambda tick: seen.append(shown(tick)))
    stream.on_spot(lambda tick: seen.append(shown(tick)))
    stream.on_gap(lambda gap: seen.append(shown(gap)))
    stream.on_state(lambda change: seen.append(shown(change)))
    stream.replay(DATA / "v2.finxrec", speed="max")
    live = json.loads((DATA / "v2.json").read_text())
    assert seen == live["seen"]
    assert stream.stats().messages.received == live["messages"]
