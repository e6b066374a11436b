"""Detects feeds that fall behind: data arrives, but the venue's own timestamps are older and older when it does.

For each connection and message type, the age of the messages is sampled a few times a second. Ages are only compared
with each other, so a wrong clock on either side or a long network path makes no difference. They are measured on the
monotonic clock, so setting the wall clock makes no difference either. A message that repeats an earlier timestamp is
ignored: a quiet instrument may send the same one for hours.

Only the freshest sample of each interval counts, which removes delays that affect single messages. A feed falls behind
if these ages grow almost without exception over a whole horizon, by more than a second, and by more than their scatter.
A step, however large, is not growth. A burst that was delayed and then catches up is over before a horizon is full.
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
"""Seconds over which growth is measured: short ones detect fast growth, long ones slow growth and sparse feeds."""
RESOLUTION: Final = 1.0
"""Seconds; only the freshest sample of each such interval is kept."""
BINS: Final = 15
"""The number of parts of a horizon; the freshest sample of each part counts."""
NEEDED_BINS: Final = 8
"""The number of parts that must have a sample."""
MIN_LAG: Final = 1.0
"""Seconds; a smaller lag is not reported."""
CHANCE: Final = 1e-5
"""The highest accepted probability that random ages are as well sorted as the samples (false alarms)."""
SCATTER: Final = 4.0
"""An age must have grown by more than its scatter times this factor."""
MEMORY: Final = 600.0
"""Seconds for which samples are kept, to know how fresh the feed can be."""
MAX_NAMES: Final = 10_000
"""The number of names whose newest timestamp is kept; beyond this, all are forgotten and count as new."""
CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks."""


@dataclass(slots=True)
class _Sample:
    """The freshest message of one `RESOLUTION` interval.

    Attributes:
        arrived: when it arrived, monotonic seconds.
        offset: `arrived` minus the venue's timestamp. The value depends on the clocks; its changes do not.
    """

    arrived: float
    offset: float


@dataclass(frozen=True, slots=True)
class _Growth:
    """The growth over a horizon.

    Attributes:
        rate: seconds of lag per second.
        since: when it began, monotonic seconds.
    """

    rate: float
    since: float


class Series:
    """The ages of one message type on one connection."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()
        self._newest: dict[str, float] = {}  # the newest venue timestamp of each name
        self._reported: float | None = None  # the lag that was last reported; None while the feed is not behind
        self._since = 0.0

    def add(self, name: str, venue_time: float, arrived: float) -> None:
        """Add a sample. Ignored if the name's timestamp has not increased."""
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
        """Check for something to report.

        Returns:
            The lag (seconds), its growth (seconds per second), since when (monotonic), and whether the feed has caught
            up; None if there is nothing to report.
        """
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
        """By how many seconds the freshest of the latest samples is older than the freshest of all samples."""
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
        """The freshest sample in each part of a horizon, in order."""
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
        """The growth, if nothing else explains these ages: fits a robust line (Theil-Sen), looks at its residuals."""
        pairs = [(b.offset - a.offset, b.arrived - a.arrived) for a, b in combinations(points, 2)]
        if sum(rise <= 0 for rise, _ in pairs) > _inversions_allowed(len(points)):
            return None
        rate = median(rise / span for rise, span in pairs)
        begin = points[0].arrived
        largest = max(b.offset - a.offset for a, b in pairwise(points))
        grown = rate * (points[-1].arrived - begin)
        without_step = points[-1].offset - points[0].offset - largest  # setting a clock is not growth
        level = median(one.offset - rate * (one.arrived - begin) for one in points)
        residual = median(abs(one.offset - rate * (one.arrived - begin) - level) for one in points)
        scatter = max(residual, self._usual_scatter(begin))
        if min(grown, without_step) < max(MIN_LAG, SCATTER * scatter):
            return None
        return _Growth(rate, begin)

    def _usual_scatter(self, until: float) -> float:
        """The median difference of neighbouring samples before the horizon, which a trend hardly affects."""
        earlier = [one.offset for one in self._samples if one.arrived < until]
        steps = [abs(b - a) for a, b in pairwise(earlier)]
        return median(steps) if steps else 0.0


@cache
def _inversions_allowed(count: int) -> int:
    """The highest number of inversions at which the order of `count` samples is still significant (Mann-Kendall)."""
    orders = [1]  # the number of permutations of `size` samples with 0, 1, 2, ... inversions
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
    """Samples messages and finds the feeds that fall behind. Dispatch thread only."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, type[Message]], Series] = {}
        self._due = 0.0

    def sample(self, message: object, arrived: float, endpoint: str) -> None:
        """Sample a message.

        Args:
            message: a decoded message; ignored if it has no timestamp.
            arrived: when it was read, monotonic seconds.
            endpoint: the name of its endpoint.
        """
        if not isinstance(message, Message) or (venue_time := message.venue_time) is None:
            return
        key = endpoint, type(message)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series()
        series.add(message.name_of(message), venue_time, arrived)

    def forget(self, endpoint: str | None = None) -> None:
        """Discard the samples of `endpoint`, since another connection serves it now.

        None discards all: back-pressure has paused reading, so that messages grew old through no fault of the feed.
        """
        for key in [key for key in self._series if endpoint is None or key[0] == endpoint]:
            del self._series[key]

    def check(self, now: float, offset: float) -> list[tuple[str, Drift]]:
        """Find what to report, each with the name of its endpoint.

        Args:
            now: monotonic seconds.
            offset: add it to monotonic seconds to get UNIX seconds.
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
