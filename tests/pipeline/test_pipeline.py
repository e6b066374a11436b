"""Events in, calls of handlers and commands out: the whole pipeline without a socket, a thread or a clock."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.errors import AuthorizationError
from finx_sync.events import (
    Batch,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    Event,
    ReplacementBegan,
    ReplacementTookOver,
    StateChanged,
    SubscriptionAdded,
    SubscriptionRemoved,
    TimerFired,
)
from finx_sync.messages import ContractTick
from finx_sync.pipeline.commands import Command, Confirm, ProbeAnswered, Refuse, RenewConnection
from finx_sync.pipeline.handlers import Handlers
from finx_sync.pipeline.latest import LastTable
from finx_sync.pipeline.pipeline import Pipeline
from finx_sync.pipeline.rows import BatchRow
from finx_sync.recorder.decoder import EventDecoder
from finx_sync.recorder.encoder import EventEncoder
from finx_sync.recorder.format import RAW, BlockHeader, Record, pack, unpack
from finx_sync.state import State, StateChange
from finx_sync.venues.base import Subscription
from finx_sync.venues.finx import CONTRACT, FinxCodec
from tests.scripted import text

CODEC = FinxCodec("ws://127.0.0.1:9")
NAMES = ("A", "B")


class Run:
    """A pipeline, what its handlers were given, in order, and what it wanted done."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.commands: list[Command] = []
        handlers = Handlers()
        handlers.add(ContractTick, lambda tick: self.seen.append((tick.name, tick.timestamp, tick.received_at)))
        for topic in ("gap", "state", "error"):
            handlers.add(topic, self.seen.append)
        self.pipeline = Pipeline(
            codec=CODEC,
            state=None,
            handlers=handlers,
            latest={kind: LastTable(CODEC.decode) for kind in CODEC.message_types},
            wall=lambda: 0.0,
            commands=self,
            overlap=2.0,
        )

    def execute(self, command: Command) -> None:
        self.commands.append(command)

    def process(self, *events: Event) -> Run:
        for event in events:
            if isinstance(event, Batch):
                self.pipeline.counter.receive(len(event.payloads))
            self.pipeline.process(event)
        return self

    def replay(self, records: Iterable[Record], *, one_by_one: bool) -> Run:
        """The same from a recording's records."""
        decoder = EventDecoder(records, CODEC, self.pipeline.wanted, one_by_one=one_by_one)
        decoder.gaps = self.pipeline.gaps
        for event in decoder:
            if isinstance(event, BatchRow):
                self.pipeline.process_row(event, 0, len(event))
            else:
                self.pipeline.process(event)
        return self


def opened(connection: Connection, at: float = 1.0) -> ConnectionOpened:
    """A connection is open."""
    return ConnectionOpened(at, at, connection)


def batch(connection: Connection, at: float, *payloads: str) -> Batch:
    """One read."""
    return Batch([payload.encode() for payload in payloads], at, at, connection)


def tick(name: str, number: int) -> str:
    """A contract's message."""
    return text(redis_key=name, instrument_name=name, timestamp=str(number))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('{"isAuth":true}', [Confirm]),
        ('{"isAuth":false}', [Refuse]),
        ('{"error":"no such key"}', [Refuse]),
        ('{"message":"keepAlive"}', []),
    ],
)
def test_what_the_server_says_becomes_a_command(payload: str, expected: list[type[Command]]) -> None:
    """The pipeline would have to know connections to act on them, and could not be run without any."""
    connection = Connection("")
    run = Run().process(opened(connection), batch(connection, 2.0, payload))
    assert [type(command) for command in run.commands if not isinstance(command, (ProbeAnswered, RenewConnection))] == (
        expected
    )
    assert all(getattr(command, "connection", connection) is connection for command in run.commands)


def test_a_refusal_on_a_connection_that_has_ended_is_only_reported() -> None:
    """The key that the next connection tries would be given up unheard."""
    connection = Connection("")
    connection.is_over = True
    run = Run().process(opened(connection), batch(connection, 2.0, '{"isAuth":false}'))
    assert run.commands == []
    assert [type(item) for item in run.seen] == [AuthorizationError]


class Token:
    """Identifies whoever opens a connection."""


class Endpoint:
    """One endpoint whose connections open, bring messages, are replaced and end; remembers what has happened.

    It is the candidate of its own replacements too, and agrees to every one.
    """

    is_confirmed = True

    def __init__(self) -> None:
        self.run = Run()
        self.events: list[Event] = []
        self.now = 1.0
        self.connection: Connection | None = None
        self.new: Connection | None = None
        self.token: Token | None = None  # of a replacement that has begun
        self.state = State.OPEN
        self._numbers = itertools.count(1)
        self._took_over: list[Event] = []
        for name in NAMES:
            self._add(SubscriptionAdded(0.5, 0.5, Subscription(CONTRACT, name), ""))

    def _add(self, event: Event) -> None:
        self._took_over = [event]
        for happened in self._took_over:  # grows while a replacement takes over
            self.events.append(happened)
            self.run.process(happened)

    def step(self, what: str, value: int) -> None:
        """The next thing that happens, a moment later."""
        self.now += 0.25 + value
        getattr(self, f"_{what}")(value)

    def _open(self, value: int) -> None:
        if self.connection is None:
            self.connection = Connection("", Token())
            self.connection.is_confirmed = True
            self._add(opened(self.connection, self.now))

    def _replace(self, value: int) -> None:
        if self.connection is not None and self.token is None:
            self.token = Token()
            self._add(ReplacementBegan(self.now, self.now, self.connection, self.token, self))

    def _open_new(self, value: int) -> None:
        if self.token is not None and self.new is None:
            self.new = Connection("", self.token)
            self.new.is_confirmed = True
            self._add(opened(self.new, self.now))

    def _close(self, value: int) -> None:
        connection = self.new if value % 2 and self.new is not None else self.connection
        if connection is None:
            return
        was_new = connection is self.new
        if was_new:
            self.new = self.token = None
        else:
            self.connection = None
        self._add(ConnectionClosed(self.now, self.now, connection, self.now - 0.1, "connection lost"))

    def _batch(self, value: int) -> None:
        connection = self.new if value % 2 and self.new is not None else self.connection
        if connection is not None:
            payloads = [tick(NAMES[(value + place) % 2], next(self._numbers)) for place in range(value)]
            last = "not JSON" if value == 3 else '{"isAuth":true}'
            self._add(batch(connection, self.now, *payloads, last))

    def _both(self, value: int) -> None:
        """The same on both connections."""
        payload = tick(NAMES[value % 2], next(self._numbers))
        for connection in (self.connection, self.new):
            if connection is not None:
                self._add(batch(connection, self.now, payload))

    def _subscribe(self, value: int) -> None:
        self._add(SubscriptionAdded(self.now, self.now, Subscription(CONTRACT, NAMES[value % 2]), ""))

    def _unsubscribe(self, value: int) -> None:
        self._add(SubscriptionRemoved(self.now, self.now, Subscription(CONTRACT, NAMES[value % 2]), ""))

    def _timer(self, value: int) -> None:
        self._add(TimerFired(self.now, self.now))

    def _change(self, value: int) -> None:
        before, self.state = self.state, State.RECONNECTING if self.state is State.OPEN else State.OPEN
        self._add(StateChanged(self.now, self.now, StateChange(before, self.state)))

    # The candidate

    def owns(self, connection: Connection) -> bool:
        return connection.owner is self.token

    def carried(self) -> list[Subscription]:
        return list(self.run.pipeline.wanted)

    def take_over(self, new: Connection, timer: float) -> bool:
        self._took_over.append(ReplacementTookOver(self.now, self.now, new, timer))
        self.connection, self.new, self.token = new, None, None
        return True

    def give_up(self) -> None:
        self.token = None


WHAT = ("open", "close", "batch", "both", "subscribe", "unsubscribe", "timer", "change", "replace", "open_new")
OFTEN = ("batch", "both", "timer")
STEPS = st.lists(st.tuples(st.sampled_from(WHAT + OFTEN), st.integers(0, 4)), max_size=40)


def lived(steps: list[tuple[str, int]]) -> Endpoint:
    """An endpoint to which all of this has happened."""
    endpoint = Endpoint()
    for what, value in steps:
        endpoint.step(what, value)
    return endpoint


def recorded(events: list[Event]) -> list[Record]:
    """The same events as they are written down."""
    encoder = EventEncoder()
    records: list[Record] = [BlockHeader(2, "run", CODEC.venue, 0.0, 0, 0, 0, 0, 0, 0.0, "", [], None, [])]
    for event in events:
        encoder.add(event, records)
    content = pack(records)
    return unpack(RAW, content, len(content))


def shown(seen: list[Any]) -> list[str]:
    """What handlers were given, comparable: errors by their texts."""
    return [repr(item) for item in seen]


@given(STEPS, st.booleans())
def test_a_recording_is_the_events_written_down(steps: list[tuple[str, int]], one_by_one: bool) -> None:
    """A backtest would see other messages, gaps or counts than the bot saw live."""
    live = lived(steps)
    replayed = Run().replay(recorded(live.events), one_by_one=one_by_one)
    assert shown(replayed.seen) == shown(live.run.seen)
    assert replayed.pipeline.counter.snapshot() == live.run.pipeline.counter.snapshot()


@given(STEPS)
def test_every_message_is_counted_and_handed_on_once(steps: list[tuple[str, int]]) -> None:
    """A message would be lost silently, or handled twice."""
    live = lived(steps)
    counters = live.run.pipeline.counter.snapshot()
    assert counters.received == sum(len(event.payloads) for event in live.events if isinstance(event, Batch))
    settled = counters.handled + counters.control + counters.unreadable + counters.duplicate
    assert counters.received == settled + counters.in_flight
    numbers = [(name, number) for name, number, _ in (item for item in live.run.seen if isinstance(item, tuple))]
    assert len(numbers) == len(set(numbers))
