"""The wait between attempts, and which failures end the stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.errors import (
    AuthorizationError,
    ConfigError,
    ConnectError,
    ConnectionLostError,
    FinxSyncError,
    HandshakeError,
    PeerTimeoutError,
)
from finx_sync.session.backoff import Backoff
from finx_sync.session.failures import is_fatal, judged


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_delays_are_bounded_and_jittered(failures: int, random: float) -> None:
    """A client would flood a server that is down with attempts, or stay away for hours."""
    backoff = Backoff(first=0.5, cap=30, factor=2)
    delay = backoff.delay(failures, lambda: random)
    assert 0 <= delay <= 30
    assert delay == backoff.bound(failures) * random
    assert backoff.bound(1) == 0.5
    assert backoff.bound(failures) <= backoff.bound(failures + 1)


@pytest.mark.parametrize("bad", [{"first": 0}, {"first": 5, "cap": 1}, {"factor": 0.5}, {"healthy_after": -1}])
def test_nonsense_is_refused(bad: dict[str, float]) -> None:
    """A typo would make the client flood the server with attempts, or never reconnect."""
    with pytest.raises(ConfigError):
        Backoff(**bad)


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (HandshakeError("x", 401), True),
        (HandshakeError("x", 403), True),
        (HandshakeError("x", 429), False),
        (HandshakeError("x", 503), False),
        (HandshakeError("x"), False),
        (ConnectionLostError("x", 1008), True),
        (ConnectionLostError("x", 1006), False),
        (ConnectionLostError("x", 1000), False),
        (PeerTimeoutError("x"), False),
        (ConnectError("x"), False),
        (AuthorizationError("x"), True),
        (ConfigError("x"), True),
    ],
)
def test_what_is_fatal(error: FinxSyncError, fatal: bool) -> None:
    """A wrong key would be retried forever, or a passing failure would end the stream."""
    assert is_fatal(judged(error)) is fatal
    assert isinstance(judged(error), AuthorizationError) or judged(error) is error
