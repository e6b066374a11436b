"""Feeds that fall behind: found in time, and never where there is nothing to find. Simulated hours, no sockets."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import pytest

from finx_sync import ContractTick
from finx_sync.notices import Drift
from finx_sync.pipeline.drift import DriftMonitor
from finx_sync.venues.bitmex.codec import BitmexCodec
from finx_sync.venues.finx import FinxCodec
from finx_sync.venues.ftx.codec import FtxCodec
from finx_sync.venues.ime.messages import read_contract

SAMPLED = 0.1
"""Seconds between two samples, as the dispatch thread takes them."""
BLANK = dict.fromkeys((field for field in ContractTick.__struct_fields__ if not field.startswith("@")), None)
Latency = Callable[[random.Random, float], float]


class Arrival(NamedTuple):
    """A message of the simulation."""

    at: float
    venue_time: float
    name: str


@dataclass(frozen=True)
class Simulation:
    """A feed over its time; the venue's clock shows 1.6e9 where ours shows 0."""

    latency: Latency
    rate: float = 10.0
    seconds: float = 600.0
    names: int = 5
    slow_from: float = float("inf")
    speed: float = 1.0
    step_at: float = float("inf")
    step: float = 0.0
    resolution: float = 0.0
    repeats: float = 0.0
    seed: int = 0

    def arrivals(self) -> Iterator[Arrival]:
        """Messages in the order of arrival."""
        luck, now, last = random.Random(self.seed), 0.0, {}
        while now < self.seconds:
            now += luck.expovariate(self.rate)
            behind = max(0.0, now - self.slow_from) * (1 - self.speed)
            venue_time = 1.6e9 + now - behind - self.latency(luck, now) + (self.step if now > self.step_at else 0.0)
            if self.resolution:
                venue_time = venue_time // self.resolution * self.resolution
            name = f"NAME-{luck.randrange(self.names)}"
            if luck.random() < self.repeats:
                venue_time = last.get(name, venue_time)
            last[name] = venue_time
            yield Arrival(now, venue_time, name)

    def run(self) -> list[tuple[float, Drift]]:
        """What is reported, and when."""
        monitor, found, checked, sampled = DriftMonitor(), [], 0.0, -1.0
        for one in self.arrivals():
            while one.at >= checked:
                found += [(checked, drift) for _, drift in monitor.check(checked, 0.0)]
                checked += 0.5
            if one.at - sampled >= SAMPLED:
                sampled = one.at
                monitor.sample(tick(one.name, one.venue_time), one.at, "")
        return found


def tick(name: str, at: float) -> ContractTick:
    """A contract's tick of a venue time, UNIX seconds."""
    return ContractTick(**{**BLANK, "instrument_name": name, "redis_key": name, "timestamp": round(at * 1000)})


def usual(luck: random.Random, now: float) -> float:
    """As over a good network."""
    return 0.02 + luck.expovariate(20)


def tailed(luck: random.Random, now: float) -> float:
    """As over a bad one: some messages take many times as long as most."""
    return 0.05 * luck.lognormvariate(0, 1.5)


def wild(luck: random.Random, now: float) -> float:
    """Anything up to five seconds, as from a venue that gathers changes."""
    return luck.uniform(0, 5)


def stuttering(luck: random.Random, now: float) -> float:
    """Six bad seconds every minute and a half."""
    return 0.05 + (luck.expovariate(1) if now % 97 < 6 else 0.0)


QUIET = Simulation(usual, seconds=3600, repeats=0.3, rate=2.0)
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 4))]


@pytest.mark.parametrize("latency", [usual, tailed, stuttering])
@pytest.mark.parametrize("rate", [1.0, 10.0, 50.0])
@pytest.mark.parametrize("slow_from", [0.0, 300.0])
def test_a_feed_at_four_fifths_of_its_speed_is_found_within_half_a_minute(
    latency: Latency, rate: float, slow_from: float
) -> None:
    """A bot would trade on prices that get a second older every five."""
    found = Simulation(latency, rate=rate, slow_from=slow_from, speed=0.8, seconds=slow_from + 60).run()
    at, first = found[0]
    assert slow_from < at <= slow_from + 30
    assert first.growth == pytest.approx(0.2, abs=0.1)
    assert not first.caught_up
    assert slow_from - 30 < first.since < at


@pytest.mark.parametrize(("speed", "within"), [(0.5, 15), (0.95, 60), (0.98, 120), (0.99, 240)])
def test_the_slower_it_falls_behind_the_longer_it_takes(speed: float, within: float) -> None:
    """A feed that loses a second in a minute would never be found."""
    (at, first), *_ = Simulation(usual, slow_from=100, speed=speed).run()
    assert 100 < at <= 100 + within
    assert first.growth == pytest.approx(1 - speed, rel=0.5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("latency", [usual, tailed, wild, stuttering])
@pytest.mark.parametrize("rate", [0.2, 2.0])
@pytest.mark.parametrize("resolution", [0.0, 1.0])
def test_a_quiet_hour_is_reported_as_nothing(latency: Latency, rate: float, resolution: float, seed: int) -> None:
    """A false alarm would stop a bot, or replace a healthy connection."""
    hour = replace(QUIET, latency=latency, rate=rate, resolution=resolution, seed=seed, names=1 + seed * 10)
    assert hour.run() == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("step", [-3600.0, -9.0, -1.2, 1.2, 9.0, 3600.0])
@pytest.mark.parametrize("latency", [usual, tailed])
def test_a_clock_that_is_set_is_no_drift(latency: Latency, step: float, seed: int) -> None:
    """An administrator who sets the venue's clock would be taken for a slow feed."""
    # Eleven minutes on either side, since ten are remembered.
    assert replace(QUIET, latency=latency, step_at=660.0, seconds=1320.0, step=step, seed=seed).run() == []


def test_a_constant_offset_is_no_drift() -> None:
    """A feed from the other side of the world, or a clock that is wrong by an hour, would be reported for ever."""
    assert replace(QUIET, latency=lambda luck, now: 3600 + usual(luck, now)).run() == []


def test_a_quiet_name_that_repeats_itself_is_no_drift() -> None:
    """An option that nobody trades, sent again every second as it last changed, would look like a slow feed."""
    monitor = DriftMonitor()
    for second in range(3600):
        monitor.sample(tick("QUIET", 1.6e9), second, "")
        assert monitor.check(second + 0.5, 0.0) == []


def test_lag_is_reported_again_when_it_has_doubled_and_when_it_is_over() -> None:
    """Nobody could tell whether it got worse, or when to go on."""

    def for_two_minutes(luck: random.Random, now: float) -> float:
        return usual(luck, now) + (0.25 * (now - 100) if 100 < now < 220 else 0.0)

    reports = [drift for _, drift in Simulation(for_two_minutes, seconds=400).run()]
    *behind, last = reports
    assert last.caught_up
    assert not any(one.caught_up for one in behind)
    assert 3 <= len(behind) <= 6
    assert all(later.lag >= 2 * earlier.lag for earlier, later in pairwise(behind))
    assert len({one.since for one in reports}) == 1
    assert "fall" in str(behind[0])
    assert "caught up" in str(last)


def test_connections_and_types_are_judged_by_themselves() -> None:
    """A healthy connection would hide the slow one beside it."""
    monitor, found = DriftMonitor(), []
    for step in range(400):
        now = step / 10
        monitor.sample(tick("A", 1.6e9 + now), now, "fast")
        monitor.sample(tick("A", 1.6e9 + now * 0.8), now, "slow")
        found += monitor.check(now, 5.0)
    assert {line for line, _ in found} == {"slow"}
    monitor.forget("slow")
    assert monitor.check(1000.0, 5.0) == []


TRADE = """{"id":1,"price":1.0,"size":1.0,"side":"buy","liquidation":false,"time":"2022-01-21T08:28:37.500000+00:00"}"""
BOOK = """{"time":1642753717.5,"checksum":0,"bids":[],"asks":[],"action":"partial"}"""
TICKER = """{"bid":1.0,"ask":2.0,"bidSize":1.0,"askSize":1.0,"last":1.0,"time":1642753717.5}"""
SPOT = """{"pair":"A:B","unixDate":1642753717,"UTCDate":"2022-01-21T08:28:37.000Z","exchange":"X","price":"1"}"""
AT = 1642753717.5


def ftx(channel: str, data: str) -> str:
    """A frame of one market."""
    return f'{{"channel":"{channel}","market":"BTC-PERP","type":"update","data":{data}}}'


def bitmex(table: str, at: str) -> str:
    """A frame of one row."""
    row = f'{{"timestamp":"{at}","symbol":"XBTUSD"}}'
    return f'{{"table":"{table}","action":"insert","data":[{row}]}}'


PAYLOADS = [
    (FinxCodec("ws://127.0.0.1"), SPOT, AT - 0.5),
    (FtxCodec(), ftx("ticker", TICKER), AT),
    (FtxCodec(), ftx("trades", f"[{TRADE}]"), AT),
    (FtxCodec(), ftx("orderbook", BOOK), AT),
    (BitmexCodec("ws://127.0.0.1"), bitmex("quote", "2022-01-21T08:28:37.500Z"), AT),
    (BitmexCodec("ws://127.0.0.1"), bitmex("funding", "2022-01-21T12:00:00.000Z"), None),
]


@pytest.mark.parametrize(("codec", "payload", "at"), PAYLOADS)
def test_every_venue_says_when(codec: object, payload: str, at: float | None) -> None:
    """A venue whose times are not read could fall behind unseen."""
    (message,) = codec.decode([payload.encode()])  # type: ignore[attr-defined]
    assert message.venue_time == at


def test_ime_says_when() -> None:
    """The same, for a venue that names no time zone."""
    frame = {"contractName": "A", "timestamp": "2022-01-21T08:28:37.500000", "data": {}}
    assert read_contract(frame).venue_time == AT
    assert read_contract({**frame, "timestamp": "soon"}).venue_time is None
