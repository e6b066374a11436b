"""The upstream server: numbered messages, the same to every connection, in a process of its own.

It speaks the part of FinX's protocol that a stream needs, on the websocket implementation of the `websockets` project.
Each contract's messages carry their number, from 1, as `open_interest`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from tests.scripted import CONTRACT

ROUND = 0.02
"""Seconds between two rounds of messages."""


class Upstream:
    """Sends numbered messages to whoever subscribes.

    Args:
        names: the contracts.
        rate: messages a second, of all names together.
    """

    def __init__(self, names: list[str], rate: float) -> None:
        self.numbers = dict.fromkeys(names, 0)
        self.rate = rate
        self._subscribers: dict[str, set[ServerConnection]] = {name: set() for name in names}
        self._due = 0.0

    async def talk(self, connection: ServerConnection) -> None:
        """Answer one client until it leaves."""
        try:
            async for text in connection:
                request = json.loads(text)
                match request["functionName"]:
                    case "authenticate":
                        await connection.send('{"isAuth":true}')
                    case "keepAlive":
                        await connection.send('{"keepAlive":true}')
                    case "getDeribitContractStream":
                        self._subscribers[request["instrumentName"]].add(connection)
        except ConnectionClosed:
            pass
        finally:
            for connections in self._subscribers.values():
                connections.discard(connection)

    async def feed(self) -> None:
        """Send for ever."""
        loop = asyncio.get_running_loop()
        begun, rounds = loop.time(), 0
        while True:
            rounds += 1
            await asyncio.sleep(max(0.0, begun + rounds * ROUND - loop.time()))
            self._due += self.rate * ROUND
            each, self._due = divmod(self._due, len(self.numbers))
            for _ in range(int(each)):
                for name in self.numbers:
                    self._send(name)

    def _send(self, name: str) -> None:
        self.numbers[name] += 1
        fields = {"redis_key": name, "instrument_name": name, "open_interest": str(self.numbers[name])}
        broadcast(self._subscribers[name], json.dumps({**CONTRACT, **fields}))


async def main() -> None:
    """Serve until the input ends; every line is answered with the newest numbers. "rate N" sets the rate."""
    upstream = Upstream(json.loads(sys.argv[1]), float(sys.argv[2]))
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def obey(line: str) -> None:
        what, *arguments = line.split()
        if what == "rate":
            upstream.rate = float(arguments[0])
        say(upstream.numbers)

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(obey, line)
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(ended.set)

    async with serve(upstream.talk, "127.0.0.1", 0, compression=None) as server:
        host, port = server.sockets[0].getsockname()[:2]
        say({"url": f"ws://{host}:{port}"})
        threading.Thread(target=listen, daemon=True).start()
        feeding = asyncio.create_task(upstream.feed())
        await ended.wait()
        feeding.cancel()


def say(answer: Any) -> None:
    """Answer on the standard output."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
