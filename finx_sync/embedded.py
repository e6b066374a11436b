"""The sandbox inside this process, shared by all who need it, running as long as one of them does. Any thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from finx_sync import forks

if TYPE_CHECKING:
    from finx_sync.sandbox import Sandbox

__all__ = ["SandboxLease", "acquire", "release"]


class _EmbeddedSandbox:
    """The one of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._server: Sandbox | None = None
        self._of_parent: Sandbox | None = None  # kept, lest its end disturb the parent's
        forks.watch(self, _EmbeddedSandbox.forked)

    def acquire(self) -> str:
        """Its base URL; starts it for the first user."""
        from finx_sync.sandbox import Sandbox  # an extra, and slow to import: only when asked for

        with self._lock:
            if self._server is None:
                self._server = Sandbox().start()
            self._users += 1
            return self._server.url

    def release(self) -> None:
        """One user less; the last one stops it."""
        with self._lock:
            self._users -= 1
            server = self._server if self._users == 0 else None
            if server is not None:
                self._server = None
                server.stop()

    def forked(self) -> None:
        """In the child of a fork, which has the parent's sandbox without its thread: forget it, and start another."""
        self._lock = threading.Lock()
        self._of_parent, self._server, self._users = self._server, None, 0


_sandbox = _EmbeddedSandbox()
acquire = _sandbox.acquire
release = _sandbox.release


class SandboxLease:
    """One stream's use of it: from `begin` to `end`, which may be called more often."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lasts = False

    def begin(self) -> str:
        """The sandbox's base URL; starts it if need be."""
        url = acquire()
        with self._lock:
            self._lasts = True
        return url

    def end(self) -> None:
        """Let it go, if it was held."""
        with self._lock:
            lasts, self._lasts = self._lasts, False
        if lasts:
            release()
