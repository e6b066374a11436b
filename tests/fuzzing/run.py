"""Fuzzes the part in C under sanitizers: ``python -m tests.fuzzing.run [SECONDS] [SEED]``.

Streams of good, odd and torn frames, each in memory that ends where the stream does, so that one byte too many is seen;
and what comes out is compared with what Python makes of the same bytes. Needs a C compiler that has the sanitizers.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import random
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from typing import Any

from finx_sync.transport.cutting import cut_plain_in_python

SOURCE = pathlib.Path(__file__).parents[2] / "finx_sync" / "transport" / "_cutting.c"
SANITIZERS = "-fsanitize=address,undefined"
RUNTIMES = ("libasan.so", "libubsan.so")
COMPILER = os.environ.get("CC", "cc")


def build(folder: str) -> pathlib.Path:
    """Compile with the sanitizers in it."""
    target = pathlib.Path(folder, f"_cutting{sysconfig.get_config_var('EXT_SUFFIX')}")
    include = sysconfig.get_paths()["include"]
    options = ["-O1", "-g", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Werror"]
    subprocess.run(
        [COMPILER, *options, SANITIZERS, "-shared", "-fPIC", f"-I{include}", str(SOURCE), "-o", str(target)], check=True
    )
    return target


def runtime(name: str) -> str:
    """Where the compiler keeps a sanitizer's library, which must be there before Python is."""
    asked = [COMPILER, f"-print-file-name={name}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def some_frame(dice: random.Random) -> bytes:
    """Mostly a text frame, whole or with a length that lies; else a few bytes of anything."""
    if dice.random() < 0.4:
        return dice.randbytes(dice.randint(0, 6))
    size = 65535 if dice.random() < 0.002 else dice.choice([0, 1, 2, 3, *range(124, 129), dice.randint(0, 300)])
    kind = dice.random()
    if kind < 0.5:
        text = bytes(dice.choices(range(128), k=size))
    elif kind < 0.8:
        text = ("é€𝄞" * (size // 4)).encode()[:size]
    else:
        text = dice.randbytes(size)
    told = dice.randint(0, 65535) if dice.random() < 0.1 else len(text)
    short = told == len(text) < 126 and dice.random() < 0.8
    return b"\x81" + (bytes([told]) if short else b"\x7e" + struct.pack("!H", told)) + text


def fuzz(library: pathlib.Path, seconds: float, seed: int) -> int:
    """Compare until the time is up; returns how many streams it were."""
    spec = importlib.util.spec_from_file_location("finx_sync.transport._cutting", library)
    assert spec is not None
    assert spec.loader is not None
    compiled: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compiled)
    dice, end, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        stream = b"".join(some_frame(dice) for _ in range(dice.randint(0, 6)))
        start = dice.randint(0, min(5, len(stream)))
        stop = dice.randint(start, len(stream))
        stream = stream[:stop]
        limit, check = dice.choice([0, 5, 125, 300, 70_000]), dice.random() < 0.7
        ours: list[bytes] = []
        theirs: list[bytes] = []
        where = compiled.cut_plain(bytearray(stream), start, stop, limit, check, ours)
        assert where == cut_plain_in_python(stream, start, stop, limit, check, theirs), (stream, start, limit, check)
        assert ours == theirs, (stream, start, limit, check)
        count += 1
    return count


def watched(arguments: list[str], folder: str) -> int:
    """The same program in a child that the sanitizers watch; returns its exit code."""
    environment = {
        **os.environ,
        "FUZZED": str(build(folder)),
        "LD_PRELOAD": " ".join(runtime(name) for name in RUNTIMES),
        "PYTHONMALLOC": "malloc",  # Python's own allocator would hide the edges
        "ASAN_OPTIONS": "detect_leaks=0",  # Python lets go of little at its end; test_cutting.py counts
    }
    command = [sys.executable, "-m", "tests.fuzzing.run", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def main() -> int:
    """Build, then fuzz."""
    library = os.environ.get("FUZZED")
    if library is None:
        with tempfile.TemporaryDirectory() as folder:
            return watched(sys.argv[1:], folder)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    print(f"{fuzz(pathlib.Path(library), seconds, seed):,} streams: the same as in Python, and every byte its own")
    return 0


if __name__ == "__main__":
    sys.exit(main())
