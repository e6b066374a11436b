"""The sandbox inside this process: shared by all its users, and running as long as it has any. Any thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from finx_sync import forks

if TYPE_CHECKING:
    from finx_sync.sandbox import Sandbox

__all__ = ["SandboxLease", "acquire", "release"]


class _EmbeddedSandbox:
    """The sandbox of this process.

    One lock guards the server and its number of users. It is held while the server starts and stops, so a thread that
    acquires the sandbox during a stop waits, and then starts a new one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._server: Sandbox | None = None
        self._of_parent: Sandbox | None = None  # kept: its finalizer could disturb the parent's sandbox
        forks.watch(self, _EmbeddedSandbox.forked)

    def acquire(self) -> str:
        """Return the sandbox's base URL; start it for the first user."""
        from finx_sync.sandbox import Sandbox  # an extra, and slow to import: only when needed

        with self._lock:
            if self._server is None:
                self._server = Sandbox().start()
            self._users += 1
            return self._server.url

    def release(self) -> None:
        """Remove one user; stop the sandbox after the last one."""
        with self._lock:
            self._users -= 1
            server = self._server if self._users == 0 else None
            if server is not None:
                self._server = None
                server.stop()

    def forked(self) -> None:
        """Forget the parent's sandbox in a forked child, which lacks its thread; the next user starts another."""
        self._lock = threading.Lock()
        self._of_parent, self._server, self._users = self._server, None, 0


_sandbox = _EmbeddedSandbox()
acquire = _sandbox.acquire
release = _sandbox.release


class SandboxLease:
    """One stream's use of the sandbox, from `begin` to `end`; `end` may be called repeatedly."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lasts = False

    def begin(self) -> str:
        """Return the sandbox's base URL; start it if it is not running."""
        url = acquire()
        with self._lock:
            self._lasts = True
        return url

    def end(self) -> None:
        """Release the sandbox, if this stream uses it."""
        with self._lock:  # of several threads that end the lease, only one may release
            lasts, self._lasts = self._lasts, False
        if lasts:
            release()
