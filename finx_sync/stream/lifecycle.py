"""Starting and ending a stream: from any thread, in signal handlers, and whatever interrupts it."""

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
"""Seconds that an interrupted start waits for its threads; they end in any case."""
LAST_RUN_TIMEOUT: Final = 5.0
"""Seconds that a start waits for the threads of the last run, which has ended or failed but may still drain."""
GRACE: Final = 0.5
"""Seconds beyond its timeout after which a stop is given up on, whatever holds it up."""


@dataclass(eq=False)
class _Attempt:
    """One call of `start`, `run`, `with` or `replay`.

    Attributes:
        stops: how many stops had been asked for in signal handlers before; one more means that this attempt is over.
        is_cancelled: set by an interrupt: whatever it has started is to be stopped.
        session: what it has started, and has not stopped by itself.
        task: what starts it, where this is the main thread.
    """

    stops: int
    is_cancelled: bool = False
    session: Run | None = None
    task: Task[Any] | None = None


class Lifecycle(Recordable[M]):
    """The part of a stream that starts and ends it."""

    _iterators: OpenIterators

    def _init_lifecycle(self) -> None:
        self._lifecycle = threading.Lock()  # guards _session being replaced; never held by the main thread
        self._preparing = threading.Lock()  # held during `_before_start` and `_after_end`
        self._session: Run | None = None
        self._prepared: Run | None = None  # between its `_before_start` and its `_after_end`
        self._stops = 0  # asked for in signal handlers that have interrupted a call
        self._stopped_early = False  # such a stop has come before the interrupted start had read the count
        self._stop_tasks: list[Task[None]] = []

    def start(self, timeout: float | None = None) -> None:
        """Connect in the background; returns when the stream is open, or when `stop` was called meanwhile.

        Args:
            timeout: seconds; None waits as long as connecting may take.

        Raises:
            AuthorizationError: the key was refused.
            ConnectError: the first attempt failed; its kind says how. Nothing is left running.
            StreamTimeoutError: not open in time; nothing is left running.
            InvalidInputError: no timeout.
            UsageError: it runs already or is being started, a handler of its last run has not returned, or this is the
                dispatch thread.
            KeyboardInterrupt: Ctrl+C; nothing is left running.
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

        SIGTERM on the main thread does what `stop` does, so this call returns, and the program goes on to its end:
        unless the program handles or ignores that signal itself.

        Raises:
            FinxSyncError: as `start`; or why the stream failed later.
            KeyboardInterrupt: Ctrl+C, after the stream was stopped in order. So for whatever a signal handler raises.
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
        """Stop; raises what ended the stream, unless the block has raised something itself."""
        if forks.is_disowned(self):  # the parent leaves the block itself
            return
        session = self._session
        self._stop_and_wait(STOP_TIMEOUT, drain=False)
        self._release()
        if error is None and session is not None and (failure := session.state.failure) is not None:
            raise failure

    def stop(self, timeout: float = STOP_TIMEOUT, *, drain: bool = False) -> None:
        """End the stream. From any thread, in every state, in signal handlers, as often as you like; never raises.

        It returns when the threads have ended, or after `timeout` seconds, with a warning in the log that names the
        handler that is still running. Where it cannot wait, it returns at once and the threads end a moment later: in a
        handler, in a signal handler that has interrupted a call of this library, in the predicate of `wait_for`.

        Args:
            timeout: seconds.
            drain: let the handlers have what was received before; otherwise it is dropped, and counted.
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
        """Stop, and close what is kept open between calls; any thread, as often as you like, not in signal handlers.

        A `with` statement does it at its end. The stream can be used again. A recording goes on until its own `stop`.
        """
        self._stop(sys._getframe().f_back, STOP_TIMEOUT, drain=False)
        self._release()

    def _release(self) -> None:
        """A venue closes what it keeps open between calls; it may be opened again."""

    # Starting

    def _new_attempt(self) -> _Attempt:
        stops = self._stops  # first: a signal from here on makes a difference to it
        early = False
        if on_main_thread():
            early, self._stopped_early = self._stopped_early, False
        return _Attempt(stops - early)

    def _is_beginning(self, frame: FrameType | None) -> bool:
        """Whether a signal has interrupted a start of this stream at its very beginning, before it has an attempt."""
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
                    self._finish()  # what the last run has left
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
        """Make a new session the present one, which one attempt can do at a time."""
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
        if attempt.is_cancelled or self._stops != attempt.stops:  # whoever comes later finds the session
            self._stopped_early = False
            session.stop(STOP_TIMEOUT, drain=False)
        return session

    def _play_back(self, reader: RecordingReader, speed: Speed, play: Callable[[Playback], T]) -> T:
        """Make a playback the present session, and `play` it."""
        attempt = self._new_attempt()

        def make() -> Playback:
            return Playback(self._session_parts(live=False), reader, speed)

        try:
            return play(self._attempt(attempt, lambda: self._claim(attempt, make)))
        except BaseException:
            self._abandon(attempt)
            raise

    def _abandon(self, attempt: _Attempt, timeout: float = ABANDON_TIMEOUT) -> None:
        """An interrupt or a failure: leave nothing running that the attempt has started, or is about to start."""
        attempt.is_cancelled = True
        session, task = attempt.session, attempt.task
        if session is not None and not session.dispatcher.on_this_thread():
            self._end(session, timeout, drain=False)
        if task is not None:
            task.wait(timeout)

    def _before_start(self) -> None:
        """A venue's own preparations; may raise."""

    def _after_end(self) -> None:
        """The counterpart: called at least once after `_before_start`, on any thread."""

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
        """Have another thread stop the stream."""
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
        """Stop one session, whichever is the present one."""
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
        """A session has ended: undo what was done for it, if nobody has yet."""
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
        """In the child of a fork, called by the interpreter: a stream that runs stays the parent's."""
        session = self._session
        self._preparing = threading.Lock()
        self._stop_tasks = []
        if session is None or session.state.state in ENDED:
            self._lifecycle = threading.Lock()
            if session is not None and session.state.state is State.NEW:  # being started, by the parent
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
"""States that nothing follows; NEW is one of a session that is being started."""
_BEGINNINGS: Final[tuple[CodeType, ...]] = tuple(
    function.__code__ for function in (Lifecycle.start, Lifecycle.run, Lifecycle.__enter__)
)
