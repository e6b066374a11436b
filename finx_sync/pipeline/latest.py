"""The latest message of each name, stored undecoded.

A decoded message consists of some forty small objects. Keeping a thousand messages, and freeing one for each that
arrives, costs a sixth of the throughput, because the freed objects are no longer in the CPU cache. A payload is one
object. So the payload is stored, and decoded again when a user asks for the message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from finx_sync.messages import Message

__all__ = ["MAX_BYTES", "MAX_NAMES", "WEIGH_AFTER", "LastTable", "LastValues", "set_field"]

MAX_NAMES: Final = 50_000
"""The number of names of one type with a stored value; beyond this, the older half is removed."""
MAX_BYTES: Final = 128 * 1024 * 1024
"""Bytes of stored values of one type; beyond this, the oldest are removed until half of it is left."""
WEIGH_AFTER: Final = 64 * 1024 * 1024
"""Bytes received between two checks of `MAX_BYTES`, since a check has to visit every entry."""
DECODED: Final = 8
"""The approximate ratio of the memory of a decoded message to the length of its JSON."""

set_field: Final = msgspec.structs.force_setattr
"""Sets a field despite `frozen`, to complete a decoded message before anyone else sees it."""

Entry = Message | tuple[bytes, float]
"""A message that has no payload of its own, or a payload and when it was received (UNIX seconds)."""


class LastTable:
    """The latest messages of one type. Written by the dispatch thread only; any thread may read.

    No lock is needed: an entry is an immutable tuple or message, replaced in one dict operation, and readers copy the
    dict's values in one call before they iterate.

    Args:
        decode: the codec's `decode`.

    Attributes:
        entries: the entries by name. The dispatch thread writes to this dict directly, for speed.
    """

    __slots__ = ("_decode", "entries")

    def __init__(self, decode: Callable[[Sequence[bytes]], Sequence[Any]]) -> None:
        self._decode = decode
        self.entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def __setitem__(self, name: str, message: Message) -> None:
        self.entries[name] = message

    def get(self, name: str) -> Any:
        """The latest message of `name`; None if there is none."""
        entry = self.entries.get(name)
        return None if entry is None else self._read(entry)

    def received_at(self, name: str) -> float:
        """When the latest message of `name` was received, UNIX seconds; 0.0 if there is none."""
        entry = self.entries.get(name)
        if entry is None:
            return 0.0
        return entry[1] if isinstance(entry, tuple) else entry.received_at

    def values(self) -> list[Any]:
        """The latest message of each name."""
        return [self._read(entry) for entry in list(self.entries.values())]

    def forget_surplus(self) -> None:
        """Enforce `MAX_NAMES`. Dispatch thread only."""
        if len(self.entries) > MAX_NAMES:
            for name in self._oldest_first()[: len(self.entries) // 2]:
                del self.entries[name]

    def forget_heavy(self) -> None:
        """Enforce `MAX_BYTES`. Called on the dispatch thread each time `WEIGH_AFTER` bytes have been received."""
        sizes = {name: len(name) + _size(entry) for name, entry in self.entries.items()}
        total = sum(sizes.values())
        if total <= MAX_BYTES:
            return
        for name in self._oldest_first():
            if total <= MAX_BYTES // 2:
                return
            total -= sizes[name]
            del self.entries[name]

    def _oldest_first(self) -> list[str]:
        return sorted(self.entries, key=self.received_at)

    def _read(self, entry: Entry) -> Any:
        if not isinstance(entry, tuple):
            return entry
        payload, received_at = entry
        (message,) = self._decode([payload])
        set_field(message, "received_at", received_at)
        return message


def _size(entry: Entry) -> int:
    """The approximate memory that an entry takes, bytes."""
    if isinstance(entry, tuple):
        return len(entry[0])
    try:
        return DECODED * len(msgspec.json.encode(entry))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):  # not every value can be encoded as JSON
        return DECODED


LastValues = dict[type[Message], LastTable]
"""The tables by message type; the types are the venue's own."""
