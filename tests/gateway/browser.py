"""A headless Chromium, driven over the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
START = 60.0
"""Seconds for the browser to start on a busy machine."""
ANSWER = 60.0


def find_browser() -> str | None:
    """The path of a Chromium; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab.

    Attributes:
        problems: what the console, the page's own errors and the security policy complained of.
    """

    def __init__(self, url: str) -> None:
        self._socket = websocket.create_connection(url, timeout=ANSWER, suppress_origin=True, max_size=None)
        self._numbers = itertools.count(1)
        self.problems: list[str] = []
        self._is_loaded = False
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and wait for its answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        content = message.get("params", {})
        self._is_loaded |= message.get("method") == "Page.loadEventFired"
        if message.get("method") == "Runtime.exceptionThrown":
            details = content["exceptionDetails"]
            self.problems.append(str(details.get("exception", {}).get("description", details["text"])))
        elif message.get("method") == "Runtime.consoleAPICalled" and content["type"] in ("error", "warning", "assert"):
            self.problems.append(str([one.get("value", one.get("description")) for one in content["args"]]))
        elif message.get("method") == "Log.entryAdded" and content["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{content['entry']['text']} {content['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        """Load a page."""
        self._is_loaded = False
        self.send("Page.navigate", url=url)
        while not self._is_loaded:
            self._note(json.loads(self._socket.recv()))

    def run(self, script: str) -> Any:
        """The value of an expression; of what it promises, if it is a promise."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(f"{script}: {details.get('exception', {}).get('description', details['text'])}")
        return answer["result"].get("value")

    def wait(self, condition: str, timeout: float = 30.0) -> Any:
        """Wait until an expression is true; its value."""
        script = f"""new Promise((done) => {{
            const until = performance.now() + {timeout * 1000};
            const look = () => {{
                let value; try {{ value = {condition}; }} catch {{ value = null; }}
                if (value || performance.now() > until) done(value); else setTimeout(look, 20);
            }};
            look();
        }})"""
        value = self.run(script)
        assert value, f"never true: {condition}; the page complained of {self.problems}"
        return value

    def press(self, key: str, code: int = 0, text: str = "") -> None:
        """Press and release a key."""
        named = {"key": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", **named, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def type(self, text: str) -> None:
        """Put text where the focus is, as typing does."""
        self.send("Input.insertText", text=text)

    def size(self, width: int, height: int, *, dark: bool = False, scale: float = 1.0, is_phone: bool = False) -> None:
        """Set the window's size in CSS pixels, and the system's theme."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=is_phone,
        )  # fmt: skip
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[theme])

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of what is seen, or of the whole page."""
        shown = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shown["data"]))

    def heap(self) -> int:
        """Bytes of JavaScript's heap, without garbage."""
        self.send("HeapProfiler.collectGarbage")
        return int(self.metric("JSHeapUsedSize"))

    def metric(self, name: str) -> float:
        """One of the browser's own measures, such as TaskDuration in seconds."""
        measures = self.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in measures if one["name"] == name))

    def close(self) -> None:
        """Let go of the tab."""
        self._socket.close()


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with one empty tab.

    Args:
        folder: an empty folder for its profile.
    """
    path = find_browser()
    assert path is not None
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
        "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
        "--remote-debugging-port=0", f"--user-data-dir={folder}",
    ]  # fmt: skip
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [path, *options, "about:blank"],
            stdout=output, stderr=output, start_new_session=True, env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
    try:
        page = Page(_tab(folder, process))
        try:
            yield page
        finally:
            page.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _tab(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The WebSocket of the browser's first tab, once it has one."""
    import urllib.request

    deadline = time.monotonic() + START
    told = folder / "DevToolsActivePort"
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the browser ended: {(folder / 'output.txt').read_text(errors='replace')}"
        if told.exists() and len(lines := told.read_text().splitlines()) > 1:
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=ANSWER) as answer:
                for tab in json.load(answer):
                    if tab["type"] == "page":
                        return str(tab["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError(f"the browser did not start: {(folder / 'output.txt').read_text(errors='replace')}")
