"""The other side, in a process of its own: a numbered sandbox behind a fault proxy, told what to do line by line.

In another process, so that the threads, descriptors and memory of the one under test are the client's alone.
"""

from __future__ import annotations

import json
import pathlib
import ssl
import subprocess
import sys
from typing import Any

import trustme

from finx_sync.sandbox import Sandbox
from finx_sync.testing import RECOVERABLE, Answer, Close, Cut, Fault, FaultProxy

ROOT = pathlib.Path(__file__).parents[2]
KINDS: dict[str, tuple[Fault, ...]] = dict(RECOVERABLE)
SURVIVED = frozenset({"short black hole", "delay", "throttle", "split", "corrupt json"})
"""Kinds that a connection outlives; all others cost it."""
FATAL: dict[str, tuple[Fault, ...]] = {
    "401": (Answer(401), Cut()),
    "403": (Answer(403), Cut()),
    "1008": (Close(1008, "Invalid APIKey"),),
}
EFFECT_TIMEOUT = 5.0


class Backstage:
    """Starts the process and talks to it. A context manager; for one thread at a time.

    Args:
        scheme: "ws" or "wss"; the proxy ends TLS.
        seed: of the proxy.
        interval: seconds between two messages of a name.
    """

    def __init__(self, scheme: str, seed: int, interval: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.server", scheme, str(seed), str(interval)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        ready = self._answer()
        self.url: str = ready["url"]
        self.ssl_context: ssl.SSLContext | None = None
        if scheme == "wss":
            self.ssl_context = ssl.create_default_context(cadata=ready["authority"])

    def ask(self, what: str, *arguments: Any) -> Any:
        """Have something done; returns the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server's process has ended with {self._process.wait(10)}")
        return json.loads(line)

    def __enter__(self) -> Backstage:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the end of its input is the end of its work
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process.stdout.close()


class Stage:
    """What the process does. Each public method is a command."""

    def __init__(self, sandbox: Sandbox, proxy: FaultProxy) -> None:
        self._sandbox = sandbox
        self._proxy = proxy

    def inject(self, kind: str) -> dict[str, Any]:
        """Let a fault happen to the open connection; tells whether it did, and how far the server had come."""
        before, _ = self.marks()
        happened = self._proxy.inject(*{**KINDS, **FATAL}[kind]).wait(EFFECT_TIMEOUT)
        after, numbers = self.marks()
        return {"happened": happened, "before": before, "after": after, "numbers": numbers}

    def arm(self, kind: str) -> None:
        """Let a fault of `FATAL` happen to the next connection."""
        self._proxy.arm(*[fault for fault in FATAL[kind] if not isinstance(fault, Cut)])

    def marks(self) -> tuple[int, dict[str, int]]:
        """The newest connection, and the numbers that its names have come to."""
        connections = self._sandbox.connections()
        if not connections:
            return max(self._sandbox.numbered_connections(), default=0), {}
        newest = connections[-1]
        return newest.id, {name: len(self._sandbox.sent_numbers(name, newest.id)) for name in newest.subscriptions}

    def accepted(self) -> int:
        """How many connections the proxy has accepted."""
        return self._proxy.accepted

    def log(self, names: list[str]) -> list[tuple[int, str, list[float]]]:
        """Everything that was sent: connection, name, and the time of each number."""
        return [
            (connection, name, times)
            for connection in self._sandbox.numbered_connections()
            for name in names
            if (times := self._sandbox.sent_at(name, connection))
        ]

    def effects(self) -> list[tuple[float, int, str, str]]:
        """The proxy's record."""
        return [(one.at, one.connection, repr(one.fault), one.note) for one in self._proxy.effects]


def main() -> None:
    """Serve until the input ends."""
    scheme, seed, interval = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    authority = trustme.CA()
    certificate: ssl.SSLContext | None = None
    if scheme == "wss":
        certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(certificate)
    with (
        Sandbox(numbered=True, contract_interval=interval, spot_interval=interval) as sandbox,
        FaultProxy(sandbox.url, seed=seed, server_context=certificate) as proxy,
    ):
        stage = Stage(sandbox, proxy)
        say({"url": proxy.url, "authority": authority.cert_pem.bytes().decode()})
        for line in sys.stdin:
            what, *arguments = json.loads(line)
            say(getattr(stage, what)(*arguments))


def say(answer: Any) -> None:
    """Answer a command."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
