"""The conversation with a proxy, without I/O: HTTP CONNECT, SOCKS 4 and 4a, SOCKS 5.

`talk` is a generator: it yields bytes to send, or the number of bytes to read next, and returns when the proxy has
agreed. Its caller owns the socket and the clock, so no conversation outlasts a deadline or a `stop`.

Sources: RFC 9110 9.3.6 and RFC 7617 (CONNECT, Basic), RFC 1928 and RFC 1929 (SOCKS 5), "SOCKS: A protocol for TCP proxy
across firewalls" by Ying-Da Lee, and its extension 4a.
"""

from __future__ import annotations

import base64
import ipaddress
import struct
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from finx_sync.errors import ConfigError, NameResolutionError, ProxyError
from finx_sync.redaction import REDACTED, excerpt, redact, remember

__all__ = ["ProxyAddress", "Talk", "read_proxy", "talk"]

DEFAULT_PORTS: Final = {"http": 80, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
"""By scheme. With ``socks4a`` and ``socks5h`` the proxy resolves the host name, as in curl."""
MAX_ANSWER: Final = 16 * 1024
"""Bytes of an HTTP proxy's answer."""

SOCKS5_FAILURES: Final = {
    1: "a general failure",
    2: "its rules do not allow the connection",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "the connection was refused",
    6: "it took too long to reach the host",
    7: "it cannot CONNECT",
    8: "it does not know this type of address",
}
"""By the reply code of RFC 1928 6."""
NO_LOGIN: Final = 0x00
PASSWORD: Final = 0x02

Talk = Generator[bytes | int, bytes, None]


@dataclass(frozen=True)
class ProxyAddress:
    """A proxy's address and the login for it.

    Attributes:
        scheme: "http", "socks4", "socks4a", "socks5" or "socks5h".
        host, port: its address.
        user, password: "" for none; never shown.
    """

    scheme: str
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def looks_up(self) -> bool:
        """Whether the proxy is given the host's name; if not, it is given an address that was looked up here."""
        return self.scheme in ("http", "socks4a", "socks5h")

    def login_header(self) -> dict[str, str]:
        """The HTTP header with the login; empty if there is no login."""
        if not self.user:
            return {}
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Proxy-Authorization": f"Basic {login}"}

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def read_proxy(url: str) -> ProxyAddress:
    """Parse a proxy's URL; the user and the password in it may be percent-encoded.

    Raises:
        ConfigError: it is not a proxy URL, its kind is not supported, or its login has characters that end the host.
    """
    scheme, mark, rest = url.partition("://") if "://" in url else ("http", "://", url)
    login, _, _ = rest.rpartition("@")
    _remember_login(login)
    try:
        parts = urlsplit(f"{scheme}{mark}{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    # A slash, a question mark or a number sign in the login ends the host part early: we would connect elsewhere.
    if not host or parts.scheme not in DEFAULT_PORTS or "@" in rest.removeprefix(parts.netloc):
        kinds = ", ".join(f"{known}://" for known in DEFAULT_PORTS)
        raise ConfigError(
            f"{_without_login(url)!r} is not a proxy URL; it looks like http://host:port, and may begin with {kinds}"
            + ("; characters such as / # ? in its login are written %2F %23 %3F" if login else "")
        )
    return ProxyAddress(
        parts.scheme,
        host,
        port or DEFAULT_PORTS[parts.scheme],
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


def _remember_login(login: str) -> None:
    """Redact a proxy's password from now on, or its user if there is no password, both encoded and decoded."""
    user, colon, password = login.partition(":")
    secret = password if colon and password else user
    remember(secret, unquote(secret))
    if password:
        remember(f"{unquote(user)}:{unquote(password)}")  # so its base64 is redacted even if the password is short


def _without_login(url: str) -> str:
    """The URL with a placeholder for the login: everything before the last @ may belong to the login."""
    if "@" not in url:
        return redact(url)
    scheme, mark, _ = url.partition("://")
    return f"{scheme + mark if mark and scheme.isalnum() else ''}{REDACTED}@{url.rpartition('@')[2]}"


def talk(proxy: ProxyAddress, host: str, port: int) -> Talk:
    """Ask `proxy` for a connection to `host`, a name or an address.

    Raises:
        ProxyError: it refused, or answered with something else; the text says what to do.
    """
    if proxy.scheme == "http":
        return _http(proxy, host, port)
    if proxy.scheme in ("socks5", "socks5h"):
        return _socks5(proxy, host, port)
    return _socks4(proxy, host, port)


def _http(proxy: ProxyAddress, host: str, port: int) -> Talk:
    where = f"[{host}]:{port}" if ":" in host else f"{_wire_name(host).decode()}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    lines += [f"{name}: {value}" for name, value in proxy.login_header().items()]
    yield "\r\n".join([*lines, "", ""]).encode()
    answer = bytearray()
    # Byte by byte, since what follows the answer belongs to the connection with the server.
    while not answer.endswith(b"\r\n\r\n"):
        answer += yield 1
        if len(answer) > MAX_ANSWER:
            raise ProxyError(f"the proxy {proxy} answered with more than {MAX_ANSWER} bytes; is it an HTTP proxy?")
    first = answer.partition(b"\r\n")[0].decode("latin-1")
    version, _, status = first.partition(" ")
    code = status[:3]
    if not version.startswith("HTTP/") or not code.isdigit():
        raise ProxyError(f"the proxy {proxy} did not answer in HTTP, but {excerpt(first, 80)!r}; is it an HTTP proxy?")
    if code == "407":
        raise ProxyError(
            f"the proxy {proxy} requires {'another' if proxy.user else 'a'} login (HTTP 407); {_login_remedy(proxy)}"
        )
    if not code.startswith("2"):
        raise ProxyError(
            f"the proxy {proxy} refused to connect to {where}: HTTP {excerpt(status, 80)}; "
            "check that it may connect there, or set no_proxy for this host"
        )


def _socks5(proxy: ProxyAddress, host: str, port: int) -> Talk:
    wanted = b"\x05\x01\x00" + _socks5_address(host) + struct.pack("!H", port)
    yield bytes([5, 2, NO_LOGIN, PASSWORD]) if proxy.user else bytes([5, 1, NO_LOGIN])
    version, method = yield 2
    if version != 5:
        raise ProxyError(f"the proxy {proxy} does not speak SOCKS 5; is it an HTTP proxy?")
    if method == PASSWORD and proxy.user:
        user, password = proxy.user.encode(), proxy.password.encode()
        if max(len(user), len(password)) > 255:
            raise ProxyError("the login for a SOCKS 5 proxy has at most 255 bytes of user and of password (RFC 1929)")
        yield bytes([1, len(user), *user, len(password), *password])
        _, verdict = yield 2
        if verdict != 0:
            raise ProxyError(f"the proxy {proxy} refused the login; {_login_remedy(proxy)}")
    elif method != NO_LOGIN:
        raise ProxyError(f"the proxy {proxy} requires a login that was not given; {_login_remedy(proxy)}")
    yield wanted
    _, failure, _, kind = yield 4
    if failure:
        why = SOCKS5_FAILURES.get(failure, f"failure {failure}")
        raise ProxyError(f"the proxy {proxy} did not connect to {host}:{port}: {why}")
    if kind == 3:
        (length,) = yield 1
    else:
        length = 4 if kind == 1 else 16
    yield length + 2  # read and ignore the address and port that the proxy connected from


def _socks5_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = _wire_name(host)
        return bytes([3, len(name)]) + name
    return bytes([1 if address.version == 4 else 4]) + address.packed


def _socks4(proxy: ProxyAddress, host: str, port: int) -> Talk:
    try:
        address, name = ipaddress.IPv4Address(host).packed, b""
    except ValueError:
        if not proxy.looks_up:
            raise ProxyError(f"SOCKS 4 cannot reach an IPv6 address such as {host}; use a socks5:// proxy") from None
        address, name = b"\x00\x00\x00\x01", _wire_name(host) + b"\x00"  # 4a: an impossible address, then the name
    yield b"\x04\x01" + struct.pack("!H", port) + address + proxy.user.encode() + b"\x00" + name
    version, verdict = (yield 8)[:2]
    if version != 0:
        raise ProxyError(f"the proxy {proxy} does not speak SOCKS 4; is it an HTTP proxy?")
    if verdict != 90:
        raise ProxyError(f"the proxy {proxy} refused to connect to {host}:{port} (SOCKS 4 code {verdict})")


def _wire_name(host: str) -> bytes:
    try:
        name = host.encode("idna")
    except UnicodeError as error:
        raise NameResolutionError(f"{host!r} is not a host name ({error}); check its spelling") from error
    if len(name) > 255:
        raise NameResolutionError(f"the host name {host[:40]!r}... is longer than 255 bytes; check its spelling")
    return name


def _login_remedy(proxy: ProxyAddress) -> str:
    return f"write it into the proxy's URL: {proxy.scheme}://user:password@host:port"
