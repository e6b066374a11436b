"""The result of a step of the examination, and the judgement of certificates, clocks and errors. No I/O."""

from __future__ import annotations

import datetime as dt
import email.utils
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from finx_sync.config import is_loopback
from finx_sync.errors import FinxSyncError
from finx_sync.redaction import sealed
from finx_sync.transport.app import as_finx_error

__all__ = [
    "FEED_STEPS",
    "STEPS",
    "Finding",
    "Report",
    "Step",
    "failure",
    "judge_certificate",
    "judge_clock",
    "judge_plain",
    "judge_skew",
]

Step = Literal[
    "address", "name", "TCP", "proxy", "TLS", "handshake", "clock", "key", "tick", "keepAlive", "ping",
    "Redis", "feed", "relay",
]  # fmt: skip
STEPS: Final[tuple[Step, ...]] = (
    "address",
    "name",
    "TCP",
    "proxy",
    "TLS",
    "handshake",
    "clock",
    "key",
    "tick",
    "keepAlive",
    "ping",
)
"""All steps to a venue's server, in their order."""
FEED_STEPS: Final[tuple[Step, ...]] = ("address", "Redis", "feed", "clock", "relay", "tick")
"""All steps to a relay's feed on Redis."""

CLOCK_TOLERANCE: Final = 2.0
"""Seconds; the server sends its time in whole seconds."""
CERTIFICATE_WARNING: Final = 14
"""Days before a certificate's expiry from which on there is a warning."""


@dataclass(frozen=True)
class Finding:
    """The result of one step.

    Attributes:
        step: the step.
        verdict: "ok", "warning", "failed", or "skipped" (not reached, or not needed).
        text: what was found.
        remedy: what to do about it; "" if nothing needs to be done.
        seconds: how long the step took; None where a duration makes no sense.
        error: the error that a stream would raise; None unless the step failed.
    """

    step: Step
    verdict: Literal["ok", "warning", "failed", "skipped"]
    text: str
    remedy: str = ""
    seconds: float | None = None
    error: FinxSyncError | None = None

    def __post_init__(self) -> None:
        # Names of issuers and texts of servers may contain anything.
        object.__setattr__(self, "text", sealed(self.text))
        object.__setattr__(self, "remedy", sealed(self.remedy))


Report = Callable[[Finding], object]


def judge_plain(host: str) -> Finding:
    """Judge a connection without TLS."""
    if is_loopback(host):
        return Finding("TLS", "skipped", "ws:// within this machine")
    return Finding(
        "TLS", "warning", "ws:// shows the key and the data to everybody on the way", "use wss:// if the server has it"
    )


def judge_certificate(version: str, certificate: dict[str, Any], now: float) -> Finding:
    """Judge a server's certificate that was accepted.

    Args:
        version: the version of TLS.
        certificate: as `ssl.SSLSocket.getpeercert` returns it; empty if it was not verified.
        now: UNIX seconds.
    """
    if not certificate:
        return Finding(
            "TLS", "warning", f"{version}; the certificate was not verified", "pass an ssl_context that verifies"
        )
    names = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    issuer = names.get("organizationName") or names.get("commonName") or "an unnamed issuer"
    days = int((ssl.cert_time_to_seconds(certificate["notAfter"]) - now) // 86_400)
    text = f"{version}; certificate by {issuer}, good for {days} more days"
    if days < CERTIFICATE_WARNING:
        return Finding("TLS", "warning", text, "tell the server's operator to renew it")
    return Finding("TLS", "ok", text)


def judge_clock(date: str | None, before: float, after: float) -> Finding:
    """Judge the difference between this machine's clock and the server's.

    Args:
        date: the HTTP header, in whole seconds, rounded down; None if there is none.
        before: this machine's time when the request was sent, UNIX seconds.
        after: this machine's time when the answer came, UNIX seconds.
    """
    try:
        told = email.utils.parsedate_to_datetime(date or "")
    except (ValueError, TypeError):
        return Finding("clock", "skipped", "the server does not tell the time")
    if told.tzinfo is None:
        told = told.replace(tzinfo=dt.timezone.utc)
    return judge_skew((before + after) / 2 - (told.timestamp() + 0.5), after - before)


def judge_skew(skew: float, doubt: float) -> Finding:
    """Judge how far this machine's clock is ahead of the server's.

    Args:
        skew: seconds.
        doubt: seconds by which that may be wrong.
    """
    if abs(skew) <= CLOCK_TOLERANCE + doubt:
        return Finding("clock", "ok", f"agrees with the server's, within {CLOCK_TOLERANCE:g} s")
    direction = "ahead of" if skew > 0 else "behind"
    return Finding(
        "clock",
        "warning",
        f"{abs(skew):,.1f} s {direction} the server's",
        "set it by NTP: ages of messages, and so guard(), are wrong by as much",
    )


def failure(step: Step, error: FinxSyncError | OSError, seconds: float) -> Finding:
    """Return the finding of a failed step; the text of an error has its remedy after the last semicolon."""
    known = error if isinstance(error, FinxSyncError) else as_finx_error(error)
    what, semicolon, remedy = str(known).rpartition("; ")
    if not semicolon:
        what, remedy = remedy, "try again; if it stays, ask the server's operator"
    return Finding(step, "failed", what, remedy, seconds, known)
