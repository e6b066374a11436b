"""The Autobahn TestSuite's fuzzing server against `finx_sync.WebSocketApp`: ``python -m tests.conformance.run``.

The suite needs Python 2.7. It is looked for in the environment variable PYTHON27, on the PATH and under pyenv; where
there is none, this says so and ends in order. The suite is installed into a virtual environment in the user's cache.
Cases 12 and 13 are left out: they test compression, which this client never offers.
"""

from __future__ import annotations

import glob
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter

from finx_sync import WebSocketApp

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.*", "9.2.*", "10.*"]
EXPECTED_CASES = 259
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
AGENT = "finx_sync"
BINARY = 2


def find_python27() -> str | None:
    """A Python 2.7 interpreter that runs: pyenv's shim on the PATH may be an empty promise."""
    found = [os.environ.get("PYTHON27"), shutil.which("python2.7")]
    found += sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/2.7*/bin/python2.7")))
    return next((path for path in found if path and is_python27(path)), None)


def is_python27(path: str) -> bool:
    """Whether `path` is one."""
    try:
        check = subprocess.run(
            [path, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"], check=False, capture_output=True
        )
    except OSError:
        return False
    return check.returncode == 0


def install_suite(python: str) -> str:
    """Install the suite once; returns the path of its command."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "finx_sync" / "autobahn"
    command, tool = folder / "bin" / "wstest", folder / "virtualenv"
    if not command.exists():
        quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_PYTHON_VERSION_WARNING": "1"}
        pip = ["-m", "pip", "install", "--quiet", "--quiet", "--quiet"]
        subprocess.run([python, *pip, "--target", str(tool), "virtualenv<20.22"], check=True, env=quiet)
        with_tool = {**quiet, "PYTHONPATH": str(tool)}
        subprocess.run([python, "-m", "virtualenv", "--quiet", str(folder)], check=True, env=with_tool)
        subprocess.run([str(folder / "bin" / "python"), *pip, "autobahntestsuite"], check=True, env=quiet)
    return str(command)


def free_port() -> int:
    """A port for the fuzzing server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for_server(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the fuzzing server takes connections."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the fuzzing server did not start")


def run_case(url: str) -> list[str]:
    """One connection that echoes what it is sent; returns the texts."""
    texts: list[str] = []

    def on_message(app: WebSocketApp, message: str | bytes) -> None:
        if isinstance(message, bytes):
            app.send(message, opcode=BINARY)
        else:
            texts.append(message)
            app.send(message)

    WebSocketApp(url, on_message=on_message, max_size=32 * 1024 * 1024).run_forever()
    return texts


def main() -> int:
    """Run all cases; returns 0 when none failed."""
    python = find_python27()
    if python is None:
        print("conformance: skipped, no Python 2.7 found (set PYTHON27 to one)")
        return 0
    command = install_suite(python)
    with tempfile.TemporaryDirectory() as folder:
        base = f"ws://127.0.0.1:{(port := free_port())}"
        reports = pathlib.Path(folder) / "reports"
        specification = {
            "url": base,
            "webport": 0,
            "outdir": str(reports),
            "cases": CASES,
            "exclude-cases": [],
            "options": {},
        }
        path = pathlib.Path(folder) / "spec.json"
        path.write_text(json.dumps(specification))
        server = subprocess.Popen(
            [command, "-m", "fuzzingserver", "-s", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for_server(port, server)
            count = int(run_case(f"{base}/getCaseCount")[0])
            for number in range(1, count + 1):
                run_case(f"{base}/runCase?case={number}&agent={AGENT}")
            run_case(f"{base}/updateReports?agent={AGENT}")
        finally:
            server.terminate()
            server.wait(10)
        return report(json.loads((reports / "index.json").read_text())[AGENT])


def report(results: dict[str, dict[str, str]]) -> int:
    """Print what came of the cases; returns the exit code."""
    bad = {
        case: result
        for case, result in results.items()
        if result["behavior"] not in GOOD or result["behaviorClose"] not in GOOD
    }
    for case, result in sorted(bad.items()):
        print(f"{case}: {result['behavior']}, close {result['behaviorClose']} ({result.get('remoteCloseCode')})")
    behaviours = Counter(result["behavior"] for result in results.values())
    closes = Counter(result["behaviorClose"] for result in results.values())
    print(f"conformance: {len(results)} cases, {dict(behaviours)}, close codes {dict(closes)}, {len(bad)} bad")
    return 0 if len(results) == EXPECTED_CASES and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
