"""The dispatch thread: starting it, waiting for it, and finding out what it is running."""

from __future__ import annotations

import sys
import threading
from typing import Final

from finx_sync.pipeline import delivery, pipeline

__all__ = ["Dispatcher"]

OURS: Final = frozenset({pipeline.__file__, delivery.__file__})
"""The modules that call user code: frames above theirs on the dispatch thread's stack are the user's."""


class Dispatcher:
    """The thread that handles events one after the other. It is the only one that runs user code.

    All methods may be called from any thread.

    Attributes:
        thread: the thread; None before there is one.
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
        """Wait `timeout` seconds for the thread to end. Returns whether it has ended or was never started."""
        thread = self.thread
        if thread is None or thread.ident is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def on_this_thread(self) -> bool:
        """Whether the caller is the dispatch thread."""
        # It must be alive: the system may reuse the id of a thread that has ended.
        thread = self.thread
        return thread is not None and threading.get_ident() == thread.ident and thread.is_alive()

    def running(self) -> str | None:
        """The name of the user's function that the thread is running, for messages about a handler that hangs."""
        # The stack may change while it is read; a frame that was read stays valid, so the name is at worst outdated.
        frame = sys._current_frames().get((self.thread.ident if self.thread is not None else 0) or 0)
        inner: str | None = None
        while frame is not None:
            if frame.f_code.co_filename in OURS:
                return inner
            inner, frame = frame.f_code.co_name, frame.f_back
        return None
