"""Make before break: a planned reconnect or a new key, without losing or repeating a message."""

from __future__ import annotations

import threading
import time
from http import HTTPStatus
from typing import Any

import pytest

from finx_sync import AuthorizationError, FinxSyncError, State
from finx_sync.errors import InvalidInputError, UsageError
from finx_sync.notices import Gap
from tests.guarantees.feeds import Feed
from tests.waiting import Collector, books_balance, stream_to, wait_until


def started(feed: Feed, *names: str, **options: Any) -> tuple[Any, Collector]:
    """A running stream of these names, and what its handlers see."""
    stream = stream_to(feed, **options)
    seen = Collector()
    stream.on_gap(seen)
    stream.on_contract(lambda tick: seen((tick.name, tick.timestamp)))
    stream.subscribe_contract(*names)
    stream.start()
    for name in names:
        feed.wait_for_subscribers(name)
    return stream, seen


def numbers(items: list[Any], name: str) -> list[int]:
    """The numbers of one name."""
    return [item[1] for item in items if not isinstance(item, Gap) and item[0] == name]


def test_under_load_nothing_is_lost_repeated_or_out_of_order() -> None:
    """A key rotation every 24 hours would cost messages, or deliver some twice."""
    names = ("A", "B", "C")
    with Feed() as feed:
        stream, seen = started(feed, *names, overlap=5)
        feed.pace(0.001, *names)
        seen.wait(len)
        session = stream._session
        for round_number in range(5):
            before = session.connections.all()[0]
            if round_number % 2:
                stream.rotate_key(f"key-{round_number}")
            else:
                stream.reconnect_now()
            assert wait_until(lambda: session.connections.all()[0] is not before)  # noqa: B023  # called at once
        feed.quiet()
        assert wait_until(lambda: all(numbers(seen.items, name)[-1] == feed.sent[name] for name in names))
        stream.stop()
        for name in names:
            assert numbers(seen.items, name) == list(range(numbers(seen.items, name)[0], feed.sent[name] + 1))
        assert not [item for item in seen.items if isinstance(item, Gap)]
        books = stream.stats().messages
        assert books.duplicate > 0
        assert books_balance(stream)
        assert stream.stats().reconnects == 0
        assert {one.kind for one in stream.coverage("A")} == {"received"}
        assert "key-3" in feed.paths[-2]


def test_a_name_that_the_new_connection_does_not_carry_is_a_gap() -> None:
    """A subscription that got lost on the way over would be silently missing."""
    with Feed() as feed:
        stream, seen = started(feed, "A", "B", overlap=0.5)
        feed.pace(0.002, "A", "B")
        seen.wait(len)
        feed.silent.add("B")
        stream.reconnect_now()
        items = seen.wait(lambda items: any(isinstance(item, Gap) for item in items))
        feed.quiet()
        stream.stop()
        (gap,) = [item for item in items if isinstance(item, Gap)]
        assert (gap.names, gap.reason) == (("B",), "rotation")
        assert books_balance(stream)


def test_what_is_wanted_while_the_new_connection_opens_comes_once() -> None:
    """Both connections are asked for it, the old one at once and the new one with all the rest: each message twice."""
    with Feed() as feed:
        stream, seen = started(feed, "A", overlap=0.5)
        asked, may_open = threading.Event(), threading.Event()

        def hold(connection: Any, request: Any) -> None:
            asked.set()
            may_open.wait(10)

        feed.process_request = hold
        stream.reconnect_now()
        assert asked.wait(10)
        stream.subscribe_contract("B")
        feed.wait_for_subscribers("B")
        feed.send("B")
        may_open.set()
        feed.wait_for_subscribers("B", 2)
        feed.send("B", 3)
        assert wait_until(lambda: numbers(seen.items, "B")[-1:] == [4])
        assert wait_until(lambda: stream.stats().messages.duplicate >= 2)  # beyond the first that both brought
        stream.stop()
        assert numbers(seen.items, "B") == [1, 2, 3, 4]
        assert not [item for item in seen.items if isinstance(item, Gap)]


def test_where_only_one_connection_is_allowed_it_breaks_before_it_makes() -> None:
    """A server that refuses a second connection would make a rotation impossible, or silent."""
    with Feed() as feed:
        stream, seen = started(feed, "A")
        feed.pace(0.002, "A")
        seen.wait(len)
        refused = []

        def refuse(connection: Any, request: Any) -> Any:
            if not refused:
                refused.append(request.path)
                return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "one connection only")
            return None

        feed.process_request = refuse
        errors = Collector()
        stream.on_error(errors)
        stream.reconnect_now()
        items = seen.wait(lambda items: any(isinstance(item, Gap) for item in items))
        assert refused
        (gap,) = [item for item in items if isinstance(item, Gap)]
        assert gap.reason == "reconnect"
        assert "429" in str(errors.wait(len)[0])
        count = len(seen.items)
        seen.wait(lambda items: len(items) > count + 5)
        feed.quiet()
        stream.stop()


def test_a_new_key_that_is_refused_leaves_the_old_connection() -> None:
    """A typo in the new key would cost the stream."""
    with Feed() as feed:
        stream, seen = started(feed, "A")
        feed.pace(0.002, "A")
        seen.wait(len)
        errors = Collector()
        stream.on_error(errors)
        feed.refused_keys.add("wrong-key")
        stream.rotate_key("wrong-key")
        (error,) = errors.wait(len)
        assert isinstance(error, AuthorizationError)
        count = len(seen.items)
        seen.wait(lambda items: len(items) > count + 5)
        feed.cut("A")  # and the old key is used again
        feed.wait_for_subscribers("A")
        count = len(seen.items)
        seen.wait(lambda items: len(items) > count + 5)
        feed.quiet()
        assert stream.is_connected
        stream.stop()


def test_the_old_connection_may_go_first() -> None:
    """A server that ends the old connection when the new one comes would leave the stream without any."""
    with Feed() as feed:
        stream, seen = started(feed, "A", overlap=30)
        feed.pace(0.002, "A")
        seen.wait(len)
        feed.silent.add("A")  # the new connection has nothing to compare
        stream.reconnect_now()
        assert wait_until(lambda: feed.connections.qsize() == 2)
        feed.silent.clear()
        feed.cut("A")
        assert wait_until(lambda: any(isinstance(item, Gap) for item in seen.items))
        feed.quiet()
        stream.stop()
        assert books_balance(stream)


def test_a_planned_reconnect_comes_at_its_time() -> None:
    """A user could not move a reconnect out of the trading hours."""
    with Feed() as feed:
        stream, _ = started(feed, "A")
        for bad in (0, time.time() - 1):
            with pytest.raises(InvalidInputError):
                stream.reconnect_at(bad)
        with pytest.raises(UsageError, match="key"):
            stream.rotate_key()
        planned = time.time() + 0.3
        stream.reconnect_at(planned)
        assert wait_until(lambda: feed.connections.qsize() == 2)
        assert time.time() >= planned
        stream.stop()


def test_stop_while_replacing_leaves_nothing() -> None:
    """A stop in the middle of a rotation would leave a thread or a connection."""
    with Feed() as feed:
        for _ in range(10):
            stream, _ = started(feed, "A", overlap=30)
            stream.reconnect_now()
            stream.stop()
            assert stream._session.connections.join(time.monotonic() + 20)


def test_a_reconnect_during_the_first_attempt_is_no_failure() -> None:
    """`start()` would raise, and the stream be FAILED, since the user asked for a new connection a moment too early."""
    asked, go_on = threading.Event(), threading.Event()

    class Slow(Feed):
        """Its first handshake takes its time."""

        def answer_handshake(self, connection: Any, request: Any) -> Any:
            if not asked.is_set():
                asked.set()
                go_on.wait(10)
            return None

    with Slow() as feed:
        feed.process_request = feed.answer_handshake
        stream = stream_to(feed)
        stream.subscribe_contract("A")
        failures: list[BaseException] = []

        def start() -> None:
            try:
                stream.start(20)
            except FinxSyncError as error:
                failures.append(error)

        starting = threading.Thread(target=start)
        starting.start()
        assert asked.wait(10)
        stream.reconnect_now()
        go_on.set()
        starting.join(20)
        assert failures == []
        assert stream.state is State.OPEN
        stream.stop()
