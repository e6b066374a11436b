"""The sandbox's life: start, stop, faults on purpose, clients that misbehave."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import websocket

import finx_sync
from finx_sync.errors import ConfigError, InvalidInputError, UsageError
from finx_sync.sandbox import Sandbox, connection
from tests.sandbox.sandbox_client import KEY, Client

Connect = Callable[..., Client]
SPOT = {"functionName": "getSpotRates", "pair": "BTC:USDC"}


def test_starts_and_stops_again_and_again_on_one_port() -> None:
    """A test of reconnection could not take the server away and bring it back."""
    sandbox = Sandbox()
    urls = set()
    for _ in range(20):
        with sandbox:
            client = Client(f"{sandbox.url}/streaming/{KEY}")
            assert client.ask(functionName="authenticate") == {"isAuth": True}
            urls.add(sandbox.url)
            client.close()
        assert not sandbox.is_running
    assert len(urls) == 1


def test_stop_is_idempotent_and_from_any_thread() -> None:
    """Cleaning up twice, or from two fixtures at once, would raise or hang."""
    sandbox = Sandbox()
    sandbox.stop()
    sandbox.start()
    threads = [threading.Thread(target=sandbox.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sandbox.stop()
    assert not sandbox.is_running


def test_stop_ends_every_connection_within_its_time() -> None:
    """A suite with many clients would hang at its end, or leave sockets open."""
    with Sandbox(contract_interval=0.01, spot_interval=0.01) as sandbox:
        clients = [Client(f"{sandbox.url}/streaming/{KEY}") for _ in range(50)]
        for client in clients:
            client.say(**SPOT)
        assert sandbox.wait_for_subscribers("BTC:USDC", 50)
        # None of the clients reads, so none answers the close frame.
        sandbox.stop(timeout=4)
    assert all(client.hear_close() == (1001, "going away") for client in clients)
    for client in clients:
        client.close()


def test_a_taken_port_says_so() -> None:
    """A second sandbox would fail in its thread, where nobody sees it."""
    with Sandbox() as sandbox:
        port = int(sandbox.url.rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            Sandbox(port=port).start()
    with pytest.raises(ConfigError, match="70000"):
        Sandbox(port=70_000)


def test_misuse_is_told() -> None:
    """A call at the wrong moment would fail with an error from the depths of asyncio."""
    sandbox = Sandbox()
    with pytest.raises(UsageError, match=r"start\(\)"):
        sandbox.disconnect_all()
    with pytest.raises(UsageError, match=r"start\(\)"):
        print(sandbox.url)
    with sandbox, pytest.raises(UsageError, match="already"):
        sandbox.start()
    with pytest.raises(InvalidInputError, match="keys"):
        Sandbox(keys="sandbox-key")
    for option in ("contract_interval", "spot_interval", "idle_timeout"):
        with pytest.raises(ConfigError, match=option):
            Sandbox(**{option: 0.0})  # type: ignore[arg-type]


def test_disconnect_all_closes_with_the_code_given(connect: Connect, sandbox: Sandbox) -> None:
    """Tests of a client's reaction to a close code could not choose it."""
    clients = [connect() for _ in range(3)]
    closed = []
    readers = [threading.Thread(target=lambda c=client: closed.append(c.hear_close())) for client in clients]
    for reader in readers:
        reader.start()
    assert sandbox.disconnect_all(1012, "restart") == 3
    for reader in readers:
        reader.join()
    assert closed == [(1012, "restart")] * 3
    assert sandbox.connections() == []


def test_abort_all_resets(connect: Connect, sandbox: Sandbox) -> None:
    """Tests of a lost connection would see an orderly end instead."""
    client = connect()
    client.say(**SPOT)
    client.hear()
    assert sandbox.abort_all() == 1
    with pytest.raises((ConnectionResetError, websocket.WebSocketConnectionClosedException)):
        client.hear_close()
    assert sandbox.connections() == []


def test_only_messages_keep_a_connection_from_idling(connect: Connect) -> None:
    """A client that relies on protocol pings would work offline and be cut off by FinX after five minutes."""
    with Sandbox(idle_timeout=0.3, spot_interval=0.02) as sandbox:
        speaking = Client(f"{sandbox.url}/streaming/{KEY}")
        speaking.say(**SPOT)
        pinging = Client(f"{sandbox.url}/streaming/{KEY}")
        pinging.say(**SPOT)
        for _ in range(100):
            speaking.hear()
            speaking.say(functionName="keepAlive")
            with contextlib.suppress(OSError, websocket.WebSocketException):
                pinging.socket.ping()
        assert pinging.hear_close() == (1001, "no message for 0.3 s")
        assert sandbox.wait_for_connections(1)
        assert sandbox.connections()[0].id == 1
        speaking.close()
        pinging.close()


def test_a_client_that_leaves_is_forgotten(connect: Connect, sandbox: Sandbox) -> None:
    """Streams of clients long gone would go on and slow down the others."""
    polite, rude = connect(), connect()
    for client in (polite, rude):
        client.say(**SPOT)
    assert sandbox.wait_for_subscribers("BTC:USDC", 2)
    polite.socket.close()
    rude.close()
    assert sandbox.wait_for_connections(0)


def test_a_client_that_does_not_read_is_cut_off_and_stalls_nobody() -> None:
    """One stuck client would eat the memory, or hold up the others' ticks."""
    with Sandbox(spot_interval=0.01, backlog_limit=200_000) as sandbox:
        small = ((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),)
        stuck = Client(f"{sandbox.url}/streaming/{KEY}", sockopt=small)
        lively = Client(f"{sandbox.url}/streaming/{KEY}")
        stuck.say(functionName="getSpotRates", pair="ETH:USD")
        lively.say(**SPOT)
        assert sandbox.wait_for_subscribers("ETH:USD")
        flood = threading.Thread(target=sandbox.publish_raw, args=("ETH:USD", *["x" * 50_000] * 400))
        flood.start()
        heard = 0
        while flood.is_alive():
            lively.hear()
            heard += 1
        flood.join()
        assert sandbox.wait_for_connections(1)
        assert heard > 20
        assert sandbox.sent_count("ETH:USD") < 400
        stuck.close()
        lively.close()


def test_a_client_that_asks_without_reading_is_cut_off() -> None:
    """Replies that nobody reads would pile up without bound."""
    with Sandbox(backlog_limit=500_000) as sandbox:
        client = Client(f"{sandbox.url}/streaming/{KEY}", sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),))
        with contextlib.suppress(OSError, websocket.WebSocketException):
            for _ in range(300):
                client.say(functionName="tickHistory", pair="BTC:USD", date="2022-06-15")
        assert sandbox.wait_for_connections(0)
        client.close()


def test_publish_waits_for_a_reading_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst that a test injects would get its own client cut off."""
    monkeypatch.setattr(connection, "ROOM_TIMEOUT", 30.0)  # this client may get no time to read on a busy machine
    with Sandbox(backlog_limit=50_000) as sandbox:
        client = Client(f"{sandbox.url}/streaming/{KEY}", sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),))
        client.say(**SPOT)
        assert sandbox.wait_for_subscribers("BTC:USDC")
        texts = [f"{number} " + "x" * 20_000 for number in range(300)]
        publisher = threading.Thread(target=sandbox.publish_raw, args=("BTC:USDC", *texts))
        publisher.start()
        received = 0
        while received < len(texts):
            text = str(client.socket.recv())
            if not text.startswith("{"):
                assert text.startswith(f"{received} ")
                received += 1
        publisher.join()
        client.close()


def test_stopping_during_a_call_ends_the_call() -> None:
    """A test's thread that publishes while another stops the sandbox would hang for ever."""
    for _ in range(20):
        outcomes: list[str] = []
        with Sandbox() as sandbox:

            def publish(sandbox: Sandbox = sandbox, outcomes: list[str] = outcomes) -> None:
                try:
                    while True:
                        sandbox.publish("BTC:USDC", {})
                except UsageError as error:
                    outcomes.append(str(error))

            threads = [threading.Thread(target=publish) for _ in range(4)]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join(10)
        assert len(outcomes) == 4


def test_serve_forever_ends_with_stop() -> None:
    """The command line's sandbox could not be stopped by anything but a signal."""
    sandbox = Sandbox()
    server = threading.Thread(target=sandbox.serve_forever)
    with sandbox:
        server.start()
        client = Client(f"{sandbox.url}/streaming/{KEY}")
        assert client.ask(functionName="authenticate") == {"isAuth": True}
        client.close()
    server.join()


def test_serve_forever_ends_with_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl+C would show a traceback, or leave the port taken."""
    sandbox = Sandbox().start()
    real_join = threading.Thread.join
    pressed: list[float] = []

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if timeout == 1.0 and not pressed:
            pressed.append(timeout)
            raise KeyboardInterrupt
        real_join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)
    sandbox.serve_forever()
    assert not sandbox.is_running


def test_over_tls(tmp_path: Path) -> None:
    """The client's TLS path could not be tried offline."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no openssl command to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Sandbox(ssl_context=context, spot_interval=0.01) as sandbox:
        assert sandbox.url.startswith("wss://127.0.0.1:")
        assert sandbox.http_url.startswith("https://127.0.0.1:")
        client = Client(f"{sandbox.url}/streaming/{KEY}", sslopt={"ca_certs": str(certificate)})
        assert client.ask(**SPOT)["pair"] == "BTC:USDC"
        sandbox.abort_all()
        with pytest.raises((OSError, websocket.WebSocketException)):
            client.hear_close()
        client.close()


def test_without_aiohttp_the_error_names_the_extra() -> None:
    """A newcomer without the extra would see a bare ModuleNotFoundError."""
    code = "import sys; sys.modules['aiohttp'] = None\nimport finx_sync.sandbox"
    # The checkout may be importable only through pytest's own path.
    environment = {**os.environ, "PYTHONPATH": str(Path(finx_sync.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 1
    assert "MissingExtraError" in ran.stderr
    assert 'pip install "finx-sync[sandbox]"' in ran.stderr
