"""Connections through HTTP and SOCKS proxies, and each way in which a proxy fails."""

from __future__ import annotations

import base64
import socket
import ssl
import threading

import pytest

import finx_sync
from finx_sync import ConfigError, StreamManager, WebSocketApp
from finx_sync.errors import ConnectTimeoutError, NameResolutionError, ProxyError
from finx_sync.sandbox import Sandbox
from tests.servers import (
    HTTP_AGREED,
    SOCKS4_AGREED,
    SOCKS5_AGREED,
    Listener,
    Proxy,
    Server,
    connect_greeting,
    echo,
    read_head,
    refused_address,
    socks4_greeting,
    socks5_greeting,
    socks5_with_login,
    until_closed,
)
from tests.transport.log import KEY, connects, failure, resolve_to

KINDS = {
    "http": (connect_greeting, HTTP_AGREED),
    "socks4": (socks4_greeting, SOCKS4_AGREED),
    "socks4a": (socks4_greeting, SOCKS4_AGREED),
    "socks5": (socks5_greeting, SOCKS5_AGREED),
    "socks5h": (socks5_greeting, SOCKS5_AGREED),
}


@pytest.mark.parametrize("kind", KINDS)
def test_through_every_kind_of_proxy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users behind a company's proxy or an SSH tunnel could not connect."""
    with Server(echo) as server, Proxy(*KINDS[kind], connections=2) as proxy:
        options = {"http_proxy_host": "127.0.0.1", "http_proxy_port": proxy.port, "proxy_type": kind}
        connects(server.url, options)
        connects(f"ws://localhost:{server.port}/", {"proxy": f"{kind}://me@127.0.0.1:{proxy.port}"})


@pytest.mark.parametrize("kind", KINDS)
def test_who_looks_up_the_name(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that only the proxy knows could not be reached, or a name that only we know."""
    asked: list[str] = []

    def greet(client: socket.socket) -> None:
        asked.append(KINDS[kind][0](client)[0])

    resolve_to(monkeypatch, ("127.0.0.7", 80))
    with Proxy(greet, b"") as proxy:
        assert isinstance(failure("ws://inner.test/", {"proxy": f"{kind}://127.0.0.1:{proxy.port}"}), ProxyError)
    assert asked == ["inner.test" if kind in ("http", "socks4a", "socks5h") else "127.0.0.7"]


def test_an_ipv6_address_reaches_the_proxy() -> None:
    """A server without a name would be unreachable, or another one reached."""
    asked: list[tuple[str, int]] = []
    for kind in ("http", "socks5"):
        with Proxy(lambda client, kind=kind: asked.append(KINDS[kind][0](client)), b"") as proxy:
            failure("ws://[::1]:81/", {"proxy": f"{kind}://127.0.0.1:{proxy.port}"})
    assert asked == [("[::1]", 81), ("::1", 81)]
    with Listener(lambda client: None) as proxy:
        error = failure("ws://[::1]:81/", {"proxy": f"socks4://127.0.0.1:{proxy.port}"})
    assert "socks5" in str(error)


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_the_login_reaches_the_proxy(kind: str) -> None:
    """A proxy that wants a password could not be used, or one with odd characters in it."""

    def http(client: socket.socket) -> tuple[str, int] | None:
        head = read_head(client)
        if b"Proxy-Authorization: Basic " + base64.b64encode(b"user:p:@ss") not in head:
            client.sendall(b"HTTP/1.1 407 Who are you\r\n\r\n")
            return None
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        return host, int(port)

    greet, agreed = (http, HTTP_AGREED) if kind == "http" else (socks5_with_login(b"user", b"p:@ss"), SOCKS5_AGREED)
    with Server(echo) as server, Proxy(greet, agreed, connections=4) as proxy:
        where = {"http_proxy_host": "127.0.0.1", "http_proxy_port": proxy.port, "proxy_type": kind}
        connects(server.url, {**where, "http_proxy_auth": ("user", "p:@ss")})
        connects(server.url, {"proxy": f"{kind}://user:p%3A%40ss@127.0.0.1:{proxy.port}"})
        for login in ("", f"user:{KEY}@"):
            error = failure(server.url, {"proxy": f"{kind}://{login}127.0.0.1:{proxy.port}"})
            assert isinstance(error, ProxyError)
            assert "login" in str(error)
            assert KEY not in str(error)


@pytest.mark.parametrize(
    ("kind", "answer", "hint"),
    [
        ("http", b"", "hung up"),
        ("http", b"HTTP/1.1 200", "hung up"),
        ("http", b"HTTP/1.1 403 Not from here\r\n\r\n", "403 Not from here"),
        ("http", b"HTTP/1.1 302 Go\r\nLocation: http://login.test/\r\n\r\n", "302"),
        ("http", b"HTTP/1.1 ABC\r\n\r\n", "HTTP proxy?"),
        ("http", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "HTTP proxy?"),
        ("http", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "more than"),
        ("http", b"HTTP/1.1 502 /streaming/" + KEY.encode() + b"\r\n\r\n", "502"),
        ("socks5", b"HTTP/1.1 400 Bad\r\n\r\n", "SOCKS 5"),
        ("socks5", b"\x05", "hung up"),
        ("socks5", b"\x05\xff", "login"),
        ("socks5", b"\x05\x02", "login"),
        ("socks5", b"\x05\x00\x05\x02\x00\x01", "rules"),
        ("socks5", b"\x05\x00\x05\x63\x00\x01", "failure 99"),
        ("socks5", b"\x05\x00\x05\x00\x00\x01\x7f", "hung up"),
        ("socks4", b"HTTP/1.1 400 Bad\r\n\r\n", "SOCKS 4"),
        ("socks4", b"\x00\x5b" + bytes(6), "91"),
        ("socks4", b"\x00", "hung up"),
    ],
)
def test_a_proxy_that_refuses_or_is_none_says_so(kind: str, answer: bytes, hint: str) -> None:
    """The user would look for the fault at the server, or see the key that a proxy echoes."""

    def script(client: socket.socket) -> None:
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        until_closed(client)

    with Listener(script) as proxy:
        error = failure(
            f"ws://127.0.0.1:9/streaming/{KEY}", {"proxy": f"{kind}://127.0.0.1:{proxy.port}"}, connect_timeout=5
        )
    assert isinstance(error, ProxyError)
    assert hint in str(error)
    assert str(proxy.port) in str(error) or hint == "login"
    assert KEY not in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_in_single_bytes_is_an_answer(kind: str) -> None:
    """A proxy at the end of a slow line would be refused."""

    class Slow(Proxy):
        """Sends its agreement byte by byte, each in a packet of its own."""

        def _carry(self, client: socket.socket) -> None:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            agreed, self._agreed = self._agreed, b""
            address = self._greet(client)
            for byte in agreed:
                client.sendall(bytes([byte]))
            self._greet = lambda client: address
            super()._carry(client)

    with Server(echo) as server, Slow(*KINDS[kind]) as proxy:
        connects(server.url, {"proxy": f"{kind}://127.0.0.1:{proxy.port}"})


@pytest.mark.parametrize("address", [b"\x03\x04host", b"\x04" + bytes(16)])
def test_socks5_may_name_any_address_of_its_own(address: bytes) -> None:
    """The rest of the proxy's answer would be taken for the server's."""
    with Server(echo) as server, Proxy(socks5_greeting, b"\x05\x00\x00" + address + b"\x00\x50") as proxy:
        connects(server.url, {"proxy": f"socks5://127.0.0.1:{proxy.port}"})


@pytest.mark.parametrize("host", ["x" * 64 + ".test", "a." * 130 + "test"])
def test_a_name_that_no_proxy_can_be_given_says_so(host: str) -> None:
    """The user would see a codec's riddle."""
    with Listener(until_closed) as proxy:
        error = failure(f"ws://{host}/", {"proxy": f"socks5h://127.0.0.1:{proxy.port}"}, connect_timeout=5)
    assert isinstance(error, NameResolutionError)


def test_a_login_that_socks5_cannot_carry_says_so() -> None:
    """A long password would be cut off, or end in a riddle."""

    def script(client: socket.socket) -> None:
        client.sendall(b"\x05\x02")
        until_closed(client)

    with Listener(script) as proxy:
        error = failure(
            "ws://x.test/", {"proxy": f"socks5h://user:{'x' * 300}@127.0.0.1:{proxy.port}"}, connect_timeout=5
        )
    assert "255" in str(error)


def test_a_dribbling_proxy_meets_the_time_limit() -> None:
    """A proxy that sends a byte now and then would hold the program, or a thread, for ever."""
    stop = threading.Event()

    def dribble(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not stop.wait(0.01):
            client.sendall(b"x")

    with Listener(dribble) as proxy:
        error = failure("ws://x.test/", {"proxy": f"http://127.0.0.1:{proxy.port}"}, connect_timeout=0.3)
        stop.set()
    assert isinstance(error, ConnectTimeoutError)
    assert "proxy" in str(error)


def test_a_proxys_own_name_is_looked_up_and_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user would check the server's name instead of the proxy's."""
    resolve_to(monkeypatch)
    error = failure("ws://127.0.0.1/", {"proxy": "http://proxy.test:3128"})
    assert isinstance(error, ProxyError)
    assert "proxy.test" in str(error)


def test_a_stream_and_its_functions_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """The option would be taken, and not heeded."""
    with Proxy(socks5_greeting, SOCKS5_AGREED, connections=3) as proxy:
        url = f"socks5://127.0.0.1:{proxy.port}"
        assert finx_sync.get_tick_snap("BTC:USD", environment="sandbox", url=sandbox.url, proxy=url).price
        with StreamManager(environment="sandbox", url=sandbox.url, proxy=url) as stream:
            stream.subscribe_spot("BTC:USDC")
            assert stream.take(1, timeout=10)
        monkeypatch.setenv("all_proxy", url)
        assert finx_sync.get_tick_snap("BTC:USD", environment="sandbox", url=sandbox.url).price
        assert proxy.accepted == 3
        monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
        assert finx_sync.get_tick_snap("BTC:USD", environment="sandbox", url=sandbox.url, proxy="").price


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
        assert isinstance(failure("ws://x.test/", options, connect_timeout=0.2), ConnectTimeoutError)


def test_close_while_a_proxy_is_silent() -> None:
    """close() would wait for a proxy that never answers, or leave a thread behind that does."""
    asked = threading.Event()

    def silent(client: socket.socket) -> None:
        client.recv(1)
        asked.set()
        until_closed(client)

    with Listener(silent) as proxy:
        app = WebSocketApp("ws://x.test/", connect_timeout=30)
        options = {"http_proxy_host": "127.0.0.1", "http_proxy_port": proxy.port}
        runner = threading.Thread(target=app.run_forever, kwargs=options)
        runner.start()
        assert asked.wait(5)
        app.close()
        runner.join(5)
        assert not [one for one in threading.enumerate() if one.name.startswith("finx-sync")]


@pytest.mark.parametrize("url", ["gopher://x:1", "http://", "http://x:99999", "http://[::1", "https://x:3128"])
def test_an_unreadable_proxy_url_fails_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in a setting would look like a dead network."""
    with pytest.raises(ConfigError, match="proxy URL"):
        WebSocketApp("ws://x.test/").run_forever(proxy=url)
    with pytest.raises(ConfigError, match="proxy URL"):
        StreamManager("sandbox-key", proxy=url)
    monkeypatch.setenv("http_proxy", url)
    with pytest.raises(ConfigError, match="proxy URL"):
        WebSocketApp("ws://x.test/").run_forever()


def test_a_proxy_needs_a_port() -> None:
    """The original's default would be guessed silently."""
    with pytest.raises(ConfigError, match="port"):
        WebSocketApp("ws://x.test/").run_forever(http_proxy_host="proxy")
