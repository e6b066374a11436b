"""Ten minutes recorded at 5000 messages a second, with a kill -9 in the middle; then replayed at "max".

Usage: python -m benchmarks.recording [SECONDS] [MESSAGES_PER_SECOND]

A child records what a blaster sends; it is killed after half of the time, and another goes on in the next file. The
handlers of both note what they got; the replay must give the same, but for the last moments before the kill.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import tempfile
import time
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from finx_sync.messages import ContractTick

NAME = "BTC-PERPETUAL"


def blast(port_pipe: Any, rate: int) -> None:
    """A server that sends numbered contract messages at a steady rate."""
    sent = 0
    body = _contract()

    def script(connection: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            send(connection)

    def send(connection: Any) -> None:
        nonlocal sent
        connection.recv()
        connection.send('{"isAuth": true}')
        begin, count = time.perf_counter(), 0
        while True:
            due = int((time.perf_counter() - begin) * rate)
            while count < due:
                body["timestamp"] = str(1_660_000_000_000 + sent)
                connection.send(json.dumps(body, separators=(",", ":")))
                sent, count = sent + 1, count + 1
            time.sleep(0.002)

    with serve(script, "127.0.0.1", 0) as server:
        port_pipe.send(server.socket.getsockname()[1])
        server.serve_forever()


def _contract() -> dict[str, str]:
    """As large as FinX's."""
    numbers = dict.fromkeys(ContractTick._attributes, "23233.684999999998")
    return {**numbers, "redis_key": NAME, "instrument_name": NAME, "state": "open", "underlying_index": "BTC-26AUG22"}


def record(port: int, path: str, seen: str) -> None:
    from finx_sync import StreamManager

    stream = StreamManager("sandbox-key", url=f"ws://127.0.0.1:{port}")
    stream.subscribe_contract(NAME)
    with open(seen, "w", buffering=1, encoding="ascii") as file:
        stream.on_contract(lambda tick: file.write(f"{tick.timestamp} {tick.received_at!r}\n"))
        stream.record(path)
        signal.signal(signal.SIGTERM, lambda *_: stream.stop(drain=True))
        stream.run()


def main(seconds: float = 600, rate: int = 5000) -> None:
    multiprocessing.set_start_method("spawn")
    folder = pathlib.Path(tempfile.mkdtemp())
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=blast, args=(theirs, rate), daemon=True)
    server.start()
    port = ours.recv()
    lists = []
    for number, ending in enumerate((signal.SIGKILL, signal.SIGTERM)):
        seen = folder / f"seen{number}"
        child = multiprocessing.Process(target=record, args=(port, str(folder / "feed.finxrec"), str(seen)))
        child.start()
        time.sleep(seconds / 2)
        assert child.pid is not None
        os.kill(child.pid, ending)
        child.join()
        lists.append([line.split() for line in seen.read_text().splitlines() if line.count(" ") == 1])
    server.kill()

    from finx_sync import StreamManager

    stream = StreamManager(environment="sandbox")
    got: list[Any] = []
    stream.on_contract(got.append)
    begin = time.perf_counter()
    replay = stream.replay(folder / "feed.finxrec", speed="max")
    took = time.perf_counter() - begin
    played = [(tick.timestamp, tick.received_at) for tick in got]
    live = [[(int(number), float(at)) for number, at in part[:-1]] for part in lists]
    split = next(place for place, row in enumerate(played) if row[1] >= live[1][0][1])
    lost = live[0][-1][1] - played[split - 1][1]
    count = min(split, len(live[0]))
    size = sum(path.stat().st_size for path in folder.glob("*.finxrec"))
    print(f"{len(played)} messages recorded in {size / 1e6:.0f} MB; {len(replay.damage)} damaged ends")
    print(f"the killed recorder lacks the last {max(0.0, lost):.2f} s")
    print(f"the same messages and times before the kill: {played[:count] == live[0][:count]}")
    print(f"and after it: {played[split : split + len(live[1])] == live[1]}")
    print(f"replayed at {len(played) / took:,.0f} messages a second")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
