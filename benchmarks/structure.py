"""How simple the path is, in numbers: calls of one message and of one history page, and the knot of live objects.

Run ``python -m benchmarks.structure``. Everything is counted, nothing is timed, so any machine gives the same figures
but for a call or two that depend on how the threads meet.
"""

from __future__ import annotations

import functools
import gc
import sys
import threading
import types
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import finx_sync
from finx_sync import StreamManager
from finx_sync.sandbox import Sandbox

PACKAGE = Path(finx_sync.__file__).parent
NAME = "BTC-26AUG22-20000-C"
DAY = "2022-06-15"


class CallCounter:
    """Counts the calls of this package's functions, on all threads that were started while it was installed."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.modules: set[str] = set()
        self.on = False

    def __enter__(self) -> CallCounter:
        threading.setprofile(self._look)
        sys.setprofile(self._look)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # as documented for sys.setprofile

    def begin(self) -> None:
        """Count from now on."""
        self.calls.clear()
        self.modules.clear()
        self.on = True

    def end(self) -> tuple[int, int]:
        """Count no more; returns how many calls there were, in how many modules."""
        self.on = False
        return sum(self.calls.values()), len(self.modules)

    def _look(self, frame: types.FrameType, event: str, argument: object) -> None:
        path = frame.f_code.co_filename
        if self.on and event == "call" and path.startswith(str(PACKAGE)) and "/sandbox/" not in path:
            self.calls[f"{Path(path).relative_to(PACKAGE)}:{frame.f_code.co_name}"] += 1
            self.modules.add(str(Path(path).relative_to(PACKAGE)))


def message_path() -> tuple[int, int]:
    """Calls and modules of one contract message, from the socket to the handler and back to waiting."""
    handled, counts = threading.Semaphore(0), []
    with CallCounter() as counter, Sandbox(contract_interval=3600) as sandbox:
        stream = StreamManager("sandbox-key", url=sandbox.url)
        stream.on_contract(lambda tick: handled.release())
        stream.subscribe_contract(NAME)
        with stream:
            handled.acquire(timeout=10)  # the first one comes by itself
            tick = stream.latest(NAME)
            for number in range(15):
                message = {**tick.to_dict(), "mark_price": f"0.{number + 1}"}
                counter.begin()
                sandbox.publish(NAME, message)
                handled.acquire(timeout=10)
                counts.append(counter.end())
    return sorted(counts)[len(counts) // 2]


def page_path() -> tuple[int, int]:
    """Calls and modules of one page of history of twenty rows, from the user's call to its return."""
    with CallCounter() as counter, Sandbox() as sandbox:
        sandbox.controls("finx").set_history(
            "BTC:USD", DAY, [(second * 1000, "COINBASE", 20000.0 + second) for second in range(1, 21)]
        )
        stream = StreamManager("sandbox-key", url=sandbox.url)
        stream.get_tick_history_page("BTC:USD", DAY)
        counter.begin()
        rows = stream.get_tick_history_page("BTC:USD", DAY)
        counts = counter.end()
    assert len(rows) == 20
    return counts


class ObjectGraph:
    """The live objects of this package that one object leads to, and which of them lead to each other.

    What lies between two of them (dictionaries, bound methods, closures, partials) counts as an edge; classes, modules
    and what is shared by the whole process do not.
    """

    def __init__(self, root: object) -> None:
        self.nodes: list[Any] = []
        self.edges: dict[int, set[int]] = {}
        todo = [root]
        while todo:
            node = todo.pop()
            if id(node) in self.edges:
                continue
            self.nodes.append(node)
            found = list(_neighbours(node))
            self.edges[id(node)] = {id(one) for one in found}
            todo += found

    def knots(self) -> list[list[str]]:
        """Objects that lead to each other in a circle, the largest knot first (Tarjan's algorithm, as a loop)."""
        index: dict[int, int] = {}
        low: dict[int, int] = {}
        stack: list[int] = []
        knots: list[list[int]] = []
        for start in self.edges:
            if start in index:
                continue
            work = [(start, iter(self.edges[start]))]
            index[start] = low[start] = len(index)
            stack.append(start)
            while work:
                node, edges = work[-1]
                for other in edges:
                    if other not in index:
                        index[other] = low[other] = len(index)
                        stack.append(other)
                        work.append((other, iter(self.edges[other])))
                        break
                    if other in stack:
                        low[node] = min(low[node], index[other])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[node])
                    if low[node] == index[node]:
                        knot = stack[stack.index(node) :]
                        del stack[stack.index(node) :]
                        knots.append(knot)
        names = {id(node): type(node).__name__ for node in self.nodes}
        found = [sorted(names[one] for one in knot) for knot in knots if len(knot) > 1]
        return sorted(found, key=len, reverse=True)


def _neighbours(node: object) -> Iterator[object]:
    """The package's objects that are found from `node` without passing another of them."""
    seen, todo = {id(node)}, list(_referents(node))
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if _is_ours(one):
            yield one
        elif isinstance(one, CONTAINERS):
            todo += _referents(one)


CONTAINERS = (
    dict, list, tuple, set, frozenset, types.MethodType, types.FunctionType, types.CellType, functools.partial,
    types.GeneratorType,
)  # fmt: skip


def _referents(one: object) -> Iterable[object]:
    if isinstance(one, types.FunctionType):  # not its module's globals
        return [*(one.__closure__ or ()), *(one.__defaults__ or ())]
    return [other for other in gc.get_referents(one) if not isinstance(other, type | types.ModuleType)]


def _is_ours(one: object) -> bool:
    kind = type(one)
    shared = isinstance(one, BaseException | tuple | type)
    return kind.__module__.split(".")[0] == PACKAGE.name and not shared and not hasattr(kind, "_member_map_")


def object_graph() -> ObjectGraph:
    """Of an open stream that has handled messages."""
    with Sandbox(contract_interval=0.01) as sandbox:
        stream = StreamManager("sandbox-key", url=sandbox.url)
        stream.on_contract(lambda tick: None)
        stream.subscribe_contract(NAME)
        with stream:
            stream.take(50, timeout=10)
            return ObjectGraph(stream)


def lines_of_code() -> int:
    """Lines of the package, of Python and C."""
    return sum(len(path.read_text("utf-8").splitlines()) for kind in ("*.py", "*.c") for path in PACKAGE.rglob(kind))


def main() -> None:
    """Print the figures."""
    calls, modules = message_path()
    print(f"one message:      {calls} calls in {modules} modules")
    calls, modules = page_path()
    print(f"one history page: {calls} calls in {modules} modules")
    graph = object_graph()
    knots = graph.knots()
    print(
        f"an open stream:   {len(graph.nodes)} objects, knots of {', '.join(str(len(one)) for one in knots) or 'none'}"
    )
    for knot in knots:
        print(f"    {len(knot)}: {', '.join(knot)}")
    print(f"the package:      {lines_of_code()} lines")


if __name__ == "__main__":
    main()
