"""SIGTERM while `run` blocks the main thread: what a service manager sends to end a program in order."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import CodeType, FrameType

from finx_sync.interrupts import on_main_thread

__all__ = ["Termination"]


class Termination:
    """Has SIGTERM stop a stream during one call. For the main thread; on any other it does nothing.

    Only Python's default is replaced, which would end the program at once: whoever has set a handler, or ignores the
    signal, has decided what becomes of it.

    Args:
        stop: stops the stream, in a signal handler.
        call: the code of the call during which SIGTERM does so.
    """

    def __init__(self, stop: Callable[[], object], call: CodeType) -> None:
        self._stop = stop
        self._call = call

    def install(self) -> None:
        """From now on."""
        if on_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            try:
                signal.signal(signal.SIGTERM, self._handle)
            except ValueError:  # a subinterpreter, where signals are the main one's
                pass

    def restore(self) -> None:
        """Until now; a handler that somebody has set meanwhile stays."""
        if on_main_thread() and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code is not self._call:
            frame = frame.f_back
        if frame is not None:
            self._stop()
            return
        # The call is over, and an interrupt has kept it from restoring the default.
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
