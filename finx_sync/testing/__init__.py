"""For tests of programs that use market data: a proxy that injects faults, and fixtures for pytest.

::

    def test_bot_survives_a_reset(finx_stream, fault_proxy):
        fault_proxy.inject(Reset())
        finx_stream.take(5, timeout=10)

`FaultProxy` runs between any client and any server; `faults` lists what it can do, and `script` plays faults at set
times. The fixtures are in `plugin`, which pytest finds automatically. A byte passes through `proxy` (accepts
connections, gives orders), `link` (the sockets; one thread per connection), `editor` (frames) and `shaper` (times).
The proxy reads frames with its own code: if it shared the client's, a mistake there could cancel itself out.
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
