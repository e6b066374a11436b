"""The newest message of each name, kept as it came.

A decoded message is some forty small objects. To keep a thousand of them, and let go of one for each that comes, costs
a sixth of the throughput: by then they have left the processor's cache. A payload is one object, so that is what is
kept, and decoded again when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from finx_sync.messages import Message

__all__ = ["MAX_BYTES", "MAX_NAMES", "WEIGH_AFTER", "LastTable", "LastValues", "set_field"]

MAX_NAMES: Final = 50_000
"""Names of one type whose last value is kept; beyond, the older half goes."""
MAX_BYTES: Final = 128 * 1024 * 1024
"""Bytes of last values of one type; beyond, the older ones go until half of it is left."""
WEIGH_AFTER: Final = 64 * 1024 * 1024
"""Bytes that are received between two looks at `MAX_BYTES`: to weigh a table means to look at each of its entries."""
DECODED: Final = 8
"""How many times its JSON a decoded message takes, roughly."""

set_field: Final = msgspec.structs.force_setattr
"""Past `frozen`: this is how a decoded message is completed, before anyone sees it."""

Entry = Message | tuple[bytes, float]
"""A message that came by no payload of its own, or a payload and when it was received (UNIX seconds)."""


class LastTable:
    """The newest messages of one type. Written by the dispatch thread only; read by any.

    Args:
        decode: payloads to messages, as the codec has it.

    Attributes:
        entries: what is kept, by name; the dispatch thread writes here at the speed of a dictionary.
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
        """The newest message of a name; None when there was none."""
        entry = self.entries.get(name)
        return None if entry is None else self._read(entry)

    def received_at(self, name: str) -> float:
        """When that was received, UNIX seconds; 0.0 when there was none."""
        entry = self.entries.get(name)
        if entry is None:
            return 0.0
        return entry[1] if isinstance(entry, tuple) else entry.received_at

    def values(self) -> list[Any]:
        """The newest message of each name."""
        return [self._read(entry) for entry in list(self.entries.values())]

    def forget_surplus(self) -> None:
        """Keep within `MAX_NAMES`. The dispatch thread only."""
        if len(self.entries) > MAX_NAMES:
            for name in self._oldest_first()[: len(self.entries) // 2]:
                del self.entries[name]

    def forget_heavy(self) -> None:
        """Keep within `MAX_BYTES`. The dispatch thread only, whenever `WEIGH_AFTER` bytes more have been received."""
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
    """About how many bytes an entry keeps."""
    if isinstance(entry, tuple):
        return len(entry[0])
    try:
        return DECODED * len(msgspec.json.encode(entry))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):  # its values need not be JSON's
        return DECODED


LastValues = dict[type[Message], LastTable]
"""By message type; the types in it are the venue's own."""
