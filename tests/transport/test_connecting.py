"""From a URL to an open connection: names, addresses, TLS, handshakes, and each way in which they fail."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

from finx_sync import ConfigError, StreamManager, WebSocketApp
from finx_sync.errors import ConnectError, ConnectTimeoutError, HandshakeError, NameResolutionError, TLSError
from finx_sync.transport import dial
from tests.servers import (
    SWITCHING,
    Listener,
    RawServer,
    Server,
    echo,
    refused_address,
    swallowing_address,
    until_closed,
)
from tests.transport.log import KEY, Log, connects, failure, resolve_to

# Names and addresses.


def test_a_refused_connection_says_where() -> None:
    """The user would not learn which address refused."""
    _, port = refused_address()
    error = failure(f"ws://127.0.0.1:{port}/streaming/{KEY}")
    assert isinstance(error, ConnectError)
    assert f"127.0.0.1:{port}" in str(error)
    assert KEY not in str(error)


def test_an_unknown_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt host would look like a dead server."""

    def unknown(*_: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(dial.socket, "getaddrinfo", unknown)
    error = failure("ws://misspelt.test/")
    assert isinstance(error, NameResolutionError)
    assert "misspelt.test" in str(error)


def test_a_name_without_addresses_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error would be an IndexError from inside the library."""
    resolve_to(monkeypatch)
    assert "no address" in str(failure("ws://empty.test/"))


def test_the_second_address_is_tried_when_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with a broken IPv6 address would be unreachable."""
    with Server(echo) as server:
        resolve_to(monkeypatch, refused_address(), ("127.0.0.1", server.port))
        connects("ws://two.test/")


def test_the_second_address_is_tried_when_the_first_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first address behind a firewall would use up the whole time."""
    with Server(echo) as server, swallowing_address() as silent:
        resolve_to(monkeypatch, silent, ("127.0.0.1", server.port))
        connects("ws://two.test/", connect_timeout=1.0)


def test_a_slow_name_server_meets_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """`connect_timeout` would not hold while the name is looked up."""
    gate = threading.Event()
    monkeypatch.setattr(dial.socket, "getaddrinfo", lambda *_: gate.wait(10) and [])
    try:
        error = failure("ws://slow.test/", connect_timeout=0.1)
    finally:
        gate.set()
    assert isinstance(error, ConnectTimeoutError)
    assert "resolving" in str(error)


def test_silent_tcp_meets_the_time_limit() -> None:
    """A firewall that swallows packets would hold the program for minutes."""
    with swallowing_address() as (host, port):
        error = failure(f"ws://{host}:{port}/", connect_timeout=0.1)
    assert isinstance(error, ConnectError)


def test_a_slow_on_open_does_not_count_as_connecting() -> None:
    """An on_open that loads a file would end its own connection with a timeout."""
    gate = threading.Event()
    log = Log()

    def on_open(app: WebSocketApp) -> None:
        gate.wait(0.3)
        app.send("hello")

    with Server(echo) as server:
        app = log.app(server.url, on_open=on_open, on_message=lambda app, _: app.close(), connect_timeout=0.2)
        assert app.run_forever() is False
    assert log.errors == []


def test_the_users_own_socket_is_used(server_tls: ssl.SSLContext) -> None:
    """The original's `socket=` would be ignored."""
    with Server(echo) as server, socket.create_connection(("127.0.0.1", server.port)) as own:
        connects("ws://never-looked-up.test/", socket=own)


@pytest.mark.parametrize("url", ["", "nonsense", "http://x/", "ws://", "wss://:80/", "ws://x:99999/", "ws://x:y/"])
def test_impossible_urls_are_refused_at_once(url: str) -> None:
    """A typing error in the URL would be retried for ever."""
    with pytest.raises((ConfigError, ValueError)):
        WebSocketApp(url).run_forever()


# TLS.


@pytest.mark.parametrize("how", ["context", "ca_certs", "ca_cert_path", "bundle", "no check"])
def test_a_certificate_is_trusted_as_the_options_say(
    how: str, server_tls: ssl.SSLContext, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's own certificate authority could not be used."""
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    sslopt: dict[str, Any] = {
        "context": {"context": client_tls},
        "ca_certs": {"ca_certs": str(bundle)},
        "ca_cert_path": {"ca_certs": str(bundle), "ca_cert_path": str(tmp_path)},
        "bundle": {},
        "no check": {"cert_reqs": ssl.CERT_NONE},
    }[how]
    if how == "bundle":
        monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(bundle))
    with Server(echo, ssl=server_tls) as server:
        connects(server.url, {"sslopt": sslopt})


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        ("another name", "check the address"),
        ("another address", "check the address"),
        ("expired", "clock"),
        ("not valid yet", "clock"),
        ("self-signed", "trusts its issuer"),
        ("unknown issuer", "trusts its issuer"),
    ],
)
def test_a_bad_certificate_is_refused_with_its_remedy(
    fault: str, hint: str, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    """Anyone with any certificate could read the key."""
    now = dt.datetime.now(dt.timezone.utc)
    day = dt.timedelta(days=1)
    host = {"another name": "other.test", "another address": "127.0.0.2"}.get(fault, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer = trustme.CA() if fault == "unknown issuer" else authority
    issuer.issue_cert(
        host,
        not_before=now + day if fault == "not valid yet" else now - 2 * day,
        not_after=now - day if fault == "expired" else now + 2 * day,
    ).configure_cert(context)
    if fault == "self-signed":
        with authority.cert_pem.tempfile() as certificate, authority.private_key_pem.tempfile() as key:
            context.load_cert_chain(certificate, key)
        client_tls = ssl.create_default_context()
    with Server(echo, ssl=context) as server:
        error = failure(f"{server.url}streaming/{KEY}", {"sslopt": {"context": client_tls}})
        assert isinstance(error, TLSError)
        assert "certificate" in str(error)
        assert hint in str(error)
        stream = StreamManager(KEY, url=server.url, ssl_context=client_tls)
        with pytest.raises(TLSError, match=hint):
            stream.start()
        with pytest.raises(TLSError, match=hint):
            stream.get_tick_snap("BTC:USD", timeout=5)
        assert KEY not in str(error)
        if fault == "another name":
            connects(server.url, {"sslopt": {"context": client_tls, "server_hostname": "other.test"}})


def test_a_client_certificate_is_shown(
    authority: trustme.CA, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    """A service that asks for client certificates could not be reached."""
    authority.configure_trust(server_tls)
    server_tls.verify_mode = ssl.CERT_REQUIRED
    mine = authority.issue_cert("me@client.test")
    bundle, certificate = tmp_path / "authority.pem", tmp_path / "mine.pem"
    authority.cert_pem.write_to_path(str(bundle))
    mine.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with Server(echo, ssl=server_tls) as server:
        connects(
            server.url,
            {"sslopt": {"ca_certs": str(bundle), "certfile": str(certificate), "ciphers": "ECDHE+AESGCM:CHACHA20"}},
        )


def test_wss_to_a_server_without_tls_says_so() -> None:
    """The user would see an OpenSSL riddle."""

    def plain(client: socket.socket) -> None:
        client.recv(1)
        client.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")

    with Listener(plain) as server:
        error = failure(f"wss://127.0.0.1:{server.port}/", connect_timeout=5)
    assert isinstance(error, TLSError)
    assert "is it a wss server?" in str(error)


def test_a_silent_tls_server_meets_the_time_limit() -> None:
    """A server that takes the TCP connection and says nothing would hold the program for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = failure(f"wss://127.0.0.1:{listener.getsockname()[1]}/", connect_timeout=0.1)
    assert isinstance(error, ConnectTimeoutError)
    assert "TLS" in str(error)


def test_a_context_must_be_one() -> None:
    """A wrong `sslopt` would fail deep inside, or not at all."""
    with pytest.raises(ConfigError, match="SSLContext"):
        WebSocketApp("wss://x.test/").run_forever(sslopt={"context": "default"})


# Handshakes.


@pytest.mark.parametrize(
    ("head", "hint"),
    [
        (b"", "closed the connection during the handshake"),
        (b"HTTP/1.1 101 OK\r\nUpgr", "closed the connection during the handshake"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "200"),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nX-Echo: /streaming/" + KEY.encode() + b"\r\n\r\n", "503"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000, "403"),
        (b"HTTP/1.1 301 Go\r\n\r\n", "nowhere"),
        (b"HTTP/1.1 308 Go\r\nLocation: wss://else.test/streaming/" + KEY.encode() + b"\r\n\r\n", "redirect"),
        (SWITCHING.replace(b"Upgrade: websocket\r\n", b""), "handshake"),
        (SWITCHING.replace(b"%s", b"AAAA"), "handshake"),
    ],
)
def test_each_bad_handshake_is_a_clear_error(head: bytes, hint: str) -> None:
    """The user would see a parser's riddle, or the key in an echoed header."""

    def script(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)

    with RawServer(script, head=head) as server:
        error = failure(f"{server.url}streaming/{KEY}", connect_timeout=5)
    assert isinstance(error, HandshakeError)
    assert hint in str(error)
    assert KEY not in str(error)
    assert KEY not in str(error.headers)
    if b"503" in head:
        assert (error.status_code, error.headers["retry-after"]) == (503, "7")


@pytest.mark.parametrize("at_once", [b"HTTP/", b"HTTP/1.1 101 OK\r\n", b"HTTP/1.1 101 OK\r\nX: "])
def test_a_trickling_handshake_meets_the_time_limit(at_once: bytes) -> None:
    """A server that sends a byte now and then would hold the program for ever."""
    stop = threading.Event()

    def trickle(connection: socket.socket) -> None:
        while not stop.wait(0.01):
            connection.sendall(b"x")

    with RawServer(trickle, head=at_once) as server:
        error = failure(server.url, connect_timeout=0.2)
        stop.set()
    assert isinstance(error, ConnectTimeoutError)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"Content-Length: 1000\r\n\r\n", ""),
        (b'Content-Length: 30\r\n\r\n{"error": "expired"}', "expired"),
        (b"Content-Length: 20\r\n\r\n<html>expired</html>", ""),
        (b"Content-Length: nonsense\r\n\r\nexpired", ""),
        (b"Content-Length: 99999999999999999999999\r\n\r\n" + b"x" * 200_000, ""),
        (b"Transfer-Encoding: chunked\r\n\r\n7\r\nexpired\r\n", ""),
    ],
)
@pytest.mark.parametrize("how", ["cut", "silent", "trickling"])
def test_the_status_survives_a_body_that_never_ends(body: bytes, said: str, how: str) -> None:
    """A refused key would look like a network fault, and be retried for ever."""
    stop = threading.Event()

    def script(connection: socket.socket) -> None:
        if how == "cut":
            return
        while not stop.wait(0.02):
            connection.sendall(b"x" if how == "trickling" else b"")

    with RawServer(script, head=b"HTTP/1.1 403 No\r\n" + body) as server:
        error = failure(server.url, connect_timeout=3600)
        stop.set()
    assert isinstance(error, HandshakeError)
    assert error.status_code == 403
    assert said in str(error)
    assert "<" not in str(error)


def test_a_request_larger_than_the_socket_takes_is_sent_whole(server_tls: ssl.SSLContext) -> None:
    """A long cookie or header would break the handshake."""
    long = "x" * 3_000_000
    with RawServer(lambda connection: None) as server:
        WebSocketApp(server.url, header=[f"X-Long: {long}"]).run_forever(
            sockopt=[(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)]
        )
    assert long.encode() in server.requests[0]


def test_header_forms_and_host_options_reach_the_server() -> None:
    """A service behind a virtual host, or one that checks the origin, could not be reached."""
    with RawServer(lambda connection: None, connections=3) as server:
        WebSocketApp(server.url, header={"X-A": "1", "X-None": None}).run_forever(
            host="h.test", origin="https://o.test"
        )
        WebSocketApp(server.url, header=["X-B: 2"]).run_forever(suppress_origin=True, suppress_host=True)
        WebSocketApp(server.url, header=lambda: ["X-C: 3"]).run_forever()
    first, second, third = (request.decode() for request in server.requests)
    assert "X-A: 1\r\n" in first
    assert "Host: h.test\r\nOrigin: https://o.test\r\n" in first
    assert "X-None" not in first
    assert "X-B: 2\r\n" in second
    assert "Host:" not in second
    assert "Origin:" not in second
    assert "X-C: 3\r\n" in third
    assert f"Host: 127.0.0.1:{server.port}\r\n" in third
