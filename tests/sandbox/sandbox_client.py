"""A plain client for the sandbox's tests that shares no code with finx_sync."""

from __future__ import annotations

import json
from typing import Any

import websocket

KEY = "sandbox-key"
TIMEOUT = 10.0
"""Seconds; only a failing test waits this long."""


class Client:
    """websocket-client's blocking socket with JSON on top."""

    def __init__(self, url: str, **options: Any) -> None:
        self.socket = websocket.create_connection(url, timeout=TIMEOUT, **options)

    def say(self, **message: Any) -> None:
        """Send a message with the key."""
        self.socket.send(json.dumps({"APIKey": KEY, **message}))

    def ask(self, **message: Any) -> Any:
        """Send a message with the key and return the next frame."""
        self.say(**message)
        return self.hear()

    def hear(self) -> Any:
        """Return the next text frame, parsed."""
        opcode, data = self.socket.recv_data()
        assert opcode == websocket.ABNF.OPCODE_TEXT, (opcode, data)
        return json.loads(data)

    def hear_close(self) -> tuple[int, str]:
        """Read on to the close frame; return its code and reason."""
        while True:
            opcode, data = self.socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big"), data[2:].decode()

    def close(self) -> None:
        """Drop the connection, whatever its state."""
        self.socket.shutdown()  # type: ignore[no-untyped-call]
