"""A BitMEX account: orders that open, fill and close, and the margin.

In the sandbox, a robot trades on every account. With a real key, use ``BitmexStream(environment="test", api_key=...,
api_secret=..., dead_mans_switch=True)``; then BitMEX cancels all orders one minute after this program has crashed.
"""

from finx_sync.venues.bitmex import BitmexStream

stream = BitmexStream(environment="sandbox", api_key="sandbox-key", api_secret="sandbox-secret", dead_mans_switch=60)

with stream:
    stream.wait_until_filled("margin", timeout=10)
    balance = stream.storage.data["margin"][0]["walletBalance"]
    print(f"{balance / 100_000_000:.8f} XBT at the start")
    for item, symbol, table, _ in stream:  # waits for the next row; a handler works too
        if table == "order":
            print(f"order   {item['side']:4} {item['orderQty']} {symbol} at {item['price']}: {item['ordStatus']}")
        elif table == "execution" and item["execType"] == "Trade":
            print(f"filled  {item['side']:4} {item['lastQty']} {symbol} at {item['lastPx']}")
            break
