"""Callbacks that remember, and the two ways in which an attempt to connect goes."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from finx_sync import FinxSyncError, WebSocketApp
from finx_sync.transport import dial
from finx_sync.transport.app import as_finx_error

KEY = "S3cretKey"
"""What no text may show."""


class Log:
    """What a connection's callbacks were given, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.errors: list[Any] = []

    def app(self, url: str, **options: Any) -> WebSocketApp:
        """An app with every callback logged; `options` win."""
        callbacks: dict[str, Any] = {
            name: lambda app, *values, name=name: self.events.append((name, *values))
            for name in ("on_open", "on_message", "on_data", "on_close", "on_ping", "on_pong")
        }
        callbacks["on_error"] = lambda app, error: (self.errors.append(error), self.events.append(("on_error",)))
        return WebSocketApp(url, **{**callbacks, **options})


def failure(url: str, options: dict[str, Any] | None = None, **app_options: Any) -> FinxSyncError:
    """What `run_forever` reports; the connection must fail."""
    log = Log()
    assert log.app(url, **app_options).run_forever(**(options or {})) is True
    assert [event[0] for event in log.events] == ["on_error", "on_close"]
    return as_finx_error(log.errors[0])


def connects(url: str, options: dict[str, Any] | None = None, **app_options: Any) -> None:
    """Open, say something, hear it, and close."""
    heard: list[str] = []

    def on_message(app: WebSocketApp, message: str) -> None:
        heard.append(message)
        app.close()

    log = Log()
    app = log.app(url, on_open=lambda app: app.send("hello"), on_message=on_message, **app_options)
    assert app.run_forever(**(options or {})) is False, log.errors
    assert heard == ["hello"]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every name have these addresses."""
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any) -> Any:
        return infos if host.endswith(".test") else real(host, *rest)

    monkeypatch.setattr(dial.socket, "getaddrinfo", look_up)
