"""Makes a short recording of every venue, with a lost and a replaced connection, and streams to replay them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from websockets.exceptions import ConnectionClosed

from finx_sync import Backoff
from finx_sync.recorder.format import Received
from finx_sync.recorder.reader import RecordingReader
from finx_sync.sandbox import Sandbox
from finx_sync.stream import Stream
from finx_sync.testing import Cut, FaultProxy
from finx_sync.venues import registry
from tests.scripted import ScriptedServer
from tests.waiting import wait_until

OPTIONS: Final[dict[str, Any]] = {
    "reconnect": Backoff(first=0.01, cap=0.05),
    "overflow": "block",
    "flight_recorder": False,
    "proxy": "",
}
SECRETS: Final = ("sandbox-key", "sandbox-secret")
ROTATE_BYTES: Final = {"finx": 8000, "deribit": 5000, "ftx": 5000, "bitmex": 5000, "ime": 1200}
"""Sizes at which each recording has several files of several blocks."""
PATIENCE: Final = 30.0
CONTRACT_NAME: Final = "BTC-PERPETUAL"
PAIR: Final = "BTC:USDC"


SUBSCRIBED: Final[dict[str, tuple[str, ...]]] = {
    "finx": (CONTRACT_NAME, PAIR),
    "deribit": ("BTC-PERPETUAL", "ETH-PERPETUAL", "BTC:USD"),
    "ftx": ("BTC-PERP", "trades:BTC-PERP", "orderbook:BTC-PERP"),
    "bitmex": ("quote:XBTUSD", "trade:XBTUSD", "orderBook10:XBTUSD", "margin", "position", "order", "execution"),
    "ime": ("ContractA", "24680"),
}
"""The subscriptions recorded of each venue, as on the command line."""


def stream_of(name: str, url: str, **options: Any) -> Any:
    """Return a venue's stream from the registry, with the sandbox's credentials and without subscriptions."""
    venue = registry.find(name)
    stream = venue.stream(url=url, **dict(zip(venue.credentials, SECRETS, strict=False)), **options)
    venue.subscribe(stream, ())
    return stream


def live(name: str, url: str) -> Stream:
    """Return a stream to a URL, with the venue's subscriptions."""
    stream: Stream = stream_of(name, url, **OPTIONS)
    registry.find(name).subscribe(stream, SUBSCRIBED[name])
    return stream


def player(name: str) -> Stream:
    """Return a stream that is never started."""
    stream: Stream = stream_of(name, "ws://127.0.0.1:9")
    return stream


def record_all(folder: Path) -> dict[str, list[Path]]:
    """Record all venues at the same time; return the files of each."""
    paths: dict[str, list[Path]] = {}
    failures: list[BaseException] = []

    def record(venue: str) -> None:
        try:
            paths[venue] = _record(venue, folder / venue / "feed.finxrec")
        except BaseException as error:  # noqa: BLE001  # raised again on the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=record, args=(venue,)) for venue in SUBSCRIBED]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return paths


class Broadcast:
    """A FinX server that sends the same messages on all connections, as the real one does."""

    def __init__(self) -> None:
        self._connections: list[Any] = []
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._feed)
        self._server = ScriptedServer(self._script)

    def _script(self, connection: Any) -> None:
        connection.recv()
        connection.send('{"isAuth": true}')
        with self._lock:
            self._connections.append(connection)
        with contextlib.suppress(ConnectionClosed):
            while True:
                connection.recv()
        with self._lock:
            self._connections.remove(connection)

    def _feed(self) -> None:
        number = 0
        while not self._done.wait(0.02):
            number += 1
            tick = {"redis_key": CONTRACT_NAME, "instrument_name": CONTRACT_NAME, "mark_price": str(20_000 + number)}
            spot = {"pair": PAIR, "unixDate": 1_660_000_000 + number, "price": str(20_000 + number)}
            for text in map(json.dumps, (tick, spot)):
                with self._lock:
                    connections = list(self._connections)
                for connection in connections:
                    with contextlib.suppress(ConnectionClosed):
                        connection.send(text)

    def __enter__(self) -> str:
        url = self._server.__enter__().url
        self._thread.start()
        return url

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._server.__exit__(None, None, None)


@contextlib.contextmanager
def _server(venue: str) -> Iterator[str]:
    """Run a venue's server; the value is its URL."""
    if venue == "finx":
        with Broadcast() as url:
            yield url
    else:
        with Sandbox(contract_interval=0.02, spot_interval=0.02, exchange_interval=0.02) as sandbox:
            yield sandbox.url


def _record(venue: str, path: Path) -> list[Path]:
    seen: list[str] = []
    with _server(venue) as url, FaultProxy(url) as proxy:
        stream = live(venue, proxy.url)
        stream.on_message(seen.append)
        # The sandbox does not send the same messages on all connections, so IME's are not compared.
        replace = (lambda: proxy.inject(Cut())) if venue == "ime" else stream.reconnect_now
        with stream.record(path, rotate_bytes=ROTATE_BYTES[venue], compress=venue != "finx") as recording:
            stream.start()
            for action in (replace, lambda: proxy.inject(Cut()), replace, lambda: None):
                _wait_for_more(seen, recording)
                action()
            stream.stop(drain=True)
    return recording.paths


def _wait_for_more(seen: list[str], recording: Any) -> None:
    messages, files = len(seen), len(recording.paths)
    assert wait_until(lambda: len(seen) > messages + 3 and len(recording.paths) > files, PATIENCE)


def raw(path: Any) -> list[tuple[str, float, int]]:
    """Return every payload in a recording, with its time and connection, whether or not a replay delivers it."""
    return [
        (payload.decode(), at, number)
        for record in RecordingReader(path)
        if isinstance(record, Received)
        for payload, at, number in zip(
            record.payloads, record.spread(record.at), record.spread(record.numbers), strict=True
        )
    ]
