"""An existing bot whose handler was written for dictionaries, and works without a change.

Ticks support `[]`, `get`, `in`, `keys`, `items` and `to_dict` like a dictionary of the JSON, with numbers instead of
strings. `[]` raises KeyError for a field that the message lacks: a perpetual, for example, has no delta.
"""

from typing import Any

from finx_sync import StreamManager

position = {"delta": 0.0}
seen: set[str] = set()


def on_tick(msg: Any) -> None:
    """Handle a tick: the bot's unchanged handler."""
    if "delta" in msg and msg["delta"] is not None:
        position["delta"] = 10 * float(msg["delta"])
    seen.add(msg["instrument_name"])
    print(msg["instrument_name"], msg["mark_price"], msg.get("delta", "no delta"), len(msg.to_dict()), "fields")
    if len(seen) == 2:
        stream.stop()  # in a handler, stop() returns at once


stream = StreamManager(environment="sandbox")
stream.on_contract(on_tick)
stream.subscribe_contract("BTC-26AUG22-20000-C")
stream.subscribe_contract("BTC-PERPETUAL")
stream.run()
print(f"10 calls have a delta of {position['delta']:.4f}")
