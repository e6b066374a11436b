"""Make before break: two connections carry one name for a moment, and its messages are handed on once.

There is no sequence number, so payloads are compared. While both connections are open, the old one's messages are
handed on and remembered; the new one's are kept back until one of them is the same on both: from there on the new
connection has everything. What the old one has handed on beyond that point comes once more on the new one, and is a
duplicate there, payload by payload (a multiset: true repeats are kept). When one of the two has gone, what it was ahead
is known, and is an echo when the other one brings it.

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
"""Payloads of one name that the old connection's side remembers."""
WHOLE: Final = 1024
"""Bytes of a payload up to which it is remembered itself; of a longer one its hash is, which is as good to compare."""


def mark(payload: bytes) -> bytes:
    """What is remembered of a payload: so a server cannot fill the memory with thousands of large ones."""
    return payload if len(payload) <= WHOLE else hashlib.blake2b(payload).digest()


def skip_to(payload: bytes, payloads: deque[bytes]) -> bool:
    """Take `payload`, or its mark, out, and what is before it; returns whether it was there."""
    if payload not in payloads:
        return False
    while payloads.popleft() != payload:
        pass
    return True


class Verdict(enum.Enum):
    """What a filter says of a message."""

    PASS = enum.auto()
    DUPLICATE = enum.auto()
    HOLD = enum.auto()
    """The filter hands it on later; until then it is in flight."""


class Overlap(Generic[T]):
    """One name's way from the old connection to the new one.

    Attributes:
        switched: whether the new connection has taken over.
        kept: the new connection's messages that wait for the switch, in order; the owner delivers those that
            `old` or `give_up` leaves there.
    """

    def __init__(self) -> None:
        self.switched = False
        self.kept: deque[tuple[bytes, T]] = deque()
        self._recent: deque[bytes] = deque(maxlen=REMEMBERED)
        self._owed: deque[bytes] = deque(maxlen=REMEMBERED)  # handed on, and still to come on the new connection
        self._ahead: deque[bytes] = deque(maxlen=REMEMBERED)  # of the new one, and not yet of the old one
        self._behind: deque[bytes] = deque(maxlen=REMEMBERED)  # the other way round; both since the switch

    def old(self, payload: bytes) -> Verdict:
        """A message of the old connection. After PASS with `switched`, `kept` follows it."""
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
        """A message of the new connection; HOLD means that it is in `kept` now."""
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
        """The old connection goes: the new one takes over as it is. Returns whether that may have lost messages."""
        if self.switched:
            return False
        unproven = bool(self.kept or self._recent)
        if not self.kept:  # it may be behind the old one
            self._owed.extend(self._recent)
        self._switch()
        return unproven

    @property
    def is_unproven(self) -> bool:
        """Whether nothing has shown that the new connection brings anything."""
        return not (self.switched or self.kept)

    def owed(self) -> deque[bytes]:
        """The marks of what the old connection has brought and the new one has not, in order."""
        return self._owed

    def echoes(self) -> deque[bytes]:
        """The marks of what the new connection has brought and the old one has not, in order."""
        return self._ahead

    def _switch(self) -> None:
        self.switched = True
        self._recent.clear()
