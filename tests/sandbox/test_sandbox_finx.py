"""FinX's protocol over real sockets, as the documentation and the old SDK describe it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
import websocket

from finx_sync.sandbox import Sandbox
from tests.sandbox.sandbox_client import KEY, TIMEOUT, Client

Connect = Callable[..., Client]
CONTRACT = "BTC-26AUG22-20000-C"


@pytest.mark.parametrize("path", [f"/streaming/{KEY}", f"/streamer/{KEY}", "/", f"/streaming/{KEY}?x=1"])
def test_each_multiplexed_path_answers(connect: Connect, path: str) -> None:
    """One of the documented endpoints would not exist."""
    client = connect(path)
    assert client.ask(functionName="authenticate") == {"isAuth": True}
    assert client.ask(functionName="keepAlive") == {"keepAlive": True}


FUNCTIONS: dict[str, dict[str, Any]] = {
    "authenticate": {},
    "keepAlive": {},
    "listDeribitContracts": {},
    "tickSnap": {"pair": "BTC:USDC"},
    "tickHistory": {"pair": "BTC:USD", "date": "2022-06-15", "time": "00:00"},
    "referenceData": {"securityId": CONTRACT},
    "getFiveMinMatrix": {"baseInstrument": "BTC", "fiveMinuteDateTime": "2022-08-04T04:05"},
    "getTickHistory": {"baseInstrument": "BTC", "startDate": "2022-08-04T04:05"},
}


def test_a_function_is_answered_once_and_nothing_else_is_sent(connect: Connect) -> None:
    """The SDK, which reads exactly one frame per request, would fall out of step for good."""
    client = connect()
    for name, params in FUNCTIONS.items():
        reply = client.ask(functionName=name, **params)
        assert "error" not in reply, reply
        # If anything unasked had been sent, it would be read here.
        assert client.ask(functionName="keepAlive") == {"keepAlive": True}


def test_shapes_of_the_functions_replies(connect: Connect) -> None:
    """Replies, which are recognised by their shape alone, would be taken for something else."""
    client = connect()
    replies = {name: client.ask(functionName=name, **params) for name, params in FUNCTIONS.items()}
    assert CONTRACT in replies["listDeribitContracts"]
    assert list(replies["tickSnap"]) == ["pair", "date", "time", "exchange", "price"]
    for name in ("tickHistory", "getTickHistory"):
        assert list(replies[name]) == [str(number) for number in range(1000)]
    assert replies["getTickHistory"]["0"]["date"] == "2022-08-04"
    assert min(row["time"] for row in replies["getTickHistory"].values()) > "04:05"
    assert replies["referenceData"]["securityId"] == CONTRACT
    matrix = replies["getFiveMinMatrix"]
    assert len(matrix) > 60
    assert {contract["timestamp"] for contract in matrix} == {"1659585900000"}


def test_history_agrees_with_the_table(connect: Connect, sandbox: Sandbox) -> None:
    """Tests that judge a client's backfill by `history_table` would judge by the wrong table."""
    client = connect()
    table = sandbox.controls("finx").history_table("BTC:USD", "2022-06-15")
    page = client.ask(functionName="tickHistory", pair="BTC:USD", date="2022-06-15")
    assert sorted(map(str, page.values())) == sorted(map(str, table[:1000]))
    snap = client.ask(functionName="tickSnap", pair="BTC:USD", date="2022-06-15", time=table[300]["time"])
    assert snap["time"] == table[300]["time"]
    assert client.ask(functionName="tickSnap", pair="BTC:USD", date="2022-06-15") == table[-1]
    assert client.ask(functionName="tickHistory", pair="BTC:USD", date="2099-06-15") == {}


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"functionName": "tickHistory", "pair": "BTC:EUR", "date": "2022-06-15"}, "unknown pair"),
        ({"functionName": "tickHistory", "pair": "BTC:USD", "date": "15.06.2022"}, "bad date"),
        ({"functionName": "tickHistory", "pair": "BTC:USD", "date": "2022-06-15", "time": "25:00"}, "bad time"),
        ({"functionName": "tickHistory", "pair": "BTC:USD"}, "date is missing"),
        ({"functionName": "tickSnap", "pair": 5}, "pair is missing"),
        ({"functionName": "tickSnap", "pair": "BTC:USD", "time": "05:00"}, "needs a date"),
        ({"functionName": "tickSnap", "pair": "BTC:USD", "date": "2099-01-01"}, "in the future"),
        ({"functionName": "getDeribitContractStream", "instrumentName": "BTC-1JAN20-5-C"}, "unknown contract"),
        ({"functionName": "getSpotRates", "pair": "BTCUSD"}, "unknown pair"),
        ({"functionName": "referenceData", "securityId": "912796YB9"}, "unknown contract"),
        ({"functionName": "getFiveMinMatrix", "baseInstrument": "BTC", "fiveMinuteDateTime": "2022-08-04T04:06"},
         "five-minute grid"),
        ({"functionName": "getFiveMinMatrix", "baseInstrument": "BTC", "fiveMinuteDateTime": "2099-08-04T04:05"},
         "in the future"),
        ({"functionName": "getFiveMinMatrix", "baseInstrument": "XRP", "fiveMinuteDateTime": "latest"}, "unknown base"),
        ({"functionName": "getFiveMinMatrix", "baseInstrument": "BTC", "fiveMinuteDateTime": "1999-01-01T00:00"},
         "before 2016"),
        ({"functionName": "getTickHistory", "baseInstrument": "BTC", "startDate": "2022-08-04"}, "bad startDate"),
        ({"functionName": "openSesame"}, "openSesame"),
        ({"functionName": ["authenticate"]}, "functionName"),
        ({}, "functionName"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_an_error_and_the_connection_stays(
    connect: Connect, message: dict[str, Any], says: str
) -> None:
    """A newcomer's typo would meet silence, or end all other streams."""
    client = connect()
    reply = client.ask(**message)
    assert list(reply) == ["error"]
    assert says in reply["error"]
    assert client.ask(functionName="keepAlive") == {"keepAlive": True}


@pytest.mark.parametrize("text", ["", "hello", "[]", "5", '{"APIKey"', "null", '"x"', "[" * 100_000])
def test_what_is_no_message_is_answered_with_an_error(connect: Connect, text: str) -> None:
    """Garbage would crash the sandbox instead of being pointed out."""
    client = connect()
    client.socket.send(text)
    assert "JSON object" in client.hear()["error"]


def test_a_binary_message_closes_with_1003(connect: Connect) -> None:
    """A client that sends bytes by mistake would wait for ever."""
    client = connect()
    client.socket.send_binary(b"{}")
    assert client.hear_close()[0] == 1003


def test_a_message_without_a_key_is_an_error(connect: Connect) -> None:
    """A client that forgets the key in a message would work offline and fail in production."""
    client = connect()
    client.socket.send(json.dumps({"functionName": "keepAlive"}))
    assert "APIKey is missing" in client.hear()["error"]
    assert client.ask(functionName="keepAlive") == {"keepAlive": True}


@pytest.mark.parametrize(("path", "key"), [("/streaming/wrong", KEY), (f"/streamer/{KEY}", "wrong"), ("/", "wrong")])
def test_a_wrong_key(connect: Connect, path: str, key: str) -> None:
    """A refused key could not be told apart from a dead feed."""
    client = connect(path)
    assert client.ask(APIKey=key, functionName="authenticate") == {"isAuth": False}
    assert client.ask(APIKey=key, functionName="getSpotRates", pair="BTC:USD") == {"error": "Invalid APIKey"}
    assert client.hear_close() == (1008, "Invalid APIKey")


def test_rotated_keys_hold_for_open_connections(connect: Connect, sandbox: Sandbox) -> None:
    """A client's handling of FinX's daily key change could not be tried."""
    client = connect()
    assert client.ask(functionName="authenticate") == {"isAuth": True}
    sandbox.set_keys("tomorrow")
    assert client.ask(functionName="authenticate") == {"isAuth": False}
    assert connect("/streaming/tomorrow").ask(APIKey="tomorrow", functionName="authenticate") == {"isAuth": True}


# streams


def test_streams_come_at_once_go_on_and_are_not_doubled(connect: Connect, sandbox: Sandbox) -> None:
    """A repeated subscription would double the traffic, or a new one would wait."""
    client = connect()
    for _ in range(3):
        client.say(functionName="getDeribitContractStream", instrumentName=CONTRACT)
        client.say(functionName="getSpotRates", pair="BTC:USDC")
    messages = [client.hear() for _ in range(40)]
    stamps = [message["timestamp"] for message in messages if "redis_key" in message]
    assert {message.get("instrument_name", message.get("pair")) for message in messages} == {CONTRACT, "BTC:USDC"}
    assert len(stamps) > 10
    # Doubled streams would send the same moment twice.
    assert len(set(stamps)) >= len(stamps) - 1
    (info,) = sandbox.connections()
    assert info.subscriptions == [CONTRACT, "BTC:USDC"]


def test_numbers_are_gapless_per_connection_and_name(connect: Connect) -> None:
    """A test that judges loss by the server's numbers would see gaps that are none."""
    with Sandbox(numbered=True, contract_interval=0.001, spot_interval=0.001) as numbered:
        client = Client(f"{numbered.url}/streaming/{KEY}")
        client.say(functionName="getSpotRates", pair="BTC:USDC")
        client.say(functionName="getSpotRates", pair="ETH:USD")
        seen: dict[str, list[int]] = {"BTC:USDC": [], "ETH:USD": []}
        for _ in range(300):
            message = client.hear()
            seen[message["pair"]].append(message["seq"])
        (info,) = numbered.connections()
        assert message["connection"] == info.id
        assert numbered.numbered_connections() == [info.id]
        client.close()
        assert numbered.wait_for_connections(0)
        for pair, numbers in seen.items():
            assert numbers == list(range(1, len(numbers) + 1))
            written = numbered.sent_numbers(pair, info.id)
            assert numbers[-1] in written
            assert len(written) == numbered.sent_count(pair) == numbered.sent_count(pair, info.id)
            times = numbered.sent_at(pair, info.id)
            assert len(times) == len(written)
            assert times == sorted(times)
            assert info.opened_at <= times[0]


def test_published_frames_arrive_exactly_and_in_order(connect: Connect, sandbox: Sandbox) -> None:
    """Tests that inject a frame would test another one."""
    client = connect()
    client.say(functionName="getSpotRates", pair="BTC:USDC")
    assert sandbox.wait_for_subscribers("BTC:USDC")
    assert sandbox.publish("BTC:USDC", {"price": "ü", "n": 1}) == 1
    assert sandbox.publish_raw("BTC:USDC", "not json", '{"n": 2}') == 1
    assert sandbox.publish("ETH:USD", {}) == 0
    texts: list[str] = []
    while '{"n": 2}' not in texts:
        texts.append(str(client.socket.recv()))
    assert [text for text in texts if "unixDate" not in text] == ['{"price":"ü","n":1}', "not json", '{"n": 2}']


@pytest.mark.parametrize("prefix", ["streaming", "streamer"])
def test_a_pair_in_the_url_streams_the_old_frames(connect: Connect, prefix: str) -> None:
    """Bots written for the first documentation could not be tried."""
    client = connect(f"/{prefix}/{KEY}/BTC%3AUSDC")
    for _ in range(3):
        frame = client.hear()
        assert frame["results"] == "streaming"
        assert frame["resultData"]["pair"] == "BTC:USDC"
    assert client.socket.connected


@pytest.mark.parametrize("path", [f"/streaming/{KEY}/{CONTRACT}", f"/streaming/greeks/{KEY}/{CONTRACT}"])
def test_an_instrument_in_the_url_streams_contracts(connect: Connect, path: str) -> None:
    """The announced greeks stream could not be tried."""
    client = connect(path)
    assert [client.hear()["redis_key"] for _ in range(3)] == [CONTRACT] * 3


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("/streaming/wrong/BTC:USDC", "Invalid APIKey"),
        (f"/streaming/{KEY}/NONSENSE", "unknown contract 'NONSENSE'"),
    ],
)
def test_a_url_that_cannot_be_streamed_says_why(connect: Connect, path: str, reply: str) -> None:
    """A mistake in the URL would look like a quiet market."""
    client = connect(path)
    assert client.hear()["error"].startswith(reply)
    assert client.hear_close()[0] == 1008


def test_lock_step_messages_get_one_frame_each() -> None:
    """The old Streamer class, which reads one frame per message, would fall behind for ever."""
    with Sandbox(spot_interval=30.0) as patient:  # a frame that nobody asked for would come after that time only
        client = Client(f"{patient.url}/streamer/{KEY}/BTC:USDC")
        assert client.ask(functionName="authenticate") == {"isAuth": True}
        for _ in range(50):
            assert client.ask(message="message")["results"] == "streaming"
        assert client.ask(functionName="keepAlive") == {"keepAlive": True}
        client.close()


def test_lock_step_without_a_stream(connect: Connect) -> None:
    """A message form that only the SDK knows would be refused."""
    client = connect()
    assert client.ask(message="message") == {"message": "received"}
    assert client.ask(message={"pair": "ETH:USD"})["resultData"]["pair"] == "ETH:USD"
    assert "unknown pair" in client.ask(message={"pair": "NONE"})["error"]


# one-shot functions


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/backend/?APIKey={K}", {"isAuth"}),
        ("/backend?APIKey={K}", {"isAuth"}),
        ("/backend/APIKey={K}", {"isAuth"}),
        ("/backend/APIKey%3D{K}", {"isAuth"}),
        ("/backend/APIKey={K}&pair=BTC%3AUSD", {"pair", "date", "time", "exchange", "price"}),
        ("/backend/APIKey%3D{K}%26pair%3DBTC%3AUSD", {"pair", "date", "time", "exchange", "price"}),
        ("/backend/?APIKey={K}&pair=BTC:USD&date=2022-06-15&time=21%3A27&functionName=tickSnap",
         {"pair", "date", "time", "exchange", "price"}),
        ("/backend/?APIKey={K}&pair=BTC:USD&date=2022-06-15&time=21:27", {str(n) for n in range(1000)}),
        ("/backend/APIKey={K}&pair=BTC:USD&date=2022-06-15", {str(n) for n in range(1000)}),
        ("/backend/APIKey={K}&functionName=keepAlive", {"keepAlive"}),
        ("/backend/%7B%22APIKey%22:%22{K}%22,%22functionName%22:%22keepAlive%22%7D", {"keepAlive"}),
        ("/backend/APIKey={K}&functionName=nope", {"error"}),
        ("/backend/%7Bnonsense", {"error"}),
    ],
)  # fmt: skip
def test_one_shot_functions_answer_and_close(connect: Connect, sandbox: Sandbox, path: str, shape: set[str]) -> None:
    """A way to write `[params]`, which the documentation leaves open, would not be understood."""
    client = Client(sandbox.url + path.replace("{K}", KEY))
    assert set(client.hear()) == shape
    assert client.hear_close() == (1000, "")
    client.close()


def test_one_shot_with_a_wrong_key(sandbox: Sandbox) -> None:
    """A blocking call with a wrong key could not tell the user so."""
    client = Client(f"{sandbox.url}/backend/?APIKey=wrong")
    assert client.hear() == {"isAuth": False}
    client.close()
    client = Client(f"{sandbox.url}/backend/?APIKey=wrong&pair=BTC:USD")
    assert client.hear() == {"error": "Invalid APIKey"}
    assert client.hear_close()[0] == 1008
    client.close()


# records


def test_keys_are_in_no_record(connect: Connect, sandbox: Sandbox) -> None:
    """A failing test's output would print the key."""
    client = connect(f"/streaming/greeks/{KEY}/{CONTRACT}")
    client.ask(functionName="authenticate")
    one_shot = Client(f"{sandbox.url}/backend/APIKey={KEY}&pair=BTC:USD")
    one_shot.hear_close()
    one_shot.close()
    assert (1, {"APIKey": "***", "functionName": "authenticate"}) in sandbox.requests
    assert sandbox.connections()[0].path == f"/streaming/greeks/***/{CONTRACT}"
    assert KEY not in repr((sandbox, sandbox.connections(), sandbox.requests))


# REST


def test_rest_paths(sandbox: Sandbox) -> None:
    """The REST functions of the SDK could not be tried offline."""

    def get(path: str, **params: str) -> Any:
        reply = requests.get(f"{sandbox.http_url}/backend/{path}", params={"APIKey": KEY, **params}, timeout=TIMEOUT)
        assert reply.headers["Content-Type"].startswith("application/json")
        return reply.json()

    assert "BTC:USDC" in get("observations/pairs")
    assert list(get("observations/tick/snap", pair="BTC:USD")) == ["pair", "date", "time", "exchange", "price"]
    row = get("observations/tick/snap", pair="BTC:USD", unixTimeTarget="1655328460", timeTargetWidthSeconds="60")
    assert ("2022-06-15", "21:26:40") <= (row["date"], row["time"]) <= ("2022-06-15", "21:28:41")
    assert get("observations/tick/snap", pair="BTC:USD", unixTimeTarget="4000000000") == {}
    assert get("reference/secdb", securityId=CONTRACT)["securityId"] == CONTRACT
    assert CONTRACT in get("deribit/list-deribit-contracts")
    assert "BTC-12AUG22-20000-C" in get("deribit/list-deribit-contracts", as_of_date="2022-08-05")
    options = get("observations/options/time_slice", underlying_symbol="ETH", timeslice_target_datestamp="1655328460")
    assert {contract["timestamp"] for contract in options} == {"1655328460000"}
    assert all("mark_iv" in contract for contract in options)
    assert "error" in get("observations/tick/snap", pair="NONE")
    mistake = get("observations/tick/snap", pair="BTC:USD", unixTimeTarget="1655328460", timeTargetWidthSeconds="wide")
    assert "timeTargetWidthSeconds" in mistake["error"]
    assert "UNIX time" in get("observations/tick/snap", pair="BTC:USD", unixTimeTarget="yesterday")["error"]


@pytest.mark.parametrize(("path", "status"), [("observations/pairs", 401), ("observations/pairs?APIKey=x", 401)])
def test_rest_refuses_a_wrong_key(sandbox: Sandbox, path: str, status: int) -> None:
    """A wrong key would pass offline."""
    reply = requests.get(f"{sandbox.http_url}/backend/{path}", timeout=TIMEOUT)
    assert (reply.status_code, reply.json()) == (status, {"error": "Invalid APIKey"})


def test_an_unknown_path_fails_the_handshake(sandbox: Sandbox) -> None:
    """A mistyped endpoint would look like an open connection."""
    with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
        Client(f"{sandbox.url}/stream/{KEY}")
