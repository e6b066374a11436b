"""A stream's statistics, and advice drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from finx_sync.pipeline.counters import Counters
from finx_sync.pipeline.handlers import Handler
from finx_sync.state import State

__all__ = ["HandlerStats", "Stats", "handler_stats"]

BUSY: Final = 0.8
"""Share of the dispatch thread's time above which a handler counts as too slow."""


@dataclass(frozen=True)
class HandlerStats:
    """One handler's statistics.

    Attributes:
        name: the function's name.
        calls: how often it was called.
        failures: how often it raised.
        p50, p99: percentiles of the duration of a call, in seconds, from a sample of the newest calls; None before the
            first call.
        rate: calls per second, over the last ten seconds.
        share: its share of the dispatch thread's time, 0 to 1, estimated from the sample and the rate.
    """

    name: str
    calls: int
    failures: int
    p50: float | None = None
    p99: float | None = None
    rate: float = 0.0
    share: float = 0.0

    @property
    def is_slow(self) -> bool:
        """Whether the handler takes nearly all of the dispatch thread's time."""
        return self.share > BUSY

    def __str__(self) -> str:
        text = f"{self.name}: {self.calls} calls, {self.failures} raised"
        if self.p50 is not None and self.p99 is not None:
            text += f", {_duration(self.p50)} (99 %: {_duration(self.p99)}), {self.share:.0%} of the dispatch thread"
        return text


@dataclass(frozen=True)
class Stats:
    """A stream's statistics at one moment.

    Attributes:
        state: as `Stream.state`.
        messages: the counters, which always add up.
        reconnects: how often a connection was lost.
        handlers: one entry for each handler, in the order of registration.
        lag: the age, in seconds, of the message being handled now; 0 when no message waits.
    """

    state: State
    messages: Counters
    reconnects: int
    handlers: tuple[HandlerStats, ...]
    lag: float = 0.0

    @property
    def advice(self) -> tuple[str, ...]:
        """What is wrong and what to do about it, one text for each problem; empty when all is well."""
        return tuple(
            f"{one.name} takes {_duration(one.p99 or 0.0)} (99 %) at {one.rate:.0f} messages a second, {one.share:.0%} "
            "of the dispatch thread's time: it cannot keep up. Make it faster, hand its work to a thread of your own, "
            "or let newer states replace older ones with overflow='latest'."
            for one in self.handlers
            if one.is_slow
        )

    def __str__(self) -> str:
        books = self.messages
        lines = [
            f"{self.state.value}, {self.reconnects} reconnects, {self.lag:.3f} s behind",
            f"{books.received} received: {books.handled} handled, {books.unclaimed} unclaimed, "
            f"{books.control} control, {books.unreadable} unreadable, {books.duplicate} duplicate, "
            f"{books.dropped} dropped, {books.in_flight + books.waiting} pending",
            *map(str, self.handlers),
            *self.advice,
        ]
        return "\n".join(lines)


def handler_stats(handler: Handler) -> HandlerStats:
    """Return one handler's statistics; any thread."""
    # The dispatch thread appends to `times` meanwhile, and the health monitor to `marks`. A copy is one call in C that
    # never releases the GIL, so neither can change a deque in the middle of it.
    times = sorted(handler.times.copy())
    rate = _rate(handler)
    p50 = p99 = None
    share = 0.0
    if times:
        p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
        share = min(1.0, rate * sum(times) / len(times))
    return HandlerStats(handler.label, handler.calls, handler.failures, p50, p99, rate, share)


def _rate(handler: Handler) -> float:
    marks = handler.marks.copy()
    if len(marks) < 2:
        return 0.0
    (begin, calls_then), (end, calls_now) = marks[0], marks[-1]
    return (calls_now - calls_then) / (end - begin)


def _duration(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
