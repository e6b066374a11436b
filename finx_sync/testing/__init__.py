"""For tests of programs that use market data: a proxy that injects faults, and fixtures for pytest.

::

    def test_bot_survives_a_reset(finx_stream, fault_proxy):
        fault_proxy.inject(Reset())
        finx_stream.take(5, timeout=10)

`FaultProxy` stands between any client and any server; `faults` has what it can do, `script` what it can do by itself.
The fixtures are in `plugin`, which pytest finds by itself. The way of a byte: `proxy` (accepts, hands out orders) →
`link` (the sockets, a thread each) → `editor` (frames) → `shaper` (times). It reads frames by its own code: a shared
one would let a mistake cancel itself out.
"""

from finx_sync.testing.faults import (
    Answer,
    BlackHole,
    Close,
    Corrupt,
    Cut,
    Delay,
    Fault,
    Mute,
    Reset,
    Split,
    SwallowHandshake,
    Throttle,
)
from finx_sync.testing.proxy import Effect, FaultProxy, Injection, ProxiedConnection
from finx_sync.testing.script import RECOVERABLE, Performance, Step, random_script

__all__ = [
    "RECOVERABLE",
    "Answer",
    "BlackHole",
    "Close",
    "Corrupt",
    "Cut",
    "Delay",
    "Effect",
    "Fault",
    "FaultProxy",
    "Injection",
    "Mute",
    "Performance",
    "ProxiedConnection",
    "Reset",
    "Split",
    "Step",
    "SwallowHandshake",
    "Throttle",
    "random_script",
]
