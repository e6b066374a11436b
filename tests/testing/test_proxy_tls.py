"""The fault proxy in front of TLS: passing it through, and ending it itself."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest
from websocket import (
    ABNF,
    WebSocket,
    WebSocketBadStatusException,
    WebSocketException,
    WebSocketTimeoutException,
)

from finx_sync.errors import UsageError
from finx_sync.testing import (
    Answer,
    BlackHole,
    Close,
    Corrupt,
    Cut,
    Delay,
    FaultProxy,
    Mute,
    Reset,
    Split,
    SwallowHandshake,
)
from finx_sync.testing.faults import Fault
from tests.servers import Server, echo

SOON = 10.0


@contextlib.contextmanager
def connected(url: str, context: ssl.SSLContext | None = None, timeout: float = SOON) -> Iterator[WebSocket]:
    """A client by other people that has one thread.

    `websockets` reads and writes a TLS connection on two threads at once, and once in some hundred times that hangs.
    """
    connection = WebSocket(sslopt={} if context is None else {"context": context})
    try:
        connection.connect(url, timeout=timeout)
        yield connection
    finally:
        connection.close(timeout=1)
        connection.shutdown()


def echoed(connection: WebSocket, message: str | bytes = "hello") -> bool:
    """Whether a message comes back."""
    (connection.send if isinstance(message, str) else connection.send_binary)(message)
    return bool(connection.recv() == message)


@pytest.mark.parametrize("ends_tls", [False, True])
def test_everything_passes(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, ends_tls: bool) -> None:
    """The proxy itself would be a fault."""
    options = {"server_context": server_tls, "upstream_context": client_tls} if ends_tls else {}
    with Server(echo, ssl=server_tls) as server, FaultProxy(server.url, **options) as proxy:  # type: ignore[arg-type]
        assert proxy.url.startswith("wss://")
        with connected(proxy.url, client_tls) as connection:
            assert echoed(connection, bytes(3_000_000))
            assert proxy.connections()[0].is_websocket is ends_tls
        assert proxy.wait_for_connections(0, SOON)


def test_tls_can_end_in_front_of_a_plain_server(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    """A sandbox without TLS could not play a wss server."""
    with Server(echo) as server, FaultProxy(server.url, server_context=server_tls) as proxy:
        assert proxy.url.startswith("wss://")
        with connected(proxy.url, client_tls) as connection:
            assert echoed(connection)


@pytest.mark.parametrize("fault", [Cut(), Reset(), BlackHole(lasting=0.2), Delay(0.1), Split(7, count=500)], ids=repr)
def test_faults_of_bytes_need_no_certificate(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, fault: Fault
) -> None:
    """A service that only speaks TLS could not be put behind the proxy."""
    with (
        Server(echo, ssl=server_tls) as server,
        FaultProxy(server.url) as proxy,
        connected(proxy.url, client_tls) as connection,
    ):
        assert proxy.inject(fault).wait(SOON)
        if isinstance(fault, (Cut, Reset)):
            with pytest.raises((WebSocketException, OSError)):
                connection.recv()
        else:
            assert echoed(connection)


def test_a_tls_handshake_can_be_swallowed_without_a_certificate(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """A server that accepts and says nothing could not be played for wss."""
    with Server(echo, ssl=server_tls) as server, FaultProxy(server.url) as proxy:
        injection = proxy.arm(SwallowHandshake())
        with pytest.raises((WebSocketTimeoutException, TimeoutError)), connected(proxy.url, client_tls, 0.3):
            pass
        assert injection.wait(SOON)
        assert proxy.wait_for_connections(0, SOON)


def test_faults_of_frames_need_a_certificate(server_tls: ssl.SSLContext) -> None:
    """A fault would silently not happen."""
    proxy = FaultProxy("wss://127.0.0.1:1")
    assert not proxy.sees_frames
    for fault in (Corrupt(), Mute(), Close(), Answer(401)):
        with pytest.raises(UsageError, match="server_context"):
            proxy.arm(fault)
    assert FaultProxy("wss://127.0.0.1:1", server_context=server_tls).sees_frames


def test_faults_of_frames_work_inside_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    """Half of the faults could not be tested over wss."""
    with (
        Server(echo, ssl=server_tls) as server,
        FaultProxy(server.url, server_context=server_tls, upstream_context=client_tls) as proxy,
    ):
        proxy.arm(Answer(503))
        with pytest.raises(WebSocketBadStatusException), connected(proxy.url, client_tls):
            pass
        with connected(proxy.url, client_tls) as connection:
            proxy.inject(Close(4001))
            opcode, data = connection.recv_data()
            assert (opcode, data[:2]) == (ABNF.OPCODE_CLOSE, (4001).to_bytes(2, "big"))
        with connected(proxy.url, client_tls) as connection:
            assert echoed(connection)
            proxy.inject(Corrupt("utf8"))
            with pytest.raises(WebSocketException):
                echoed(connection)


def test_an_untrusted_certificate_is_the_clients_to_refuse(server_tls: ssl.SSLContext) -> None:
    """The proxy would die of the first client that refuses it."""
    with Server(echo) as server, FaultProxy(server.url, server_context=server_tls) as proxy:
        for _ in range(2):
            with pytest.raises(ssl.SSLCertVerificationError), connected(proxy.url):
                pass
        assert proxy.wait_for_connections(0, SOON)


@pytest.mark.parametrize("fault", [Cut(), Reset(), None], ids=repr)
def test_a_client_that_says_nothing_can_be_ended(server_tls: ssl.SSLContext, fault: Fault | None) -> None:
    """A TLS handshake that hangs would outlive the test."""
    with Server(echo) as server, FaultProxy(server.url, server_context=server_tls) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as raw:
            raw.settimeout(SOON)
            assert proxy.wait_for_connections(1, SOON)
            if fault is None:
                proxy.stop()
            else:
                proxy.inject(fault)
                assert proxy.wait_for_connections(0, SOON)
            with contextlib.suppress(ConnectionResetError):
                assert raw.recv(1) == b""
        proxy.stop()


def test_the_target_is_verified(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    """The proxy would talk to anyone who calls himself the target."""
    with (
        Server(echo, ssl=server_tls) as server,
        FaultProxy(server.url, server_context=server_tls) as proxy,
        pytest.raises((WebSocketException, OSError)),
        connected(proxy.url, client_tls),
    ):
        pass
