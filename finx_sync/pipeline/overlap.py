"""Make before break: two connections carry one name for a moment, and each message is delivered once.

There are no sequence numbers, so payloads are compared. While both connections are open, the old one's messages are
delivered and remembered, and the new one's are held until the same message has come on both. From that message on, the
new connection is complete, and the name *switches* to it. Messages after it that the old connection has delivered come
again on the new one and are duplicates there, payload by payload (a multiset, so true repeats are kept). When one
connection ends, the messages by which it was ahead are known. They are *echoes* when the other one repeats them.

Pure: no clock, no thread.
"""

from __future__ import annotations

import enum
import hashlib
from collections import deque
from typing import Final, Generic, TypeVar

__all__ = ["Overlap", "Verdict", "mark", "skip_to"]

T = TypeVar("T")

REMEMBERED: Final = 4096
"""The number of payloads of one name that are remembered for comparison."""
WHOLE: Final = 1024
"""Bytes; of longer payloads, only a hash is remembered."""


def mark(payload: bytes) -> bytes:
    """The payload, or its hash if it is long, so that large payloads cannot fill the memory."""
    return payload if len(payload) <= WHOLE else hashlib.blake2b(payload).digest()


def skip_to(payload: bytes, payloads: deque[bytes]) -> bool:
    """Remove the mark `payload` and all marks before it. Returns whether it was found; otherwise removes nothing."""
    if payload not in payloads:
        return False
    while payloads.popleft() != payload:
        pass
    return True


class Verdict(enum.Enum):
    """A filter's decision about a message."""

    PASS = enum.auto()
    DUPLICATE = enum.auto()
    HOLD = enum.auto()
    """The filter delivers it later; until then it is in flight."""


class Overlap(Generic[T]):
    """The switch of one name from the old connection to the new one.

    Attributes:
        switched: whether the new connection has taken over.
        kept: the new connection's messages that are held until the switch, in order; the owner delivers those that
            `old` or `finish` leaves there.
    """

    def __init__(self) -> None:
        self.switched = False
        self.kept: deque[tuple[bytes, T]] = deque()
        self._recent: deque[bytes] = deque(maxlen=REMEMBERED)
        self._owed: deque[bytes] = deque(maxlen=REMEMBERED)  # delivered, and still to come on the new connection
        # Since the switch:
        self._ahead: deque[bytes] = deque(maxlen=REMEMBERED)  # came on the new connection, not yet on the old one
        self._behind: deque[bytes] = deque(maxlen=REMEMBERED)  # came on the old connection, not yet on the new one

    def old(self, payload: bytes) -> Verdict:
        """Decide about a message of the old connection. After PASS with `switched`, deliver it and then `kept`."""
        payload = mark(payload)
        if self.switched:
            if not skip_to(payload, self._ahead):
                self._behind.append(payload)
            return Verdict.DUPLICATE
        self._recent.append(payload)
        if self.kept and self.kept[0][0] == payload:  # the new connection was ahead
            self.kept.popleft()
            self._switch()
            self._ahead.extend(kept for kept, _ in self.kept)
        return Verdict.PASS

    def new(self, payload: bytes, message: T) -> Verdict:
        """Decide about a message of the new connection. HOLD means that it is in `kept` now."""
        payload = mark(payload)
        if self.switched:
            if payload in self._owed:
                self._owed.remove(payload)
                return Verdict.DUPLICATE
            if not skip_to(payload, self._behind):
                self._ahead.append(payload)
            return Verdict.PASS
        if not self.kept and payload in self._recent:  # the old connection was ahead
            recent = list(self._recent)
            self._owed.extend(recent[recent.index(payload) + 1 :])
            self._switch()
            return Verdict.DUPLICATE
        self.kept.append((payload, message))
        return Verdict.HOLD

    def finish(self) -> bool:
        """Switch to the new connection, since the old one is closing. Returns whether messages may have been lost."""
        if self.switched:
            return False
        unproven = bool(self.kept or self._recent)
        if not self.kept:  # it may be behind the old one
            self._owed.extend(self._recent)
        self._switch()
        return unproven

    @property
    def is_unproven(self) -> bool:
        """Whether no message has come on the new connection yet."""
        return not (self.switched or self.kept)

    def owed(self) -> deque[bytes]:
        """The marks of messages that came on the old connection but not yet on the new one, in order."""
        return self._owed

    def echoes(self) -> deque[bytes]:
        """The marks of messages that came on the new connection but not yet on the old one, in order."""
        return self._ahead

    def _switch(self) -> None:
        self.switched = True
        self._recent.clear()
