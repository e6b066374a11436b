"""The steps over the open connection that need no key: handshake and clock."""

from __future__ import annotations

import socket
import time
from typing import Final

from finx_sync.doctor.findings import Finding, Report, failure, judge_clock
from finx_sync.errors import ConnectionLostError, HandshakeError, MissingKeyError
from finx_sync.transport.app import WebSocketApp, as_finx_error, quiet_thread

__all__ = ["KEY_REMEDY", "greet"]

KEY_REMEDY: Final = "set FINX_API_KEY in the environment or in .env, or pass api_key (--api-key)"
CLIENT_ERRORS: Final = range(400, 500)
"""HTTP status codes with which a server may answer a request without a key."""


def greet(url: str, sock: socket.socket, note: Report, missing: MissingKeyError, timeout: float) -> None:
    """Take the handshake without a key, and report that the later steps need one.

    Args:
        url: the URL, without a key.
        sock: connected to the server, with TLS established.
        note: called with each finding.
        missing: the error that says that there is no key.
        timeout: seconds for the handshake.
    """
    begun, sent_at = time.monotonic(), time.time()
    findings: list[Finding] = []

    def opened(app: WebSocketApp) -> None:
        headers = getattr(app.sock, "headers", None) or {}
        took = time.monotonic() - begun
        findings.append(Finding("handshake", "ok", "the server speaks websocket", seconds=took))
        findings.append(judge_clock(headers.get("date"), sent_at, time.time()))
        app.close(wait=False)

    def failed(app: WebSocketApp, error: BaseException) -> None:
        if not findings:
            findings.extend(_judged(as_finx_error(error), begun, sent_at))

    app = WebSocketApp(url, socket=sock, on_open=opened, on_error=failed, connect_timeout=timeout)
    with quiet_thread():
        app.run_forever()
    if not findings:
        lost = ConnectionLostError("the server ended the connection; try again")
        findings.append(failure("handshake", lost, time.monotonic() - begun))
    for finding in findings:
        note(finding)
    if findings[0].verdict != "failed":
        note(
            Finding("key", "failed", "there is none, and the steps behind this one need it", KEY_REMEDY, error=missing)
        )


def _judged(error: Exception, begun: float, sent_at: float) -> list[Finding]:
    took = time.monotonic() - begun
    known = as_finx_error(error)
    if not isinstance(known, HandshakeError) or known.status_code not in CLIENT_ERRORS:
        return [failure("handshake", known, took)]
    said = f"the server answered with HTTP {known.status_code}, which without a key is no fault"
    return [
        Finding("handshake", "skipped", said, seconds=took),
        judge_clock(known.headers.get("date"), sent_at, time.time()),
    ]
