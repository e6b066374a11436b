"""The commands that record, replay and convert."""

from __future__ import annotations

import argparse
import sys
import threading
from typing import Any, Final

from finx_sync.cli.output import board, complain, on_terminal, print_rows
from finx_sync.cli.venues import Show, opened, player
from finx_sync.errors import InvalidInputError
from finx_sync.recorder.reader import RecordingReader
from finx_sync.stream import Stream

__all__ = ["convert", "record", "replay"]

MEGABYTE: Final = 1024 * 1024


def record(options: argparse.Namespace) -> None:
    """Write a venue's messages to a file until a number of messages or seconds, a failure, or Ctrl+C ends it."""
    done = threading.Event()
    count = 0

    def note(message: Any) -> None:
        nonlocal count
        count += 1
        if count == options.count:
            done.set()

    stream = opened(options, note)
    stream.on_state(lambda change: done.set() if stream.failure is not None else None)
    recording = stream.record(options.output, rotate_bytes=options.rotate * MEGABYTE)
    try:
        stream.start()
        done.wait(options.seconds)
    finally:
        stream.stop(drain=True)
        recording.stop()
        print_rows([{"messages": recording.messages, "files": " ".join(map(str, recording.paths))}])
    for failure in (recording.failure, stream.failure):
        if failure is not None:
            raise failure


def replay(options: argparse.Namespace) -> None:
    """Show a recording at its own pace, or faster."""
    with board() as screen:

        def show(message: Any) -> None:
            try:
                screen.show(message)
            except OSError as error:  # the reader of our pipe has gone
                failures.append(error)
                stream.stop()

        failures: list[OSError] = []
        stream = _stream_of(options.path, show)
        stream.on_gap(complain)
        played = stream.replay(options.path, speed=options.speed, until=options.until, pause_at=options.pause_at)
        while not played.finished and on_terminal() and sys.stdin.isatty():
            input(f"paused after {played.messages} messages; Enter continues, Ctrl+C ends ")
            played.resume()
        played.stop()
    for damage in played.damage:
        complain(damage)
    if failures:
        raise failures[0]


def convert(options: argparse.Namespace) -> None:
    """Write a recording's messages as tables."""
    done = _stream_of(options.path, lambda message: None).convert(options.path, options.target, form=options.form)
    for damage in done.damage:
        complain(damage)
    print_rows({"table": name, "rows": count} for name, count in done.rows.items())


def _stream_of(path: str, show: Show) -> Stream:
    """Return a stream of the recording's venue, which is never started."""
    name = RecordingReader(path).venue.lower()
    if not name:
        raise InvalidInputError(f"{path} does not say which venue it is a recording of")
    return player(name, show)
