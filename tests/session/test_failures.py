"""How long to wait after a failure, and what the gap after it is called."""

from __future__ import annotations

import pytest

from finx_sync.errors import ConnectionLostError, FinxSyncError, HandshakeError, PeerTimeoutError, ProtocolError
from finx_sync.session.failures import LONGEST_RETRY_AFTER, gap_reason, retry_after


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("5", 5.0),
        (" 5 ", 5.0),
        ("999999", LONGEST_RETRY_AFTER),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str, seconds: float) -> None:
    """A server's Retry-After would be ignored, or an absurd one would stop the client forever."""
    error = HandshakeError("429", 429, {"retry-after": header})
    assert retry_after(error, now=10.0) == pytest.approx(seconds)


def test_other_errors_ask_for_no_patience() -> None:
    """The client would wait without reason after a cut connection."""
    assert retry_after(ConnectionLostError("cut"), 0.0) == 0.0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionLostError("closed", 1000), "server"),
        (ConnectionLostError("closed", 1012), "server"),
        (ConnectionLostError("cut"), "connection lost"),
        (PeerTimeoutError("silence"), "connection lost"),
        (ProtocolError("bad frame", 1002), "connection lost"),
        (FinxSyncError("?"), "connection lost"),
    ],
)
def test_gaps_are_named_after_their_cause(error: FinxSyncError, reason: str) -> None:
    """A user could not tell what caused a gap."""
    assert gap_reason(error) == reason
