"""`TickPlant` and `Streamer`: what a program written for the old SDK finds."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from finx_sync import AuthorizationError, ConfigError, ConnectError, InvalidInputError
from finx_sync.compat.finx import Streamer, TickPlant
from finx_sync.errors import FunctionTimeoutError, ServerRefusedError
from finx_sync.sandbox import Sandbox
from tests.scripted import ScriptedServer
from tests.waiting import FAST, wait_until

KEY = "sandbox-key"


@pytest.fixture
def plant(sandbox: Sandbox) -> TickPlant:
    """A plant whose endpoints are set as programs set the original's."""
    made = TickPlant(KEY)
    made.endpoint, made.rest_endpoint = f"{sandbox.url}/streamer/{KEY}", f"{sandbox.http_url}/backend/"
    return made


def streamer_of(sandbox: Sandbox, pair: str = "BTC:USDC") -> Streamer:
    """A streamer, likewise; its key stands in the endpoint alone."""
    made = Streamer({"pair": pair}, reconnect=FAST)
    made.endpoint = f"{sandbox.url}/streamer/{KEY}/{pair}"
    return made


def test_functions_return_what_the_original_returns(plant: TickPlant) -> None:
    """A program would parse a list where it expects a text."""
    assert plant.connect() is None
    assert "BTC-26AUG22-20000-C" in json.loads(plant.list_deribit_contracts())
    history = json.loads(plant.tick_history("BTC:USD", "2022-06-15", "21:27"))
    assert sorted(map(int, history)) == list(range(1000))
    assert json.loads(plant.get_reference_data("BTC-26AUG22-20000-C"))["securityId"] == "BTC-26AUG22-20000-C"
    assert plant.tick_snap("BTC:USDC")["pair"] == "BTC:USDC"
    assert plant.tick_snap("BTC:USD", "1655328460", "60")["date"] == "2022-06-15"


def test_timeslices_are_dataframes(plant: TickPlant) -> None:
    """A notebook would stop at its first line with a frame; the original's series never worked at all."""
    pytest.importorskip("pandas")
    frame = plant.get_timeslice("1655328460", "10", "BTC")
    assert next(iter(frame.columns)) == "redis_key"
    assert len(frame) > 50
    series = plant.get_timeslice_series(KEY, "1655328460", "1655328580", "60", "10", "BTC")
    assert len(series) == 2 * len(frame)
    with pytest.raises(InvalidInputError):
        plant.get_timeslice_series(KEY, "2", "1", "60", "10", "BTC")


def test_methods_can_be_awaited_in_an_event_loop(plant: TickPlant) -> None:
    """The original's programs await these in notebooks, where a loop runs."""

    async def program() -> list[str]:
        async with plant:
            snap = await plant.tick_snap("BTC:USDC")
            texts = [await plant.list_deribit_contracts.run_async()]
        return [*texts, snap["pair"]]

    contracts, pair = asyncio.run(program())
    assert (json.loads(contracts)[0] != "", pair) == (True, "BTC:USDC")
    with plant:
        assert TickPlant.connect.__doc__
        assert plant.connect.__name__ == "connect"


def test_faults_raise_where_the_original_hides_them(plant: TickPlant, sandbox: Sandbox) -> None:
    """A wrong key is printed by the original, an error frame returned, a missing pair a text."""
    wrong = TickPlant("wrong-key")
    wrong.endpoint, wrong.rest_endpoint = plant.endpoint, plant.rest_endpoint
    for call in (wrong.connect, lambda: wrong.tick_snap("BTC:USDC")):
        with pytest.raises(AuthorizationError) as caught:
            call()
        assert "wrong-key" not in str(caught.value)
    with pytest.raises(ServerRefusedError, match="Invalid APIKey"):
        wrong.list_deribit_contracts()
    with pytest.raises(ServerRefusedError):
        plant.tick_history("XXX:YYY", "2022-06-15")
    for pair in ("", "BTC"):
        with pytest.raises(InvalidInputError):
            plant.tick_snap(pair)
    assert KEY not in repr(plant)
    sandbox.stop()
    with pytest.raises(ConnectError):
        plant.list_deribit_contracts()


def test_a_silent_server_ends_in_a_timeout() -> None:
    """The original waits for its next frame for ever."""

    class Silent(ScriptedServer):
        def answer(self, connection: object, message: object) -> None:
            pass

    with Silent() as server:
        plant = TickPlant(KEY, timeout=0.3)
        plant.endpoint = server.url
        with pytest.raises(FunctionTimeoutError):
            plant.list_deribit_contracts()


def test_embedded_sandbox_needs_no_key() -> None:
    """A newcomer would need a server to try a program."""
    assert TickPlant(environment="sandbox").tick_snap("ETH:USD")["pair"] == "ETH:USD"


def test_listening_writes_frames_through_cuts(sandbox: Sandbox, tmp_path: Path) -> None:
    """The original's `listen` ends, without a word, with its first lost connection."""
    streamer, path = streamer_of(sandbox), tmp_path / "ticks.txt"
    thread = threading.Thread(target=streamer.listen, args=[str(path)])
    thread.start()

    def lines() -> list[str]:
        return path.read_text().splitlines() if path.exists() else []

    for _ in range(4):
        before = len(lines())
        assert wait_until(lambda before=before: len(lines()) > before + 3)
        sandbox.abort_all()
    streamer.close()
    thread.join(10)
    assert not thread.is_alive()
    assert {json.loads(line)["resultData"]["pair"] for line in lines()} == {"BTC:USDC"}


def test_listening_prints_to_the_console(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """The usual way to look at a pair."""
    with streamer_of(sandbox, "ETH:USD") as streamer:
        seen = 0
        assert streamer.stream is not None

        def close_after_some(_: str) -> None:
            nonlocal seen
            seen += 1
            if seen == 5:
                streamer.close()

        streamer.stream.on_message(close_after_some)
        streamer.listen()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) >= 4
    assert all(json.loads(line)["resultData"]["pair"] == "ETH:USD" for line in printed)


def test_streamers_mistakes_are_typed(sandbox: Sandbox, tmp_path: Path) -> None:
    """A wrong key, host, pair or file would end in silence."""
    with pytest.raises(InvalidInputError):
        Streamer({})
    with pytest.raises(ConfigError):
        Streamer({"pair": "BTC:USDC"}, "mars")
    with pytest.raises(ConfigError):
        TickPlant(KEY, "mars")
    with pytest.raises(OSError, match="No such file"):
        streamer_of(sandbox).listen(str(tmp_path / "missing" / "ticks.txt"))
    refused = streamer_of(sandbox)
    refused.endpoint = f"{sandbox.url}/streamer/wrong-key/BTC:USDC"
    with pytest.raises(AuthorizationError):
        refused.connect()
    keyless = Streamer({"pair": "BTC:USDC"})
    with pytest.raises(ConfigError):
        keyless.connect()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_cannot_be_written_ends_the_listening(sandbox: Sandbox) -> None:
    """A full disk would be a traceback in the log for every tick, and a program that seems to work."""
    streamer = streamer_of(sandbox)
    with pytest.raises(OSError, match="No space left"):
        streamer.listen("/dev/full")
    assert streamer.stream is not None
    assert not streamer.stream.is_connected
