"""A server that feeds numbered contract ticks to every connection that asked for them, the same to all."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from tests.scripted import ScriptedServer, text

__all__ = ["Feed"]


class Feed(ScriptedServer):
    """`send` gives the next number of a name to all its subscribers; `sent` says how many there were.

    Attributes:
        silent: names for which subscribing has no effect.
        refused_keys: keys that are not accepted.
        answers_keep_alive: whether it does.
        subscribers: the connections that have asked for a name, in order.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(None, **options)
        self.sent: dict[str, int] = {}
        self.answers_keep_alive = True
        self.silent: set[str] = set()
        self.refused_keys: set[str] = set()
        self._changed = threading.Condition()
        self.subscribers: dict[str, list[ServerConnection]] = {}
        self._stop = threading.Event()
        self._pacers: list[threading.Thread] = []

    def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        """As FinX does."""
        function = message.get("functionName")
        if message.get("APIKey") in self.refused_keys:
            connection.send('{"isAuth":false}')
            return
        if function == "keepAlive" and not self.answers_keep_alive:
            return
        if function == "getDeribitContractStream":
            with self._changed:
                if message["instrumentName"] not in self.silent:
                    self.subscribers.setdefault(message["instrumentName"], []).append(connection)
                self._changed.notify_all()
        else:
            super().answer(connection, message)

    def wait_for_subscribers(self, name: str, count: int = 1) -> None:
        """Wait until so many connections have asked for a name."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.subscribers.get(name, ())) >= count, 10)

    def send(self, name: str, count: int = 1) -> None:
        """The next `count` ticks of a name; the number is in `timestamp`."""
        for _ in range(count):
            with self._changed:
                number = self.sent[name] = self.sent.get(name, 0) + 1
                for connection in list(self.subscribers.get(name, ())):
                    try:
                        connection.send(text(redis_key=name, instrument_name=name, timestamp=str(number)))
                    except ConnectionClosed:
                        self.subscribers[name].remove(connection)

    def cut(self, name: str) -> None:
        """End the connections that have a name, without a close frame."""
        with self._changed:
            connections, self.subscribers[name] = self.subscribers.get(name, []), []
        for connection in connections:
            connection.close_socket()

    def pace(self, interval: float, *names: str) -> None:
        """Send a tick of each name every `interval` seconds until the end."""

        def run() -> None:
            while not self._stop.wait(interval):
                for name in names:
                    self.send(name)

        thread = threading.Thread(target=run, name="pacer")
        self._pacers.append(thread)
        thread.start()

    def quiet(self) -> None:
        """End the pacing."""
        self._stop.set()
        for pacer in self._pacers:
            pacer.join(10)

    def __enter__(self) -> Feed:
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.quiet()
        super().__exit__(kind, error, trace)
