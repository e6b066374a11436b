"""The sandbox's Deribit, asked by a client that knows nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from finx_sync.sandbox import Sandbox
from tests.scripted import CONTRACT

TICKER = "ticker.BTC-26AUG22-20000-C.100ms"
INDEX = "deribit_price_index.btc_usd"
OPTION_KEYS = [
    "underlying_price", "underlying_index", "timestamp", "stats", "state", "settlement_price", "open_interest",
    "min_price", "max_price", "mark_price", "mark_iv", "last_price", "interest_rate", "instrument_name", "index_price",
    "greeks", "estimated_delivery_price", "bid_iv", "best_bid_price", "best_bid_amount", "best_ask_price",
    "best_ask_amount", "ask_iv",
]  # fmt: skip
"""Of a captured ticker, in its order."""


class Client:
    """Asks, and reads until the answer comes."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.notes: list[dict[str, Any]] = []
        self._number = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The whole answer to a request."""
        self._number += 1
        self.socket.send(json.dumps({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}))
        return self.read(lambda frame: frame.get("id") == self._number)

    def read(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first frame that is wanted; what comes before it is kept in `notes`."""
        while not wanted(frame := json.loads(self.socket.recv(10))):
            self.notes.append(frame)
        return frame

    def note(self, channel: str) -> dict[str, Any]:
        """The next data of a channel."""
        return self.read(lambda frame: frame.get("params", {}).get("channel") == channel)["params"]["data"]


@contextmanager
def client_of(sandbox: Sandbox, path: str = "/ws/api/v2") -> Iterator[Client]:
    """A client of the running sandbox."""
    with connect(sandbox.url + path, close_timeout=1) as socket:
        yield Client(socket)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    """The same for a test that needs one."""
    with client_of(sandbox) as one:
        yield one


def test_subscribing_is_answered_before_the_first_notification(client: Client, sandbox: Sandbox) -> None:
    """A client could not tell what was accepted, or would wait for its first ticker."""
    answer = client.ask("public/subscribe", channels=[INDEX, TICKER, "ticker.BTC-1JAN99-1-C.100ms", "x", "ticker.x.1"])
    assert client.notes == []
    assert answer["result"] == [TICKER, INDEX]
    assert answer["usDiff"] == answer["usOut"] - answer["usIn"]
    ticker = client.note(TICKER)
    assert list(ticker) == OPTION_KEYS
    assert set(ticker["greeks"]) == {"vega", "theta", "rho", "gamma", "delta"}
    assert isinstance(ticker["mark_price"], float)
    index = client.note(INDEX)
    assert (index["index_name"], abs(index["price"] / ticker["index_price"] - 1) < 0.01) == ("btc_usd", True)
    assert sandbox.wait_for_subscribers(TICKER)
    assert client.ask("public/unsubscribe", channels=[TICKER, "x"])["result"] == [TICKER]
    assert [one.subscriptions for one in sandbox.connections()] == [[INDEX]]
    assert client.note(INDEX)["timestamp"] >= index["timestamp"]


def test_a_perpetual_has_what_deribit_gives_it(client: Client) -> None:
    """A client's handling of futures would never be tried."""
    ticker = client.ask("public/ticker", instrument_name="BTC-PERPETUAL")["result"]
    assert {"current_funding", "funding_8h", "interest_value"} <= set(ticker)
    assert not {"greeks", "mark_iv", "underlying_price", "interest_rate"} & set(ticker)
    assert {"volume_usd", "volume_notional", "volume"} <= set(ticker["stats"])
    dated = client.ask("public/ticker", instrument_name="BTC-26AUG22")["result"]
    assert "current_funding" not in dated


def test_the_same_market_as_finx() -> None:
    """A strategy tried on one feed would see other prices on the other."""
    call = {"functionName": "getDeribitContractStream", "instrumentName": "BTC-26AUG22-20000-C"}
    with (
        Sandbox(clock=lambda: 1_659_760_300.724) as sandbox,
        client_of(sandbox) as client,
        connect(f"{sandbox.url}/streaming/sandbox-key") as finx,
    ):
        client.ask("public/subscribe", channels=[TICKER])
        ticker = client.note(TICKER)
        finx.send(json.dumps({"APIKey": "sandbox-key", **call}))
        contract = json.loads(finx.recv(10))
    assert list(contract) == list(CONTRACT)
    flat = {"redis_key": ticker["instrument_name"], **ticker, **ticker["greeks"], **ticker["stats"]}
    for name, text in contract.items():
        value = flat[name]
        assert (float(text) if isinstance(value, (int, float)) else text) == ("" if value is None else value)


def test_instruments_are_listed_by_settlement_currency(client: Client, sandbox: Sandbox) -> None:
    """A client that asks currency by currency would miss contracts, or see them twice."""
    every = {row["instrument_name"] for row in client.ask("public/get_instruments", currency="any")["result"]}
    assert {"BTC-26AUG22-20000-C", "BTC-PERPETUAL", "BTC_USDC-PERPETUAL"} <= every
    found: list[str] = []
    for currency in ("BTC", "ETH", "SOL", "USDC"):
        for kind in ("option", "future"):
            rows = client.ask("public/get_instruments", currency=currency, kind=kind)["result"]
            assert all(row["kind"] == kind and row["settlement_currency"] == currency for row in rows)
            found += [row["instrument_name"] for row in rows]
    assert sorted(found) == sorted(every)
    assert client.ask("public/get_instruments", currency="BTC", expired=True)["result"] == []
    option = client.ask("public/get_instrument", instrument_name="BTC-26AUG22-20000-C")["result"]
    assert (option["strike"], option["option_type"], option["expiration_timestamp"]) == (20000.0, "call", 1661500800000)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("public/subscribe", {"channels": "x"}, -32602),
        ("public/subscribe", {"channels": [f"ticker.X{number}.100ms" for number in range(501)]}, -32600),
        ("public/subscribe", {"channels": ["ticker.BTC-PERPETUAL.raw"]}, 13778),
        ("public/set_heartbeat", {"interval": 9}, -32602),
        ("public/get_instruments", {"currency": "DOGE"}, -32602),
        ("public/get_instruments", {"currency": "BTC", "kind": "car"}, -32602),
        ("public/get_instrument", {"instrument_name": "BTC-1JAN99-1-C"}, 13020),
        ("public/ticker", {"instrument_name": "x"}, 13020),
        ("public/get_index_price", {"index_name": "x"}, 13020),
        ("public/auth", {"grant_type": "client_credentials", "client_id": "sandbox-key", "client_secret": "x"}, 13004),
        ("private/get_positions", {"currency": "BTC"}, 13009),
        ("public/wibble", {}, -32601),
    ],
)
def test_mistakes_are_answered_with_their_code(client: Client, method: str, params: dict[str, Any], code: int) -> None:
    """A client's handling of errors would never be tried."""
    assert client.ask(method, **params)["error"]["code"] == code
    assert client.ask("public/test")["result"]["version"]


@pytest.mark.parametrize("text", ["{", "[]", '{"id":1}', '{"jsonrpc":"2.0","method":"public/test"}'])
def test_what_is_no_request_is_a_bad_request(client: Client, text: str) -> None:
    """A client that sends nonsense would wait for ever."""
    client.socket.send(text)
    assert json.loads(client.socket.recv(10))["error"] == {"code": 11050, "message": "bad_request"}


def test_raw_needs_a_login(client: Client) -> None:
    """The feed of every change could not be tried."""
    login = {"grant_type": "client_credentials", "client_id": "sandbox-key", "client_secret": "sandbox-secret"}
    assert client.ask("public/auth", **login)["result"]["token_type"] == "bearer"
    raw = TICKER.replace("100ms", "raw")
    assert client.ask("public/subscribe", channels=[raw])["result"] == [raw]
    assert client.note(raw)["instrument_name"] == "BTC-26AUG22-20000-C"


def test_who_answers_test_requests_stays_and_who_does_not_goes(sandbox: Sandbox) -> None:
    """A client that forgets its heartbeat would seem to be right."""
    with client_of(sandbox) as good, client_of(sandbox, "/ws/api/v2/") as bad:
        for client in (good, bad):
            assert client.ask("public/set_heartbeat", interval=10)["result"] == "ok"
        sandbox.controls("deribit").demand(within=0.3)
        for _ in range(3):
            good.read(lambda frame: frame.get("params") == {"type": "test_request"})
            assert "result" in good.ask("public/test")
            good.read(lambda frame: frame.get("params") == {"type": "heartbeat"})
        with pytest.raises(ConnectionClosed):
            bad.read(lambda frame: False)
        assert bad.socket.close_code == 1001
        assert good.ask("public/disable_heartbeat")["result"] == "ok"


def test_too_many_requests_end_the_connection(client: Client) -> None:
    """A client that asks for each contract in a request of its own would seem to be right."""
    answers = [client.ask("public/subscribe", channels=[INDEX]) for _ in range(10)]
    assert all("result" in answer for answer in answers)
    errors = (client.ask("public/subscribe", channels=[INDEX]).get("error") for _ in range(100))
    assert next(filter(None, errors))["code"] == 10028
    with pytest.raises(ConnectionClosed):
        client.read(lambda frame: False)
