"""One connection replaces another, and something comes in between: each message once, or inside a gap that is told."""

from __future__ import annotations

import threading
from typing import Any

from websockets.sync.server import ServerConnection

from finx_sync import State
from finx_sync.notices import Gap
from tests.guarantees.feeds import Feed
from tests.guarantees.stages import Stage, tick
from tests.waiting import books_balance, wait_until


def test_what_a_new_connection_has_brought_the_old_one_does_not_repeat() -> None:
    """A bot would act twice on what the new connection brought before it failed, and the price would go back in time.

    The new connection is ahead of the old one when it is lost.
    """
    with Feed() as feed:
        stage = Stage(feed, "A", "B")  # B has no messages, so the replacement goes on
        new = stage.replace("A", "B")
        feed.send("A")  # on both: the new one has taken over
        assert stage.duplicates(1)
        for number in (2, 3, 4):
            new.send(tick("A", number))
        assert wait_until(lambda: stage.numbers("A") == [1, 2, 3, 4])
        stage.keep_the_old_connection()
        new.close_socket()
        assert wait_until(stage.gaps)
        for number in (2, 3, 4, 5):
            stage.old.send(tick("A", number))
        assert wait_until(lambda: 5 in stage.numbers("A"))
        stage.stream.stop()
        assert stage.numbers("A") == [1, 2, 3, 4, 5]
        assert books_balance(stage.stream)


def test_what_both_have_brought_is_in_flight_no_more() -> None:
    """Where the new connection is ahead, one message of each replacement would be in hand for ever."""
    with Feed() as feed:
        stage = Stage(feed, "A", "B")
        new = stage.replace("A", "B")
        read = stage.stream.stats().messages.received
        new.send(tick("A", 1))
        new.send(tick("A", 2))
        assert stage.received(read + 2)
        assert wait_until(lambda: stage.stream.stats().messages.in_flight == 2)
        stage.old.send(tick("A", 1))
        assert wait_until(lambda: stage.numbers("A") == [1, 2])
        assert stage.duplicates(1)
        assert wait_until(lambda: stage.stream.stats().messages.in_flight == 0)
        stage.stream.stop()
        assert books_balance(stage.stream)


def test_what_was_unwanted_and_is_wanted_again_comes_once() -> None:
    """FinX cannot end a subscription: the old connection still brings what the new one is asked for again."""
    with Feed() as feed:
        stage = Stage(feed, "A", "B")
        stage.stream.unsubscribe_contract("A")
        stage.replace("B")
        stage.stream.subscribe_contract("A")
        feed.wait_for_subscribers("A", 2)
        feed.send("A", 3)
        feed.send("B", 3)
        assert wait_until(lambda: 3 in stage.numbers("A"))
        assert stage.duplicates(6)
        stage.stream.stop()
        assert stage.numbers("A") == [1, 2, 3]
        assert not stage.gaps()
        assert books_balance(stage.stream)


def test_a_connection_that_comes_back_after_it_was_replaced_repeats_nothing() -> None:
    """While a handler takes its time, the old connection is lost and reopened: two would serve the line, unnoticed.

    Every message would come twice, and when the superfluous connection goes, coverage would say that nothing comes.
    """
    with Feed() as feed:
        stage = Stage(feed, "A")
        stage.hold("A")
        stage.replace("A")
        stage.old.close_socket()
        feed.next_connection()
        feed.wait_for_subscribers("A", 3)
        read = stage.stream.stats().messages.received
        feed.send("A", 3)
        assert stage.received(read + 6)
        stage.go_on()
        assert wait_until(lambda: 4 in stage.numbers("A"))
        feed.send("A", 3)
        assert wait_until(lambda: 7 in stage.numbers("A"))
        assert wait_until(lambda: [one.kind for one in stage.stream.coverage("A")][-1] == "received")
        stage.stream.stop()
        assert stage.numbers("A") == [1, 2, 3, 4, 5, 6, 7]
        assert books_balance(stage.stream)


def test_a_connection_that_was_given_up_before_it_was_open_repeats_nothing() -> None:
    """The old connection is lost and comes back by itself, and so does the one that was to replace it."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        stage.hold("A")
        asked, may_open = threading.Event(), threading.Event()

        def hold(connection: Any, request: Any) -> None:
            asked.set()
            assert may_open.wait(30)

        feed.process_request = hold
        stage.stream.reconnect_now()
        assert asked.wait(10)
        feed.process_request = lambda connection, request: None
        stage.old.close_socket()
        feed.next_connection()  # the old one's next
        feed.wait_for_subscribers("A", 2)
        may_open.set()
        feed.next_connection()
        feed.wait_for_subscribers("A", 3)
        read = stage.stream.stats().messages.received
        feed.send("A", 3)
        assert stage.received(read + 6)
        stage.go_on()
        feed.send("A", 3)
        assert wait_until(lambda: 7 in stage.numbers("A"))
        stage.stream.stop()
        assert stage.numbers("A") == [1, 2, 3, 4, 5, 6, 7]
        assert books_balance(stage.stream)


def test_both_connections_may_go_while_a_handler_takes_its_time() -> None:
    """The old connection would be stopped in favour of one that has ended, and nothing would ever come again."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        stage.hold("A")
        new = stage.replace("A")
        stage.keep_the_old_connection()
        stage.old.close_socket()
        feed.next_connection()  # the old one's next, so its end is known
        feed.wait_for_subscribers("A", 3)
        connections = stage.stream._session.connections
        new.close_socket()
        assert wait_until(lambda: not connections._candidates)
        feed.send("A")
        stage.go_on()
        assert wait_until(lambda: 2 in stage.numbers("A"))
        assert wait_until(lambda: [one.kind for one in stage.stream.coverage("A")][-1] == "received")
        assert [item.names for item in stage.gaps()] == [("A",)]
        assert wait_until(lambda: stage.stream.is_connected)
        feed.send("A")
        assert wait_until(lambda: 3 in stage.numbers("A"))
        stage.stream.stop()
        assert stage.numbers("A") == [1, 2, 3]
        assert books_balance(stage.stream)


def test_a_gap_is_told_before_what_the_new_connection_brings() -> None:
    """The messages after a gap would come before the news of it, by five seconds."""
    with Feed() as feed:
        feed.answers_keep_alive = False
        stage = Stage(feed, "A")
        feed.send("A")
        assert wait_until(lambda: stage.numbers("A") == [1])
        feed.cut("A")
        feed.send("A")  # lost
        stage.old = feed.next_connection()
        feed.wait_for_subscribers("A")
        assert wait_until(lambda: stage.stream.is_connected)
        new = stage.replace("A")
        new.send(tick("A", 3))
        stage.old.close_socket()
        new.send(tick("A", 4))
        assert wait_until(lambda: 4 in stage.numbers("A"))
        reasons = [item.reason if isinstance(item, Gap) else item[1] for item in list(stage.seen.items)]
        stage.stream.stop()
        assert reasons.index("connection lost") < reasons.index(3)
        assert books_balance(stage.stream)


def test_what_only_the_new_connection_brought_is_a_gap_when_it_fails() -> None:
    """What is wanted during a replacement is asked of the new connection alone: its end would lose some silently."""
    with Feed() as feed:
        stage = Stage(feed, "A")
        stage.replace("A")
        stage.stream.subscribe_contract("B")
        feed.wait_for_subscribers("B")
        feed.send("B")
        assert wait_until(lambda: stage.numbers("B") == [1])
        stage.keep_the_old_connection()
        subscriptions = stage.stream._subscriptions
        forget, read = subscriptions.closed, stage.stream.stats().messages.received

        def slowly(line: str, send: Any) -> None:
            """The old connection brings B before the new one's io thread goes on."""
            forget(line, send)
            feed.wait_for_subscribers("B")
            feed.send("B")
            assert stage.received(read + 1)

        subscriptions.closed = slowly  # type: ignore[method-assign]
        feed.cut("B")
        assert wait_until(lambda: 2 in stage.numbers("B"))
        stage.stream.stop()
        told = [item for item in stage.seen.items if isinstance(item, Gap) or item[0] == "B"]
        assert [isinstance(item, Gap) for item in told] == [False, True, False]
        assert told[1].names == ("B",)
        assert books_balance(stage.stream)


class Silent(Feed):
    """Answers every login but the second."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._logins = 0

    def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        """As a feed, with that exception."""
        self._logins += message.get("functionName") == "authenticate"
        if message.get("functionName") != "authenticate" or self._logins != 2:
            super().answer(connection, message)


def test_a_successor_that_is_lost_before_its_key_was_taken_comes_back() -> None:
    """Two losses within a second would end the stream for good, as if it had never been open."""
    with Silent() as feed:
        stage = Stage(feed, "A")
        new = stage.replace("A")
        stage.old.close_socket()
        assert stage.has_taken_over()
        new.close_socket()
        feed.next_connection()
        assert wait_until(lambda: feed.send("A") or stage.numbers("A"))
        stage.stream.stop()
        assert stage.stream.state is State.STOPPED
        assert books_balance(stage.stream)
