"""History to a file: a page of a day's ticks, fetched over its own short-lived connection, as CSV.

Usage: python history_to_csv.py [FILE]
"""

import csv
import sys

import finx_sync

path = sys.argv[1] if len(sys.argv) > 1 else "history.csv"
ticks = finx_sync.get_tick_history("BTC:USD", "2022-06-15", "12:00", environment="sandbox")

with open(path, "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["datetime", "exchange", "price"])
    writer.writerows([tick.datetime.isoformat(), tick.exchange, tick.price] for tick in ticks)

print(f"{len(ticks)} ticks, {ticks[0].time} to {ticks[-1].time}, in {path}")
