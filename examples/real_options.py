"""Live prices of the calls nearest to the money, from Deribit's public feed, without a key.

`python real_options.py` needs internet access; `python real_options.py --offline` uses the sandbox.
"""

import sys

from finx_sync import ContractTick, StreamManager
from finx_sync.pricing import parse_instrument

stream = StreamManager(environment="deribit-sandbox" if "--offline" in sys.argv else "deribit")
spot = stream.get_tick_snap("BTC:USD").price or 0.0
options = [
    parse_instrument(name) for name in stream.list_contracts() if name.startswith("BTC-") and name.endswith("-C")
]
options.sort(key=lambda option: abs((option.strike or 0.0) - spot))


@stream.on_contract
def show(tick: ContractTick) -> None:
    """Print a tick. Called on the stream's dispatch thread, once for each tick, in order."""
    print(f"{tick.instrument_name}  mark {tick.mark_price} BTC  iv {tick.mark_iv} %  delta {tick.delta}")


stream.subscribe_contract(*(option.name for option in options[:5]))
with stream:
    stream.take(20, timeout=10)
print(f"BTC is at {spot:.2f} dollars")
