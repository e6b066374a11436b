"""A typed reader of the feed on Redis, in a process of its own: what a bot on another machine is.

It writes what its handlers get to a file, one line for each: ``name number`` or ``gap JSON``; and ``begin``
when it starts.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import asdict

from finx_sync import ContractTick, Gap, StateChange, StreamManager


class Reader:
    """Writes down what its handlers get.

    Args:
        url: where the feed is.
        names: the contracts.
        path: the file.
    """

    def __init__(self, url: str, names: list[str], path: str) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # closed in `stop`
        self._file.write("\nbegin\n")  # the line before may have been cut short by `kill -9`
        self._lock = threading.Lock()  # guards _file between the dispatch thread and the one that answers
        self.newest = dict.fromkeys(names, 0)
        self.stream = StreamManager(url=url, stale_after=None)
        self.stream.on_contract(self._tick)
        self.stream.on_gap(self._gap)
        self.stream.on_state(self._state)
        self.stream.on_error(lambda error: print(f"reader: {error}", file=sys.stderr))
        self.stream.subscribe_contract(*names)

    def _tick(self, tick: ContractTick) -> None:
        number = int(tick.open_interest or 0)
        self.newest[tick.instrument_name] = number
        with self._lock:
            self._file.write(f"{tick.instrument_name} {number}\n")

    def _gap(self, gap: Gap) -> None:
        with self._lock:
            self._file.write(f"gap {json.dumps(asdict(gap))}\n")

    def _state(self, change: StateChange) -> None:
        print(f"reader: {change.new.value} {change.reason or ''}", file=sys.stderr)

    def flush(self) -> dict[str, int]:
        """Write what is buffered; returns the newest number of each name."""
        with self._lock:
            self._file.flush()
        return self.newest

    def stop(self) -> None:
        """End."""
        self.stream.stop()
        with self._lock:
            self._file.close()


def main() -> None:
    """Read until the input ends; every line is answered with the newest number of each name."""
    url, names, path = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    reader = Reader(url, names, path)
    reader.stream.start(timeout=20)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(reader.flush()), flush=True)
    reader.stop()


if __name__ == "__main__":
    main()
