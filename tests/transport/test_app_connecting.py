"""From a URL to an open connection: names, addresses, TLS, proxies, handshakes, and each way in which they fail."""

from __future__ import annotations

import gc
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import websocket

from finx_sync import ConfigError, WebSocketApp
from finx_sync.errors import (
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    FinxSyncError,
    HandshakeError,
    MissingExtraError,
    NameResolutionError,
    ProxyError,
    TLSError,
)
from finx_sync.transport import dial, waker
from finx_sync.transport.app import as_finx_error, quiet_thread
from finx_sync.transport.waker import Poller, Waker
from tests.servers import (
    SOCKS5_AGREED,
    SWITCHING,
    Proxy,
    RawServer,
    Server,
    echo,
    server_frame,
    socks5_greeting,
    swallowing_address,
    until_close_frame,
    until_closed,
)
from tests.transport.log import Log

KEY = "S3cretKey"


def failure(url: str, options: dict[str, Any] | None = None, **app_options: Any) -> FinxSyncError:
    """What `run_forever` reports; the connection must fail."""
    log = Log()
    assert log.app(url, **app_options).run_forever(**(options or {})) is True
    assert [event[0] for event in log.events] == ["on_error", "on_close"]
    return as_finx_error(log.errors[0])


def connects(url: str, options: dict[str, Any] | None = None, **app_options: Any) -> None:
    """Open, say something, hear it, and close."""
    heard: list[str] = []

    def on_message(app: WebSocketApp, message: str) -> None:
        heard.append(message)
        app.close()

    log = Log()
    app = log.app(url, on_open=lambda app: app.send("hello"), on_message=on_message, **app_options)
    assert app.run_forever(**(options or {})) is False, log.errors
    assert heard == ["hello"]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every name have these addresses."""
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any) -> Any:
        return infos if host.endswith(".test") else real(host, *rest)

    monkeypatch.setattr(dial.socket, "getaddrinfo", look_up)


def refused_address() -> tuple[str, int]:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: tuple[str, int] = listener.getsockname()
        return address


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


def test_a_certificate_for_another_name_is_refused(authority: trustme.CA, client_tls: ssl.SSLContext) -> None:
    """Anyone with any certificate could read the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.test").configure_cert(context)
    with Server(echo, ssl=context) as server:
        error = failure(server.url, {"sslopt": {"context": client_tls}})
        assert isinstance(error, TLSError)
        assert "certificate" in str(error)
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
        client.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")
        until_closed(client)

    with Proxy(plain, b"") as server:
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


# Proxies.


def connect_greeting(client: socket.socket) -> tuple[str, int]:
    """The proxy's half of HTTP CONNECT."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(4096)
    host, _, port = request.split(b" ")[1].decode().rpartition(":")
    return host, int(port)


HTTP_AGREED = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize("kind", ["socks5", "socks5h"])
def test_through_a_socks_proxy(kind: str) -> None:
    """Users behind an SSH tunnel could not connect."""
    with Server(echo) as server, Proxy(socks5_greeting, SOCKS5_AGREED) as proxy:
        options = {"http_proxy_host": "127.0.0.1", "http_proxy_port": proxy.port, "proxy_type": kind}
        connects(server.url, options)


def test_tls_through_a_proxy(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    """The proxy's name would be checked instead of the server's, or nothing at all."""
    with Server(echo, ssl=server_tls) as server, Proxy(connect_greeting, HTTP_AGREED) as proxy:
        options = {"http_proxy_host": "127.0.0.1", "http_proxy_port": proxy.port, "sslopt": {"context": client_tls}}
        connects(server.url, options)


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy", "HTTP_PROXY"])
def test_the_environments_proxy_is_used(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that only reaches the world through its proxy would reach nothing."""
    with Server(echo) as server, Proxy(connect_greeting, HTTP_AGREED) as proxy:
        monkeypatch.setenv(
            variable, f"127.0.0.1:{proxy.port}" if variable == "http_proxy" else f"http://127.0.0.1:{proxy.port}"
        )
        connects(server.url)


@pytest.mark.parametrize("hosts", ["127.0.0.1", "*", "localhost,127.0.0.1"])
def test_no_proxy_is_heeded(hosts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local server would be looked for behind the proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Server(echo) as server:
        monkeypatch.setenv("no_proxy", hosts)
        connects(server.url)
        monkeypatch.delenv("no_proxy")
        options = {"http_proxy_host": "127.0.0.1", "http_proxy_port": 1, "http_no_proxy": hosts.split(",")}
        connects(server.url, options)


def test_an_unreachable_proxy_is_named_without_its_password() -> None:
    """The proxy's password would stand in the log."""
    host, port = refused_address()
    options = {"http_proxy_host": host, "http_proxy_port": port, "http_proxy_auth": ("user", KEY)}
    error = failure("ws://x.test/", options)
    assert isinstance(error, ProxyError)
    assert f"{host}:{port}" in str(error)
    assert KEY not in str(error)


def test_a_silent_proxy_meets_the_time_limit() -> None:
    """A proxy that does not answer would hold the program for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = {"http_proxy_host": "127.0.0.1", "http_proxy_port": listener.getsockname()[1]}
        assert isinstance(failure("ws://x.test/", options, connect_timeout=0.2), ConnectError)


def test_close_while_a_proxy_is_silent() -> None:
    """close() would wait for a proxy that never answers."""
    asked = threading.Event()
    late: list[bytes] = []

    def silent(client: socket.socket) -> None:
        client.recv(1)
        asked.set()
        late.append(until_closed(client))

    with Proxy(silent, b"") as proxy:
        app = WebSocketApp("ws://x.test/", connect_timeout=1)
        options = {"http_proxy_host": "127.0.0.1", "http_proxy_port": proxy.port}
        runner = threading.Thread(target=app.run_forever, kwargs=options)
        runner.start()
        assert asked.wait(5)
        begin = time.monotonic()
        app.close()
        runner.join(5)
        assert time.monotonic() - begin < 0.5
    assert late, "the connection to the proxy is closed in the end"


def test_a_proxy_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user would see an ImportError without the command that mends it."""
    monkeypatch.setitem(sys.modules, "python_socks", None)
    error = failure("ws://x.test/", {"http_proxy_host": "127.0.0.1", "http_proxy_port": 1})
    assert isinstance(error, MissingExtraError)
    assert "pip install" in str(error)


@pytest.mark.parametrize("variable", ["gopher://x:1", "http://"])
def test_an_unreadable_proxy_url_says_so(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in a variable would look like a dead network."""
    monkeypatch.setenv("http_proxy", variable)
    assert isinstance(failure("ws://x.test/"), ProxyError)


def test_a_proxy_needs_a_port() -> None:
    """The original's default would be guessed silently."""
    with pytest.raises(ConfigError, match="port"):
        WebSocketApp("ws://x.test/").run_forever(http_proxy_host="proxy")


# Handshakes.


@pytest.mark.parametrize(
    ("head", "hint"),
    [
        (b"", "closed the connection during the handshake"),
        (b"HTTP/1.1 101 OK\r\nUpgr", "closed the connection during the handshake"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "handshake"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "200"),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nX-Echo: /streaming/" + KEY.encode() + b"\r\n\r\n", "503"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000, "longer"),
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


@pytest.mark.parametrize("at_once", [b"H", b"HTTP/1.1 101 OK\r\n", b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n"])
def test_a_trickling_handshake_meets_the_time_limit(at_once: bytes) -> None:
    """A server that sends a byte now and then would hold the program for ever."""
    stop = threading.Event()

    def trickle(connection: socket.socket) -> None:
        while not stop.wait(0.01):
            connection.sendall(b"x")

    with RawServer(trickle, head=at_once) as server:
        begin = time.monotonic()
        error = failure(server.url, connect_timeout=0.2)
        assert time.monotonic() - begin < 1
        stop.set()
    assert isinstance(error, ConnectTimeoutError)


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


# Fragments and the rest of the drop-in.


def test_fragments_reach_the_callbacks_as_in_the_original() -> None:
    """A legacy bot that puts fragments together itself would get other pieces."""
    frames = [
        server_frame(1, b"one", fin=False),
        server_frame(9, b"p"),
        server_frame(0, b"two", fin=False),
        server_frame(0, b"three"),
        server_frame(2, b"\xff", fin=False),
        server_frame(0, b"\xfe"),
        server_frame(1, b"whole"),
        server_frame(8, b"\x03\xe8bye"),
    ]

    def script(connection: socket.socket) -> None:
        connection.sendall(b"".join(frames))
        until_close_frame(connection)

    def told(kind: type[websocket.WebSocketApp], names: list[str]) -> list[tuple[Any, ...]]:
        events: list[tuple[Any, ...]] = []
        callbacks = {
            name: (lambda app, *values, name=name, events=events: events.append((name, *values))) for name in names
        }
        with RawServer(script) as server:
            kind(server.url, **callbacks).run_forever(skip_utf8_validation=True)
        with warnings.catch_warnings():  # the original leaves its socket to the garbage collector
            warnings.simplefilter("ignore")
            gc.collect()
        return events

    names = ["on_open", "on_message", "on_data", "on_ping", "on_close"]
    for chosen in (names, [*names, "on_cont_message"]):
        assert told(WebSocketApp, chosen) == told(websocket.WebSocketApp, chosen)


def test_timers_run_on_the_reading_thread_in_order() -> None:
    """Keep-alive messages would not be sent, or from a thread that must not touch the connection."""
    calls: list[Any] = []

    def on_open(app: WebSocketApp) -> None:
        app.call_later(0.02, lambda: calls.append(("once", threading.get_ident())))
        app.call_later(0, lambda: calls.append(("every", threading.get_ident())), every=0.01)
        app.call_later(0.1, app.close)

    with Server(echo) as server:
        app = WebSocketApp(server.url, on_open=on_open)
        app.run_forever()
        app.call_later(0, lambda: calls.append("never"))
    assert {thread for _, thread in calls} == {threading.get_ident()}
    names = [name for name, _ in calls]
    assert names.count("once") == 1
    assert names.count("every") >= 3
    assert names[0] == "every"


def test_the_repr_and_the_log_hide_the_key(caplog: pytest.LogCaptureFixture) -> None:
    """The key would stand in a log file or on a screen."""
    log = logging.getLogger("websocket")
    with RawServer(lambda connection: None) as server, caplog.at_level(logging.DEBUG, logger="websocket"):
        app = WebSocketApp(f"{server.url}streaming/{KEY}")
        shown: list[str] = [repr(app)]
        app.on_open = lambda app: shown.append(repr(app))
        app.run_forever()
        log.error("GET /streaming/%s", KEY)
        with quiet_thread(), quiet_thread():
            log.error("unheard")
        log.error("heard")
    assert KEY not in "".join(shown)
    assert "closed" in shown[0]
    assert "heard" in caplog.messages
    assert "unheard" not in caplog.messages
    assert KEY not in caplog.text


def wrapped(inner: Exception, outer: Exception) -> Exception:
    """`outer`, raised while `inner` was handled."""
    try:
        try:
            raise inner
        except Exception:
            raise outer  # noqa: B904  # as websocket-client does it
    except Exception as error:  # noqa: BLE001  # it is what is wanted
        return error


LOST = ConnectionLostError("an older one")
TIMEOUT = ConnectTimeoutError("no connection within 1 s")


@pytest.mark.parametrize(
    ("error", "kind", "hint"),
    [
        (LOST, ConnectionLostError, "older"),
        (wrapped(TIMEOUT, websocket.WebSocketTimeoutException("timed out")), ConnectTimeoutError, "within 1 s"),
        (websocket.WebSocketTimeoutException("timed out"), ConnectTimeoutError, "timed out"),
        (TimeoutError("timed out"), ConnectTimeoutError, "timed out"),
        (wrapped(LOST, websocket.WebSocketBadStatusException("no", 403)), HandshakeError, "403"),
        (wrapped(LOST, ConnectionRefusedError("refused")), ConnectError, "refused"),
        (websocket.WebSocketException(f"bad /streaming/{KEY}"), HandshakeError, "***"),
        (ValueError(f"?token={KEY}"), ConnectError, "***"),
    ],
)
def test_each_error_becomes_one_of_ours(error: BaseException, kind: type[FinxSyncError], hint: str) -> None:
    """`except FinxSyncError` would miss it, or an older error would be reported in its place."""
    found = as_finx_error(error)
    assert isinstance(found, kind)
    assert hint in str(found)
    assert KEY not in str(found)


# What everything stands on.


@pytest.mark.parametrize("source", ["", "def create_connection(): ...\n", "class WebSocketApp: ...\n"])
@pytest.mark.parametrize("package", [False, True])
def test_an_impostor_named_websocket_is_refused_with_the_remedy(source: str, package: bool, tmp_path: Path) -> None:
    """The user would see `module 'websocket' has no attribute ...` and not know why."""
    file = tmp_path / ("websocket/__init__.py" if package else "websocket.py")
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import finx_sync"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError")
    assert "pip uninstall -y websocket websocket-client && pip install 'websocket-client>=1.9.2,<2'" in last


IMPLEMENTATIONS = [waker._Select, waker._Poll]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_waiting_sees_data_room_wakes_and_the_time(
    implementation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The io thread would sleep through data, or spin."""
    monkeypatch.setattr(waker, "LONGEST_WAIT", 0.01)
    left, right = socket.socketpair()
    awake = Waker()
    with left, right:
        poller = Poller(left, awake)
        poller._impl = implementation(left.fileno(), awake.fileno())
        assert poller.wait(read=True) == (False, False), "for a moment only, lest Ctrl+C wait"
        assert poller.wait(read=True, write=True, timeout=5) == (False, True)
        assert poller.wait(timeout=0) == (False, False)
        awake.wake()
        awake.wake()
        assert poller.wait(read=True) == (False, False)
        right.send(b"x")
        assert poller.wait(read=True) == (True, False)
        assert poller.wait(timeout=-1) == (False, False)
        assert poller.wait(write=True) == (False, True)
        assert poller.wait(read=True) == (True, False)
    awake.close()
    awake.wake()
