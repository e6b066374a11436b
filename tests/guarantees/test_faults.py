"""What a stream does about each single fault of the network, the websocket and the handshake, over ws and wss."""

from __future__ import annotations

import contextlib
import queue
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import trustme

from finx_sync import Backoff, State, StreamManager
from finx_sync.errors import UnreadableMessageError
from finx_sync.messages import Message
from finx_sync.notices import Gap, Stale
from finx_sync.sandbox import Sandbox
from finx_sync.testing import Answer, BlackHole, Close, Corrupt, Cut, Fault, FaultProxy, Mute, Reset

CONTRACT = "BTC-26AUG22-20000-C"
PAIR = "BTC:USDC"
PING_INTERVAL = 0.5
PING_TIMEOUT = 0.4
STALE_AFTER = 0.4
SOON = 10.0
"""Seconds; for what comes at once unless the machine is very busy."""


@dataclass
class Scene:
    """A stream behind a proxy, and all that it told, in order."""

    proxy: FaultProxy
    stream: StreamManager
    told: queue.SimpleQueue[tuple[float, Any]]

    def next(self, wanted: type | State) -> tuple[float, Any]:
        """The next thing of a type, or that state, with its time (monotonic); everything before it is skipped."""
        deadline = time.monotonic() + SOON
        while True:
            at, what = self.told.get(timeout=max(0.0, deadline - time.monotonic()))
            if what is wanted or (isinstance(wanted, type) and isinstance(what, wanted)):
                return at, what

    def gaps(self) -> set[str]:
        """The reasons of the gaps that are told until each name has had its own, before its next message."""
        reasons: set[str] = set()
        lost: dict[str, Gap] = {}
        back: set[str] = set()
        while back != {CONTRACT, PAIR}:
            _, what = self.told.get(timeout=SOON)
            if isinstance(what, Gap):
                reasons.add(what.reason)
                lost |= dict.fromkeys(what.names, what)
            elif isinstance(what, Message):
                gap = lost[what.name_of(what)]  # told before, or this is a KeyError
                assert gap.start <= gap.end <= what.received_at
                back.add(what.name_of(what))
        return reasons


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Issues the proxy's certificate."""
    return trustme.CA()


@contextlib.contextmanager
def scene(authority: trustme.CA, scheme: str, **options: Any) -> Iterator[Scene]:
    """An open stream whose subscriptions flow."""
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(certificate)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    told: queue.SimpleQueue[tuple[float, Any]] = queue.SimpleQueue()
    usual: dict[str, Any] = {
        "ping_interval": PING_INTERVAL,
        "ping_timeout": PING_TIMEOUT,
        "connect_timeout": 2.0,
        "reconnect": Backoff(first=0.02, cap=0.1),
        "flight_recorder": False,
        "ssl_context": trust if scheme == "wss" else None,
    }
    with (
        Sandbox(contract_interval=0.02, spot_interval=0.02) as sandbox,
        FaultProxy(sandbox.url, server_context=certificate if scheme == "wss" else None) as proxy,
    ):
        stream = StreamManager("sandbox-key", url=proxy.url, **usual | options)
        for register in (stream.on_gap, stream.on_stale, stream.on_error, stream.on_contract, stream.on_spot):
            register(lambda what: told.put((time.monotonic(), what)))
        stream.on_state(lambda change: told.put((time.monotonic(), change.new)))
        stream.subscribe_contract(CONTRACT)
        stream.subscribe_spot(PAIR)
        with stream:
            for name in (CONTRACT, PAIR):
                stream.take(5, name, timeout=SOON)  # by then, the answers to the stream's own messages are there too
            yield Scene(proxy, stream, told)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("direction", ["both", "to_client", "to_server"])
def test_a_peer_gone_black_is_noticed_in_time(authority: trustme.CA, scheme: str, direction: str) -> None:
    """A bot would trade on prices that stand still."""
    with scene(authority, scheme) as it:
        it.proxy.inject(BlackHole(direction))  # type: ignore[arg-type]
        it.next(State.RECONNECTING)
        assert it.gaps() == {"connection lost"}


def test_a_muted_feed_is_told_in_time_and_given_up_when_the_server_says_nothing_at_all(authority: trustme.CA) -> None:
    """A feed that has dried up behind a living connection would look like a calm market."""
    with scene(authority, "ws", stale_after=STALE_AFTER) as it:
        it.proxy.inject(Mute())
        _, stale = it.next(Stale)
        assert stale.name in (CONTRACT, PAIR)
        it.next(State.RECONNECTING)
        assert it.gaps() == {"stale"}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Cut(), "connection lost"),
        (Reset(), "connection lost"),
        (Corrupt("header"), "connection lost"),
        (Corrupt("utf8"), "connection lost"),
        (Close(1001, "going away"), "server"),
        (Close(1012, "restart"), "server"),
    ],
    ids=repr,
)
def test_a_lost_connection_is_a_gap_that_is_told_before_the_next_message(
    authority: trustme.CA, fault: Fault, reason: str
) -> None:
    """A bot would take the first price after an outage for the next one."""
    with scene(authority, "ws") as it:
        it.proxy.inject(fault)
        it.next(State.RECONNECTING)  # whatever is told from here on is of the next connection
        assert it.gaps() == {reason}
        assert it.stream.stats().reconnects == 1


def test_a_damaged_message_costs_nothing_but_itself(authority: trustme.CA) -> None:
    """One bad message would cost the connection, or vanish in silence."""
    with scene(authority, "ws") as it:
        assert it.proxy.inject(Corrupt("json")).wait(SOON)
        it.next(UnreadableMessageError)
        for name in (CONTRACT, PAIR):
            it.stream.take(2, name, timeout=SOON)
        assert it.stream.stats().reconnects == 0
        assert it.stream.stats().messages.unreadable == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(authority: trustme.CA, status: int) -> None:
    """Clients that come back at once keep a struggling server down, and get themselves locked out."""
    with scene(authority, "ws") as it:
        begun = time.monotonic()
        it.proxy.inject(Answer(status, retry_after=1), Cut())
        it.next(State.RECONNECTING)
        opened_at, _ = it.next(State.OPEN)
        assert opened_at - begun >= 1.0


def test_a_redirect_is_not_followed(authority: trustme.CA) -> None:
    """The key, which stands in the URL, would be carried to a place that the user never named."""
    with scene(authority, "ws") as it, FaultProxy("tcp://127.0.0.1:9") as elsewhere:
        it.proxy.inject(Answer(302, location=f"ws://127.0.0.1:{elsewhere.port}/"), Cut())
        it.next(State.RECONNECTING)
        it.next(State.OPEN)
        assert elsewhere.accepted == 0
