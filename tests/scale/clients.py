"""Clients of a gateway, of all three protocols, in a process of their own; see `tests.scale.reader`.

After a cut each of them comes back, to the other gateway if there is one, and goes on after the last position that it
has seen, as a good client does.
"""

from __future__ import annotations

import json
import pathlib
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

PAUSE = 0.2
TIMEOUT = 20.0
EACH = 5
"""Every client follows one name in so many."""
DATA, GAP = b'"data":{', b'"gap":{'
POSITION, NAME, NUMBER = b'"position":"', b'"instrument_name": "', b'"open_interest": "'


class Client:
    """One client: a thread that reads, and the notes that it writes.

    It looks for what it needs in a message's bytes: fifty JSON parsers would be what is measured.
    """

    def __init__(self, protocol: str, addresses: list[dict[str, Any]], names: list[str], path: pathlib.Path) -> None:
        self.newest = dict.fromkeys(names, 0)
        self._protocol = protocol
        self._addresses = addresses
        self._names = names
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._since: str | None = None
        self._stopping = threading.Event()
        self._connection: Any = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def flush(self) -> None:
        with self._lock:
            self._file.flush()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(2 * TIMEOUT)
        with self._lock:
            self._file.close()

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            address = self._addresses[attempt % len(self._addresses)]
            attempt += 1
            try:
                for message in getattr(self, f"_{self._protocol}")(address):
                    self._take(message)
                    if self._stopping.is_set():
                        return
            except (OSError, ValueError, WebSocketException) as error:
                print(f"{self._protocol}: {address['http']}: {error!r}", file=sys.stderr, flush=True)
            self._stopping.wait(PAUSE)

    def _take(self, message: bytes) -> None:
        if DATA in message:
            name, number = _between(message, NAME), int(_between(message, NUMBER))
            self.newest[name] = number
            line = f"{name} {number}\n"
        elif GAP in message:
            gap = json.loads(message)["gap"]
            names = [name.partition(":")[2] for name in gap["names"] if name.startswith("contract:")]
            line = f"gap {json.dumps({**gap, 'names': names or gap['names'] or self._names})}\n"
        else:
            return
        self._since = _between(message, POSITION) or self._since
        with self._lock:
            self._file.write(line)

    def _ws(self, address: dict[str, Any]) -> Iterator[bytes]:
        with connect(f"ws://{address['http']}/v1/ws", open_timeout=TIMEOUT, compression=None) as client:
            client.send(json.dumps({"subscribe": self._names, "since": self._since}))
            while True:
                yield client.recv(TIMEOUT, decode=False)

    def _sse(self, address: dict[str, Any]) -> Iterator[bytes]:
        url = f"http://{address['http']}/v1/sse?names={','.join(self._names)}"
        headers = {} if self._since is None else {"Last-Event-ID": self._since}
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
            for line in response:
                if line.startswith(b"data: "):
                    yield line[6:]

    def _tcp(self, address: dict[str, Any]) -> Iterator[bytes]:
        host, port = address["tcp"].split(":")
        with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
            connection.sendall(json.dumps({"names": self._names, "since": self._since}).encode() + b"\n")
            with connection.makefile("rb") as file:
                for line in file:
                    if line.strip():
                        yield line


def _between(message: bytes, mark: bytes) -> str:
    """The text from a mark to the next quotation mark."""
    begin = message.index(mark) + len(mark)
    return message[begin : message.index(b'"', begin)].decode()


def main() -> None:
    """Follow until the input ends; every line is answered with the newest number of each name that all have."""
    addresses, names, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), pathlib.Path(sys.argv[4])
    clients = []
    for number in range(int(sys.argv[3])):
        protocol = ("ws", "sse", "tcp")[number % 3]
        notes = folder / f"client-{number:02}-{protocol}.notes"
        clients.append(Client(protocol, addresses, names[number % EACH :: EACH], notes))
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        for client in clients:
            client.flush()
        print(
            json.dumps({name: min(one.newest.get(name, sys.maxsize) for one in clients) for name in names}), flush=True
        )
    for client in clients:
        client.stop()


if __name__ == "__main__":
    main()
