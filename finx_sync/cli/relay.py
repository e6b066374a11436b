"""The command that relays a venue's messages to Redis."""

from __future__ import annotations

import argparse
import signal
import threading
from typing import Any

from finx_sync.cli.output import complain, print_rows, say
from finx_sync.errors import ConfigError, FinxSyncError, InvalidInputError
from finx_sync.interrupts import Flag
from finx_sync.relay.address import RelayAddress
from finx_sync.relay.checks import examine
from finx_sync.relay.relay import Relay
from finx_sync.state import State
from finx_sync.stream import Stream
from finx_sync.venues.registry import Venue, find

__all__ = ["add_arguments", "relay"]


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    command.add_argument("names", nargs="*", metavar="NAME", help="what to relay; `finx-sync venues` has examples")
    command.add_argument("--contract", action="append", default=[], metavar="NAME", help="a contract (FinX, Deribit)")
    command.add_argument("--spot", action="append", default=[], metavar="PAIR", help="a spot pair (FinX, Deribit)")
    command.add_argument("--to", required=True, metavar="URL", help="of Redis, like redis://127.0.0.1:6379")
    command.add_argument("--feed", metavar="NAME", help="the feed's name (default: the venue's)")
    command.add_argument("--partitions", type=int, default=1, metavar="N", help="streams of Redis to divide it into")
    command.add_argument(
        "--publish", metavar="CHANNEL", help="also publish each message, at most once, on a channel like '{name}'"
    )
    command.add_argument("--on-demand", action="store_true", help="also subscribe to what readers ask for")
    command.add_argument("--keep-records", type=int, metavar="N", help="records to keep for late readers")
    command.add_argument("--keep-bytes", type=int, metavar="N", help="bytes to keep")
    command.add_argument("--keep-seconds", type=float, metavar="S", help="seconds to keep")
    command.add_argument(
        "--overflow", choices=("block", "drop"), default="block", help="when Redis is too slow (default: block)"
    )
    command.add_argument("--check", action="store_true", help="look at the Redis server, and end")


def relay(options: argparse.Namespace) -> FinxSyncError | None:
    """Relay until SIGTERM, Ctrl+C, or a failure of the stream."""
    venue = find(options.venue)
    if options.check:
        return _check(RelayAddress.parse(options.to, default_feed=venue.name, feed=options.feed))
    stream = _stream(venue, options)
    keep = {name: value for name in ("records", "bytes", "seconds") if (value := getattr(options, f"keep_{name}"))}
    writer = Relay(
        stream,
        options.to,
        feed=options.feed,
        partitions=options.partitions,
        publish=options.publish,
        on_demand=options.on_demand,
        overflow=options.overflow,
        **{f"keep_{name}": value for name, value in keep.items()},
    )
    done = Flag()
    stream.on_error(complain)
    stream.on_gap(complain)
    stream.on_state(lambda change: done.set() if change.new in (State.FAILED, State.STOPPED) else None)
    _set_at_sigterm(done)
    try:
        writer.start()
        stream.start()
        say(f"relaying to {writer.address}; Ctrl+C ends it")
        done.wait()
    finally:
        writer.stop()  # first, so that a relay on standby takes over while this one's stream is still open
        stream.stop()
        numbers = writer.stats()
        print_rows([{name: getattr(numbers, name) for name in ("received", "written", "dropped", "unneeded", "calls")}])
    if stream.failure is not None:
        raise stream.failure
    return None


def _stream(venue: Venue, options: argparse.Namespace) -> Stream[Any]:
    if not (options.names or options.contract or options.spot or options.on_demand):
        raise InvalidInputError(f"name at least one of the venue's streams, like {venue.example}, or give --on-demand")
    stream = venue.open(
        environment=options.environment,
        url=options.url,
        api_key=options.api_key,
        allow_insecure=options.allow_insecure,
        overflow="block",
    )
    venue.subscribe(stream, options.names)
    for kind, names in (("contract", options.contract), ("spot", options.spot)):
        subscribe = getattr(stream, f"subscribe_{kind}", None)
        for name in names:
            if subscribe is None:
                raise InvalidInputError(f"the venue {venue.name} has no --{kind}; give the names without it")
            subscribe(name)
    return stream


def _set_at_sigterm(done: Flag) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: done.set())


def _check(address: RelayAddress) -> FinxSyncError | None:
    findings = examine(address)
    print_rows({"about": one.about, "verdict": one.verdict, "finding": one.text} for one in findings)
    bad = [one.text for one in findings if one.verdict == "error"]
    return ConfigError(bad[0]) if bad else None
