"""The watch: one thread for each stream that looks at it now and then, and never waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from finx_sync.session.clock import Clock

__all__ = ["Watch"]

logger = logging.getLogger("finx_sync")


class Watch:
    """Calls `look` every `interval` seconds.

    Args:
        interval: seconds.
        clock: looked at first, so that a sleep of the machine is noticed within one interval of its end.
        look: called with the seconds that the machine has just slept, 0 as a rule; must not block.
    """

    def __init__(self, interval: float, clock: Clock, look: Callable[[float], object]) -> None:
        self._interval = interval
        self._clock = clock
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="finx-sync watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Make the thread end. Returns at once."""
        self._ended.set()

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; returns whether it came."""
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            try:
                self._look(self._clock.look())
            except BaseException:
                logger.exception("the watch has met a defect; please report it")
