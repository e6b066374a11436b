"""The gateway beside `websockets`' broadcast on the same load: ``python -m benchmarks.gateway``.

The server runs in a process of its own and so do the clients, which are plain asyncio protocols that count frames, so
that they are not what is measured. Each client gets every message; its age is taken on the clock that both processes
share. Then idle clients: the memory that each one takes in the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.blaster import CONTRACT

ROOT = pathlib.Path(__file__).parent.parent
NAME = "BTC-26AUG22-20000-C"
BATCH = 0.02
"""Seconds between two batches of messages, as a feed's reads bring them."""


def message(number: int) -> bytes:
    """A contract message that says when it was sent, and its number."""
    return json.dumps({**CONTRACT, "timestamp": str(time.monotonic_ns()), "open_interest": str(number)}).encode()


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Servers. Each takes "N RATE" on its input, sends N messages at RATE, and says how much CPU time and memory it took.


class Feed:
    """Sends numbered messages at a pace."""

    def __init__(self, publish: Any) -> None:
        self._publish = publish

    async def run(self, count: int, rate: float) -> None:
        """Send `count` messages."""
        loop, sent = asyncio.get_running_loop(), 0
        begun = loop.time()
        while sent < count:
            await asyncio.sleep(BATCH)
            due = min(count, int((loop.time() - begun) * rate)) - sent
            self._publish([message(sent + number + 1) for number in range(due)])
            sent += due


async def obey(publish: Any, port: int) -> None:
    """Do what the input says."""
    loop = asyncio.get_running_loop()
    print(json.dumps({"port": port}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        count, rate = line.split()
        cpu = time.process_time()
        if int(count):
            await Feed(publish).run(int(count), float(rate))
            await asyncio.sleep(0.5)
        print(json.dumps({"cpu": time.process_time() - cpu, "resident": resident()}), flush=True)


async def finx_sync_gateway() -> None:
    """Ours, without a source: items are handed to the hub as a source does."""
    from aiohttp import web

    from finx_sync.gateway.access import Access
    from finx_sync.gateway.clients import ClientLimits
    from finx_sync.gateway.hub import Hub
    from finx_sync.gateway.items import Item
    from finx_sync.gateway.keys import KeyRing
    from finx_sync.gateway.names import TagReader
    from finx_sync.gateway.websockets import WebSockets
    from finx_sync.venues.finx import FinxCodec

    hub = Hub()
    app = web.Application()
    tags = TagReader(FinxCodec("ws://127.0.0.1"))
    WebSockets(hub, Access(KeyRing(None)), tags, ClientLimits()).add_to(app.router, serves_finx=True, serves_ime=False)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()

    def publish(payloads: Sequence[bytes]) -> None:
        now = time.time()
        hub.take([Item(f"contract:{NAME}", "1-1", now, payload, is_state=True) for payload in payloads])

    await obey(publish, runner.addresses[0][1])


async def websockets_broadcast() -> None:
    """The `websockets` project's own way to send to many."""
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    connections: set[ServerConnection] = set()

    async def talk(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connections.discard(connection)

    def publish(payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            broadcast(connections, payload.decode())

    async with serve(talk, "127.0.0.1", 0, compression=None, backlog=4096, ping_interval=None) as server:
        await obey(publish, server.sockets[0].getsockname()[1])


# Clients


class Counting(asyncio.Protocol):
    """A websocket client that counts frames, notes the age of each message, and sees whether a number is missing."""

    def __init__(self, path: str, hello: bytes, report: Report) -> None:
        self._path = path
        self._hello = hello
        self._report = report
        self._buffer = b""
        self._is_open = False
        self._newest = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        if not self._is_open:
            head, mark, rest = data.partition(b"\r\n\r\n")
            if not mark:
                self._buffer = data
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._is_open, data = True, rest
            if self._hello:
                self._transport.write(self._hello)
            self._report.opened += 1
        now, place = time.monotonic_ns(), 0
        while len(data) - place >= 4:
            size, begin = data[place + 1], place + 2
            if size == 126:
                size, begin = int.from_bytes(data[begin : begin + 2], "big"), begin + 2
            if len(data) < begin + size:
                break
            self._take(data[begin : begin + size], now)
            place = begin + size
        self._buffer = data[place:]

    def _take(self, text: bytes, now: int) -> None:
        at = text.find(b'"timestamp": "')
        if at < 0:
            return
        report = self._report
        report.received += 1
        begin = at + 14
        report.ages.append(now - int(text[begin : text.index(b'"', begin)]))
        begin = text.index(b'"open_interest": "') + 18
        number = int(text[begin : text.index(b'"', begin)])
        report.missing += number - self._newest - 1 if self._newest else 0
        self._newest = number


class Report:
    """What all clients saw."""

    def __init__(self) -> None:
        self.opened = self.received = self.missing = 0
        self.ages: list[int] = []


def masked(text: str) -> bytes:
    """A client's text frame, masked with zeros."""
    payload = text.encode()
    return bytes([0x81, 0x80 | 126]) + len(payload).to_bytes(2, "big") + b"\0\0\0\0" + payload


async def connect(port: int, count: int, path: str, hello: bytes) -> Report:
    """Open so many clients."""
    loop, report = asyncio.get_running_loop(), Report()
    for number in range(count):
        await loop.create_connection(lambda: Counting(path, hello, report), "127.0.0.1", port)
        if number % 100 == 99:
            await asyncio.sleep(0)
    while report.opened < count:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    return report


SERVERS = {"finx_sync_gateway": finx_sync_gateway, "websockets_broadcast": websockets_broadcast}
PATHS = {
    "finx_sync_gateway": (
        "/streaming/any",
        masked(json.dumps({"APIKey": "any", "functionName": "getDeribitContractStream", "instrumentName": NAME})),
    ),
    "websockets_broadcast": ("/", b""),
}


def _ask(server: subprocess.Popen[str], line: str) -> dict[str, Any]:
    assert server.stdin is not None
    server.stdin.write(line + "\n")
    server.stdin.flush()
    return {}


async def load(name: str, clients: int, rate: float, seconds: float) -> dict[str, Any]:
    """One server under load, or with idle clients if the rate is 0."""
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gateway", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert server.stdout is not None
    loop = asyncio.get_running_loop()
    port = json.loads(server.stdout.readline())["port"]
    _ask(server, "0 0")
    before = json.loads(server.stdout.readline())
    report = await connect(port, clients, *PATHS[name])
    count = int(rate * seconds)
    _ask(server, f"{count} {rate}")
    found = json.loads(await loop.run_in_executor(None, server.stdout.readline))
    deadline = loop.time() + 10
    while report.received < count * clients and loop.time() < deadline:
        await asyncio.sleep(0.05)
    ages = sorted(report.ages)
    server.kill()
    server.wait()
    return {
        "server": name,
        "clients": clients,
        "expected": count * clients,
        "received": report.received,
        "missing": report.missing,
        "cpu per delivery, us": round(found["cpu"] / max(1, report.received) * 1e6, 2),
        "cpu share": round(found["cpu"] / max(seconds, 0.001), 2),
        "p50 ms": round(ages[len(ages) // 2] / 1e6, 2) if ages else None,
        "p99 ms": round(ages[int(len(ages) * 0.99)] / 1e6, 2) if ages else None,
        "KiB per client": round((found["resident"] - before["resident"]) / clients / 1024, 1),
    }


def main() -> None:
    """Measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--idle", type=int, default=5000)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for clients in options.clients:
        for name in SERVERS:
            print(json.dumps(asyncio.run(load(name, clients, options.rate, options.seconds))), flush=True)
    for name in SERVERS:
        found = asyncio.run(load(name, options.idle, 0.0, 0.0))
        print(json.dumps({"server": name, "idle": options.idle, "KiB per client": found["KiB per client"]}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in SERVERS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        asyncio.run(SERVERS[sys.argv[1]]())
    else:
        main()
