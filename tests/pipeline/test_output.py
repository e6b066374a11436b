"""What an output gets: every message that is delivered, once, in order, whatever way it takes through the pipeline."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.path import Path, codes_per_message, messages
from finx_sync.events import (
    Batch,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    MessagesDropped,
    StateChanged,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from finx_sync.messages import Message
from finx_sync.pipeline.output import Topic
from finx_sync.state import State, StateChange
from finx_sync.venues.base import MAIN_ENDPOINT, Subscription

NAME = "BTC-26AUG22-20000-C"


class Output:
    """Remembers what it is given."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.times: list[float] = []
        self.log: list[Any] = []

    def take(self, messages: Sequence[Message], payloads: Sequence[bytes], received_at: float) -> None:
        assert len(messages) == len(payloads) > 0
        for message, payload in zip(messages, payloads, strict=True):
            self.add(message, payload, received_at)

    def add(self, message: Message, payload: bytes, received_at: float) -> None:
        assert isinstance(message, Message)
        self.payloads.append(payload)
        self.times.append(received_at)
        self.log.append(payload)

    def notice(self, topic: Topic, value: Any) -> None:
        self.log.append((topic, value))


def path_with_output(handlers: int = 0) -> tuple[Path, Output]:
    path = Path(handlers=handlers)
    if not handlers:
        for handler in path.stream._handlers.snapshot():
            path.stream._handlers.remove(handler)
    output = Output()
    path.stream._outlet.output = output
    return path, output


def payloads_of(kind: str, names: int, count: int) -> list[bytes]:
    return [bytes(one, "utf-8") if isinstance(one, str) else bytes(one) for one in messages(kind, names)[:count]]


@pytest.mark.parametrize("handlers", [0, 1, 3])
@pytest.mark.parametrize("kind", ["contract", "mixed"])
def test_each_message_once(handlers: int, kind: str) -> None:
    """A relay would leave out what a bot has no handler for, or what several have one for."""
    path, output = path_with_output(handlers)
    process = path.session.pipeline.process
    payloads = payloads_of(kind, 10, 300)
    connection = Connection(MAIN_ENDPOINT)
    for number, begin in enumerate(range(0, 300, 150)):
        batch = Batch(payloads[begin : begin + 150], 100.0 + number, time.monotonic(), connection)
        path.session.pipeline.counter.receive(150)
        process(batch)
    assert output.payloads == payloads
    assert output.times == [100.0] * 150 + [101.0] * 150
    counts = path.stream.stats().messages
    assert counts.handled + counts.unclaimed == 300
    assert path.stream.latest(NAME) is None or path.stream.latest(NAME).received_at >= 100.0


def test_events_in_their_place() -> None:
    """A gap would be told before or after the messages that it lies between."""
    path, output = path_with_output()
    process, connection = path.session.pipeline.process, Connection(MAIN_ENDPOINT)
    first, second, third = payloads_of("contract", 1, 3)
    wanted = Subscription("contract", NAME)

    def receive(payload: bytes, at: float) -> None:
        path.session.pipeline.counter.receive(1)
        process(Batch([payload], at, at, connection))

    process(SubscriptionAdded(1.0, 1.0, wanted, MAIN_ENDPOINT))
    process(ConnectionOpened(1.0, 1.0, connection))
    change = StateChange(State.CONNECTING, State.OPEN)
    process(StateChanged(1.0, 1.0, change))
    receive(first, 2.0)
    process(MessagesDropped(3.0, 3.0, 2.5, 2.9, 7))
    receive(second, 4.0)
    process(ConnectionClosed(5.0, 5.0, connection, 4.5, "connection lost"))
    connection = Connection(MAIN_ENDPOINT)
    process(ConnectionOpened(6.0, 6.0, connection))
    receive(third, 7.0)
    process(SubscriptionRemoved(8.0, 8.0, wanted, MAIN_ENDPOINT))
    kinds = [entry if isinstance(entry, bytes) else entry[0] for entry in output.log]
    assert kinds == ["added", "state", first, "gap", second, "gap", third, "removed"]
    assert output.log[3][1].missed == 7
    assert output.log[5][1].reason == "connection lost"


def test_catching_up() -> None:
    """A relay would write what handlers have skipped, and the gap would be wrong."""
    path, output = path_with_output(1)
    seen: list[Any] = []
    path.stream.on_contract(seen.append)
    payloads = payloads_of("contract", 10, 300)
    path.session.pipeline.counter.receive(300)
    path.session.pipeline.process(Batch(payloads, 1.0, 1.0, Connection(MAIN_ENDPOINT)))  # long ago
    counts = path.stream.stats().messages
    assert counts.dropped > 0
    assert len(output.payloads) == counts.handled == len(seen)
    assert output.payloads == [payload for payload in payloads if payload in set(output.payloads)][-len(seen) :]
    gaps = [entry[1] for entry in output.log if isinstance(entry, tuple) and entry[0] == "gap"]
    assert sum(gap.missed for gap in gaps) == counts.dropped


def test_it_costs_nothing_when_unused() -> None:
    """Every bot would pay for what few use."""
    bare = codes_per_message(Path(), "contract", 1)
    path, _ = path_with_output()
    path.stream._outlet.output = None
    path.stream.on_contract(lambda tick: None)
    assert codes_per_message(path, "contract", 1) <= bare * 1.01


def test_a_relay_alone_is_cheaper_than_a_handler() -> None:
    """A process that only relays would spend its time on handlers that it does not have."""

    class Sink(Output):
        def take(self, messages: Sequence[Message], payloads: Sequence[bytes], received_at: float) -> None:
            self.log.append(len(messages))

    path, _ = path_with_output()
    path.stream._outlet.output = sink = Sink()
    assert codes_per_message(path, "contract", 1000) < codes_per_message(Path(), "contract", 1000)
    assert sum(sink.log) == 4000
