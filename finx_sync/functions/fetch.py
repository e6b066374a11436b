"""Fetches the pages of a plan on several threads, each with one short-lived connection at a time.

The caller waits, and its progress function runs on its own thread. Whatever ends the wait (the last page, an error, the
timeout, Ctrl+C) also ends every connection, and the threads are joined before the call returns.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from finx_sync.errors import (
    AuthorizationError,
    ConnectError,
    ConnectionLostError,
    FinxSyncError,
    FunctionTimeoutError,
    ServerRefusedError,
    TLSError,
    UnexpectedReplyError,
    UnreadableMessageError,
)
from finx_sync.functions.backend import Backend, reader
from finx_sync.functions.day import Question
from finx_sync.functions.evidence import Snap
from finx_sync.functions.exchange import Cancel
from finx_sync.functions.paging import Plan
from finx_sync.functions.rows import rows_of_page
from finx_sync.messages import Tick
from finx_sync.redaction import excerpt
from finx_sync.session.backoff import Backoff
from finx_sync.ticks.columns import Columns, ExchangeNames, micros
from finx_sync.ticks.page import DayPage, read_page, same_pair
from finx_sync.venues.finx import HistoryReply, Reply

__all__ = ["Asker", "Fetch", "Progress"]

logger = logging.getLogger("finx_sync")

T = TypeVar("T")

LONGEST_WAIT: Final = 1.0
"""Seconds of one wait; every change ends it earlier."""
PAGE_TIMEOUT: Final = 30.0
"""Seconds for one page."""
ATTEMPTS: Final = 8
"""How often a page is requested before its error is raised."""
FIRST_ATTEMPTS: Final = 3
"""The same before the first answer: an error that occurs this often by then is hardly temporary."""
SNAP_ATTEMPTS: Final = 3
"""The same for a tick snap, which is not essential."""
RETRY: Final = Backoff(first=0.2, cap=5.0)
PROGRESS_INTERVAL: Final = 0.1
"""Seconds between two reports of progress."""
LAST_JOIN: Final = 2.0
"""Seconds for the threads to end, once their connections are closed."""


@dataclass(frozen=True)
class Progress:
    """The progress of a fetch.

    Attributes:
        fraction: of the work, 0 to 1.
        rows: the number of rows so far, including those from the cache.
        pages: the number of pages fetched so far.
        retries: the number of requests that were repeated.
    """

    fraction: float
    rows: int
    pages: int
    retries: int


class Asker:
    """Requests pages and snaps of one pair from one server.

    Args:
        backend: the server.
        pair: like "BTC:USD".
        names: of exchanges.
        cancel: ends calls from another thread.
    """

    def __init__(self, backend: Backend, pair: str, names: ExchangeNames, cancel: Cancel) -> None:
        self._backend = backend
        self._pair = pair
        self._names = names
        self._cancel = cancel

    def _ask(self, function: str, question: Question, timeout: float, read: Callable[[str], Any]) -> tuple[Any, str]:
        params = {"pair": self._pair, "date": question.date}
        if question.after is not None:
            params["time"] = question.after
        return self._backend.ask(function, params, timeout, read, self._cancel)

    def page(self, question: Question, timeout: float) -> DayPage:
        """Request a page of a day.

        Raises:
            FinxSyncError: as `Backend.call`; UnexpectedReplyError if the answer is not a page.
        """
        fallback = reader("tickHistory")

        def read(text: str) -> DayPage | Reply | None:
            page = None
            if text.startswith(('{"0"', "{}")):
                page = read_page(text, self._pair, question.date, self._names)
            return page or rows_of_page(text, self._pair, question.date, self._names) or fallback(text)

        reply, text = self._ask("tickHistory", question, timeout, read)
        if isinstance(reply, DayPage):
            return reply
        raise UnexpectedReplyError(f"tickHistory: the server answered with another shape: {excerpt(text, 200)}")

    def snap(self, question: Question, timeout: float) -> Snap:
        """Request the last tick up to a given time.

        Raises:
            FinxSyncError: as `Backend.call`; UnexpectedReplyError if the answer is not a tick.
        """
        reply, text = self._ask("tickSnap", question, timeout, reader("tickSnap"))
        if isinstance(reply, Tick) and same_pair(reply.pair, self._pair):
            try:
                row = (micros(reply.datetime), reply.exchange, reply.price)
            except (ValueError, OverflowError) as error:
                raise UnreadableMessageError(f"a tick's time: {error}", text) from error
            return Snap(Columns.of([row], self._names))
        if isinstance(reply, HistoryReply) and not reply.rows:
            return Snap()
        raise UnexpectedReplyError(f"tickSnap: the server answered with another shape: {excerpt(text, 200)}")


class Fetch:
    """One run of a plan.

    Args:
        plan: what to ask; from now on guarded by this object's lock.
        asker: sends the requests.
        cancel: the asker's.
        workers: number of threads, each with one connection.
        deadline: on the monotonic clock.
        timeout: the caller's timeout in seconds, for the text of the error.
    """

    def __init__(
        self, plan: Plan, asker: Asker, cancel: Cancel, *, workers: int, deadline: float, timeout: float
    ) -> None:
        self._plan = plan
        self._asker = asker
        self._cancel = cancel
        self._workers = workers
        self._deadline = deadline
        self._timeout = timeout
        # Guards the plan and what follows. A worker holds it to take a question and to hand in the answer, but never
        # while it waits for the server: answers come in any order, and the plan sees one at a time. Whatever may lead
        # to another question, or ends the run, notifies all threads, so none waits for what has already happened.
        self._condition = threading.Condition()
        self._error: BaseException | None = None
        self._retries = 0

    def run(self, notify: Callable[[Progress], object] | None = None) -> None:
        """Run until nothing is left to ask. Blocks the caller's thread, on which `notify` is called as well.

        Raises:
            FunctionTimeoutError: it took longer than the timeout.
            FinxSyncError: a page could not be fetched, even after several attempts.
            KeyboardInterrupt: Ctrl+C was pressed.
        """
        threads = [
            threading.Thread(target=self._work, name=f"finx-sync history {number}", daemon=True)
            for number in range(1, self._workers + 1)
        ]
        try:
            for thread in threads:
                thread.start()
            self._wait(notify)
        finally:
            self._cancel.set()
            with self._condition:
                self._condition.notify_all()
            until = time.monotonic() + LAST_JOIN
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, until - time.monotonic()))
        if self._error is not None:
            raise self._error

    def _wait(self, notify: Callable[[Progress], object] | None) -> None:
        while True:
            with self._condition:
                over = self._condition.wait_for(
                    lambda: self._plan.done or self._error is not None or self._cancel.is_set,
                    min(PROGRESS_INTERVAL if notify else LONGEST_WAIT, max(0.0, self._deadline - time.monotonic())),
                )
                progress = Progress(self._plan.fraction, self._plan.rows, self._plan.pages, self._retries)
            if notify is not None:
                notify(progress)
            if over and self._cancel.is_set and self._error is None and not self._plan.done:
                raise ConnectionLostError("tickHistory: cancelled, since its rows are no longer needed")
            if over:
                return
            if time.monotonic() >= self._deadline:
                raise FunctionTimeoutError(
                    f"tickHistory: not complete within {self._timeout:g} s ({progress.rows} rows after "
                    f"{progress.pages} pages, {progress.fraction:.0%} of the work; they are this error's `history`); "
                    "give it a longer timeout"
                )

    # The workers' threads

    def _work(self) -> None:
        try:
            while (question := self._next()) is not None:
                if question.attempt:  # the last answer to this was wrong: the server may need time
                    self._pause(question.attempt)
                if question.kind == "snap":
                    snap = self._snap(question)
                    with self._condition:
                        self._plan.answer_snap(question, snap)
                        self._condition.notify_all()
                else:
                    page = self._insist(question, self._asker.page)
                    with self._condition:
                        self._plan.answer_page(question, page)
                        self._condition.notify_all()
        except BaseException as error:  # noqa: BLE001  # raised again on the caller's thread
            with self._condition:
                if not self._cancel.is_set and self._error is None:
                    self._error = error
                self._condition.notify_all()

    def _next(self) -> Question | None:
        """Return the next question, waiting while the answers in flight may still lead to one; None at the end."""
        with self._condition:
            while not (self._cancel.is_set or self._error is not None or self._plan.done):
                if (question := self._plan.next()) is not None:
                    return question
                self._condition.wait(LONGEST_WAIT)
        return None

    def _snap(self, question: Question) -> Snap:
        """Request a snap. An error is ignored: it proves nothing, and the pages are useful without the snap."""
        try:
            return self._insist(question, self._asker.snap, SNAP_ATTEMPTS)
        except AuthorizationError:
            raise
        except FinxSyncError as error:
            if self._cancel.is_set:
                raise
            logger.debug("a tick snap failed: %s", error)
            return Snap(failed=True)

    def _insist(self, question: Question, ask: Callable[[Question, float], T], attempts: int = ATTEMPTS) -> T:
        """Repeat a request, with growing pauses, as long as that may help."""
        failures = 0
        while True:
            try:
                return ask(question, max(0.001, min(PAGE_TIMEOUT, self._deadline - time.monotonic())))
            except FinxSyncError as error:
                failures += 1
                most = attempts if self._plan.pages else FIRST_ATTEMPTS
                if self._cancel.is_set or failures >= most or not _may_pass(error):
                    raise
                logger.debug("a page of history failed: %s; trying again", error)
            self._pause(failures)

    def _pause(self, failures: int) -> None:
        with self._condition:
            self._retries += 1
        self._cancel.wait(RETRY.delay(failures, random.random))


def _may_pass(error: FinxSyncError) -> bool:
    """Return whether asking again may help."""
    if isinstance(error, TLSError):
        return False
    passing = (ConnectError, ConnectionLostError, FunctionTimeoutError, ServerRefusedError, UnreadableMessageError)
    return isinstance(error, passing)
