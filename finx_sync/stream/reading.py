"""The blocking ways to look at a stream: the newest message, iterators, waiting."""

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
"""Messages that an iterator keeps before it drops the oldest."""


class Readable(Generic[M]):
    """The part of a stream for scripts and the REPL. Every method is for any thread but the dispatch thread."""

    _codec: Codec
    _handlers: Handlers
    _latest: LastValues
    _session: Run | None
    _iterators: OpenIterators

    def latest(self, name: str) -> M | None:
        """The newest message of a name, None when there was none yet. Never waits.

        Raises:
            InvalidInputError: no name.
        """
        checked_names((name,))
        for table in self._latest.values():
            message: M | None = table.get(name)
            if message is not None:
                return message
        return None

    def ticks(self, *names: str, timeout: float | None = None, size: int = ITERATOR_SIZE) -> MessageIterator[M]:
        """Iterate over messages from now on, blocking between them; ends when the stream does.

        It has its own queue of `size` messages, which drops its oldest and counts them in its `dropped`: an iterator
        that nobody reads never delays a handler.

        Args:
            names: whose; all without.
            timeout: seconds to wait for each message.
            size: messages to keep.

        Raises:
            UsageError: the stream is not running, or this is the dispatch thread.
            InvalidInputError: no name, timeout or size.
            StreamTimeoutError: (while iterating) none came in time.
            FinxSyncError: why the stream failed, before this call or while iterating.
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
        """``for tick in stream``: as `ticks` without arguments."""
        return self.ticks()

    def _open_iterator(self, iterator: MessageIterator[M], names: tuple[str, ...]) -> None:
        """Let a new iterator have the messages of some names, or all without."""
        session = self._session
        if session is None or session.state.state in ENDED:
            failure = None if session is None else session.state.failure
            raise failure or UsageError("the stream is not running; start() it first")
        self._iterators.add(iterator)
        self._fill(iterator, names)
        if session.state.state in ENDED:  # it ended meanwhile, and may have missed the iterator
            iterator.end(session.state.failure)

    def _fill(self, iterator: MessageIterator[M], names: tuple[str, ...]) -> None:
        """Let an iterator have the messages of some names, or all without."""
        for kind in self._codec.message_types:
            self._handlers.add(kind, iterator.put, names or None)

    def _close_iterator(self, iterator: MessageIterator[M]) -> None:
        self._iterators.discard(iterator)
        self._handlers.remove(iterator.put)
        if iterator.dropped:
            logger.warning("an iterator was read too slowly and dropped %d messages", iterator.dropped)

    def take(self, count: int, *names: str, timeout: float | None = None) -> list[M]:
        """Wait for the next `count` messages; fewer when the stream ends in order before.

        Args:
            count: how many.
            names: whose; all without.
            timeout: seconds for each.

        Raises:
            StreamTimeoutError: one did not come in time.
            InvalidInputError: no number of messages.
            UsageError, FinxSyncError: as `ticks`.
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
            StreamTimeoutError: none in `timeout` seconds.
            HandlerError: `predicate` is no function of one argument.
            InvalidInputError: no timeout.
            UsageError, FinxSyncError: as `ticks`; UsageError also when the stream ends first.
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
