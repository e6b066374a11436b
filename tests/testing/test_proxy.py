"""The fault proxy over real sockets, with other people's client and server at its ends."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from finx_sync.errors import ConfigError, InvalidInputError, UsageError
from finx_sync.testing import (
    Answer,
    BlackHole,
    Close,
    Corrupt,
    Cut,
    Delay,
    Fault,
    FaultProxy,
    Mute,
    Reset,
    Split,
    Step,
    SwallowHandshake,
    Throttle,
)
from tests.servers import Server

SOON = 10.0
"""Seconds; for what comes at once unless the machine is very busy."""
NO_HANDSHAKE = (InvalidMessage, ConnectionClosed, OSError)
"""What `connect` raises when the other side leaves before it has answered; which one is a matter of timing."""


@contextlib.contextmanager
def client(proxy: FaultProxy) -> Iterator[ClientConnection]:
    """A connection of the `websockets` project, past its first echo."""
    with connect(proxy.url, open_timeout=SOON, close_timeout=SOON, max_size=None) as connection:
        connection.send("hello")
        assert connection.recv(timeout=SOON) == "hello"
        yield connection


def ended(connection: ClientConnection) -> tuple[int, bool]:
    """How it ends: the code, and whether the server's side closed it in order."""
    with pytest.raises(ConnectionClosed) as caught:
        connection.recv(timeout=SOON)
    error = caught.value
    if error.rcvd is not None:
        return error.rcvd.code, True
    return error.sent.code if error.sent is not None else CloseCode.ABNORMAL_CLOSURE, False


def send_for_ever(sock: socket.socket) -> None:
    """Send until an error ends it."""
    while True:
        sock.sendall(bytes(65_536))


# Nothing wrong yet


def test_without_faults_everything_passes(proxy: FaultProxy) -> None:
    """The proxy itself would be a fault."""
    payload = random.Random(1).randbytes(3_000_000)
    with client(proxy) as connection:
        for message in ("", "x", "ü" * 70_000, payload, b""):
            connection.send(message)
            assert connection.recv(timeout=SOON) == message
        assert connection.ping().wait(SOON)
        (seen,) = proxy.connections()
        assert seen.is_websocket
        assert seen.to_client > len(payload)
        assert seen.to_server > len(payload)
    assert connection.close_code == CloseCode.NORMAL_CLOSURE
    assert proxy.wait_for_connections(0, SOON)
    assert proxy.effects == []


def test_plain_tcp_passes_with_half_closed_ends() -> None:
    """A protocol that ends its request with a FIN would get no answer."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            data = bytearray()
            while piece := connection.recv(65536):
                data += piece
            connection.sendall(bytes(data[::-1]))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with FaultProxy(listener.getsockname()) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as raw:
            raw.settimeout(SOON)
            raw.sendall(b"abc" * 300_000)
            raw.shutdown(socket.SHUT_WR)
            data = bytearray()
            while piece := raw.recv(65536):
                data += piece
            assert data == b"cba" * 300_000
            assert proxy.wait_for_connections(0, SOON)
        thread.join(SOON)


def test_a_target_that_refuses_is_refused() -> None:
    """The client would wait for a server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    with FaultProxy(address) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as raw:
        raw.settimeout(SOON)
        with pytest.raises(ConnectionResetError):
            raw.recv(1)
        assert proxy.wait_for_connections(0, SOON)


def test_a_client_that_does_not_read_holds_the_server_back() -> None:
    """The proxy would take in a whole feed, and hide what a slow consumer does."""
    sent = threading.Event()
    size = 64 * 1024 * 1024

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(bytes(size))
            sent.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with FaultProxy(listener.getsockname()) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as raw:
            raw.settimeout(SOON)
            assert not sent.wait(0.5)
            count = 0
            while piece := raw.recv(1 << 20):
                count += len(piece)
            assert count == size
            assert sent.wait(SOON)
        thread.join(SOON)


def test_a_client_that_leaves_in_the_middle_ends_the_servers_side() -> None:
    """The server would go on sending into nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as listener, FaultProxy(listener.getsockname()) as proxy:
        one = socket.create_connection(("127.0.0.1", proxy.port))
        other, _ = listener.accept()
        with other:
            other.settimeout(SOON)
            one.close()
            with pytest.raises(ConnectionError):
                send_for_ever(other)
            assert proxy.wait_for_connections(0, SOON)


# Ends


def test_cut_ends_both_sides_with_a_fin(proxy: FaultProxy) -> None:
    """A bot would be tested against another end than the one asked for."""
    with client(proxy) as connection:
        raw = connection.socket
        injection = proxy.inject(Cut())
        assert ended(connection) == (CloseCode.ABNORMAL_CLOSURE, False)
        assert isinstance(connection.protocol.close_exc.__cause__, EOFError)
        assert raw.fileno() < 0
    assert injection.wait(SOON)
    assert proxy.wait_for_connections(0, SOON)


def test_reset_ends_both_sides_with_a_rst(server: Server, proxy: FaultProxy) -> None:
    """A reset would come as an orderly end."""
    with client(proxy) as connection:
        proxy.inject(Reset())
        assert ended(connection) == (CloseCode.ABNORMAL_CLOSURE, False)
        assert proxy.wait_for_connections(0, SOON)
    with socket.create_connection(("127.0.0.1", proxy.port)) as raw:
        raw.settimeout(SOON)
        assert proxy.wait_for_connections(1, SOON)
        proxy.inject(Reset())
        with pytest.raises(ConnectionResetError):
            raw.recv(1)


def test_a_reset_by_either_side_is_passed_on() -> None:
    """The proxy would turn a reset into an orderly end, and hide what a server does."""
    with socket.create_server(("127.0.0.1", 0)) as listener, FaultProxy(listener.getsockname()) as proxy:
        for side in ("server", "client"):
            one = socket.create_connection(("127.0.0.1", proxy.port))
            other, _ = listener.accept()
            with one, other:
                one.settimeout(SOON)
                other.settimeout(SOON)
                leaving, staying = (other, one) if side == "server" else (one, other)
                leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                leaving.close()
                with pytest.raises(ConnectionResetError):
                    staying.recv(1)


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1013, 3000, 4999])
def test_close_arrives_with_its_code(proxy: FaultProxy, code: int) -> None:
    """A bot's handling of a close code could not be tested."""
    with client(proxy) as connection:
        injection = proxy.inject(Close(code, "so it is"))
        assert ended(connection) == (code, True)
        assert connection.close_reason == "so it is"
        assert injection.wait(SOON)
    assert proxy.wait_for_connections(0, SOON)


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 65_535])
def test_forbidden_close_codes_are_sent_too(proxy: FaultProxy, code: int) -> None:
    """A hostile server could not be played."""
    with client(proxy) as connection:
        proxy.inject(Close(code))
        assert ended(connection) == (CloseCode.PROTOCOL_ERROR, False)


def test_close_after_the_handshake_is_what_a_refusing_server_does(proxy: FaultProxy) -> None:
    """A refused key could not be played."""
    proxy.arm(Close(1008, "Invalid APIKey"))
    with connect(proxy.url, open_timeout=SOON) as connection:
        assert ended(connection) == (1008, True)
    with client(proxy):
        pass


# Times


@pytest.mark.parametrize("direction", ["both", "to_client", "to_server"])
def test_a_black_hole_swallows_and_gives_back(proxy: FaultProxy, direction: str) -> None:
    """A bot would not be tested against silence, or its data would be lost by the test itself."""
    with client(proxy) as connection:
        assert proxy.inject(BlackHole(direction)).wait(SOON)  # type: ignore[arg-type]
        connection.send("lost?")
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0.2)
        proxy.clear()
        assert connection.recv(timeout=SOON) == "lost?"


def test_a_black_hole_ends_by_itself(proxy: FaultProxy) -> None:
    """A short outage could not be scripted."""
    with client(proxy) as connection:
        assert proxy.inject(BlackHole(lasting=0.3)).wait(SOON)
        begin = time.monotonic()
        connection.send("late")
        assert connection.recv(timeout=SOON) == "late"
        assert time.monotonic() - begin > 0.25


def test_whoever_leaves_a_black_hole_leaves_nothing_behind(proxy: FaultProxy) -> None:
    """The server would keep a connection for each reconnect of a client."""
    with client(proxy) as connection:
        assert proxy.inject(BlackHole()).wait(SOON)
        connection.socket.shutdown(socket.SHUT_RDWR)
    assert proxy.wait_for_connections(0, SOON)


def test_delay_adds_its_time_each_way(proxy: FaultProxy) -> None:
    """Latency would be another than asked for."""
    with client(proxy) as connection:
        assert proxy.inject(Delay(0.15)).wait(SOON)
        begin = time.monotonic()
        connection.send("x")
        assert connection.recv(timeout=SOON) == "x"
        assert time.monotonic() - begin >= 0.3


def test_throttle_bounds_the_rate(proxy: FaultProxy) -> None:
    """A slow line could not be played."""
    with client(proxy) as connection:
        assert proxy.inject(Throttle(100_000, "to_client")).wait(SOON)
        begin = time.monotonic()
        connection.send(bytes(40_000))
        assert len(connection.recv(timeout=SOON)) == 40_000
        assert time.monotonic() - begin >= 0.3


def test_split_delivers_byte_by_byte() -> None:
    """A reader that trusts in whole frames would pass its tests."""
    with socket.create_server(("127.0.0.1", 0)) as listener, FaultProxy(listener.getsockname()) as proxy:
        one = socket.create_connection(("127.0.0.1", proxy.port))
        other, _ = listener.accept()
        with one, other:
            other.settimeout(SOON)
            assert proxy.inject(Split(1, pause=0.02, direction="to_server")).wait(SOON)
            one.sendall(b"abcd")
            pieces = []
            while sum(map(len, pieces)) < 4:
                pieces.append(other.recv(100))
            assert len(pieces) >= 2, "a busy machine may join some of them, not all"


def test_split_carries_a_websocket(proxy: FaultProxy) -> None:
    """Splitting would break what it cuts."""
    with client(proxy) as connection:
        assert proxy.inject(Split(3)).wait(SOON)
        connection.send("x" * 5_000)
        assert connection.recv(timeout=SOON) == "x" * 5_000


# Frames


@pytest.mark.parametrize(
    ("part", "code"), [("header", CloseCode.PROTOCOL_ERROR), ("utf8", CloseCode.INVALID_DATA), ("json", None)]
)
def test_corrupt_is_noticed_by_the_client(proxy: FaultProxy, part: str, code: int | None) -> None:
    """Damage would pass for data."""
    with client(proxy) as connection:
        injection = proxy.inject(Corrupt(part))  # type: ignore[arg-type]
        connection.send('{"price": "1,2"}')
        if code is None:
            assert connection.recv(timeout=SOON) != '{"price": "1,2"}'
            connection.send('{"price": "1,2"}')
            assert connection.recv(timeout=SOON) == '{"price": "1,2"}'
        else:
            assert ended(connection) == (code, False)
        assert injection.wait(SOON)
        assert injection.effects[0].note


def test_corrupt_reaches_the_server_as_well(proxy: FaultProxy) -> None:
    """Only half of a protocol could be tested."""
    with client(proxy) as connection:
        proxy.inject(Corrupt("utf8", direction="to_server"))
        connection.send("text")
        assert ended(connection) == (CloseCode.INVALID_DATA, True)


def test_mute_swallows_data_and_answers_pings(proxy: FaultProxy) -> None:
    """A feed that has dried up behind a living connection could not be played."""
    with client(proxy) as connection:
        assert proxy.inject(Mute()).wait(SOON)
        connection.send("unheard")
        assert connection.ping().wait(SOON)
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0.1)
        proxy.clear()
        connection.send("heard")
        assert connection.recv(timeout=SOON) == "heard"


def test_mute_ends_by_itself(proxy: FaultProxy) -> None:
    """A pause of the feed could not be scripted."""
    with client(proxy) as connection:
        assert proxy.inject(Mute(lasting=0.2)).wait(SOON)
        deadline = time.monotonic() + SOON
        while time.monotonic() < deadline:
            connection.send("again")
            with contextlib.suppress(TimeoutError):
                assert connection.recv(timeout=0.05) == "again"
                return
        pytest.fail("it stayed mute")


# Handshakes


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_an_answer_takes_the_place_of_the_handshake(server: Server, proxy: FaultProxy, status: int) -> None:
    """A refusing server could not be played."""
    injection = proxy.arm(Answer(status, retry_after=1.5, body="no"), times=2)
    for _ in range(2):
        with pytest.raises(InvalidStatus) as caught, client(proxy):
            pass
        response = caught.value.response
        assert response.status_code == status
        assert response.headers["Retry-After"] == "1.5"
        assert response.body == b"no"
    with client(proxy):
        assert injection.wait(SOON, effects=2)


def test_a_redirect_leads_where_it_says(server: Server, proxy: FaultProxy) -> None:
    """A client that follows redirects would not be tested."""
    proxy.arm(Answer(302, location=server.url))
    with client(proxy) as connection:
        assert connection.remote_address[1] == server.port


def test_a_swallowed_handshake_is_never_answered(proxy: FaultProxy) -> None:
    """A server that accepts and says nothing could not be played."""
    injection = proxy.arm(SwallowHandshake())
    with pytest.raises(TimeoutError), connect(proxy.url, open_timeout=0.3):
        pass
    assert injection.wait(SOON)
    assert proxy.wait_for_connections(0, SOON)
    with client(proxy):
        pass


def test_clear_frees_a_swallowed_handshake(proxy: FaultProxy) -> None:
    """A client without a timeout would hang for ever."""
    injection = proxy.arm(SwallowHandshake(), times=None)

    def clear() -> None:
        injection.wait(SOON)
        proxy.clear()

    thread = threading.Thread(target=clear)
    thread.start()
    with pytest.raises(NO_HANDSHAKE), connect(proxy.url, open_timeout=SOON):
        pass
    thread.join(SOON)
    with client(proxy):
        pass


@pytest.mark.parametrize("fault", [Cut(), Reset()])
def test_a_connection_can_end_before_it_begins(proxy: FaultProxy, fault: Fault) -> None:
    """A load balancer without a backend could not be played."""
    proxy.arm(fault)
    with pytest.raises(NO_HANDSHAKE), client(proxy):
        pass
    assert proxy.accepted == 1


def test_inject_arms_faults_of_the_handshake_before_it_cuts(proxy: FaultProxy) -> None:
    """A client that is quick to return would find an open door."""
    with client(proxy) as connection:
        proxy.inject(Answer(503), Cut())
        assert ended(connection) == (CloseCode.ABNORMAL_CLOSURE, False)
        with pytest.raises(InvalidStatus), client(proxy):
            pass
    with client(proxy):
        pass


# Scripts, seeds, records


def notes(server: Server, seed: int) -> list[str]:
    """What a proxy of that seed does to three equal connections."""
    with FaultProxy(server.url, seed=seed) as proxy:
        for _ in range(3):
            with client(proxy) as connection:
                injection = proxy.inject(Corrupt("utf8"))
                connection.send("a" * 1000)
                ended(connection)
                assert injection.wait(SOON)
        return [effect.note for effect in proxy.effects]


def test_a_run_can_be_repeated(server: Server) -> None:
    """A failure could not be looked at twice."""
    first = notes(server, 5)
    assert notes(server, 5) == first
    assert notes(server, 6) != first
    assert len(set(first)) == 3, "each fault draws anew"


def test_a_script_is_played_in_time(proxy: FaultProxy) -> None:
    """Faults would come in another order, or all at once."""
    with client(proxy) as connection:
        performance = proxy.play([Step(0.3, (Close(4000),)), Step(0.0, (Delay(0.01, "to_client"),))])
        assert ended(connection) == (4000, True)
        assert performance.wait(SOON)
    first, second = proxy.effects
    assert first.fault == Delay(0.01, "to_client")
    assert second.fault == Close(4000)
    assert 0.2 < second.at - first.at < SOON
    assert first.connection == second.connection == 1


def test_a_script_can_be_stopped(proxy: FaultProxy) -> None:
    """A test that is done would be followed by faults into the next one."""
    performance = proxy.play([Step(60, (Cut(),))])
    assert not performance.wait(0.01)
    performance.stop()
    assert performance.wait(SOON)
    proxy.play([Step(60, (Cut(),))])  # the proxy's own stop ends this one


def test_a_fault_without_a_connection_does_not_wait_for_one(proxy: FaultProxy) -> None:
    """A cut would hit a later, innocent connection."""
    injection = proxy.inject(Cut())
    with client(proxy):
        assert injection.effects == ()
        assert not injection.wait(0.01)


# Life


def test_stop_ends_connections_in_every_state_and_start_takes_the_same_port(server: Server) -> None:
    """A test would leave threads, sockets or a taken port behind."""
    proxy = FaultProxy(server.url)
    with proxy:
        port = proxy.port
        proxy.arm(SwallowHandshake())
        with socket.create_connection(("127.0.0.1", port)), client(proxy) as open_one, client(proxy) as black_one:
            assert proxy.wait_for_connections(3, SOON)
            proxy.inject(BlackHole())
            proxy.stop()
            assert ended(open_one) == ended(black_one) == (CloseCode.ABNORMAL_CLOSURE, False)
            assert proxy.connections() == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        proxy.stop()
        proxy.start()
        assert proxy.port == port
        with client(proxy):
            pass
        with pytest.raises(UsageError, match="already running"):
            proxy.start()


def test_many_threads_may_use_one_proxy(server: Server) -> None:
    """A test with several bots would break the proxy instead of the bots."""
    with FaultProxy(server.url) as proxy:

        def use(number: int) -> None:
            for _ in range(5):
                with contextlib.suppress(ConnectionClosed, InvalidMessage, OSError), client(proxy):
                    proxy.inject((Cut(), Reset(), Close(1001), Delay(0.001))[number % 4])
                    proxy.clear()

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert proxy.accepted == 20
        assert proxy.wait_for_connections(0, SOON)


@pytest.mark.parametrize("target", ["127.0.0.1:80", "ftp://host:1", "tcp://host", "ws://", "ws://host:99999"])
def test_a_target_must_be_one(target: str) -> None:
    """A typing error would show as a connection that fails much later."""
    with pytest.raises(ConfigError, match="target"):
        FaultProxy(target)


def test_a_name_without_an_address_fails_at_start() -> None:
    """Every connection would fail instead, without a reason."""
    with pytest.raises(ConfigError, match="no address"):
        FaultProxy("ws://nowhere.invalid").start()


def test_a_taken_port_fails_at_start(proxy: FaultProxy, server: Server) -> None:
    """A client would talk to whoever has the port."""
    with pytest.raises(ConfigError, match="cannot listen"):
        FaultProxy(server.url, port=proxy.port).start()


@pytest.mark.parametrize(
    "call",
    [
        lambda proxy: proxy.inject(),
        lambda proxy: proxy.inject("cut"),
        lambda proxy: proxy.arm(Cut, times=1),
        lambda proxy: proxy.arm(Cut(), times=0),
    ],
)
def test_nonsense_is_refused_at_the_call(proxy: FaultProxy, call: object) -> None:
    """A fault would silently not happen."""
    with pytest.raises(InvalidInputError):
        call(proxy)  # type: ignore[operator]


def test_the_url_is_the_targets_with_another_address() -> None:
    """A path would be lost on the way."""
    proxy = FaultProxy("ws://127.0.0.1:1/base/", port=2)
    assert proxy.url == "ws://127.0.0.1:2/base"
    assert repr(proxy) == "<FaultProxy 127.0.0.1:2 to 127.0.0.1:1>"
