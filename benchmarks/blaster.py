"""A server process that sends prepared frames, as fast as the socket takes them or at a given pace.

Plain sockets and prepared bytes, so that the server is never what is measured. One connection at a time; what to send
stands in the request's query: ``?kind=contract&count=1000000`` or ``&rate=1000`` for a paced feed whose `timestamp` is
the sender's monotonic clock in nanoseconds.
"""

from __future__ import annotations

import base64
import hashlib
import json
import multiprocessing
import socket
import ssl
import struct
import time
from urllib.parse import parse_qs, urlsplit

CONTRACT = {
    "redis_key": "BTC-26AUG22-20000-C", "underlying_price": "23227.53", "underlying_index": "BTC-26AUG22",
    "timestamp": "1659760300724", "state": "open", "settlement_price": "0.15522931", "open_interest": "846.5",
    "min_price": "0.1205", "max_price": "0.197", "mark_price": "0.1553", "mark_iv": "72.12", "last_price": "0.1535",
    "interest_rate": "0", "instrument_name": "BTC-26AUG22-20000-C", "index_price": "23199.76",
    "estimated_delivery_price": "23199.76", "bid_iv": "0", "best_bid_price": "0.125", "best_bid_amount": "5",
    "best_ask_price": "0.19", "best_ask_amount": "5", "ask_iv": "122.66", "vega": "13.62974", "theta": "-24.39797",
    "rho": "8.69414", "gamma": "0.00006", "delta": "0.83341", "volume": "3.3", "price_change": "-3.2258",
    "low": "0.15", "high": "0.162",
}  # fmt: skip
SPOT = {
    "pair": "BTC:USDC", "unixDate": 1659897295, "UTCDate": "2022-08-07T18:34:55.000Z", "exchange": "COINBASE",
    "price": "23233.68499999999",
}  # fmt: skip
EMPTY = ("last_price", "price_change", "low", "high")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BLOCK = 4096
"""Messages in the prepared block that is sent over and over."""


def frame(payload: bytes) -> bytes:
    """One unmasked text frame."""
    size = len(payload)
    return (struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)) + payload


def dumps(value: dict) -> bytes:
    """JSON with the spaces of the documentation: a contract message has 766 bytes, a spot message 137."""
    return json.dumps(value).encode()


def messages(kind: str, names: int) -> list[bytes]:
    """The block of payloads of one kind."""
    if kind == "spot":
        return [dumps({**SPOT, "pair": f"P{n % names}:USDC"} if names > 1 else SPOT) for n in range(BLOCK)]
    block = []
    for n in range(BLOCK):
        name = f"BTC-26AUG22-{20000 + n % names}-C" if names > 1 else CONTRACT["redis_key"]
        value = {**CONTRACT, "redis_key": name, "instrument_name": name}
        if kind == "mixed" and n % 10 < 3:
            value |= dict.fromkeys(EMPTY, "")
        block.append(dumps(SPOT) if kind == "mixed" and n % 10 == 9 else dumps(value))
    return block


def serve(listener: socket.socket, certificate: tuple[str, str] | None) -> None:
    """Serve connections one after another, for ever."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    blocks: dict[tuple[str, int], list[bytes]] = {}
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            talk(connection, blocks)
        except OSError:
            pass  # the client has seen enough
        finally:
            connection.close()


def talk(connection: socket.socket, blocks: dict[tuple[str, int], list[bytes]]) -> None:
    """Shake hands, and send what the query asks for."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    lines = head.decode().split("\r\n")
    query = {name: values[0] for name, values in parse_qs(urlsplit(lines[0].split(" ")[1]).query).items()}
    headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
    accept = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest()).decode()
    connection.sendall(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    kind, names, count = query.get("kind", "contract"), int(query.get("names", 1)), int(query.get("count", 0))
    if (kind, names) not in blocks:
        blocks[kind, names] = messages(kind, names)
    block = blocks[kind, names]
    if "rate" in query:
        paced(connection, float(query["rate"]), count)
    else:
        data = b"".join(map(frame, block))
        for _ in range(count // BLOCK):
            connection.sendall(data)
        connection.sendall(b"".join(map(frame, block[: count % BLOCK])))
    while connection.recv(65536):  # until the client leaves
        pass


def paced(connection: socket.socket, rate: float, count: int) -> None:
    """Send one message at a time, each with the moment of its sending."""
    before, after = dumps(CONTRACT).split(CONTRACT["timestamp"].encode())
    due = time.monotonic()
    for _ in range(count):
        due += 1 / rate
        while (left := due - time.monotonic()) > 0:
            if left > 0.0003:
                time.sleep(left - 0.0002)
        connection.sendall(frame(before + str(time.monotonic_ns()).encode() + after))


class Blaster:
    """The server in a process of its own."""

    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        scheme = "ws" if certificate is None else "wss"
        self.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=serve, args=(listener, certificate), daemon=True)
        self._process.start()
        listener.close()

    def __enter__(self) -> Blaster:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
