"""The keyed tables, beside a naive model that searches lists from the first row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finx_sync.errors import InvalidInputError
from finx_sync.venues.bitmex import Level, Storage, TableUpdate

BOOK_KEYS = ["symbol", "id", "side"]


def partial(table: str, keys: list[str], data: list[Any], **chosen: Any) -> TableUpdate:
    """An image of the rows that `chosen` filters."""
    return TableUpdate(table=table, action="partial", data=data, key_fields=keys, filter=chosen)


def change(table: str, action: Any, *data: Any) -> TableUpdate:
    """News about rows."""
    return TableUpdate(table=table, action=action, data=list(data))


def level(id_: int, side: str, size: int, symbol: str = "XBTUSD", **more: Any) -> dict[str, Any]:
    """A row of a book."""
    return {"symbol": symbol, "id": id_, "side": side, "size": size, **more}


def fed(*updates: TableUpdate, now: float = 0.0) -> Storage:
    """A storage that has seen these."""
    storage = Storage()
    for update in updates:
        storage.apply(update, now)
    return storage


class Model:
    """The rules in their plainest form: one list for each table, searched from its beginning."""

    def __init__(self) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.keys: dict[str, list[str]] = {}
        self.covered: dict[str, list[dict[str, Any]]] = {}

    def apply(self, update: TableUpdate) -> None:
        rows = self.tables.setdefault(update.table, [])
        covered = self.covered.setdefault(update.table, [])
        if update.action == "partial":
            chosen = update.filter or {}
            rows[:] = [row for row in rows if not all(row[name] == value for name, value in chosen.items())]
            self.keys[update.table] = update.key_fields or []
            if not chosen:
                covered.clear()
            covered.append(chosen)
        for change in update.data:
            if not any(all(change.get(name) == value for name, value in chosen.items()) for chosen in covered):
                continue
            keys = self.keys[update.table]
            found = [row for row in rows if keys and all(row[key] == change[key] for key in keys)]
            if update.action in ("partial", "insert"):
                for row in found:
                    rows.remove(row)
                rows.append(dict(change))
            elif update.action == "update" and found:
                found[0].update(change)
            elif update.action == "delete" and found:
                rows.remove(found[0])


def canonical(rows: list[dict[str, Any]]) -> list[Any]:
    return sorted(sorted(row.items()) for row in rows)


symbols = st.sampled_from(["XBTUSD", "ETHUSD", "SOLUSD"])
book_row = st.builds(
    lambda symbol, id_, size: {"symbol": symbol, "id": id_, "side": "Buy" if id_ < 3 else "Sell", "size": size},
    symbols,
    st.integers(0, 6),
    st.integers(1, 99),
)
position_row = st.builds(
    lambda symbol, size: {"account": 1, "symbol": symbol, "size": size}, symbols, st.integers(1, 9)
)
execution_row = st.builds(
    lambda id_, symbol, size: {"execID": f"{symbol}{id_}", "symbol": symbol, "size": size},
    st.integers(0, 6),
    symbols,
    st.integers(1, 99),
)
TABLES = [
    ("orderBookL2", BOOK_KEYS, book_row),
    ("orderBookL2_25", BOOK_KEYS, book_row),
    ("position", ["account", "symbol"], position_row),
    ("execution", ["execID"], execution_row),
    ("trade", [], book_row),
]


def whole(rows: list[dict[str, Any]], keys: list[str], chosen: dict[str, Any]) -> list[dict[str, Any]]:
    """What a server would put into a partial: rows of its filter, each key once."""
    rows = [row for row in rows if all(row[name] == value for name, value in chosen.items())]
    return list({tuple(row[key] for key in keys): row for row in rows}.values()) if keys else rows


@st.composite
def updates(draw: st.DrawFn) -> TableUpdate:
    table, keys, row = draw(st.sampled_from(TABLES))
    rows = draw(st.lists(row, max_size=4))
    action = draw(st.sampled_from(["partial", "insert", "insert", "update", "delete"]))
    if action == "partial":
        chosen: dict[str, Any] = draw(st.just({}) | st.builds(lambda symbol: {"symbol": symbol}, symbols))
        return partial(table, keys, whole(rows, keys, chosen), **chosen)
    if action == "delete":
        rows = [{name: value for name, value in one.items() if name != "size"} for one in rows]
    return change(table, action, *rows)


@settings(max_examples=settings.default.max_examples * 3)
@given(st.lists(updates(), max_size=25))
def test_any_sequence_of_messages_leaves_what_the_naive_model_has(sequence: list[TableUpdate]) -> None:
    """Some order of partials and changes would leave a table wrong."""
    storage, model = Storage(), Model()
    for update in sequence:
        storage.apply(update, 0.0)
        model.apply(update)
        storage.lost.clear()
    for table, rows in model.tables.items():
        assert canonical(storage.rows(table)) == canonical(rows)
        for symbol in ("XBTUSD", "ETHUSD", "SOLUSD"):
            mine = [row for row in rows if row["symbol"] == symbol]
            assert canonical(storage.rows(table, symbol)) == canonical(mine)
        for row in rows:
            found = storage.find_item_by_keys(table, row)
            assert found == row or (not model.keys[table] and found is not None)
    assert set(storage.data) == {table for table, covered in model.covered.items() if covered}
    assert storage.keys == model.keys


@given(st.lists(book_row, max_size=40))
def test_a_book_is_sorted_both_ways(rows: list[dict[str, Any]]) -> None:
    """A bot would take a price from the middle of the book for the best one."""
    rows = whole([{**row, "price": 100 - row["id"]} for row in rows], BOOK_KEYS, {"symbol": "XBTUSD"})
    book = fed(partial("orderBookL2", BOOK_KEYS, rows, symbol="XBTUSD")).order_book("XBTUSD")
    assert book.bids == sorted((level for level in book.bids), key=lambda level: -level.price)
    assert book.asks == sorted((level for level in book.asks), key=lambda level: level.price)
    assert len(book.bids) + len(book.asks) == len(rows)


def test_an_update_without_a_price_keeps_the_one_of_its_id() -> None:
    """Sizes would stand at no price."""
    storage = fed(
        partial("orderBookL2", BOOK_KEYS, [level(1, "Buy", 10, price=99.5), level(2, "Sell", 20, price=100)]),
        change("orderBookL2", "update", level(1, "Buy", 15)),
    )
    assert storage.order_book("XBTUSD").bids == [Level(99.5, 15, 1)]
    (row,) = storage.apply(change("orderBookL2", "update", level(2, "Buy", 7)), 0.0)  # the market has gone up
    assert row == level(2, "Buy", 7, price=100)
    assert storage.order_book("XBTUSD").asks == []
    assert [one.price for one in storage.order_book("XBTUSD").bids] == [100, 99.5]
    assert storage.lost == set()


def test_the_fullest_book_is_taken() -> None:
    """`order_book` would be empty for whoever subscribes one of the shorter ones."""
    ten = {"symbol": "XBTUSD", "bids": [[99, 1], [98, 2]], "asks": [[101, 3]], "timestamp": "t"}
    storage = fed(partial("orderBook10", ["symbol"], [ten]))
    assert storage.order_book("XBTUSD").bids == [Level(99, 1, None), Level(98, 2, None)]
    assert storage.order_book("ETHUSD") == ("ETHUSD", [], [])
    storage.apply(partial("orderBookL2_25", BOOK_KEYS, [level(1, "Buy", 10, price=99.5)], symbol="XBTUSD"), 0.0)
    assert storage.order_book("XBTUSD").bids == [Level(99.5, 10, 1)]
    assert storage.order_book("XBTUSD").asks == []


def test_news_before_the_partial_are_ignored() -> None:
    """An old change would be merged into a new image."""
    storage = fed(change("quote", "insert", {"symbol": "XBTUSD"}), partial("quote", [], [], symbol="ETHUSD"))
    assert storage.apply(change("quote", "insert", {"symbol": "XBTUSD"}, {"symbol": "ETHUSD"}), 0.0) == [
        {"symbol": "ETHUSD"}
    ]
    assert storage.data["quote"] == [{"symbol": "ETHUSD"}]
    assert storage.is_ready("quote", "ETHUSD")
    assert not storage.is_ready("quote", "XBTUSD")
    storage.forget("quote", "ETHUSD")
    assert storage.apply(change("quote", "insert", {"symbol": "ETHUSD"}), 0.0) == []
    storage.apply(partial("quote", [], [{"symbol": "ETHUSD", "n": 2}], symbol="ETHUSD"), 0.0)
    storage.suspend(["quote", "trade"])
    assert not storage.is_ready("quote", "ETHUSD")
    assert storage.apply(change("quote", "insert", {"symbol": "ETHUSD"}), 0.0) == []
    assert storage.rows("quote") == [{"symbol": "ETHUSD", "n": 2}]
    storage.clear(["quote"])
    assert dict(storage.data) == {}


def test_rows_that_do_not_say_whose_they_are_wait_for_any_image() -> None:
    """An order's change that lacks its symbol would be lost, or come before the image."""
    storage = fed(partial("order", ["orderID"], [{"orderID": 1, "symbol": "XBTUSD", "leavesQty": 5}], symbol="XBTUSD"))
    (row,) = storage.apply(change("order", "update", {"orderID": 1, "leavesQty": 4}), 0.0)
    assert row == {"orderID": 1, "symbol": "XBTUSD", "leavesQty": 4}
    assert storage.apply(change("order", "update", {"orderID": 2, "symbol": "ETHUSD"}), 0.0) == []
    storage.suspend(["order"])
    assert storage.apply(change("order", "update", {"orderID": 1, "leavesQty": 3}), 0.0) == []


def test_changes_of_rows_that_are_not_there_are_told() -> None:
    """A table that has gone wrong would stay so in silence."""
    storage = fed(partial("orderBookL2", BOOK_KEYS, [], symbol="XBTUSD"), partial("trade", [], []))
    assert storage.apply(change("orderBookL2", "update", level(1, "Buy", 1)), 0.0) == []
    assert storage.apply(change("orderBookL2", "delete", {"symbol": "XBTUSD", "id": 1, "side": "Buy"}), 0.0) == []
    assert storage.lost == {("orderBookL2", "XBTUSD")}
    storage.apply(change("trade", "update", {"symbol": "ETHUSD"}), 0.0)
    storage.apply(change("orderBookL2", "insert", {"symbol": "XBTUSD", "size": 1}), 0.0)
    assert storage.lost == {("orderBookL2", "XBTUSD"), ("trade", "ETHUSD"), ("orderBookL2", None)}


def test_rows_are_capped_except_orders_and_books() -> None:
    """A week of quotes would fill the memory; a capped book would be wrong."""
    data = [{"symbol": "XBTUSD", "n": n} for n in range(1000)]
    storage = fed(partial("quote", [], []), partial("execution", ["execID"], []), partial("order", ["orderID"], []))
    storage.apply(partial("orderBookL2", BOOK_KEYS, []), 0.0)
    storage.apply(change("quote", "insert", *data, {"symbol": "ETHUSD", "n": 0}), 0.0)
    storage.apply(change("execution", "insert", *({"execID": n} for n in range(1000))), 0.0)
    storage.apply(change("order", "insert", *({"orderID": n, "leavesQty": 1} for n in range(1000))), 0.0)
    storage.apply(change("orderBookL2", "insert", *(level(n, "Buy", 1, price=n) for n in range(1000))), 0.0)
    assert storage.rows("quote", "XBTUSD") == data[-200:]
    assert len(storage.rows("quote", "ETHUSD")) == 1  # a busy symbol does not push a quiet one out
    assert [row["execID"] for row in storage.data["execution"]] == list(range(800, 1000))
    assert (len(storage.data["order"]), len(storage.data["orderBookL2"])) == (1000, 1000)


@pytest.mark.parametrize("ending", [{"leavesQty": 0}, {"ordStatus": "Canceled"}])
def test_finished_orders_are_removed_after_a_minute(ending: dict[str, Any]) -> None:
    """A bot would see orders for ever, or not see how they ended."""
    storage = fed(partial("order", ["orderID"], [{"orderID": "a", "leavesQty": 5}, {"orderID": "b", "leavesQty": 5}]))
    (row,) = storage.apply(change("order", "update", {"orderID": "a", **ending}), 100.0)
    assert row == {"orderID": "a", "leavesQty": 5} | ending
    storage.expire(159.9)
    assert len(storage.data["order"]) == 2
    storage.apply(change("quote", "insert", {}), 160.0)  # any message will do
    assert [order["orderID"] for order in storage.data["order"]] == ["b"]
    assert storage.lost == set()


def test_an_order_that_comes_back_to_life_stays() -> None:
    """An amended order would vanish while it is open."""
    storage = fed(partial("order", ["orderID"], [{"orderID": "a", "leavesQty": 0}]))
    storage.apply(change("order", "update", {"orderID": "a", "leavesQty": 3}), 1.0)
    storage.expire(1000.0)
    assert len(storage.data["order"]) == 1


def test_rows_are_pictures_of_their_moment() -> None:
    """A handler that keeps a row would see it change under its hands."""
    storage = fed(partial("instrument", ["symbol"], [{"symbol": "XBTUSD", "lastPrice": 1}]))
    before = storage.data["instrument"][0]
    storage.apply(change("instrument", "update", {"symbol": "XBTUSD", "lastPrice": 2}), 0.0)
    assert (before["lastPrice"], storage.data["instrument"][0]["lastPrice"]) == (1, 2)


def test_looking_up_a_row_wants_its_keys() -> None:
    """A forgotten key field would find nothing, and nobody would know why."""
    storage = fed(partial("position", ["account", "symbol"], [{"account": 1, "symbol": "XBTUSD", "size": 3}]))
    assert storage.find_item_by_keys("position", {"account": 1, "symbol": "XBTUSD"}) == storage.data["position"][0]
    assert storage.find_item_by_keys("position", {"account": 2, "symbol": "XBTUSD"}) is None
    assert storage.find_item_by_keys("order", {}) is None
    with pytest.raises(InvalidInputError, match="account, symbol; account is missing"):
        storage.find_item_by_keys("position", {"symbol": "XBTUSD"})
    with pytest.raises(KeyError):
        storage.data["order"]
