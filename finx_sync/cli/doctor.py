"""`finx-sync doctor`: find out what is wrong between this machine and the server."""

from __future__ import annotations

import argparse
import json
import textwrap
import warnings
from typing import Any, Final

from finx_sync.cli.output import on_terminal, say
from finx_sync.doctor import Finding, examine
from finx_sync.errors import FinxSyncError, MissingKeyError
from finx_sync.stream import Stream
from finx_sync.venues.registry import Venue, find

__all__ = ["doctor"]

MARKS: Final = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "skipped": ("·", "dim")}
INDENT: Final = 25
"""The column at which a finding's text begins."""


def doctor(options: argparse.Namespace) -> FinxSyncError | None:
    """Take each step of connecting separately; return the error of the first one that failed."""
    venue = find(options.venue)
    stream = _stream(venue, options)
    venue.subscribe(stream, options.names or venue.example.split()[:1])
    findings = examine(stream, _Chart().show, tick_timeout=options.seconds)
    failed = [finding for finding in findings if finding.verdict == "failed"]
    warned = [finding for finding in findings if finding.verdict == "warning"]
    if failed:
        say(f"\n  {len(failed)} of {len(findings)} steps failed, first: {failed[0].step}.")
    else:
        say(f"\n  All is well{f', but for {len(warned)} warnings' if warned else ''}.")
    return failed[0].error if failed else None


def _stream(venue: Venue, options: argparse.Namespace) -> Stream:
    where: dict[str, Any] = {"environment": options.environment, "url": options.url, "proxy": options.proxy}
    try:
        return venue.open(api_key=options.api_key, **where, allow_insecure=options.allow_insecure)
    except MissingKeyError as error:
        text = str(error)

    def missing() -> str:
        raise MissingKeyError(text)

    with warnings.catch_warnings():  # warnings about where a key is sent do not apply: none is sent
        warnings.simplefilter("ignore")
        return venue.open(api_key=missing, **where, allow_insecure=True)


class _Chart:
    """Shows findings: coloured lines on a terminal, JSON on a pipe."""

    def __init__(self) -> None:
        self._console: Any = None
        if on_terminal():
            try:
                from rich.console import Console
            except ImportError:  # colours are optional
                pass
            else:
                self._console = Console(highlight=False)
            say("")

    def show(self, finding: Finding) -> None:
        """Show one finding."""
        if not on_terminal():
            row = {name: getattr(finding, name) for name in ("step", "verdict", "text", "remedy")}
            seconds = None if finding.seconds is None else round(finding.seconds, 6)
            error = finding.error and type(finding.error).__name__
            print(json.dumps({**row, "seconds": seconds, "error": error}), flush=True)
            return
        mark, colour = MARKS[finding.verdict]
        took = "" if finding.seconds is None else _milliseconds(finding.seconds)
        width = self._console.width if self._console is not None else 100
        text = _wrapped(finding.text, width)
        self._print(f"  {mark} ", f"{finding.step:<11}", f"{took:>9}  ", text, colour)
        if finding.remedy:
            self._print("", "", " " * (INDENT - 2), _wrapped(f"→ {finding.remedy}", width), colour)

    def _print(self, mark: str, step: str, took: str, text: str, colour: str) -> None:
        if self._console is None:
            print(f"{mark}{step}{took}{text}", flush=True)
            return
        from rich.text import Text

        dim = "dim" if colour == "dim" else ""
        line = Text.assemble((mark, f"bold {colour}"), (step, dim or "bold"), (took, "dim"), (text, dim))
        self._console.print(line, soft_wrap=True)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds >= 0.0095 else f"{seconds * 1000:.1f} ms"


def _wrapped(text: str, width: int) -> str:
    lines = textwrap.wrap(text, max(40, width - INDENT), break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * INDENT).join(lines)
