"""Secrets that a server echoes in places where nobody expects one: none may leave by any exit."""

from __future__ import annotations

import base64
import html
import json
import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import finx_sync
from finx_sync import AuthorizationError, ConfigError, FinxSyncError, StreamManager, redaction
from finx_sync.cli.main import main
from finx_sync.compat.finx import TickPlant
from finx_sync.grid import Grid
from finx_sync.redaction import REDACTED, excerpt, redact, remember
from finx_sync.session.backoff import Backoff
from finx_sync.transport.proxy import read_proxy
from finx_sync.venues.bitmex.stream import BitmexStream
from finx_sync.venues.ftx.stream import FtxStream
from finx_sync.venues.ime.auth import Cookie, Header, QueryToken
from finx_sync.venues.ime.stream import ImeStream
from tests.scripted import ScriptedServer
from tests.servers import (
    SWITCHING,
    Listener,
    RawServer,
    accept_key,
    read_head,
    refused_address,
    server_frame,
    until_close_frame,
    until_closed,
)
from tests.waiting import wait_until

PLAIN = "k9-planted-secret"
ODD = "p/l#a?n\"t'e\\d &é<7"
SHORT = "public"
"""A real FinX key, and a plain word."""


def forms(secret: str) -> dict[str, str]:
    """The ways in which a server may write what it was sent."""
    in_json = json.dumps(secret)[1:-1]
    return {
        "plain": secret,
        "percent signs": quote(secret, safe=""),
        "percent signs, lower case": quote(secret, safe="").replace("%2F", "%2f"),
        "percent signs twice": quote(quote(secret, safe=""), safe=""),
        "form": quote_plus(secret),
        "JSON": in_json,
        "JSON in JSON": json.dumps(in_json)[1:-1],
        "JSON, not ASCII": json.dumps(secret, ensure_ascii=False)[1:-1],
        "JSON, slashes escaped": in_json.replace("/", "\\/"),
        "Python": repr(secret)[1:-1],
        "HTML": html.escape(secret),
        "base64": base64.b64encode(secret.encode()).decode(),
        "base64 behind a user": base64.b64encode(f"user:{secret}".encode()).decode(),
        "base64 behind a longer user": base64.b64encode(f"users:{secret}".encode()).decode(),
        "base64 for URLs": base64.urlsafe_b64encode(f"me:{secret}".encode()).decode(),
    }


def survives(secret: str, text: str) -> list[str]:
    """The forms of a secret that a text still holds."""
    return [name for name, form in forms(secret).items() if form in text]


# By value


@pytest.mark.parametrize("secret", [PLAIN, ODD])
@pytest.mark.parametrize("form", forms(PLAIN))
def test_a_known_secret_is_found_in_any_notation(secret: str, form: str) -> None:
    """A server that writes the key in another notation would have it shown."""
    remember(secret)
    text = redact(f"nothing is at (/v2/{forms(secret)[form]}) here")
    assert survives(secret, text) == []
    assert text.startswith("nothing is at (")
    assert text.endswith(") here")


@given(st.text(min_size=8, max_size=30).filter(lambda text: len(text.strip()) >= 8 and not text.strip().isalpha()))
@example("a" * 8 + "\\" * 3)
@example("\ud800-lone-surrogate")
@example("*" * 7 + "x")
def test_any_long_secret_is_found(secret: str) -> None:
    """A key of unusual characters would not be recognised, or break the redaction itself."""
    redaction._known = ()
    secret = secret.strip()
    if secret.isdigit() and len(secret) < redaction.LONG_NUMBER:
        return
    remember(secret)
    for text in (secret, json.dumps(secret), repr(secret), quote(secret, errors="surrogatepass"), html.escape(secret)):
        once = redact(f"x {text} y")
        assert redact(once) == once
        assert secret not in once.replace(REDACTED, "")


@pytest.mark.parametrize(
    "text",
    [
        "Cannot GET /public",
        "Cannot GET /v2/public",
        "https://else.test/v2/public?x=1",
        "see %2Fv2%2Fpublic%2F",
        "?who=public&x=1",
        '{"who": "public", "x": 1}',
        '{\\"who\\": \\"public\\"}',
        "who's 'public'?",
        "unknown key public",
        "invalid token: public.",
        "Bearer public",
        "the key is public",
    ],
)
def test_a_plain_word_is_hidden_where_a_key_would_stand(text: str) -> None:
    """A key as plain as `public` would be shown in a redirect or an error page."""
    remember(SHORT)
    assert SHORT not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "the public key of the server",
        "call('public/get_instruments') needs no login",
        '{"public": 1}',
        "streams of publications",
        "a republican's public opinion",
    ],
)
def test_a_plain_word_is_left_elsewhere(text: str) -> None:
    """A key as plain as `public` would blot that word out of every error."""
    remember(SHORT)
    assert redact(text) == text


def test_a_number_is_left_where_a_price_would_stand() -> None:
    """A key of digits alone would make a recording's JSON unreadable."""
    remember("20220615", "contracts")
    text = '{"date":20220615,"contracts":["a","b"]}'
    assert redact(text) == text
    assert redact("Cannot GET /20220615, no contracts here") == "Cannot GET /***, no *** here"


def test_no_half_of_a_secret_is_left_at_a_cut() -> None:
    """The end of an excerpt would show the greater part of a key."""
    secret = "half-" + "s3cret" * 20
    remember(secret)
    for before in range(0, 3000, 7):
        text = excerpt("." * before + secret + "." * 5000, 200)
        assert "half-" not in text
        assert len(text) == 200


def test_the_number_of_known_secrets_is_bounded() -> None:
    """A function that returns a new token at each connect would fill the memory, and slow every error down."""
    remember("the-first-of-many")
    for number in range(2 * redaction.MAX_SECRETS):
        remember(f"token-number-{number}")
        remember("the-one-in-use")
    assert len(redaction._known) == redaction.MAX_SECRETS
    assert redact("the-one-in-use, the-first-of-many") == "***, the-first-of-many"


# Proxies

PASSWORDS = [
    "pa/ss-w0rd",
    "pa#ss-w0rd",
    "pa?ss-w0rd",
    'pa"ss-w0rd',
    "pa'ss-w0rd",
    "pa ss-w0rd",
    "pa@ss-w0rd",
    "1/2-w0rd",
]
PARTS = ("w0rd", "pa/", "pa#", "pa?", 'pa"', "pa'", "pa ", "pa@", "1/2")


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["http://", "socks5://", "ftp://", ""])
def test_a_proxy_password_is_in_no_error(password: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy's password would stand in the very error that it causes, or name the host that is looked up."""
    url = f"{scheme}me:{password}@127.0.0.1:{refused_address()[1]}"
    monkeypatch.setenv("http_proxy", url)
    app = finx_sync.WebSocketApp("ws://127.0.0.1:1/")
    errors: list[BaseException] = []
    app.on_error = lambda _, error: errors.append(error)
    calls: list[Callable[[], object]] = [
        lambda: StreamManager("sandbox-key", url="ws://127.0.0.1:1", proxy=url).start(),
        lambda: StreamManager("sandbox-key", url="ws://127.0.0.1:1").start(),
        lambda: StreamManager("sandbox-key", url="ws://127.0.0.1:1").list_pairs(timeout=5),
        lambda: Grid("sandbox-key", url="ws://127.0.0.1:1").list_functions(timeout=5),
        app.run_forever,
    ]
    for call in calls:
        try:
            call()
        except FinxSyncError as error:
            errors.append(error)
    assert len(errors) == len(calls)
    for error in errors:
        shown = "".join([*traceback.format_exception(error, chain=True), repr(error)])
        shown = "".join(line for line in shown.splitlines() if not line.startswith("    "))  # this file's own source
        assert not any(part in shown for part in PARTS), shown
        assert "me:" not in shown


def test_a_password_that_ends_the_host_says_how_to_write_it() -> None:
    """A user would not know what is wrong with a password that works elsewhere."""
    with pytest.raises(ConfigError, match=r"'http://\*\*\*@proxy:3128' is not a proxy URL.*%2F") as refused:
        read_proxy("http://me:1/2@proxy:3128")
    assert "1/2" not in str(refused.value)
    assert read_proxy("http://me:1%2F2@proxy:3128").password == "1/2"


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "http"])
def test_a_login_is_advised_in_the_proxys_own_scheme(scheme: str) -> None:
    """The remedy for a SOCKS proxy would turn it into an HTTP proxy."""

    def refuse(client: socket.socket) -> None:
        if scheme == "http":
            read_head(client)
            client.sendall(b"HTTP/1.1 407 Who are you\r\n\r\n")
        else:
            client.recv(3)
            client.sendall(b"\x05\xff")

    with Listener(refuse) as proxy, pytest.raises(FinxSyncError, match=f"{scheme}://user:password@host:port"):
        StreamManager("sandbox-key", url="ws://127.0.0.1:1", proxy=f"{scheme}://127.0.0.1:{proxy.port}").start()


# Every exit

OPENED: dict[str, Callable[[str, str], Any]] = {
    "finx": lambda url, key: StreamManager(key, url=url, reconnect=Backoff(first=0.01, cap=0.01)),
    "a function's key": lambda url, key: StreamManager(lambda: key, url=url, reconnect=Backoff(first=0.01, cap=0.01)),
    "bitmex": lambda url, key: BitmexStream("XBTUSD", url=url, api_key="some-other-key", api_secret=key),
    "bitmex's id": lambda url, key: BitmexStream("XBTUSD", url=url, api_key=key, api_secret="some-other-secret"),
    "ftx": lambda url, key: FtxStream("some-other-key", key, url=url),
    "ime, bearer": lambda url, key: ImeStream(url=url, names="ContractA", auth=key),
    "ime, query": lambda url, key: ImeStream(url=url, names="ContractA", auth=QueryToken(key)),
    "ime, cookie": lambda url, key: ImeStream(url=url, names="ContractA", auth=Cookie(key)),
    "ime, header": lambda url, key: ImeStream(url=url, names="ContractA", auth=lambda: Header(key, "X-Odd")),
}


NOTATIONS = ("plain", "percent signs, lower case", "JSON in JSON", "base64 behind a user")


def answers(secret: str) -> Iterator[tuple[str, bytes | None, bytes]]:
    """What a server may do with a secret: a name, the answer to the handshake, what follows it."""
    for name in NOTATIONS:
        form = forms(secret)[name]
        body = f"Cannot GET /{form}".encode()
        length = f"Content-Length: {len(body)}\r\n".encode()
        safe = form if form.isascii() and form.isprintable() else quote(secret, safe="")
        yield f"page, {name}", b"HTTP/1.1 404 No\r\n" + length + b"\r\n" + body, b""
        yield f"redirect, {name}", f"HTTP/1.1 302 Go\r\nLocation: https://else.test/v2/{safe}\r\n\r\n".encode(), b""
        yield f"status, {name}", f"HTTP/1.1 418 {safe}\r\nX-Echo: {safe}\r\n\r\n".encode(), b""
        yield f"reason, {name}", None, server_frame(8, (1008).to_bytes(2, "big") + f"no {form}".encode()[:120])
        yield f"message, {name}", None, server_frame(1, f"who is {form}?".encode()) + server_frame(8, b"\x03\xe8")
        told = json.dumps({"error": f"who is {form}?"}).encode()
        yield f"error, {name}", None, server_frame(1, told) + server_frame(8, b"\x03\xe8")


@contextmanager
def answering(head: bytes | None, frames: bytes) -> Iterator[str]:
    """A server that answers so: in HTTP, or with frames behind an agreed handshake; the URL."""

    def serve(peer: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request and (piece := peer.recv(65536)):  # a POST's body may follow
            request += piece
        if head is not None:
            peer.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            peer.shutdown(socket.SHUT_WR)
            until_closed(peer)
        elif request:
            peer.sendall(SWITCHING.replace(b"%s", accept_key(request)) + frames)
            until_close_frame(peer)

    with Listener(serve, connections=50) as server:
        yield f"ws://127.0.0.1:{server.port}"


@pytest.mark.parametrize("opened", OPENED.values(), ids=OPENED)
@pytest.mark.parametrize("secret", [PLAIN, ODD], ids=["plain", "odd"])
def test_no_secret_leaves_by_any_exit(
    opened: Callable[[str, str], Any],
    secret: str,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """A key would stand in a log, an error, a traceback, a report or a recording, where a server echoes it oddly."""
    if "ime" in request.node.callspec.id:  # its credentials are ASCII: a header must carry them
        secret = secret.replace("é", "e")
    caplog.set_level(logging.DEBUG)
    for name, head, frames in answers(secret):
        with answering(head, frames) as url:
            stream = opened(url, secret)
            told: list[FinxSyncError] = []
            stream.on_error(told.append)
            path = tmp_path / "feed.finxrec"
            recording = stream.record(path, compress=False)
            try:
                stream.start(5)
                wait_until(lambda: stream.failure is not None or stream.stats().reconnects > 0)  # noqa: B023
            except FinxSyncError as error:
                told.append(error)
            finally:
                stream.stop()
                recording.stop()
        told += [stream.failure] if stream.failure is not None else []
        written = path.read_bytes().decode("utf-8", "replace")
        path.unlink()
        shown = [stream.dump(), repr(stream), repr(stream._account), written, caplog.text]
        for error in told:
            shown += [str(error), repr(error), *traceback.format_exception(error), repr(vars(error))]
        shown += [repr(change) for change in [stream.stats()]]
        for text in shown:
            assert survives(secret, text) == [], (name, text)
        caplog.clear()


def test_an_old_key_is_hidden_after_the_rotation() -> None:
    """The server's complaint about the old key would show it, as soon as there is a new one."""
    with ScriptedServer() as server:
        told: list[str] = []
        stream = StreamManager("old-k3y-of-yesterday", url=server.url)
        stream.on_error(lambda error: told.append(str(error)))
        with stream:
            first = server.next_connection()
            stream.rotate_key("new-k3y-of-today")
            second = server.next_connection()
            wait_until(lambda: first.close_code is not None)
            second.send('{"error": "was old-k3y-of-yesterday, is new-k3y-of-today"}')
            wait_until(lambda: bool(told))
        assert "was ***, is ***" in told[0]
        report = stream.dump()
        assert "k3y" not in report


CALLS: dict[str, Callable[[str, str], object]] = {
    "websocket": lambda url, key: StreamManager(key, url=url).get_tick_snap("BTC:USD", timeout=5),
    "a message": lambda url, key: finx_sync.get_tick_snap("BTC:USD", api_key=key, url=url, request_form="message"),
    "rest": lambda url, key: StreamManager(key, url=url).list_pairs(timeout=5),
    "history": lambda url, key: StreamManager(key, url=url).get_tick_history("BTC:USD", "2022-06-15", timeout=5),
    "grid": lambda url, key: Grid(key, url=url).list_functions(timeout=5),
    "grid, rest": lambda url, key: Grid(key, url=url, via="rest").list_functions(timeout=5),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("secret", [PLAIN, ODD], ids=["plain", "odd"])
def test_no_function_shows_a_secret(
    call: Callable[[str, str], object], secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A function's error would show the key that an error page or a redirect holds."""
    caplog.set_level(logging.DEBUG)
    for name, head, frames in answers(secret):
        if head is None and call in (CALLS["rest"], CALLS["grid, rest"]):
            continue
        with answering(head, frames) as url, pytest.raises(FinxSyncError) as failed:
            call(url, secret)
        shown = [str(failed.value), repr(failed.value), repr(vars(failed.value)), caplog.text]
        for text in [*shown, *traceback.format_exception(failed.value)]:
            assert survives(secret, text) == [], (name, text)


def test_the_drop_in_hides_what_its_url_and_headers_hold(caplog: pytest.LogCaptureFixture) -> None:
    """A legacy bot prints what `on_error` is given: the server's headers and page, with the key in them."""
    caplog.set_level(logging.DEBUG)
    body = f"Cannot GET /{PLAIN} for {SHORT}-but-long".encode()
    head = b"HTTP/1.1 404 No\r\nX-Echo: %b\r\nContent-Length: %d\r\n\r\n%b" % (PLAIN.encode(), len(body), body)
    errors: list[BaseException] = []
    with RawServer(until_closed, head=head) as server:
        app = finx_sync.WebSocketApp(
            f"{server.url}streaming/{PLAIN}",
            header={"Authorization": f"Bearer {SHORT}-but-long"},
            on_error=lambda _, error: errors.append(error),
        )
        app.run_forever()
    shown = "".join([str(errors[0]), repr(errors[0]), caplog.text, repr(app)])
    assert "404" in shown
    assert PLAIN not in shown
    assert f"{SHORT}-but-long" not in shown


def test_a_key_in_a_traceback_of_the_users_is_hidden_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that raises with the server's text would have the key logged."""
    with ScriptedServer() as server, StreamManager(PLAIN, url=server.url) as stream:

        @stream.on_message
        def careless(text: str) -> None:
            raise ValueError(f"cannot use\n{text}")

        server.next_connection().send(f'{{"x": "is {PLAIN}"}}')
        wait_until(lambda: "cannot use" in caplog.text)
    raised = next(record for record in caplog.records if record.exc_text)
    text = logging.Formatter().format(raised)
    assert "careless" in text
    assert "cannot use\\n" in text
    assert PLAIN not in text


@pytest.mark.parametrize("secret", [PLAIN, ODD], ids=["plain", "odd"])
def test_the_command_line_shows_no_secret(
    secret: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key would stand on a screen that others see, or in a cron job's mail."""
    monkeypatch.setenv("FINX_API_KEY", secret)
    for name, head, frames in answers(secret):
        for command in (["stream", "BTC-PERPETUAL", "--seconds", "0.3"], ["snap", "BTC:USD"], ["doctor"], ["pairs"]):
            if head is None and command == ["pairs"]:
                continue
            with answering(head, frames) as url:
                code = main([*command, "--url", url])
            shown = "".join(capsys.readouterr())
            assert code != 0
            assert survives(secret, shown) == [], (name, command)


def test_the_remedy_is_not_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    """ "pass api_key=***" would tell a newcomer nothing."""
    assert main(["snap", "BTC:USD"]) == 2
    assert "pass api_key=..., or set FINX_API_KEY" in capsys.readouterr().err
    assert redact("pass api_key=..., or else") == "pass api_key=..., or else"


def test_a_function_that_returns_tickplants_key_hides_it() -> None:
    """The old SDK's default key, which is a plain word, would be shown in a redirect."""
    with RawServer(until_closed, head=b"HTTP/1.1 302 Go\r\nLocation: https://else.test/v2/public\r\n\r\n") as server:
        plant = TickPlant("public", timeout=5)
        plant.endpoint = server.url
        with pytest.raises(FinxSyncError) as failed:
            plant.list_deribit_contracts()
    assert "else.test/v2/***" in str(failed.value)
    assert not isinstance(failed.value, AuthorizationError)
