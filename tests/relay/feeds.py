"""A venue that numbers what it sends, the same to every connection; relays in processes of their own; and a judge."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from finx_sync import StreamManager
from finx_sync.relay import wire
from finx_sync.relay.wire import Position
from tests.redis_server import RedisServer
from tests.scripted import ScriptedServer, text
from tests.waiting import FAST, wait_until

NAMES = ("BTC-26AUG22-20000-C", "BTC-26AUG22-21000-C", "BTC-PERPETUAL")
KEYS = wire.Keys("finx")
ROOT = str(Path(__file__).parents[2])
PATIENCE = 20.0


class Venue:
    """A FinX server that sends every message to all of its connections, numbered, each name from 1.

    Attributes:
        sent: the payloads so far.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self._connections: list[Any] = []
        self._lock = threading.Lock()
        self._server = ScriptedServer(self._script)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def _script(self, connection: Any) -> None:
        connection.recv()
        connection.send('{"isAuth": true}')
        with self._lock:
            self._connections.append(connection)
        try:
            while True:
                self._server.answer(connection, json.loads(connection.recv()))
        except ConnectionClosed:
            with self._lock, contextlib.suppress(ValueError):
                self._connections.remove(connection)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def send(self, count: int = 1, *, size: int = 0) -> None:
        """Send so many messages, to each connection all of them in one order."""
        with self._lock:
            for _ in range(count):
                number = len(self.sent)
                name = NAMES[number % len(NAMES)]
                message = text(redis_key=name, instrument_name=name, timestamp=str(number), state="x" * size)
                self.sent.append(message.encode())
                for connection in self._connections:
                    with contextlib.suppress(ConnectionClosed):
                        connection.send(message)

    def keep_sending(self, pause: float = 0.005) -> None:
        """Send one message after another until the end."""
        self._thread = threading.Thread(target=lambda: self._send_on(pause))
        self._thread.start()

    def _send_on(self, pause: float) -> None:
        while not self._done.wait(pause):
            self.send()

    def stop_sending(self) -> None:
        """Send no more."""
        self._done.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def __enter__(self) -> Venue:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop_sending()
        self._server.__exit__(None, None, None)


def stream_to(venue: Venue, **options: Any) -> StreamManager:
    """A stream of all names, not started."""
    stream = StreamManager("sandbox-key", url=venue.url, **{"reconnect": FAST, "overflow": "block", **options})
    for name in NAMES:
        stream.subscribe_contract(name)
    return stream


@contextlib.contextmanager
def relay_process(venue: Venue, server: RedisServer, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A relay of all names in a process of its own, with a connection to the venue; it is killed at the end."""
    before = venue.connections
    command = [sys.executable, "-m", "finx_sync", "relay", *NAMES, "--to", server.url, "--url", venue.url, *options]
    settings = {**os.environ, "FINX_API_KEY": "sandbox-key", "PYTHONPATH": ROOT}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=settings)
    try:
        assert wait_until(lambda: venue.connections > before or process.poll() is not None, PATIENCE)
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate(timeout=PATIENCE)


@dataclass
class Feed:
    """What a stream of Redis holds.

    Attributes:
        payloads: the venue's, in order.
        notices: the others, with their names.
        missing: offsets that are missing within terms.
        terms: in order.
        positions: of all entries.
    """

    payloads: list[bytes] = field(default_factory=list)
    notices: list[tuple[bytes, dict[str, Any]]] = field(default_factory=list)
    missing: int = 0
    terms: list[int] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)

    def gaps(self) -> list[dict[str, Any]]:
        """The content of the gaps."""
        return [content for name, content in self.notices if name == wire.GAP]


def read(
    server: RedisServer, keys: wire.Keys = KEYS, after: Position = wire.START, *, is_trimmed: bool = False
) -> Feed:
    """Read all that there is after a position. `is_trimmed`: what came before the first entry does not count."""
    feed, before = Feed(), after
    for identity, fields in server.call("XRANGE", keys.stream, f"({after}" if after != wire.START else "-", "+"):
        position, pairs = Position.read(identity), list(wire.pairs_of(fields))
        records = [(tag, value) for tag, value in pairs if tag != wire.TIME]
        assert pairs[0][0] == wire.TIME, "every entry begins with its time"
        assert len(pairs) <= wire.MAX_PAIRS
        if position.term not in feed.terms:
            feed.terms.append(position.term)
            if is_trimmed and not feed.positions:
                before = Position(position.term, position.offset - len(records))
            elif position.term != after.term:
                assert records[0][0] == wire.TERM
                before = Position(position.term, 0)
        missing = wire.missing_between(before, position, len(records))
        assert missing is not None
        assert missing >= 0
        feed.missing += missing
        feed.positions.append(position)
        before = position
        for tag, value in records:
            if tag.startswith(b"@"):
                feed.notices.append((tag, wire.read_notice(value)))
            else:
                feed.payloads.append(value)
    return feed


def judge(sent: list[bytes], feed: Feed) -> list[int]:
    """Check that a feed has nothing twice and nothing out of order; returns the numbers that it lacks."""
    number_of = {payload: number for number, payload in enumerate(sent)}
    numbers = [number_of[payload] for payload in feed.payloads]
    assert numbers == sorted(set(numbers)), "once each, in order"
    return sorted(set(range(len(sent))) - set(numbers))
