"""The functions that run the commands."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from finx_sync import __version__
from finx_sync.cli.output import board, complain, on_terminal, print_rows, say
from finx_sync.cli.venues import Show, opened
from finx_sync.config import SANDBOX
from finx_sync.errors import InvalidInputError, SubscriptionRefusedError
from finx_sync.stream import Stream
from finx_sync.ticks import TickHistory
from finx_sync.ticks.extras import pyarrow
from finx_sync.venues.finx.stream import StreamManager
from finx_sync.venues.registry import load_all

__all__ = ["contracts", "demo", "history", "sandbox", "snap", "stream", "venues"]

NEITHER = (".arrow", ".db", ".duckdb", ".feather", ".json", ".jsonl", ".pq", ".sqlite", ".xls", ".xlsx", ".zip", ".gz")
"""File name suffixes of other formats, into which neither CSV nor Parquet is written."""
DEMO_CONTRACTS = ("BTC-26AUG22-20000-C", "BTC-PERPETUAL")
DEMO_PAIR = "BTC:USDC"
DEMO_MESSAGES, DEMO_ROWS = 30, 5
"""The numbers of messages and rows that the demo prints on a pipe."""


def _manager(options: argparse.Namespace) -> StreamManager:
    return StreamManager(
        options.api_key, environment=options.environment, url=options.url, allow_insecure=options.allow_insecure
    )


def demo(options: argparse.Namespace) -> None:
    """Show the stream, a snap and a history on the embedded sandbox."""
    say(f"finx-sync {__version__}: the real client, against a sandbox inside this process\n")
    count = None if on_terminal() else DEMO_MESSAGES
    where = argparse.Namespace(
        venue="finx",
        environment=SANDBOX,
        url=None,
        api_key=None,
        allow_insecure=False,
        names=[*DEMO_CONTRACTS, DEMO_PAIR],
    )
    watched, failure = _watch(lambda show: opened(where, show), count, options.seconds)
    if failure is not None:
        raise failure
    manager = cast(StreamManager, watched)
    books = manager.stats().messages
    tick = manager.get_tick_snap(DEMO_PAIR)
    page = manager.get_tick_history("BTC:USD", "2022-06-15", limit=1000)
    if not on_terminal():
        print_rows([tick.to_dict(), *(row.to_dict() for row in page[:DEMO_ROWS])])
        return
    say(f"\n{books.received} messages: {books.handled} handled, {books.control} control, {books.dropped} dropped")
    say(f"snap of {tick.pair}: {tick.price} on {tick.exchange} at {tick.time}")
    say(f"history of BTC:USD on 2022-06-15: the first {len(page)} ticks, {page[0].time} to {page[-1].time}")


def stream(options: argparse.Namespace) -> BaseException | None:
    """Show live messages of one venue. Returns the first error, which has been reported."""
    _, failure = _watch(lambda show: opened(options, show), options.count, options.seconds)
    return failure


def venues(options: argparse.Namespace) -> None:
    """List all installed venues."""
    print_rows(
        {"venue": venue.name, "environments": " ".join(venue.environments), "names": venue.example}
        for venue in load_all(complain)
    )


def _watch(
    make: Callable[[Show], Stream], count: int | None, seconds: float | None
) -> tuple[Stream, BaseException | None]:
    """Show a stream on the board until `count` messages, `seconds`, a failure, or Ctrl+C end it.

    Errors that do not end it, such as unreadable messages, are reported at once: the first, the tenth, and so on.
    Handlers run on the dispatch thread, so they hand failures to this thread: the list is read only after the stream
    has stopped, and the event wakes this thread.

    Returns:
        The stream, and the first error that did not end it.
    """
    done = threading.Event()
    failures: list[BaseException] = []
    shown = 0

    with board() as screen:

        def show(message: Any) -> None:
            nonlocal shown
            if done.is_set():
                return
            try:
                screen.show(message)
            except OSError as error:  # the reader of our pipe has gone
                failures.append(error)
                done.set()
            shown += 1
            if shown == count:
                done.set()

        def fail(error: BaseException) -> None:
            failures.append(error)
            if isinstance(error, SubscriptionRefusedError):  # the requested messages will not come
                done.set()
            elif str(len(failures)).strip("0") == "1":
                complain(error)

        source = make(show)
        source.on_error(fail)
        source.on_state(lambda change: done.set() if source.failure is not None else None)
        try:
            source.start()
            done.wait(seconds)
        finally:
            source.stop(drain=True)
            source.off(show)
    if source.failure is not None:
        raise source.failure
    if failures and isinstance(failures[0], (OSError, SubscriptionRefusedError)):
        raise failures[0]
    return source, failures[0] if failures else None


def snap(options: argparse.Namespace) -> None:
    """Show one price."""
    print_rows([_manager(options).get_tick_snap(options.pair, options.date, options.time).to_dict()])


def history(options: argparse.Namespace) -> None:
    """Print the prices of a day or of a span of days, or write them to a file."""
    write = None if options.output is None else _writer(options.output)
    found = _manager(options).get_tick_history(
        options.pair,
        options.date,
        options.time,
        end=options.end,
        limit=options.limit,
        every=options.every,
        exchange=options.exchange,
        strict=options.strict,
        workers=options.workers,
        progress=True,
        cache=options.cache,
        timeout=options.timeout,
    )
    for interval in found.unproven:
        complain(f"not proven complete: {interval}")
    for rejected in found.rejected:
        complain(f"no tick ({rejected.reason}): {rejected.row!a}")
    for reason, count in found.discarded.items():
        complain(f"left out: {count:,} rows of {reason}")
    if write is None:
        print_rows((row.to_dict() for row in found), title=repr(found)[1:-1])
    else:
        write(found, options.output)


def _writer(path: str) -> Callable[[TickHistory, str], None]:
    """Return the function that writes the file format of a name; called before anything is fetched."""
    place = Path(path)
    if place.is_dir():
        raise InvalidInputError(f"{path} is a folder; name a file in it")
    if not place.parent.is_dir():
        raise InvalidInputError(f"{path} cannot be written: there is no folder {place.parent}")
    kind = place.suffix.lower()
    if kind == ".parquet":
        pyarrow("parquet")
        return TickHistory.to_parquet
    if kind in NEITHER:
        raise InvalidInputError(f"{path}: only CSV files and, with a name that ends with .parquet, Parquet are written")
    return TickHistory.to_csv


def contracts(options: argparse.Namespace) -> None:
    """List the names of all contracts."""
    names = [
        name for name in _manager(options).list_contracts(as_of=options.as_of) if options.match.upper() in name.upper()
    ]
    print_rows([{"instrument_name": name} for name in sorted(names)])


def sandbox(options: argparse.Namespace) -> None:
    """Run a sandbox for other processes, until Ctrl+C."""
    from finx_sync.sandbox import Sandbox  # an extra, and slow to import

    with Sandbox(port=options.port) as server:
        print(f"sandbox at {server.url} (key sandbox-key); Ctrl+C ends it", flush=True)
        threading.Event().wait()
