"""The whole path on one thread, without a network: real layers, exact counts.

Times tell little on a busy machine; how many byte codes and machine instructions a message takes does not depend on it.
``python -m benchmarks.path`` is to be run under valgrind, see `main`.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from benchmarks.blaster import BLOCK, frame, messages
from finx_sync import StreamManager
from finx_sync.events import Connection
from finx_sync.session.session import Session
from finx_sync.transport.frames import FrameReader
from finx_sync.transport.leadership import ReadLeadership
from finx_sync.transport.loop import Heartbeat, ReadLoop
from finx_sync.transport.waker import Poller, Waker
from finx_sync.venues.base import MAIN_ENDPOINT


class Source:
    """Stands for the connection; nothing is ever held back here."""

    def pause_reading(self) -> None:
        raise AssertionError("the queue is never full here")

    def resume_reading(self) -> None:
        pass

    def hand_over_reading(self, promote: object) -> None:
        pass


class Path:
    """A `StreamManager` whose threads do not run: `feed` is the io thread's part, `dispatch` the dispatch thread's."""

    def __init__(self, handler: Callable[[Any], object] | None = None, *, handlers: int = 1, subscriptions: int = 1):
        self.stream = StreamManager("sandbox-key", url="ws://127.0.0.1:9")
        for _ in range(handlers):
            self.stream.on_contract(handler or (lambda tick: None))
        self.stream.on_spot(lambda tick: None)
        for number in range(subscriptions):
            self.stream.subscribe_contract(f"BTC-26AUG22-{20000 + number}-C")
        self.session = self.stream._session = Session(self.stream._session_parts(live=True))
        self._supervisor = self.session.connections._new(MAIN_ENDPOINT, patient=True)
        self._supervisor.connection = Connection(MAIN_ENDPOINT)
        self.reader = FrameReader()
        self._source: Any = Source()

    def feed(self, data: memoryview) -> int:
        """One read, which brings as much of `data` as fits; returns how much."""
        space = self.reader.space()
        count = min(len(space), len(data))
        space[:count] = data[:count]
        self.reader.received(count)
        payloads, event = self.reader.cut()
        assert event is None
        self.take(payloads)
        return count

    def take(self, payloads: list[bytes]) -> None:
        """What the session does with the payloads of a read."""
        self._supervisor._received(self._source, payloads)

    def dispatch(self) -> None:
        """Everything that waits."""
        while (item := self.session.queue.get_waiting()) is not None:
            self.session.pipeline.process(item)

    def run(self, data: bytes) -> None:
        """Read by read, all the way."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.feed(rest) :]
            self.dispatch()


def stream_of(kind: str, names: int, count: int) -> bytes:
    """Frames as a server sends them."""
    block = messages(kind, names)
    return b"".join(frame(block[number % BLOCK]) for number in range(count))


@contextmanager
def byte_codes() -> Iterator[list[int]]:
    """Counts the byte codes that this thread runs inside: the same on every machine, for one version of Python."""
    count = [0]

    def trace(running: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            running.f_trace_opcodes, running.f_trace_lines = True, False
        elif event == "opcode":
            count[0] += 1
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # from 3.12 on, the first frame that asks makes the others report as well
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def codes_per_message(path: Path, kind: str, names: int, count: int = 2000) -> float:
    """Byte codes of a message in full batches, after a first run that fills tables and warms up."""
    data = stream_of(kind, names, count)
    path.run(data)
    with byte_codes() as codes:
        path.run(data)
    return codes[0] / count


class OneByOne:
    """A read loop over a socket that has one message at a time; counts what each costs, beside the system's part."""

    def __init__(self, path: Path, count: int = 200) -> None:
        self._path = path
        self._left = count
        self._data = stream_of("contract", 1, 1)
        self.polls = self.reads = 0
        self.codes = 0

    def run(self) -> OneByOne:
        """Serve until all have come."""
        ours, self._theirs = socket.socketpair()
        ours.setblocking(False)
        waker = Waker()
        self._loop = ReadLoop(waker, self._path.reader, Heartbeat(), self._take, lambda frame: None)
        outer = self
        poll, read = Poller.wait_for_data, ReadLoop._receive

        def counted_poll(self: Poller, timeout: float) -> bool:
            outer.polls += 1
            return poll(self, timeout)

        def counted_read(self: ReadLoop, sock: socket.socket) -> bool:
            outer.reads += 1
            return read(self, sock)

        Poller.wait_for_data, ReadLoop._receive = counted_poll, counted_read  # type: ignore[method-assign]
        try:
            self._theirs.send(self._data)
            with byte_codes() as codes:
                self._loop._serve(ours)
            self.codes = codes[0]
        finally:
            Poller.wait_for_data, ReadLoop._receive = poll, read  # type: ignore[method-assign]
            ours.close()
            self._theirs.close()
            waker.close()
        return self

    def _take(self, payloads: list[bytes]) -> None:
        self._path.take(payloads)
        self._path.dispatch()
        self._left -= 1
        if self._left:
            self._theirs.send(self._data)
        else:
            self._loop.request_abort()


def codes_when_leading(path: Path, count: int = 200) -> float:
    """Byte codes of a message that comes alone, read and handed on by the dispatch thread."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    waker = Waker()
    loop = ReadLoop(waker, path.reader, Heartbeat(), path.take, lambda frame: None)
    leadership = ReadLeadership(ours, waker, lambda: loop._receive(ours))
    queue, pipeline, data = path.session.queue, path.session.pipeline, stream_of("contract", 1, 1)
    path.dispatch()
    leadership.begin()
    queue._election.leadership = leadership
    with ours, theirs:
        theirs.send(data)
        pipeline.process(queue.get())
        with byte_codes() as codes:
            for _ in range(count):
                theirs.send(data)
                pipeline.process(queue.get())
        leadership.end()
    waker.close()
    return codes[0] / count


def ratio_to_decoding(kind: str = "contract", names: int = 1, repeat: int = 12) -> float:
    """CPU time of the whole path over that of decoding alone; the best of interleaved runs of each."""
    from finx_sync.venues.finx import FinxCodec

    payloads, data = messages(kind, names)[:2040], stream_of(kind, names, 2040)
    decode, path = FinxCodec("ws://127.0.0.1:9").decode, Path()
    alone, whole = [], []
    for _ in range(repeat):
        begun = time.thread_time_ns()
        for begin in range(0, len(payloads), 128):
            decode(payloads[begin : begin + 128])  # type: ignore[arg-type]
        middle = time.thread_time_ns()
        path.run(data)
        alone.append(middle - begun)
        whole.append(time.thread_time_ns() - middle)
    return min(whole) / min(alone)


READS = 2000
"""Messages of one round of `main`."""
RUNS = {"neither": (1, 1), "path": (3, 1), "decoding": (1, 3)}
"""How often the whole path is run, and how often only its decoding. What both need anyway is in all three."""


def main() -> None:
    """Do each of `RUNS` in a process of its own, and print the number of each process.

    They are forked from this one when all is imported, which under valgrind takes longer than all else: it counts the
    instructions of each from the beginning on.
    """
    from finx_sync.venues.finx import FinxCodec

    data, payloads = stream_of("contract", 1, READS), messages("contract", 1)[:READS]
    for name, (paths, decodings) in RUNS.items():
        if (child := os.fork()) == 0:
            path, decode = Path(), FinxCodec("ws://127.0.0.1:9").decode
            for _ in range(paths):
                path.run(data)
            for _ in range(decodings):
                for begin in range(0, READS, 128):
                    decode(payloads[begin : begin + 128])  # type: ignore[arg-type]
            os._exit(path.stream.stats().messages.handled != paths * READS)
        print(name, child)
        assert os.waitpid(child, 0)[1] == 0, f"{name} did not do what it should"


if __name__ == "__main__":
    main()
