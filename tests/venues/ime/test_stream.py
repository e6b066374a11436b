"""ImeStream against the sandbox: real sockets, real refusals, and a real Redis where there is one."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finx_sync import AuthorizationError, Backoff, ConfigError, State
from finx_sync.errors import InvalidInputError, MissingExtraError
from finx_sync.sandbox import Sandbox
from finx_sync.venues.ime import Bearer, Cookie, Credentials, Header, ImeContract, ImeStream, QueryToken
from tests.venues.ime.test_codec import NOTHING
from tests.waiting import Collector, books_balance

FAST = Backoff(first=0.01, cap=0.05, healthy_after=0.0)
NAME_PATH = "/live/data/websocket/contract/name?contract_names="


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox whose contracts change fast."""
    with Sandbox(exchange_interval=0.02) as server:
        yield server


def ime(sandbox: Sandbox, **options: Any) -> ImeStream:
    """A stream of the sandbox's IME."""
    return ImeStream(url=sandbox.url, **{"auth": "sandbox-key", "reconnect": FAST, "overlap": 0.3, **options})


def test_contracts_by_name_and_by_id(sandbox: Sandbox) -> None:
    """A contract would be missing, or a handler get another's."""
    stream = ime(sandbox, names=["ContractA", "ContractB"], ids=12345)
    everything, one = Collector(), Collector()
    assert stream.on_contract(everything) is everything
    stream.on_contract("ContractB")(one)
    with stream:
        seen = everything.wait(lambda items: {item.name for item in items} == {"ContractA", "ContractB", "12345"})
        one.wait(lambda items: len(items) >= 2)
        assert books_balance(stream)
        assert len(sandbox.connections()) == 2
        assert stream.latest("12345").contract_id == "12345"  # type: ignore[union-attr]
    assert {item.name for item in one.items} == {"ContractB"}
    message = seen[0]
    assert type(message) is ImeContract
    assert message.best.buy_price < message.aggregate.last_price < message.best.sell_price
    assert message.best.buy_price > message.limits[1].buy_price > message.limits[2].buy_price
    assert message.allowed.lowest < message.aggregate.last_price < message.allowed.highest


def test_only_changes_are_sent_and_nothing_is_no_value(sandbox: Sandbox) -> None:
    """A contract without data would be traded at zero."""
    with ime(sandbox, names="ContractA") as stream, stream.ticks("ContractA", timeout=10) as feed:
        assert sandbox.wait_for_subscribers("ContractA")
        sandbox.controls("ime").publish("ContractA", NOTHING)
        message = next(item for item in feed if item["data"] == NOTHING)
        assert (message.best.buy_price, message.allowed.highest, message.aggregate.date) == (None, None, None)


@pytest.mark.parametrize(
    "auth",
    [
        "sandbox-key",
        Bearer("sandbox-key"),
        Header("sandbox-key"),
        Cookie("sandbox-key"),
        QueryToken("sandbox-key"),
        QueryToken("sandbox-key", "access_token"),
        lambda: "sandbox-key",
        lambda: QueryToken("sandbox-key"),
    ],
)
def test_credentials_in_every_place(sandbox: Sandbox, auth: Any) -> None:
    """A server that wants its token elsewhere could not be used."""
    with ime(sandbox, names="ContractA", auth=auth) as stream:
        assert stream.take(1, timeout=10)
        assert sandbox.connections()[0].path == f"{NAME_PATH}ContractA"


@pytest.mark.parametrize("accept_first", [False, True])
@pytest.mark.parametrize(
    "wrong", [{"auth": "wrong-key"}, {"auth": None}, {"names": ["ContractA", "ContractZ"]}, {"ids": "99"}]
)
def test_a_refusal_is_fatal_and_says_what_was_asked_for(
    sandbox: Sandbox, wrong: dict[str, Any], accept_first: bool
) -> None:
    """The stream would ask again for ever for what it cannot get, and nobody would know which contract is wrong."""
    sandbox.controls("ime").accept_first(accept_first)
    stream = ime(sandbox, **{"names": "ContractA", **wrong})
    with pytest.raises(AuthorizationError, match="1008" if accept_first else "403") as caught:
        stream.start()
    assert stream.state is State.FAILED
    asked = wrong.get("names", ["ContractA"])
    assert ("99" if "ids" in wrong else ", ".join(asked)) in str(caught.value)
    assert "wrong-key" not in str(caught.value)


def test_another_contract_comes_before_the_old_connection_goes(sandbox: Sandbox) -> None:
    """Subscribing would tear a hole into the contracts that flow."""
    stream = ime(sandbox, names="ContractA")
    seen, gaps = Collector(), Collector()
    stream.on_contract(seen)
    stream.on_gap(gaps)
    with stream:
        first = sandbox.connections()[0].id
        seen.wait(len)
        stream.subscribe_name("ContractB")
        assert sandbox.wait_for_connections(2)
        seen.wait(lambda items: {item.name for item in items} == {"ContractA", "ContractB"})
        assert sandbox.wait_for_connections(1)
        (connection,) = sandbox.connections()
        assert connection.id > first
        assert connection.path == f"{NAME_PATH}ContractA&contract_names=ContractB"
        count = len(seen.items)
        seen.wait(lambda items: {item.name for item in items[count:]} == {"ContractA", "ContractB"})
        assert stream.state is State.OPEN
        assert stream.stats().reconnects == 0
    numbers = [(item.timestamp, item["data"]) for item in seen.items if item.name == "ContractA"]
    assert len({str(number) for number in numbers}) == len(numbers)  # what two connections brought came once
    assert [gap for gap in gaps.items if "ContractB" in gap.names] == []


def test_many_contracts_at_once_and_one_after_the_other(sandbox: Sandbox) -> None:
    """A wish that comes while a connection is being replaced would be forgotten."""
    stream = ime(sandbox, names="ContractA")
    seen = Collector()
    stream.on_contract(seen)
    with stream:
        threads = [
            threading.Thread(target=stream.subscribe_name, args=("ContractB",)),
            threading.Thread(target=stream.subscribe_name, args=("ContractC",)),
            threading.Thread(target=stream.subscribe_id, args=(12345, "67890")),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen.wait(lambda items: {item.name for item in items} >= {"ContractB", "ContractC", "12345", "67890"}, 20)
        stream.unsubscribe_name("ContractB")
        stream.unsubscribe_id(12345, "67890")
        wanted = f"{NAME_PATH}ContractA&contract_names=ContractC"
        for item in stream.ticks(timeout=10):
            if item.name and [one.path for one in sandbox.connections()] == [wanted]:
                break


@pytest.mark.parametrize("accept_first", [False, True])
def test_another_contract_that_is_refused_leaves_the_others_alone(sandbox: Sandbox, accept_first: bool) -> None:
    """A typing error would end the stream of all other contracts."""
    stream = ime(sandbox, names="ContractA", overlap=2.0)
    errors = Collector()
    stream.on_error(errors)
    with stream:
        assert stream.take(1, timeout=10)
        sandbox.controls("ime").accept_first(accept_first)
        stream.subscribe_name("ContractZ")
        (error,) = errors.wait(len)
        assert isinstance(error, AuthorizationError)
        assert "ContractZ" in str(error)
        assert stream.take(2, "ContractA", timeout=10)
        sandbox.controls("ime").accept_first(False)
        stream.subscribe_name("ContractB")  # without the refused one
        assert stream.take(1, "ContractB", timeout=10)
        assert stream.stats().reconnects == 0
        assert len(errors.items) == 1


def test_after_twenty_cuts_everything_flows(sandbox: Sandbox) -> None:
    """A contract would stay silent after a reconnect."""
    stream = ime(sandbox, names=["ContractA", "ContractB"], ids=24680)
    seen = Collector()
    stream.on_contract(seen)
    with stream:
        for number in range(20):
            assert sandbox.wait_for_connections(2)
            assert sandbox.wait_for_subscribers("24680")
            assert sandbox.wait_for_subscribers("ContractB")
            (sandbox.abort_all if number % 2 else sandbox.disconnect_all)()
        seen.items.clear()
        seen.wait(lambda items: {item.name for item in items} == {"ContractA", "ContractB", "24680"})
        assert stream.stats().reconnects >= 20


def test_a_new_token_is_taken_over_without_a_hole(sandbox: Sandbox) -> None:
    """Tokens that expire would end the stream."""
    stream = ime(sandbox, names="ContractA")
    with stream:
        assert stream.take(1, timeout=10)
        sandbox.set_keys("another-key")
        stream.rotate_key("another-key")
        sandbox.wait_for_connections(2)
        assert sandbox.wait_for_connections(1)
        assert stream.take(2, timeout=10)
        assert stream.stats().reconnects == 0


def test_what_cannot_be_right_is_refused_at_once() -> None:
    """A mistake would show up only after the connection, or never."""
    with pytest.raises(ConfigError, match="wss://"):
        ImeStream(url="ime.example.com")
    with pytest.raises(ConfigError, match="token"):
        ImeStream(url="ws://127.0.0.1", auth=5)  # type: ignore[arg-type]
    for bad in ("", " ", "a\n"):
        with pytest.raises(InvalidInputError):
            ImeStream(url="ws://127.0.0.1", names=bad)
    stream = ImeStream(url="ws://127.0.0.1", names="5")
    with pytest.raises(InvalidInputError, match="by name and by id"):
        stream.subscribe_id(5)
    stream.unsubscribe_name("5")
    stream.subscribe_id(5)
    assert stream._options.ping_interval == stream._options.ping_timeout == 20
    assert ImeStream(url="ws://127.0.0.1", ping_interval=3)._options.ping_interval == 3
    assert "secret" not in repr(ImeStream(url="ws://127.0.0.1", auth=Credentials("secret")))


def test_the_embedded_sandbox_needs_nothing() -> None:
    """Nobody could try it offline."""
    with ImeStream(environment="sandbox", names="ContractA") as stream:
        assert stream.take(1, timeout=10)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis of this test's own."""
    pytest.importorskip("redis")
    if (program := shutil.which("redis-server")) is None:
        pytest.skip("there is no redis-server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    while "Ready to accept" not in (line := server.stdout.readline()):
        assert line, "Redis has ended"
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.communicate(timeout=10)


def test_the_sandbox_publishes_on_redis(redis_url: str) -> None:
    """The service's own design, a channel for each contract, would never be tried."""
    import redis

    with (
        Sandbox(exchange_interval=0.02, redis_url=redis_url) as sandbox,
        ime(sandbox, names="ContractA", ids=67890) as stream,
        redis.Redis.from_url(redis_url) as client,
    ):
        (message,) = stream.take(1, "ContractA", timeout=10)
        assert message.best.buy_price is not None
        assert {channel.decode() for channel in client.pubsub_channels()} == {
            "ime:contract:ContractA",
            "ime:contract:ContractB",
            "ime:contract:ContractC",
        }
        with stream.ticks("67890", timeout=10) as feed:  # somebody else may be the publisher
            client.publish(
                "ime:contract:ContractB",
                '{"timestamp":"2026-05-23T15:10:00.000000","data":{"ContractInfo":{"open_interest":3}}}',
            )
            assert next(item for item in feed if item.info.open_interest == 3).limits[0].buy_price is None
        sandbox.stop()
        sandbox.start()
        assert stream.take(2, "ContractA", timeout=10)


def test_a_redis_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox would start and be silent."""
    pytest.importorskip("redis")
    with pytest.raises(ConfigError, match="Redis"):
        Sandbox(redis_url="redis://127.0.0.1:1/0").start()
    with pytest.raises(ConfigError, match="redis://"):
        Sandbox(redis_url="http://127.0.0.1")
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"finx-sync\[redis\]"):
        Sandbox(redis_url="redis://127.0.0.1:1/0")
