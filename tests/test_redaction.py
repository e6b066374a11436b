"""A key never survives `redact`, wherever a key can stand and whatever it is made of."""

from __future__ import annotations

import json
import logging
import string
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from finx_sync.errors import ConnectionLostError, ServerRefusedError, UnreadableMessageError
from finx_sync.redaction import REDACTED, RedactingFilter, redact

HOST = "wss://beta.finx.io"
BEFORE, AFTER = "public", "afterwards"
"""Innocent words around the key; `public` is a real FinX key as well."""


def as_json(key: str) -> str:
    """A request, as the library writes it."""
    return json.dumps({"functionName": "tick_snap", "APIKey": key, "pair": AFTER}, separators=(",", ":"))


def as_query(key: str) -> str:
    """Parameters, as the library writes them."""
    return urlencode({"who": BEFORE, "APIKey": key, "pair": AFTER}, quote_via=quote)


PLACES: dict[str, Callable[[str], str]] = {
    "streaming": lambda key: f"GET {HOST}/streaming/{quote(key, safe='')} HTTP/1.1 {AFTER}",
    "streamer": lambda key: f"{HOST}/streamer/{quote(key, safe='')}/{AFTER}",
    "greeks": lambda key: f"{HOST}/streaming/greeks/{quote(key, safe='')}?{AFTER}",
    "URL in JSON": lambda key: json.dumps([f"{HOST}/streaming/{quote(key, safe='')}", AFTER]),
    "URL in JSON, slashes escaped": lambda key: json.dumps([f"{HOST}/streaming/{quote(key, safe='')}", AFTER]).replace(
        "/", "\\/"
    ),
    "URL in a URL": lambda key: (
        f"/login?next={quote(f'{HOST}/streaming/{key}', safe='')}&{AFTER}"
        if "/" not in key and "?" not in key and "#" not in key
        else AFTER
    ),
    "query": lambda key: f"{HOST}/backend/?{as_query(key)}",
    "query, plus for space": lambda key: f"{HOST}/backend/?{urlencode({'APIKey': key, 'pair': AFTER})}",
    "one segment": lambda key: f"{HOST}/backend/{as_query(key)}",
    "one segment, encoded": lambda key: f"{HOST}/backend/{quote(as_query(key), safe='')}",
    "JSON": as_json,
    "JSON, spaced": lambda key: json.dumps({"APIKey": key, "pair": AFTER}, indent=2),
    "JSON, not ASCII": lambda key: json.dumps({"api_key": key, "pair": AFTER}, ensure_ascii=False),
    "JSON in JSON": lambda key: json.dumps({"echo": as_json(key), "text": AFTER}),
    "JSON in JSON, spaced": lambda key: json.dumps({"echo": json.dumps({"apiKey": key, "pair": AFTER})}),
    "JSON in a query": lambda key: f"{HOST}/?message={quote(as_json(key), safe='')}",
    "login": lambda key: json.dumps({"op": "login", "args": {"key": key, "sign": "0", "time": 1}, "pair": AFTER}),
    "login in JSON": lambda key: json.dumps({"echo": json.dumps({"args": {"key": key}}), "text": AFTER}),
    "login in a dictionary": lambda key: f"{ ({'args': {'key': key}, 'pair': AFTER}) }",
    "dictionary": lambda key: f"{ ({'finxApiKey': key, 'pair': AFTER}) }",
    "bytes in a dictionary": lambda key: f"{ ({'token': key.encode(), 'pair': AFTER}) }",
    "X-API-Key": lambda key: f"Host: x\r\nX-API-Key: {key}\r\nX: {AFTER}",
    "Authorization": lambda key: f"authorization: Bearer {key}\nX: {AFTER}",
    "Cookie": lambda key: f"Cookie:{key}\r\nX: {AFTER}",
    "header in a dictionary": lambda key: f"{ ({'authorization': f'Bearer {key}', 'x': AFTER}) }",
    "proxy": lambda key: f"http://user:{quote(key, safe='')}@proxy:3128 {AFTER}",
    "proxy's user": lambda key: f"socks5://{quote(key, safe='')}@proxy:1080/{AFTER}",
}

PRINTABLE = string.ascii_letters + string.digits + string.punctuation
MARK = "Zq7"
"""Begins and ends every random key: then a part of it that survives is recognised."""


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@given(middle=st.text(PRINTABLE + " €", max_size=12))
@example(middle='"')
@example(middle="\\")
@example(middle='\\"')
@example(middle='a"b\\c')
@example(middle="'\"'")
@example(middle="&%26#?/")
@example(middle="@:/")
def test_a_key_never_survives(place: Callable[[str], str], middle: str) -> None:
    """The user's key would stand in a log, a repr or a bug report."""
    assume(r"\r\n" not in middle)  # in a representation, this ends a header
    text = place(f"{MARK}{middle}{MARK}")
    redacted = redact(f"{BEFORE} {text}")
    assert MARK not in redacted
    assert redacted.startswith(BEFORE)
    assert AFTER in redacted, "what stands behind the key stays readable"


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_key_may_begin_with_any_character(place: Callable[[str], str]) -> None:
    """A key that begins with a quote or a percent sign would not be recognised as one."""
    for first in string.punctuation:
        assert MARK not in redact(place(f"{first}{MARK}"))


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@given(middle=st.text(PRINTABLE + " €", max_size=12))
def test_redacting_twice_changes_nothing(place: Callable[[str], str], middle: str) -> None:
    """An error inside an error would lose more of its text each time."""
    once = redact(place(f"{MARK}{middle}{MARK}"))
    assert redact(once) == once


@given(
    st.lists(st.sampled_from([*PRINTABLE, " ", "\n", "/streaming/", "APIKey", '"APIKey": "', "token=", "%22", "://"]))
)
def test_any_text_can_be_redacted_and_redacting_twice_changes_nothing(pieces: list[str]) -> None:
    """Rubbish from a server would raise inside the logging of it."""
    once = redact("".join(pieces))
    assert redact(once) == once


@pytest.mark.parametrize(
    "name", ["APIKey", "api_key", "apiKey", "apiSecret", "secret", "signature", "token", "password"]
)
@pytest.mark.parametrize("pattern", ['{"%s": "public"}', "{'%s': 'public'}", "?%s=public", '{\\"%s\\":\\"public\\"}'])
def test_the_secrets_of_every_venue_are_known_by_name(name: str, pattern: str) -> None:
    """Another venue's secret would be logged."""
    assert "public" not in redact(pattern % name)


@pytest.mark.parametrize(
    "text",
    [
        "public",
        "the public key of the server",
        '{"pair": "BTC:USD", "kind": "public"}',
        f"{HOST}/public/streams?kind=public&pair=BTC:USD",
        "https://api.finx.io/reference?at=public@home",
        "the token is missing; APIKey must be given",
        '{"tokens": "public", "design": "public"}',
        "streaming public data",
        "no connection within 10 s, which ran out while resolving ws.finx.io",
    ],
)
def test_innocent_text_survives(text: str) -> None:
    """A key as plain as `public` would blot out error texts that hold that word."""
    assert redact(text) == text


@given(st.text(max_size=200))
def test_text_without_a_place_for_a_key_is_untouched(text: str) -> None:
    """Market data in an error's excerpt would be mangled."""
    if not any(sign in text for sign in ("=", ":", "/", "%")):
        assert redact(text) == text


def test_a_cut_off_message_is_redacted_to_its_end() -> None:
    """The excerpt of a long message, cut inside the key, would show half of it."""
    for place in (as_json, PLACES["JSON in JSON"], PLACES["JSON in a query"], as_query):
        text = place("x" * 40 + MARK)
        assert "xxxx" not in redact(text[: text.index("x" * 40) + 20])


def test_long_rubbish_is_redacted_in_no_time() -> None:
    """One hostile message would stop the io thread for minutes."""
    for piece in ('"APIKey":"', "\\", '\\"', "%22", "://", "/streaming/", "authorization:", "token=%26", " "):
        redact(piece * 20_000)


def test_errors_redact_what_came_from_outside() -> None:
    """An exception's text would hold the key that the server echoed."""
    said = {"error": "bad call", "args": {"APIKey": MARK}}
    assert MARK not in str(UnreadableMessageError("why", json.dumps(said)))
    assert MARK not in str(ServerRefusedError("tick_snap", said))
    assert MARK not in ConnectionLostError("lost", 1008, f"/streaming/{MARK} is unknown").reason


def test_the_filter_redacts_arguments_too(caplog: pytest.LogCaptureFixture) -> None:
    """websocket-client's trace would log the request line with the key."""
    logger = logging.getLogger("tests.redaction")
    redacting = RedactingFilter()
    logger.addFilter(redacting)
    try:
        with caplog.at_level(logging.DEBUG, logger="tests.redaction"):
            logger.debug("GET %s (%d bytes)", f"{HOST}/streaming/{MARK}", 12)
    finally:
        logger.removeFilter(redacting)
    assert caplog.messages == [f"GET {HOST}/streaming/{REDACTED} (12 bytes)"]
