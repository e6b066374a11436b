"""What SECURITY.md promises, where the source itself shows it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import finx_sync
from finx_sync.errors import EXCERPT_LENGTH, LONGEST_COMPLAINT
from finx_sync.pipeline import backfill, controls, latest, pipeline, queue, replacement
from finx_sync.session.options import Options
from finx_sync.stream.reading import ITERATOR_SIZE
from finx_sync.transport import channel, handshake, loop, proxy
from finx_sync.venues.ftx import book

PACKAGE = Path(finx_sync.__file__).parent
PAGE = (PACKAGE.parent / "SECURITY.md").read_text(encoding="utf-8")
EXECUTES = {"eval", "exec", "compile", "__import__"}
UNSAFE = {"pickle", "marshal", "shelve", "dill", "yaml", "subprocess", "ctypes", "imp", "runpy", "code"}
OWN_ERRORS = PACKAGE / "pickling.py"
"""Loads what it has dumped a line before, to see whether an error of ours survives it."""
SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_nothing_that_comes_from_outside_is_executed() -> None:
    """A server could run its code here."""
    for path in SOURCES:
        if path == OWN_ERRORS:
            assert path.read_text(encoding="utf-8").count("loads(") == 1
            assert "pickle.loads(pickle.dumps(" in path.read_text(encoding="utf-8")
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in EXECUTES, path
            if isinstance(node, ast.Import):
                assert not UNSAFE & {alias.name.partition(".")[0] for alias in node.names}, path
            if isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.partition(".")[0] not in UNSAFE, path


def test_the_limits_are_those_of_the_page() -> None:
    """The page would promise what the code no longer holds."""
    limits = PAGE.partition("## Limits")[2].partition("## ")[0]
    mebibyte, kibibyte = 1 << 20, 1 << 10
    for value, shown in (
        (Options().max_size, f"{Options().max_size // mebibyte} MiB"),
        (Options().queue_size, f"{Options().queue_size:,}"),
        (queue.MAX_WAITING_BYTES, f"{queue.MAX_WAITING_BYTES // mebibyte} MiB"),
        (ITERATOR_SIZE, f"{ITERATOR_SIZE:,}"),
        (loop.MAX_OUTBOX, f"{loop.MAX_OUTBOX // mebibyte} MiB"),
        (loop.MAX_PONG_BACKLOG, f"{loop.MAX_PONG_BACKLOG // kibibyte} KiB"),
        (handshake.MAX_HEAD, f"{handshake.MAX_HEAD // kibibyte} KiB"),
        (handshake.MAX_BODY, f"{handshake.MAX_BODY // kibibyte} KiB"),
        (proxy.MAX_ANSWER, f"{proxy.MAX_ANSWER // kibibyte} KiB"),
        (latest.MAX_NAMES, f"{latest.MAX_NAMES:,}"),
        (
            latest.MAX_BYTES,
            f"{latest.MAX_BYTES // mebibyte} MiB (weighed whenever {latest.WEIGH_AFTER // mebibyte} MiB",
        ),
        (pipeline.MAX_BACKLOG_BYTES, f"and {pipeline.MAX_BACKLOG_BYTES // mebibyte} MiB"),
        (replacement.MAX_KEPT_BYTES, f"{replacement.MAX_KEPT_BYTES // mebibyte} MiB each"),
        (backfill.MAX_HELD_BYTES, f"{backfill.MAX_HELD_BYTES // mebibyte} MiB each"),
        (book.MAX_LEVELS, f"{book.MAX_LEVELS:,} levels"),
        (controls.LOGGED, f"first {controls.LOGGED},"),
        (EXCERPT_LENGTH, f"{EXCERPT_LENGTH} characters"),
        (LONGEST_COMPLAINT, f"{LONGEST_COMPLAINT:,}"),
    ):
        assert shown in limits, (value, shown)
    assert channel.BODY_TIMEOUT == 0.5


def test_every_test_that_the_page_names_exists() -> None:
    """A promise would have no test behind it."""
    named = set(re.findall(r"`((?:\w+/)?test_\w+\.py)`", PAGE))
    assert named
    assert all((PACKAGE.parent / "tests" / name).is_file() for name in named)
