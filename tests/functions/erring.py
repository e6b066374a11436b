"""A history server over real sockets that errs: by a plan, or at random within what `evidence` promises to notice."""

from __future__ import annotations

import datetime as dt
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.scripted import ScriptedServer

PAIR, DATE = "BTC:USD", "2022-06-15"
DAY_MS = 86_400_000
Row = tuple[int, str, float | None]
"""Millisecond of the day, exchange, price."""
Fault = Callable[["HistoryServer", list[Row]], Any]
"""Makes an answer of the rows that would be right; a text, None for no answer, or "cut"."""


def day_of(date: str) -> dt.datetime:
    """The day's midnight."""
    return dt.datetime.fromisoformat(f"{date}T00:00:00+00:00")


def row_of(row: Row, date: str = DATE, pair: str = PAIR) -> dict[str, Any]:
    """A row as the wire has it."""
    at, exchange, price = row
    moment = day_of(date) + dt.timedelta(milliseconds=at)
    return {
        "pair": pair,
        "date": f"{moment:%Y-%m-%d}",
        "time": f"{moment:%H:%M:%S.%f}"[:-3] + "Z",
        "exchange": exchange,
        "price": None if price is None else str(price),
    }


def page_of(rows: Iterable[dict[str, Any]]) -> str:
    """A page's text."""
    return json.dumps({str(place): row for place, row in enumerate(rows)})


def rows_of(ticks: Iterable[Any], date: str = DATE) -> Counter[Row]:
    """What came, as a multiset."""
    midnight = day_of(date)
    return Counter(
        ((tick.datetime - midnight) // dt.timedelta(milliseconds=1), tick.exchange, tick.price) for tick in ticks
    )


class HistoryServer(ScriptedServer):
    """Pages and snaps of one day; honest unless `page_faults` or `snap_faults` have something for the next answer.

    Attributes:
        rows: of the day; other days have none.
        size: rows a page.
        pair: as it writes the pair.
        midnight: whether an omitted `time` means the whole day; else "00:00", which is exclusive.
        before: what a snap gives where the day has no tick until then: "first", "earlier" or "nothing".
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        super().__init__(self._answer)
        self.lock = threading.Lock()
        self.reset(rows)

    def reset(self, rows: Iterable[Row] = (), *, size: int = 1000) -> None:
        """Begin anew, honest."""
        self.rows = sorted(rows, key=lambda row: row[0])
        self.size = size
        self.pair = PAIR
        self.midnight = True
        self.before = "earlier"
        self.page_faults: list[Fault | None] = []
        self.snap_faults: list[Fault | None] = []
        self.asked: Counter[str] = Counter()

    def _answer(self, connection: Any) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(connection.request.path).query).items()}
        function = query["functionName"]
        with self.lock:
            self.asked[function] += 1
            right = self.page(query) if function == "tickHistory" else self._snap(query)
            fault = self.fault_for(function, query)
            answer = (self.write(function, right)) if fault is None else fault(self, right)
        if answer == "cut":
            connection.close_socket()
        elif answer is not None:
            connection.send(answer)

    def fault_for(self, function: str, query: dict[str, str]) -> Fault | None:
        """What to do instead of answering well."""
        faults = self.page_faults if function == "tickHistory" else self.snap_faults
        return faults.pop(0) if faults else None

    def write(self, function: str, rows: list[Row]) -> str:
        """The text of an answer."""
        if function == "tickHistory":
            return page_of(row_of(row, pair=self.pair) for row in rows)
        if not rows:
            return "{}"
        earlier = rows[0][0] < 0
        return json.dumps(row_of(rows[0] if not earlier else (0, *rows[0][1:]), "2022-06-14" if earlier else DATE))

    def page(self, query: dict[str, str]) -> list[Row]:
        """The rows of a right answer."""
        after = _milliseconds(query["time"]) if "time" in query else -1 if self.midnight else 0
        rows = [row for row in self.rows if row[0] > after] if query["date"] == DATE else []
        page = rows[: self.size]
        random.Random(len(rows)).shuffle(page)
        return page

    def _snap(self, query: dict[str, str]) -> list[Row]:
        until = _milliseconds(query["time"])
        rows = [row for row in self.rows if row[0] <= until]
        if rows:
            return rows[-1:]
        if self.before == "first" and self.rows:
            return self.rows[:1]
        return [] if self.before == "nothing" else [(-1, "FTX", 1.0)]


def _milliseconds(clock: str) -> int:
    moment = dt.time.fromisoformat(clock)
    return ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1000 + moment.microsecond // 1000


def empty(server: HistoryServer, rows: list[Row]) -> str:
    """No rows."""
    return "{}"


def refused(server: HistoryServer, rows: list[Row]) -> str:
    """An error frame."""
    return '{"error": "try again"}'


def cut(server: HistoryServer, rows: list[Row]) -> str:
    """The connection ends."""
    return "cut"


def hang(server: HistoryServer, rows: list[Row]) -> None:
    """No answer."""


class ErringServer(HistoryServer):
    """Errs at random: what it withholds without a sign, it withholds once; `{}` and errors come any number of times."""

    share = 0.0
    """How many of the answers are wrong, 0 to 1."""
    chance = random.Random(0)

    def reset(self, rows: Iterable[Row] = (), *, size: int = 1000) -> None:
        super().reset(rows, size=size)
        self.share = 0.0

    def begin(self, rows: Iterable[Row], *, size: int, seed: int, share: float) -> None:
        """Begin anew.

        Args:
            rows: the truth.
            size: rows a page.
            seed: of the errors.
            share: how many of the answers are wrong, 0 to 1.
        """
        self.reset(rows, size=size)
        self.chance = random.Random(seed)
        self.share = share
        self.midnight = self.chance.random() < 0.7
        self.before = self.chance.choice(["first", "earlier", "nothing"])
        self.withheld: Counter[Row] = Counter()
        self.silent_snaps: set[str] = set()
        self.hangs = 1

    def fault_for(self, function: str, query: dict[str, str]) -> Fault | None:
        if self.chance.random() >= self.share:
            return None
        if function == "tickSnap":
            question = query["time"]
            if question in self.silent_snaps:
                return refused
            self.silent_snaps.add(question)
            return self.chance.choice([empty, refused, cut])
        faults = [empty, empty, refused, cut, self._partial, self._partial, self._shorter, self._filtered]
        faults += [self._repeated, self._with_a_bad_row, self._with_others]
        fault: Fault = self.chance.choice([*faults, hang] if self.hangs else faults)
        if fault is hang:
            self.hangs -= 1
        return fault

    def _without(self, rows: list[Row], left_out: list[Row]) -> str:
        kept = Counter(rows)
        for row in left_out:
            if self.withheld[row] < self.rows.count(row):  # each of equal rows once
                self.withheld[row] += self.rows.count(row)
                kept[row] -= 1
        return self.write("tickHistory", list(kept.elements()))

    def _partial(self, server: HistoryServer, rows: list[Row]) -> str:
        return self._without(rows, [row for row in rows if self.chance.random() < 0.4])

    def _shorter(self, server: HistoryServer, rows: list[Row]) -> str:
        return self._without(rows, sorted(rows, key=lambda row: row[0])[self.chance.randrange(len(rows) + 1) :])

    def _filtered(self, server: HistoryServer, rows: list[Row]) -> str:
        return self._without(rows, [row for row in rows if row[1] == "FTX"])

    def _repeated(self, server: HistoryServer, rows: list[Row]) -> str:
        return self.write("tickHistory", [*rows, *rows[: self.chance.randrange(len(rows) + 1)]])

    def _with_a_bad_row(self, server: HistoryServer, rows: list[Row]) -> str:
        wire = [row_of(row, pair=self.pair) for row in rows]
        if wire:
            wire[-1]["price"] = "NaN"
        return page_of(wire)

    def _with_others(self, server: HistoryServer, rows: list[Row]) -> str:
        return page_of([*(row_of(row) for row in rows), row_of((5, "FTX", 1.0), pair="ETH:USD")])
