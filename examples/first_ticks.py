"""First ticks: the shortest program that does something. No key is needed, the sandbox runs inside this process."""

from finx_sync import ContractTick, StreamManager

stream = StreamManager(environment="sandbox")


@stream.on_contract
def show(tick: ContractTick) -> None:
    """Runs on the stream's dispatch thread, once for every tick, in order."""
    print(f"{tick.instrument_name}  mark {tick.mark_price} BTC  iv {tick.mark_iv} %  delta {tick.delta}")


stream.subscribe_contract("BTC-26AUG22-20000-C", "BTC-PERPETUAL")
with stream:
    stream.take(10, timeout=10)
