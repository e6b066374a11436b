"""From a host name to a connected socket with TLS. All steps share one deadline, and can be aborted at any moment.

websocket-client's own connect cannot be interrupted and has no time limit for all its steps, so the app gives it a
socket that was opened here. Sockets are non-blocking from the start: each wait is for the socket *or* the waker.
The name look-up, which can only block, runs in a daemon thread that is left behind when the caller gives up; the next
attempt waits for the same thread.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from finx_sync.errors import (
    ConnectError,
    ConnectTimeoutError,
    NameResolutionError,
    ProxyError,
    TLSError,
)
from finx_sync.transport.proxy import ProxyAddress, Talk, talk
from finx_sync.transport.shared import Call, SharedCalls
from finx_sync.transport.waker import Poller, Waker

__all__ = [
    "Aborted",
    "Attempt",
    "Target",
    "dial",
    "open_tcp",
    "pass_through",
    "reach_proxy",
    "resolve",
    "start_tls",
]

T = TypeVar("T")

SOCKET_OPTIONS: Final[tuple[tuple[int, int, int], ...]] = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)

_CHECK_CLOCK: Final = "check this machine's clock, or inform the server's operator"
_CHECK_NAME: Final = "check the address: this server has the certificate of another one"
CERTIFICATE_REMEDIES: Final = {9: _CHECK_CLOCK, 10: _CHECK_CLOCK, 62: _CHECK_NAME, 64: _CHECK_NAME}
"""By OpenSSL's verify code: not valid yet, expired, another host name, another IP address."""


class Aborted(BaseException):
    """`Attempt.abort` was called; never leaves the transport.

    Not an `Exception`, so that nothing in websocket-client takes it for a failure and reports it on the way.
    """


@dataclass(frozen=True)
class Target:
    """Where to connect and how.

    Attributes:
        host, port: the server's address.
        tls: the context for wss, None for ws.
        server_hostname: the name that the certificate must have; None for `host`.
        proxy: None for none.
        tunnel: whether the proxy is asked to connect to `host`; if not, the proxy itself reads what is sent.
        socket_options: further (level, option, value) triples.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: ProxyAddress | None = None
    tunnel: bool = True
    socket_options: tuple[tuple[Any, ...], ...] = field(default=())


class Attempt:
    """One connection attempt's deadline and the means to abort it.

    `abort` is for any thread, the rest for the dialling one. `abort` sets the flag first and wakes afterwards, and
    every wait checks the flag (`remaining`) before it begins, so an abort ends the current wait or prevents the next.

    Args:
        waker: wakes the dialling thread.
        timeout: seconds for all steps together; None for no limit.
    """

    def __init__(self, waker: Waker, timeout: float | None) -> None:
        self.waker = waker
        self.timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self.aborted = False

    def abort(self) -> None:
        """End the attempt at once."""
        self.aborted = True
        self.waker.wake()

    def hurry(self, seconds: float) -> None:
        """Move the deadline to `seconds` from now, unless it is earlier already."""
        limit = time.monotonic() + seconds
        self._deadline = limit if self._deadline is None else min(limit, self._deadline)

    def remaining(self, doing: str) -> float | None:
        """Seconds left for `doing`.

        Raises:
            Aborted: `abort` was called.
            ConnectTimeoutError: no time is left.
        """
        if self.aborted:
            raise Aborted
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ConnectTimeoutError(
                f"no connection within {self.timeout or 0:g} s, which ran out while {doing}; "
                "check the address and the network, or raise connect_timeout"
            )
        return left

    def wait(self, poller: Poller, doing: str, *, read: bool = False, write: bool = False, share: float = 1.0) -> bool:
        """Wait until the socket is ready.

        Args:
            poller: the poller of the socket to wait for.
            doing: what this is for, as an error's text says it.
            read: whether to wait for data.
            write: whether to wait for room to send.
            share: the part of the remaining time that this wait may take.

        Returns:
            Whether the socket is ready; False when a share below 1 of the time is over.

        Raises:
            Aborted, ConnectTimeoutError: as `remaining`.
        """
        left = self.remaining(doing)
        until = None if left is None or share >= 1.0 else time.monotonic() + left * share
        while True:
            left = self.remaining(doing)
            if until is not None:
                left = until - time.monotonic()
                if left <= 0:
                    return False
            if any(poller.wait(read=read, write=write, timeout=left)):
                return True

    def wait_for(self, call: Call[T], doing: str) -> T:
        """Wait for a call that runs on a thread of its own, and continues to run if this attempt gives up.

        Raises:
            Aborted, ConnectTimeoutError: as `remaining`.
            Exception: what the call raised.
        """
        call.wake(self.waker.wake)  # before `finished` is checked: a call that ends in between has woken us
        idle, other = socket.socketpair()  # nothing to read: only the waker and the clock end this wait
        try:
            poller = Poller(idle, self.waker)
            while not call.finished:
                poller.wait(read=True, timeout=self.remaining(doing))
        finally:
            call.leave(self.waker.wake)
            idle.close()
            other.close()
        return call.result()


def dial(target: Target, attempt: Attempt) -> socket.socket:
    """Open a connection.

    Returns:
        A connected, non-blocking socket, with the TLS handshake done.

    Raises:
        ConnectError: or a subclass; its text says which step failed and why.
        Aborted: `attempt.abort` was called.
    """
    proxy = target.proxy
    sock = open_tcp(target.host, target.port, attempt) if proxy is None else reach_proxy(proxy, attempt)
    try:
        if proxy is not None and target.tunnel:
            pass_through(proxy, sock, target, attempt)
        for option in (*SOCKET_OPTIONS, *target.socket_options):
            sock.setsockopt(*option)
        if target.tls is None:
            return sock
        return start_tls(sock, target, attempt)
    except BaseException:
        sock.close()
        raise


def open_tcp(host: str, port: int, attempt: Attempt) -> socket.socket:
    """Open a TCP connection to the first of a host's addresses that answers."""
    addresses = resolve(host, port, attempt)
    failure: OSError | None = None
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        share = 1.0 / (len(addresses) - index)  # an address that never answers must leave time for the others
        try:
            sock.setblocking(False)
            error = sock.connect_ex(address)
            if error:
                doing = f"opening TCP to {host}:{port}"
                ready = attempt.wait(Poller(sock, attempt.waker), doing, write=True, share=share)
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if ready else errno.ETIMEDOUT
            if not error:
                return sock
            failure = OSError(error, os.strerror(error))
        except BaseException:
            sock.close()
            raise
        sock.close()
    why = failure.strerror if failure is not None else "it has no address"
    raise ConnectError(
        f"cannot connect to {host}:{port}: {why}; check the address, and that the server is running"
    ) from failure


AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]

_look_ups: Final[SharedCalls[list[AddressInfo]]] = SharedCalls()


def resolve(host: str, port: int, attempt: Attempt) -> list[AddressInfo]:
    """The addresses of a host, best first."""

    def look_up() -> list[AddressInfo]:
        return list(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, socket.IPPROTO_TCP))

    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return look_up()  # a literal address needs no name server
    try:
        call = _look_ups.join((host, port), "finx-sync resolving", look_up)
        return attempt.wait_for(call, f"resolving {host}")
    except (socket.gaierror, UnicodeError) as error:
        raise NameResolutionError(
            f"the host name {host!r} cannot be resolved ({error}); check its spelling and the network"
        ) from error


def reach_proxy(proxy: ProxyAddress, attempt: Attempt) -> socket.socket:
    """Open a TCP connection to a proxy."""
    try:
        return open_tcp(proxy.host, proxy.port, attempt)
    except ConnectTimeoutError:
        raise
    except ConnectError as error:
        raise ProxyError(f"the proxy {proxy} cannot be reached: {error}") from error


def pass_through(proxy: ProxyAddress, sock: socket.socket, target: Target, attempt: Attempt) -> None:
    """Ask a proxy to connect to the target."""
    host = target.host if proxy.looks_up else _address_for(proxy, target, attempt)
    try:
        _converse(sock, proxy, talk(proxy, host, target.port), attempt)
    except ConnectError:
        raise
    except OSError as error:
        raise ProxyError(f"the proxy {proxy} hung up: {error}; check that it is a proxy of that kind") from error


def _address_for(proxy: ProxyAddress, target: Target, attempt: Attempt) -> str:
    """The target's address, for a proxy that does not look up names."""
    addresses = resolve(target.host, target.port, attempt)
    wanted = [info for info in addresses if proxy.scheme != "socks4" or info[0] == socket.AF_INET]
    if not wanted:
        raise NameResolutionError(
            f"{target.host} has no address of a kind that the proxy {proxy} supports; use socks5h://"
        )
    return str(wanted[0][4][0])


def _converse(sock: socket.socket, proxy: ProxyAddress, conversation: Talk, attempt: Attempt) -> None:
    """Run the conversation with a proxy: send and read until it ends."""
    doing = f"talking to the proxy {proxy}"
    poller = Poller(sock, attempt.waker)
    answer = b""
    try:
        wanted = next(conversation)
        while True:
            if isinstance(wanted, int):
                answer = _read_exactly(sock, wanted, poller, doing, attempt)
            else:
                _send_all(sock, wanted, poller, doing, attempt)
            wanted = conversation.send(answer)
    except StopIteration:
        return


def _read_exactly(sock: socket.socket, count: int, poller: Poller, doing: str, attempt: Attempt) -> bytes:
    data = bytearray()
    while len(data) < count:
        attempt.remaining(doing)
        try:
            piece = sock.recv(count - len(data))
        except BlockingIOError:
            attempt.wait(poller, doing, read=True)
            continue
        if not piece:
            raise ConnectionResetError("it closed the connection in the middle of its answer")
        data += piece
    return bytes(data)


def _send_all(sock: socket.socket, data: bytes, poller: Poller, doing: str, attempt: Attempt) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            attempt.wait(poller, doing, write=True)


def start_tls(sock: socket.socket, target: Target, attempt: Attempt) -> ssl.SSLSocket:
    """Do the TLS handshake on a connected socket; closes the connection if it fails."""
    assert target.tls is not None
    name = target.server_hostname or target.host
    try:
        secure = target.tls.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
    except (ssl.SSLError, ValueError) as error:
        raise TLSError(f"TLS to {name} cannot be set up: {error}") from error
    try:
        poller = Poller(secure, attempt.waker)
        while True:
            try:
                secure.do_handshake()
                return secure
            except ssl.SSLWantReadError:
                attempt.wait(poller, f"agreeing on TLS with {name}", read=True)
            except ssl.SSLWantWriteError:
                attempt.wait(poller, f"agreeing on TLS with {name}", write=True)
    except ssl.SSLCertVerificationError as error:
        secure.close()
        remedy = CERTIFICATE_REMEDIES.get(error.verify_code, "pass an ssl_context that trusts its issuer")
        raise TLSError(
            f"the certificate of {name} was not accepted: {error.verify_message}; {remedy} "
            "(verification is never turned off silently)"
        ) from error
    except (ssl.SSLError, OSError) as error:
        secure.close()
        if isinstance(error, ConnectError):
            raise
        raise TLSError(f"TLS with {name} failed: {error}; is it a wss server?") from error
    except BaseException:
        secure.close()
        raise
