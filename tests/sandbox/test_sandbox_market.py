"""The simulated market and its text: consistent in itself, deterministic, in FinX's form."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from datetime import datetime, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.errors import InvalidInputError
from finx_sync.pricing import black76, parse_instrument
from finx_sync.sandbox.chain import years_to_expiry
from finx_sync.sandbox.history import PAGE_ROWS, TIME_IS_INCLUSIVE, PriceHistory, day_start, time_of_day
from finx_sync.sandbox.host import dumps
from finx_sync.sandbox.market import EXCHANGES, PAIRS, Market
from finx_sync.sandbox.prices import DAY_MS
from finx_sync.venues.finx.sandbox.codec import contract_object, js_number, spot_object, tick_row

# FinX docs, streams page.
# fmt: off
CONTRACT_KEYS = [
    "redis_key", "underlying_price", "underlying_index", "timestamp", "state", "settlement_price",
    "open_interest", "min_price", "max_price", "mark_price", "mark_iv", "last_price", "interest_rate",
    "instrument_name", "index_price", "estimated_delivery_price", "bid_iv", "best_bid_price", "best_bid_amount",
    "best_ask_price", "best_ask_amount", "ask_iv", "vega", "theta", "rho", "gamma", "delta", "volume",
    "price_change", "low", "high",
]
# fmt: on
OPTION_ONLY = {"underlying_price", "underlying_index", "mark_iv", "interest_rate", "bid_iv", "ask_iv"}
OPTION_ONLY |= {"vega", "theta", "rho", "gamma", "delta"}
NOW = 1_786_000_000_000
MARKET = Market(20220805)
HISTORY = PriceHistory(20220805, MARKET.path)
OPTIONS = [name for name in MARKET.names(NOW) if parse_instrument(name).kind == "option"]


@pytest.mark.parametrize("name", OPTIONS)
def test_option_messages_follow_from_their_own_fields(name: str) -> None:
    """A user who checks greeks against pricing would find the sandbox wrong, and distrust the library."""
    fields = contract_object(MARKET.ticker(name, NOW))
    assert list(fields) == CONTRACT_KEYS
    instrument = parse_instrument(name)
    assert instrument.strike is not None
    assert instrument.option_side is not None
    value = black76(
        float(fields["underlying_price"]),
        instrument.strike,
        years_to_expiry(instrument, int(fields["timestamp"])),
        float(fields["mark_iv"]),
        instrument.option_side,
    )
    for greek in ("vega", "theta", "rho", "gamma", "delta"):
        assert float(fields[greek]) == round(getattr(value, greek), 5)
    assert float(fields["mark_price"]) == round(value.mark_price, 4)
    assert float(fields["best_bid_price"]) < float(fields["best_ask_price"])
    assert float(fields["min_price"]) < float(fields["max_price"])
    assert all(isinstance(text, str) for text in fields.values())
    if fields["low"]:
        assert float(fields["low"]) <= float(fields["last_price"]) <= float(fields["high"])


def test_about_three_options_in_ten_have_no_trades() -> None:
    """The empty strings of real feeds would never be exercised offline, or nothing else would be."""
    share = [
        sum(contract_object(MARKET.ticker(name, NOW + day * DAY_MS))["high"] == "" for name in names) / len(names)
        for day in range(20)
        for names in [[n for n in MARKET.names(NOW + day * DAY_MS) if parse_instrument(n).kind == "option"]]
    ]
    assert 0.25 < sum(share) / len(share) < 0.35


def test_futures_and_perpetuals_lack_what_only_options_have() -> None:
    """A client that needs greeks would break on the first perpetual of the real feed."""
    names = [name for name in MARKET.names(NOW) if name not in OPTIONS]
    assert {"BTC-PERPETUAL", "BTC_USDC-PERPETUAL", "BTC-26AUG22"} < set(names)
    for name in names:
        fields = contract_object(MARKET.ticker(name, NOW))
        assert not OPTION_ONLY & set(fields)
        assert [key for key in fields if key in CONTRACT_KEYS] == [k for k in CONTRACT_KEYS if k not in OPTION_ONLY]


@pytest.mark.parametrize("year", [2022, 2024, 2027, 2034])
def test_the_documented_contract_is_always_listed_and_alive(year: int) -> None:
    """The snippets of the documentation would not run any more after August 2022."""
    now = round(datetime(year, 12, 30, 7, 59, tzinfo=timezone.utc).timestamp() * 1000)
    fields = contract_object(MARKET.ticker("BTC-26AUG22-20000-C", now))
    assert fields["timestamp"] == str(now)
    assert fields["underlying_index"] == "BTC-26AUG22"
    assert 0.55 < float(fields["delta"]) < 0.99
    assert fields["high"] != ""


@given(st.integers(1_500_000_000_000, 2_500_000_000_000))
def test_every_listed_instrument_has_a_ticker_at_any_moment(now: int) -> None:
    """A long-running sandbox would fail around an expiry or a turn of the year."""
    names = MARKET.names(now)
    assert len(names) == len(set(names)) > 100
    for name in names[::9]:
        instrument = parse_instrument(name)
        assert instrument.kind == "perpetual" or years_to_expiry(instrument, now) > 0
        assert json.loads(dumps(contract_object(MARKET.ticker(name, now))))["instrument_name"] == name


def test_expiries_are_fridays_and_include_each_cycle() -> None:
    """Names would not look like Deribit's."""
    expiries = {i.expiry for name in OPTIONS if (i := parse_instrument(name)).expiry and name != "BTC-26AUG22-20000-C"}
    assert all(expiry is not None and expiry.weekday() == 4 and expiry.hour == 8 for expiry in expiries)
    assert 5 <= len(expiries) <= 7


def test_equal_seeds_give_equal_markets_and_others_do_not() -> None:
    """A test that pins values would break from run to run, or all seeds would be one."""
    name = OPTIONS[20]
    assert Market(7).ticker(name, NOW) == Market(7).ticker(name, NOW)
    assert Market(7).ticker(name, NOW) != Market(8).ticker(name, NOW)
    assert Market(7).trade("BTC:USD", NOW) == Market(7).trade("BTC:USD", NOW)


def test_unknown_names_are_refused() -> None:
    """A typo would stream nothing, silently."""
    with pytest.raises(InvalidInputError, match="BTC-1JAN20-5-C"):
        MARKET.ticker("BTC-1JAN20-5-C", NOW)
    with pytest.raises(InvalidInputError, match="BTC:EUR"):
        MARKET.trade("BTC:EUR", NOW)


def test_spot_times_agree_and_prices_are_text() -> None:
    """The spot message would differ from the documented example in what a client reads first."""
    for pair in PAIRS:
        fields = spot_object(MARKET.trade(pair, NOW + 123))
        assert list(fields) == ["pair", "unixDate", "UTCDate", "exchange", "price"]
        assert fields["unixDate"] == (NOW + 123) // 1000
        moment = datetime.fromtimestamp((NOW + 123) // 1000, timezone.utc)
        assert fields["UTCDate"] == f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"
        assert isinstance(fields["price"], str)
        assert float(fields["price"]) > 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (5, "5"),
        (846.5, "846.5"),
        (0.00006, "0.00006"),
        (23233.684999999998, "23233.684999999998"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (-3.2258, "-3.2258"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.25e21, "1.25e+21"),
        (123456789012345680000, "123456789012345680000"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_numbers_print_as_in_javascript(value: float, text: str) -> None:
    """Text that only Python writes, such as 1e-07 or 5.0, would hide what a parser of the real feed must read."""
    assert js_number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_printed_numbers_read_back(value: float) -> None:
    """A printed number would be another number."""
    text = js_number(value)
    assert float(text) == value
    assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d*[1-9])?(e[+-][1-9]\d*)?", text)


# history


def test_a_day_is_deterministic_and_large() -> None:
    """Pages of one day would not fit together, or would all fit into one."""
    start = day_start("2022-06-15")
    rows = HISTORY.day("BTC:USD", start, NOW)
    assert rows == PriceHistory(20220805, Market(20220805).path).day("BTC:USD", start, NOW)
    assert rows != PriceHistory(1, Market(1).path).day("BTC:USD", start, NOW)
    assert 19_000 < len(rows) < 62_000
    assert {row.exchange for row in rows} == set(EXCHANGES)
    times = [row.timestamp for row in rows]
    assert times == sorted(times)
    assert start < times[0] <= times[-1] < start + DAY_MS


def test_a_day_has_ties_and_exact_repeats() -> None:
    """A client that loses ticks of the same millisecond at a page's edge would pass every offline test."""
    rows = HISTORY.day("ETH:USDC", day_start("2022-06-15"), NOW)
    ties = [a for a, b in pairwise(rows) if a.timestamp == b.timestamp and a.exchange != b.exchange]
    assert len(ties) > 100
    assert sum(count > 1 for count in Counter(rows).values()) > 20


def test_pages_join_into_the_day() -> None:
    """tickHistory would skip or invent ticks between two pages."""
    start = day_start("2022-06-15")
    expected = HISTORY.day("SOL:USDC", start, NOW)
    seen: Counter[object] = Counter()
    after: int | None = None
    while page := HISTORY.page("SOL:USDC", start, after, NOW):
        last = max(row.timestamp for row in page)
        full = len(page) == PAGE_ROWS
        # A page may cut through a millisecond: count its last one from the next page only.
        kept = [row for row in page if row.timestamp < last or not full]
        seen.update(kept)
        if not full:
            break
        after = last - 1 - start
    assert seen == Counter(expected)


def test_a_page_holds_the_first_rows_after_the_time_in_no_order() -> None:
    """A client that forgets to sort would look right offline."""
    start, after = day_start("2022-06-15"), time_of_day("21:27:40.453Z")
    page = HISTORY.page("BTC:USD", start, after, NOW)
    assert len(page) == PAGE_ROWS
    times = [row.timestamp for row in page]
    assert times != sorted(times)
    assert times != sorted(times, reverse=True)
    everything = [row for row in HISTORY.day("BTC:USD", start, NOW) if row.timestamp > start + after]
    assert sorted(times) == [row.timestamp for row in everything[:PAGE_ROWS]]
    edge = everything[10].timestamp
    following = HISTORY.page("BTC:USD", start, edge - start, NOW)
    assert (min(row.timestamp for row in following) == edge) is TIME_IS_INCLUSIVE


def test_the_future_is_empty_and_today_ends_now() -> None:
    """Backfill of today would receive ticks that have not happened."""
    tomorrow = NOW // DAY_MS * DAY_MS + DAY_MS
    assert HISTORY.page("BTC:USD", tomorrow, None, NOW) == []
    today = HISTORY.day("BTC:USD", tomorrow - DAY_MS, NOW)
    assert today[-1].timestamp <= NOW < today[-1].timestamp + 600_000


def test_the_last_tick_before_a_moment() -> None:
    """tickSnap would return a tick from after the moment asked for."""
    start = day_start("2022-06-15")
    rows = HISTORY.day("BTC:USD", start, NOW)
    at = rows[5000].timestamp
    found = HISTORY.last("BTC:USD", start, at)
    assert found is not None
    assert found.timestamp == at
    assert HISTORY.last("BTC:USD", start, start) == rows[0]
    assert HISTORY.last("BTC:USD", start, NOW) == rows[-1]


def test_rows_are_spelled_as_documented() -> None:
    """tickHistory rows would not look like the documentation's."""
    row = tick_row(HISTORY.day("BTC:USD", day_start("2022-06-15"), NOW)[77])
    assert list(row) == ["pair", "date", "time", "exchange", "price"]
    assert row["date"] == "2022-06-15"
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}Z", row["time"])
    assert math.isfinite(float(row["price"]))


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("00:00", 0),
        ("21:27", 77_220_000),
        ("21:27:40", 77_260_000),
        ("21:27:40.453Z", 77_260_453),
        ("23:59Z", 86_340_000),
        ("00:00:00.5", 500),
    ],
)
def test_times_of_day(text: str, milliseconds: int) -> None:
    """A time that the documentation prints would be refused."""
    assert time_of_day(text) == milliseconds


@pytest.mark.parametrize("text", ["", "24:00", "9:00", "12:60", "12:00:00.1234", "noon", "12:00+01:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """A typo would return another part of the day."""
    with pytest.raises(InvalidInputError, match="bad time"):
        time_of_day(text)


@pytest.mark.parametrize("text", ["", "20220615", "2022-6-15", "2022-02-30", "0000-01-01", "1969-12-31", "15-06-2022"])
def test_what_is_no_date_is_refused(text: str) -> None:
    """A typo would return another day."""
    with pytest.raises(InvalidInputError, match="bad date"):
        day_start(text)
