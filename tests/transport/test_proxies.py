"""Connections through HTTP and SOCKS proxies, and each way in which a proxy fails."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time

import pytest

from finx_sync import ConfigError, WebSocketApp
from finx_sync.errors import ConnectError, MissingExtraError, ProxyError
from tests.servers import (
    HTTP_AGREED,
    SOCKS5_AGREED,
    Proxy,
    Server,
    connect_greeting,
    echo,
    refused_address,
    socks5_greeting,
    until_closed,
)
from tests.transport.log import KEY, connects, failure


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
        app = WebSocketApp("ws://x.test/", connect_timeout=0.4)
        options = {"http_proxy_host": "127.0.0.1", "http_proxy_port": proxy.port}
        runner = threading.Thread(target=app.run_forever, kwargs=options)
        runner.start()
        assert asked.wait(5)
        begin = time.monotonic()
        app.close()
        runner.join(5)
        assert time.monotonic() - begin < 0.3
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
