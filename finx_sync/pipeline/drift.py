"""Whether a feed falls behind: data flows, but the venue's own times get older and older by the time they arrive.

For each connection and message type, the age of what arrives is sampled a few times a second. Ages are only ever
compared with each other, so a wrong clock on either side, or a long way, makes no difference; and they are taken on the
monotonic clock, so setting the wall clock makes none either. A message that repeats a time that was seen before says
nothing about the feed: a quiet instrument may send the same one for hours.

Of each stretch of time, the freshest sample counts, which removes what only some messages suffer from. A feed falls
behind when these ages grow almost without exception over a whole horizon, and by more than a second, and by more than
they are scattered. A step, however large, is no growth; a burst that was held up and then catches up is over before
it is old enough.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from math import factorial
from statistics import median
from typing import Final

from finx_sync.messages import Message
from finx_sync.notices import Drift

__all__ = ["DriftMonitor", "Series"]

HORIZONS: Final = (15.0, 30.0, 60.0, 300.0)
"""Seconds over which growth is looked for: the shorter finds what is fast, the longer what is slow or sparse."""
RESOLUTION: Final = 1.0
"""Seconds of which only the freshest sample is kept."""
BINS: Final = 15
"""Parts of a horizon, of each of which the freshest sample counts."""
NEEDED_BINS: Final = 8
"""Parts that must have a sample."""
MIN_LAG: Final = 1.0
"""Seconds by which a feed must have fallen behind before it counts."""
CHANCE: Final = 1e-5
"""How seldom chance alone may put samples into such an order, each older than those before it but for a few."""
SCATTER: Final = 4.0
"""How many times more than its scatter an age must have grown."""
MEMORY: Final = 600.0
"""Seconds for which it is remembered how fresh the feed can be."""
MAX_NAMES: Final = 10_000
"""Names whose newest time is remembered; beyond, all are forgotten, and count as new."""
CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks."""


@dataclass(slots=True)
class _Sample:
    """The freshest of one `RESOLUTION`.

    Attributes:
        arrived: monotonic seconds.
        offset: `arrived` less the venue's own time. Its value depends on the clocks; its changes do not.
    """

    arrived: float
    offset: float


@dataclass(frozen=True, slots=True)
class _Growth:
    """What a horizon shows: seconds a second, and since when (monotonic)."""

    rate: float
    since: float


class Series:
    """The ages of one message type on one connection."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()
        self._newest: dict[str, float] = {}  # the newest venue time of each name
        self._reported: float | None = None  # the lag that was reported last, while the feed is behind
        self._since = 0.0

    def add(self, name: str, venue_time: float, arrived: float) -> None:
        """Take a sample in; one that repeats a name's time, or goes back, is none."""
        if venue_time <= self._newest.get(name, float("-inf")):
            return
        if len(self._newest) >= MAX_NAMES:
            self._newest.clear()
        self._newest[name] = venue_time
        offset, last = arrived - venue_time, self._samples[-1] if self._samples else None
        if last is not None and last.arrived // RESOLUTION == arrived // RESOLUTION:
            if offset < last.offset:
                last.arrived, last.offset = arrived, offset
            return
        self._samples.append(_Sample(arrived, offset))
        while self._samples[0].arrived < arrived - MEMORY:
            self._samples.popleft()

    def check(self, now: float) -> tuple[float, float, float, bool] | None:
        """Whether there is something to report: lag, growth, since when (monotonic), and whether it has caught up."""
        if not self._samples:
            return None
        lag = self._lag(now)
        if self._reported is not None and lag < MIN_LAG / 2:
            self._reported = None
            return lag, 0.0, self._since, True
        growth = self._growth(now)
        if growth is None or lag < MIN_LAG or (self._reported is not None and lag < 2 * self._reported):
            return None
        if self._reported is None:
            self._since = growth.since
        self._reported = lag
        return lag, growth.rate, self._since, False

    def _lag(self, now: float) -> float:
        """How much older than at its freshest the feed is: the best of the last few seconds that have a sample."""
        recent = [one.offset for one in list(self._samples)[-3:] if one.arrived > now - HORIZONS[0]]
        best = min(one.offset for one in self._samples)
        return min(recent) - best if recent else 0.0

    def _growth(self, now: float) -> _Growth | None:
        for horizon in HORIZONS:
            points = self._freshest(now, horizon)
            if len(points) >= NEEDED_BINS and (growth := self._judge(points)) is not None:
                return growth
        return None

    def _freshest(self, now: float, horizon: float) -> list[_Sample]:
        """The freshest sample of each part of a horizon, in order."""
        width, begin = horizon / BINS, now - horizon
        bins: dict[int, _Sample] = {}
        for one in reversed(self._samples):
            if one.arrived < begin:
                break
            place = int((one.arrived - begin) / width)
            if place not in bins or one.offset < bins[place].offset:
                bins[place] = one
        return [bins[place] for place in sorted(bins)]

    def _judge(self, points: list[_Sample]) -> _Growth | None:
        """Growth, if nothing else explains these ages: a robust line (Theil and Sen) and its residuals."""
        pairs = [(b.offset - a.offset, b.arrived - a.arrived) for a, b in combinations(points, 2)]
        if sum(rise <= 0 for rise, _ in pairs) > _inversions_allowed(len(points)):
            return None
        rate = median(rise / span for rise, span in pairs)
        begin = points[0].arrived
        largest = max(b.offset - a.offset for a, b in pairwise(points))
        grown = rate * (points[-1].arrived - begin)
        without_step = points[-1].offset - points[0].offset - largest  # a clock that was set is no growth
        level = median(one.offset - rate * (one.arrived - begin) for one in points)
        residual = median(abs(one.offset - rate * (one.arrived - begin) - level) for one in points)
        scatter = max(residual, self._usual_scatter(begin))
        if min(grown, without_step) < max(MIN_LAG, SCATTER * scatter):
            return None
        return _Growth(rate, begin)

    def _usual_scatter(self, until: float) -> float:
        """How much neighbouring samples differed before the horizon: the median, which a trend hardly moves."""
        earlier = [one.offset for one in self._samples if one.arrived < until]
        steps = [abs(b - a) for a, b in pairwise(earlier)]
        return median(steps) if steps else 0.0


@cache
def _inversions_allowed(count: int) -> int:
    """The most pairs in the wrong order that leave the order of `count` samples beyond chance (Mann and Kendall)."""
    orders = [1]  # how many orders of so many samples have 0, 1, 2, ... inversions
    for size in range(2, count + 1):
        wider = [0] * (len(orders) + size - 1)
        for inversions, ways in enumerate(orders):
            for more in range(size):
                wider[inversions + more] += ways
        orders = wider
    allowed, seen, limit = -1, 0, CHANCE * factorial(count)
    for ways in orders:
        seen += ways
        if seen > limit:
            break
        allowed += 1
    return allowed


class DriftMonitor:
    """Samples what is delivered and finds the feeds that fall behind. The dispatch thread's."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, type[Message]], Series] = {}
        self._due = 0.0

    def sample(self, message: object, arrived: float, endpoint: str) -> None:
        """Take a message into account.

        Args:
            message: as decoded; what carries no time is passed over.
            arrived: when it was read, monotonic seconds.
            endpoint: the name of its connection.
        """
        if not isinstance(message, Message) or (venue_time := message.venue_time) is None:
            return
        key = endpoint, type(message)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series()
        series.add(message.name_of(message), venue_time, arrived)

    def forget(self, endpoint: str | None = None) -> None:
        """Begin anew: another connection serves `endpoint`, or, for None, the reader was held back, which ages all."""
        for key in [key for key in self._series if endpoint is None or key[0] == endpoint]:
            del self._series[key]

    def check(self, now: float, offset: float) -> list[tuple[str, Drift]]:
        """What is to be reported, each with the name of its connection.

        Args:
            now: monotonic seconds.
            offset: what turns them into UNIX seconds.
        """
        if now < self._due:
            return []
        self._due = now + CHECK_INTERVAL
        found = []
        for (endpoint, kind), series in self._series.items():
            if (report := series.check(now)) is not None:
                lag, growth, since, caught_up = report
                found.append((endpoint, Drift(kind.__name__, lag, growth, since + offset, caught_up)))
        return found
