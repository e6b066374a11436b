"""`finx-sync doctor`: each step, and what it says when just that one fails."""

from __future__ import annotations

import datetime as dt
import json
import re
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from email.utils import format_datetime
from typing import Any

import pytest
import trustme
from websockets.sync.server import ServerConnection

from finx_sync import ConfigError, StreamManager
from finx_sync.cli.main import main
from finx_sync.doctor import STEPS, Finding, conversation, examine
from finx_sync.doctor.findings import judge_certificate, judge_clock, judge_plain
from finx_sync.errors import MissingKeyError
from finx_sync.sandbox import Sandbox
from finx_sync.transport import dial
from finx_sync.venues import registry
from tests.cli.test_commands import on_terminal
from tests.scripted import ScriptedServer, text
from tests.servers import (
    HTTP_AGREED,
    SWITCHING,
    Listener,
    Proxy,
    RawServer,
    connect_greeting,
    read_head,
    refused_address,
    server_frame,
    until_close_frame,
    until_closed,
)

KEY = "a-very-secret-word"


def diagnosis(
    url: str, *, seconds: float = 0.2, names: tuple[str, ...] = ("BTC-1",), **options: Any
) -> dict[str, Finding]:
    """The findings by step; each step has exactly one, reported in order."""
    reported: list[Finding] = []
    stream = StreamManager(options.pop("api_key", KEY), url=url, **{"connect_timeout": 5, **options})
    stream.subscribe_contract(*names)
    found = examine(stream, reported.append, tick_timeout=seconds)
    assert found == reported
    assert [one.step for one in found] == list(STEPS)
    shown = "".join(one.text + one.remedy + repr(one) for one in found)
    assert KEY not in shown
    return {one.step: one for one in found}


def first_failure(found: dict[str, Finding]) -> Finding:
    """The failed step; those before are fine, and it tells a remedy."""
    failed = next(one for one in found.values() if one.verdict == "failed")
    assert failed.remedy
    assert failed.error is not None
    return failed


def test_all_is_well_in_the_sandbox(sandbox: Sandbox) -> None:
    """A healthy connection would be called sick."""
    found = diagnosis(sandbox.url, api_key="sandbox-key", names=("BTC-PERPETUAL",), seconds=10)
    verdicts = {step: one.verdict for step, one in found.items()}
    assert verdicts == {step: "skipped" if step in ("proxy", "TLS") else "ok" for step in STEPS}
    assert all(one.seconds is not None for step, one in found.items() if one.verdict == "ok" and step != "clock")


@pytest.mark.parametrize("name", registry.installed())
def test_all_is_well_at_every_venue(name: str) -> None:
    """`--venue` would find faults where there are none: in another protocol, or in a subscription by URL."""
    venue = registry.find(name)
    stream = venue.open(environment="sandbox")
    venue.subscribe(stream, venue.example.split()[:1])
    found = examine(stream, lambda finding: None)
    assert [one for one in found if one.verdict == "failed"] == []
    assert {one.step: one.verdict for one in found}["tick"] == "ok"


def test_messages_that_cannot_be_read_are_named() -> None:
    """The step would only report silence, and send the user to check the names."""

    def script(connection: ServerConnection) -> None:
        for _ in connection:
            connection.send('{"instrument": ')

    with ScriptedServer(script) as server:
        failed = diagnosis(server.url)["tick"]
    assert "messages that cannot be read" in failed.text
    assert "{'instrument'" in failed.text or '{"instrument' in failed.text
    assert "report the message" in failed.remedy


# Each step with its fault. A case opens what it needs on a stack, and returns the URL and the options.

Case = Callable[[ExitStack, pytest.MonkeyPatch], tuple[str, dict[str, Any]]]


def no_key(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    def key() -> str:
        raise ConfigError("the vault is shut; open it")

    return "ws://127.0.0.1:1", {"api_key": key}


def unknown_name(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    def unknown(*_: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    patch.setattr(dial.socket, "getaddrinfo", unknown)
    return "ws://misspelt.test", {"allow_insecure": True}


def name_without_address(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    patch.setattr(dial.socket, "getaddrinfo", lambda *_: [])
    return "ws://empty.test", {"allow_insecure": True}


def refused(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    return f"ws://127.0.0.1:{refused_address()[1]}", {}


def absent_proxy(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    return "ws://x.test", {"proxy": f"http://me:{KEY}@127.0.0.1:{refused_address()[1]}", "allow_insecure": True}


def refusing_proxy(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    def refuse(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 403 Not from here\r\n\r\n")

    proxy = stack.enter_context(Listener(refuse))
    return "ws://x.test", {"proxy": f"http://127.0.0.1:{proxy.port}", "allow_insecure": True}


def untrusted(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return stack.enter_context(ScriptedServer(ssl_context=context)).url, {}


def silent(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    server = stack.enter_context(Listener(until_closed))
    return f"ws://127.0.0.1:{server.port}", {"connect_timeout": 0.2}


def broken(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    head = b"HTTP/1.1 503 Busy\r\n\r\n"
    return stack.enter_context(RawServer(lambda connection: None, head=head)).url.rstrip("/"), {}


def forbidden(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    head = b"HTTP/1.1 401 No\r\n\r\n"
    return stack.enter_context(RawServer(lambda connection: None, head=head)).url.rstrip("/"), {}


def answering(answer: Callable[[ServerConnection, dict[str, Any]], object]) -> Case:
    """A server that answers in its own way."""

    def case(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
        server = ScriptedServer()
        server.answer = answer  # type: ignore[method-assign]
        return stack.enter_context(server).url, {}

    return case


def replies(**by_function: str | None) -> Callable[[ServerConnection, dict[str, Any]], None]:
    """A text for each function that is called; a healthy server's where none is given."""
    texts = {
        "authenticate": '{"isAuth":true}',
        "getDeribitContractStream": text(),
        "keepAlive": '{"keepAlive":true}',
        **by_function,
    }

    def answer(connection: ServerConnection, message: dict[str, Any]) -> None:
        reply = texts[message["functionName"]]
        if reply is not None:
            connection.send(reply)

    return answer


def hang_up(code: int) -> Callable[[ServerConnection, dict[str, Any]], None]:
    return lambda connection, message: connection.close(code, "bye")


def deaf_to_pings(stack: ExitStack, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """Sends all that is wanted at once, and answers nothing."""

    def script(connection: socket.socket) -> None:
        for reply in ('{"isAuth":true}', text()):
            connection.recv(65536)
            connection.sendall(server_frame(1, reply.encode()))
        connection.sendall(server_frame(1, b'{"keepAlive":true}') * 3)
        connection.recv(65536)
        connection.sendall(server_frame(1, b'{"keepAlive":true}'))
        until_close_frame(connection)

    return stack.enter_context(RawServer(script)).url.rstrip("/"), {}


CASES: dict[str, tuple[Case, str, str, int]] = {
    "no key": (no_key, "address", "open it", 2),
    "unknown name": (unknown_name, "name", "spelling", 4),
    "name without address": (name_without_address, "name", "spelling", 4),
    "refused": (refused, "TCP", "server is running", 4),
    "absent proxy": (absent_proxy, "TCP", "server is running", 4),
    "refusing proxy": (refusing_proxy, "proxy", "no_proxy", 4),
    "untrusted": (untrusted, "TLS", "ssl_context", 4),
    "silent": (silent, "handshake", "connect_timeout", 5),
    "broken": (broken, "handshake", "later", 4),
    "forbidden": (forbidden, "handshake", "check the key", 3),
    "wrong key": (answering(replies(authenticate='{"isAuth":false}')), "key", "expired", 3),
    "key refused by closing": (answering(hang_up(1008)), "key", "check the key", 3),
    "key refused by an error": (answering(replies(authenticate='{"error":"no"}')), "key", "expired", 3),
    "lost": (answering(hang_up(1011)), "key", "", 4),
    "no tick": (answering(replies(getDeribitContractStream=None)), "tick", "names", 5),
    "refused name": (answering(replies(getDeribitContractStream='{"error":"unknown"}')), "tick", "names", 1),
    "no keepAlive": (answering(replies(keepAlive=None)), "keepAlive", "swallow", 5),
    "no pong": (deaf_to_pings, "ping", "swallow", 5),
}


@pytest.mark.parametrize("case", CASES)
def test_each_fault_is_found_where_it_is_with_its_remedy(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user would look for the fault at the wrong place, or not know what to do."""
    make, step, remedy, code = CASES[case]
    monkeypatch.setattr(conversation, "PATIENCE", 0.2)
    with ExitStack() as stack:
        url, options = make(stack, monkeypatch)
        failed = first_failure(diagnosis(url, **options))
        assert failed.step == step
        assert remedy in failed.remedy
    if case not in ("no key", "silent"):  # what the command line cannot be told
        with ExitStack() as stack:
            url, options = make(stack, monkeypatch)
            arguments = ["doctor", "BTC-1", "--url", url, "--api-key", KEY, "--seconds", "0.2"]
            arguments += ["--proxy", options["proxy"]] if "proxy" in options else []
            arguments += ["--allow-insecure"] if "allow_insecure" in options else []
            assert main(arguments) == code
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["step"] for row in rows] == list(STEPS)
        assert next(row["step"] for row in rows if row["verdict"] == "failed") == step


@contextmanager
def server_with_date(date: str) -> Any:
    """A server that tells the time."""
    head = SWITCHING.replace(b"\r\n\r\n", f"\r\nDate: {date}\r\n\r\n".encode())

    def script(connection: socket.socket) -> None:
        until_close_frame(connection)

    with RawServer(script, head=head) as server:
        yield server.url.rstrip("/")


def test_a_wrong_clock_is_seen_in_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """guard() would call every price old, and nobody would know why."""
    monkeypatch.setattr(conversation, "PATIENCE", 0.1)
    hour_ago = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=1)
    with server_with_date(format_datetime(hour_ago, usegmt=True)) as url:
        clock = diagnosis(url)["clock"]
    assert clock.verdict == "warning"
    assert "ahead of" in clock.text
    assert "NTP" in clock.remedy


LONG_AGO = "Thu, 01 Jan 2015 00:00:00 GMT"
AGREED = SWITCHING.replace(b"\r\n\r\n", f"\r\nDate: {LONG_AGO}\r\n\r\n".encode())
REFUSED = f"HTTP/1.1 401 Who are you\r\nDate: {LONG_AGO}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("head", "handshake", "clock", "key", "code"),
    [
        (AGREED, "ok", "warning", "failed", 2),
        (REFUSED, "skipped", "warning", "failed", 2),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "failed", "skipped", "skipped", 4),
        (b"HTTP/1.1 302 Go\r\nLocation: /else\r\n\r\n", "failed", "skipped", "skipped", 4),
        (b"nonsense\r\n\r\n", "failed", "skipped", "skipped", 4),
        (b"", "failed", "skipped", "skipped", 4),
    ],
    ids=["agreed", "refused", "busy", "redirected", "nonsense", "nothing"],
)
def test_without_a_key_what_needs_none_is_examined(  # what is expected of each step
    head: bytes,
    handshake: str,
    clock: str,
    key: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A newcomer without a key could not find out that a proxy is in the way, or that the clock is wrong."""

    def hang_up_or_wait(peer: socket.socket) -> None:
        if head == AGREED:
            until_close_frame(peer)

    with RawServer(hang_up_or_wait, head=head) as server:
        assert main(["doctor", "--url", server.url.rstrip("/")]) == code
    rows = {row["step"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(rows) == list(STEPS)
    verdicts = {step: row["verdict"] for step, row in rows.items()}
    assert [verdicts[step] for step in ("address", "name", "TCP")] == ["warning", "ok", "ok"]
    assert [verdicts[step] for step in ("handshake", "clock", "key")] == [handshake, clock, key]
    assert {verdicts[step] for step in STEPS[8:]} == {"skipped"}
    assert "there is no key" in rows["address"]["text"]
    assert "FINX_API_KEY" in rows["address"]["remedy"]
    assert server.requests[0].startswith(b"GET /streaming/ HTTP/1.1")


def test_without_a_key_tls_and_a_proxy_are_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two things that most often stand in the way at a company would not be looked at."""
    authority = trustme.CA()
    server_tls, client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_tls)
    authority.configure_trust(client_tls)

    def missing() -> str:
        raise MissingKeyError("no API key")

    with ScriptedServer(ssl_context=server_tls) as server, Proxy(connect_greeting, HTTP_AGREED) as proxy:
        options = {"ssl_context": client_tls, "proxy": f"http://127.0.0.1:{proxy.port}"}
        found = diagnosis(server.url, api_key=missing, **options)
    assert {step: found[step].verdict for step in ("proxy", "TLS", "handshake", "key")} == {
        "proxy": "ok",
        "TLS": "ok",
        "handshake": "ok",
        "key": "failed",
    }


def test_without_a_key_nothing_is_refused_for_its_secrecy(capsys: pytest.CaptureFixture[str]) -> None:
    """The doctor would fear for a key that there is not."""
    assert main(["doctor", "--url", "ws://no-such-host.invalid"]) == 4
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert next(row["step"] for row in rows if row["verdict"] == "failed") == "name"


@pytest.mark.parametrize(
    ("date", "now", "verdict", "hint"),
    [
        ("Thu, 01 Jan 1970 00:16:40 GMT", 1000.5, "ok", "within"),
        ("Thu, 01 Jan 1970 00:16:40 GMT", 1002.4, "ok", "within"),
        ("Thu, 01 Jan 1970 00:16:40 GMT", 1010.5, "warning", "10.0 s ahead of"),
        ("Thu, 01 Jan 1970 00:16:40 GMT", 990.5, "warning", "10.0 s behind"),
        ("Thu, 01 Jan 1970 00:16:40 -0000", 1000.5, "ok", "within"),
        ("yesterday", 1000.5, "skipped", "does not tell"),
        (None, 1000.5, "skipped", "does not tell"),
    ],
)
def test_clocks_are_compared(date: str | None, now: float, verdict: str, hint: str) -> None:
    """A right clock would be called wrong, or a wrong one right."""
    found = judge_clock(date, now - 0.01, now + 0.01)
    assert found.verdict == verdict
    assert hint in found.text


@pytest.mark.parametrize(
    ("certificate", "verdict", "hint"),
    [
        ({}, "warning", "not verified"),
        ({"notAfter": "Jan  1 00:00:00 2030 GMT", "issuer": ((("commonName", "C"),),)}, "ok", "by C, good for"),
        ({"notAfter": "Jan  3 00:00:00 2026 GMT"}, "warning", "an unnamed issuer, good for 1 more days"),
    ],
)
def test_certificates_are_judged(certificate: dict[str, Any], verdict: str, hint: str) -> None:
    """A certificate that expires next week would come as a surprise."""
    now = dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone.utc).timestamp()
    found = judge_certificate("TLSv1.3", certificate, now)
    assert found.verdict == verdict
    assert hint in found.text


def test_plain_connections_across_the_network_are_a_warning() -> None:
    """The user would not know that everybody can read the key."""
    assert judge_plain("ws.finx.io").verdict == "warning"
    assert judge_plain("127.0.0.1").verdict == "skipped"
    assert judge_plain("127.0.0.1.evil.test").verdict == "warning"


def test_over_tls_and_a_proxy() -> None:
    """What a company's network needs would not be looked at."""
    authority = trustme.CA()
    server_tls, client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_tls)
    authority.configure_trust(client_tls)
    server = ScriptedServer(ssl_context=server_tls)
    server.answer = replies()  # type: ignore[method-assign]
    with server, Proxy(connect_greeting, HTTP_AGREED) as proxy:
        found = diagnosis(server.url, ssl_context=client_tls, proxy=f"http://127.0.0.1:{proxy.port}", seconds=10)
    assert {one.verdict for one in found.values()} <= {"ok", "skipped"}
    assert "the proxy" in found["name"].text
    assert found["proxy"].verdict == "ok"
    assert "trustme" in found["TLS"].text


def test_silence_after_the_key_is_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers authenticate with silence would be called sick."""
    monkeypatch.setattr(conversation, "CONSENT", 0.1)
    with ExitStack() as stack:
        url, _ = answering(replies(authenticate=None))(stack, monkeypatch)
        found = diagnosis(url, seconds=10)
    assert found["key"].verdict == "ok"
    assert found["ping"].verdict == "ok"


def test_without_subscriptions_nothing_is_waited_for(sandbox: Sandbox) -> None:
    """A stream without names would be called sick."""
    found = diagnosis(sandbox.url, api_key="sandbox-key", names=())
    assert found["tick"].verdict == "skipped"
    assert found["ping"].verdict == "ok"


def test_on_a_terminal_it_is_a_list_for_people() -> None:
    """A person would face JSON."""
    shown = on_terminal("doctor", "--environment", "sandbox")
    for expected in ("✓ address", "embedded sandbox", "· proxy", "✓ keepAlive", "All is well."):
        assert expected in shown
    assert "sandbox-key" not in shown


def test_a_failure_on_a_terminal_shows_its_remedy(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """The remedy would be lost, with rich or without."""
    for module in ("rich", "nothing"):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        with monkeypatch.context() as patch:
            if module == "rich":
                patch.setitem(sys.modules, "rich.console", None)
            assert main(["doctor", "--url", "ws://127.0.0.1:1", "--api-key", KEY]) == 4
        shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert "✗ TCP" in shown
        assert "→ check the address, and that the server is running" in shown
        assert "1 of 11 steps failed, first: TCP." in shown
