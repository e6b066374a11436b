"""The command line's arguments and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Final

from finx_sync import __version__
from finx_sync.cli import commands, recordings
from finx_sync.cli import doctor as diagnosis
from finx_sync.cli import relay as relaying
from finx_sync.cli import serve as serving
from finx_sync.cli.options import add_option_commands, moment
from finx_sync.cli.output import complain
from finx_sync.errors import (
    AuthorizationError,
    ConfigError,
    ConnectError,
    ConnectionLostError,
    FinxSyncError,
    InvalidInputError,
    MissingExtraError,
)
from finx_sync.functions.query import DEFAULT_WORKERS

__all__ = ["main"]

EXIT_CODES: Final[tuple[tuple[tuple[type[BaseException], ...], int], ...]] = (
    ((ConfigError, InvalidInputError, MissingExtraError), 2),
    ((AuthorizationError,), 3),
    ((TimeoutError,), 5),
    ((ConnectError, ConnectionLostError), 4),
    ((FinxSyncError,), 1),
)
INTERRUPTED: Final = 130

EPILOG: Final = """\
exit codes: 0 done, 1 another error, 2 bad usage or settings, 3 the key was refused,
4 no connection, 5 timeout, 130 Ctrl+C.
Output is a table on a terminal, and one JSON object a line on a pipe.
The key is read from FINX_API_KEY or .env; on the command line others could see it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    failed: object = None
    show_warning, warnings.showwarning = warnings.showwarning, _show_warning
    try:
        failed = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has closed the pipe, so nothing can be flushed to it any more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except FinxSyncError as error:
        complain(error)
        return _code(error)
    finally:
        warnings.showwarning = show_warning
    return _code(failed) if isinstance(failed, FinxSyncError) else 0  # reported already


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    complain(f"warning: {message}")


def _code(error: FinxSyncError) -> int:
    return next(code for kinds, code in EXIT_CODES if isinstance(error, kinds))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="finx-sync",
        description="Live market data from FinX, on the command line.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"finx-sync {__version__}")
    adder = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = _command(adder, "demo", commands.demo, "try it: the embedded sandbox, no key", ["finx-sync demo"])
    demo.add_argument("--seconds", type=_positive, default=3.0, help="how long to stream (default 3)")

    stream = _command(
        adder,
        "stream",
        commands.stream,
        "live messages of a venue",
        [
            "finx-sync stream BTC-26AUG22-20000-C BTC:USDC --environment sandbox",
            "finx-sync stream BTC:USDC --count 100 > ticks.jsonl",
            "finx-sync stream BTC-PERPETUAL BTC:USD --venue deribit",
        ],
    )
    stream.add_argument("names", nargs="*", metavar="NAME", help="what to stream; `finx-sync venues` has examples")
    stream.add_argument("--count", type=int, help="stop after this many messages")
    stream.add_argument("--seconds", type=_positive, help="stop after this many seconds")

    _add_recordings(adder)
    relay = _command(
        adder,
        "relay",
        relaying.relay,
        "write a venue's messages to Redis, for any number of readers",
        [
            "finx-sync relay BTC-26AUG22-20000-C BTC:USDC --to redis://127.0.0.1:6379",
            "finx-sync relay --contract BTC-PERPETUAL --spot BTC:USD --venue deribit --to rediss://host",
            "finx-sync relay --to redis://127.0.0.1:6379 --check",
        ],
    )
    relaying.add_arguments(relay)
    serve = _command(
        adder,
        "serve",
        serving.serve,
        "serve a feed to clients in any language: websockets, server-sent events, lines of JSON, and a page",
        [
            "finx-sync serve --source sandbox --tcp-port 8081",
            "finx-sync serve --source redis://127.0.0.1:6379 --host 0.0.0.0 --keys keys.jsonl",
        ],
    )
    serving.add_arguments(serve)
    _command(adder, "venues", commands.venues, "what can be streamed, and from where", ["finx-sync venues"])

    snap = _command(
        adder,
        "snap",
        commands.snap,
        "one price of a pair",
        ["finx-sync snap BTC:USD", "finx-sync snap BTC:USD --date 2022-06-15 --time 21:27"],
    )
    snap.add_argument("pair", help="like BTC:USD")
    snap.add_argument("--date", type=moment, help="day in UTC, like 2022-06-15, or a moment, like 2022-06-15T21:27")
    snap.add_argument("--time", help="time of that day in UTC, like 21:27")

    history = _command(
        adder,
        "history",
        commands.history,
        "the prices of a day, complete",
        [
            "finx-sync history BTC:USD 2022-06-15 > day.jsonl",
            "finx-sync history BTC:USD 2022-06-01 --end 2022-06-30 --output june.parquet --cache ~/.cache/finx-sync",
            "finx-sync history BTC:USD 2022-06-15 --time 12:00 --end 13:00 --every 1min",
        ],
    )
    history.add_argument("pair", help="like BTC:USD")
    history.add_argument("date", type=moment, help="day in UTC, like 2022-06-15, or where to begin, 2022-06-15T12:00")
    history.add_argument("--time", help="only after this time of day in UTC, like 21:27")
    history.add_argument(
        "--end", type=moment, help="only until then: a time (22:00), a later day (2022-06-30), or 2022-06-30T12:00"
    )
    history.add_argument("--limit", type=int, metavar="N", help="only the first N ticks")
    history.add_argument("--every", metavar="LENGTH", help="only the first tick of each interval, like 1min, 5s, 1h")
    history.add_argument("--exchange", metavar="NAME", help="only ticks of this exchange, like COINBASE")
    history.add_argument("--strict", action="store_true", help="fail unless it is proven that nothing is missing")
    history.add_argument("--output", metavar="FILE", help="write a CSV file, or Parquet if its name ends with .parquet")
    history.add_argument("--workers", type=int, default=DEFAULT_WORKERS, metavar="N", help="number of connections")
    history.add_argument("--cache", metavar="FOLDER", help="keep past days there, and reuse them")
    history.add_argument(
        "--timeout", type=_positive, metavar="SECONDS", help="limit for the whole call (default 120 for each day)"
    )

    contracts = _command(adder, "contracts", commands.contracts, "names of all contracts", ["finx-sync contracts BTC"])
    contracts.add_argument("match", nargs="?", default="", help="only names that contain this")
    contracts.add_argument("--as-of", type=moment, metavar="DATE", help="only those listed on a day, like 2022-06-15")

    doctor = _command(
        adder,
        "doctor",
        diagnosis.doctor,
        "find out why there is no connection, or no data",
        ["finx-sync doctor", "finx-sync doctor BTC-26AUG22-20000-C --environment sandbox"],
    )
    doctor.add_argument(
        "names", nargs="*", metavar="NAME", help="what to wait for (default: the venue's first example)"
    )
    doctor.add_argument("--seconds", type=_positive, default=10.0, help="how long to wait for it (default 10)")
    doctor.add_argument("--proxy", metavar="URL", help="like http://host:3128 or socks5://host:1080")

    add_option_commands(lambda name, run, text, examples: _command(adder, name, run, text, examples))

    sandbox = _command(
        adder,
        "sandbox",
        commands.sandbox,
        "run a sandbox for other processes",
        ["finx-sync sandbox --port 8000", "finx-sync stream BTC:USDC --environment sandbox --url ws://127.0.0.1:8000"],
    )
    sandbox.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1 (default: any free one)")
    return parser


def _add_recordings(adder: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    record = _command(
        adder,
        "record",
        recordings.record,
        "write a venue's messages to a file",
        [
            "finx-sync record BTC-26AUG22-20000-C BTC:USDC --output feed.finxrec",
            "finx-sync record BTC-PERPETUAL BTC:USD --venue deribit --output deribit.finxrec --seconds 3600",
        ],
    )
    record.add_argument("names", nargs="*", metavar="NAME", help="what to record; `finx-sync venues` has examples")
    record.add_argument("--output", required=True, metavar="FILE", help="never overwritten: the next one is FILE.0001")
    record.add_argument("--rotate", type=int, default=256, metavar="MB", help="size of a file (default 256)")
    record.add_argument("--count", type=int, help="stop after this many messages")
    record.add_argument("--seconds", type=_positive, help="stop after this many seconds")

    replay = _command(
        adder,
        "replay",
        recordings.replay,
        "play a recording at its own pace, or faster",
        ["finx-sync replay feed.finxrec", "finx-sync replay feed.finxrec --speed max --until 2022-08-05T12:00"],
    )
    replay.add_argument("path", metavar="FILE", help="a file, with those that continue it; or a folder of files")
    replay.add_argument("--speed", type=_speed, default=1.0, help="1 for its own pace (default), 10, or max")
    replay.add_argument(
        "--until", type=moment, metavar="TIME", help="end before the first message received after this moment (UTC)"
    )
    replay.add_argument("--pause-at", type=int, metavar="N", help="pause after N messages (end there, on a pipe)")

    convert = _command(
        adder,
        "convert",
        recordings.convert,
        "write a recording as Parquet files or a DuckDB database",
        ["finx-sync convert feed.finxrec tables", "finx-sync convert feed.finxrec feed.duckdb"],
    )
    convert.add_argument("path", metavar="FILE", help="a file, with those that continue it; or a folder of files")
    convert.add_argument("target", metavar="TARGET", help="a folder for files, or a file ending with .duckdb")
    convert.add_argument("--form", choices=("parquet", "csv"), help="format of files in a folder (default: parquet)")


def _speed(text: str) -> float | str:
    return text if text == "max" else _positive(text)


def _command(
    adder: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: object,
    text: str,
    examples: list[str],
) -> argparse.ArgumentParser:
    parser = adder.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    if name not in ("demo", "sandbox", "serve", "greeks", "replay", "convert", "venues"):
        where = parser.add_argument_group("where")
        if name in ("stream", "record", "relay", "doctor"):
            where.add_argument("--venue", default="finx", metavar="NAME", help="whose feed (default finx)")
        where.add_argument("--environment", metavar="NAME", help="like production, test, sandbox or deribit-test")
        where.add_argument(
            "--url", help="another server, like ws://127.0.0.1:8000, or a feed on Redis, like redis://host"
        )
        where.add_argument("--api-key", metavar="KEY", help="better set FINX_API_KEY: others can see the command line")
        where.add_argument(
            "--allow-insecure", action="store_true", help="send the key unencrypted (ws://) to another machine"
        )
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("it is a number of seconds above 0")
    return value
