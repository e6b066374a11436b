"""A session in the REPL, without callbacks. Type these lines one by one."""

from finx_sync import StreamManager

stream = StreamManager(environment="sandbox")
stream.subscribe_contract("BTC-26AUG22-20000-C")
stream.subscribe_spot("BTC:USDC", "ETH:USDC")
stream.start()
print(stream)

# The next three ticks, of any name.
for tick in stream.take(3, timeout=10):
    print(tick.datetime, tick.name)

# Wait for a tick that fulfils a condition.
tick = stream.wait_for(lambda tick: tick.name == "ETH:USDC", timeout=10)
print("ETH trades at", tick.price, "on", tick.exchange)

# The newest value, without waiting.
option = stream.latest("BTC-26AUG22-20000-C")
print("delta", option.delta, "vega", option.vega)

# An iterator has its own queue, so handlers are not delayed if you stop reading it.
with stream.ticks("BTC:USDC", timeout=10) as prices:
    print("two prices:", next(prices).price, next(prices).price)

print(stream.stats())
stream.stop()
