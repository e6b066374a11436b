"""Take keys out of any text, by their position.

FinX puts the key into the URL's path and into every message, and a key may be as plain a word as ``public``: searching
for its value would miss it or blot out innocent text. So whatever stands where a key stands is replaced.
"""

from __future__ import annotations

import logging
import re
from typing import Final

__all__ = ["REDACTED", "RedactingFilter", "redact"]

REDACTED: Final = "***"

_FIELDS: Final = (
    r"api[-_]?key|finx[-_]?api[-_]?key|api[-_]?secret|secret|api[-_]?signature|sign(?:ature)?|"
    r"access[-_]?token|token|password|passphrase|(?:proxy-)?authorization|x-api-key|(?:set-)?cookie"
)

_RULES: Final = (
    # /streaming/KEY, /streamer/KEY, /streaming/greeks/KEY (FinX, streams page and SDK)
    (re.compile(r"(/(?:streaming|streamer)(?:/greeks)?/)(?!greeks/)[^/?#\s\"'\\]+", re.I), rf"\1{REDACTED}"),
    # "APIKey": "KEY" and 'APIKey': 'KEY'; an unfinished value runs to the end of the text
    (
        re.compile(rf"([\"'](?:{_FIELDS})[\"']\s*:\s*b?([\"']))(?:\\.|(?!\2).)*(\2|$)", re.I | re.S),
        rf"\1{REDACTED}\3",
    ),
    # the same inside another string, where the quotes are escaped, and inside a URL, where they are percent-encoded
    (re.compile(rf"(\\\"(?:{_FIELDS})\\\"\s*:\s*\\\")(?:(?!\\\").)*(\\\"|$)", re.I | re.S), rf"\1{REDACTED}\2"),
    (re.compile(rf"(%22(?:{_FIELDS})%22%3A(?:%20|\+)*%22)(?:(?!%22)\S)*(%22|$)", re.I), rf"\1{REDACTED}\2"),
    # Authorization: Bearer KEY; the header runs to the end of its line
    (
        re.compile(
            r"(\b(?:(?:proxy-)?authorization|x-api-key|api-key|api-signature|(?:set-)?cookie)\s*:\s*)(?![\"'])[^\r\n]*?(?=\\r|\\n|[\r\n]|$)",
            re.I,
        ),
        rf"\1{REDACTED}",
    ),
    # ?APIKey=KEY, &token=KEY, and the same as one path segment, plain or percent-encoded
    (re.compile(rf"(\b(?:{_FIELDS})(?:=|%3D))[^&\s\"'#\\%]+(?:%(?!26)[^&\s\"'#\\%]*)*", re.I), rf"\1{REDACTED}"),
    # user:password@ in a proxy's URL
    (re.compile(r"(://)[^/@\s:]+:[^/@\s]+@"), rf"\1{REDACTED}@"),
)


def redact(text: str) -> str:
    """Return `text` with every secret replaced by ``***``.

    Args:
        text: a URL, a header block, a JSON message, an exception's text, or any mix of these.
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


class RedactingFilter(logging.Filter):
    """Redacts the records of a logger that is not ours.

    websocket-client logs the request line and every frame when tracing is on; both hold the key.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; always keeps it."""
        record.msg = redact(record.getMessage())
        record.args = None
        return True
