"""A test of a bot under faults. It needs `pip install "finx-sync[testing]"`; run `pytest examples/test_a_bot.py`.

The fixtures come with finx-sync. The bot is an ordinary program that does not use them. It reads FINX_URL and
FINX_API_KEY, which the fixture `finx_environment` sets to those of a sandbox behind a proxy.
"""

import pytest

from finx_sync import ContractTick, StreamManager
from finx_sync.testing import Answer, Close, Corrupt, Cut, Fault, FaultProxy


class Bot:
    """Remembers the lowest price."""

    def __init__(self) -> None:
        self.lowest = float("inf")
        self.stream = StreamManager(connect_timeout=2)
        self.stream.on_contract(self.on_tick)
        self.stream.subscribe_contract("BTC-26AUG22-20000-C")

    def on_tick(self, tick: ContractTick) -> None:
        """Remember the lowest price."""
        if tick.mark_price is not None:
            self.lowest = min(self.lowest, tick.mark_price)


@pytest.mark.parametrize(
    "faults",
    [
        (Cut(),),
        (Answer(503), Cut()),  # cut, and the first attempt to reconnect finds the server busy
        (Corrupt("header"),),
        (Close(1012, "service restart"),),
    ],
    ids=repr,
)
def test_bot_comes_back(faults: tuple[Fault, ...], finx_environment: str, fault_proxy: FaultProxy) -> None:
    """Check that the bot gets ticks again on a new connection, and never gets corrupted data."""
    bot = Bot()
    with bot.stream:
        fault_proxy.inject(*faults)
        # Each of these faults ends one connection.
        bot.stream.wait_for(lambda tick: fault_proxy.accepted == 1 + len(faults), timeout=30)
    assert len(fault_proxy.effects) == len(faults)
    assert 0 < bot.lowest < 1
