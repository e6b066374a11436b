"""BitMEX's official connector against the sandbox, and a program written for it on our stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from finx_sync.compat.bitmex import BitMEXWebsocket
from finx_sync.errors import (
    AuthorizationError,
    ConfigError,
    ConnectError,
    StreamTimeoutError,
    SubscriptionRefusedError,
    UsageError,
)
from finx_sync.sandbox import Sandbox
from finx_sync.session.backoff import Backoff
from tests.foreign import INSTALL_TIMEOUT, foreign_python

KEYS = {"api_key": "sandbox-key", "api_secret": "sandbox-secret"}
IMPORT = "from bitmex_websocket import BitMEXWebsocket"
OURS = "from finx_sync.compat.bitmex import BitMEXWebsocket"
PROGRAM = f"""
import json, logging, sys, threading
from time import sleep
{IMPORT}

logging.basicConfig(level=logging.WARNING)
stopped = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True).start()
ws = BitMEXWebsocket(endpoint=sys.argv[1], symbol="XBTUSD", **json.loads(sys.argv[2]))
print(json.dumps({{"instrument": ws.get_instrument()}}), flush=True)
while ws.ws.sock.connected and not stopped.is_set():
    seen = {{"ticker": ws.get_ticker(), "depth": len(ws.market_depth()), "trades": len(ws.recent_trades())}}
    if ws.api_key:
        seen["funds"] = ws.funds()["walletBalance"]
        seen["positions"] = [row["currentQty"] for row in ws.positions()]
        seen["orders"] = [row["clOrdID"] for row in ws.open_orders("mine")]
    print(json.dumps(seen), flush=True)
    sleep(0.01)
ws.exit()
print(json.dumps({{"exited": ws.exited}}), flush=True)
"""
"""The original's own example (its README), as JSON lines, and in less of a hurry to be slow."""

IN_A_HURRY = """
from finx_sync.session.backoff import Backoff
Backoff.delay = lambda self, failures, random: 0.02
"""
"""What only the test wants: no growing pauses between its twenty cuts."""
OFFICIAL = ("bitmex-ws-1.5.0", ["bitmex-ws==1.5.0"])


class Program:
    """A program that runs; `lines` are what it prints."""

    def __init__(self, source: str, url: str, keys: dict[str, str], python: str = sys.executable) -> None:
        self._process = subprocess.Popen(
            [python, "-c", source, url, json.dumps(keys)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors += self._process.stderr.readlines()

    def line(self) -> Any:
        """The next thing that it prints; fails with what it complained of when it has ended."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text:
            self.end()
            pytest.fail("the program has ended: " + "".join(self._errors))
        return json.loads(text)

    def end(self) -> str:
        """Let it end; returns its complaints."""
        process = self._process
        try:
            if process.poll() is None:
                process.communicate("stop\n", timeout=20)
        finally:
            process.kill()
            process.wait()
            self._reader.join()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                stream.close()
        return "".join(self._errors)


@pytest.fixture
def market() -> Iterator[Sandbox]:
    with Sandbox(exchange_interval=0.01, robots=False) as server:
        yield server


def run_the_program(source: str, market: Sandbox, keys: dict[str, str], python: str = sys.executable) -> None:
    """It sees the market, and the account where it has a key."""
    program = Program(source, f"{market.url}/realtime", keys, python)
    try:
        assert program.line()["instrument"]["symbol"] == "XBTUSD"
        if keys:
            market.controls("bitmex").place("XBTUSD", "buy", 100, price=1000.0, client_id="mine-1")
            market.controls("bitmex").place("XBTUSD", "buy", 100, price=1001.0, client_id="other")
            market.controls("bitmex").place("XBTUSD", "sell", 300)
        seen = program.line()
        deadline = time.monotonic() + 20
        while keys and (seen["positions"], seen["orders"]) != ([-300], ["mine-1"]) and time.monotonic() < deadline:
            seen = program.line()
        assert seen["ticker"]["buy"] <= seen["ticker"]["sell"]  # the original rounds to whole dollars
        assert seen["depth"] > 50
        assert seen["trades"] > 0
        if keys:
            assert (seen["positions"], seen["orders"]) == ([-300], ["mine-1"])
            assert seen["funds"] > 0
    finally:
        program.end()


@pytest.mark.timeout(INSTALL_TIMEOUT * 2)
@pytest.mark.parametrize("keys", [KEYS, {}], ids=["key", "no key"])
def test_the_official_connector_works_against_the_sandbox(market: Sandbox, keys: dict[str, str]) -> None:
    """The sandbox would speak to our client only."""
    run_the_program(PROGRAM, market, keys, foreign_python(*OFFICIAL))


@pytest.mark.timeout(INSTALL_TIMEOUT * 2)
def test_the_official_connector_is_refused_at_the_upgrade(market: Sandbox) -> None:
    """A wrong secret would be told in another way than by BitMEX."""
    program = Program(PROGRAM, f"{market.url}/realtime", {**KEYS, "api_secret": "wrong"}, foreign_python(*OFFICIAL))
    try:
        with pytest.raises(pytest.fail.Exception, match="the program has ended"):
            program.line()
    finally:
        complaints = program.end()
    assert "401" in complaints
    assert "Signature not valid" in complaints


@pytest.mark.parametrize("keys", [KEYS, {}], ids=["key", "no key"])
def test_the_same_program_runs_with_its_import_changed(market: Sandbox, keys: dict[str, str]) -> None:
    """A legacy bot would have to be rewritten."""
    run_the_program(PROGRAM.replace(IMPORT, OURS), market, keys)


def test_the_program_runs_through_twenty_cuts(market: Sandbox) -> None:
    """A bot would end, or go on with dead tables, when its connection breaks."""
    source = IN_A_HURRY + PROGRAM.replace(IMPORT, OURS)
    program = Program(source, f"{market.url}/realtime", KEYS)
    try:
        program.line()
        for number in range(20):
            program.line()
            (market.abort_all if number % 2 else market.disconnect_all)()
            market.controls("bitmex").place("XBTUSD", "buy", 100, price=1000.0 + number, client_id=f"mine-{number}")
        deadline = time.monotonic() + 30
        while len(program.line()["orders"]) < 20:
            assert time.monotonic() < deadline
    finally:
        complaints = program.end()
    assert "Traceback" not in complaints


def connect(market: Sandbox, **changes: Any) -> BitMEXWebsocket:
    arguments: dict[str, Any] = {"endpoint": f"{market.url}/realtime", "symbol": "XBTUSD", "timeout": 10.0, **changes}
    return BitMEXWebsocket(**arguments)


def test_results_are_those_of_the_original(market: Sandbox) -> None:
    """A bot would stumble over a missing field, or change our tables by accident."""
    with connect(market, endpoint=market.http_url + "/api/v1", **KEYS) as ws:
        instrument = ws.get_instrument()
        assert (instrument["tickSize"], instrument["tickLog"]) == (0.5, 0)
        assert ws.get_ticker().keys() == {"last", "buy", "sell", "mid"}
        assert ws.data["orderBookL2"][0].keys() == {"symbol", "id", "side", "size", "price"}
        assert ws.keys["orderBookL2"] == ["symbol", "id", "side"]
        assert sorted(ws.data) == sorted(
            ["execution", "instrument", "margin", "order", "orderBookL2", "position", "quote", "trade"]
        )
        ws.funds()["walletBalance"] = -1
        assert ws.funds()["walletBalance"] > 0
        assert "sandbox-" not in repr(ws)
    ws.exit()  # as often as one likes
    assert (ws.exited, ws.ws.sock.connected) == (True, False)
    with pytest.raises(UsageError):  # what was true once is no ticker
        ws.get_ticker()
    assert ws.data["quote"]


def test_faults_that_the_original_hides_are_raised(market: Sandbox) -> None:
    """The original waits for ever for a symbol that does not exist."""
    with pytest.raises(SubscriptionRefusedError):
        connect(market, symbol="NOPE")
    with pytest.raises(AuthorizationError):
        connect(market, **{**KEYS, "api_secret": "wrong"})
    with pytest.raises(ValueError, match="api_secret is required"):
        connect(market, api_key="sandbox-key")
    with pytest.raises(ValueError, match="api_key is required"):
        connect(market, api_secret="sandbox-secret")
    with pytest.raises(ConfigError):
        connect(market, endpoint="ftp://host")
    with pytest.raises(ConnectError):
        connect(market, endpoint="ws://127.0.0.1:1/realtime")
    ws = connect(market, subscriptions=["quote", "funding"], timeout=0.2, reconnect=Backoff(5, 5))
    try:
        with pytest.raises(UsageError, match="give api_key"):
            ws.funds()
        with pytest.raises(UsageError, match="not among the subscriptions"):
            ws.market_depth()
        ws.stream.storage.forget("quote", "XBTUSD")
        with pytest.raises(StreamTimeoutError):
            ws.get_ticker()
    finally:
        ws.exit()


def test_an_environment_instead_of_an_endpoint() -> None:
    """The sandbox would be named in another way here than by every other stream."""
    ws = BitMEXWebsocket(None, "XBTUSD", subscriptions=["trade"], environment="sandbox")
    try:
        assert ws.recent_trades()
    finally:
        ws.exit()
    with pytest.raises(ConfigError, match="did you mean 'sandbox'"):
        BitMEXWebsocket(None, "XBTUSD", environment="sandbax")
