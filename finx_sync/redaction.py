"""Remove keys from any text, by position and by value, and make text from a server safe to show.

By position: FinX puts the key into the URL's path and into every message, so any text in the place of a key is
replaced, even if its value is unknown here. By value: the keys, secrets and passwords in use are remembered and
recognised in any encoding, because a server may echo one anywhere: in a redirect to ``/v2/KEY``, or in a page that says
``Cannot GET /KEY``.

A key may be a plain word like ``public``, and replacing every such word would garble innocent text. So a value is
replaced everywhere only if it is distinctive; see `remember`.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import html.entities
import logging
import re
import threading
import traceback
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

__all__ = [
    "REDACTED",
    "OwnFilter",
    "RedactingFilter",
    "escaped",
    "excerpt",
    "marks",
    "redact",
    "remember",
    "remember_from",
    "sealed",
    "secrets_of",
    "shown",
]

REDACTED: Final = "***"
MAX_SECRETS: Final = 512
"""The number of values remembered; a new one replaces the least recently used one."""
LONG: Final = 8
"""The minimum length of a value that is replaced anywhere, not only in the place of a key."""
LONG_NUMBER: Final = 16
"""The same for a value of digits only, which may be a date or a price."""

_FIELDS: Final = (
    r"(?:api[-_]?key|finx[-_]?api[-_]?key|api[-_]?secret|secret|api[-_]?signature|sign(?:ature)?|"
    r"access[-_]?token|token|password|passphrase|(?:proxy-)?authorization|x-api-key|(?:set-)?cookie)"
)
_HEADERS: Final = r"(?:(?:proxy-)?authorization|x-api-key|api-key|api-signature|(?:set-)?cookie)"
_PLACES: Final = r"(?:streaming|streamer)"
_BEGIN: Final = r"(?:\b|(?<=%[0-9a-f]{2}))"
"""The beginning of a word; in a URL it may follow an encoded character, such as the %26 between parameters."""
_BLANK: Final = r"(?!\.\.\.(?:[,;)\s]|$))"
"""Excludes the dots of ``api_key=...``, a placeholder for a key."""


def _rule(before: str, secret: str, flags: int = 0) -> re.Pattern[str]:
    """Return a pattern that ends with the secret; its first group is the text that is kept."""
    return re.compile(f"({before}){secret}", re.I | re.S | flags)


# A value extends to its end in its own notation, escapes included, or to the end of a truncated text.
_RULES: Final = (
    # /streaming/KEY, /streamer/KEY, /streaming/greeks/KEY (FinX, streams page and SDK); the slashes of JSON may be \/
    _rule(rf"\\?/{_PLACES}\\?/(?:greeks\\?/)?", r"(?!greeks\\?/)[^/?#\s\"'\\]+"),
    # the same inside another URL
    _rule(rf"%2F{_PLACES}%2F(?:greeks%2F)?", r"(?!greeks%2F)(?:(?!%2F|%3F|%23)[^/?#&\s\"'\\])+"),
    # "APIKey": "KEY"; and "args": {"key": "KEY", which is FTX's login
    _rule(rf"(?:[\"']{_FIELDS}|[\"']args[\"']\s*:\s*{{\s*[\"']key)[\"']\s*:\s*b?\"", r"(?:\\.|[^\"\\])*"),
    # 'APIKey': 'KEY', as Python prints it
    _rule(rf"(?:[\"']{_FIELDS}|[\"']args[\"']\s*:\s*{{\s*[\"']key)[\"']\s*:\s*b?'", r"(?:\\.|[^'\\])*"),
    # the same JSON inside a JSON string: every quote and backslash has one more backslash
    _rule(rf"\\\"(?:{_FIELDS}|args\\\"\s*:\s*{{\s*\\\"key)\\\"\s*:\s*\\\"", r"(?:\\\\(?:\\.|[^\\])|(?!\\\")[^\"])*"),
    # and inside a URL
    _rule(rf"%22{_FIELDS}%22(?:%20|\+)*%3A(?:%20|\+)*%22", r"(?:%5C(?:%[0-9A-F]{2}|\S)|(?!%22)\S)*"),
    # Authorization: Bearer KEY; a header extends to the end of its line
    _rule(rf"\b{_HEADERS}\s*:\s*", r"[^\r\n]*?(?=(?-i:\\r\\n)|[\r\n]|$)"),
    # ?APIKey=KEY, &token=KEY, and the same as one path segment, plain or percent-encoded
    _rule(rf"{_BEGIN}{_FIELDS}=", rf"{_BLANK}[^&\s\"'#\\]+"),
    _rule(rf"{_BEGIN}{_FIELDS}%3D", r"(?:(?!%26)[^&\s\"'#\\])+"),
    # user:password@ in a proxy's URL; then the same with a slash or a quote in the password, which is not a port
    _rule(r"://", r"[^/?#\s\"']*(?=@)"),
    _rule(r"://", r"[^\s:/?#@\[\]\"']+:(?!\d+(?:[/?#\s\"',;)\]}\\]|$))\S*(?=@)"),
)

_HINTS: Final = re.compile(r"stream|key|secret|sign|token|pass|auth|cookie|args|://", re.I)
"""No rule matches a text without any of these. This check saves most texts ten passes, above all in a flood."""


def redact(text: str) -> str:
    """Return `text` with every secret replaced by ``***``.

    Args:
        text: a URL, a header block, a JSON message, an exception's text, or any mix of these.
    """
    if _HINTS.search(text) is not None:
        for pattern in _RULES:
            text = pattern.sub(rf"\1{REDACTED}", text)
    return _without_values(text)


# By value


def remember(*secrets: str) -> None:
    """Redact these values from now on, wherever and in whatever encoding they appear. Any thread.

    A value of at least eight characters is replaced anywhere; if it consists of letters only, only as a whole word. A
    shorter value, or a number, may be a plain word or a price, so it is replaced only in the place of a key: as a path
    segment, as a parameter's value, as a quoted text that is not a field name, or after a word such as "key" or
    "token".
    """
    # One list for the process, since any thread may handle the echo. It is replaced as a whole under the lock; readers
    # take no lock, and see the old or the new list.
    global _known  # noqa: PLW0603
    for secret in secrets:
        if (value := secret.strip()) and value.strip("*"):
            with _lock:
                rest = tuple(one for one in _known if one.value != value)
                known = next((one for one in _known if one.value == value), None) or _Value(value)
                _known = (*rest[-MAX_SECRETS + 1 :], known)


def remember_from(text: str) -> None:
    """Remember the values in the place of a key in `text`, a URL or a header."""
    for pattern in _RULES:
        for found in pattern.finditer(text):
            secret = unquote(found[0][len(found[1]) :])
            remember(secret, *([secret.split(None, 1)[1]] if len(secret.split(None, 1)) == 2 else []))


def secrets_of(credentials: Any) -> tuple[str, ...]:
    """Return every secret text in an account's key or credentials: all fields except names of headers and accounts."""
    if isinstance(credentials, str):
        return (credentials,) if credentials else ()
    if dataclasses.is_dataclass(credentials) and not isinstance(credentials, type):
        fields = [field.name for field in dataclasses.fields(credentials) if field.name not in _OPEN_FIELDS]
        values = (getattr(credentials, name) for name in fields)
        return tuple(value for value in values if isinstance(value, str) and value)
    return ()


def marks(secret: str) -> tuple[bytes, ...]:
    """Return byte strings, one of which is in every payload with the secret in any notation; for a quick first test.

    Only base64 changes unreserved characters, so the secret's longest run of them is a mark, possibly an empty one.
    """
    longest = max(_UNRESERVED.findall(secret), key=len, default="")
    return tuple(mark.encode() for mark in (longest, *_base64_cores(secret)))


_OPEN_FIELDS: Final = ("name", "subaccount")
"""Fields of credentials that are not secret: the name of a header or a parameter, and of an account."""
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9_.~-]*")
"""Characters that are the same in every notation except base64."""
_BASE64: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_")
_NAMING: Final = (
    r"(?i:\b(?:key|token|secret|password|passphrase|credentials?|bearer|login)\b(?:\s+(?:is|was))?[\s:=]{1,3}[\"'`]?)"
)


class _Value:
    """A secret's value, and the patterns that find it."""

    def __init__(self, value: str) -> None:
        self.value = value
        self._cores = _base64_cores(value)
        plain = _UNRESERVED.fullmatch(value) is not None
        core = re.escape(value) if plain else "".join(_notations(value))
        if len(value) < LONG or (value.isdigit() and len(value) < LONG_NUMBER):
            self._pattern: re.Pattern[str] | None = re.compile(_in_places(core))
        elif value.isalpha():
            self._pattern = re.compile(rf"()(?<![A-Za-z0-9_]){core}(?![A-Za-z0-9_]|\\*[\"']\s*:)")
        else:
            self._pattern = None if plain else re.compile(f"(){core}")

    def taken_from(self, text: str) -> str:
        """Return the text with the value replaced."""
        if self._pattern is None:
            text = text.replace(self.value, REDACTED)
        else:
            text = self._pattern.sub(lambda found: f"{found[1] or ''}{REDACTED}", text)
        for core in self._cores:
            while (at := text.find(core)) >= 0:
                text = _without_run(text, at, at + len(core))
        return text


def _in_places(core: str) -> str:
    """Return a pattern for a value in the place of a key; its group is the text before the value, which is kept."""
    ends = r"(?=[/?#&;:,.)\]}\s\"'`\\<>]|%2F|%3F|%23|%26|$)"
    segment = rf"(?:(?<=/)|(?<=%2F)|(?<=%2f)){core}{ends}"
    parameter = rf"(?:(?<==)|(?<=%3D)|(?<=%3d)){core}{ends}"
    quoted = rf"(?<=[\"'`]){core}(?=\\*[\"'`](?!\s*:))"
    return rf"({_NAMING}){core}(?![A-Za-z0-9_])|{segment}|{parameter}|{quoted}"


def _notations(value: str) -> Iterator[str]:
    """Yield a pattern for each character, in any notation: percent-encoding, JSON, Python, HTML, also nested."""
    for character in value:
        if _UNRESERVED.fullmatch(character):
            yield character if character.isalnum() else re.escape(character)
            continue
        code = ord(character)
        percent = "".join(f"%(?:25)*(?i:{byte:02x})" for byte in character.encode("utf-8", "surrogatepass"))
        units = character.encode("utf-16-be", "surrogatepass")
        utf16 = "".join(rf"\\+u(?i:{units[at : at + 2].hex()})" for at in range(0, len(units), 2))
        name = html.entities.codepoint2name.get(code)
        entity = rf"&(?:amp;)*(?:#0*{code}|#(?i:x0*{code:x}){f'|{name}' if name else ''});"
        literal = r"\\+" if character == "\\" else rf"\\*{re.escape(character)}"
        more = r"|\+" if character == " " else ""
        yield rf"(?:{literal}|{percent}|{utf16}|\\+(?i:x{code:02x})|\\+U(?i:{code:08x})|{entity}{more})"


def _base64_cores(value: str) -> tuple[str, ...]:
    """Return what the base64 of any text with the value contains, one string for each of the three alignments."""
    data = value.encode("utf-8", "surrogatepass")
    if len(data) < LONG:
        return ()
    cores = set()
    for shift, spoilt in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(b"\0" * shift + data).decode().rstrip("=")
        whole = text[spoilt:] if (shift + len(data)) % 3 == 0 else text[spoilt:-1]
        cores |= {whole, whole.replace("+", "-").replace("/", "_")}
    return tuple(cores)


def _without_run(text: str, begin: int, end: int) -> str:
    """Return the text with the whole base64 run around a match replaced."""
    while begin > 0 and text[begin - 1] in _BASE64:
        begin -= 1
    while end < len(text) and text[end] in _BASE64:
        end += 1
    return f"{text[:begin]}{REDACTED}{text[end:]}"


_lock: Final = threading.RLock()  # held while `_known` is replaced
_known: tuple[_Value, ...] = ()


def _without_values(text: str) -> str:
    for value in _known:
        text = value.taken_from(text)
    return text


# Showing text


def escaped(text: str) -> str:
    r"""Return the text without control characters: line breaks, terminal sequences, marks of the writing direction.

    Each is replaced by its Python escape, such as ``\n`` or ``\x1b``. The zero-width joiner and non-joiner, which
    Persian and emojis need, are kept.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _JOINERS else repr(one)[1:-1] for one in text)


_JOINERS: Final = "\u200c\u200d"


def sealed(text: str) -> str:
    """Make one of this library's own texts, which may quote foreign text, one line without any known secret."""
    return escaped(_without_values(text))


def excerpt(text: str, limit: int) -> str:
    """Return the beginning of a text, without any secret.

    Args:
        text: any text.
        limit: the maximum length of the result in characters.
    """
    spare = max([limit, *(6 * len(one.value) for one in _known)])
    window = 4 * limit + 2 * spare
    if len(text) <= window:
        return redact(text)[:limit]
    # Part of a key at the end of the window would not be recognised, so the result ends well before it.
    return redact(text[:window])[:-spare][:limit]


def shown(text: str, limit: int | None = None) -> str:
    """Make foreign text safe to show: one line, without any secret.

    Args:
        text: any text.
        limit: the number of characters of the text to keep; None for all.
    """
    return escaped(redact(text) if limit is None else excerpt(text, limit))


class RedactingFilter(logging.Filter):
    """Redacts the records of a foreign logger.

    websocket-client logs the request line and every frame when tracing is on; both contain the key.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place and keep it."""
        record.msg = shown(record.getMessage())
        record.args = None
        _seal_traceback(record)
        return True


class OwnFilter(logging.Filter):
    """Redacts the records of this library's loggers: they quote names, reasons and errors from outside."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place and keep it."""
        record.msg = sealed(record.getMessage())
        record.args = None
        _seal_traceback(record)
        return True


def _seal_traceback(record: logging.LogRecord) -> None:
    """Format the record's traceback, with each exception's text on one line and without known secrets."""
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        record.exc_text = "\n".join(_traceback(record.exc_info[1], set()))


def _traceback(error: BaseException, seen: set[int]) -> Iterator[str]:
    """Yield the lines of a traceback as Python prints it, causes first."""
    seen.add(id(error))
    cause = error.__cause__
    before = cause if cause is not None else None if error.__suppress_context__ else error.__context__
    if before is not None and id(before) not in seen:
        yield from _traceback(before, seen)
        link = "The above exception was the direct cause of" if cause is not None else "During handling of"
        tail = "the following exception:" if cause is not None else "the above exception, another exception occurred:"
        yield f"\n{link} {tail}\n"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        yield from (_without_values(line.rstrip("\n")) for line in traceback.format_tb(error.__traceback__))
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # the __str__ of a user's class may raise anything
        text = "<its __str__ raised>"
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    yield sealed(f"{name}: {text}" if text else name)
    yield from (sealed(str(note)) for note in getattr(error, "__notes__", ()))
