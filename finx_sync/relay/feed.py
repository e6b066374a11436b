"""`PartitionFeed`: keeps reading one partition of a feed. One io thread each.

It connects, reads, and connects again after a failure, with the stream's back-off; what it reads goes to its owner.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from finx_sync.errors import ConnectionLostError, FinxSyncError, InternalError
from finx_sync.interrupts import Task
from finx_sync.pipeline.leader import Leadership
from finx_sync.relay.reader import FeedReader, Opening, Read
from finx_sync.session.backoff import Backoff

__all__ = ["FeedOwner", "PartitionFeed"]

logger = logging.getLogger("finx_sync")

BLOCK: Final = 0.25
"""Seconds that one read waits: news from other threads wait no longer than this."""
PAUSED: Final = 0.25
"""The same while reading is held back."""
SILENCE: Final = 5.0
"""Seconds without an entry in any partition after which the relay is gone; it writes at least one each second."""


class FeedOwner(Protocol):
    """Takes what is read. Called on the io threads; only `read` may take time."""

    def tags(self) -> Iterable[bytes] | None:
        """The tags whose last values are read when Redis answers, None for all; called on a thread of its own."""

    def opened(self, feed: PartitionFeed, opening: Opening) -> None:
        """Redis answers; reading begins, or goes on where it was.

        Raises:
            FinxSyncError: this feed cannot be read.
        """

    def read(self, feed: PartitionFeed, parts: list[Read]) -> None:
        """Something was read."""

    def look(self, feed: PartitionFeed) -> None:
        """Called several times a second, between two reads, so that the reader's commands can be used."""

    def changed(self) -> None:
        """`is_connected` or `is_silent` may have changed."""

    def ended(self, feed: PartitionFeed, error: FinxSyncError) -> bool:
        """An attempt has failed, or an open connection has ended; returns whether another attempt follows."""

    def left(self, feed: PartitionFeed) -> None:
        """The io thread is at its end."""

    def fail(self, error: FinxSyncError) -> None:
        """No further attempt follows."""


class PartitionFeed:
    """Reads one partition until it is stopped. All methods but those of `FeedReader` are for any thread.

    Args:
        reader: reads it.
        partition: its number.
        owner: takes what is read.
        backoff: how long to wait between attempts.
        may_move: whether another server may have the feed by now, so that a silent one is not relied on.

    Attributes:
        reader: for the io thread only.
        is_connected: whether Redis answers.
        was_connected: whether the attempt before, at the time of `ended`, had been connected.
        has_left: whether the io thread is at its end; set by the owner.
        is_silent: whether nothing has come for five seconds.
        is_in_hurry: whether another connection was asked for, so that the end of the present one is no failure.
    """

    def __init__(
        self, reader: FeedReader, partition: int, owner: FeedOwner, backoff: Backoff, *, may_move: bool = False
    ) -> None:
        self.reader = reader
        self.partition = partition
        self.is_connected = self.was_connected = self.is_silent = self.has_left = False
        self._owner = owner
        self._backoff = backoff
        self._may_move = may_move
        self._opened_at = 0.0
        self._stopping = threading.Event()
        self._pausing = threading.Event()
        self._wake = threading.Event()  # ends a wait: between attempts, for a connection, or while reading is held back
        self.is_in_hurry = False
        name = "finx-sync io redis" + (f" {partition}" if partition else "")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the io thread."""
        self._thread.start()

    def stop(self) -> None:
        """Make the io thread end, whatever it is doing. Returns at once."""
        self._stopping.set()
        self._wake.set()
        self.reader.interrupt()

    def reconnect(self) -> None:
        """Open another connection at once, in place of the present one. Nothing is missed."""
        self.is_in_hurry = True
        self._wake.set()
        if self.is_connected:
            self.reader.interrupt()

    # The queue's means against too many messages; see `finx_sync.pipeline.leader.Source`

    def pause_reading(self) -> None:
        """Read nothing more until `resume_reading`: the entries wait in Redis."""
        self._pausing.set()

    def resume_reading(self) -> None:
        """Go on reading."""
        self._pausing.clear()
        self._wake.set()

    def hand_over_reading(self, promote: Callable[[Leadership], object] | None) -> None:
        """Do nothing: the io thread alone reads."""

    def wait_while_pausing(self) -> bool:
        """Wait as long as reading is held back; returns False at a stop. On the io thread."""
        self._wait(lambda: not self._pausing.is_set(), None)
        return not self._stopping.is_set()

    def join(self, timeout: float) -> bool:
        """Wait for the io thread's end; returns whether it came."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` has been called."""
        return self._stopping.is_set()

    # The io thread

    def _run(self) -> None:
        try:
            self._keep_reading()
        except BaseException as error:
            crash = InternalError(f"the io thread has crashed: {type(error).__name__}; please report it")
            crash.__cause__ = error
            self._owner.fail(crash)
            logger.critical("the io thread has crashed", exc_info=error)
        finally:
            self.reader.close()
            self._owner.left(self)

    def _keep_reading(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            error = self._attempt()
            self.was_connected, self.is_connected = self.is_connected, False
            if self._stopping.is_set() or not self._owner.ended(self, error):
                return
            was_healthy = time.monotonic() - begun >= self._backoff.healthy_after
            failures = 1 if was_healthy else failures + 1
            delay = 0.0 if self.is_in_hurry else self._backoff.delay(failures, random.random)
            if failures == 1:  # one outage, one warning
                logger.warning("%s; trying again in %.1f s", error, delay)
            self._wait(lambda: self.is_in_hurry, delay)
            self.is_in_hurry = False

    def _wait(self, satisfied: Callable[[], object], timeout: float | None) -> None:
        """Wait for something that sets `_wake`, or for a stop."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._stopping.is_set() and not satisfied():
            left = 1.0 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return
            self._wake.wait(left)
            self._wake.clear()

    def _attempt(self) -> FinxSyncError:
        """Connect, and read until the end; returns why it ended."""
        try:
            opening = self._open()
            if opening is not None:
                self._opened_at = time.monotonic()
                self._owner.opened(self, opening)
                self.is_silent = self._hears_nothing()
                self.is_connected = True
                self._owner.changed()
                while not self._stopping.is_set():
                    self._step()
            return ConnectionLostError("the stream was stopped")
        except FinxSyncError as error:
            return error
        finally:
            self.reader.close()

    def _open(self) -> Opening | None:
        """Connect on a thread that is left behind at a stop: nothing can interrupt looking up a name."""
        task: Task[Opening] = Task(self._open_and_wake, "finx-sync connecting")
        task.begin()
        self._wait(lambda: task.is_done, None)
        return None if self._stopping.is_set() else task.result()

    def _open_and_wake(self) -> Opening:
        try:
            return self.reader.open(self._owner.tags())
        finally:
            self._wake.set()

    def _step(self) -> None:
        if self._pausing.is_set():
            self._wait(lambda: not self._pausing.is_set(), PAUSED)
            self.reader.heard_at = time.monotonic()  # the silence is ours
        elif parts := self.reader.read(BLOCK):
            self._owner.read(self, parts)
        self._owner.look(self)
        if self._hears_nothing() != self.is_silent:
            self.is_silent = not self.is_silent
            self._owner.changed()
        if self.is_silent and self._may_move and time.monotonic() - self._opened_at > SILENCE:
            raise ConnectionLostError("the relay is silent; asking again which server has the feed")

    def _hears_nothing(self) -> bool:
        return time.monotonic() - self.reader.heard_at > SILENCE
