"""A session of every venue in which everything goes wrong that can: its replay and tables match what handlers got."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from finx_sync import Backoff, Gap, StateChange, StreamManager
from finx_sync.errors import (
    ChecksumError,
    InvalidInputError,
    ServerRefusedError,
    SubscriptionRefusedError,
    UnreadableMessageError,
)
from finx_sync.events import Batch, Connection, ConnectionOpened, RequestSent, SubscriptionAdded, TimerFired
from finx_sync.messages import Message
from finx_sync.recorder.writer import Recording
from finx_sync.sandbox import Sandbox
from finx_sync.stream import Stream
from finx_sync.venues.base import Request, Subscription
from finx_sync.venues.bitmex import BitmexStream, TableItem
from finx_sync.venues.ftx import FtxBook, FtxOrderBook, FtxStream
from finx_sync.venues.ftx.messages import BookUpdate
from finx_sync.venues.ime import ImeStream
from tests.material import material
from tests.waiting import books_balance, wait_until

KEYS = {"api_key": "sandbox-key", "api_secret": "sandbox-secret"}
OPTIONS: dict[str, Any] = {
    "reconnect": Backoff(0.01, 0.05),
    "overflow": "block",
    "flight_recorder": False,
    "connect_timeout": 5,
}
OF_MESSAGES = (ChecksumError, SubscriptionRefusedError, UnreadableMessageError, ServerRefusedError)
"""Errors that result from received messages."""


@dataclass
class Log:
    """Everything that a stream's handlers receive.

    Attributes:
        items: the messages, and the errors that result from messages, in order.
        messages: the messages alone.
        gaps, states: the gaps and the changes of state.
    """

    items: list[Any] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    gaps: list[tuple[Any, ...]] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)

    def listen(self, stream: Any) -> Log:
        """Register all handlers; return self."""
        for name in dir(stream):
            if name.startswith("on_") and name not in ("on_message", "on_error", "on_state", "on_gap", "on_lag"):
                if name in ("on_stale", "on_drift"):
                    continue
                getattr(stream, name)(self.message)
        stream.on_error(self.error)
        stream.on_gap(self.gap)
        stream.on_state(self.state)
        return self

    def message(self, message: Any) -> None:
        """Record what a handler received."""
        self.messages.append(message)
        content = tuple(message) if isinstance(message, TableItem) else message
        self.items.append(repr((type(message).__name__, message.received_at, content)))

    def error(self, error: Exception) -> None:
        """Record what a handler received."""
        if isinstance(error, OF_MESSAGES):
            self.items.append(f"{type(error).__name__}: {error}")

    def gap(self, gap: Gap) -> None:
        """Record what a handler received."""
        self.gaps += [(gap.start, gap.end, name, gap.reason) for name in gap.names or ("",)]

    def state(self, change: StateChange) -> None:
        """Record what a handler received."""
        self.states.append((change.old.value, change.new.value))

    def count(self, kind: str) -> int:
        """Return the number of items of a kind."""
        return sum(item.startswith((kind, f"('{kind}'")) for item in list(self.items))


def more(log: Log, count: int = 30) -> bool:
    """Wait for `count` more messages; return whether they came."""
    target = len(log.messages) + count
    return wait_until(lambda: len(log.messages) >= target, 30)


def finx(url: str) -> StreamManager:
    """Return FinX's stream."""
    return StreamManager("sandbox-key", url=url, **OPTIONS)


def play_finx(stream: Any, log: Log, sandbox: Sandbox) -> None:
    """Play an unreadable message and a lost connection."""
    stream.subscribe_contract("BTC-PERPETUAL", "BTC-26AUG22-20000-C")
    stream.subscribe_spot("BTC:USDC")
    stream.start()
    assert more(log)
    sandbox.publish_raw("BTC:USDC", "not json")
    assert wait_until(lambda: log.count("UnreadableMessageError"), 30)
    sandbox.abort_all()
    assert more(log)


def deribit(url: str) -> StreamManager:
    """Return Deribit's stream."""
    return StreamManager(environment="deribit", url=url, **OPTIONS)


def play_deribit(stream: Any, log: Log, sandbox: Sandbox) -> None:
    """Play a refusal at the beginning, one later, and a lost connection."""
    stream.subscribe_contract("BTC-PERPETUAL", "BTC-1JAN00-1-C")
    stream.subscribe_spot("BTC:USD")
    stream.start()
    assert wait_until(lambda: log.count("SubscriptionRefusedError") == 1, 30)
    assert more(log)
    stream.subscribe_contract("ETH-1JAN00-1-C", "ETH-PERPETUAL")
    assert wait_until(lambda: log.count("SubscriptionRefusedError") == 2, 30)
    sandbox.abort_all()
    assert more(log)


def ftx(url: str) -> FtxStream:
    """Return FTX's stream."""
    return FtxStream(url=url, **KEYS, **OPTIONS)


def play_ftx(stream: Any, log: Log, sandbox: Sandbox) -> None:
    """Play refusals, a checksum error and its repair, an unsubscription, and a lost connection with repeated events."""
    sandbox.controls("ftx").replay(100)
    stream.subscribe_ticker("BTC-PERP", "BTCUSDT", "ETH-PERP")
    stream.subscribe_trades("BTC-PERP")
    stream.subscribe_orderbook("BTC-PERP", "ETH-PERP")
    stream.subscribe_orderbook_grouped("BTC-PERP", 50)
    stream.subscribe_markets()
    stream.subscribe_fills()
    stream.subscribe_orders()
    stream.start()
    assert wait_until(lambda: log.count("SubscriptionRefusedError") == 1, 30)
    assert wait_until(lambda: stream.order_book("BTC-PERP") and stream.order_book("ETH-PERP"), 30)
    sandbox.controls("ftx").place("BTC-PERP", "buy", 0.5, client_id="mine")
    assert wait_until(lambda: log.count("FtxFill") == 1, 30)
    sandbox.controls("ftx").spoil("BTC-PERP", 1)
    assert wait_until(lambda: log.count("ChecksumError") == 1, 30)
    assert wait_until(lambda: stream.order_book("BTC-PERP"), 30)
    stream.subscribe_trades("NOPE")
    assert wait_until(lambda: log.count("SubscriptionRefusedError") == 2, 30)
    sandbox.publish_raw("ticker:BTC-PERP", "{")
    assert wait_until(lambda: log.count("UnreadableMessageError") == 1, 30)
    sandbox.abort_all()
    assert wait_until(lambda: stream.duplicates > 0, 30)
    sandbox.controls("ftx").place("BTC-PERP", "sell", 0.5)
    assert wait_until(lambda: log.count("FtxFill") == 2, 30)
    assert wait_until(lambda: stream.order_book("ETH-PERP"), 30)
    stream.unsubscribe_orderbook("ETH-PERP")
    assert more(log)


def bitmex(url: str) -> BitmexStream:
    """Return BitMEX's stream, with deleted rows, which a conversion contains too."""
    return BitmexStream(url=url, deletes=True, **KEYS, **OPTIONS)


def play_bitmex(stream: Any, log: Log, sandbox: Sandbox) -> None:
    """Play refusals, and an inconsistent update and an unreadable message, after which tables are requested again."""
    stream.subscribe("quote:XBTUSD", "trade", "orderBookL2:XBTUSD", "orderBook10:XBTUSD", "instrument", "quote:NOPE")
    stream.start()
    assert wait_until(lambda: log.count("SubscriptionRefusedError") == 1, 30)
    stream.wait_until_filled(timeout=30)
    sandbox.controls("bitmex").place("XBTUSD", "buy", 100, price=1000.0)
    sandbox.controls("bitmex").place("XBTUSD", "buy", 100)
    assert wait_until(lambda: any(one.table == "execution" for one in list(log.messages)), 30)
    wrong = {"symbol": "XBTUSD", "id": 1, "side": "Buy", "size": 5}
    sandbox.publish("orderBookL2:XBTUSD", {"table": "orderBookL2", "action": "update", "data": [wrong]})
    assert more(log)
    sandbox.publish_raw("orderBookL2:XBTUSD", '{"table":"orderBookL2","action":"update","data":[{"symbol')
    assert wait_until(lambda: log.count("UnreadableMessageError") == 1, 30)
    stream.wait_until_filled(timeout=30)
    sandbox.abort_all()
    assert more(log)
    stream.wait_until_filled(timeout=30)
    stream.unsubscribe("trade")
    assert more(log)


def ime(url: str) -> ImeStream:
    """Return IME's stream."""
    return ImeStream(url=url, names=["ContractA"], ids="24680", auth="sandbox-key", **OPTIONS)


def play_ime(stream: Any, log: Log, sandbox: Sandbox) -> None:
    """Play a lost connection."""
    stream.start()
    assert more(log, 5)
    sandbox.abort_all()
    assert more(log, 5)


@dataclass(frozen=True)
class Case:
    """The session of one venue.

    Attributes:
        make: returns a stream to a URL.
        play: what happens to the stream.
    """

    make: Callable[[str], Any]
    play: Callable[[Any, Log, Sandbox], None]


CASES = {
    "finx": Case(finx, play_finx),
    "deribit": Case(deribit, play_deribit),
    "ftx": Case(ftx, play_ftx),
    "bitmex": Case(bitmex, play_bitmex),
    "ime": Case(ime, play_ime),
}


@dataclass(frozen=True)
class Session:
    """A recorded session.

    Attributes:
        venue: the venue.
        path: the path of the recording.
        live: what the handlers received.
    """

    venue: str
    path: Path
    live: Log

    def player(self) -> Any:
        """Return a stream without subscriptions, which is never started."""
        if self.venue == "ime":
            return ImeStream(url="ws://127.0.0.1:9", auth="sandbox-key", **OPTIONS)
        return CASES[self.venue].make("ws://127.0.0.1:9")


@pytest.fixture(scope="module", params=CASES)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Record each venue's session once."""
    venue = request.param
    path = tmp_path_factory.mktemp(venue) / "feed.finxrec"
    with Sandbox(exchange_interval=0.02, contract_interval=0.02, spot_interval=0.02, robots=False) as sandbox:
        stream = CASES[venue].make(sandbox.url)
        live = Log().listen(stream)
        with stream.record(path):
            try:
                CASES[venue].play(stream, live, sandbox)
            finally:
                stream.stop(drain=True)
        assert books_balance(stream)
    return Session(venue, path, live)


def test_a_replay_gives_handlers_what_they_got_live(session: Session) -> None:
    """A bot that is tested on a recording would see a different market: no books, no refusals, events twice."""
    stream: Stream = session.player()
    log = Log().listen(stream)
    stream.replay(session.path, speed="max")
    assert log.items == session.live.items
    assert sorted(log.gaps) == sorted(session.live.gaps)
    assert log.states == session.live.states
    assert books_balance(stream)
    again = session.player()  # a second replay gives the same
    other = Log().listen(again)
    again.replay(session.path, speed="max")
    assert other.items == log.items


def test_tables_hold_what_handlers_got(session: Session, tmp_path: Path) -> None:
    """An analysis of a recording would use other numbers than the bot received."""
    stream: Stream = session.player()
    done = stream.convert(session.path, tmp_path / "tables")
    tables = {name: parquet(tmp_path / "tables" / f"{name}.parquet") for name in done.rows}
    assert {name: len(rows) for name, rows in tables.items()} == done.rows
    events = tables.pop("events")
    assert stamps_ascend(tables)
    CHECKS[session.venue](tables, session.live)
    kinds = {row["event"] for row in events}
    assert {"open", "close", "state", "subscribe", "gap"} <= kinds
    assert sum(row["event"] == "gap" for row in events) == len(session.live.gaps)
    said = [row["text"] for row in events if row["event"] == "error"]
    assert said == [item for item in session.live.items if not item.startswith("(")]
    assert all(row["happened_at"].year > 2020 for row in events)


def test_a_database_has_the_same_tables(session: Session, tmp_path: Path) -> None:
    """A query of the database would give another result than one of the files."""
    import duckdb

    stream: Stream = session.player()
    done = stream.convert(session.path, tmp_path / "tables")
    assert stream.convert(session.path, tmp_path / "feed.duckdb") == done
    with duckdb.connect(str(tmp_path / "feed.duckdb")) as database:
        for name in done.rows:
            found = database.sql(f"select * from {name}").arrow()  # noqa: S608  # no name needs quotes
            rows = found.read_all() if hasattr(found, "read_all") else found
            assert rows.to_pylist() == parquet(tmp_path / "tables" / f"{name}.parquet")


def test_csv_files_have_the_same_tables(session: Session, tmp_path: Path) -> None:
    """A CSV file would have other rows, or a text with a comma would become two."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    stream: Stream = session.player()
    done = stream.convert(session.path, tmp_path / "tables")
    assert stream.convert(session.path, tmp_path / "files", form="csv") == done
    for name in done.rows:
        path = tmp_path / "tables" / f"{name}.parquet"
        schema = pq.read_schema(path)
        reads = pa.csv.ConvertOptions(column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False)
        found = pa.csv.read_csv(tmp_path / "files" / f"{name}.csv", convert_options=reads)
        assert found.to_pylist() == parquet(path)
    with pytest.raises(InvalidInputError, match="form"):
        stream.convert(session.path, tmp_path / "x.duckdb", form="csv")
    with pytest.raises(InvalidInputError, match="form"):
        stream.convert(session.path, tmp_path / "x", form="xml")  # type: ignore[arg-type]


def parquet(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def stamps_ascend(tables: dict[str, list[dict[str, Any]]]) -> bool:
    """Return whether each row has the time at which it was received, in ascending order."""
    return all(
        [row["received_at"] for row in rows] == sorted(row["received_at"] for row in rows) for rows in tables.values()
    )


def at(message: Any) -> datetime:
    """Return when a message was received, in the form of a table."""
    return datetime.fromtimestamp(round(message.received_at * 1_000_000) / 1_000_000, timezone.utc)


def same_rows(rows: list[dict[str, Any]], messages: list[Message]) -> None:
    """Check that each message is a row with its values, and that all other columns are null."""
    assert len(rows) == len(messages)
    for row, message in zip(rows, messages, strict=True):
        values = message.to_dict()
        assert abs((row["received_at"] - at(message)).total_seconds()) < 2e-6
        assert {name: row[name] for name in values} == values
        assert all(value is None for name, value in row.items() if name not in values and name != "received_at")


def check_plain(tables: dict[str, list[dict[str, Any]]], live: Log) -> None:
    """Check the tables of FinX and Deribit."""
    kinds = {"contract_tick": "ContractTick", "spot_tick": "SpotTick"}
    assert set(tables) == set(kinds)
    for name, kind in kinds.items():
        same_rows(tables[name], [one for one in live.messages if type(one).__name__ == kind])


def check_ftx(tables: dict[str, list[dict[str, Any]]], live: Log) -> None:
    """Check the tables of tickers, trades, fills and orders, and the books that the updates result in."""
    for name, kind in (("ticker", "FtxTicker"), ("trade", "FtxTrade"), ("fill", "FtxFill"), ("order", "FtxOrder")):
        messages = [one for one in live.messages if type(one).__name__ == kind]
        assert messages
        same_rows(tables[f"ftx_{name}"], messages)
    for name, kind in (("ftx_order_book", "FtxOrderBook"), ("ftx_grouped_order_book", "FtxGroupedOrderBook")):
        seen = [one for one in live.messages if type(one).__name__ == kind]
        assert seen
        assert rebuilt(tables[name]) == [(one.market, one.bids, one.asks, one.time, one.checksum) for one in seen]
    markets = [one for one in live.messages if type(one).__name__ == "FtxMarkets"]
    assert [row["name"] for row in tables["ftx_market"]] == [name for one in markets for name in one.markets]
    assert {row["type"] for row in tables["ftx_market"]} == {"spot", "future"}


def rebuilt(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the books that the updates of levels result in."""
    books: dict[str, FtxBook] = {}
    seen = []
    updates: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        updates.setdefault(row["message"], []).append(row)
    for levels in updates.values():
        first = levels[0]
        book = books.setdefault(first["market"], FtxBook())
        bids, asks = ([(one["price"], one["size"]) for one in levels if one["side"] == side] for side in ("bid", "ask"))
        update = BookUpdate(
            market=first["market"],
            action=first["action"],
            bids=bids,
            asks=asks,
            time=first["time"],
            checksum=first["checksum"],
        )
        assert book.apply(update)
        seen.append((first["market"], book.bids(), book.asks(), first["time"], first["checksum"]))
    return seen


def check_bitmex(tables: dict[str, list[dict[str, Any]]], live: Log) -> None:
    """Check that every row that a handler received is complete in the table for its BitMEX table."""
    of_table: dict[str, list[TableItem]] = {}
    for item in live.messages:
        of_table.setdefault(f"bitmex_{item.table}", []).append(item)
    assert set(of_table) == set(tables)
    assert {"bitmex_quote", "bitmex_orderBookL2", "bitmex_order", "bitmex_execution", "bitmex_margin"} <= set(tables)
    for name, items in of_table.items():
        assert len(tables[name]) == len(items)
        for row, item in zip(tables[name], items, strict=True):
            assert row["change"] == item.action
            assert abs((row["received_at"] - at(item)).total_seconds()) < 2e-6
            for column, value in item.item.items():
                assert same_value(row, column, value), (name, column, value)


def same_value(row: dict[str, Any], column: str, value: Any) -> bool:
    """Return whether a row has a value of BitMEX's: a text as a time, or levels in adjacent columns."""
    if isinstance(value, list):
        found = [[row[f"{column}_{n}_price"], row[f"{column}_{n}_size"]] for n in range(1, len(value) + 1)]
        return found == value
    if isinstance(row[column], datetime):
        return row[column] == datetime.fromisoformat(value.replace("Z", "+00:00"))
    return row[column] == value


def check_ime(tables: dict[str, list[dict[str, Any]]], live: Log) -> None:
    """Check every section of every contract."""
    (rows,) = tables.values()
    assert len(rows) == len(live.messages)
    for row, one in zip(rows, live.messages, strict=True):
        assert (row["contractName"], row["ContractId"]) == (one.contract_name, one.contract_id)
        assert (row["buy_price_1"], row["sell_quantity_3"]) == (one.limits[0].buy_price, one.limits[2].sell_quantity)
        assert (row["last_price"], row["date"]) == (one.aggregate.last_price, one.aggregate.date)
        assert (row["minAllowedPrice"], row["open_interest"]) == (one.allowed.lowest, one.info.open_interest)
        assert json.loads(row["data"]) == one.data


CHECKS = {"finx": check_plain, "deribit": check_plain, "ftx": check_ftx, "bitmex": check_bitmex, "ime": check_ime}


# Captures of the real services


def captured(
    path: Path, venue: str, subscriptions: list[Subscription], capture: str, *, number: int | None = None
) -> int:
    """Make a recording of a capture; return its number of messages."""
    lines = re.findall(r"^(\d+\.\d+): (.*)$", material(f"captures/{capture}").read_text(encoding="utf-8"), re.M)
    recording = Recording(path, venue)
    connection = Connection("")
    for one in subscriptions:
        recording.put(SubscriptionAdded(0.0, 0.0, one, ""))
    recording.put(ConnectionOpened(0.0, 0.0, connection))
    if number is not None:
        request = Request("", "subscribe", tuple(subscriptions), number)
        recording.put(RequestSent(0.0, 0.0, connection, request))
    for stamp, text in lines:
        recording.put(Batch([text.encode()], float(stamp), float(stamp), connection))
    recording.stop()
    return len(lines)


def test_the_books_of_a_real_capture_come_from_its_recording(tmp_path: Path) -> None:
    """The real exchange's messages may differ from those of a simulator."""
    text = material("captures/ftx-2021-07-22.txt").read_text(encoding="utf-8")
    asked = [json.loads(found) for found in re.findall(r"<- [\d.]+: (\{.*\})$", text, re.M)]
    subscriptions = [Subscription(one["channel"], one["market"]) for one in asked if one.get("op") == "subscribe"]
    path = tmp_path / "capture.finxrec"
    captured(path, "FTX", subscriptions, "ftx-2021-07-22.txt")
    stream = FtxStream(url="ws://127.0.0.1:9", **OPTIONS)
    books: list[FtxOrderBook] = []
    errors: list[Exception] = []
    stream.on_orderbook(books.append)
    stream.on_error(errors.append)
    stream.replay(path, speed="max")
    assert (len(books), errors) == (971, [])
    done = stream.convert(path, tmp_path / "tables")
    trades = parquet(tmp_path / "tables" / "ftx_trade.parquet")
    assert done.rows["ftx_ticker"] == 988
    assert {row["market"] for row in trades} <= {subscription.name for subscription in subscriptions}
    levels = parquet(tmp_path / "tables" / "ftx_order_book.parquet")
    assert rebuilt(levels) == [(one.market, one.bids, one.asks, one.time, one.checksum) for one in books]


def test_the_tables_of_a_real_capture_come_from_its_recording(tmp_path: Path) -> None:
    """The real exchange's rows have fields and types that the simulator's do not have."""
    path = tmp_path / "capture.finxrec"
    captured(path, "BitMEX", [], "bitmex-2021-07-22.txt")
    stream = BitmexStream(url="ws://127.0.0.1:9", deletes=True, **OPTIONS)
    items: list[TableItem] = []
    stream.on_table(items.append)
    stream.replay(path, speed="max")
    done = stream.convert(path, tmp_path / "tables")
    del done.rows["events"]
    assert sum(done.rows.values()) == len(items) > 2089
    log = Log(messages=items)
    tables = {name: parquet(tmp_path / "tables" / f"{name}.parquet") for name in done.rows}
    assert set(tables) == {"bitmex_orderBookL2", "bitmex_quote", "bitmex_trade"}
    for name, rows in tables.items():
        mine = [item for item in log.messages if f"bitmex_{item.table}" == name]
        assert all(
            same_value(row, column, value)
            for row, item in zip(rows, mine, strict=True)
            for column, value in item.item.items()
        )
    assert isinstance(tables["bitmex_quote"][0]["timestamp"], datetime)


def test_the_answers_of_a_real_capture_are_tied_to_its_requests(tmp_path: Path) -> None:
    """A replay of Deribit would not know which subscriptions were granted."""
    text = material("captures/deribit-2021-07-22.txt").read_text()
    (request,) = re.findall(r"^wss:\S+ <- \S+: (.*)$", text, re.M)
    tickers = [one for one in json.loads(request)["params"]["channels"] if one.startswith("ticker.")]
    subscriptions = [Subscription("contract", channel.split(".")[1]) for channel in tickers]
    path = tmp_path / "capture.finxrec"
    count = captured(path, "Deribit", subscriptions, "deribit-2021-07-22.txt", number=0)
    stream = StreamManager(environment="deribit", interval="raw", **OPTIONS)
    log = Log().listen(stream)
    stream.replay(path, speed="max")
    assert log.items == [item for item in log.items if item.startswith("('ContractTick'")]
    done = stream.convert(path, tmp_path / "tables")
    assert done.rows["contract_tick"] == len(log.messages) == 89
    assert done.rows["channel_update"] == count - 90


def test_a_replay_distrusts_tables_whenever_the_live_stream_did(tmp_path: Path) -> None:
    """A replay would continue a table that was requested again live, and deliver rows that no handler received."""
    path, connection = tmp_path / "quotes.finxrec", Connection("")
    recording = Recording(path, "BitMEX")
    recording.put(SubscriptionAdded(1.0, 1.0, Subscription("topic", "orderBookL2:XBTUSD"), ""))
    recording.put(ConnectionOpened(1.0, 1.0, connection))
    row = {"symbol": "XBTUSD", "id": 1, "side": "Buy", "size": 5, "price": 7.0}
    image = {"table": "orderBookL2", "action": "partial", "keys": ["symbol", "id", "side"], "filter": {}, "data": [row]}
    update = {
        "table": "orderBookL2",
        "action": "update",
        "data": [{"symbol": "XBTUSD", "id": 1, "side": "Buy", "size": 6}],
    }
    texts: list[Any] = [image, "{", update, image, update, "{", update, image, update]
    for second, one in enumerate(texts, start=2):
        text = one if isinstance(one, str) else json.dumps(one)
        moment = second * 10.0
        recording.put(Batch([text.encode()], moment, moment, connection))
        recording.put(TimerFired(moment + 5, moment + 5))
    recording.stop()
    stream = BitmexStream(url="ws://127.0.0.1:9", **OPTIONS)
    items: list[TableItem] = []
    stream.on_table(items.append)
    stream.replay(path, speed="max")
    assert [(one.received_at, one.action) for one in items] == [
        (20.0, "partial"), (50.0, "partial"), (60.0, "update"), (90.0, "partial"), (100.0, "update"),
    ]  # fmt: skip


def test_a_replay_beside_a_live_stream_leaves_its_books_and_tables_alone(session: Session) -> None:
    """A replay in a program that trades would put yesterday's prices into today's book."""
    if session.venue not in ("ftx", "bitmex"):
        pytest.skip("it keeps no books")
    with Sandbox(exchange_interval=0.02, robots=False) as sandbox:
        live = CASES[session.venue].make(sandbox.url)
        if session.venue == "ftx":
            live.subscribe_orderbook("BTC-PERP")
        else:
            live.subscribe("orderBookL2:XBTUSD")
        with live:
            ready: Callable[[], Any] = (
                (lambda: live.order_book("BTC-PERP"))
                if session.venue == "ftx"
                else (lambda: live.storage.order_book("XBTUSD").bids)
            )
            assert wait_until(ready, 30)
            before = live.stats().messages.unreadable
            session.player().replay(session.path, speed="max")
            if session.venue == "ftx":
                book = live.order_book("BTC-PERP")
                assert book is None or (book.bids, book.asks, book.checksum) == sandbox.controls("ftx").book(
                    "BTC-PERP", book.time
                )
                assert live.duplicates == 0
            else:
                assert live.storage.keys.keys() == {"orderBookL2", "margin", "position", "order", "execution"}
            assert live.stats().messages.unreadable == before


def _content(item: str) -> str:
    """An item without when and how it came."""
    return re.sub(r"^\('(\w+)', [\d.]+|received_at=[\d.]+|'(partial|insert|update)'", r"\1", item)


def test_damage_is_a_row_and_what_follows_it_can_be_trusted(session: Session, tmp_path: Path) -> None:
    """The tables would not show that messages are missing, or a book would be continued across the damage."""
    content = bytearray(session.path.read_bytes())
    for place in range(len(content) // 3, len(content) // 2):
        content[place] ^= 1
    (path := tmp_path / "feed.finxrec").write_bytes(content)
    stream: Stream = session.player()
    log = Log().listen(stream)
    assert stream.replay(path, speed="max").damage
    assert books_balance(stream)
    # A message whose first copy is in the damage may come later, from an image or from another connection.
    assert {_content(item) for item in log.items} <= {_content(item) for item in session.live.items}
    assert len(log.items) < len(session.live.items)
    done = stream.convert(path, tmp_path / "tables")
    events = parquet(tmp_path / "tables" / "events.parquet")
    assert len(done.damage) == sum(row["event"] == "damage" for row in events) > 0
    gaps = [row for row in events if row["event"] == "gap" and row["text"] == "damaged recording"]
    told = [gap[2] for gap in log.gaps if gap[3] == "damaged recording"]
    assert sorted(row["name"] or "" for row in gaps) == sorted(told) != []
