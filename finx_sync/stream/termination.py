"""Handle SIGTERM while `run` blocks the main thread: the signal by which service managers end a program."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import CodeType, FrameType

from finx_sync.interrupts import on_main_thread

__all__ = ["Termination"]


class Termination:
    """Make SIGTERM stop a stream during one call on the main thread; on other threads, do nothing.

    Only Python's default, which ends the program at once, is replaced. A program that has set a handler of its own, or
    ignores the signal, keeps its choice.

    Args:
        stop: stops the stream; called in a signal handler.
        call: the code of the function during which SIGTERM stops the stream.
    """

    def __init__(self, stop: Callable[[], object], call: CodeType) -> None:
        self._stop = stop
        self._call = call

    def install(self) -> None:
        """Set the handler."""
        if on_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            try:
                signal.signal(signal.SIGTERM, self._handle)
            except ValueError:  # a subinterpreter: only the main interpreter handles signals
                pass

    def restore(self) -> None:
        """Restore the default; a handler that the program has set meanwhile stays."""
        if on_main_thread() and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code is not self._call:
            frame = frame.f_back
        if frame is not None:
            self._stop()
            return
        # The call is over, but an interrupt prevented it from restoring the default.
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
