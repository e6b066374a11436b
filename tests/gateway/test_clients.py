"""One client's queue, without a socket: what is conflated, what is kept, and what is said about it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from finx_sync.gateway.clients import Client, ClientLimits
from finx_sync.gateway.items import Item, line

LIMITS = ClientLimits(written=1000, queue=4000, longest_queue=20_000, patience=1.0)


class Pipe:
    """A transport whose peer reads when the test says so."""

    def __init__(self) -> None:
        self.waiting = b""
        self.read: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        self.waiting += data

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def is_closing(self) -> bool:
        return False

    def drain(self) -> None:
        self.read += [json.loads(text) for text in self.waiting.splitlines()]
        self.waiting = b""


class Setting:
    """A client at its pipe."""

    def __init__(self) -> None:
        self.pipe = Pipe()
        self.closed: list[tuple[int, str]] = []
        self.client = Client(self.pipe, line, LIMITS, lambda code, reason: self.closed.append((code, reason)))
        self.number = 0

    def offer(self, tag: str, *, is_state: bool) -> None:
        self.number += 1
        payload = json.dumps({"n": self.number, "filler": "x" * 400}).encode()
        self.client.offer(Item(tag, f"7-{self.number}", float(self.number), payload, is_state=is_state))
        self.client.flush()


def test_a_client_that_reads_gets_everything_in_order() -> None:
    """A message would be lost, or come late."""
    setting = Setting()
    for _ in range(50):
        setting.offer("contract:A", is_state=True)
        setting.pipe.drain()
    assert [one["data"]["n"] for one in setting.pipe.read] == list(range(1, 51))
    assert (setting.client.sent, setting.client.conflated, setting.client.waiting) == (50, 0, 0)


def test_states_of_a_slow_client_are_conflated_and_said_to_be() -> None:
    """A slow client would fill the memory, or miss messages without a word."""
    setting = Setting()
    for _ in range(100):
        setting.offer("contract:A", is_state=True)
        setting.offer("contract:B", is_state=True)
    assert setting.client.is_slow
    assert setting.client.waiting <= 2 * LIMITS.queue
    while setting.client.waiting or setting.pipe.waiting:
        setting.pipe.drain()
        setting.client.look(0.0)
    data = [one["data"]["n"] for one in setting.pipe.read if "data" in one]
    gaps = [one["gap"] for one in setting.pipe.read if "gap" in one]
    assert data == sorted(data)
    assert data[-2:] == [199, 200], "the newest of each"
    assert len(data) + sum(gap["missed"] for gap in gaps) == 200
    assert {name for gap in gaps for name in gap["names"]} == {"contract:A", "contract:B"}


def test_events_of_a_slow_client_are_kept_until_it_is_closed() -> None:
    """A fill would be dropped like a price; or a client that never reads would fill the memory."""
    setting = Setting()
    for _ in range(30):
        setting.offer("orders:A", is_state=False)
    assert setting.closed == []
    setting.pipe.drain()
    while setting.client.waiting or setting.pipe.waiting:
        setting.client.look(0.0)
        setting.pipe.drain()
    assert [one["data"]["n"] for one in setting.pipe.read] == list(range(1, 31))
    for _ in range(100):
        setting.offer("orders:A", is_state=False)
    assert [code for code, _ in setting.closed] == [1013]
    assert setting.client.waiting == 0


def test_a_client_that_reads_nothing_is_closed() -> None:
    """Its memory would be held for ever."""
    setting = Setting()
    for _ in range(20):
        setting.offer("contract:A", is_state=True)
    assert setting.client.is_slow
    begun = setting.client._last_read
    setting.client.look(begun + LIMITS.patience / 2)
    assert setting.closed == []
    setting.client.look(begun + 2 * LIMITS.patience)
    assert [code for code, _ in setting.closed] == [1008]


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.booleans(), st.booleans()), max_size=120))
def test_nothing_is_lost_without_a_word(steps: list[tuple[str, bool, bool]]) -> None:
    """Somewhere between reading and not reading, a message would vanish, be doubled, or change places."""
    setting = Setting()
    events = []
    for name, is_state, reads in steps:
        setting.offer(f"{'state' if is_state else 'event'}:{name}", is_state=is_state)
        if not is_state:
            events.append(setting.number)
        if reads:
            setting.pipe.drain()
            setting.client.look(0.0)
    if setting.closed:
        return
    while setting.client.waiting or setting.pipe.waiting:
        setting.pipe.drain()
        setting.client.look(0.0)
    data = [one["data"]["n"] for one in setting.pipe.read if "data" in one]
    missed = sum(one["gap"]["missed"] for one in setting.pipe.read if "gap" in one)
    assert data == sorted(set(data))
    assert set(events) <= set(data)
    assert len(data) + missed == setting.number
