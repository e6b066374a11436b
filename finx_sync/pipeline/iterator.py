"""A blocking iterator's own queue, filled by the dispatch thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from finx_sync.errors import FinxSyncError, StreamTimeoutError
from finx_sync.interrupts import LONGEST_WAIT
from finx_sync.state import ENDED, State, StateChange

__all__ = ["M", "MessageIterator", "OpenIterators"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    M = TypeVar("M", default=Any)  # so that `Stream` alone is a type too
else:
    from typing import TypeVar

    M = TypeVar("M")

_END: Final = object()
"""Queued behind the last message; whoever meets it puts it back for the next one."""


class MessageIterator(Iterator[M]):
    """Messages as they come; drops its oldest when nobody reads, and counts what it dropped.

    So an iterator that was abandoned never delays a handler and never grows. `put` is for the dispatch thread, the rest
    for any. There is no lock: a reader that a signal interrupts holds up nobody.

    Args:
        size: messages to keep.
        timeout: seconds that `next` waits; None for ever.
        on_close: called once, when the iterator is closed or has come to its end.
    """

    def __init__(self, size: int, timeout: float | None, on_close: Callable[[MessageIterator[M]], object]) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._size = size
        self._timeout = timeout
        self._on_close = on_close
        self._closed = False
        self._failure: FinxSyncError | None = None
        self.dropped = 0

    def put(self, message: M) -> None:
        """Add a message."""
        if self._queue.qsize() >= self._size:
            self._drop_oldest()
        self._queue.put(message)

    def _drop_oldest(self) -> None:
        try:
            oldest = self._queue.get_nowait()
        except Empty:  # read just now
            return
        if oldest is _END:
            self._queue.put(_END)
        else:
            self.dropped += 1

    def end(self, failure: FinxSyncError | None = None) -> None:
        """No more messages come; what waits is still given out, then `failure` raised."""
        self._failure = failure or self._failure
        self._queue.put(_END)

    def __next__(self) -> M:
        return self.next(self._timeout)

    def next(self, timeout: float | None) -> M:
        """The next message.

        Args:
            timeout: seconds to wait; None for ever.

        Raises:
            StopIteration: the stream has ended in order.
            StreamTimeoutError: none came in time; the iterator can go on.
            FinxSyncError: why the stream failed.
        """
        message: Any = self._get(timeout)
        if message is not _END:
            got: M = message
            return got
        self._queue.put(_END)
        self.close()
        if self._failure is not None:
            raise self._failure
        raise StopIteration

    def _get(self, timeout: float | None) -> Any:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LONGEST_WAIT if deadline is None else min(LONGEST_WAIT, deadline - time.monotonic())
            try:
                return self._queue.get(timeout=max(0.0, left))
            except Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    raise StreamTimeoutError(f"no message within {timeout:g} s") from None

    def forked(self, why: FinxSyncError) -> None:
        """In the child of a fork no message comes: raise `why` instead of waiting for one."""
        self._queue = SimpleQueue()
        self._closed = True
        self.end(why)

    def close(self) -> None:
        """Take no more messages."""
        if not self._closed:
            self._closed = True
            self.end()
            self._on_close(self)

    def __enter__(self) -> MessageIterator[M]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OpenIterators:
    """The iterators of a stream that may still be read. Any thread."""

    def __init__(self) -> None:
        self._all: set[MessageIterator] = set()

    def add(self, iterator: MessageIterator) -> None:
        """It is to end with the stream."""
        self._all.add(iterator)

    def discard(self, iterator: MessageIterator) -> None:
        """It has been closed."""
        self._all.discard(iterator)

    def state_changed(self, change: StateChange) -> None:
        """At once, on whichever thread changed the state."""
        if change.new in ENDED:
            for iterator in list(self._all):
                iterator.end(change.reason if change.new is State.FAILED else None)

    def forked(self, why: FinxSyncError) -> None:
        """In the child of a fork no message comes."""
        for iterator in list(self._all):
            iterator.forked(why)
