"""The calculation grid: by websocket and by POST, against the sandbox and against servers that misbehave."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from websockets.sync.server import ServerConnection

from finx_sync import AuthorizationError, ConfigError, Grid, calculate_greeks
from finx_sync.errors import (
    ConnectError,
    ConnectionLostError,
    FunctionTimeoutError,
    InvalidInputError,
    ServerRefusedError,
    UnexpectedReplyError,
    UnreadableMessageError,
)
from finx_sync.sandbox import Sandbox
from tests.scripted import ScriptedServer

KEY = "sandbox-key"
BOTH = pytest.mark.parametrize("via", ["websocket", "rest"])
OPTION = {"s0": 101, "k": 100, "r": 0.01, "sigma": 0.1, "q": 0.0, "T": 90, "price": 5.0}
FUNCTIONS = [
    {"name": "add", "required": ["a", "b"], "optional": {"scale": "__import__('os').abort()"}},
    {"name": "nothing", "required": [], "optional": None},
]


@pytest.fixture(autouse=True)
def no_key_anywhere(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test whose log tells the key."""
    caplog.set_level(logging.DEBUG)
    yield
    assert KEY not in caplog.text


class Scripted(ScriptedServer):
    """Takes the key, describes `FUNCTIONS`, and answers calls as the test says."""

    def __init__(self, *answers: dict[str, Any] | str) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []
        self._answers = answers

    def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        if "api_method" not in message:
            connection.send('{"is_authenticated": true}')
        elif message["api_method"] == "list_api_functions":
            connection.send(json.dumps({"data": FUNCTIONS, "cache_key": message["cache_key"]}))
        else:
            self.calls.append(message)
            for answer in self._answers:
                echo = {"cache_key": message["cache_key"]}
                connection.send(answer if isinstance(answer, str) else json.dumps({**echo, **answer}))
            if not self._answers:
                connection.close(1011, "boom")


def grid(url: str, **options: Any) -> Grid:
    """A grid of a test's own server."""
    return Grid(KEY, url=url, **options)


@BOTH
def test_greeks_of_the_grid_are_ours(sandbox: Sandbox, via: Any) -> None:
    """FinX's way of calling for greeks would fail, or give other numbers than the function here."""
    found = grid(sandbox.url, via=via).call("calculate_greeks", **OPTION)["result"]["greeks"]
    ours = calculate_greeks(101, 100, 0.01, 0.1, 0.0, 90)
    assert found == {name: getattr(ours, name) for name in ("delta", "gamma", "vega", "theta", "rho", "vol")}
    implied = {**OPTION, "sigma": None, "option_side": "put", "option_type": "european"}
    vol = grid(sandbox.http_url + "/api/", via=via).call("calculate_greeks", **implied)["result"]["greeks"]["vol"]
    assert calculate_greeks(101, 100, 0.01, vol, 0.0, 90, option_side="put").price == pytest.approx(5.0)


@BOTH
def test_every_method_answers_or_says_why_not(sandbox: Sandbox, via: Any) -> None:
    """A method that the SDK knows could not be called, or would return an invented result."""
    one = grid(sandbox.url, via=via)
    functions = {function.name: function for function in one.list_functions()}
    assert len(functions) >= 17
    assert one.call("list_api_functions")[0]["name"] == "list_api_functions"
    assert one.call("coverage_check", security_id="BTC-26AUG22-20000-C")["result"]["is_covered"] is True
    assert one.call("coverage_check", security_id="912796YB9")["result"]["is_covered"] is False
    assert one.call("get_security_reference_data", security_id="BTC-26AUG22-20000-C")["strike"] == "20000"
    assert one.call("interpolate_curve", t_obs=[1, 2], r_obs=[1, 3], t_new=[0, 1.5, 5])["result"] == [1, 2, 3]
    answered = {"list_api_functions", "coverage_check", "get_security_reference_data", "interpolate_curve"}
    for name in functions.keys() - answered - {"calculate_greeks"}:
        with pytest.raises(ServerRefusedError, match="no source shows its result"):
            one.call(name, **dict.fromkeys(functions[name].required, "x"))


def test_without_any_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer would need a key to try it."""
    assert Grid(environment="sandbox").call("calculate_greeks", **OPTION)
    monkeypatch.setenv("FINX_ENVIRONMENT", "sandbox")
    assert Grid(via="rest").list_functions()


def test_calls_are_checked_before_they_are_sent() -> None:
    """A slip in a parameter's name would travel, and its answer would say less."""
    with Scripted({"data": 3}) as server:
        one = grid(server.url)
        signature = "add(a, b, scale=__import__('os').abort())"
        assert [str(function) for function in one.list_functions()] == [signature, "nothing()"]
        for params, words in (({"a": 1}, "b missing"), ({"a": 1, "b": 2, "c": 3}, "c unknown"), ({}, "a, b missing")):
            with pytest.raises(InvalidInputError, match=words):
                one.call("add", **params)
        with pytest.raises(InvalidInputError, match="no method 'subtract'; choose one of add, nothing"):
            one.call("subtract")
        with pytest.raises(InvalidInputError, match="once for each"):
            one.call("batch_add")
        assert not server.calls
        assert one.call("add", a=1, b=2) == 3
        assert server.calls[0]["cache_key"] == [[None, "add", "a:1,b:2"]]


def test_nothing_from_the_server_is_executed() -> None:
    """A server could run its code in the user's program: the default above would abort it."""
    with Scripted({"data": 3}) as server:
        assert grid(server.url).call("add", a=1, b=2) == 3


@pytest.mark.parametrize(
    ("params", "words"), [({"a": object()}, "JSON"), ({"a": float("nan")}, "JSON"), ({"a": {1, 2}}, "JSON")]
)
def test_what_json_cannot_hold_is_refused(params: dict[str, Any], words: str) -> None:
    """It would fail half-way, on an open connection."""
    with pytest.raises(InvalidInputError, match=words):
        grid("ws://127.0.0.1:1").call("add", **params)


def test_a_refused_key(sandbox: Sandbox) -> None:
    """A wrong key would look like a slow server: the grid says nothing to it."""
    with pytest.raises(AuthorizationError, match="did not accept the key") as caught:
        Grid("another-key", url=sandbox.url, authentication_timeout=0.2).call("calculate_greeks", **OPTION)
    assert "another-key" not in str(caught.value)
    with pytest.raises(AuthorizationError, match="401"):
        Grid("another-key", url=sandbox.url, via="rest").list_functions()

    class Refusing(Scripted):
        def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
            connection.send('{"is_authenticated": false}')

    with Refusing() as server, pytest.raises(AuthorizationError):
        grid(server.url).list_functions()


@BOTH
def test_the_servers_words_are_told(sandbox: Sandbox, via: Any) -> None:
    """The user would have to guess what was wrong."""
    with pytest.raises(ServerRefusedError, match="t_obs must ascend"):
        grid(sandbox.url, via=via).call("interpolate_curve", t_obs=[2, 1], r_obs=[1, 3], t_new=[0])
    with pytest.raises(ServerRefusedError, match="are numbers"):
        grid(sandbox.url, via=via).call("calculate_greeks", **{**OPTION, "k": "hundred"})


def test_progress_is_passed_on() -> None:
    """A long calculation would look like one that hangs."""
    steps: list[Any] = []
    progress = [{"message": {"progress": 10}}, {"job_id": "7"}, {"progress": 60, "task_name": "cash flows"}]
    with Scripted(*progress, {"data": [1], "cache_key": [["other"]]}, {"data": 3}) as server:
        one = grid(server.url)
        assert one.call("add", a=1, b=2, on_progress=steps.append) == 3
        assert [step["progress"] for step in steps] == [10, 60]
        assert one.call("add", a=1, b=2) == 3
        with pytest.raises(ZeroDivisionError):
            one.call("add", a=1, b=2, on_progress=lambda step: 1 / 0)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("{", UnreadableMessageError),
        ("[]", UnreadableMessageError),
        ({"error": "no such bond"}, ServerRefusedError),
        ({"hello": 1}, FunctionTimeoutError),
    ],
)
def test_wrong_answers_are_typed_errors(answer: Any, kind: type[Exception]) -> None:
    """A server's nonsense would come back as a result."""
    with Scripted(answer) as server, pytest.raises(kind):
        grid(server.url).call("add", a=1, b=2, timeout=1)


def test_a_disconnect_fails_the_call_at_once() -> None:
    """A call would wait for its whole timeout although the server is gone."""
    with Scripted() as server, pytest.raises(ConnectionLostError, match="boom"):
        grid(server.url).call("add", a=1, b=2, timeout=30)
    with pytest.raises(ConnectError):
        grid("http://127.0.0.1:1").call("add")


@pytest.mark.parametrize(
    "functions", [{"a": 1}, [1], [{"name": "x"}], [{"name": "x y", "required": [], "optional": None}], "add", None]
)
def test_another_description_is_a_typed_error(functions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed service would fail somewhere inside."""
    monkeypatch.setattr("tests.test_grid.FUNCTIONS", functions)
    with Scripted() as server, pytest.raises(UnexpectedReplyError, match="list_api_functions"):
        grid(server.url).list_functions()


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server could not be named, or a real key would be sent to the wrong one."""
    assert repr(grid("https://hedgefunds.finx.io/api/")) == "<Grid Account(wss://hedgefunds.finx.io) via websocket>"
    assert "wss://api.finx.io" in repr(Grid(KEY))
    monkeypatch.setenv("FINX_API_URL", "http://127.0.0.1:5/ws/api/")
    assert "ws://127.0.0.1:5)" in repr(Grid(KEY))
    assert "wss://api.finx.io" in repr(Grid(KEY, environment="production"))
    monkeypatch.delenv("FINX_API_URL")
    monkeypatch.setenv("FINX_API_ENDPOINT", "https://sandbox.finx.io")
    assert "wss://sandbox.finx.io" in repr(Grid(KEY))
    monkeypatch.delenv("FINX_API_ENDPOINT")
    for wrong in ({"environment": "beta"}, {"via": "post"}, {"url": "ftp://finx.io"}, {"url": ""}):
        with pytest.raises(ConfigError):
            Grid(KEY, **wrong)
    with pytest.raises(ConfigError, match="no API key"):
        Grid()


def test_the_old_sdks_form(sandbox: Sandbox) -> None:
    """The sandbox would not serve SDKs before 2.0, which post forms."""
    form = {name: str(value) for name, value in OPTION.items()}
    url = sandbox.http_url + "/api/"
    reply = requests.post(url, data={"finx_api_key": KEY, "api_method": "calculate_greeks", **form}, timeout=10)
    assert reply.json()["data"]["result"]["greeks"]["vol"] == 0.1
    assert requests.post(url, json=[1], timeout=10).status_code == 400
    assert requests.post(url, json={"finx_api_key": KEY, "api_method": "add"}, timeout=10).status_code == 400
