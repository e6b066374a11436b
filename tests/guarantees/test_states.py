"""A stream through anything, in any order: subscribe, unsubscribe, cut, refuse, replace, stop, start."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import sampled_from

from finx_sync import State
from finx_sync.notices import Gap
from tests.guarantees.feeds import Feed
from tests.waiting import Collector, books_balance, stream_to, wait_until

NAMES = sampled_from("ABC")


class Life(RuleBasedStateMachine):
    """The server's own numbers are the judge: each is handled once, or inside a gap that was told."""

    def __init__(self) -> None:
        super().__init__()
        self.feed = Feed()
        self.feed.__enter__()
        self.stream = stream_to(self.feed, overlap=0.3)
        self.seen = Collector()
        self.stream.on_gap(self.seen)
        self.stream.on_contract(lambda tick: self.seen((tick.name, tick.timestamp)))
        self.runs = False
        self.wanted: set[str] = set()
        self.refusals = 0
        self.feed.process_request = self._process_request

    def _process_request(self, connection: Any, request: Any) -> Any:
        if self.refusals:
            self.refusals -= 1
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "not now")
        return None

    @rule(name=NAMES)
    def subscribe(self, name: str) -> None:
        self.stream.subscribe_contract(name)
        self.wanted.add(name)

    @rule(name=NAMES)
    def unsubscribe(self, name: str) -> None:
        self.stream.unsubscribe_contract(name)
        self.wanted.discard(name)

    @precondition(lambda self: not self.runs)
    @rule()
    def start(self) -> None:
        self.seen.items.clear()
        self.refusals = 0  # a stop came before the attempt that was to be refused, and a first one would fail for good
        self.stream.start()
        self.runs = True

    @precondition(lambda self: self.runs)
    @rule()
    def stop(self) -> None:
        self.stream.stop()
        assert self.stream.state is State.STOPPED
        self.runs = False

    @rule(name=NAMES)
    def cut(self, name: str) -> None:
        self.feed.cut(name)

    @precondition(lambda self: self.runs)
    @rule()
    def refuse_the_next_connection(self) -> None:
        self.refusals = 1
        for name in "ABC":
            self.feed.cut(name)
        if not self.wanted:
            self.refusals = 0

    @precondition(lambda self: self.runs)
    @rule()
    def reconnect(self) -> None:
        self.stream.reconnect_now()

    @precondition(lambda self: self.runs and self.wanted)
    @rule(name=NAMES)
    def each_subscription_lives(self, name: str) -> None:
        """Whatever has happened, a wanted name's messages come."""
        if name in self.wanted:
            count = sum(item[0] == name for item in self.seen.items if not isinstance(item, Gap))

            def comes() -> bool:
                self.feed.send(name)
                return sum(item[0] == name for item in list(self.seen.items) if not isinstance(item, Gap)) > count

            assert wait_until(comes), f"{name} is silent"

    @rule(name=NAMES)
    def send(self, name: str) -> None:
        self.feed.send(name, 3)

    @invariant()
    def the_books_balance(self) -> None:
        assert books_balance(self.stream)

    @invariant()
    def each_number_once_or_in_a_gap(self) -> None:
        items = list(self.seen.items)
        for name in "ABC":
            last, in_gap = None, True
            for item in items:
                if isinstance(item, Gap):
                    in_gap = in_gap or name in item.names
                elif item[0] == name:
                    assert last is None or item[1] > last, f"{name}: {item[1]} after {last}"
                    assert last is None or item[1] == last + 1 or in_gap or name not in self.wanted
                    last, in_gap = item[1], False

    def teardown(self) -> None:
        self.stream.stop()
        assert books_balance(self.stream)
        self.feed.__exit__(None, None, None)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=settings.default.max_examples // 7, stateful_step_count=15)
