"""Someone else's client of FTX, python-ftx 0.1.2, against the sandbox, unchanged but for its URL."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from finx_sync.sandbox import Sandbox
from finx_sync.venues.ftx import FtxBook
from finx_sync.venues.ftx.messages import BookUpdate
from tests.foreign import INSTALL_TIMEOUT, foreign_python
from tests.sandbox.sandbox_client import KEY

PACKAGES = [["--no-deps", "python-ftx==0.1.2"], ["aiohttp", "loguru", "requests", "websockets<14"]]
SCRIPT = Path(__file__).with_name("python_ftx_session.py")


@contextmanager
def session(url: str, secret: str) -> Iterator[Callable[[Callable[[dict[str, Any]], object]], dict[str, Any]]]:
    """Run the client; gives a function that takes out the first frame of a kind, and waits for it if need be."""
    command = [foreign_python("python-ftx-0.1.2", *PACKAGES), str(SCRIPT), f"{url}/ws/", KEY, secret]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        watch = threading.Timer(40, process.kill)
        watch.start()

        seen: list[dict[str, Any]] = []

        def take(is_it: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
            assert process.stdout is not None
            while not (found := [frame for frame in seen if is_it(frame)]):
                if not (line := process.stdout.readline()):
                    pytest.fail("the client has ended, or waited in vain")
                seen.append(json.loads(line))
            seen.remove(found[0])
            return found[0]

        try:
            yield take
        finally:
            watch.cancel()
            process.kill()


@pytest.mark.timeout(INSTALL_TIMEOUT * 2)
def test_python_ftx_works_against_the_sandbox() -> None:
    """The sandbox would speak a protocol of its own, and so would a client that was only tried against it."""
    with Sandbox(robots=False) as sandbox, session(sandbox.url, "sandbox-secret") as take:
        ticker = take(lambda frame: frame.get("channel") == "ticker" and "data" in frame)["data"]
        assert 0 < ticker["bid"] < ticker["ask"]
        frame = take(lambda frame: frame.get("channel") == "orderbook" and frame["type"] == "partial")
        image = frame["data"]
        book = FtxBook()
        assert book.apply(
            BookUpdate(
                market="BTC-PERP", action="partial", bids=image["bids"], asks=image["asks"], checksum=image["checksum"]
            )
        )
        refused = take(lambda frame: frame["type"] == "error")
        assert refused == {"type": "error", "code": 404, "msg": "No such market: BTCUSDT"}
        assert sandbox.wait_for_subscribers("orders")
        order = sandbox.controls("ftx").place("BTC-PERP", "sell", 0.75)
        new = take(lambda frame: frame.get("channel") == "orders" and "data" in frame)["data"]
        assert (new["id"], new["status"]) == (int(order.id), "new")
        fill = take(lambda frame: frame.get("channel") == "fills" and "data" in frame)["data"]
        assert (fill["orderId"], fill["size"]) == (int(order.id), 0.75)


@pytest.mark.timeout(INSTALL_TIMEOUT * 2)
def test_python_ftx_with_a_wrong_secret_is_refused() -> None:
    """The sandbox would let a client pass whose signature is wrong."""
    with Sandbox(robots=False) as sandbox, session(sandbox.url, "wrong-secret") as take:
        said = [take(lambda frame: frame["type"] == "error")["msg"] for _ in range(3)]
        assert said == ["Invalid login credentials", "Not logged in", "Not logged in"]
