"""The clients that are measured, each in a process of its own: ``python -m benchmarks.clients NAME URL COUNT MODE``.

MODE "throughput" times COUNT messages from the first to the last; "latency" takes the age of each message when the
handler has it, on the clock that sender and receiver share. The result is one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

Sink = Callable[[int], None]
"""Called with a contract's timestamp (or 0) for every message."""


def peak_memory() -> float:
    """The most memory that this process has held, MiB.

    Not `ru_maxrss`, which a process inherits from the one that started it: it would be the same for every client.
    """
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class Meter:
    """Counts messages; times those after a warm-up."""

    def __init__(self, count: int, latency: bool) -> None:
        self.count = count
        self.warm_up = count // 5  # messages that are not timed: windows open, subscriptions are sent, tables fill
        self.seen = 0
        self.begin = self.end = 0
        self.cpu_begin = self.cpu_end = 0.0
        self.ages: list[int] = []
        self.done = threading.Event()
        self.stop: Callable[[], object] = lambda: None  # called when the last one has come, if the client sets it
        self.one = self._age if latency else self._count
        self.typed: Callable[[Any], None] = self._typed_age if latency else self._count

    def _count(self, _: object) -> None:
        if self.seen == self.warm_up:
            self.begin, self.cpu_begin = time.perf_counter_ns(), time.process_time()
        self.seen += 1
        if self.seen == self.count:
            self._finish()

    def _age(self, sent: int) -> None:
        self.ages.append(time.monotonic_ns() - sent)
        self._count(0)

    def _typed_age(self, tick: Any) -> None:
        self._age(tick.timestamp)

    def many(self, number: int) -> None:
        """Count a batch."""
        if not self.begin and self.seen >= self.warm_up:
            self.warm_up = self.seen
            self.begin, self.cpu_begin = time.perf_counter_ns(), time.process_time()
        self.seen += number
        if self.seen >= self.count and not self.end:
            self._finish()

    def _finish(self) -> None:
        self.end, self.cpu_end = time.perf_counter_ns(), time.process_time()
        self.done.set()
        self.stop()

    def result(self) -> dict[str, Any]:
        """What was measured."""
        seconds = (self.end - self.begin) / 1e9
        timed = self.seen - self.warm_up
        ages = sorted(self.ages)
        found: dict[str, Any] = {
            "rate": timed / seconds,
            "cpu_per_million": (self.cpu_end - self.cpu_begin) / timed * 1e6,
            "peak_mb": peak_memory(),
        }
        if ages:
            found |= {f"p{p}": ages[min(len(ages) - 1, int(len(ages) * p / 100))] / 1000 for p in (50, 90, 99)}
        return found


def trusting() -> ssl.SSLContext:
    """For the benchmark's own certificate on loopback."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def websocket_client(url: str, meter: Meter, skip: bool, loads: Callable[[Any], Any]) -> None:
    """websocket-client's WebSocketApp, with the UTF-8 check of its own or without."""
    import websocket

    def on_message(app: Any, text: Any) -> None:
        message = loads(text)
        meter.one(int(message.get("timestamp", 0)))
        if meter.done.is_set():
            app.keep_running = False

    app = websocket.WebSocketApp(url, on_message=on_message)
    app.run_forever(skip_utf8_validation=skip, sslopt={"context": trusting()})


def websocket_client_json(url: str, meter: Meter) -> None:
    """websocket-client as it comes, with the standard library's json."""
    websocket_client(url, meter, False, json.loads)


def websocket_client_skip_orjson(url: str, meter: Meter) -> None:
    """websocket-client without its UTF-8 check, with orjson."""
    import orjson

    websocket_client(url, meter, True, orjson.loads)


def websockets_sync_orjson(url: str, meter: Meter) -> None:
    """The threaded client of websockets, with orjson."""
    import orjson
    from websockets.sync.client import connect

    with connect(url, compression=None, ssl=trusting() if url.startswith("wss") else None) as connection:
        for text in connection:
            meter.one(int(orjson.loads(text).get("timestamp", 0)))
            if meter.done.is_set():
                return


def aiohttp_orjson(url: str, meter: Meter) -> None:
    """aiohttp, with orjson."""
    import aiohttp
    import orjson

    async def main() -> None:
        ssl_option = trusting() if url.startswith("wss") else True
        async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=ssl_option) as connection:
            async for message in connection:
                meter.one(int(orjson.loads(message.data).get("timestamp", 0)))
                if meter.done.is_set():
                    return

    asyncio.run(main())


def picows_run(url: str, meter: Meter, listener: type) -> None:
    """picows on uvloop."""
    import picows
    import uvloop

    async def main() -> None:
        context = trusting() if url.startswith("wss") else None
        transport, _ = await picows.ws_connect(listener, url, ssl_context=context)
        meter.stop = transport.disconnect
        await transport.wait_disconnected()

    uvloop.run(main())


def picows_typed(url: str, meter: Meter) -> None:
    """picows on uvloop, decoding into the very types that finx_sync decodes into."""
    import msgspec
    import picows

    from finx_sync.messages import ContractTick, SpotTick

    contract = msgspec.json.Decoder(ContractTick, strict=False).decode
    spot = msgspec.json.Decoder(SpotTick, strict=False).decode
    handler = meter.typed

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            payload = frame.get_payload_as_memoryview()
            if payload[2] == 114:  # {"redis_key"
                handler(contract(payload))
            else:
                handler(spot(payload))

    picows_run(url, meter, Listener)


def picows_count(url: str, meter: Meter) -> None:
    """picows on uvloop, counting frames."""
    import picows

    one = meter.one

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            one(0)

    picows_run(url, meter, Listener)


def finx_batch(url: str, meter: Meter) -> None:
    """finx_sync.WebSocketApp, counting through on_batch."""
    from finx_sync import WebSocketApp

    def on_batch(app: WebSocketApp, payloads: list[bytes]) -> None:
        meter.many(len(payloads))
        if meter.done.is_set():
            app.close(wait=False, timeout=0)

    WebSocketApp(url, on_batch=on_batch).run_forever(sslopt={"context": trusting()})


def finx_app_orjson(url: str, meter: Meter) -> None:
    """finx_sync.WebSocketApp as a drop-in, with orjson."""
    import orjson

    from finx_sync import WebSocketApp

    def on_message(app: WebSocketApp, text: str) -> None:
        meter.one(int(orjson.loads(text).get("timestamp", 0)))
        if meter.done.is_set():
            app.close(wait=False, timeout=0)

    WebSocketApp(url, on_message=on_message).run_forever(sslopt={"context": trusting()})


def finx_stream(url: str, meter: Meter, handlers: int = 1, subscriptions: int = 1) -> None:
    """finx_sync.StreamManager with handlers on the dispatch thread, everything on."""
    from finx_sync import StreamManager
    from finx_sync.venues.finx import FinxCodec

    base, _, query = url.partition("?")

    class Queried(FinxCodec):
        """Keeps the query with which the blaster is told what to send."""

        def url(self, key: str, line: str) -> str:
            return f"{base}?{query}"

    stream = StreamManager(
        "sandbox-key",
        url=base.rstrip("/"),
        ssl_context=trusting() if url.startswith("wss") else None,
        max_lag=60.0,  # every message is counted, also where the machine is too busy to keep up
    )
    stream._codec = Queried(base)
    stream.on_contract(meter.typed)
    stream.on_spot(meter.typed)
    for _ in range(handlers - 1):
        stream.on_contract(lambda tick: None)
    stream.subscribe_spot("BTC:USDC")
    for number in range(subscriptions):
        stream.subscribe_contract(f"BTC-26AUG22-{20000 + number}-C")
    stream.start()
    meter.done.wait(120)
    stream.stop()


CLIENTS: dict[str, Callable[..., None]] = {
    client.__name__: client
    for client in (
        websocket_client_json,
        websocket_client_skip_orjson,
        websockets_sync_orjson,
        aiohttp_orjson,
        picows_count,
        picows_typed,
        finx_batch,
        finx_app_orjson,
        finx_stream,
    )
}


def main() -> None:
    """Run one client."""
    name, url, count, mode = sys.argv[1:5]
    options = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
    meter = Meter(int(count), mode == "latency")
    CLIENTS[name](url, meter, **options)
    print(json.dumps(meter.result()))


if __name__ == "__main__":
    main()
