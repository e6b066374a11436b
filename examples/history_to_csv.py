"""Fetch all ticks of a morning over several connections, write them to a CSV file, and print hourly bars.

Usage: python history_to_csv.py [FILE]
"""

import sys

import finx_sync

path = sys.argv[1] if len(sys.argv) > 1 else "history.csv"
history = finx_sync.get_tick_history("BTC:USD", "2022-06-15", "08:00", end="12:00", environment="sandbox")
history.to_csv(path)

for bar in history.bars("1h"):
    print(f"{bar.start:%H:%M}  {bar.open:.2f}  {bar.high:.2f}  {bar.low:.2f}  {bar.close:.2f}  {bar.count} ticks")
print(f"{len(history)} ticks, {history[0].time} to {history[-1].time}, complete: {history.complete}, in {path}")
