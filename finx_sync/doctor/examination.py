"""The steps up to the open connection, each taken separately, with the functions that a stream uses."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from finx_sync.doctor.conversation import ServerConversation, first_connection
from finx_sync.doctor.feed import examine_feed
from finx_sync.doctor.findings import FEED_STEPS, STEPS, Finding, Report, Step, failure, judge_certificate, judge_plain
from finx_sync.doctor.greeting import KEY_REMEDY, greet
from finx_sync.errors import FinxSyncError, MissingKeyError, NameResolutionError
from finx_sync.redaction import redact
from finx_sync.stream import Stream
from finx_sync.transport.dial import Attempt, Target, open_tcp, pass_through, reach_proxy, resolve, start_tls
from finx_sync.transport.options import target_for
from finx_sync.transport.waker import Waker

__all__ = ["examine"]


class _FailedError(Exception):
    """A step has failed and was reported; the later ones make no sense."""


def examine(stream: Stream, report: Report, *, tick_timeout: float = 10.0) -> list[Finding]:
    """Take every step, with the stream's settings and subscriptions; the stream itself is not started.

    Args:
        stream: a stream that is not running.
        report: called with each finding at once, on the calling thread.
        tick_timeout: seconds that the first message of the subscriptions may take.

    Returns:
        All findings, one for each step.
    """
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        report(finding)

    if stream._account.feed is not None:
        examine_feed(stream, note, tick_timeout)
        return _completed(findings, FEED_STEPS, note)
    with ExitStack() as cleanup:
        stream._before_start()
        cleanup.callback(stream._after_end)
        try:
            _Examination(stream, note, cleanup, tick_timeout).run()
        except _FailedError:
            pass
    return _completed(findings, STEPS, note)


def _completed(findings: list[Finding], steps: tuple[Step, ...], note: Report) -> list[Finding]:
    for step in steps[len(findings) :]:
        note(Finding(step, "skipped", "not reached"))
    return findings


class _Examination:
    """One examination; its methods are the steps up to the open connection."""

    def __init__(self, stream: Stream, note: Report, cleanup: ExitStack, tick_timeout: float) -> None:
        self._stream = stream
        self._options = stream._options
        self._note = note
        self._cleanup = cleanup
        self._tick_timeout = tick_timeout
        self._missing: MissingKeyError | None = None
        self._waker = Waker()
        cleanup.callback(self._waker.close)

    def run(self) -> None:
        """Take the steps.

        Raises:
            _FailedError: a step failed.
        """
        key, url, target = self._step("address", self._address)
        attempt = Attempt(self._waker, self._options.connect_timeout)
        self._step("name", lambda: _name(target, attempt))
        sock = self._step("TCP", lambda: self._tcp(target, attempt))
        if target.proxy is None:
            self._note(Finding("proxy", "skipped", "none is set"))
        else:
            self._step("proxy", lambda: _through_proxy(sock, target, attempt))
        if target.tls is None:
            self._note(judge_plain(target.host))
        else:
            sock = self._step("TLS", lambda: self._tls(sock, target, attempt))
        if self._missing is not None:
            greet(url, sock, self._note, self._missing, self._options.connect_timeout)
            return
        ServerConversation(self._stream, key, url, sock, self._note, self._tick_timeout).run()

    def _step(self, step: Step, take: Callable[[], tuple[Any, Finding]]) -> Any:
        begin = time.monotonic()
        try:
            result, finding = take()
        except (FinxSyncError, OSError) as error:
            self._note(failure(step, error, time.monotonic() - begin))
            raise _FailedError from error
        self._note(dataclasses.replace(finding, seconds=time.monotonic() - begin))
        return result

    def _address(self) -> tuple[Any, Finding]:
        stream, proxy, context = self._stream, self._options.proxy, self._options.ssl_context
        try:
            key = stream._account.current_key()
        except MissingKeyError as error:  # many steps need no key
            key, self._missing = "", error
        url = stream._codec.url_for(key, *first_connection(stream))
        target = target_for(url, proxy, context)
        shown = redact(url) if stream._account.base_url else f"{redact(url)}, the embedded sandbox"
        if self._missing is not None:
            finding = Finding("address", "warning", f"{shown}; there is no key: what needs one is left out", KEY_REMEDY)
        else:
            finding = Finding("address", "ok", shown)
        return (key, url, target), finding

    def _tcp(self, target: Target, attempt: Attempt) -> tuple[socket.socket, Finding]:
        proxy = target.proxy
        sock = open_tcp(target.host, target.port, attempt) if proxy is None else reach_proxy(proxy, attempt)
        self._cleanup.callback(sock.close)
        host, port = sock.getpeername()[:2]
        return sock, Finding("TCP", "ok", f"connected to {host} port {port}")

    def _tls(self, sock: socket.socket, target: Target, attempt: Attempt) -> tuple[ssl.SSLSocket, Finding]:
        secure = start_tls(sock, target, attempt)
        self._cleanup.callback(secure.close)
        return secure, judge_certificate(secure.version() or "TLS", secure.getpeercert() or {}, time.time())


def _name(target: Target, attempt: Attempt) -> tuple[None, Finding]:
    proxy = target.proxy
    whose, host, port = ("", target.host, target.port) if proxy is None else ("the proxy ", proxy.host, proxy.port)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in resolve(host, port, attempt)))
    if not addresses:
        raise NameResolutionError(f"the host name {host!r} has no address; check its spelling")
    if addresses == [host]:
        return None, Finding("name", "ok", f"{whose}{host} is an address already")
    more = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
    return None, Finding("name", "ok", f"{whose}{host} is {addresses[0]}{more}")


def _through_proxy(sock: socket.socket, target: Target, attempt: Attempt) -> tuple[None, Finding]:
    assert target.proxy is not None
    pass_through(target.proxy, sock, target, attempt)
    return None, Finding("proxy", "ok", f"{target.proxy} connects us to {target.host}")
