"""The processes of a run, each of which can be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["Part"]

ROOT = pathlib.Path(__file__).parents[2]


class Part:
    """One process. Its errors go to a file beside the run's other files.

    Args:
        name: for the report.
        command: what runs; a module's arguments for this Python.
        folder: where its log goes.
        talks: whether it answers each line of its input with a line of JSON; its first line says that it is ready.
    """

    def __init__(self, name: str, command: Sequence[str], folder: pathlib.Path, *, talks: bool) -> None:
        self.name = name
        self.talks = talks
        self._command = [sys.executable, *command]
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self.ready: Any = None

    def start(self, timeout: float = 30.0) -> Part:
        """Start, and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if self.talks else log,
                stderr=log,
                cwd=ROOT,
            )
        self._buffer = b""
        self.ready = self._answer(timeout) if self.talks else None
        return self

    def ask(self, line: str = "newest", timeout: float = 30.0) -> Any:
        """Have a line answered.

        Raises:
            TimeoutError: it does not answer in time.
            RuntimeError: it has ended.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(f"{self.name} has ended; see {self._log}") from None
        return self._answer(timeout)

    def _answer(self, timeout: float) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        output, deadline = self._process.stdout.fileno(), time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise TimeoutError(f"{self.name} does not answer")
            piece = os.read(output, 1 << 16)
            if not piece:
                raise RuntimeError(f"{self.name} has ended with {self._process.wait(10)}; see {self._log}")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)
        self._reap()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, for example SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def end(self, timeout: float = 20.0) -> None:
        """End it in order: the end of its input for a part that talks, else SIGTERM; then SIGKILL."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        if self.talks and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        else:
            self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
