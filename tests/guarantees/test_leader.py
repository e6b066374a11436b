"""While messages come one by one the dispatch thread reads the socket itself, and the io thread stands by."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from finx_sync import Backoff, State
from finx_sync.errors import ConnectionLostError, PeerTimeoutError
from finx_sync.notices import Gap
from finx_sync.pipeline.leader import STREAK
from tests.guarantees.feeds import Feed
from tests.scripted import text
from tests.servers import RawServer, server_frame, until_closed
from tests.waiting import Collector, books_balance, stream_to, wait_until


class Lively:
    """A stream whose messages come in quick succession, so that its dispatch thread reads.

    Attributes:
        seen: names and numbers, and gaps, in the order in which handlers had them.
        reader: the names of the threads that took messages in.
    """

    def __init__(self, feed: Feed, **options: Any) -> None:
        self.feed = feed
        self.seen = Collector()
        self.hold, self.held = threading.Event(), threading.Event()
        self.hold.set()
        self.stream = stream_to(feed, **options)
        self.stream.on_gap(self.seen)
        self.stream.on_contract(self._handle)
        self.stream.subscribe_contract("A")
        self.stream.start()
        feed.wait_for_subscribers("A")

    def _handle(self, tick: Any) -> None:
        self.seen((tick.name, tick.timestamp))
        if not self.hold.is_set():
            self.held.set()
            assert self.hold.wait(10)

    def is_borrowed(self) -> bool:
        """Whether the dispatch thread reads."""
        return self.stream._session.queue._election.leadership is not None

    def promote(self) -> Lively:
        """Have the feed send one by one until it does."""
        self.feed.pace(0.002, "A")
        assert wait_until(self.is_borrowed)
        return self

    def block_handler(self) -> None:
        """Have the handler of the next message wait, with the leadership on."""
        assert wait_until(self.is_borrowed)
        self.hold.clear()
        assert self.held.wait(10)

    def complete(self) -> bool:
        """Whether every number came, once and in order, and no gap was told."""
        assert not [item for item in self.seen.items if isinstance(item, Gap)]
        numbers = [item[1] for item in self.seen.items if item[0] == "A"]
        return numbers == list(range(numbers[0], self.feed.sent["A"] + 1)) and books_balance(self.stream)


@pytest.fixture(params=["ws", "wss"])
def lively(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> Iterator[Any]:
    """A lively stream, over plain TCP and over TLS; no timer is due that would wake its io thread by chance."""
    monkeypatch.setattr("finx_sync.session.supervisor.AUTHENTICATION_GRACE", 600)
    secure = request.param == "wss"
    with Feed(ssl_context=server_tls if secure else None) as feed:
        one = Lively(feed, ssl_context=client_tls if secure else None, overflow="block")
        yield one.promote()
        one.hold.set()
        feed.quiet()
        one.stream.stop()


def test_nothing_is_lost_when_the_reading_changes_hands(lively: Lively) -> None:
    """A message that one thread has begun to read could be lost to the other."""
    for name in "BCDEF":
        count = len(lively.seen.items)
        lively.stream.subscribe_contract(name)  # the io thread takes over, to send
        lively.seen.wait(lambda items, count=count: len(items) > count + STREAK + 2)
        assert wait_until(lively.is_borrowed)
    lively.feed.quiet()
    assert wait_until(lively.complete)
    assert wait_until(lambda: not lively.is_borrowed()), "a quiet feed is the io thread's"
    lively.feed.send("A")
    assert wait_until(lively.complete)


def test_pings_are_answered_while_a_handler_blocks(lively: Lively) -> None:
    """A slow handler would look like a dead peer to the server."""
    lively.block_handler()
    (connection,) = lively.feed.subscribers["A"]
    assert connection.ping().wait(10), "the io thread reads, and answers"
    assert wait_until(lambda: lively.stream.stats().messages.waiting > 3)
    lively.hold.set()
    lively.feed.quiet()
    assert wait_until(lively.complete)


def test_a_frame_is_sent_while_a_handler_blocks(lively: Lively) -> None:
    """A subscription or an order would wait for a slow handler."""
    lively.block_handler()
    lively.stream.subscribe_contract("B")
    lively.feed.wait_for_subscribers("B")
    lively.hold.set()


def test_stop_ends_a_borrowed_reading(lively: Lively) -> None:
    """`stop` would wait for the next message."""
    lively.feed.quiet()
    lively.stream.stop()
    assert lively.stream.state is State.STOPPED
    assert books_balance(lively.stream)


def test_stop_gives_up_on_a_handler_that_blocks(lively: Lively) -> None:
    """`stop` would hang."""
    lively.block_handler()
    lively.stream.stop(timeout=0.5)
    assert lively.stream.state is State.STOPPING
    lively.hold.set()
    assert wait_until(lambda: lively.stream.state is State.STOPPED)


def test_a_lost_connection_is_noticed_and_told(lively: Lively) -> None:
    """The io thread stands by: nobody would reconnect."""
    for _ in range(3):
        assert wait_until(lively.is_borrowed)
        gaps = len([item for item in lively.seen.items if isinstance(item, Gap)])
        lively.feed.cut("A")
        lively.seen.wait(lambda items, gaps=gaps: len([item for item in items if isinstance(item, Gap)]) > gaps)
    assert wait_until(lively.is_borrowed), "and the next one's reading is handed over again"
    assert lively.stream.stats().reconnects == 3


def test_a_second_connection_takes_over(lively: Lively) -> None:
    """Its messages would wait until the leader looks up."""
    before = lively.stream._session.connections.all()[0]
    lively.stream.reconnect_now()
    assert wait_until(lambda: lively.stream._session.connections.all()[0] is not before)
    lively.feed.quiet()
    assert wait_until(lively.complete)


def test_two_lively_connections_are_read_by_their_own_threads() -> None:
    """The messages of the one would wait for those of the other."""
    with Feed() as feed:
        seen = Collector()
        stream = stream_to(feed, stream_per_url=True)
        stream.on_contract(seen)
        stream.subscribe_contract("A", "B")
        stream.start()
        connections = [feed.next_connection() for _ in range(2)]
        feed.subscribers = {name: [one] for name, one in zip("AB", connections, strict=True)}
        feed.pace(0.002, "A", "B")
        seen.wait(lambda items: len(items) > 300)
        assert stream._session.queue._election.leadership is None
        feed.quiet()
        stream.stop()
        assert books_balance(stream)


def test_it_is_the_same_where_the_oldest_would_be_dropped() -> None:
    """That queue is another one, and could stop where the dispatch thread leads the reading."""
    with Feed() as feed:
        one = Lively(feed, overflow="drop_oldest").promote()
        feed.quiet()
        assert wait_until(one.complete)
        one.stream.stop()


def test_an_end_of_tls_that_leaves_tcp_open_is_noticed(
    monkeypatch: pytest.MonkeyPatch, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Only the leader sees it, once: the stream would be silent until a ping goes unanswered."""
    monkeypatch.setattr("finx_sync.session.supervisor.AUTHENTICATION_GRACE", 600)
    states, over = Collector(), threading.Event()

    def script(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        connection.recv(65536)
        connection.sendall(server_frame(1, b'{"isAuth":true}'))
        number, pause = 0, threading.Event()
        while stream._session is None or stream._session.queue._election.leadership is None:
            number += 1
            connection.sendall(server_frame(1, text(timestamp=str(number)).encode()))
            pause.wait(0.002)
        connection.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            until_closed(connection)  # what has come until now
        with contextlib.suppress(ssl.SSLWantReadError):
            connection.unwrap()  # the end as TLS has it, and nothing below it
        over.wait(20)

    with RawServer(script, connections=2, tls=server_tls) as server:
        stream = stream_to(server.url.rstrip("/"), ssl_context=client_tls, reconnect=Backoff(first=60, cap=60))
        stream.on_state(states)
        stream.on_contract(lambda tick: None)
        stream.start()
        states.wait(lambda items: items[-1].new is State.RECONNECTING)
        assert isinstance(states.items[-1].reason, ConnectionLostError)
        assert not isinstance(states.items[-1].reason, PeerTimeoutError)
        over.set()
        stream.stop()


def test_an_overflow_that_the_borrower_meets_is_told_after_the_messages() -> None:
    """`on_state` would run in the middle of a read, under its lock, before the messages that came before."""
    with Feed() as feed:
        one = Lively(feed, overflow="error", queue_size=50, flight_recorder=False)
        one.stream.on_state(one.seen)
        one.promote()
        feed.quiet()
        (connection,) = feed.subscribers["A"]
        frames = [
            server_frame(1, text(redis_key="A", instrument_name="A", timestamp=str(n)).encode()) for n in range(60)
        ]
        feed.send("A")
        connection.socket.sendall(b"".join(frames))
        items = one.seen.wait(lambda items: getattr(items[-1], "new", None) is State.FAILED)
        numbers = [item[1] for item in items[items.index(("A", feed.sent["A"])) + 1 : -1]]
        assert len(numbers) > 40
        assert numbers == list(range(len(numbers)))
        one.stream.stop()
        assert books_balance(one.stream)
