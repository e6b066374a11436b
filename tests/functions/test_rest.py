"""The REST functions: against the sandbox, and against servers that misbehave on real sockets."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import logging
import os
import signal
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

import finx_sync
from finx_sync import AuthorizationError, ContractTick, StreamManager, Tick
from finx_sync.errors import (
    ConnectError,
    ConnectionLostError,
    FinxSyncError,
    FunctionTimeoutError,
    InvalidInputError,
    NameResolutionError,
    ProxyError,
    RateLimitedError,
    ServerRefusedError,
    TLSError,
    UnexpectedReplyError,
    UnreadableMessageError,
)
from finx_sync.sandbox import Sandbox
from tests.scripted import TICK
from tests.servers import (
    SOCKS4_AGREED,
    SOCKS5_AGREED,
    Listener,
    Proxy,
    read_head,
    socks4_greeting,
    socks5_greeting,
)

UTC = dt.timezone.utc
KEY = "sandbox-key"
PAIRS_PATH = f"/backend/observations/pairs?APIKey={KEY}"
FOUND = {"pair": "BTC:USD", "date": "2022-08-04", "time": "04:05:00.000Z", "exchange": "FTX", "price": "1.5"}


def manager(url: str, **options: Any) -> StreamManager:
    """A manager of a test's own server."""
    return StreamManager(KEY, url=url, **options)


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    """An HTTP response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


PAIRS = answer("200 OK", b'["BTC:USD"]')


class Scripted(Listener):
    """Answers each request, on however many connections, with the next response; then hangs up."""

    def __init__(self, *responses: bytes | Callable[[socket.socket], object]) -> None:
        super().__init__(self._talk, connections=len(responses))
        self._responses = list(responses)
        self.requests: list[bytes] = []
        self.url = f"ws://127.0.0.1:{self.port}"

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        while self._responses and (request := read_head(connection)):
            self.requests.append(request)
            response = self._responses.pop(0)
            if callable(response):
                response(connection)
                return
            connection.sendall(response)

    @property
    def paths(self) -> list[str]:
        """What was asked for."""
        return [request.split(b" ")[1].decode() for request in self.requests]


@pytest.fixture(autouse=True)
def no_key_anywhere(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test whose log, at any level and of any library, tells the key."""
    caplog.set_level(logging.DEBUG)
    yield
    assert KEY not in caplog.text


def fails(call: Callable[[], object], kind: type[FinxSyncError]) -> Any:
    """The error that a call raises; neither it nor what it was raised from tells the key."""
    with pytest.raises(kind) as caught:
        call()
    shown = "".join(traceback.format_exception(caught.value))
    inner: BaseException | None = caught.value
    while inner is not None:
        shown += repr(inner) + str(inner.args)
        inner = inner.__cause__ or inner.__context__
    assert KEY not in shown
    return caught.value


# Against the sandbox


def test_every_path(sandbox: Sandbox) -> None:
    """A documented path could not be used, or its answer would be of another type."""
    stream = manager(sandbox.url)
    assert "BTC:USD" in stream.list_pairs()
    now = stream.get_pair_quote("BTC:USD")
    assert isinstance(now, Tick)
    past = stream.get_pair_quote("BTC:USD", "2022-08-04T04:05", width=30)
    assert past is not None
    assert abs((past.datetime - dt.datetime(2022, 8, 4, 4, 5, tzinfo=UTC)).total_seconds()) <= 30
    options = stream.get_options_timeslice("BTC", dt.datetime(2022, 8, 4, 4, 5, tzinfo=UTC))
    assert len(options) > 50
    assert all(isinstance(option, ContractTick) and option.mark_iv is not None for option in options)
    assert "BTC-24JUN22-20000-C" in stream.list_contracts(as_of="2022-06-15")
    assert "BTC-24JUN22-20000-C" not in stream.list_contracts()
    reference = stream.get_reference_data("BTC-26AUG22-20000-C", via="rest")
    assert reference == stream.get_reference_data("BTC-26AUG22-20000-C")


def test_the_sdks_ways_of_writing(sandbox: Sandbox) -> None:
    """The sandbox would not serve the SDK, which ends one path with a slash and writes None for no date."""
    for path, expected in (
        (f"reference/secdb/?APIKey={KEY}&securityId=BTC-PERPETUAL", "perpetual"),
        (f"deribit/list-deribit-contracts?APIKey={KEY}&as_of_date=None", "BTC-PERPETUAL"),
    ):
        assert expected in requests.get(f"{sandbox.http_url}/backend/{path}", timeout=10).text


def test_without_a_manager(sandbox: Sandbox) -> None:
    """A script that wants one number would have to make a manager."""
    where = {"api_key": KEY, "url": sandbox.url}
    assert finx_sync.list_pairs(**where)
    assert finx_sync.get_pair_quote("BTC:USD", **where)
    series = finx_sync.get_pair_quote_series("BTC:USD", 1659586000, 1659586010, periods=2, **where)
    assert len(series) == 2
    assert finx_sync.get_options_timeslice("ETH", 1659586000, **where)
    assert len(finx_sync.get_options_timeslice_series("ETH", 1659586000, 1659586010, periods=2, **where)) == 2
    assert finx_sync.list_contracts(as_of=dt.date(2022, 6, 15), **where)
    assert finx_sync.list_pairs(environment="sandbox")


def test_series_say_what_they_found_at_each_moment(sandbox: Sandbox) -> None:
    """A moment without a quote would be left out in silence, or moved."""
    stream = manager(sandbox.url)
    start = dt.datetime(2022, 8, 4, 4, 0, tzinfo=UTC)
    quotes = stream.get_pair_quote_series("BTC:USD", start, start + dt.timedelta(hours=1), periods=6, width=30)
    assert list(quotes) == [start + dt.timedelta(minutes=10 * number) for number in range(6)]
    for at, quote in quotes.items():
        assert quote is None or abs((quote.datetime - at).total_seconds()) <= 30
    assert any(quotes.values())
    slices = stream.get_options_timeslice_series("BTC", start, start + dt.timedelta(hours=1), periods=2)
    assert [{option.datetime for option in options} for options in slices.values()] == [{at} for at in slices]
    future = dt.datetime(2199, 1, 1, tzinfo=UTC)
    assert stream.get_pair_quote("BTC:USD", future) is None
    assert stream.get_options_timeslice("BTC", future) == []


def test_a_series_uses_one_connection() -> None:
    """A hundred quotes would cost a hundred TLS handshakes."""
    with Scripted(*[answer("200 OK", json.dumps(FOUND).encode())] * 5) as server:
        series = manager(server.url).get_pair_quote_series("BTC:USD", 100, 110, periods=5)
        assert len(series) == 5
    assert server.accepted == 1
    assert [path.split("&")[2] for path in server.paths] == [f"unixTimeTarget={100 + 2 * n}" for n in range(5)]


def test_close_lets_the_connection_go() -> None:
    """A program that asks many servers, one after the other, would run out of descriptors."""
    with Scripted(PAIRS, PAIRS, PAIRS) as server:  # it takes the second connection when the first has ended
        stream = manager(server.url)
        assert stream.list_pairs() == stream.list_pairs()
        for _ in range(2):
            stream.close()
        assert stream.list_pairs(timeout=20) == ["BTC:USD"]  # it can be used again
        stream.close()
    assert server.accepted == 2


def test_what_is_sent() -> None:
    """The server would be asked for something else, in another way than its own SDK asks."""
    with Scripted(*[answer("200 OK", b"[]")] * 2, answer("200 OK", b"{}")) as server:
        stream = manager(server.url)
        stream.get_options_timeslice("BTC", 1659586000.5, width=7)
        stream.list_contracts(as_of="2022-06-15")
        stream.get_reference_data("A B".replace(" ", "-"), via="rest")
    assert server.paths == [
        f"/backend/observations/options/time_slice?APIKey={KEY}&underlying_symbol=BTC"
        "&timeslice_target_datestamp=1659586000.5&timeslice_width_seconds=7",
        f"/backend/deribit/list-deribit-contracts?APIKey={KEY}&as_of_date=2022-06-15",
        f"/backend/reference/secdb?APIKey={KEY}&securityId=A-B",
    ]
    assert b"\r\nCookie:" not in server.requests[0]


def test_from_many_threads(sandbox: Sandbox) -> None:
    """Calls from several threads would get each other's answers."""
    stream = manager(sandbox.url)
    pairs = ["BTC:USD", "ETH:USD", "SOL:USD"] * 5
    answers: list[tuple[str, str]] = []

    def ask(pair: str) -> None:
        quote = stream.get_pair_quote(pair)
        assert quote is not None
        answers.append((pair, quote.pair))

    threads = [threading.Thread(target=ask, args=(pair,)) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == len(pairs)
    assert all(asked == got for asked, got in answers)


def test_a_function_that_is_only_announced_is_named_in_the_refusal(sandbox: Sandbox) -> None:
    """A user would not learn which function the server does not have."""
    stream = manager(sandbox.url)
    assert "ratingsData" in str(fails(lambda: stream.call("ratingsData", securityId="BTC"), ServerRefusedError))


@pytest.mark.parametrize(
    "call",
    [
        lambda stream: stream.get_pair_quote("BTCUSD"),
        lambda stream: stream.get_pair_quote("BTC:USD", "yesterday"),
        lambda stream: stream.get_pair_quote("BTC:USD", True),
        lambda stream: stream.get_pair_quote("BTC:USD", -1),
        lambda stream: stream.get_pair_quote("BTC:USD", float("nan")),
        lambda stream: stream.get_pair_quote("BTC:USD", 5, width=-1),
        lambda stream: stream.get_pair_quote("BTC:USD", 5, width="10"),
        lambda stream: stream.get_pair_quote_series("BTC:USD", 5, 5),
        lambda stream: stream.get_pair_quote_series("BTC:USD", 5, 6, periods=0),
        lambda stream: stream.get_pair_quote_series("BTC:USD", 5, 6, periods=2.5),
        lambda stream: stream.get_pair_quote_series("BTCUSD", 5, 6),
        lambda stream: stream.get_options_timeslice("", 5),
        lambda stream: stream.get_options_timeslice_series("BTC", 6, 5),
        lambda stream: stream.get_reference_data("BTC", via="post"),
        lambda stream: stream.list_contracts(as_of="15.06.2022"),
        lambda stream: stream.list_pairs(timeout=0),
    ],
)
def test_bad_arguments_fail_before_any_io(call: Any) -> None:
    """A typo would cost a connection, or give numbers of another moment."""
    fails(lambda: call(manager("ws://127.0.0.1:1")), InvalidInputError)


# Against servers that misbehave


def test_a_refused_key(sandbox: Sandbox) -> None:
    """A wrong key would look like a missing answer, and might be tried for ever."""
    stream = StreamManager("another-key", url=sandbox.url)
    error = fails(stream.list_pairs, AuthorizationError)
    assert "401" in str(error)
    assert "another-key" not in str(error)
    with Scripted(answer("403 Forbidden", b"<html>")) as server:
        fails(manager(server.url).list_pairs, AuthorizationError)
    assert len(server.requests) == 1


def test_the_servers_words_are_told(sandbox: Sandbox) -> None:
    """The user would have to guess what the server did not like."""
    error = fails(lambda: manager(sandbox.url).get_pair_quote("NO:SUCH"), ServerRefusedError)
    assert error.status_code == 400
    assert "unknown pair" in error.said
    with Scripted(answer("200 OK", json.dumps({"error": f"no data, APIKey={KEY}"}).encode())) as server:
        assert fails(manager(server.url).list_pairs, ServerRefusedError).said == "no data, APIKey=***"
    with Scripted(answer("404 Not Found", b"<html>")) as server:
        assert fails(manager(server.url).list_pairs, ServerRefusedError).said == "HTTP 404 Not Found"


def test_a_busy_server_is_asked_again_after_the_pause_that_it_wants() -> None:
    """One 429 would fail a long series, or be answered with a storm."""
    with Scripted(answer("429 Too Many Requests", b"", "Retry-After: 1"), PAIRS) as server:
        begin = time.monotonic()
        assert manager(server.url).list_pairs() == ["BTC:USD"]
        assert time.monotonic() - begin >= 1
    assert server.paths == [PAIRS_PATH, PAIRS_PATH]


def test_a_pause_longer_than_the_call_is_told() -> None:
    """A server that wants an hour's pause would hang the program for an hour."""
    with Scripted(answer("429 Too Many Requests", b'{"error": "slow down"}', "Retry-After: 3600")) as server:
        error = fails(lambda: manager(server.url).list_pairs(timeout=5), RateLimitedError)
    assert (error.retry_after, error.status_code, error.said) == (3600, 429, "slow down")
    assert "again in 3600 s" in str(error)


@pytest.mark.parametrize("status", ["503 Service Unavailable", "502 Bad Gateway", "504 Gateway Timeout"])
def test_a_server_that_restarts_is_tried_again(status: str) -> None:
    """A restart of the server would fail the call."""
    with Scripted(answer(status), PAIRS) as server:
        assert manager(server.url).list_pairs() == ["BTC:USD"]


def test_a_server_that_stays_down_is_given_up() -> None:
    """The call would go on for ever, or the user would not learn the status."""
    with Scripted(*[answer("503 Service Unavailable")] * 4) as server:
        error = fails(manager(server.url).list_pairs, ServerRefusedError)
    assert error.status_code == 503
    assert len(server.requests) == 4


def hang_up(connection: socket.socket) -> None:
    """Close without a word."""


def test_a_connection_that_breaks_is_tried_again() -> None:
    """A connection that the server closed meanwhile would fail the next call."""
    with Scripted(hang_up, PAIRS) as server:
        assert manager(server.url).list_pairs() == ["BTC:USD"]
    with Scripted(PAIRS, hang_up, PAIRS) as server:
        stream = manager(server.url)
        assert stream.list_pairs() == stream.list_pairs()


def test_an_answer_that_is_cut_off() -> None:
    """Half an answer would be read as a whole one."""
    cut = lambda connection: connection.sendall(PAIRS[:-3])  # noqa: E731
    with Scripted(*[cut] * 4) as server:
        fails(manager(server.url).list_pairs, ConnectionLostError)
    with Scripted(cut, PAIRS) as server:
        assert manager(server.url).list_pairs() == ["BTC:USD"]


def test_packed_answers() -> None:
    """A server that packs its answers would be unreadable; or a small one would unpack to more than fits in memory."""
    for body, max_size in ((b'["BTC:USD"]', 1000), (b"x" * 2_000_000, 100_000)):
        packed = answer("200 OK", gzip.compress(body), "Content-Encoding: gzip")
        with Scripted(packed) as server:
            stream = manager(server.url, max_size=max_size)
            if len(body) < max_size:
                assert stream.list_pairs() == ["BTC:USD"]
            else:
                fails(stream.list_pairs, UnexpectedReplyError)
    assert b"\r\nAccept-Encoding: gzip\r\n" in server.requests[0]
    half = answer("200 OK", gzip.compress(b'["BTC:USD"]')[:-4], "Content-Encoding: gzip")
    with Scripted(*[half] * 4) as server:
        fails(manager(server.url).list_pairs, ConnectionLostError)


def test_a_calculation_is_not_asked_for_twice() -> None:
    """A POST whose answer got lost would be done twice."""
    with Scripted(hang_up, PAIRS) as server:
        fails(finx_sync.Grid(KEY, url=server.url, via="rest").list_functions, ConnectionLostError)
    assert server.accepted == 1


def drip(piece: bytes) -> Callable[[socket.socket], None]:
    """Send a piece again and again, slowly: no single read ever takes long."""

    def script(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n")
        while True:
            connection.sendall(piece)
            time.sleep(0.02)

    return script


def silence(connection: socket.socket) -> None:
    """Read on until the client has gone."""
    while connection.recv(1000):
        pass


@pytest.mark.parametrize("script", [silence, drip(b"X-Slow: 1\r\n"), drip(b"\r\n[")], ids=["mute", "headers", "body"])
def test_timeouts_cover_the_whole_call(script: Callable[[socket.socket], None]) -> None:
    """A server that answers byte by byte would hang the program, although no read takes long."""
    with Scripted(script) as server:
        error = fails(lambda: manager(server.url).list_pairs(timeout=0.4), FunctionTimeoutError)
    assert str(error) == "list_pairs: no answer within 0.4 s"


@pytest.mark.parametrize("script", [silence, drip(b"\r\n[")], ids=["mute", "body"])
def test_ctrl_c_ends_a_call(script: Callable[[socket.socket], None]) -> None:
    """A user could not stop a call that waits for a silent server."""

    def interrupted(connection: socket.socket) -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        script(connection)

    with Scripted(interrupted) as server, pytest.raises(KeyboardInterrupt):
        manager(server.url).list_pairs(timeout=3600)


def test_the_timeout_of_a_series_covers_all_of_it() -> None:
    """A series would take its timeout for each of a hundred quotes."""
    quote = answer("200 OK", json.dumps(FOUND).encode())

    def slow(connection: socket.socket) -> None:
        while True:
            time.sleep(0.05)
            connection.sendall(quote)
            if not read_head(connection):
                return

    with Scripted(slow) as server:
        call = lambda: manager(server.url).get_pair_quote_series("BTC:USD", 5, 6, timeout=0.5)  # noqa: E731
        fails(call, FunctionTimeoutError)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", UnreadableMessageError),
        (b"<html>hello</html>", UnreadableMessageError),
        (b"\xff\xfe", UnreadableMessageError),
        (b"[" * 100_000, UnreadableMessageError),
        (b'{"a": 1}', UnexpectedReplyError),
        (b"[1, 2]", UnexpectedReplyError),
        (b"null", UnexpectedReplyError),
    ],
)
def test_garbage_is_a_typed_error(body: bytes, kind: type[FinxSyncError]) -> None:
    """A server's nonsense would come back as data, or as an error from deep inside."""
    with Scripted(answer("200 OK", body)) as server:
        assert "list_pairs" in str(fails(manager(server.url).list_pairs, kind))


@pytest.mark.parametrize(
    ("body", "call"),
    [
        (b"[]", lambda stream: stream.get_pair_quote("BTC:USD")),
        (b'{"hello": 1}', lambda stream: stream.get_pair_quote("BTC:USD")),
        (json.dumps({**TICK, "price": "nan"}).encode(), lambda stream: stream.get_pair_quote("BTC:USD")),
        (b"{}", lambda stream: stream.get_options_timeslice("BTC", 5)),
        (b'[{"hello": 1}]', lambda stream: stream.get_options_timeslice("BTC", 5)),
        (b"[5]", lambda stream: stream.get_options_timeslice("BTC", 5)),
        (b"{}", lambda stream: stream.list_contracts(as_of="2022-06-15")),
    ],
)
def test_other_shapes_are_typed_errors(body: bytes, call: Any) -> None:
    """An answer of another shape would pass for the one that was asked for."""
    with Scripted(answer("200 OK", body)) as server:
        fails(lambda: call(manager(server.url)), UnexpectedReplyError)


def test_what_is_no_http_at_all() -> None:
    """Another service on the port would raise something that no one catches."""
    with Scripted(*[lambda connection: connection.sendall(b"220 smtp ready\r\n")] * 4) as server:
        fails(manager(server.url).list_pairs, ConnectionLostError)


def test_an_endless_answer_is_cut_off() -> None:
    """A body without end would fill the memory."""
    with Scripted(drip(b"\r\n" + b"x" * 50_000)) as server:
        error = fails(manager(server.url, max_size=100_000).list_pairs, UnexpectedReplyError)
    assert "100000 bytes" in str(error)


def test_a_redirect_to_elsewhere_is_refused() -> None:
    """The key would be sent to whomever a server, or someone in between, names."""
    with Scripted(hang_up) as elsewhere:
        location = f"Location: http://127.0.0.1:{elsewhere.port}{PAIRS_PATH}"
        with Scripted(answer("302 Found", b"", location)) as server:
            error = fails(manager(server.url).list_pairs, ServerRefusedError)
        assert elsewhere.accepted == 0
    assert error.status_code == 302
    assert "not followed" in str(error)
    for target in ("https://127.0.0.1/", "//evil.invalid/", "", "ftp://127.0.0.1"):
        with Scripted(answer("307 Temporary Redirect", b"", f"Location: {target}")) as server:
            fails(manager(server.url).list_pairs, ServerRefusedError)


def test_a_redirect_on_the_same_server_is_followed() -> None:
    """A slash that the server wants at the end would fail the call."""
    moved = answer("301 Moved Permanently", b"", f"Location: /backend/observations/pairs/?APIKey={KEY}")
    with Scripted(moved, PAIRS) as server:
        assert manager(server.url).list_pairs() == ["BTC:USD"]
    assert server.paths[1] == f"/backend/observations/pairs/?APIKey={KEY}"
    turns = [answer("302 Found", b"", f"Location: /{'ab'[number % 2]}") for number in range(4)]
    with Scripted(*turns) as server:
        assert "redirects" in str(fails(manager(server.url).list_pairs, ServerRefusedError))


def test_cookies_and_netrc_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One server's cookie, or a login of the user's, would travel with the next call."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with Scripted(answer("200 OK", b"[]", "Set-Cookie: a=b; Path=/"), PAIRS) as server:
        stream = manager(server.url)
        stream.list_pairs()
        stream.list_pairs()
    assert all(b"ookie" not in request and b"uthorization" not in request for request in server.requests)


def test_no_server() -> None:
    """A wrong port would look like a bug of the library."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert type(fails(lambda: manager(f"ws://127.0.0.1:{port}").list_pairs(timeout=5), ConnectError)) is ConnectError
    fails(lambda: manager("ws://no-such-host.invalid", allow_insecure=True).list_pairs(timeout=5), NameResolutionError)
    stream = manager("ws://host.invalid", proxy=f"http://127.0.0.1:{port}", allow_insecure=True)
    fails(lambda: stream.list_pairs(timeout=5), ProxyError)


def test_through_a_proxy(sandbox: Sandbox) -> None:
    """A user behind a proxy could stream, but not ask."""
    with Scripted(PAIRS) as proxy:
        stream = manager("ws://finx.invalid", proxy=f"http://127.0.0.1:{proxy.port}", allow_insecure=True)
        assert stream.list_pairs() == ["BTC:USD"]
    assert proxy.paths == [f"http://finx.invalid{PAIRS_PATH}"]
    assert manager(sandbox.url, proxy="").list_pairs()


@pytest.mark.parametrize(
    ("kind", "greet", "agreed"),
    [
        ("socks4", socks4_greeting, SOCKS4_AGREED),
        ("socks4a", socks4_greeting, SOCKS4_AGREED),
        ("socks5", socks5_greeting, SOCKS5_AGREED),
        ("socks5h", socks5_greeting, SOCKS5_AGREED),
    ],
)
def test_through_a_socks_proxy(sandbox: Sandbox, kind: str, greet: Any, agreed: bytes) -> None:
    """A proxy that streams go through could not be asked through."""
    with Proxy(greet, agreed) as proxy:
        stream = manager(sandbox.url, proxy=f"{kind}://127.0.0.1:{proxy.port}")
        assert stream.list_pairs() == stream.list_pairs()
        stream.close()
    assert proxy.accepted == 1


def test_a_socks_proxy_from_the_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy would be for streams only."""
    with Proxy(socks5_greeting, SOCKS5_AGREED) as proxy:
        monkeypatch.setenv("all_proxy", f"socks5h://127.0.0.1:{proxy.port}")
        stream = manager(sandbox.url)
        assert stream.list_pairs()
        stream.close()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert manager(sandbox.url).list_pairs()


def test_a_socks_proxy_that_refuses_hangs_up_or_is_silent() -> None:
    """The user would be told that FinX is down."""
    with Listener(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n"), connections=4) as listener:
        stream = manager("ws://finx.invalid", proxy=f"socks5h://127.0.0.1:{listener.port}", allow_insecure=True)
        assert "SOCKS 5" in str(fails(lambda: stream.list_pairs(timeout=5), ProxyError))
    with Listener(hang_up, connections=4) as listener:
        stream = manager("ws://finx.invalid", proxy=f"socks5h://127.0.0.1:{listener.port}", allow_insecure=True)
        assert "hung up" in str(fails(lambda: stream.list_pairs(timeout=5), ProxyError))
    with Listener(silence) as listener:
        stream = manager("ws://finx.invalid", proxy=f"socks5h://127.0.0.1:{listener.port}", allow_insecure=True)
        fails(lambda: stream.list_pairs(timeout=0.3), FunctionTimeoutError)
    stream = manager("ws://finx.invalid", proxy="socks5h://127.0.0.1:1", allow_insecure=True)
    assert "cannot be reached" in str(fails(lambda: stream.list_pairs(timeout=5), ProxyError))
    with Listener(silence, connections=4) as listener:
        stream = manager("ws://no-such-host.invalid", proxy=f"socks5://127.0.0.1:{listener.port}", allow_insecure=True)
        fails(lambda: stream.list_pairs(timeout=5), NameResolutionError)


def test_tls() -> None:
    """A forged certificate would be taken, or a user's own authority would not."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    with Sandbox(ssl_context=server_context) as server:
        fails(lambda: manager(server.url).list_pairs(timeout=5), TLSError)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        assert manager(server.url, ssl_context=trusting).list_pairs()


def test_nothing_shows_the_key(sandbox: Sandbox) -> None:
    """The key would be in a debugger's or a log's line."""
    stream = manager(sandbox.url)
    stream.list_pairs()
    with stream._rest() as backend:
        assert KEY not in repr(stream) + repr(backend) + repr(backend.client)
