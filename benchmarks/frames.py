"""A million ticks into a pandas frame: from pages by columns, from ready NumPy columns, and the naive way.

Usage: python -m benchmarks.frames [ROWS]
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from finx_sync import TickHistory
from finx_sync.ticks.columns import Columns, ExchangeNames
from finx_sync.ticks.page import read_page

PAIR, DATE = "BTC:USD", "2022-06-15"
PAGES = 50
"""Different ones; a day repeats them, since only the time counts."""


def page(number: int) -> str:
    chance = random.Random(number)
    rows = {}
    for place in range(1000):
        at = chance.randrange(86_400_000)
        clock = f"{at // 3_600_000:02d}:{at // 60_000 % 60:02d}:{at // 1000 % 60:02d}.{at % 1000:03d}Z"
        price = str(round(20_000 + chance.random() * 100, 2))
        exchange = chance.choice(["COINBASE", "GEMINI", "FTX"])
        rows[str(place)] = {"pair": PAIR, "date": DATE, "time": clock, "exchange": exchange, "price": price}
    return json.dumps(rows, separators=(",", ":"))


def timed(action: Callable[[], Any], rounds: int = 5) -> float:
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - begin)
    return best


def main(rows: int = 1_000_000) -> None:
    pages = [page(number) for number in range(PAGES)]
    texts = [pages[number % PAGES] for number in range(rows // 1000)]
    one = timed(lambda: read_page(pages[0], PAIR, DATE, ExchangeNames()), 50)
    columns = Columns(ExchangeNames())

    def parse() -> None:
        nonlocal columns
        columns = Columns(ExchangeNames())
        for text in texts:
            read = read_page(text, PAIR, DATE, columns.names)
            assert read is not None
            columns.extend(read.columns)

    parsing = timed(parse, 2)
    history = TickHistory(PAIR, columns)
    stamps, prices = np.array(history.timestamps), np.array(history.prices)
    codes, names = np.array(columns.codes, "i2"), list(columns.names)

    def ready() -> pd.DataFrame:
        return pd.DataFrame(
            {
                "pair": pd.Categorical.from_codes(np.zeros(len(codes), "i1"), [PAIR]),
                "exchange": pd.Categorical.from_codes(codes, names),
                "price": prices,
            },
            index=pd.DatetimeIndex(stamps.astype("datetime64[us]"), name="datetime", tz="UTC"),
        )

    def naive() -> pd.DataFrame:
        found = [row for text in texts for row in json.loads(text).values()]
        frame = pd.DataFrame(found)
        frame.index = pd.to_datetime(frame["date"] + "T" + frame["time"], utc=True)
        frame["price"] = frame["price"].astype(float)
        return frame[["pair", "exchange", "price"]]

    from_ready, ours, naively = timed(ready), timed(history.to_pandas), timed(naive, 1)
    print(f"a page of 1000 rows to columns     {one * 1000:8.2f} ms")
    print(f"{rows:,} rows: parsing         {parsing * 1000:8.0f} ms")
    print(f"  frame from ready NumPy columns   {from_ready * 1000:8.1f} ms")
    print(f"  TickHistory.to_pandas            {ours * 1000:8.1f} ms")
    print(f"  with parsing, against the ready  {(parsing + ours) / (parsing + from_ready):8.2f} ×")
    print(f"  the naive way, with parsing      {naively * 1000:8.0f} ms, {naively / (parsing + ours):.1f} × ours")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
