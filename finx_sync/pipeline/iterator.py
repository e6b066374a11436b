"""Blocking iterators over messages, each with a queue of its own that the dispatch thread fills."""

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
"""Queued after the last message. A reader that gets it puts it back for the next reader."""


class MessageIterator(Iterator[M]):
    """Iterates over messages as they come. If they are not read in time, it drops the oldest and counts them.

    So an abandoned iterator never delays a handler and never grows. `put` is for the dispatch thread; the other methods
    are for any thread. There is no lock, so a reader that a signal interrupts blocks no other thread. The threads only
    share a SimpleQueue, whose operations are atomic, and attributes that are set in one assignment.

    Args:
        size: the number of messages to keep.
        timeout: seconds that `next` waits; None for no limit.
        on_close: called once, when the iterator is closed or exhausted.

    Attributes:
        dropped: how many messages were dropped. Written by the dispatch thread only.
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
        """Add a message. Dispatch thread only."""
        # Only this thread adds messages, so the queue cannot grow between the check and the put.
        if self._queue.qsize() >= self._size:
            self._drop_oldest()
        self._queue.put(message)

    def _drop_oldest(self) -> None:
        try:
            oldest = self._queue.get_nowait()
        except Empty:  # a reader has just emptied it
            return
        if oldest is _END:  # `end` was called meanwhile: readers still need the mark
            self._queue.put(_END)
        else:
            self.dropped += 1

    def end(self, failure: FinxSyncError | None = None) -> None:
        """End the iterator. Waiting messages can still be read; then `failure` is raised, if there is one."""
        self._failure = failure or self._failure  # before the mark, so that whoever reads the mark sees the failure
        self._queue.put(_END)

    def __next__(self) -> M:
        return self.next(self._timeout)

    def next(self, timeout: float | None) -> M:
        """Wait for the next message.

        Args:
            timeout: seconds to wait; None for no limit.

        Raises:
            StopIteration: the stream has ended without an error.
            StreamTimeoutError: no message came in time; the iterator can still be used.
            FinxSyncError: the stream has failed; this is the reason.
        """
        message: Any = self._get(timeout)
        if message is not _END:
            got: M = message
            return got
        self._queue.put(_END)  # for other readers, and for the next call
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
        """Let readers in a forked child, where no message comes, get `why` instead of waiting."""
        self._queue = SimpleQueue()
        self._closed = True
        self.end(why)

    def close(self) -> None:
        """Close the iterator: it takes no more messages."""
        if not self._closed:
            self._closed = True
            self.end()
            self._on_close(self)

    def __enter__(self) -> MessageIterator[M]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OpenIterators:
    """The iterators of a stream that may still be read. Safe to use from any thread.

    Each operation on the set, and each copy of it, is one atomic call, so it needs no lock.
    """

    def __init__(self) -> None:
        self._all: set[MessageIterator] = set()

    def add(self, iterator: MessageIterator) -> None:
        """Add an iterator, which ends with the stream."""
        self._all.add(iterator)

    def discard(self, iterator: MessageIterator) -> None:
        """Remove an iterator that has been closed."""
        self._all.discard(iterator)

    def state_changed(self, change: StateChange) -> None:
        """End all iterators if the stream has ended. Called on the thread that changed the state, at once."""
        if change.new in ENDED:
            for iterator in list(self._all):
                iterator.end(change.reason if change.new is State.FAILED else None)

    def forked(self, why: FinxSyncError) -> None:
        """End all iterators in a forked child, where no message comes."""
        for iterator in list(self._all):
            iterator.forked(why)
