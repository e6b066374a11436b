"""The sandbox's BitMEX, through a plain socket: upgrade, commands, errors, tables, the account."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
import websocket

from finx_sync.errors import InvalidInputError
from finx_sync.sandbox import Sandbox
from tests.material import material
from tests.sandbox.sandbox_client import Client

SECRET = "sandbox-secret"
Connect = Callable[..., Client]
PRIVATE = "account,affiliate,execution,margin,order,position,privateNotifications,transact,wallet"


def credentials(secret: str = SECRET, key: str = "sandbox-key", after: float = 60) -> dict[str, str]:
    """What a client signs with, its own way of computing it."""
    expires = str(int(time.time() + after))
    signature = hmac.new(secret.encode(), b"GET/realtime" + expires.encode(), hashlib.sha256).hexdigest()
    return {"api-expires": expires, "api-key": key, "api-signature": signature}


def op(client: Client, name: str, args: Any) -> None:
    """Send a command."""
    client.socket.send(json.dumps({"op": name, "args": args}))


def hear_until(client: Client, is_it: Callable[[Any], object]) -> Any:
    """Read on to a frame."""
    while True:
        frame = client.hear()
        if is_it(frame):
            return frame


def test_the_welcome_comes_first(connect: Connect) -> None:
    """Clients wait for it."""
    welcome = connect("/realtime").hear()
    assert welcome["info"] == "Welcome to the BitMEX Realtime API."
    assert {"version", "timestamp", "docs", "limit"} <= welcome.keys()
    assert welcome["limit"]["remaining"] > 0


def test_acknowledgements_come_first_then_the_images_as_captured(connect: Connect) -> None:
    """A client that relies on the order or the shape of the real service would fail."""
    client = connect("/realtime")
    client.hear()
    topics = ["quote:XBTUSD", "trade:XBTUSD", "orderBookL2:XBTUSD", "instrument:XBTUSD"]
    op(client, "subscribe", topics)
    request = {"op": "subscribe", "args": topics}
    assert [client.hear() for _ in topics] == [
        {"success": True, "subscribe": topic, "request": request} for topic in topics
    ]
    tables = json.loads(material("vectors/bitmex_tables.json").read_text())
    for topic in topics:
        table = topic.split(":")[0]
        image = hear_until(client, lambda frame, table=table: frame["table"] == table)
        facts = tables[table]
        assert list(image) == ["table", "action", "keys", "types", "foreignKeys", "attributes", "filter", "data"]
        assert (image["action"], image["keys"], image["types"]) == ("partial", facts["keys"], facts["types"])
        assert (image["foreignKeys"], image["attributes"]) == (facts["foreignKeys"], facts["attributes"])
        assert image["filter"] == {"symbol": "XBTUSD"}
        assert list(image["data"][0]) == list(facts["types"])
    update = hear_until(client, lambda frame: frame["action"] == "update" and frame["table"] == "orderBookL2")
    assert list(update) == ["table", "action", "data"]
    assert {frozenset(row) for row in update["data"]} == {frozenset({"symbol", "id", "side", "size"})}


def test_numbers_are_minimal(connect: Connect) -> None:
    """``6063.0`` is not what BitMEX sends."""
    client = connect("/realtime?subscribe=orderBookL2:XBTUSD,instrument:XBTUSD")
    texts = [client.socket.recv() for _ in range(5)]
    assert any('"price":' in text for text in texts)
    assert not any(".0," in text or ".0}" in text for text in texts)


def test_topics_by_url_and_unsubscribing(connect: Connect, sandbox: Sandbox) -> None:
    """The official clients subscribe so."""
    client = connect("/realtime?subscribe=quote:XBTUSD,chat")
    client.hear()
    assert [client.hear()["subscribe"], client.hear()["subscribe"]] == ["quote:XBTUSD", "chat"]
    hear_until(client, lambda frame: frame.get("table") == "chat")
    op(client, "unsubscribe", "quote:XBTUSD")
    frame = hear_until(client, lambda frame: "unsubscribe" in frame)
    assert frame["request"]["args"] == "quote:XBTUSD"
    assert [one.subscriptions for one in sandbox.connections()] == [["chat"]]
    op(client, "subscribe", "quote")
    assert hear_until(client, lambda frame: frame.get("action") == "partial")["filter"] == {}
    op(client, "subscribe", ["quoteBin1m:*"])
    assert len(hear_until(client, lambda frame: frame.get("table") == "quoteBin1m")["data"]) == 3


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"secret": "wrong"}, 401, "Signature not valid."),
        ({"key": "unknown"}, 401, "Invalid API Key."),
        ({"after": -10}, 401, "This request has expired"),
    ],
)
@pytest.mark.parametrize("as_query", [False, True])
def test_bad_credentials_are_refused_at_the_upgrade(
    sandbox: Sandbox, changes: dict[str, Any], status: int, said: str, as_query: bool
) -> None:
    """A client would believe itself logged in, or wait for a close frame that never comes."""
    given = credentials(**changes)
    url, header = (f"?{urlencode(given)}", {}) if as_query else ("", given)
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        Client(f"{sandbox.url}/realtime{url}", header=header)
    assert caught.value.status_code == status
    assert said.encode() in caught.value.resp_body


@pytest.mark.parametrize("as_query", [False, True])
def test_good_credentials_open_the_account(connect: Connect, as_query: bool) -> None:
    """Private tables would stay shut; milliseconds as expiry pass as a far future, as they do at BitMEX."""
    given = credentials(after=time.time() * 999)
    client = connect(f"/realtime?{urlencode(given)}") if as_query else connect("/realtime", header=given)
    op(client, "subscribe", ["margin", "order:XBTUSD", "position"])
    image = hear_until(client, lambda frame: frame.get("table") == "margin")
    assert image["filter"] == {"account": image["data"][0]["account"]}
    assert image["data"][0]["walletBalance"] == 1_000_000_000
    assert hear_until(client, lambda frame: frame.get("table") == "order")["filter"] == {
        **image["filter"],
        "symbol": "XBTUSD",
    }


def test_authorizing_by_command(connect: Connect) -> None:
    """The documentation's second way in; a failure ends the connection."""
    given = credentials()
    client = connect("/realtime")
    client.hear()
    op(client, "authKeyExpires", [given["api-key"], int(given["api-expires"]), given["api-signature"]])
    assert client.hear()["success"] is True
    op(client, "subscribe", ["wallet"])
    assert hear_until(client, lambda frame: "table" in frame)["data"][0]["currency"] == "XBt"
    op(client, "authKeyExpires", [given["api-key"], int(given["api-expires"]), given["api-signature"]])
    assert hear_until(client, lambda frame: "error" in frame)["status"] == 400
    other = connect("/realtime")
    other.hear()
    op(other, "authKeyExpires", [given["api-key"], given["api-expires"], given["api-signature"]])  # must be a number
    assert other.hear()["error"] == "Signature not valid."
    assert other.hear_close()[0] == 1008


LOCKED = "User requested an account-locked subscription but no authorization was provided."
NOTES = {"notes": f"Account-locked tables include the following: {PRIVATE}"}
SEE = "Please see the documentation at https://www.bitmex.com/app/wsAPI."


@pytest.mark.parametrize(
    ("command", "status", "said", "meta"),
    [
        (("subscribe", ["margin"]), 401, LOCKED, NOTES),
        (("subscribe", ["trade:NOPE"]), 400, "Unknown or expired symbol.", {}),
        (("subscribe", "wibble"), 400, "Unknown table: wibble", {}),
        (("subscribe", ["chat"]), 400, f"You are already subscribed to this topic:chat. {SEE}", {}),
        (("subscribe", ["quote"] * 21), 400, "Too many args sent. Max length is 20", {}),
        (("unsubscribe", ["quote"]), 400, "You are not subscribed to this topic:quote.", {}),
        (("cancelAllAfter", 60000), 401, "Authorization Required", {}),
        (("wibble", []), 400, "Unknown op: wibble", {}),
    ],
)
def test_errors_echo_the_request(
    connect: Connect, command: tuple[str, Any], status: int, said: str, meta: dict[str, str]
) -> None:
    """A client could not tell which of its requests failed."""
    client = connect("/realtime?subscribe=chat")
    hear_until(client, lambda frame: "table" in frame)
    op(client, *command)
    assert client.hear() == {
        "status": status,
        "error": said,
        "meta": meta,
        "request": {"op": command[0], "args": command[1]},
    }
    client.socket.send("ping")
    assert client.socket.recv() == "pong"


def test_a_bad_topic_in_the_url_ends_the_connection_but_an_account_table_without_a_key_does_not(
    connect: Connect,
) -> None:
    """The official client asks for account tables also without a key."""
    assert connect("/realtime?subscribe=trade:NOPE").hear_close()[0] == 1008
    client = connect("/realtime?subscribe=margin,quote:XBTUSD")
    assert client.hear()["info"]
    assert client.hear()["status"] == 401
    assert hear_until(client, lambda frame: "table" in frame)["table"] == "quote"


def test_help_and_nonsense(connect: Connect) -> None:
    """A person at a console would get no answer."""
    client = connect("/realtimePlatform")
    client.hear()
    client.socket.send("help")
    answer = client.hear()
    assert "cancelAllAfter" in answer["ops"]
    assert ",".join(answer["subscriptionSubjects"]["authenticationRequired"]) == PRIVATE
    for _ in range(20):
        client.socket.send("{")
    assert client.hear()["status"] == 400
    assert client.hear_close() == (1008, "too many errors")


def test_orders_open_fill_and_close(connect: Connect) -> None:
    """Bots could not be tried without money."""
    with Sandbox(robots=False, exchange_interval=0.01) as sandbox:
        client = Client(f"{sandbox.url}/realtime", header=credentials())
        client.hear()
        op(client, "subscribe", ["order", "execution", "position"])
        for _ in range(6):
            client.hear()
        order = sandbox.controls("bitmex").place("XBTUSD", "buy", 200, price=1000.0, client_id="mine")
        assert [one.id for one in sandbox.controls("bitmex").open_orders("XBTUSD")] == [order.id]
        inserted = hear_until(client, lambda frame: frame["table"] == "order")
        assert inserted["action"] == "insert"
        assert {**inserted["data"][0], "ordStatus": "New", "leavesQty": 200, "clOrdID": "mine", "price": 1000} == (
            inserted["data"][0]
        )
        sandbox.controls("bitmex").cancel(order.id)
        update = hear_until(client, lambda frame: frame["table"] == "order")
        assert update["action"] == "update"
        assert (update["data"][0]["ordStatus"], update["data"][0]["leavesQty"]) == ("Canceled", 0)
        assert "price" not in update["data"][0]
        sandbox.controls("bitmex").place("XBTUSD", "sell", 300)
        trade = hear_until(client, lambda f: f["table"] == "execution" and f["data"][0]["execType"] == "Trade")
        assert (trade["data"][0]["lastQty"], trade["data"][0]["ordStatus"]) == (300, "Filled")
        position = hear_until(client, lambda frame: frame["table"] == "position")["data"][0]
        assert (position["currentQty"], position["isOpen"]) == (-300, True)
        assert position["avgEntryPrice"] == pytest.approx(trade["data"][0]["lastPx"])
        assert sandbox.controls("bitmex").rows("order") == []
        with pytest.raises(InvalidInputError):
            sandbox.controls("bitmex").place("XBTUSD", "buy", -1)
        client.close()


def test_the_dead_mans_switch_cancels_when_nobody_renews_it(connect: Connect) -> None:
    """Orders of a bot that died would stay."""
    with Sandbox(robots=False, exchange_interval=0.01) as sandbox:
        client = Client(f"{sandbox.url}/realtime", header=credentials())
        client.hear()
        sandbox.controls("bitmex").place("XBTUSD", "buy", 200, price=1000.0)
        op(client, "cancelAllAfter", 60_000)
        answer = client.hear()
        assert list(answer) == ["now", "cancelTime", "request"]
        op(client, "cancelAllAfter", 0)
        assert client.hear()["cancelTime"] == 0
        op(client, "cancelAllAfter", 50)
        client.hear()
        client.close()
        deadline = time.monotonic() + 10
        while sandbox.controls("bitmex").open_orders() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sandbox.controls("bitmex").open_orders() == []


def test_all_venues_show_one_market(connect: Connect) -> None:
    """A bot that trades between venues would see a market that cannot be."""
    with Sandbox(clock=lambda: 1_659_760_300.724) as sandbox:
        finx = Client(f"{sandbox.url}/streaming/sandbox-key")
        finx.say(functionName="getDeribitContractStream", instrumentName="BTC-PERPETUAL")
        contract = finx.hear()
        finx.say(functionName="getSpotRates", pair="BTC:USD")
        spot = hear_until(finx, lambda frame: "pair" in frame)
        bitmex = Client(f"{sandbox.url}/realtime?subscribe=quote:XBTUSD")
        quote = hear_until(bitmex, lambda frame: frame.get("table") == "quote")["data"][0]
        assert quote["timestamp"] == "2022-08-06T04:31:40.724Z"
        assert quote["bidPrice"] == float(contract["best_bid_price"])
        assert quote["askPrice"] == float(contract["best_ask_price"])
        ftx = Client(f"{sandbox.url}/ws/")
        ftx.socket.send(json.dumps({"op": "subscribe", "channel": "ticker", "market": "BTC-PERP"}))
        ticker = hear_until(ftx, lambda frame: "data" in frame)["data"]
        assert (ticker["bid"], ticker["ask"]) == (quote["bidPrice"], quote["askPrice"])
        ftx.close()
        assert float(spot["price"]) == pytest.approx(quote["bidPrice"], rel=0.001)
        finx.close()
        bitmex.close()


def test_a_sandbox_that_was_started_again_goes_on(sandbox: Sandbox) -> None:
    """Its tables would stand still."""
    for _ in range(2):
        client = Client(f"{sandbox.url}/realtime?subscribe=quote:XBTUSD")
        assert hear_until(client, lambda frame: frame.get("action") == "insert")
        client.close()
        sandbox.stop()
        sandbox.start()
