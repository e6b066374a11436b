"""What each command does."""

from __future__ import annotations

import argparse
import threading

from finx_sync import __version__
from finx_sync.cli.output import board, on_terminal, print_rows, say
from finx_sync.errors import InvalidInputError
from finx_sync.manager import StreamManager
from finx_sync.messages import Message

__all__ = ["contracts", "demo", "history", "sandbox", "snap", "stream"]

DEMO_CONTRACTS = ("BTC-26AUG22-20000-C", "BTC-PERPETUAL")
DEMO_PAIR = "BTC:USDC"


def _manager(options: argparse.Namespace) -> StreamManager:
    return StreamManager(options.api_key, environment=options.environment, url=options.url)


def demo(options: argparse.Namespace) -> None:
    """The main job on the embedded sandbox."""
    say(f"finx-sync {__version__}: the real client, against a sandbox inside this process\n")
    manager = StreamManager(environment="sandbox")
    _watch(manager, [*DEMO_CONTRACTS, DEMO_PAIR], None, options.seconds)
    books = manager.stats().messages
    tick = manager.get_tick_snap(DEMO_PAIR)
    page = manager.get_tick_history("BTC:USD", "2022-06-15")
    if not on_terminal():
        print_rows([tick.to_dict(), *(row.to_dict() for row in page)])
        return
    say(f"\n{books.received} messages: {books.handled} handled, {books.control} control, {books.dropped} dropped")
    say(f"snap of {tick.pair}: {tick.price} on {tick.exchange} at {tick.time}")
    say(f"history of BTC:USD on 2022-06-15: a page of {len(page)} ticks, {page[0].time} to {page[-1].time}")


def stream(options: argparse.Namespace) -> None:
    """Live ticks."""
    if not options.names:
        raise InvalidInputError("name at least one contract or pair, like BTC-26AUG22-20000-C or BTC:USDC")
    _watch(_manager(options), options.names, options.count, options.seconds)


def _watch(manager: StreamManager, names: list[str], count: int | None, seconds: float | None) -> None:
    """Stream names to the board, until so many ticks, so many seconds, a failure, or Ctrl+C."""
    done = threading.Event()
    failures: list[BaseException] = []
    shown = 0
    manager.subscribe_spot(*(name for name in names if ":" in name))
    manager.subscribe_contract(*(name for name in names if ":" not in name))

    with board() as screen:

        def show(tick: Message) -> None:
            nonlocal shown
            if done.is_set():
                return
            try:
                screen.show(tick)
            except OSError as error:  # the reader of our pipe has gone
                failures.append(error)
                done.set()
            shown += 1
            if shown == count:
                done.set()

        manager.on_contract(show)
        manager.on_spot(show)
        manager.on_error(failures.append)
        manager.on_state(lambda change: done.set() if manager.failure is not None else None)
        try:
            manager.start()
            done.wait(seconds)
        finally:
            manager.stop(drain=True)
            manager.off(show)
    if manager.failure is not None:
        raise manager.failure
    if failures:
        raise failures[0]


def snap(options: argparse.Namespace) -> None:
    """One price."""
    print_rows([_manager(options).get_tick_snap(options.pair, options.date, options.time).to_dict()])


def history(options: argparse.Namespace) -> None:
    """A page of a day's prices."""
    rows = _manager(options).get_tick_history(options.pair, options.date, options.time)
    print_rows([row.to_dict() for row in rows], title=f"{options.pair} on {options.date}: {len(rows)} ticks")


def contracts(options: argparse.Namespace) -> None:
    """The names of all contracts."""
    names = [name for name in _manager(options).list_contracts() if options.match.upper() in name.upper()]
    print_rows([{"instrument_name": name} for name in sorted(names)])


def sandbox(options: argparse.Namespace) -> None:
    """A sandbox for other processes, until Ctrl+C."""
    from finx_sync.sandbox import Sandbox  # an extra, and slow to import

    with Sandbox(port=options.port) as server:
        print(f"sandbox at {server.url} (key sandbox-key); Ctrl+C ends it", flush=True)
        threading.Event().wait()
