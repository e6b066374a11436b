"""The moment at which a second connection takes over, and what may happen just then."""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from finx_sync import AuthorizationError, State
from finx_sync.notices import Gap
from finx_sync.session.connections import Connections
from tests.guarantees.feeds import Feed
from tests.guarantees.stages import Stage, tick
from tests.scripted import ScriptedServer, text
from tests.servers import server_frame
from tests.waiting import Collector, books_balance, stream_to, wait_until


def test_what_the_old_connection_has_handed_on_comes_once() -> None:
    """A new connection that lags would repeat what came between the proof and the end of the old one."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        new = stage.replace("A")
        assert stage.both_are_open()
        for number in (1, 2, 3):
            stage.old.send(tick("A", number))
        assert wait_until(lambda: 3 in stage.numbers("A"))
        new.send(tick("A", 1))  # the proof; the rest is still on its way
        assert stage.has_taken_over()
        for number in (2, 3, 4):
            new.send(tick("A", number))
        assert wait_until(lambda: 4 in stage.numbers("A"))
        stage.stream.stop()
        assert stage.numbers("A") == [1, 2, 3, 4]
        assert not stage.gaps()
        assert books_balance(stage.stream)


def test_what_the_old_connection_has_handed_on_without_a_proof_comes_once() -> None:
    """The same where the old one is lost before the new one has brought anything."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        new = stage.replace("A")
        assert stage.both_are_open()
        for number in (1, 2):
            stage.old.send(tick("A", number))
        assert wait_until(lambda: 2 in stage.numbers("A"))
        stage.old.close_socket()
        assert stage.has_taken_over()
        for number in (1, 2, 3):
            new.send(tick("A", number))
        assert wait_until(lambda: 3 in stage.numbers("A"))
        stage.stream.stop()
        assert stage.numbers("A") == [1, 2, 3]
        assert books_balance(stage.stream)


def test_a_subscription_that_nobody_may_have_read_is_a_gap() -> None:
    """The old connection ends before the server has read what the new one asks for: what came between is lost."""

    class Slow(Feed):
        reads = threading.Event()

        def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
            if message.get("functionName") == "getDeribitContractStream":
                assert self.reads.wait(10)
            super().answer(connection, message)

    with Slow() as feed:
        feed.reads.set()
        stage = Stage(feed, "A")
        feed.reads.clear()
        feed.send("A")
        assert wait_until(lambda: stage.numbers("A") == [1])
        stage.stream.reconnect_now()
        assert stage.both_are_open()
        feed.cut("A")
        assert stage.has_taken_over()
        feed.send("A")  # to nobody
        feed.reads.set()
        feed.wait_for_subscribers("A")
        feed.send("A")
        assert wait_until(lambda: 3 in stage.numbers("A"))
        stage.stream.stop()
        told = [item.names if isinstance(item, Gap) else item[1] for item in stage.seen.items]
        assert told == [1, ("A",), 3]


def test_the_stream_is_open_when_the_new_connection_is() -> None:
    """A stream that works would be called RECONNECTING until its next loss."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        for _ in range(3):
            old = stage.first
            stage.replace("A")
            assert stage.both_are_open()
            stage.old.close_socket()
            assert stage.has_taken_over()
            assert wait_until(lambda: stage.stream.state is State.OPEN)
            (stage.first,) = stage.stream._session.connections.all()
            assert stage.first is not old
            stage.old = next(iter(feed.subscribers["A"][::-1]))
            feed.subscribers["A"] = [stage.old]
        stage.stream.stop()


def test_a_line_that_went_and_came_back_is_no_successor() -> None:
    """A name that is subscribed to anew in the middle of a replacement would be silent for ever."""
    with ScriptedServer() as server:
        stream = stream_to(server, stream_per_url=True, overlap=30, overflow="block")
        seen = Collector()
        stream.on_contract(lambda tick: seen(tick.timestamp))
        stream.subscribe_contract("A", "Z")
        stream.start()
        old = next(one for one in (server.next_connection(), server.next_connection()) if "/A" in one.request.path)
        session = stream._session
        stream.reconnect_now()
        new = next(one for one in (server.next_connection(), server.next_connection()) if "/A" in one.request.path)
        assert wait_until(
            lambda: session.pipeline.gaps._replacements.get("A") and session.pipeline.gaps._replacements["A"].new
        )
        gone = [session.connections._serving["A"], session.connections._candidates["A"].new]
        with old.protocol_mutex, new.protocol_mutex:  # they are slow to answer a close frame
            stream.unsubscribe_contract("A")
            stream.subscribe_contract("A")
            third = server.next_connection()
            assert wait_until(lambda: not any(one.is_alive for one in gone))
        for number in (1, 2, 3):
            third.send(text(redis_key="A", instrument_name="A", timestamp=str(number)))
        seen.wait(lambda items: items == [1, 2, 3])
        stream.stop()
        assert books_balance(stream)


def test_a_second_replacement_knows_what_the_first_one_was_asked_for() -> None:
    """What was subscribed to during the first one would come twice during the second."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        new = stage.replace("A")
        stage.stream.subscribe_contract("B")
        feed.wait_for_subscribers("B")
        with stage.old.protocol_mutex:  # slow to answer our close frame
            feed.subscribers["A"] = [new]
            feed.send("A")
            stage.old.socket.sendall(server_frame(1, tick("A", 1).encode()))
            assert stage.has_taken_over()
            stage.stream.reconnect_now()
            feed.wait_for_subscribers("B", 2)
            assert stage.both_are_open()
            feed.send("B", 3)
            assert wait_until(lambda: 3 in stage.numbers("B"))
            assert stage.duplicates(3)
        stage.stream.stop()
        assert stage.numbers("B") == [1, 2, 3]


def test_what_a_gate_has_kept_waits_for_what_came_before() -> None:
    """While a slow handler catches up, what a replacement hands on would overtake the messages that wait."""
    with Feed() as feed:
        stage = Stage(feed, "A", "B", overflow="auto", max_lag=0.2)
        new = stage.replace("A", "B")
        assert stage.both_are_open()
        stage.hold("B")
        read = stage.stream.stats().messages.received
        stage.old.send(tick("A", 1))
        assert stage.received(read + 1)
        new.send(tick("A", 2))
        new.send(tick("A", 3))
        assert stage.received(read + 3)
        stage.old.send(tick("A", 2))
        stage.old.send(tick("A", 3))
        assert stage.received(read + 5)
        assert wait_until(lambda: stage.stream.stats().lag > 0.5)
        stage.go_on()
        assert wait_until(lambda: 3 in stage.numbers("A"))
        stage.stream.stop()
        assert stage.numbers("A") == sorted(stage.numbers("A"))
        assert books_balance(stage.stream)


@pytest.mark.parametrize("names", [(), ("A",)])
def test_a_key_is_not_believed_before_its_verdict(names: tuple[str, ...]) -> None:
    """A rotation to a wrong key would close the connection that works, and end the stream."""

    class Thinking(Feed):
        thinks = threading.Event()

        def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
            if message.get("APIKey") == "wrong-key" and message.get("functionName") == "authenticate":
                self.refused_keys.add("wrong-key")
                assert self.thinks.wait(10)
            super().answer(connection, message)

    with Thinking() as feed:
        rounds, errors = Collector(), Collector()
        stream = stream_to(feed, overlap=0.1)
        stream.on_error(errors)
        stream.subscribe_contract(*names)
        stream.start()
        continuity = stream._session.pipeline.gaps
        settle = continuity.settle

        def counted(now: float) -> None:
            settle(now)
            if any(one.new for one in continuity._replacements.values()):
                rounds(None)

        continuity.settle = counted  # type: ignore[method-assign]
        stream.rotate_key("wrong-key")
        rounds.wait(len)
        feed.thinks.set()
        errors.wait(len)
        assert stream.state is State.OPEN
        stream.stop()


def test_the_old_keys_end_is_not_the_streams() -> None:
    """The server closes the connection of the expired key with 1008 when the new one is open: all would be over."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        stage.stream.rotate_key("new-key")
        feed.next_connection()
        feed.wait_for_subscribers("A", 2)
        assert stage.both_are_open()
        stage.old.close(1008, "key expired")
        assert stage.has_taken_over()
        feed.send("A")
        assert wait_until(lambda: stage.numbers("A"))
        assert wait_until(lambda: stage.stream.state is State.OPEN)
        stage.stream.stop()


def test_the_stream_is_open_when_the_last_one_that_was_not_is_unsubscribed() -> None:
    """`start()` would wait for ever, or a stream that works be called RECONNECTING."""
    with ScriptedServer() as server:

        def refuse(connection: ServerConnection, request: Any) -> Any:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "no") if "/Q" in request.path else None

        server.process_request = refuse
        stream = stream_to(server, stream_per_url=True)
        stream.subscribe_contract("A")
        stream.start()
        stream.subscribe_contract("Q")
        assert wait_until(lambda: stream.state is State.RECONNECTING)
        stream.unsubscribe_contract("Q")
        assert wait_until(lambda: stream.state is State.OPEN)
        stream.stop()


def test_a_replacement_that_meets_a_stop_opens_nothing() -> None:
    """A connection and its thread would outlive the stream."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        connections = stage.stream._session.connections
        replace, stop, stopped = connections.replace, connections.stop, threading.Event()

        def late(*arguments: Any) -> None:
            assert stopped.wait(10)
            replace(*arguments)

        def early() -> None:
            stop()
            stopped.set()
            asking.join(10)

        connections.replace, connections.stop = late, early  # type: ignore[method-assign]
        asking = threading.Thread(target=stage.stream.reconnect_now)
        with stage.old.protocol_mutex:  # slow to answer our close frame, so that there is something to replace
            asking.start()
            stage.stream.stop()
        assert not connections._candidates
        assert feed.connections.empty()


class Trying(Feed):
    """Answers a wrong key when it is told to; may hold the next handshake back."""

    def __init__(self) -> None:
        super().__init__()
        self.judges, self.opens, self.asked = threading.Event(), threading.Event(), threading.Event()
        self.opens.set()
        self.refused_keys.add("wrong-key")
        self.process_request = self._hold

    def _hold(self, connection: ServerConnection, request: Any) -> None:
        if not self.opens.is_set() and not self.asked.is_set():
            self.asked.set()
            assert self.opens.wait(10)

    def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        if message.get("APIKey") == "wrong-key" and message.get("functionName") == "authenticate":
            assert self.judges.wait(10)
        super().answer(connection, message)


@pytest.mark.parametrize("moment", ["open", "connecting"])
def test_a_rotation_to_a_wrong_key_survives_the_loss_of_the_old_connection(moment: str) -> None:
    """The stream would end, though the key before is good."""
    with Trying() as feed:
        stage, errors = Stage(feed, "A"), Collector()
        stage.stream.on_error(errors)
        if moment == "connecting":
            feed.opens.clear()
        stage.stream.rotate_key("wrong-key")
        assert stage.both_are_open() if moment == "open" else feed.asked.wait(10)
        stage.old.close_socket()
        if moment == "open":
            assert stage.has_taken_over()
        feed.judges.set()
        errors.wait(lambda items: any(isinstance(item, AuthorizationError) for item in items))
        feed.opens.set()
        assert wait_until(lambda: stage.stream.state is State.OPEN)
        assert wait_until(lambda: feed.send("A") or stage.numbers("A"))
        stage.stream.stop()
        assert stage.stream.state is State.STOPPED


def test_the_old_keys_end_is_not_the_streams_while_the_new_one_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same a moment earlier: the successor is given up, but the stream goes on."""
    closed = Connections.closed

    def slowly(connections: Connections, *arguments: Any) -> None:
        """The dispatch thread hears of the end, and gives the successor up, before the io thread goes on."""
        closed(connections, *arguments)
        wait_until(lambda: not connections._candidates)

    monkeypatch.setattr(Connections, "closed", slowly)
    with Trying() as feed:
        stage = Stage(feed, "A")
        feed.opens.clear()
        stage.stream.rotate_key("new-key")
        assert feed.asked.wait(10)
        stage.old.close(1008, "key expired")
        assert wait_until(lambda: not stage.stream._session.connections._candidates)
        feed.opens.set()
        assert wait_until(lambda: feed.send("A") or stage.numbers("A"))
        assert stage.stream.state is not State.FAILED
        stage.stream.stop()


def test_the_gap_of_a_take_over_holds_what_is_missing() -> None:
    """It would end when the old connection last brought something: before what was lost."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        times = Collector()
        stage.stream.on_contract(lambda tick: times(tick.received_at))
        stage.old.send(tick("A", 1))
        assert wait_until(lambda: stage.numbers("A") == [1])
        new = stage.replace("A")
        assert stage.both_are_open()
        read = stage.stream.stats().messages.received
        new.send(tick("A", 3))
        assert stage.received(read + 1)
        stage.old.close_socket()
        assert wait_until(lambda: stage.numbers("A") == [1, 3])
        (gap,) = stage.gaps()
        assert times.items[0] <= gap.start < times.items[1] <= gap.end
        stage.stream.stop()


def test_stop_ends_the_handing_on_of_what_was_kept() -> None:
    """A slow handler would be called again and again, long after `stop()`."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        new = stage.replace("A")
        assert stage.both_are_open()
        read = stage.stream.stats().messages.received
        for number in range(1, 51):
            new.send(tick("A", number))
        assert stage.received(read + 50)
        stage.holds_next.set()
        (handover,) = stage.stream._session.pipeline.gaps._replacements.values()
        handover.deadline = 0.0
        assert stage.held.wait(10)  # the first of them is in its handler
        stage.stream.stop(timeout=0.1, drain=False)
        stage.go_on()
        assert wait_until(lambda: stage.stream.state is State.STOPPED)
        assert stage.numbers("A") == [1]
        assert books_balance(stage.stream)


def test_an_answer_to_an_earlier_probe_proves_nothing() -> None:
    """A gap would end before the server has read what the old connection is asked for instead."""

    class Slow(Feed):
        reads = threading.Event()

        def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
            if message.get("functionName") == "getDeribitContractStream":
                assert self.reads.wait(10)
            super().answer(connection, message)

    with Slow() as feed:
        feed.reads.set()
        stage = Stage(feed, "A")
        stage.keep_the_old_connection()
        new = stage.replace("A")
        assert stage.both_are_open()
        stage.stream.subscribe_contract("B")
        feed.wait_for_subscribers("B")
        new.send(tick("B", 1))
        assert wait_until(lambda: stage.numbers("B") == [1])
        feed.reads.clear()
        new.close_socket()
        assert wait_until(lambda: not stage.stream._session.pipeline.gaps._replacements)
        read = stage.stream.stats().messages.received
        Feed.answer(feed, stage.old, {"functionName": "keepAlive"})
        assert stage.received(read + 1)
        assert wait_until(lambda: stage.stream.stats().messages.waiting == stage.stream.stats().messages.in_flight == 0)
        assert not [gap for gap in stage.gaps() if "B" in gap.names]
        feed.reads.set()
        feed.wait_for_subscribers("B", 2)
        stage.old.send(tick("B", 3))
        assert wait_until(lambda: 3 in stage.numbers("B"))
        stage.stream.stop()
        told = [isinstance(item, Gap) for item in stage.seen.items if isinstance(item, Gap) or item[0] == "B"]
        assert told == [False, True, False]
