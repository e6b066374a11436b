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
    r"(?:api[-_]?key|finx[-_]?api[-_]?key|api[-_]?secret|secret|api[-_]?signature|sign(?:ature)?|"
    r"access[-_]?token|token|password|passphrase|(?:proxy-)?authorization|x-api-key|(?:set-)?cookie)"
)
_HEADERS: Final = r"(?:(?:proxy-)?authorization|x-api-key|api-key|api-signature|(?:set-)?cookie)"
_PLACES: Final = r"(?:streaming|streamer)"
_BEGIN: Final = r"(?:\b|(?<=%[0-9a-f]{2}))"
"""Of a word; in a URL it may stand behind an encoded character, such as the %26 between parameters."""


def _rule(before: str, secret: str, flags: int = 0) -> re.Pattern[str]:
    """A pattern whose first group is what stays, and which ends with the secret."""
    return re.compile(f"({before}){secret}", re.I | re.S | flags)


# Values run to their end as their own notation has it, escapes included, or to the end of an unfinished text.
_RULES: Final = (
    # /streaming/KEY, /streamer/KEY, /streaming/greeks/KEY (FinX, streams page and SDK); the slashes of JSON may be \/
    _rule(rf"\\?/{_PLACES}\\?/(?:greeks\\?/)?", r"(?!greeks\\?/)[^/?#\s\"'\\]+"),
    # the same inside another URL
    _rule(rf"%2F{_PLACES}%2F(?:greeks%2F)?", r"(?!greeks%2F)(?:(?!%2F|%3F|%23)[^/?#&\s\"'\\])+"),
    # "APIKey": "KEY"; and "args": {"key": "KEY", which is FTX's login
    _rule(rf"(?:[\"']{_FIELDS}|[\"']args[\"']\s*:\s*{{\s*[\"']key)[\"']\s*:\s*b?\"", r"(?:\\.|[^\"\\])*"),
    # 'APIKey': 'KEY', as Python shows it
    _rule(rf"(?:[\"']{_FIELDS}|[\"']args[\"']\s*:\s*{{\s*[\"']key)[\"']\s*:\s*b?'", r"(?:\\.|[^'\\])*"),
    # the same JSON inside a JSON string: every quote and backslash has one more backslash
    _rule(rf"\\\"(?:{_FIELDS}|args\\\"\s*:\s*{{\s*\\\"key)\\\"\s*:\s*\\\"", r"(?:\\\\(?:\\.|[^\\])|(?!\\\")[^\"])*"),
    # and inside a URL
    _rule(rf"%22{_FIELDS}%22(?:%20|\+)*%3A(?:%20|\+)*%22", r"(?:%5C(?:%[0-9A-F]{2}|\S)|(?!%22)\S)*"),
    # Authorization: Bearer KEY; a header runs to the end of its line
    _rule(rf"\b{_HEADERS}\s*:\s*", r"[^\r\n]*?(?=\\r\\n|[\r\n]|$)"),
    # ?APIKey=KEY, &token=KEY, and the same as one path segment, plain or percent-encoded
    _rule(rf"{_BEGIN}{_FIELDS}=", r"[^&\s\"'#\\]+"),
    _rule(rf"{_BEGIN}{_FIELDS}%3D", r"(?:(?!%26)[^&\s\"'#\\])+"),
    # user:password@ in a proxy's URL
    _rule(r"://", r"[^/?#\s\"']*(?=@)"),
)

_HINTS: Final = re.compile(r"stream|key|secret|sign|token|pass|auth|cookie|args|://", re.I)
"""No rule fits a text that has none of these: most are spared ten passes, above all those of a flood."""


def redact(text: str) -> str:
    """Return `text` with every secret replaced by ``***``.

    Args:
        text: a URL, a header block, a JSON message, an exception's text, or any mix of these.
    """
    if _HINTS.search(text) is None:
        return text
    for pattern in _RULES:
        text = pattern.sub(rf"\1{REDACTED}", text)
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
