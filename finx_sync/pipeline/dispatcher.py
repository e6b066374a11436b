"""The dispatch thread, for those who have to know which one it is and what it does."""

from __future__ import annotations

import sys
import threading
from typing import Final

from finx_sync.pipeline import delivery, pipeline

__all__ = ["Dispatcher"]

OURS: Final = frozenset({pipeline.__file__, delivery.__file__})
"""Where the dispatch thread is when no user code runs."""


class Dispatcher:
    """The thread that handles events, one after the other: the only one that runs user code.

    Attributes:
        thread: which; None before there is one.
    """

    def start(self) -> None:
        """Start the thread."""
        assert self.thread is not None
        self.thread.start()

    def __init__(self, thread: threading.Thread | None = None) -> None:
        self.thread = thread

    @property
    def started(self) -> bool:
        """Whether the thread has been started."""
        return self.thread is not None and self.thread.ident is not None

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; returns whether it came, or there is none."""
        thread = self.thread
        if thread is None or thread.ident is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def on_this_thread(self) -> bool:
        """Whether the caller is the dispatch thread."""
        # Alive, since the system gives the number of a thread that has ended to another one.
        thread = self.thread
        return thread is not None and threading.get_ident() == thread.ident and thread.is_alive()

    def running(self) -> str | None:
        """The user's function that the thread is in now, for whoever waits for it in vain."""
        frame = sys._current_frames().get((self.thread.ident if self.thread is not None else 0) or 0)
        inner: str | None = None
        while frame is not None:
            if frame.f_code.co_filename in OURS:
                return inner
            inner, frame = frame.f_code.co_name, frame.f_back
        return None
