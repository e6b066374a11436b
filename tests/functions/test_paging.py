"""The plan of pages, against servers that are honest, strange, or wrong; without any I/O."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finx_sync.functions.day import DAY_MS, Question, Window
from finx_sync.functions.evidence import Snap
from finx_sync.functions.paging import Plan, windows
from finx_sync.functions.questions import RowFilter
from finx_sync.ticks.columns import MILLISECOND, Columns, ExchangeNames, thinned
from finx_sync.ticks.page import DayPage

MIDNIGHT = 1_655_251_200_000
DAY = Window("2022-06-15", MIDNIGHT, MIDNIGHT + DAY_MS - 1)
NAMES = ExchangeNames(["A", "B"])
Table = list[tuple[int, int, float]]


def columns(rows: Table) -> Columns:
    """Rows of (millisecond of the day, exchange's number, price) as a page has them."""
    exchanges = list(NAMES)
    return Columns.of(((MILLISECOND * (MIDNIGHT + at), exchanges[code], price) for at, code, price in rows), NAMES)


class Server:
    """Answers as documented: the first rows after a moment."""

    size = 1000

    def __init__(self, table: Table) -> None:
        self.table = sorted(table)
        self.times = [row[0] for row in self.table]
        self.asked = 0

    def choose(self, rows: Table) -> Table:
        """What is returned of all rows after the moment."""
        return rows[: self.size]

    def page(self, position: int) -> DayPage:
        """The answer for everything from a position on."""
        self.asked += 1
        rows = self.choose(self.table[bisect_left(self.times, position - MIDNIGHT) :])
        return DayPage(columns(rows), len(rows))

    def snap(self, at: int) -> Snap:
        """The last tick until a moment; failing that the first; of an empty day, one of the day before."""
        place = max(0, bisect_right(self.times, at - MIDNIGHT) - 1)
        row = self.table[place] if self.table else (-1, 0, 1.0)
        return Snap(columns([row]))


def answer(plan: Plan, question: Question, server: Server) -> None:
    """Hand a server's answer in."""
    if question.kind == "snap":
        plan.answer_snap(question, server.snap(question.position))
    else:
        plan.answer_page(question, server.page(question.position))


def run(plan: Plan, server: Server, workers: int = 1, order: random.Random | None = None) -> int:
    """Ask until nothing is left, several questions at once, answered in any order; returns how many were asked."""
    chance = order or random.Random(1)
    open_questions: list[Question] = []
    while True:
        while len(open_questions) < workers and (question := plan.next()) is not None:
            open_questions.append(question)
        if not open_questions:
            break
        answer(plan, open_questions.pop(chance.randrange(len(open_questions))), server)
        assert server.asked < 20_000, "it does not end"
    assert plan.done
    return server.asked


def fetched(server: Server, workers: int = 1, seed: int = 1, part: Window = DAY) -> tuple[Table, list[object]]:
    """The rows of a day, and where they are not proven."""
    plan = Plan([part], RowFilter(NAMES))
    run(plan, server, workers, random.Random(seed))
    rows, unproven = plan.result()
    assert list(rows.stamps) == sorted(rows.stamps)
    return [(stamp // MILLISECOND - MIDNIGHT, code, price) for stamp, code, price in rows.rows()], list(unproven)


def day_of(count: int, seed: int, spread: int = DAY_MS) -> Table:
    """Random rows; a narrow spread has many ties."""
    chance = random.Random(seed)
    begin = chance.randrange(DAY_MS - spread + 1)
    rows = [(begin + chance.randrange(spread), chance.randrange(2), float(chance.randrange(5))) for _ in range(count)]
    return rows + chance.sample(rows, len(rows) // 50)  # exact repeats


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2000, 3000, 25_000])
@pytest.mark.parametrize("workers", [1, 8])
def test_days_of_any_size(count: int, workers: int) -> None:
    """Rows would be lost or doubled where a day ends with a page, or has none."""
    chance = random.Random(count)
    table = [(chance.randrange(DAY_MS), chance.randrange(2), 1.0) for _ in range(count)]
    rows, unproven = fetched(Server(table), workers)
    assert Counter(rows) == Counter(table)
    assert unproven == []


@settings(max_examples=settings.default.max_examples // 2)
@given(
    count=st.integers(0, 6000),
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([30, 1000, 60_000, DAY_MS]),
    workers=st.integers(1, 9),
)
def test_every_row_once(count: int, seed: int, spread: int, workers: int) -> None:
    """Ties at a page's edge, true repeats, or rows of a dense stretch would be lost or doubled."""
    table = day_of(count, seed, spread)
    at_once = max(Counter(at for at, *_ in table).values(), default=0)
    rows, unproven = fetched(Server(table), workers, seed)
    if at_once < 1000:
        assert Counter(rows) == Counter(table)
        assert unproven == []


def test_a_burst_inside_a_quiet_day() -> None:
    """Two thousand rows in 20 ms would be cut at a thousand."""
    burst = [(40_000_000 + place % 20, place % 2, float(place)) for place in range(2000)]
    table = day_of(20_000, 3) + burst
    for workers in (1, 8):
        rows, unproven = fetched(Server(table), workers)
        assert Counter(rows) == Counter(table)
        assert unproven == []


def test_the_first_millisecond_belongs_to_the_day() -> None:
    """ "After 00:00" would leave out what ticked at midnight sharp."""
    table = [(0, 0, 1.0), (0, 1, 2.0), (DAY_MS - 1, 0, 3.0)]
    assert Counter(fetched(Server(table))[0]) == Counter(table)
    assert Question("page", "2022-06-15", MIDNIGHT, None).after is None  # type: ignore[arg-type]
    assert Question("page", "2022-06-15", MIDNIGHT + 1, None).after == "00:00:00.000"  # type: ignore[arg-type]


def test_sharing_costs_few_pages_more() -> None:
    """Eight at once would ask for much more than one; a day is read twice in either case."""
    table = day_of(100_000, 5)
    alone, together = Server(table), Server(table)
    fetched(alone)
    fetched(together, 8)
    assert alone.asked <= 215
    assert together.asked <= 270


def test_more_than_a_page_on_one_millisecond_is_told() -> None:
    """Rows that cannot be reached would be missing in silence."""
    table = [*day_of(3000, 7), *[(50_000_000, place % 2, float(place)) for place in range(1500)]]
    rows, unproven = fetched(Server(table), 4)
    assert unproven == [(MIDNIGHT + 50_000_000, MIDNIGHT + 50_000_000)]
    assert Counter(row for row in rows if row[0] != 50_000_000) == Counter(row for row in table if row[0] != 50_000_000)
    assert sum(row[0] == 50_000_000 for row in rows) == 1000


class Newest(Server):
    """The newest rows instead of the first."""

    def choose(self, rows: Table) -> Table:
        return rows[-self.size :]


class AtRandom(Server):
    """Any rows after the moment."""

    def choose(self, rows: Table) -> Table:
        return random.Random(len(rows)).sample(rows, min(self.size, len(rows)))


class ByExchange(Server):
    """The first rows of one exchange, then of the other."""

    def choose(self, rows: Table) -> Table:
        return sorted(rows, key=lambda row: (row[1], row[0]))[: self.size]


@pytest.mark.parametrize("kind", [Newest, AtRandom, ByExchange])
@pytest.mark.parametrize("workers", [1, 8])
def test_a_server_that_picks_other_rows_is_found_out(kind: Callable[[Table], Server], workers: int) -> None:
    """A history with holes would call itself complete."""
    table = day_of(20_000, 11)
    rows, unproven = fetched(kind(table), workers)
    assert Counter(rows) != Counter(table)
    assert unproven


def test_newest_rows_are_found_out_when_only_a_part_is_wanted() -> None:
    """An empty morning would be believed."""
    morning = Window("2022-06-15", MIDNIGHT, MIDNIGHT + DAY_MS // 2)
    assert fetched(Newest(day_of(20_000, 11)), part=morning)[1]
    assert not fetched(Server(day_of(20_000, 11)), part=morning)[1]


class WrongInTheSameWay(Server):
    """Some rows are missing from the answer to the first question, whenever it is asked."""

    def __init__(self, table: Table, missing: Table) -> None:
        super().__init__(table)
        self.missing = missing
        self.question: int | None = None

    def page(self, position: int) -> DayPage:
        self.question = position if self.question is None else self.question
        if position != self.question:
            return super().page(position)
        self.asked += 1
        right = self.choose(self.table[bisect_left(self.times, position - MIDNIGHT) :])
        rows = list((Counter(right) - Counter(self.missing)).elements())
        return DayPage(columns(rows), len(rows))


@given(
    count=st.integers(1, 3000),
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([1000, 60_000, DAY_MS]),
    workers=st.integers(1, 9),
    begin=st.sampled_from([0, 1, 5, DAY_MS // 4]),
)
def test_one_question_that_is_always_answered_wrongly_is_found_out(
    count: int, seed: int, spread: int, workers: int, begin: int
) -> None:
    """Both readings of a day would agree on an answer that lacks rows, since they ask the same question."""
    table = [row for row in day_of(count, seed, spread) if row[0] > 0]  # only the whole day's question has midnight
    chance = random.Random(seed)
    rows = sorted(row for row in table if row[0] >= begin)[:1000]
    server = WrongInTheSameWay(table, chance.sample(rows, min(len(rows), chance.randrange(1, 9))))
    found, unproven = fetched(server, workers, seed, Window("2022-06-15", MIDNIGHT + begin, DAY.last))
    assert not Counter(row for row in table if row[0] >= begin) - Counter(found) or unproven


class Small(Server):
    """Pages smaller than documented."""

    size = 300


class Shrinking(Server):
    """Pages bounded by something other than rows."""

    def choose(self, rows: Table) -> Table:
        return rows[: random.Random(len(rows)).randrange(100, 1000)]


@pytest.mark.parametrize("kind", [Small, Shrinking])
def test_smaller_pages_are_noticed(kind: Callable[[Table], Server]) -> None:
    """The first small page would be taken for the day's last."""
    table = day_of(5000, 13)
    for workers in (1, 6):
        rows, unproven = fetched(kind(table), workers)
        assert Counter(rows) == Counter(table) or unproven


class Inclusive(Server):
    """A tick exactly at the time is returned as well."""

    def page(self, position: int) -> DayPage:
        return super().page(position if position == MIDNIGHT else position - 1)


def test_an_inclusive_time_does_no_harm() -> None:
    """Ticks would be doubled by a server that reads "after" otherwise."""
    table = day_of(8000, 17)
    rows, unproven = fetched(Inclusive(table), 3)
    assert Counter(rows) == Counter(table)
    assert unproven == []


class ByTheMinute(Server):
    """The time counts only to the minute."""

    def page(self, position: int) -> DayPage:
        return super().page(position // 60_000 * 60_000)


def test_a_time_that_counts_to_the_minute_ends_and_is_told() -> None:
    """A dense minute would be asked for without end."""
    table = [(36_000_000 + place, place % 2, 1.0) for place in range(0, 60_000, 10)]
    rows, unproven = fetched(ByTheMinute(table), 2)
    assert unproven
    assert 1000 <= len(rows) <= len(table)


class Onward(Server):
    """A page goes on into the next day."""

    def page(self, position: int) -> DayPage:
        page = super().page(position)
        return DayPage(page.columns, 1000, beyond=page.count < 1000)


def test_rows_of_the_next_day_end_the_day() -> None:
    """Rows of other days would be taken for more of this one."""
    table = day_of(2500, 19)
    rows, unproven = fetched(Onward(table), 2)
    assert Counter(rows) == Counter(table)
    assert unproven == []


def test_a_part_of_a_day_has_both_its_ends() -> None:
    """Neighbouring parts would share a row, or lose one."""
    table = day_of(9000, 23)
    first, last = table[17][0], table[18][0]
    part = Window("2022-06-15", MIDNIGHT + min(first, last), MIDNIGHT + max(first, last))
    wanted = [row for row in table if part.first <= MIDNIGHT + row[0] <= part.last]
    assert Counter(fetched(Server(table), 4, part=part)[0]) == Counter(wanted)


def test_a_limit_asks_for_no_more_than_it_needs() -> None:
    """A hundred rows would cost a whole day."""
    server = Server(day_of(20_000, 29))
    plan = Plan(windows(MIDNIGHT, MIDNIGHT + 3 * DAY_MS), RowFilter(NAMES), limit=2500)
    assert run(plan, server, 8) <= 9  # three pages, five more and a snap as evidence
    rows, unproven = plan.result()
    assert rows.rows() == columns(server.table[:2500]).rows()
    assert unproven == []


@pytest.mark.parametrize("every", [60_000, 3_600_000])
@pytest.mark.parametrize("workers", [1, 5])
def test_one_row_of_each_stretch(every: int, workers: int) -> None:
    """A sample by the minute would miss minutes, or take another row than the first."""
    server = Server(day_of(30_000, 31))
    plan = Plan([DAY], RowFilter(NAMES, every=every * MILLISECOND))
    asked = run(plan, server, workers)
    expected = thinned(columns(server.table), every * MILLISECOND)
    assert plan.result()[0].rows() == expected.rows()
    assert asked < 90 if every == 60_000 else asked < 66


def test_one_exchange_only() -> None:
    """Rows of other exchanges would be counted as what was asked for."""
    server = Server(day_of(5000, 37))
    mine = [row for row in server.table if row[1] == 1]
    plan = Plan([DAY], RowFilter(NAMES, exchange="B"))
    run(plan, server, 4)
    assert plan.result()[1] == []
    assert plan.result()[0].rows() == columns(mine).rows()
    plan = Plan([DAY], RowFilter(NAMES, exchange="B"), limit=1500)
    run(plan, server)
    assert plan.result()[0].rows() == columns(mine[:1500]).rows()


def test_days_and_parts_of_days() -> None:
    """A span would have a day too many, or lose its ends."""
    span = windows(MIDNIGHT + 5, MIDNIGHT + DAY_MS)
    assert span == [
        Window("2022-06-15", MIDNIGHT + 5, MIDNIGHT + DAY_MS - 1),
        Window("2022-06-16", MIDNIGHT + DAY_MS, MIDNIGHT + DAY_MS),
    ]
    assert windows(MIDNIGHT, MIDNIGHT + DAY_MS - 1) == [DAY]
