"""The budget of a message, stage by stage, beside what it costs at the limit: ``python -m benchmarks.stages``.

CPU time of this thread, the best of many runs, in nanoseconds a message of 766 bytes; full reads of 1 MiB.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

import msgspec

from benchmarks.blaster import messages
from benchmarks.path import Path, stream_of
from finx_sync.messages import ContractTick
from finx_sync.transport import frames
from finx_sync.transport.cutting import cut_plain_in_python
from finx_sync.transport.frames import BUFFER_SIZE, FrameReader
from finx_sync.venues.finx import FinxCodec

COUNT = 1360
"""Messages of a full read."""


def best(action: Callable[[], object], repeat: int = 60) -> float:
    """Nanoseconds a message."""
    spent = []
    for _ in range(repeat):
        begun = time.thread_time_ns()
        action()
        spent.append(time.thread_time_ns() - begun)
    return min(spent) / COUNT


def receiving(data: bytes) -> float:
    """The system's part of a read, over TCP on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * BUFFER_SIZE)
    buffer, spent = bytearray(BUFFER_SIZE), []
    with sender, ours:
        for _ in range(40):
            thread = threading.Thread(target=sender.sendall, args=(data,))
            thread.start()
            thread.join(1.0)  # all of it waits in the system's buffer, if that is large enough
            begun, got = time.thread_time_ns(), 0
            while got < len(data):
                got += ours.recv_into(buffer)
            spent.append(time.thread_time_ns() - begun)
            thread.join()
    return min(spent) / COUNT


def cutting(data: bytes, *, in_python: bool = False) -> float:
    """What the frame reader takes, the bytes being in its buffer already."""
    compiled = frames.IS_COMPILED, frames.cut_plain
    if in_python:
        frames.IS_COMPILED, frames.cut_plain = False, cut_plain_in_python  # type: ignore[misc]
    reader = FrameReader()
    while len(space := reader.space()) < len(data):  # it grows with the feed
        space[:] = data[: len(space)]
        reader.received(len(space))
        reader.cut()
        reader._start = reader._end
    space[: len(data)] = data

    def cut() -> None:
        reader._start = reader._end = 0
        reader.received(len(data))
        reader.cut()

    try:
        return best(cut)
    finally:
        frames.IS_COMPILED, frames.cut_plain = compiled  # type: ignore[misc]


def main() -> None:
    """Measure and print."""
    data, payloads = stream_of("contract", 1, COUNT), messages("contract", 1)[:COUNT]
    alone = msgspec.json.Decoder(ContractTick, strict=False).decode
    decode = FinxCodec("ws://127.0.0.1:9").decode
    queue: SimpleQueue[int] = SimpleQueue()

    def call_nothing() -> None:
        nothing: Callable[[object], object] = lambda tick: None  # noqa: E731
        for payload in payloads:
            nothing(payload)

    def in_slices() -> None:
        for begin in range(0, COUNT, 128):
            decode(payloads[begin : begin + 128])  # type: ignore[arg-type]

    def one_by_one() -> None:
        for payload in payloads:
            alone(payload)

    def dispatch(path: Path) -> float:
        spent = []
        path.run(data)  # the buffer grows with the feed
        for _ in range(60):
            path.feed(memoryview(data))
            begun = time.thread_time_ns()
            path.dispatch()
            spent.append(time.thread_time_ns() - begun)
        return min(spent) / COUNT

    decoding, whole = best(in_slices), dispatch(Path())
    rows = [
        ("read into the buffer", receiving(data), "memcpy", best(lambda: bytearray(data))),
        (
            "cut, copy and check a frame",
            cutting(data),
            "memcpy and scan",
            best(lambda: bytes(memoryview(data)).isascii()),
        ),
        ("the same in Python", cutting(data, in_python=True), "", None),
        ("decode", decoding, "msgspec alone, each message thrown away at once", best(one_by_one)),
        ("stamp, last value, books, call", whole - decoding, "a call of an empty handler", best(call_nothing)),
    ]
    print("| Stage | ns | At the limit | ns |\n|---|---:|---|---:|")
    for stage, spent, limit, floor in rows:
        print(f"| {stage} | {spent:.0f} | {limit} | {'' if floor is None else f'{floor:.0f}'} |")
    put = best(lambda: (queue.put(1), queue.get()), 2000) * COUNT
    print(f"\nOne hand-over through the queue, without a waiting thread: {put:.0f} ns a batch.")


if __name__ == "__main__":
    main()
