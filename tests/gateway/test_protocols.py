"""Clients of every protocol, over real sockets, beside each other."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest
import websocket

from finx_sync import Gap, StreamManager
from finx_sync.gateway import Gateway
from tests.gateway.conftest import Served
from tests.waiting import FAST, Collector, wait_until


def opened(served: Served, path: str = "/v1/ws", **options: Any) -> websocket.WebSocket:
    return websocket.create_connection(served.gateway.ws_url + path, timeout=10, **options)


def received(client: websocket.WebSocket, count: int, kind: str = "data") -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        message = json.loads(client.recv())
        if kind in message:
            found.append(message)
    return found


def numbers(messages: list[Any]) -> list[int]:
    return [int(one["data"]["open_interest"]) for one in messages]


def lines(served: Served, greeting: str) -> Any:
    address = served.gateway.tcp_address
    assert address is not None
    connection = socket.create_connection(address, timeout=10)
    connection.sendall(greeting.encode() + b"\n")
    file = connection.makefile("rb")
    connection.close()  # the file keeps it open
    return file


def events(response: Any, count: int) -> list[tuple[str, Any]]:
    """The ids and data of server-sent events."""
    found = []
    position = ""
    while len(found) < count:
        text = response.readline().decode()
        if text.startswith("id: "):
            position = text[4:-1]
        elif text.startswith("data: ") and "data" in (value := json.loads(text[6:])):
            found.append((position, value))
    return found


def test_every_protocol_gets_the_same_in_order(served: Served) -> None:
    """A client of one protocol would see another feed than the others."""
    own = opened(served)
    own.send(json.dumps({"subscribe": ["contract:A", "B"]}))
    file = lines(served, '{"names": ["A", "contract:B"]}')
    response = urllib.request.urlopen(f"{served.gateway.url}/v1/sse?names=A,B", timeout=10)
    stream = StreamManager("any", url=served.gateway.ws_url, reconnect=FAST)
    ticks = Collector()
    stream.on_contract(ticks)
    stream.subscribe_contract("A", "B")
    with stream:
        served.wait_for_clients(4)
        assert wait_until(lambda: all(len(client.tags) == 2 for client in served.hub.clients))
        served.source.bring(1, 2, 3)
        served.source.bring(4, name="B")
        served.source.bring(5)
        served.source.bring(6, name="C")
        served.source.bring(7)
        expected = [1, 2, 3, 4, 5, 7]
        assert [int(one.open_interest) for one in ticks.wait(lambda items: len(items) == 6)] == expected
    messages = received(own, 6)
    assert numbers(messages) == expected
    assert [one["position"] for one in messages] == ["7-1", "7-2", "7-3", "7-4", "7-5", "7-7"]
    assert [one["tag"] for one in messages][3] == "contract:B"
    found: list[Any] = []
    while len(found) < 6:
        value = json.loads(file.readline())
        found += [value] if "data" in value else []
    assert found == messages
    assert events(response, 6) == [(one["position"], one) for one in messages]
    own.close()
    file.close()
    response.close()

    def have_left() -> bool:
        served.source.bring(8)  # a client of the TCP port may have closed its half only, until it refuses a message
        return not served.hub.clients

    assert wait_until(have_left)


def test_names_alone_are_enough_for_netcat(served: Served) -> None:
    """`echo NAME | nc HOST PORT` would get nothing: it closes its half of the connection after the name."""
    address = served.gateway.tcp_address
    assert address is not None
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"A BTC:USDC\n")
        connection.shutdown(socket.SHUT_WR)
        served.wait_for_wanted("contract:A", "spot:BTC:USDC")
        served.source.bring(1)
        assert numbers([json.loads(connection.makefile("rb").readline())]) == [1]


def test_the_newest_state_comes_at_once(served: Served) -> None:
    """A late client would wait for the next change of a quiet contract."""
    first = opened(served)
    first.send(json.dumps({"subscribe": ["A"]}))
    served.wait_for_wanted("contract:A")
    served.source.bring(1, 2, 3)
    assert numbers(received(first, 3)) == [1, 2, 3]
    second = opened(served)
    second.send(json.dumps({"subscribe": ["A"]}))
    assert numbers(received(second, 1)) == [3]
    first.close()
    second.close()


def test_a_client_comes_back_where_it_was(served: Served) -> None:
    """What was sent while a client was away would be lost to it."""
    client = opened(served)
    client.send(json.dumps({"subscribe": ["A"]}))
    served.wait_for_wanted("contract:A")
    served.source.bring(1, 2)
    position = received(client, 2)[-1]["position"]
    client.close()
    served.wait_for_clients(0)
    served.source.bring(3)
    served.source.bring(4, name="B")
    served.source.bring_gap(start=1.0, end=2.0, names=[], reason="trimmed", missed=3)
    served.source.bring(5)
    back = opened(served)
    back.send(json.dumps({"subscribe": ["A"], "since": position}))
    found = [json.loads(back.recv()) for _ in range(3)]
    assert numbers([found[0], found[2]]) == [3, 5]
    assert found[1]["gap"]["missed"] == 3
    back.close()
    request = urllib.request.Request(f"{served.gateway.url}/v1/sse?names=A", headers={"Last-Event-ID": position})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert numbers([value for _, value in events(response, 2)]) == [3, 5]


def test_a_position_that_is_not_kept_is_a_gap(served: Served) -> None:
    """A client that was away for too long would believe that it has everything."""
    client = opened(served)
    client.send(json.dumps({"subscribe": ["A"]}))
    served.wait_for_wanted("contract:A")
    served.source.bring(1)
    received(client, 1)
    back = opened(served)
    back.send(json.dumps({"subscribe": ["A"], "since": "6-99"}))
    gap, newest = json.loads(back.recv()), json.loads(back.recv())
    assert (gap["gap"]["reason"], gap["gap"]["names"]) == ("trimmed", ["contract:A"])
    assert numbers([newest]) == [1]
    client.close()
    back.close()


def test_gaps_and_states_come_between_the_messages(served: Served) -> None:
    """A browser would show old prices without a word."""
    client = opened(served)
    client.send(json.dumps({"subscribe": ["A"]}))
    served.wait_for_wanted("contract:A")
    served.source.bring(1)
    served.source.bring_gap(start=1.0, end=2.0, names=["A"], reason="relay lost", missed=None)
    served.source.say(served.hub, is_live=False, why="the relay is silent")
    served.source.bring(2)
    found = [json.loads(client.recv()) for _ in range(4)]
    assert [next(key for key in ("data", "gap", "state") if key in one) for one in found] == [
        "data",
        "gap",
        "state",
        "data",
    ]
    assert found[2]["state"] == {"live": False, "why": "the relay is silent"}
    client.close()


def test_a_client_without_a_word_for_gaps_is_closed(served: Served) -> None:
    """A bot on FinX's path would trade on with messages missing, and not know."""
    stream = StreamManager("any", url=served.gateway.ws_url, reconnect=FAST)
    gaps = Collector()
    stream.on_gap(gaps)
    stream.subscribe_contract("A")
    with stream:
        served.wait_for_wanted("contract:A")
        served.source.bring(1)
        served.source.bring_gap(start=1.0, end=2.0, names=["A"], reason="relay lost", missed=None)
        assert wait_until(lambda: stream.stats().reconnects == 1)
        served.wait_for_wanted("contract:A")
        served.source.bring(2)
        assert gaps.wait(len)[0].names == ("A",)


def test_unsubscribing_ends_a_name(served: Served) -> None:
    """A page would get what it does not show any more."""
    client = opened(served)
    client.send(json.dumps({"subscribe": ["A", "B"]}))
    served.wait_for_wanted("contract:A", "contract:B")
    client.send(json.dumps({"unsubscribe": ["A"]}))
    assert wait_until(lambda: served.hub.wanted == ["contract:B"])
    served.source.bring(1)
    served.source.bring(2, name="B")
    assert numbers(received(client, 1)) == [2]
    assert ("contract:A", False) in served.source.wanted
    client.close()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "no JSON", '{"subscribe": "A"}', '{"subscribe": [1]}', '{"subscribe": ["A"], "since": 7}', "[" * 5000],
)
def test_a_mistake_is_answered(served: Served, text: str) -> None:
    """A client would wait for ever, or the gateway would fall over."""
    client = opened(served)
    client.send(text)
    assert "error" in json.loads(client.recv())
    client.send(json.dumps({"subscribe": ["A"]}))
    served.wait_for_wanted("contract:A")
    client.close()


def test_health_and_metrics(served: Served) -> None:
    """Whoever watches the gateway would not see that its feed is dead."""
    url = served.gateway.url
    assert urllib.request.urlopen(f"{url}/healthz", timeout=10).read() == b"ok\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{url}/readyz", timeout=10)
    assert caught.value.code == 503
    caught.value.close()
    served.source.say(served.hub, is_live=True)
    assert wait_until(lambda: served.hub.state.is_live)
    assert urllib.request.urlopen(f"{url}/readyz", timeout=10).read() == b"ready\n"
    client = opened(served)
    client.send(json.dumps({"subscribe": ["A"]}))
    served.wait_for_wanted("contract:A")
    served.source.bring(1, 2)
    received(client, 2)
    text = urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["finx_sync_gateway_messages_total"]) == 2
    assert float(values["finx_sync_gateway_clients"]) == 1
    assert float(values["finx_sync_gateway_sent_total"]) >= 2
    feed = json.loads(urllib.request.urlopen(f"{url}/v1/feed", timeout=10).read())
    assert (feed["live"], feed["tags"], feed["clients"]) == (True, ["contract:A"], 1)
    client.close()


def test_the_page_may_load_nothing_foreign(served: Served) -> None:
    """A script of another server could be brought into the page."""
    with urllib.request.urlopen(served.gateway.url + "/", timeout=10) as response:
        assert response.headers["Content-Security-Policy"] == "default-src 'self'"
        assert response.headers["Content-Type"].startswith("text/html")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(served.gateway.url + "/page/..%2Fserver.py", timeout=10)
    assert caught.value.code == 404
    caught.value.close()


def test_the_sandbox_can_be_served() -> None:
    """`finx-sync serve --source sandbox`, the first thing that a newcomer tries, would not work."""
    with Gateway("sandbox", tcp_port=None) as gateway:
        stream = StreamManager("any", url=gateway.ws_url, reconnect=FAST)
        ticks, gaps = Collector(), Collector()
        stream.on_spot(ticks)
        stream.on_gap(gaps)
        stream.subscribe_spot("BTC:USDC")
        with stream:
            ticks.wait(lambda items: len(items) >= 3)
        assert not any(isinstance(gap, Gap) for gap in gaps.items)
