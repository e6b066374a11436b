"""Start and stop a stream, from any thread and in signal handlers, safely under interrupts."""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, TypeVar

from finx_sync import forks
from finx_sync.errors import UsageError
from finx_sync.interrupts import Task, is_inside_a_call, on_main_thread
from finx_sync.pipeline.iterator import M, OpenIterators
from finx_sync.recorder.playback import Playback, Speed
from finx_sync.recorder.reader import RecordingReader
from finx_sync.reporting import logger
from finx_sync.session.session import Session
from finx_sync.state import ENDED, State
from finx_sync.stream.checks import checked_wait
from finx_sync.stream.recordings import Recordable
from finx_sync.stream.run import Run
from finx_sync.stream.termination import Termination

__all__ = ["Lifecycle"]

R = TypeVar("R", Session, Playback)
S = TypeVar("S", bound="Lifecycle[Any]")
T = TypeVar("T")

STOP_TIMEOUT: Final = 5.0
ABANDON_TIMEOUT: Final = 1.0
"""Seconds that an interrupted start waits for its threads; they end later if they need longer."""
LAST_RUN_TIMEOUT: Final = 5.0
"""Seconds that a start waits for the threads of the last run, which may still be draining its queue."""
GRACE: Final = 0.5
"""Seconds beyond its timeout after which a stop gives up waiting."""


@dataclass(eq=False)
class _Attempt:
    """One call of `start`, `run`, `with` or `replay`.

    Attributes:
        stops: the number of stops that signal handlers had requested when this attempt began; if the stream's count
            is higher now, this attempt must end.
        is_cancelled: an interrupt has ended this attempt; whatever it started must be stopped.
        session: the run that it started and has not stopped itself.
        task: the task that starts the run; only on the main thread.
    """

    stops: int
    is_cancelled: bool = False
    session: Run | None = None
    task: Task[Any] | None = None


class Lifecycle(Recordable[M]):
    """The part of a stream that starts and stops it."""

    _iterators: OpenIterators

    def _init_lifecycle(self) -> None:
        # Held while `_session` is replaced. The main thread never takes it: a signal handler that interrupts the main
        # thread calls `stop`, which would then wait for the thread that it interrupted. Reads of `_session` need no
        # lock: they see the old run or the new one, and both accept a stop.
        self._lifecycle = threading.Lock()
        self._preparing = threading.Lock()  # held during `_before_start` and `_after_end`
        self._session: Run | None = None
        self._prepared: Run | None = None  # the run between its `_before_start` and its `_after_end`
        # Only signal handlers, and so only the main thread, increase the count; other threads compare it.
        self._stops = 0  # stops requested in signal handlers that interrupted a call of this library
        self._stopped_early = False  # such a stop came before the interrupted start had read the count
        self._stop_tasks: list[Task[None]] = []

    def start(self, timeout: float | None = None) -> None:
        """Connect in the background; return when the stream is open, or when `stop` has been called meanwhile.

        Args:
            timeout: seconds; None waits as long as connecting may take.

        Raises:
            AuthorizationError: the key was refused.
            ConnectError: the first attempt failed; the subclass says why. Nothing is left running.
            StreamTimeoutError: the stream was not open in time. Nothing is left running.
            InvalidInputError: `timeout` is not a timeout.
            UsageError: the stream is running or being started, a handler of its last run has not returned, or the
                calling thread is the dispatch thread.
            KeyboardInterrupt: Ctrl+C was pressed. Nothing is left running.
        """
        checked_wait(timeout)
        attempt = self._new_attempt()
        try:
            self._start(attempt, timeout)
        except BaseException:
            self._abandon(attempt)
            raise

    def run(self) -> None:
        """Start, and block until the stream ends: by `stop`, by SIGTERM, by Ctrl+C, or by a failure.

        On the main thread, SIGTERM stops the stream, so this call returns and the program continues after it. A
        program that handles or ignores SIGTERM itself keeps its own behaviour.

        Raises:
            FinxSyncError: as for `start`; or the stream failed later.
            KeyboardInterrupt: Ctrl+C was pressed; the stream has been stopped in order. Any other exception of a signal
                handler is raised likewise.
        """
        attempt = self._new_attempt()
        termination = Termination(self.stop, Lifecycle.run.__code__)
        try:
            termination.install()
            self._run(attempt)
        finally:
            termination.restore()

    def _run(self, attempt: _Attempt) -> None:
        try:
            session = self._start(attempt, None)
            session.state.wait(lambda state: state in ENDED, None)
        except BaseException:
            self._abandon(attempt, STOP_TIMEOUT)
            raise
        self._end(session, STOP_TIMEOUT, drain=False)
        if (failure := session.state.failure) is not None:
            raise failure

    def __enter__(self: S) -> S:
        attempt = self._new_attempt()
        try:
            self._start(attempt, None)
            return self
        except BaseException:
            self._abandon(attempt)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, and raise the error that ended the stream, unless the block itself raised one."""
        if forks.is_disowned(self):  # in a forked child: the parent process leaves its own block
            return
        session = self._session
        self._stop_and_wait(STOP_TIMEOUT, drain=False)
        self._release()
        if error is None and session is not None and (failure := session.state.failure) is not None:
            raise failure

    def stop(self, timeout: float = STOP_TIMEOUT, *, drain: bool = False) -> None:
        """Stop the stream. Works from any thread, in any state, in signal handlers and repeatedly; never raises.

        It returns when the threads have ended, or after `timeout` seconds; the log then has a warning that names the
        handler that is still running. Where it cannot wait, it returns at once and the threads end a moment later: in a
        handler, in a signal handler that interrupted a call of this library, and in the predicate of `wait_for`.

        Args:
            timeout: seconds.
            drain: pass the messages received so far to the handlers; otherwise they are dropped, and counted.
        """
        self._stop(sys._getframe().f_back, timeout, drain=drain)

    def _stop(self, caller: FrameType | None, timeout: float, *, drain: bool) -> None:
        session = self._session
        if session is not None and session.dispatcher.on_this_thread():
            self._end(session, timeout, drain=drain)
        elif on_main_thread() and is_inside_a_call(caller):
            self._stops += 1
            self._stopped_early = self._is_beginning(caller)
            self._begin_stop(timeout, drain)
        else:
            self._stop_and_wait(timeout, drain=drain)

    def close(self) -> None:
        """Stop, and close the connections kept between calls. Any thread, repeatedly, but not in signal handlers.

        A `with` statement closes the stream at its end. A closed stream can be started again. A recording continues
        until its own `stop`.
        """
        self._stop(sys._getframe().f_back, STOP_TIMEOUT, drain=False)
        self._release()

    def _release(self) -> None:
        """Close what a venue keeps open between calls; overridden by venues. It may be opened again later."""

    # Starting

    def _new_attempt(self) -> _Attempt:
        stops = self._stops  # read first, so that a signal from here on changes the count
        early = False
        if on_main_thread():
            early, self._stopped_early = self._stopped_early, False
        return _Attempt(stops - early)

    def _is_beginning(self, frame: FrameType | None) -> bool:
        """Return whether a signal interrupted a start of this stream before it had made its attempt."""
        while frame is not None:
            if frame.f_code in _BEGINNINGS and frame.f_locals.get("self") is self:
                return "attempt" not in frame.f_locals
            frame = frame.f_back
        return False

    def _start(self, attempt: _Attempt, timeout: float | None) -> Session:
        self._refuse_on_dispatch_thread("start")
        return self._attempt(attempt, lambda: self._open(attempt, timeout))

    def _attempt(self, attempt: _Attempt, action: Callable[[], T]) -> T:
        if not on_main_thread():
            return action()
        task = Task(action, "finx-sync start")
        attempt.task = task
        task.begin()
        return task.result()

    def _open(self, attempt: _Attempt, timeout: float | None) -> Session:
        session = self._claim(attempt, lambda: Session(self._session_parts(live=True)))
        try:
            with self._preparing:
                if self._session is session and session.state.state is State.NEW:
                    self._finish()  # clean up after the last run, if that has not been done
                    self._prepared = session
                    atexit.register(self._stop_at_exit)
                    self._before_start()
            session.start(timeout)
        except BaseException:
            session.stop(ABANDON_TIMEOUT, drain=False)
            self._tidy(session)
            attempt.session = None
            raise
        return session

    def _claim(self, attempt: _Attempt, make: Callable[[], R]) -> R:
        """Make a new run the current one; of two attempts at once, one raises UsageError."""
        while True:
            with self._lifecycle:
                last = self._session
                if last is None or (last.state.state in OVER and last.has_ended):
                    self._session = attempt.session = session = make()
                    break
            if last.state.state not in OVER:
                state = last.state.state
                what = "being started" if state is State.NEW else state.value
                raise UsageError(f"the stream is {what}; stop() it before starting it again")
            if not last.join(LAST_RUN_TIMEOUT):
                handler = last.dispatcher.running()
                what = f"the handler {handler}" if handler is not None else "a thread"
                raise UsageError(f"{what} of the last run has not returned; the stream can be started when it has")
        # An interrupt or a stop before this line is seen here; one after it finds the run in `attempt` or `_session`.
        if attempt.is_cancelled or self._stops != attempt.stops:
            self._stopped_early = False
            session.stop(STOP_TIMEOUT, drain=False)
        return session

    def _play_back(self, reader: RecordingReader, speed: Speed, play: Callable[[Playback], T]) -> T:
        """Make a playback the current run, and `play` it."""
        attempt = self._new_attempt()

        def make() -> Playback:
            return Playback(self._session_parts(live=False), reader, speed)

        try:
            return play(self._attempt(attempt, lambda: self._claim(attempt, make)))
        except BaseException:
            self._abandon(attempt)
            raise

    def _abandon(self, attempt: _Attempt, timeout: float = ABANDON_TIMEOUT) -> None:
        """Stop whatever the attempt has started or is about to start, after an interrupt or a failure."""
        attempt.is_cancelled = True
        session, task = attempt.session, attempt.task
        if session is not None and not session.dispatcher.on_this_thread():
            self._end(session, timeout, drain=False)
        if task is not None:
            task.wait(timeout)

    def _before_start(self) -> None:
        """Prepare a start; overridden by venues. May raise."""

    def _after_end(self) -> None:
        """Undo `_before_start`; called at least once after it, on any thread."""

    # Ending

    def _stop_and_wait(self, timeout: float, *, drain: bool) -> None:
        if not on_main_thread():
            self._stop_present(timeout, drain)
            return
        deadline = time.monotonic() + timeout + GRACE
        earlier = self._stop_tasks
        for task in (self._begin_stop(timeout, drain), *earlier):
            task.wait(max(0.0, deadline - time.monotonic()))

    def _begin_stop(self, timeout: float, drain: bool) -> Task[None]:
        """Stop the stream on another thread, since a signal handler may interrupt the main thread at any line."""
        task = Task(lambda: self._stop_present(timeout, drain), "finx-sync stop")
        self._stop_tasks = [*(one for one in self._stop_tasks if not one.is_done), task]
        task.begin()
        return task

    def _stop_present(self, timeout: float, drain: bool) -> None:
        with self._lifecycle:
            session = self._session
        if session is not None:
            self._stop_session(session, timeout, drain)

    def _end(self, session: Run, timeout: float, *, drain: bool) -> None:
        """Stop the given run, whether or not it is the current one."""
        if session.dispatcher.on_this_thread() or not on_main_thread():
            self._stop_session(session, timeout, drain)
            return
        task = Task(lambda: self._stop_session(session, timeout, drain), "finx-sync stop")
        task.begin()
        task.wait(timeout + GRACE)

    def _stop_session(self, session: Run, timeout: float, drain: bool) -> None:
        if not session.stop(timeout, drain=drain) and not session.dispatcher.on_this_thread():
            handler = session.dispatcher.running()
            what = f"the handler {handler} has not returned" if handler is not None else "a thread has not ended"
            logger.warning("stop() gave up after %g s: %s", timeout, what)
            return
        self._tidy(session)

    def _tidy(self, session: Run) -> None:
        """Clean up after a run that has ended, unless another thread has done so."""
        with self._preparing:
            if self._prepared is session:
                self._finish()
                atexit.unregister(self._stop_at_exit)

    def _finish(self) -> None:
        if self._prepared is not None:
            self._prepared = None
            self._after_end()

    def _stop_at_exit(self) -> None:
        self._stop_present(1.0, drain=False)

    def _forked(self) -> None:
        """Give up a running stream in the child of a fork: it belongs to the parent. The interpreter calls this.

        The child has only this thread, so locks that another thread may have held at the fork are replaced.
        """
        session = self._session
        self._preparing = threading.Lock()
        self._stop_tasks = []
        if session is None or session.state.state in ENDED:
            self._lifecycle = threading.Lock()
            if session is not None and session.state.state is State.NEW:  # the parent is starting it
                self._session = self._prepared = None
            return
        atexit.unregister(self._stop_at_exit)
        session.reset_after_fork()
        why = (
            f"this {type(self).__name__} runs in the process that was forked, and its connection cannot be shared; "
            "make a new one in the child"
        )
        self._iterators.forked(UsageError(why))
        forks.disown(self, why)


OVER: Final = frozenset({State.STOPPED, State.FAILED})
"""Final states. NEW is not one of them: a run in this state is being started."""
_BEGINNINGS: Final[tuple[CodeType, ...]] = tuple(
    function.__code__ for function in (Lifecycle.start, Lifecycle.run, Lifecycle.__enter__)
)
