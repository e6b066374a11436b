"""What a server says is text: it can neither write lines of its own into a log, nor steer a terminal."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync import FinxSyncError, StreamManager, WebSocketApp
from finx_sync.cli import output
from finx_sync.cli.doctor import _Chart
from finx_sync.cli.main import main
from finx_sync.compat.bitmex import BitMEXWebsocket
from finx_sync.doctor.findings import Finding, judge_certificate
from finx_sync.errors import (
    ConnectionLostError,
    HandshakeError,
    ServerRefusedError,
    StaleDataError,
    SubscriptionRefusedError,
    UnreadableMessageError,
)
from finx_sync.grid import Grid
from finx_sync.redaction import escaped, shown
from finx_sync.venues.bitmex.stream import BitmexStream
from finx_sync.venues.ftx.stream import FtxStream
from finx_sync.venues.ime.stream import ImeStream
from tests.hostile.test_secrets import answering
from tests.scripted import ScriptedServer, text
from tests.servers import RawServer, server_frame, until_close_frame
from tests.waiting import FAST, wait_until

EVIL = "a\nCRITICAL b\r\x1b[2J\x1b]0;c\x07\x9b31m\u202ed\u2066e\u2028f\u0085g\x00\x7f"
"""A line of its own, terminal sequences in both forms, marks that turn the direction, other ends of lines."""


def is_harmless(shown: str) -> bool:
    """Whether a terminal shows it as it is, on one line."""
    return shown.isprintable()


@given(st.text())
def test_escaped_text_is_one_printable_line(said: str) -> None:
    """A character that nobody thought of would steer the terminal."""
    once = escaped(said)
    assert once.replace("\u200c", "").replace("\u200d", "").isprintable()
    assert escaped(once) == once
    assert len(once.splitlines()) <= 1
    if said.isprintable():
        assert once == said


def test_joiners_of_letters_stay() -> None:
    """Persian names of contracts would be spelled wrongly."""
    assert escaped("\u0645\u06cc\u200c\u062e") == "\u0645\u06cc\u200c\u062e"


@pytest.mark.parametrize(
    "error",
    [
        FinxSyncError(EVIL),
        HandshakeError(EVIL),
        ConnectionLostError(EVIL, 1000, EVIL),
        ServerRefusedError(EVIL, EVIL),
        ServerRefusedError(EVIL, {EVIL: EVIL}),
        StaleDataError(EVIL, 1.0, 0.5),
        SubscriptionRefusedError(EVIL, EVIL, EVIL),
        UnreadableMessageError(EVIL, EVIL),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_is_one_line(error: FinxSyncError) -> None:
    """A server would forge a line of the program's log, wherever its words enter an error."""
    assert is_harmless(str(error))
    for name in ("said", "reason", "excerpt"):
        assert is_harmless(getattr(error, name, ""))


def frames(reason: str) -> list[bytes]:
    """What may hold a text: a reason, an error, a name, a message that cannot be read."""
    told = [{"error": reason}, {"error": {reason: reason}}, {"redis_key": reason, "instrument_name": 5}, [reason]]
    end = server_frame(8, (1000).to_bytes(2, "big") + reason.encode()[:100])
    refused = server_frame(8, (1008).to_bytes(2, "big") + reason.encode()[:100])
    spoken = [*(json.dumps(one, ensure_ascii=False).encode() for one in told), reason.encode()]
    return [end, refused, *(server_frame(1, one) + end for one in spoken)]


HEADS = [
    f"HTTP/1.1 302 Go\r\nLocation: https://else.test/{EVIL.translate({10: 'n', 13: 'r'})}\r\n\r\n".encode(),
    f"HTTP/1.1 404 {EVIL.translate({10: 'n', 13: 'r'})}\r\n\r\n".encode(),
    f"HTTP/1.1 500 No\r\nContent-Length: {len(EVIL.encode())}\r\n\r\n{EVIL}".encode(),
    b"\x1b[2JHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 101 OK\r\nUpgrade: \x1b[2J\r\n\x1b[2J\r\n\r\n",
]
STREAMS: dict[str, Callable[[str], Any]] = {
    "finx": lambda url: StreamManager("sandbox-key", url=url, reconnect=FAST),
    "deribit": lambda url: StreamManager(environment="deribit", url=url, reconnect=FAST),
    "bitmex": lambda url: BitmexStream("XBTUSD", url=url, reconnect=FAST),
    "ftx": lambda url: FtxStream(url=url, reconnect=FAST),
    "ime": lambda url: ImeStream(url=url, names="A", reconnect=FAST),
}


@pytest.mark.parametrize("opened", STREAMS.values(), ids=STREAMS)
def test_no_venues_server_writes_lines_of_its_own(
    opened: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A server would forge lines in the log, or clear the screen of whoever reads an error or a report."""
    caplog.set_level(logging.DEBUG)
    for head, frame in [*((head, b"") for head in HEADS), *((None, frame) for frame in frames(EVIL))]:
        with answering(head, frame) as url:
            stream = opened(url)
            told: list[FinxSyncError] = []
            stream.on_error(told.append)
            try:
                stream.start(5)
                wait_until(lambda: stream.failure is not None or stream.stats().reconnects > 0)  # noqa: B023
            except FinxSyncError as error:
                told.append(error)
            finally:
                stream.stop()
        for error in told:
            assert is_harmless(str(error)), error
            assert all(line.isprintable() for line in "".join(traceback.format_exception(error)).split("\n"))
            assert all(is_harmless(value) for value in getattr(error, "headers", {}).values())
        for line in stream.dump().split("\n"):
            assert is_harmless(line), line
            assert not line.startswith("CRITICAL")
    assert caplog.messages
    assert all(is_harmless(message) for message in caplog.messages)


CALLS: dict[str, Callable[[str], object]] = {
    "websocket": lambda url: StreamManager("sandbox-key", url=url).get_tick_snap("BTC:USD", timeout=5),
    "deribit": lambda url: StreamManager(environment="deribit", url=url).get_tick_snap("BTC:USD", timeout=5),
    "grid": lambda url: Grid("sandbox-key", url=url).list_functions(timeout=5),
    "rest": lambda url: StreamManager("sandbox-key", url=url).list_pairs(timeout=5),
    "grid, rest": lambda url: Grid("sandbox-key", url=url, via="rest").list_functions(timeout=5),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_functions_server_writes_lines_of_its_own(call: Callable[[str], object]) -> None:
    """The same by the answer to a function."""
    over_http = call in (CALLS["rest"], CALLS["grid, rest"])
    bodies = [json.dumps(one, ensure_ascii=False).encode() for one in ({"error": EVIL}, [EVIL], {EVIL: EVIL})]
    pages = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body for body in [*bodies, EVIL.encode()]]
    others = pages if over_http else []
    spoken = [] if over_http else frames(EVIL)
    errors: list[FinxSyncError] = []
    for head, frame in [*((head, b"") for head in [*HEADS, *others]), *((None, frame) for frame in spoken)]:
        with answering(head, frame) as url:
            try:
                call(url)
            except FinxSyncError as error:
                errors.append(error)
    assert errors
    for error in errors:
        assert is_harmless(str(error)), error
        assert all(line.isprintable() for line in "".join(traceback.format_exception(error)).split("\n"))


def test_the_drop_ins_errors_and_log_are_harmless(caplog: pytest.LogCaptureFixture) -> None:
    """A legacy bot prints what it is given, and websocket-client logs it."""
    caplog.set_level(logging.DEBUG)
    errors: list[BaseException] = []
    for head in HEADS:
        with answering(head, b"") as url:
            WebSocketApp(url, on_error=lambda _, error: errors.append(error)).run_forever()
    assert len(errors) == len(HEADS)
    assert all(is_harmless(one) for one in [*map(str, errors), *caplog.messages])


def test_the_connectors_log_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    """The compatible class has a logger of its own, which would be forgotten."""
    logger = logging.getLogger("finx_sync.compat.bitmex")
    with caplog.at_level(logging.WARNING):
        logger.warning("%s", EVIL)
    assert is_harmless(caplog.messages[0])
    assert BitMEXWebsocket.__module__ == logger.name


# On the terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the command line believe that a person looks on."""
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setattr("finx_sync.cli.doctor.on_terminal", lambda: True)
    monkeypatch.setattr("finx_sync.cli.options.on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")


NAMES = ["[/oops]", "[bold red]x", "[link=file:///etc/passwd]y[/link]", ":smile:", "\x1b[2Jz", "a\nb", "\u202ec"]


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A contract named [/oops] ended `finx-sync stream` with a MarkupError; another could hide or colour rows."""

    def send(connection: Any) -> None:
        connection.send(text(redis_key=name, instrument_name=name, mark_price="1234.5"))

    with ScriptedServer(send) as server:
        assert main(["stream", "BTC-1", "--api-key", "sandbox-key", "--url", server.url, "--count", "1"]) == 0
    out = capsys.readouterr().out
    assert escaped(name) in out
    assert "1,234.5" in out
    assert not {"\x1b[2J", "\u202e"} & set(out.split())


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("with_rich", [True, False])
def test_every_cell_title_and_column_is_plain_text(
    *, with_rich: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of a command, or the lines where rich is not installed, would be steered by a server."""
    if not with_rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    for name in NAMES:
        output.print_rows([{name: name, "b": 1.5}], title=name)
        out = capsys.readouterr().out
        assert out.count(escaped(name)) == 2 + with_rich
        assert all(line.isprintable() for line in out.split("\n"))


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("with_rich", [True, False])
def test_the_doctor_shows_plain_text(
    *, with_rich: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate's issuer, which is whoever answers, would steer the terminal."""
    if not with_rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    certificate = {"issuer": ((("organizationName", f"[/b]{EVIL}"),),), "notAfter": "Jan  5 09:34:43 2030 GMT"}
    finding = judge_certificate("TLSv1.3", certificate, 0.0)
    assert is_harmless(finding.text)
    chart = _Chart()
    chart.show(finding)
    chart.show(Finding("tick", "failed", f"[/b]{EVIL}", EVIL))
    out = capsys.readouterr().out
    assert out.count("[/b]a") == 2
    assert all(line.isprintable() for line in out.split("\n"))


def test_the_commands_complaint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A server would write lines of its own below the command's."""
    reply = server_frame(1, json.dumps({"error": EVIL}).encode())
    with RawServer(lambda peer: (peer.sendall(reply), until_close_frame(peer))) as server:
        assert main(["snap", "BTC:USD", "--api-key", "sandbox-key", "--url", server.url.rstrip("/")]) == 1
    err = capsys.readouterr().err
    assert err.endswith("\n")
    assert is_harmless(err[:-1])
    output.complain(EVIL)
    assert is_harmless(capsys.readouterr().err[:-1])


def test_what_is_shown_is_cut_and_one_line() -> None:
    """A megabyte of complaint would fill the log."""
    assert shown("x\n" * 1000, 10) == "x\\nx\\nx\\nx\\nx\\n"
