"""The shortest useful program. It needs no key, because the sandbox runs inside this process."""

from finx_sync import ContractTick, StreamManager

stream = StreamManager(environment="sandbox")


@stream.on_contract
def show(tick: ContractTick) -> None:
    """Print a tick. Called on the stream's dispatch thread, once for each tick, in order."""
    print(f"{tick.instrument_name}  mark {tick.mark_price} BTC  iv {tick.mark_iv} %  delta {tick.delta}")


stream.subscribe_contract("BTC-26AUG22-20000-C", "BTC-PERPETUAL")
with stream:
    stream.take(10, timeout=10)
