"""The rest of the drop-in: fragments, timers, what is shown and logged, and what each error becomes."""

from __future__ import annotations

import gc
import logging
import socket
import ssl
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import trustme
import websocket

from finx_sync import WebSocketApp
from finx_sync.errors import (
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    FinxSyncError,
    HandshakeError,
    TLSError,
)
from finx_sync.transport.app import as_finx_error, quiet_thread
from tests.servers import RawServer, Server, client_frames, echo, server_frame, until_close_frame
from tests.transport.log import KEY, failure

# Fragments and the rest of the drop-in.


def test_fragments_reach_the_callbacks_as_in_the_original() -> None:
    """A legacy bot that puts fragments together itself would get other pieces."""
    frames = [
        server_frame(1, b"one", fin=False),
        server_frame(9, b"p"),
        server_frame(0, b"two", fin=False),
        server_frame(0, b"three"),
        server_frame(2, b"\xff", fin=False),
        server_frame(0, b"\xfe"),
        server_frame(1, b"whole"),
        server_frame(8, b"\x03\xe8bye"),
    ]

    def script(connection: socket.socket) -> None:
        connection.sendall(b"".join(frames))
        until_close_frame(connection)

    def told(kind: type[websocket.WebSocketApp], names: list[str]) -> list[tuple[Any, ...]]:
        events: list[tuple[Any, ...]] = []
        callbacks = {
            name: (lambda app, *values, name=name, events=events: events.append((name, *values))) for name in names
        }
        with RawServer(script) as server:
            kind(server.url, **callbacks).run_forever(skip_utf8_validation=True)
        with warnings.catch_warnings():  # the original leaves its socket to the garbage collector
            warnings.simplefilter("ignore")
            gc.collect()
        return events

    names = ["on_open", "on_message", "on_data", "on_ping", "on_close"]
    fragments = [*names, "on_cont_message"]
    assert told(WebSocketApp, fragments) == told(websocket.WebSocketApp, fragments)
    # `on_data` names the opcode of the message, as the original's documentation says; its code names the last
    # fragment's, 0, so that nobody could tell a fragmented text from fragmented bytes.
    ours, theirs = told(WebSocketApp, names), told(websocket.WebSocketApp, names)
    assert [event[2] for event in ours if event[0] == "on_data"] == [1, 2, 1]
    assert [event[:2] for event in ours] == [event[:2] for event in theirs]


def test_timers_run_on_the_reading_thread_in_order() -> None:
    """Keep-alive messages would not be sent, or from a thread that must not touch the connection."""
    calls: list[Any] = []

    def on_open(app: WebSocketApp) -> None:
        app.call_later(0.02, lambda: calls.append(("once", threading.get_ident())))
        app.call_later(0, lambda: calls.append(("every", threading.get_ident())), every=0.01)
        app.call_later(0.1, app.close)

    with Server(echo) as server:
        app = WebSocketApp(server.url, on_open=on_open)
        app.run_forever()
        app.call_later(0, lambda: calls.append("never"))
    assert {thread for _, thread in calls} == {threading.get_ident()}
    names = [name for name, _ in calls]
    assert names.count("once") == 1
    assert names.count("every") >= 3
    assert names[0] == "every"


def test_the_repr_and_the_log_hide_the_key(caplog: pytest.LogCaptureFixture) -> None:
    """The key would stand in a log file or on a screen."""
    log = logging.getLogger("websocket")
    with RawServer(lambda connection: None) as server, caplog.at_level(logging.DEBUG, logger="websocket"):
        app = WebSocketApp(f"{server.url}streaming/{KEY}")
        shown: list[str] = [repr(app)]
        app.on_open = lambda app: shown.append(repr(app))
        app.run_forever()
        log.error("GET /streaming/%s", KEY)
        with quiet_thread(), quiet_thread():
            log.error("unheard")
        log.error("heard")
    assert KEY not in "".join(shown)
    assert "closed" in shown[0]
    assert "heard" in caplog.messages
    assert "unheard" not in caplog.messages
    assert KEY not in caplog.text


def wrapped(inner: Exception, outer: Exception) -> Exception:
    """`outer`, raised while `inner` was handled."""
    try:
        try:
            raise inner
        except type(inner):
            raise outer  # noqa: B904  # as websocket-client does it
    except Exception as error:  # noqa: BLE001  # it is what is wanted
        return error


LOST = ConnectionLostError("an older one")
TIMEOUT = ConnectTimeoutError("no connection within 1 s")


@pytest.mark.parametrize(
    ("error", "kind", "hint"),
    [
        (LOST, ConnectionLostError, "older"),
        (wrapped(TIMEOUT, websocket.WebSocketTimeoutException("timed out")), ConnectTimeoutError, "within 1 s"),
        (websocket.WebSocketTimeoutException("timed out"), ConnectTimeoutError, "timed out"),
        (TimeoutError("timed out"), ConnectTimeoutError, "timed out"),
        (wrapped(LOST, websocket.WebSocketBadStatusException("no", 403)), HandshakeError, "403"),
        (wrapped(LOST, ConnectionRefusedError("refused")), ConnectError, "refused"),
        (websocket.WebSocketException(f"bad /streaming/{KEY}"), HandshakeError, "***"),
        (ValueError(f"?token={KEY}"), ConnectError, "***"),
    ],
)
def test_each_error_becomes_one_of_ours(error: BaseException, kind: type[FinxSyncError], hint: str) -> None:
    """`except FinxSyncError` would miss it, or an older error would be reported in its place."""
    found = as_finx_error(error)
    assert isinstance(found, kind)
    assert hint in str(found)
    assert KEY not in str(found)


def test_pings_go_out_in_time_and_are_answered() -> None:
    """A server that closes silent connections would close ours, and a dead one would never be noticed."""
    answered: list[bool] = []
    seen: list[tuple[int, bytes]] = []

    def script(connection: socket.socket) -> None:
        connection.settimeout(5)
        connection.sendall(server_frame(9, b"from the server"))
        data = b""
        while sum(opcode == 9 for opcode, _ in client_frames(data)) < 3:
            data += connection.recv(65536)
        seen.extend(client_frames(data))
        answered.append((10, b"from the server") in seen)

    with RawServer(script) as server:
        WebSocketApp(server.url).run_forever(ping_interval=0.05, ping_payload="from us")
    assert answered == [True]
    assert seen.count((9, b"from us")) == 3


def test_the_name_is_checked_without_a_context_of_the_users(authority: trustme.CA, tmp_path: Path) -> None:
    """A certificate of the right issuer for any other host would do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.test").configure_cert(context)
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with Server(echo, ssl=context) as server:
        error = failure(server.url, {"sslopt": {"ca_certs": str(bundle)}})
        assert isinstance(error, TLSError)
        assert "check the address" in str(error)
