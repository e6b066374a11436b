"""A blocking iterator's own queue, filled by the dispatch thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from finx_sync.errors import FinxSyncError, StreamTimeoutError

__all__ = ["Feed"]


class Feed(Iterator[Any]):
    """Messages as they come; drops its oldest when nobody reads, and counts what it dropped.

    So an iterator that was abandoned never delays a handler and never grows. `put` and `end` are for any thread.

    Args:
        size: messages to keep.
        timeout: seconds that `next` waits; None for ever.
        on_close: called once, when the iterator is closed or has come to its end.
    """

    def __init__(self, size: int, timeout: float | None, on_close: Callable[[Feed], object]) -> None:
        self._condition = threading.Condition()
        self._queue: deque[Any] = deque()
        self._size = size
        self._timeout = timeout
        self._on_close = on_close
        self._ended = False
        self._closed = False
        self._failure: FinxSyncError | None = None
        self.dropped = 0

    def put(self, message: Any) -> None:
        """Add a message."""
        with self._condition:
            if len(self._queue) >= self._size:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(message)
            self._condition.notify()

    def end(self, failure: FinxSyncError | None = None) -> None:
        """No more messages come; what waits is still given out, then `failure` raised."""
        with self._condition:
            self._ended, self._failure = True, failure
            self._condition.notify_all()

    def __next__(self) -> Any:
        return self.next(self._timeout)

    def next(self, timeout: float | None) -> Any:
        """The next message.

        Args:
            timeout: seconds to wait; None for ever.

        Raises:
            StopIteration: the stream has ended in order.
            StreamTimeoutError: none came in time; the iterator can go on.
            FinxSyncError: why the stream failed.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self._queue or self._ended, timeout):
                raise StreamTimeoutError(f"no message within {timeout:g} s")
            if self._queue:
                return self._queue.popleft()
        self.close()
        if self._failure is not None:
            raise self._failure
        raise StopIteration

    def forked(self, why: FinxSyncError) -> None:
        """In the child of a fork no message comes: raise `why` instead of waiting for one."""
        self._condition = threading.Condition()
        self._queue.clear()
        self._ended = self._closed = True
        self._failure = why

    def close(self) -> None:
        """Take no more messages."""
        if not self._closed:
            self._closed = True
            self.end(self._failure)
            self._on_close(self)

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
