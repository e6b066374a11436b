"""Whatever happens to Redis and the relay: the exact sequence, or gaps that name exactly what is missing."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from finx_sync import State, StreamManager
from finx_sync.notices import Gap
from finx_sync.relay import reader
from tests.redis_server import RedisServer
from tests.relay.test_source import PAIR, TAG, spot
from tests.relay.writing import FeedWriter
from tests.waiting import FAST, books_balance, wait_until

STEPS = 60


class Disturbed:
    """A writer that numbers its messages, and a server that suffers."""

    def __init__(self, server: RedisServer, luck: random.Random) -> None:
        self.server = server
        self.luck = luck
        self.number = 0
        self.client = server.client()
        self.writer = FeedWriter(self.client, subscriptions=(TAG,))

    def write(self) -> None:
        for _ in range(self.luck.randint(1, 5)):
            count = self.luck.choice([1, 1, 3, 40])
            self.writer.write(*((TAG, spot(self.number + place + 1)) for place in range(count)), at=time.time())
            self.number += count

    def cut(self) -> None:
        self.client.client_kill_filter(_type="normal", skipme=True)

    def trim(self) -> None:
        """Some of what is written at this moment is deleted at once, and so is all before it."""
        with self.client.pipeline(transaction=True) as self.writer.client:
            self.write()
            self.writer.client.xtrim(self.writer.keys.stream, maxlen=self.luck.randint(0, 3), approximate=False)
            self.writer.client.execute()
        self.writer.client = self.client

    def flush(self) -> None:
        with self.client.pipeline(transaction=True) as self.writer.client:
            self.write()
            self.writer.client.flushall()
            self.writer.client.execute()
        self.writer.client = self.client

    def take_over(self) -> None:
        """Another relay, which knows everything, or nothing."""
        self.writer.begin_term(**self.luck.choice([{}, {}, {"previous": None}]))

    def restart(self) -> None:
        self.client.close()
        self.server.restart(keep=self.luck.random() < 0.5)
        self.client = self.writer.client = self.server.client()

    def hang(self) -> None:
        self.server.pause()
        self.server.resume()

    def disturb(self) -> None:
        what = [self.write] * 6 + [self.cut, self.trim, self.trim, self.flush, self.take_over, self.restart, self.hang]
        self.luck.choice(what)()


def judge(got: list[Any], last: int) -> None:
    """Every number comes once and in order; what is missing is in a gap before the next number."""
    before, missed, unknown = 0, 0, False
    for one in got:
        if isinstance(one, Gap):
            assert one.names == (PAIR,)
            assert one.reason in ("trimmed", "relay lost")
            unknown |= one.missed is None
            missed += one.missed or 0
            continue
        absent = one - before - 1
        assert absent >= 0, f"{one} after {before}"
        if not unknown:  # the first record of a term may be missing, too
            assert absent <= missed <= absent + 3 * (missed > 0)
        before, missed, unknown = one, 0, False
    assert before == last


@pytest.mark.parametrize("seed", range(3))
def test_the_exact_sequence_or_exact_gaps(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somewhere between two failures a message would be lost without a word, or come twice."""
    rounds(seed, STEPS, monkeypatch)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(100, 104))
def test_the_same_for_long(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rare sequences of failures would never be tried."""
    rounds(seed, 300, monkeypatch)


def rounds(seed: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr(reader, "IDLE", 0.05)
    luck = random.Random(seed)
    got: list[Any] = []
    with RedisServer(persistent=True) as server:
        disturbed = Disturbed(server, luck)
        stream = StreamManager(url=server.url, reconnect=FAST, flight_recorder=False, overflow="block", queue_size=100)
        stream.subscribe_spot(PAIR)
        stream.on_spot(lambda tick: got.append(round(tick.price or 0)))
        stream.on_gap(got.append)
        with stream:
            for _ in range(steps):
                disturbed.disturb()
            assert wait_until(lambda: stream.state is State.OPEN, 60.0)
            while disturbed.number not in got[-50:]:  # nothing else may come, if the last ones were lost
                disturbed.write()
                wait_until(lambda: disturbed.number in got[-50:], 0.5)
        assert books_balance(stream)
        disturbed.client.close()
    judge(got, disturbed.number)
    assert any(isinstance(one, Gap) for one in got)
