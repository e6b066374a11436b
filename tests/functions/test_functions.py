"""The blocking functions: short-lived connections to real servers."""

from __future__ import annotations

import datetime as dt
import json
import threading
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

import finx_sync
from finx_sync import AuthorizationError, StreamManager, Tick
from finx_sync.errors import (
    ConnectionLostError,
    FunctionTimeoutError,
    InvalidInputError,
    ServerRefusedError,
    UnexpectedReplyError,
    UnreadableMessageError,
)
from finx_sync.sandbox import Sandbox
from tests.scripted import CONTRACT, TICK, ScriptedServer

FORMS = ["query", "segment", "message"]


def manager(url: str, **options: Any) -> StreamManager:
    """A manager of a test's own server."""
    return StreamManager("sandbox-key", url=url, **options)


def answering(*frames: str) -> ScriptedServer:
    """A server that answers whatever comes with the same frames."""

    def script(connection: ServerConnection) -> None:
        for frame in frames:
            connection.send(frame)

    return ScriptedServer(script)


@pytest.mark.parametrize("form", FORMS)
def test_every_function_in_every_form(sandbox: Sandbox, form: Any) -> None:
    """A server that takes requests in another of the documented ways could not be used."""
    stream = manager(sandbox.url, request_form=form)
    assert stream.authenticate() is True
    snap = stream.get_tick_snap("BTC:USD")
    assert isinstance(snap, Tick)
    assert snap.pair == "BTC:USD"
    rows = stream.get_tick_history("BTC:USD", "2022-06-15", "12:00", limit=1000)
    assert len(rows) == 1000
    assert rows == sorted(rows, key=lambda row: row.datetime)
    assert rows[0].datetime >= dt.datetime(2022, 6, 15, 12, tzinfo=dt.timezone.utc)
    assert "BTC-26AUG22-20000-C" in stream.list_contracts()
    matrix = stream.get_five_minute_matrix("BTC")
    assert len(matrix) > 10
    assert all(contract.name.startswith("BTC") for contract in matrix)
    assert isinstance(stream.get_reference_data("BTC-26AUG22-20000-C"), dict)
    assert stream.call("keepAlive") == {"keepAlive": True}
    assert stream.call("tickSnap", pair="ETH:USD")["pair"] == "ETH:USD"


def test_functions_without_a_manager(sandbox: Sandbox) -> None:
    """A script that wants one price would have to make a manager."""
    where = {"api_key": "sandbox-key", "url": sandbox.url}
    assert finx_sync.authenticate(**where)
    assert finx_sync.get_tick_snap("BTC:USD", **where).pair == "BTC:USD"
    assert len(finx_sync.get_tick_history("BTC:USD", "2022-06-15", limit=1000, **where)) == 1000
    assert finx_sync.list_contracts(**where)
    assert finx_sync.get_five_minute_matrix("ETH", **where)
    assert finx_sync.get_reference_data("BTC-PERPETUAL", **where)
    assert finx_sync.call("tickSnap", params={"pair": "BTC:USD"}, **where)["pair"] == "BTC:USD"


def test_many_at_once(sandbox: Sandbox) -> None:
    """Calls from several threads would get each other's answers."""
    stream = manager(sandbox.url)
    pairs = ["BTC:USD", "ETH:USD", "BTC:USDC", "ETH:USDC"] * 4
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda pair=pair: answers.append((pair, stream.get_tick_snap(pair).pair)))  # type: ignore[misc]
        for pair in pairs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == len(pairs)
    assert all(asked == got for asked, got in answers)


@pytest.mark.parametrize("form", FORMS)
def test_a_refused_key(sandbox: Sandbox, form: Any) -> None:
    """A wrong key would look like a missing answer."""
    stream = StreamManager("wrong-key", url=sandbox.url, request_form=form)
    with pytest.raises(AuthorizationError, match="key"):
        stream.authenticate()
    with pytest.raises((ServerRefusedError, AuthorizationError)) as caught:
        stream.list_contracts()
    assert "wrong-key" not in str(caught.value)


def test_the_servers_words_are_told(sandbox: Sandbox) -> None:
    """The user would have to guess what the server did not like."""
    with pytest.raises(ServerRefusedError, match="tickSnap") as caught:
        manager(sandbox.url).get_tick_snap("NO:SUCH")
    assert caught.value.said


def test_timeouts_cover_the_whole_call() -> None:
    """A server that takes the question and never answers would hang the program."""
    with ScriptedServer() as server, pytest.raises(FunctionTimeoutError, match="tickSnap"):
        manager(server.url).get_tick_snap("BTC:USD", timeout=0.2)


def test_a_disconnect_fails_the_call_at_once() -> None:
    """A call would wait for its whole timeout although the server is gone."""
    with (
        ScriptedServer(lambda connection: connection.close(1011, "boom")) as server,
        pytest.raises(ConnectionLostError, match="boom"),
    ):
        manager(server.url).get_tick_snap("BTC:USD", timeout=3600)


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        ('["a"]', UnexpectedReplyError),
        ('{"hello": 1}', UnexpectedReplyError),
        (json.dumps(CONTRACT), UnexpectedReplyError),
        ("{", UnreadableMessageError),
        (json.dumps({**TICK, "price": "nan"}), UnreadableMessageError),
        ('{"error": "no data"}', ServerRefusedError),
        ('{"isAuth": false}', AuthorizationError),
    ],
)
def test_wrong_answers_are_typed_errors(frame: str, error: type[Exception]) -> None:
    """A server's nonsense would come back as data, or as an AttributeError far away."""
    with answering(frame) as server, pytest.raises(error):
        manager(server.url).get_tick_snap("BTC:USD", timeout=10)


def test_other_frames_before_the_answer_are_skipped() -> None:
    """A greeting would be taken for the answer."""
    with answering('{"isAuth": true}', '{"keepAlive": true}', json.dumps(TICK)) as server:
        assert manager(server.url).get_tick_snap("BTC:USD").price == 21865.010000000002


@pytest.mark.parametrize(
    "call",
    [
        lambda stream: stream.get_tick_snap("BTCUSD"),
        lambda stream: stream.get_tick_snap(None),
        lambda stream: stream.get_tick_snap("BTC:USD", "15.06.2022"),
        lambda stream: stream.get_tick_history("BTC:USD", "2022-02-30"),
        lambda stream: stream.get_tick_history("BTC:USD", 5),
        lambda stream: stream.get_tick_history("BTC:USD", "2022-06-15", "25:00"),
        lambda stream: stream.get_tick_history("BTC:USD", "2022-06-15", "noon"),
        lambda stream: stream.get_tick_history("BTC:USD", "2022-06-15", timeout=0),
        lambda stream: stream.get_tick_history("BTC:USD", "2022-06-15", timeout="5"),
        lambda stream: stream.get_five_minute_matrix(""),
        lambda stream: stream.get_five_minute_matrix("BTC", "2022-08-04T04:03"),
        lambda stream: stream.get_five_minute_matrix("BTC", "yesterday"),
        lambda stream: stream.get_reference_data(""),
        lambda stream: stream.call("no such function!"),
    ],
)
def test_bad_arguments_fail_before_any_io(call: Any) -> None:
    """A typo would cost a connection, or give the wrong day."""
    with pytest.raises(InvalidInputError):
        call(manager("ws://127.0.0.1:1"))
