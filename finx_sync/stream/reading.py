"""Read a stream without handlers: the newest message, iterators, blocking waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import islice
from typing import Final, Generic

from finx_sync.errors import UsageError
from finx_sync.pipeline.handlers import Handlers, check_handler
from finx_sync.pipeline.iterator import M, MessageIterator, OpenIterators
from finx_sync.pipeline.latest import LastValues
from finx_sync.state import ENDED
from finx_sync.stream.checks import checked_count, checked_names, checked_wait
from finx_sync.stream.run import Run
from finx_sync.venues.base import Codec

__all__ = ["Readable"]

logger = logging.getLogger("finx_sync")

ITERATOR_SIZE: Final = 10_000
"""Messages that an iterator keeps before it drops the oldest one."""


class Readable(Generic[M]):
    """The part of a stream for scripts and the REPL. Any thread may call its methods, except the dispatch thread."""

    _codec: Codec
    _handlers: Handlers
    _latest: LastValues
    _session: Run | None
    _iterators: OpenIterators

    def latest(self, name: str) -> M | None:
        """Return the newest message of a name, or None before the first one. Never waits.

        Raises:
            InvalidInputError: `name` is not text.
        """
        checked_names((name,))
        for table in self._latest.values():
            message: M | None = table.get(name)
            if message is not None:
                return message
        return None

    def ticks(self, *names: str, timeout: float | None = None, size: int = ITERATOR_SIZE) -> MessageIterator[M]:
        """Iterate over messages from now on, blocking between them, until the stream ends.

        The iterator has its own queue of `size` messages. When it is full, the oldest message is dropped and counted in
        `dropped`, so an iterator that nobody reads never delays a handler.

        Args:
            names: only messages of these names; without any, all messages.
            timeout: seconds to wait for each message; None waits for ever.
            size: the number of messages to keep.

        Raises:
            UsageError: the stream is not running, or the calling thread is the dispatch thread.
            InvalidInputError: a name, the timeout or the size is invalid.
            StreamTimeoutError: (while iterating) no message came in time.
            FinxSyncError: the stream failed, before this call or while iterating.
        """
        checked_names(names)
        checked_count("size", size, 1)
        self._refuse_on_dispatch_thread("ticks")
        iterator = MessageIterator[M](size, checked_wait(timeout), self._close_iterator)
        try:
            self._open_iterator(iterator, names)
        except BaseException:
            iterator.close()
            raise
        return iterator

    def __iter__(self) -> MessageIterator[M]:
        """Iterate over all messages (``for tick in stream``), as `ticks` does without arguments."""
        return self.ticks()

    def _open_iterator(self, iterator: MessageIterator[M], names: tuple[str, ...]) -> None:
        """Register a new iterator, and let it receive the messages of some names, or of all if there are none."""
        session = self._session
        if session is None or session.state.state in ENDED:
            failure = None if session is None else session.state.failure
            raise failure or UsageError("the stream is not running; start() it first")
        self._iterators.add(iterator)
        self._fill(iterator, names)
        if session.state.state in ENDED:  # the run may have ended before it knew the iterator
            iterator.end(session.state.failure)

    def _fill(self, iterator: MessageIterator[M], names: tuple[str, ...]) -> None:
        """Let an iterator receive the messages of some names, or of all if there are none."""
        for kind in self._codec.message_types:
            self._handlers.add(kind, iterator.put, names or None)

    def _close_iterator(self, iterator: MessageIterator[M]) -> None:
        self._iterators.discard(iterator)
        self._handlers.remove(iterator.put)
        if iterator.dropped:
            logger.warning("an iterator was read too slowly and dropped %d messages", iterator.dropped)

    def take(self, count: int, *names: str, timeout: float | None = None) -> list[M]:
        """Wait for the next `count` messages; return fewer if the stream is stopped first.

        Args:
            count: the number of messages.
            names: only messages of these names; without any, all messages.
            timeout: seconds to wait for each message; None waits for ever.

        Raises:
            StreamTimeoutError: a message did not come in time.
            InvalidInputError: `count`, a name or the timeout is invalid.
            UsageError, FinxSyncError: as for `ticks`.
        """
        checked_count("count", count, 0)
        checked_names(names)
        checked_wait(timeout)
        self._refuse_on_dispatch_thread("take")
        with MessageIterator[M](
            ITERATOR_SIZE, timeout, self._close_iterator
        ) as iterator:  # first: an interrupt then leaves none behind
            self._open_iterator(iterator, names)
            return list(islice(iterator, count))

    def wait_for(self, predicate: Callable[[M], object], timeout: float | None = None) -> M:
        """Wait for the first message that satisfies `predicate`, which is called on this thread.

        Raises:
            StreamTimeoutError: no such message came within `timeout` seconds.
            HandlerError: `predicate` is not a function of one argument.
            InvalidInputError: the timeout is invalid.
            UsageError, FinxSyncError: as for `ticks`; UsageError also if the stream is stopped first.
        """
        check_handler(predicate)
        checked_wait(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        self._refuse_on_dispatch_thread("wait_for")
        with MessageIterator[M](ITERATOR_SIZE, None, self._close_iterator) as iterator:
            self._open_iterator(iterator, ())
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    message = iterator.next(left)
                except StopIteration:
                    raise UsageError("the stream was stopped before such a message came") from None
                if predicate(message):
                    return message

    def _refuse_on_dispatch_thread(self, method: str) -> None:
        session = self._session
        if session is not None and session.dispatcher.on_this_thread():
            raise UsageError(f"{method}() would wait for the thread that it is called on; call it outside a handler")
