"""Show results: as a table on a terminal, as JSON lines anywhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from finx_sync.messages import ContractTick, Message, SpotTick
from finx_sync.redaction import escaped, sealed

__all__ = ["Board", "board", "complain", "on_terminal", "print_rows", "say"]

CONTRACT_COLUMNS = ("mark_price", "mark_iv", "best_bid_price", "best_ask_price", "delta", "gamma", "vega", "theta")


def on_terminal() -> bool:
    """Return whether the output goes to a terminal."""
    return sys.stdout.isatty()


def say(text: str) -> None:
    """Print a remark on a terminal; a pipe gets data only."""
    if on_terminal():
        print(text, flush=True)


def complain(text: object) -> None:
    """Print a line to standard error, escaped, since parts of it may come from a server."""
    print(f"finx-sync: {sealed(str(text))}", file=sys.stderr)


def print_rows(rows: Iterable[Mapping[str, Any]], title: str = "") -> None:
    """Show rows with the same columns: as a table, or as one JSON object per line."""
    if not on_terminal():
        for row in rows:
            print(json.dumps(dict(row)), flush=True)
        return
    _print_table(list(rows), title)


def _print_table(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:  # rich is optional
        for row in rows:
            print("  ".join(f"{escaped(name)}={_shown(value)}" for name, value in row.items()))
        return
    # `Text`, since rich reads a plain string as markup: a name such as [/b] would be an error.
    heading = Text(escaped(title)) if title else None
    table = Table(title=heading, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name, value in (rows[0] if rows else {}).items():
        table.add_column(Text(escaped(name)), justify="right" if isinstance(value, (int, float)) else "left")
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row.values()))
    Console().print(table)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.10g}" if isinstance(value, float) else escaped(str(value))


class Board(Protocol):
    """Shows live messages."""

    def show(self, message: Any) -> None:
        """Show a new `Message`, or a named tuple."""

    def __enter__(self) -> Board: ...
    def __exit__(self, *_: object) -> None: ...


def board() -> Board:
    """Return a live table on a terminal with rich, else a board that prints one line per message."""
    if on_terminal():
        try:
            return _LiveBoard()
        except ImportError:
            return _LineBoard(as_json=False)
    return _LineBoard(as_json=True)


class _LineBoard:
    """Prints one line per message."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def __enter__(self) -> _LineBoard:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, message: Any) -> None:
        line = json.dumps(_row(message)) if self._as_json else "  ".join(_shown(value) for value in _cells(message))
        print(line, flush=True)


class _LiveBoard:
    """A table with one row per name, redrawn in place a few times a second by a thread of rich's."""

    def __init__(self) -> None:
        from rich.live import Live

        self._ticks: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._live = Live(get_renderable=self._table, refresh_per_second=8)

    def __enter__(self) -> _LiveBoard:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, message: Any) -> None:
        name = _cells(message)[0]
        self._ticks = {**self._ticks, name: message}  # a new one: rich's thread may be iterating over the old
        self._counts[name] = self._counts.get(name, 0) + 1

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(header_style="bold", box=None, pad_edge=False)
        table.add_column("name", no_wrap=True)
        for column in ("price", "iv", "bid", "ask", "delta", "gamma", "vega", "theta", "ticks"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, tick in self._ticks.items():
            cells = [_shown(value) for value in (name, *_cells(tick)[1:])]
            cells += [""] * (1 + len(CONTRACT_COLUMNS) - len(cells))
            table.add_row(*map(Text, cells), str(self._counts.get(name, 0)))
        return table


def _row(message: Any) -> dict[str, Any]:
    if isinstance(message, Message):
        return {**message.to_dict(), "received_at": message.received_at}
    return dict(message._asdict())


def _cells(message: Any) -> list[Any]:
    """Return what a line shows, beginning with the name."""
    if isinstance(message, ContractTick):
        return [message.name, *(getattr(message, column) for column in CONTRACT_COLUMNS)]
    if isinstance(message, SpotTick):
        return [message.name, message.price, *[None] * (len(CONTRACT_COLUMNS) - 1)]
    row = _row(message)
    name = message.name_of(message) if isinstance(message, Message) else next(iter(row.values()))
    return [str(name), " ".join(f"{escaped(field)}={_shown(value)}" for field, value in row.items())]
