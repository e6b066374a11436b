"""Record a few seconds of the feed to a file, and replay them to the same handler with the same times.

Usage: python record_and_replay.py [FILE]
"""

import sys

from finx_sync import StreamManager

path = sys.argv[1] if len(sys.argv) > 1 else "feed.finxrec"
seen = []


def note(tick):
    seen.append((tick.name, tick.received_at, tick.to_dict()))


live = StreamManager(environment="sandbox")
live.on_contract(note)
live.subscribe_contract("BTC-26AUG22-20000-C", "BTC-PERPETUAL")
with live.record(path), live:
    live.take(20, timeout=10)
before, seen = seen, []

again = StreamManager(environment="sandbox")
again.on_contract(note)
replay = again.replay(path, speed="max")

count = len(before)
print(f"{replay.messages} messages in {path}, the last at {replay.at:%H:%M:%S}")
print("the first handler calls are the same:", seen[:count] == before)
