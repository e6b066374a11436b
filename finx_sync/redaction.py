"""Take keys out of any text, by their position and by their value; and make what a server said safe to show.

FinX puts the key into the URL's path and into every message. Whatever stands where a key stands is replaced, also where
nobody here knows its value. And whatever key, secret or password is in use is known by its value, however it is
encoded, since a server may echo it anywhere: in a redirect to ``/v2/KEY``, in a page that says ``Cannot GET /KEY``.

A key may be as plain a word as ``public``, and replacing every such word would garble innocent text. So a value is
replaced wherever it stands only if it is distinctive; see `remember`.
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
"""Values that are known at a time; a new one replaces the one that was used least lately."""
LONG: Final = 8
"""Characters from which on a value is replaced outside the places of keys too."""
LONG_NUMBER: Final = 16
"""The same for digits alone, which may be a date or a price."""

_FIELDS: Final = (
    r"(?:api[-_]?key|finx[-_]?api[-_]?key|api[-_]?secret|secret|api[-_]?signature|sign(?:ature)?|"
    r"access[-_]?token|token|password|passphrase|(?:proxy-)?authorization|x-api-key|(?:set-)?cookie)"
)
_HEADERS: Final = r"(?:(?:proxy-)?authorization|x-api-key|api-key|api-signature|(?:set-)?cookie)"
_PLACES: Final = r"(?:streaming|streamer)"
_BEGIN: Final = r"(?:\b|(?<=%[0-9a-f]{2}))"
"""Of a word; in a URL it may stand behind an encoded character, such as the %26 between parameters."""
_BLANK: Final = r"(?!\.\.\.(?:[,;)\s]|$))"
"""Not the dots of ``api_key=...``, which say where a key belongs."""


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
    _rule(rf"\b{_HEADERS}\s*:\s*", r"[^\r\n]*?(?=(?-i:\\r\\n)|[\r\n]|$)"),
    # ?APIKey=KEY, &token=KEY, and the same as one path segment, plain or percent-encoded
    _rule(rf"{_BEGIN}{_FIELDS}=", rf"{_BLANK}[^&\s\"'#\\]+"),
    _rule(rf"{_BEGIN}{_FIELDS}%3D", r"(?:(?!%26)[^&\s\"'#\\])+"),
    # user:password@ in a proxy's URL; then the same with a slash or a quote in the password, which is not a port
    _rule(r"://", r"[^/?#\s\"']*(?=@)"),
    _rule(r"://", r"[^\s:/?#@\[\]\"']+:(?!\d+(?:[/?#\s\"',;)\]}\\]|$))\S*(?=@)"),
)

_HINTS: Final = re.compile(r"stream|key|secret|sign|token|pass|auth|cookie|args|://", re.I)
"""No rule fits a text that has none of these: most are spared ten passes, above all those of a flood."""


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
    """Know these values from now on, wherever and however encoded they appear. Any thread.

    A value of at least eight characters is replaced wherever it stands, one of letters only as a whole word. A shorter
    one, and a number, may be a plain word or a price: it is replaced where a key would stand, which is as a path's
    segment, a parameter's value, a quoted text that is no field's name, or behind a word such as "key" or "token".
    """
    global _known  # noqa: PLW0603  # one a process: an echo may appear in a text of any thread's
    for secret in secrets:
        if (value := secret.strip()) and value.strip("*"):
            with _lock:
                rest = tuple(one for one in _known if one.value != value)
                known = next((one for one in _known if one.value == value), None) or _Value(value)
                _known = (*rest[-MAX_SECRETS + 1 :], known)


def remember_from(text: str) -> None:
    """Know what stands where a key stands in `text`: a URL, or a header."""
    for pattern in _RULES:
        for found in pattern.finditer(text):
            secret = unquote(found[0][len(found[1]) :])
            remember(secret, *([secret.split(None, 1)[1]] if len(secret.split(None, 1)) == 2 else []))


def secrets_of(credentials: Any) -> tuple[str, ...]:
    """Every secret text in an account's key or credentials: all their fields but those that say where it goes."""
    if isinstance(credentials, str):
        return (credentials,) if credentials else ()
    if dataclasses.is_dataclass(credentials) and not isinstance(credentials, type):
        fields = [field.name for field in dataclasses.fields(credentials) if field.name not in _OPEN_FIELDS]
        values = (getattr(credentials, name) for name in fields)
        return tuple(value for value in values if isinstance(value, str) and value)
    return ()


def marks(secret: str) -> tuple[bytes, ...]:
    """What every payload holds that holds the secret, in whatever notation: for a quick look before a closer one.

    No notation but base64 changes letters and digits; the longest row of them is the mark, which may be empty.
    """
    longest = max(_UNRESERVED.findall(secret), key=len, default="")
    return tuple(mark.encode() for mark in (longest, *_base64_cores(secret)))


_OPEN_FIELDS: Final = ("name", "subaccount")
"""Of credentials: a header's or a parameter's name, an account's name."""
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9_.~-]*")
"""Characters that every notation leaves as they are."""
_BASE64: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_")
_NAMING: Final = (
    r"(?i:\b(?:key|token|secret|password|passphrase|credentials?|bearer|login)\b(?:\s+(?:is|was))?[\s:=]{1,3}[\"'`]?)"
)


class _Value:
    """A secret's value, and how to find it."""

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
        """The text without it."""
        if self._pattern is None:
            text = text.replace(self.value, REDACTED)
        else:
            text = self._pattern.sub(lambda found: f"{found[1] or ''}{REDACTED}", text)
        for core in self._cores:
            while (at := text.find(core)) >= 0:
                text = _without_run(text, at, at + len(core))
        return text


def _in_places(core: str) -> str:
    """A pattern of a value where a key would stand; its group is what stays before it."""
    ends = r"(?=[/?#&;:,.)\]}\s\"'`\\<>]|%2F|%3F|%23|%26|$)"
    segment = rf"(?:(?<=/)|(?<=%2F)|(?<=%2f)){core}{ends}"
    parameter = rf"(?:(?<==)|(?<=%3D)|(?<=%3d)){core}{ends}"
    quoted = rf"(?<=[\"'`]){core}(?=\\*[\"'`](?!\s*:))"
    return rf"({_NAMING}){core}(?![A-Za-z0-9_])|{segment}|{parameter}|{quoted}"


def _notations(value: str) -> Iterator[str]:
    """A pattern for each character, in any notation: percent signs, JSON, Python, HTML, and these inside each other."""
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
    """What the base64 of any text that holds the value holds, for each of the three ways in which it may be aligned."""
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
    """Without the whole base64 around a place."""
    while begin > 0 and text[begin - 1] in _BASE64:
        begin -= 1
    while end < len(text) and text[end] in _BASE64:
        end += 1
    return f"{text[:begin]}{REDACTED}{text[end:]}"


_lock: Final = threading.RLock()  # guards _known being replaced
_known: tuple[_Value, ...] = ()


def _without_values(text: str) -> str:
    for value in _known:
        text = value.taken_from(text)
    return text


# What may be shown


def escaped(text: str) -> str:
    r"""Text without control characters: new lines, terminal sequences, marks that turn the direction of writing.

    Each is replaced by what Python would write for it, such as ``\n`` or ``\x1b``. The two marks that join and part
    letters, which Persian and emojis need, stay.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _JOINERS else repr(one)[1:-1] for one in text)


_JOINERS: Final = "\u200c\u200d"


def sealed(text: str) -> str:
    """A text of our own that may quote others': one line without any known secret."""
    return escaped(_without_values(text))


def excerpt(text: str, limit: int) -> str:
    """The beginning of a text without any secret.

    Args:
        text: anybody's.
        limit: characters that are kept of it.
    """
    spare = max([limit, *(6 * len(one.value) for one in _known)])
    window = 4 * limit + 2 * spare
    if len(text) <= window:
        return redact(text)[:limit]
    # Half a key, at the cut, would not be recognised: what is kept ends well before it.
    return redact(text[:window])[:-spare][:limit]


def shown(text: str, limit: int | None = None) -> str:
    """What somebody else said, as it may be shown: one line without any secret.

    Args:
        text: theirs.
        limit: characters that are kept of it; None for all.
    """
    return escaped(redact(text) if limit is None else excerpt(text, limit))


class RedactingFilter(logging.Filter):
    """Redacts the records of a logger that is not ours.

    websocket-client logs the request line and every frame when tracing is on; both hold the key.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; always keeps it."""
        record.msg = shown(record.getMessage())
        record.args = None
        _seal_traceback(record)
        return True


class OwnFilter(logging.Filter):
    """Seals the records of a logger of ours: they quote names, reasons and errors that come from outside."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; always keeps it."""
        record.msg = sealed(record.getMessage())
        record.args = None
        _seal_traceback(record)
        return True


def _seal_traceback(record: logging.LogRecord) -> None:
    """Have the record's traceback formatted here, with each exception's text on one line."""
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        record.exc_text = "\n".join(_traceback(record.exc_info[1], set()))


def _traceback(error: BaseException, seen: set[int]) -> Iterator[str]:
    """As Python prints it, causes first."""
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
    except Exception:  # noqa: BLE001  # the user's class may have any __str__
        text = "<its text cannot be had>"
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    yield sealed(f"{name}: {text}" if text else name)
    yield from (sealed(str(note)) for note in getattr(error, "__notes__", ()))
