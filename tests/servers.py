"""Servers for the transport's tests: one by other people, one that does what no decent server would, and proxies."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

L = TypeVar("L", bound="Listener")

SWITCHING = b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
"""The answer to a handshake; ``%s`` becomes the accept key."""


class Server:
    """Runs `script(connection)` for each connection, on the `websockets` project's server."""

    def __init__(self, script: Callable[[ServerConnection], object], **options: Any) -> None:
        def handler(connection: ServerConnection) -> None:
            try:
                script(connection)
            except ConnectionClosed:
                pass

        self._server = serve(handler, "127.0.0.1", 0, compression=None, max_size=2**26, close_timeout=1, **options)
        self.port: int = self._server.socket.getsockname()[1]
        self.url = f"{'wss' if options.get('ssl') else 'ws'}://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)


def echo(connection: ServerConnection) -> None:
    """Send back whatever comes."""
    for message in connection:
        connection.send(message)


class Listener:
    """Accepts connections, one after the other, and runs `script(socket)` for each.

    Args:
        script: the whole conversation; a peer that hangs up in the middle of it is no failure of the test.
        connections: how many to serve.
    """

    def __init__(self, script: Callable[[socket.socket], object], *, connections: int = 1) -> None:
        self._script = script
        self._connections = connections
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while self.accepted < self._connections:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # the test is over
                return
            self.accepted += 1
            with connection, contextlib.suppress(OSError):
                self._script(connection)

    def __enter__(self: L) -> L:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends an accept that nobody answered
        self._thread.join(10)
        self._listener.close()
        assert not self._thread.is_alive(), "the server's script did not end"


class RawServer(Listener):
    """Answers the handshake, then runs `script(socket)`.

    Args:
        script: what to do after the handshake.
        head: the answer to the handshake instead of the usual one; b"" to send none.
        connections: how many to serve.
        tls: for a wss server.
    """

    def __init__(
        self,
        script: Callable[[socket.socket], object],
        head: bytes | None = None,
        *,
        connections: int = 1,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(self._talk, connections=connections)
        self._converse = script
        self._head = SWITCHING if head is None else head
        self._tls = tls
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}/"
        self.requests: list[bytes] = []

    def _talk(self, plain: socket.socket) -> None:
        connection = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
        with connection:
            request = read_head(connection)
            if not request:
                return
            self.requests.append(request)
            connection.sendall(self._head.replace(b"%s", accept_key(request)))
            self._converse(connection)


def read_head(connection: socket.socket) -> bytes:
    """An HTTP request to the end of its headers; b"" where the client hung up before."""
    request = bytearray()
    while not request.endswith(b"\r\n\r\n"):
        piece = connection.recv(65536)
        if not piece:
            return b""
        request += piece
    return bytes(request)


def accept_key(request: bytes | bytearray) -> bytes:
    """What a server answers to the key in a handshake (RFC 6455 4.2.2)."""
    key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324  # RFC 6455


def server_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: int = 0) -> bytes:
    """A frame as a server sends it, or should not."""
    first, size = (0x80 if fin else 0) | reserved | opcode, len(payload)
    if size < 126:
        return bytes([first, masked | size]) + payload
    if size < 1 << 16:
        return bytes([first, masked | 126]) + struct.pack("!H", size) + payload
    return bytes([first, masked | 127]) + struct.pack("!Q", size) + payload


def client_frames(data: bytes) -> list[tuple[int, bytes]]:
    """The (opcode, payload) of each whole frame in what a client sent."""
    frames: list[tuple[int, bytes]] = []
    at = 0
    while len(data) - at >= 6:
        first, second = data[at], data[at + 1]
        assert first & 0x70 == 0, "no reserved bits"
        assert second & 0x80, "a client masks"
        size, begin = second & 0x7F, at + 2
        if size == 126:
            (size,), begin = struct.unpack("!H", data[at + 2 : at + 4]), at + 4
        elif size == 127:
            (size,), begin = struct.unpack("!Q", data[at + 2 : at + 10]), at + 10
        mask, at = data[begin : begin + 4], begin + 4 + size
        if len(data) < at:
            break
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        masked = int.from_bytes(data[begin + 4 : at], "big")
        frames.append((first & 0x0F, (masked ^ key).to_bytes(size, "big")))
    return frames


def until_closed(connection: socket.socket) -> bytes:
    """Everything that the client sends until it closes."""
    data = bytearray()
    while piece := connection.recv(65536):
        data += piece
    return bytes(data)


def until_close_frame(connection: socket.socket) -> bytes:
    """Everything that the client sends, to the end of its close frame, or of the connection."""
    data = b""
    while not any(opcode == 8 for opcode, _ in client_frames(data)) and (piece := connection.recv(65536)):
        data += piece
    return data


def reset(connection: socket.socket) -> None:
    """Cut a connection with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Proxy(Listener):
    """Carries each connection after `greet(client)` returned the address to connect to, or None to end it.

    Args:
        greet: the proxy's half of the conversation up to the agreement.
        agreed: how it says that the connection stands.
        connections: how many to serve.
    """

    def __init__(
        self, greet: Callable[[socket.socket], tuple[str, int] | None], agreed: bytes, *, connections: int = 1
    ) -> None:
        super().__init__(self._carry, connections=connections)
        self._greet = greet
        self._agreed = agreed

    def _carry(self, client: socket.socket) -> None:
        address = self._greet(client)
        if address is None:
            return
        with socket.create_connection(address) as server:
            client.sendall(self._agreed)
            back = threading.Thread(target=pump, args=(server, client))
            back.start()
            pump(client, server)
            back.join(10)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes until one side ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def connect_greeting(client: socket.socket) -> tuple[str, int]:
    """The proxy's half of HTTP CONNECT."""
    host, _, port = read_head(client).split(b" ")[1].decode().rpartition(":")
    return host, int(port)


HTTP_AGREED = b"HTTP/1.1 200 OK\r\n\r\n"


def read_exactly(client: socket.socket, count: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            raise ConnectionResetError("the client hung up")
        data += piece
    return data


def socks5_greeting(client: socket.socket) -> tuple[str, int]:
    """The proxy's half of RFC 1928, without a password."""
    methods = read_exactly(client, 2)[1]
    assert 0 in read_exactly(client, methods)
    client.sendall(b"\x05\x00")
    return socks5_request(client)


def socks5_request(client: socket.socket) -> tuple[str, int]:
    """Whom the client wants to reach: a name, an IPv4 or an IPv6 address."""
    _, _, _, kind = read_exactly(client, 4)
    if kind == 3:
        host = read_exactly(client, read_exactly(client, 1)[0]).decode()
    else:
        family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
        host = socket.inet_ntop(family, read_exactly(client, size))
    (port,) = struct.unpack("!H", read_exactly(client, 2))
    return host, port


def socks5_with_login(user: bytes, password: bytes) -> Callable[[socket.socket], tuple[str, int] | None]:
    """The same with RFC 1929's password."""

    def greet(client: socket.socket) -> tuple[str, int] | None:
        if 2 not in read_exactly(client, read_exactly(client, 2)[1]):
            client.sendall(b"\x05\xff")
            return None
        client.sendall(b"\x05\x02")
        read_exactly(client, 1)
        given = [read_exactly(client, read_exactly(client, 1)[0]) for _ in range(2)]
        client.sendall(b"\x01\x00" if given == [user, password] else b"\x01\x01")
        return socks5_request(client) if given == [user, password] else None

    return greet


def socks4_greeting(client: socket.socket) -> tuple[str, int]:
    """The proxy's half of SOCKS 4 and 4a; the user must be `me` or nobody."""
    _, _, port, address = struct.unpack("!BBH4s", read_exactly(client, 8))
    assert until_zero(client) in (b"", b"me")
    if address == b"\x00\x00\x00\x01":
        return until_zero(client).decode(), port
    return socket.inet_ntoa(address), port


def until_zero(client: socket.socket) -> bytes:
    """The bytes before the next zero."""
    data = b""
    while not data.endswith(b"\x00"):
        data += read_exactly(client, 1)
    return data[:-1]


SOCKS4_AGREED = b"\x00\x5a\x00\x00\x7f\x00\x00\x01"
SOCKS5_AGREED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00"


def refused_address() -> tuple[str, int]:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: tuple[str, int] = listener.getsockname()
        return address


@contextlib.contextmanager
def swallowing_address() -> Iterator[tuple[str, int]]:
    """An address whose SYN packets vanish, as behind a firewall: a listener whose queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()
