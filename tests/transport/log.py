"""Callbacks that remember."""

from __future__ import annotations

from typing import Any

from finx_sync import WebSocketApp


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
