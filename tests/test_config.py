"""Where a key and an address come from, and where a key may go."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import finx_sync
from finx_sync import ConfigError, StreamManager
from finx_sync.cli.main import main
from finx_sync.compat.bitmex import BitMEXWebsocket
from finx_sync.compat.finx import Streamer, TickPlant
from finx_sync.compat.ftx import FtxWebsocketClient
from finx_sync.config import is_loopback, read_account, read_grid_account, read_settings
from finx_sync.errors import MissingKeyError
from finx_sync.grid import Grid
from finx_sync.venues.bitmex.codec import BitmexCredentials
from finx_sync.venues.bitmex.stream import BitmexStream
from finx_sync.venues.ftx.stream import FtxStream
from finx_sync.venues.ime.stream import ImeStream
from tests.scripted import ScriptedServer

ELSEWHERE = "ws://elsewhere.test"


# .env


def test_a_file_of_a_folder_above_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write above the working directory would choose where the key is sent."""
    (tmp_path / ".env").write_text("FINX_URL=wss://evil.test\nFINX_API_KEY=planted\nFINX_ENVIRONMENT=beta\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    with pytest.raises(MissingKeyError):
        read_account()
    monkeypatch.setenv("FINX_API_KEY", "the-real-key")
    assert read_account().base_url == "wss://ws.finx.io"
    assert read_settings("FINX_API_KEY", "FINX_API_SECRET", "") == ["the-real-key", None, None]


def test_a_named_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that keeps its settings elsewhere could not use them."""
    path = tmp_path / "settings"
    path.write_text("FINX_URL=wss://mine.test\nFINX_API_KEY=from-the-file\n")
    (tmp_path / ".env").write_text("FINX_URL=wss://evil.test\n")
    monkeypatch.setenv("FINX_ENV_FILE", str(path))
    account = read_account()
    assert (account.base_url, account.key) == ("wss://mine.test", "from-the-file")
    monkeypatch.setenv("FINX_ENV_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="absent cannot be read: No such file"):
        read_account()


@pytest.mark.parametrize(
    "content", ["FINX_API_KEY=x\n".encode("utf-16"), "FINX_API_KEY=x\n".encode("utf-16-le"), b"FINX_API_KEY=\xff\n"]
)
def test_a_file_that_is_not_utf8_is_a_clear_error(content: bytes, tmp_path: Path) -> None:
    """Windows writes UTF-16: the user would face a UnicodeDecodeError, or be told that there is no key."""
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigError, match=r"\.env cannot be read: it is not UTF-8"):
        StreamManager()
    assert read_account("given").current_key() == "given"
    assert read_account(environment="sandbox").base_url is None


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """The first variable of a file that Windows' editor wrote would be lost."""
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfFINX_API_KEY=found\n")
    assert read_account().key == "found"


def test_a_file_that_may_not_be_read_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PermissionError would leave the user without a remedy, and stop those who need no file."""
    path = tmp_path / ".env"
    path.write_text("FINX_API_KEY=x\n")

    def refuse(file: Any, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        read_account()
    assert read_account("given").key == "given"


def test_a_folder_of_that_name_is_no_file(tmp_path: Path) -> None:
    """A virtual environment named .env would break every program in its folder."""
    (tmp_path / ".env").mkdir()
    with pytest.raises(MissingKeyError):
        read_account()


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program whose folder was replaced by an update would end with a FileNotFoundError."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(MissingKeyError, match="the working directory does not exist any more"):
        read_account()
    assert read_account("given").key == "given"
    monkeypatch.setenv("FINX_API_KEY", "from-the-environment")
    assert read_account().key == "from-the-environment"


# Which came from where


@pytest.mark.parametrize(
    ("environment", "file", "said"),
    [
        ({"FINX_API_KEY": "k1"}, "FINX_URL=wss://x.test", "the key is from the environment.*FINX_URL.*is from .env"),
        ({"FINX_URL": "wss://x.test"}, "FINX_API_KEY=k1", "the key is from .env.*FINX_URL.*is from the environment"),
        ({"FINX_API_KEY": "k1"}, "FINX_URL=wss://finx.io.evil.test", "finx.io.evil.test"),
        ({"FINX_API_KEY": "k1"}, "FINX_URL=wss://evilfinx.io", "evilfinx.io"),
        ({"FINX_API_KEY": "k1"}, "FINX_URL=wss://ws.finx.io", None),
        ({"FINX_API_KEY": "k1"}, "FINX_URL=ws://127.0.0.1:8000", None),
        ({"FINX_API_KEY": "k1", "FINX_URL": "wss://x.test"}, "FINX_API_KEY=k2", None),
        ({}, "FINX_API_KEY=k1\nFINX_URL=wss://x.test", None),
        ({"FINX_API_KEY": "k1"}, "FINX_ENVIRONMENT=beta", None),
    ],
)
def test_a_key_and_an_address_of_two_sources_are_told(
    environment: dict[str, str], file: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that came with somebody's example would send the key of the environment to its author, unnoticed."""
    (tmp_path / ".env").write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_account()
    assert [str(one.message) for one in caught if not said] == []
    if said:
        with pytest.warns(UserWarning, match=said) as told:
            read_account()
        assert "k1" not in str(told[0].message)
        assert told[0].filename == __file__, "the line that called"


def test_the_grids_address_is_told_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same would go unnoticed at the grid, and on the command line."""
    monkeypatch.setenv("FINX_API_URL", "https://grid.test")
    with pytest.warns(UserWarning, match="argument api_key, but FINX_API_URL"):
        read_grid_account("given-key")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setenv("FINX_API_URL", "https://127.0.0.2:1")
        monkeypatch.setenv("FINX_URL", "wss://no-such-host.invalid")
        assert main(["snap", "BTC:USD", "--api-key", "given-key"]) == 4
    assert "finx-sync: warning: the key is from the argument" in capsys.readouterr().err


# Clear text


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1.evil.test", False),
        ("localhost.evil.test", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_what_counts_as_this_machine(host: str, is_it: bool) -> None:
    """A name that only begins like this machine's would be sent the key in clear text."""
    assert is_loopback(host) is is_it


def plant(**options: Any) -> Any:
    """The old SDK's class, turned to another server as its users do it."""
    made = TickPlant("sandbox-key", timeout=5, **options)
    made.endpoint, made.rest_endpoint = f"{ELSEWHERE}/streamer/", "http://elsewhere.test/backend/"
    return made


def streamer(**options: Any) -> None:
    """Likewise."""
    made = Streamer({"pair": "BTC:USDC"}, api_key="sandbox-key", **options)
    made.endpoint = f"{ELSEWHERE}/streamer/"
    made.connect()


CREDENTIALS = {"api_key": "sandbox-key", "api_secret": "sandbox-secret"}
SENDERS: dict[str, Callable[..., object]] = {
    "finx": lambda **options: StreamManager("sandbox-key", url=ELSEWHERE, **options),
    "a function's key": lambda **options: StreamManager(lambda: "sandbox-key", url=ELSEWHERE, **options),
    "one call": lambda **options: finx_sync.get_tick_snap("x", api_key="sandbox-key", url=ELSEWHERE, **options),
    "grid": lambda **options: Grid("sandbox-key", url=ELSEWHERE, **options),
    "grid, http": lambda **options: Grid("sandbox-key", url="http://elsewhere.test", via="rest", **options),
    "bitmex": lambda **options: BitmexStream("XBTUSD", url=ELSEWHERE, **CREDENTIALS, **options),
    "ftx": lambda **options: FtxStream(**CREDENTIALS, url=ELSEWHERE, **options),
    "ime": lambda **options: ImeStream(url=ELSEWHERE, names="A", auth="sandbox-key", **options),
    "ime, a function": lambda **options: ImeStream(url=ELSEWHERE, names="A", auth=lambda: "sandbox-key", **options),
    "BitMEXWebsocket": lambda **options: BitMEXWebsocket(ELSEWHERE, "XBTUSD", **CREDENTIALS, **options),
    "FtxWebsocketClient": lambda **options: FtxWebsocketClient(**CREDENTIALS, url=ELSEWHERE, **options).connect(),
    "TickPlant": lambda **options: plant(**options).list_deribit_contracts(),
    "TickPlant, rest": lambda **options: plant(**options).tick_snap("BTC:USD"),
    "Streamer": streamer,
}


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
def test_no_key_goes_in_clear_text_to_another_machine(
    send: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody on the way would read the key; and that must show before any name is looked up."""

    def looked_up(*_: Any) -> Any:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr("socket.getaddrinfo", looked_up)
    with pytest.raises(ConfigError, match=r"in clear text to elsewhere\.test.*allow_insecure=True"):
        send()


@pytest.mark.parametrize("send", [SENDERS[name] for name in ("finx", "grid", "bitmex", "ftx", "ime")])
def test_it_goes_where_the_user_says_so(send: Callable[..., object]) -> None:
    """A server within one's own network could not be used."""
    send(allow_insecure=True)


def test_without_credentials_nothing_is_refused() -> None:
    """Public data could not be had from a server without TLS."""
    BitmexStream("XBTUSD", url=ELSEWHERE)
    FtxStream(url=ELSEWHERE)
    ImeStream(url=ELSEWHERE, names="A")
    StreamManager(environment="deribit", url=ELSEWHERE)


def test_credentials_that_come_later_are_refused_too() -> None:
    """A stream of public data would send the credentials of `rotate_key` in clear text."""
    with ScriptedServer() as server, BitmexStream("XBTUSD", url=server.url) as stream:
        stream._account.base_url = ELSEWHERE
        with pytest.raises(ConfigError, match="clear text"):
            stream.rotate_key(BitmexCredentials("sandbox-key", "sandbox-secret"))
        assert stream._account.key is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["stream", "BTC:USDC"],
        ["stream", "margin", "--venue", "bitmex"],
        ["stream", "fills", "--venue", "ftx"],
        ["stream", "ContractA", "--venue", "ime"],
        ["record", "BTC:USDC", "--output", "feed.finxrec"],
        ["snap", "BTC:USD"],
        ["grid"],
        ["pairs"],
        ["doctor"],
    ],
)
def test_the_commands_refuse_it_too(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A `--url` that was mistyped would send the key in clear text."""
    for venue in ("FINX", "BITMEX", "FTX", "IME"):
        monkeypatch.setenv(f"{venue}_API_KEY", "sandbox-key")
        monkeypatch.setenv(f"{venue}_API_SECRET", "sandbox-secret")
    assert main([*arguments, "--url", ELSEWHERE]) == 2
    assert "--allow-insecure" in capsys.readouterr().err
    assert not os.path.exists("feed.finxrec")
