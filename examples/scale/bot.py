"""A bot that reads the feed from Redis. Fifty such bots need only one key, which only the relay has.

``FEED_URL`` is the address of the feed. ``BOT_TICKS`` is the number of ticks after which the bot ends; without it, the
bot runs until SIGTERM.
"""

import itertools
import os
import socket

from finx_sync import ContractTick, Gap, StreamManager

stream = StreamManager(url=os.environ.get("FEED_URL", "redis://127.0.0.1:6379"))
name = os.environ.get("BOT_NAME") or socket.gethostname()
limit = int(os.environ.get("BOT_TICKS", "0"))
count = itertools.count(1)


@stream.on_contract
def trade(tick: ContractTick) -> None:
    ticks = next(count)
    if ticks == 1 or ticks % 1000 == 0:
        print(name, ticks, tick.instrument_name, tick.mark_price, flush=True)
    if ticks == limit:
        stream.stop()


@stream.on_gap
def stand_back(gap: Gap) -> None:
    print(name, "missed messages:", gap.reason, gap.missed, f"{gap.duration:.1f} s", flush=True)


stream.subscribe_contract("BTC-26AUG22-20000-C", "BTC-PERPETUAL")
stream.run()
