"""Items made into entries, and what goes with these. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from finx_sync.relay import wire
from finx_sync.relay.backlog import Item, Received
from finx_sync.relay.wire import Position

__all__ = ["Call", "CallBuilder", "Entry"]

MAX_ENTRY_BYTES: Final = 512 * 1024
"""Bytes of payloads after which the next entry begins."""

Fields = list[bytes]


@dataclass(slots=True)
class Entry:
    """One entry of a stream.

    Attributes:
        position: its ID.
        records: how many it has.
        size: bytes of its records.
        fields: its fields.
        last: the newest payload of each tag for which that is a whole state, and when it was received, UNIX seconds.
        begins: tags of which it has an image that later messages change.
    """

    position: Position
    records: int = 0
    size: int = 0
    fields: Fields = field(default_factory=list)
    last: dict[bytes, tuple[float, bytes]] = field(default_factory=dict)
    begins: set[bytes] = field(default_factory=set)


@dataclass
class Call:
    """Entries that are written together.

    Attributes:
        entries: in order.
        messages: how many payloads of the venue are in them.
    """

    entries: list[Entry]
    messages: int

    def finish(self, cut: Position | None, channel: Callable[[bytes], bytes] | None) -> list[Any]:
        """The arguments of `script.FINISH`.

        Args:
            cut: the position before which entries are deleted.
            channel: the Pub/Sub channel of a tag; None to publish nothing.
        """
        last: dict[bytes, bytes] = {}
        begins: dict[bytes, str] = {}
        published: list[Any] = []
        for entry in self.entries:
            last.update(
                (tag, wire.last_value(entry.position, at, payload)) for tag, (at, payload) in entry.last.items()
            )
            begins.update(dict.fromkeys(entry.begins, str(entry.position)))
            if channel is not None:
                for tag, payload in wire.pairs_of(entry.fields):
                    if not tag.startswith(wire.TIME):
                        published += (channel(tag), payload)
        values = [part for pair in last.items() for part in pair]
        images = [part for pair in begins.items() for part in pair]
        return [
            str(self.entries[-1].position),
            "" if cut is None else str(cut),
            len(values),
            *values,
            len(images),
            *images,
            *published,
        ]


class CallBuilder:
    """Makes a call of items.

    Args:
        position: of the last record before it.
        is_state: whether the newest payload of a tag says all that is to be known of it.
    """

    def __init__(self, position: Position, is_state: Callable[[bytes], bool]) -> None:
        self._term, self._offset = position
        self._is_state = is_state
        self._entries: list[Entry] = []
        self._at: float | None = None
        self._messages = 0

    def add(self, items: Iterable[Item]) -> CallBuilder:
        """Add items, in order."""
        for item in items:
            if isinstance(item, Received):
                self._messages += len(item.tags)
                self._add_payloads(item)
            else:
                self._extend(self._entry(item.at), [item.name], [wire.notice(**item.content)])
        return self

    def made(self) -> Call:
        """The call."""
        return Call(self._entries, self._messages)

    def _add_payloads(self, item: Received) -> None:
        begin = 0
        while begin < len(item.tags):
            entry = self._entry(item.at)
            end = begin + wire.MAX_PAIRS - len(entry.fields) // 2
            tags = item.tags[begin:end]
            payloads = item.payloads[begin:end]
            self._extend(entry, tags, payloads)
            for tag, payload in dict(zip(tags, payloads, strict=True)).items():
                if self._is_state(tag):
                    entry.last[tag] = (item.at, payload)
            entry.begins.update(item.tags[index] for index in item.begins if begin <= index < end)
            begin = end

    def _entry(self, at: float) -> Entry:
        """The entry that the next records go to, with their time in it and room for one record at least."""
        entry = self._entries[-1] if self._entries else None
        if entry is None or entry.size >= MAX_ENTRY_BYTES or len(entry.fields) // 2 + 2 > wire.MAX_PAIRS:
            entry = Entry(Position(self._term, self._offset))
            self._entries.append(entry)
            self._at = None
        if at != self._at:
            self._at = at
            entry.fields += wire.time_pair(at)
        return entry

    def _extend(self, entry: Entry, tags: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        pairs: list[Any] = [None] * (2 * len(tags))
        pairs[::2], pairs[1::2] = tags, payloads
        entry.fields += pairs
        entry.records += len(tags)
        entry.size += sum(map(len, tags)) + sum(map(len, payloads))
        self._offset += len(tags)
        entry.position = Position(self._term, self._offset)
