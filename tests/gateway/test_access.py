"""Those who are not let in, and those who do harm: refused or bounded, and the others undisturbed."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import websocket

from finx_sync import AuthorizationError, ConfigError, StreamManager
from finx_sync.gateway import Gateway, server
from finx_sync.gateway.clients import ClientLimits
from finx_sync.gateway.keys import hash_of
from tests.gateway.conftest import ManualSource, Served
from tests.gateway.test_protocols import lines, numbers, opened, received
from tests.waiting import FAST, wait_until

KEY = "sandbox-key"
TINY = ClientLimits(written=4096, queue=64 * 1024, longest_queue=512 * 1024, patience=0.5)


def keys_file(path: Path, *entries: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return str(path)


@pytest.fixture
def options() -> dict[str, Any]:
    """Limits that a test reaches soon."""
    return {"limits": TINY}


def status_of(served: Served, path: str, **options: Any) -> int:
    client = websocket.WebSocket()
    try:
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            client.connect(served.gateway.ws_url + path, timeout=10, **options)
    finally:
        client.shutdown()
    return int(caught.value.status_code)


def test_a_wrong_key_is_refused(tmp_path: Path) -> None:
    """Everybody could read the feed."""
    entry = {"name": "bots", "sha256": hash_of(KEY), "connections": 2, "subscriptions": 3, "names": ["contract:*"]}
    with running(keys=keys_file(tmp_path / "keys", entry)) as served:
        assert status_of(served, "/v1/ws") == 401
        assert status_of(served, "/v1/ws?key=wrong") == 401
        with lines(served, '{"names": ["A"], "key": "wrong"}') as file:
            assert "no such key" in json.loads(file.readline())["error"]
        stream = StreamManager("wrong", url=served.gateway.ws_url, reconnect=FAST)
        with pytest.raises(AuthorizationError):
            stream.start()
        client = opened(served, f"/v1/ws?key={KEY}")
        client.send(json.dumps({"subscribe": ["A"]}))
        served.wait_for_wanted("contract:A")
        served.source.bring(1)
        assert numbers(received(client, 1)) == [1]
        client.close()
        assert served.gateway._access.refusals.counts["key"] == 3


def test_a_key_has_limits(tmp_path: Path) -> None:
    """One customer could take everything."""
    entry = {"name": "bots", "sha256": hash_of(KEY), "connections": 2, "subscriptions": 3, "names": ["contract:*"]}
    with running(keys=keys_file(tmp_path / "keys", entry)) as served:
        path = f"/v1/ws?key={KEY}"
        first, second = opened(served, path), opened(served, path)
        served.wait_for_clients(2)
        assert status_of(served, path) == 429
        first.send(json.dumps({"subscribe": ["spot:BTC:USDC"]}))
        assert closed_with(first) == 1008
        second.send(json.dumps({"subscribe": ["A", "B", "C", "D"]}))
        assert closed_with(second) == 1008
        served.wait_for_clients(0)
        opened(served, path).close()


def test_keys_are_read_again(tmp_path: Path) -> None:
    """A key that was taken away would be good until the next restart; a bad file would lock everybody out."""
    path = tmp_path / "keys"
    with running(keys=keys_file(path, {"name": "one", "sha256": hash_of("one")})) as served:
        assert status_of(served, "/v1/ws?key=two") == 401
        keys_file(path, {"name": "two", "sha256": hash_of("two")})
        keys = served.gateway._access.keys
        assert wait_until(lambda: keys.find("two") is not None)
        assert keys.find("one") is None
        path.write_text("no JSON\n", encoding="utf-8")
        assert wait_until(lambda: keys._read_at == (path.stat().st_mtime_ns, path.stat().st_size))
        assert keys.find("two") is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "not an object"),
        ('{"name": "x"}', "sha256"),
        ('{"sha256": "' + "0" * 64 + '"}', "no name"),
        ('{"name": "x", "sha256": "' + "0" * 64 + '", "connection": 1}', "did you mean 'connections'"),
        ('{"name": "x", "sha256": "' + "0" * 64 + '", "connections": -1}', "whole number"),
        ('{"name": "x", "sha256": "' + "0" * 64 + '", "names": "A"}', "list"),
    ],
)
def test_a_bad_file_of_keys_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """A misspelt limit would be no limit."""
    path = tmp_path / "keys"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        Gateway("redis://127.0.0.1:1", keys=path)


def test_scripts_of_foreign_pages_are_refused(served: Served) -> None:
    """Any web page could read the feed with its visitor's browser."""
    assert status_of(served, "/v1/ws", origin="https://example.com") == 403
    opened(served, "/v1/ws", origin=served.gateway.url).close()
    opened(served, "/v1/ws", suppress_origin=True).close()


def test_oversized_and_malformed_frames_are_closed(served: Served) -> None:
    """A client could fill the memory, or confuse the gateway."""
    quiet = opened(served)
    quiet.send(json.dumps({"subscribe": ["A"]}))
    served.wait_for_wanted("contract:A")
    large = opened(served)
    large.send("x" * 100_000)
    assert closed_with(large) == 1009
    binary = opened(served)
    binary.send_binary(b"\0")
    assert closed_with(binary) == 1003
    broken = opened(served)
    broken.sock.sendall(b"\xff\xff\xff\xff\xff\xff\xff\xff")
    assert closed_with(broken) == 1002
    with lines(served, "x" * 100_000) as file:
        assert "error" in json.loads(file.readline())
    served.wait_for_clients(1)
    served.source.bring(1)
    assert numbers(received(quiet, 1)) == [1]
    quiet.close()


def test_a_slow_reader_costs_the_others_nothing(served: Served) -> None:
    """One sleeping laptop would delay everybody, or fill the memory."""
    slow = websocket.WebSocket(sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),))
    slow.connect(served.gateway.ws_url + "/v1/ws")
    slow.send(json.dumps({"subscribe": ["A"]}))
    quick = opened(served)
    quick.send(json.dumps({"subscribe": ["A"]}))
    assert wait_until(lambda: sum("contract:A" in client.tags for client in served.hub.clients) == 2)
    for number in range(400):
        served.source.bring(number, size=20_000)
        assert numbers(received(quick, 1)) == [number]
    served.wait_for_clients(1)  # the slow one read nothing for as long as it may
    slow.close()
    quick.close()


def test_many_come_and_go_and_nothing_is_left(served: Served) -> None:
    """Each visitor would leave a descriptor or some memory behind, until there is none."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        connection = socket.create_connection((served.gateway._host, served.gateway._port), timeout=10)
        if number % 3:
            connection.sendall(b"GET /v1/ws HTTP/1.1\r\n")
        if number % 3 == 1:
            connection.sendall(b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n")
            connection.sendall(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        connection.close()
        if number % 10 == 0:
            opened(served).close()
    served.wait_for_clients(0)
    assert wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)
    assert served.gateway._access._count == 0


def test_a_request_must_come_in_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that send a byte now and then would take all descriptors (slow-loris)."""
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 0.1)
    kept = opened(served)
    kept.send(json.dumps({"subscribe": ["A"]}))
    served.wait_for_wanted("contract:A")
    for text in (b"", b"GET /v1/ws HTTP/1.1\r\nHost: x\r\n"):
        with socket.create_connection((served.gateway._host, served.gateway._port), timeout=20) as connection:
            connection.sendall(text)
            assert connection.recv(100) == b""
    served.source.bring(1)
    assert numbers(received(kept, 1)) == [1], "an open websocket is not meant"
    kept.close()


def test_there_are_at_most_so_many(tmp_path: Path) -> None:
    """A flood of clients would take the machine down for those who are there."""
    with running(connections=2) as served:
        first, second = opened(served), opened(served)
        served.wait_for_clients(2)
        assert status_of(served, "/v1/ws") == 503
        first.close()
        served.wait_for_clients(1)
        opened(served).close()
        second.close()


def test_the_end_is_told_to_everybody() -> None:
    """A restart would look like a broken network, and clients would wait for their time-outs."""
    with running() as served:
        client = opened(served)
        client.send(json.dumps({"subscribe": ["A"]}))
        file = lines(served, "A")
        served.wait_for_clients(2)
        served.gateway.stop()
        assert closed_with(client) == 1001
        assert "connect again" in json.loads(file.readline())["error"]
        file.close()


# Helpers


class running:  # noqa: N801  # reads as a verb
    """A gateway with options, for the time of a block."""

    def __init__(self, **options: Any) -> None:
        self._gateway = Gateway("redis://127.0.0.1:1", **{"limits": TINY, **options})

    def __enter__(self) -> Served:
        source = ManualSource()
        self._gateway._source = source
        return Served(self._gateway.start(), source)

    def __exit__(self, *_: object) -> None:
        self._gateway.stop()


def closed_with(client: websocket.WebSocket) -> int:
    """The code of the close frame that follows what is still there."""
    while True:
        frame = client.recv_frame()
        if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
            client.shutdown()
            return int.from_bytes(frame.data[:2], "big")
