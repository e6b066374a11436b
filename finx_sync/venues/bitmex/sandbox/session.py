"""A connection of the sandbox's BitMEX: its commands and the answers. See `server` for the rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from finx_sync.sandbox.connection import ClientConnection
from finx_sync.sandbox.host import dumps
from finx_sync.venues.bitmex.sandbox.market import PRODUCTS, Row, iso
from finx_sync.venues.bitmex.sandbox.schema import PRIVATE, TABLES

if TYPE_CHECKING:
    from finx_sync.venues.bitmex.sandbox.server import BitmexServer

__all__ = ["DOCUMENTS", "BitmexRefusal", "BitmexSession", "topics_of"]

DOCUMENTS: Final = "https://www.bitmex.com/app/wsAPI"
MAX_ARGS: Final = 20
MAX_ERRORS: Final = 20


class BitmexRefusal(Exception):  # noqa: N818 - it is not an error of the program
    """Raised for a request that is answered with an error: BitMEX's status, text and meta object."""

    def __init__(self, status: int, text: str, meta: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.meta = dict(meta or {})


class BitmexSession:
    """One connection."""

    def __init__(self, venue: BitmexServer, connection: ClientConnection, key: str | None, topics: list[str]) -> None:
        self.key = key
        self.topics: dict[str, None] = {}
        self._venue = venue
        self._connection = connection
        self._asked_by_url = topics
        self._errors = 0

    def opened(self) -> None:
        """Send the welcome message, and subscribe to the topics in the URL."""
        self._reply(self._venue.welcome())
        if self._asked_by_url:
            request = {"op": "subscribe", "args": self._asked_by_url}
            failures = self._subscribe(self._asked_by_url, request)
            if any(refusal.status != 401 for refusal in failures):
                self._connection.finish(1008, "bad subscription")

    def received(self, text: str) -> None:
        """Answer a command."""
        if text == "ping":
            self._connection.send("pong")
            return
        if text == "help":
            self._reply(_help())
            return
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            request = None
        self._venue.hub.note_request(self._connection, _shown(request) if isinstance(request, dict) else text)
        if not isinstance(request, dict):
            self._refuse(BitmexRefusal(400, "Unrecognized request. See the docs or send 'help' for more info."), text)
            return
        op, args = request.get("op"), request.get("args")
        try:
            if op == "subscribe":
                self._subscribe(_topics(args), request)
            elif op == "unsubscribe":
                self._unsubscribe(_topics(args), request)
            elif op == "authKeyExpires":
                self._authorize(args, request)
            elif op == "cancelAllAfter":
                self._set_switch(args, request)
            else:
                raise BitmexRefusal(400, f"Unknown op: {op}")
        except BitmexRefusal as refusal:
            self._refuse(refusal, request)

    def send_change(self, name: str, symbol: str | None, text: str) -> None:
        """Send a message of a table, once for each subscribed topic that includes it."""
        for topic in topics_of(name, symbol):
            if topic in self.topics:
                self._connection.send(text, topic)

    def _subscribe(self, topics: list[str], request: Row) -> list[BitmexRefusal]:
        """Acknowledge every topic first, then send the images; return the refusals."""
        granted, failures = [], []
        for topic in topics:
            try:
                self._check(topic)
            except BitmexRefusal as refusal:
                failures.append(refusal)
                self._refuse(refusal, request)
                continue
            granted.append(topic)
            self._note(topic)
            self._reply({"success": True, "subscribe": topic, "request": request})
        for topic in granted:
            self._send_image(topic)
        return failures

    def _check(self, topic: str) -> None:
        name, colon, symbol = topic.partition(":")
        table = self._venue.table(name, self.key)
        if topic in self.topics:
            raise BitmexRefusal(
                400, f"You are already subscribed to this topic:{topic}. Please see the documentation at {DOCUMENTS}."
            )
        known = table.symbols or tuple(PRODUCTS)
        if colon and symbol not in known and symbol != "*":
            raise BitmexRefusal(400, "Unknown or expired symbol.")

    def _send_image(self, topic: str) -> None:
        name, _, symbol = topic.partition(":")
        chosen: Row = {"account": self._venue.trader(self.key).number} if name in PRIVATE and self.key else {}
        wanted = symbol if symbol not in ("", "*") else None
        if wanted is not None:
            chosen["symbol"] = wanted
        self._venue.catch_up(name, wanted, self.key)
        rows = self._venue.table(name, self.key).image(wanted, self._venue.now())
        self._connection.send(dumps(TABLES[name].head(name, chosen) | {"data": rows}), topic)
        self.topics[topic] = None

    def _unsubscribe(self, topics: list[str], request: Row) -> None:
        for topic in topics:
            if topic in self.topics:
                del self.topics[topic]
                self._connection.leave(topic)
                self._venue.hub.note_subscriptions(self._connection)
                self._reply({"success": True, "unsubscribe": topic, "request": request})
            else:
                self._refuse(BitmexRefusal(400, f"You are not subscribed to this topic:{topic}."), request)

    def _note(self, topic: str) -> None:
        self._connection.join(topic)
        self._venue.hub.note_subscriptions(self._connection)

    def _authorize(self, args: Any, request: Row) -> None:
        """Handle ``authKeyExpires``; a failure ends the connection, as the documentation says."""
        if self.key is not None:
            raise BitmexRefusal(400, "This connection is already authenticated.")
        try:
            key, expires, signature = args
            if not isinstance(expires, int):
                raise BitmexRefusal(401, "Signature not valid.")
            self._venue.check_signature(str(key), str(expires), str(signature))
        except (TypeError, ValueError):
            raise BitmexRefusal(400, "authKeyExpires takes [apiKey, expires, signature].") from None
        except BitmexRefusal as refusal:
            self._refuse(refusal, request)
            self._connection.finish(1008, "bad credentials")
            return
        self.key = key
        self._reply({"success": True, "request": request})

    def _set_switch(self, args: Any, request: Row) -> None:
        """Handle ``cancelAllAfter``: milliseconds, or 0 to turn the switch off."""
        if self.key is None:
            raise BitmexRefusal(401, "Authorization Required")
        if isinstance(args, list) and len(args) == 1:
            args = args[0]
        if not isinstance(args, int) or args < 0:
            raise BitmexRefusal(400, "cancelAllAfter takes a number of milliseconds.")
        now = self._venue.now()
        self._venue.trader(self.key).switch_at = now + args if args else None
        self._reply({"now": iso(now), "cancelTime": iso(now + args) if args else 0, "request": request})

    def _reply(self, value: Any) -> None:
        self._connection.send(dumps(value))

    def _refuse(self, refusal: BitmexRefusal, request: Any) -> None:
        self._reply({"status": refusal.status, "error": refusal.text, "meta": refusal.meta, "request": request})
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self._connection.finish(1008, "too many errors")


def topics_of(name: str, symbol: str | None) -> tuple[str, ...]:
    """Return the topics that include a message about a symbol."""
    return (name, f"{name}:*", f"{name}:{symbol}")


def _topics(args: Any) -> list[str]:
    topics = args if isinstance(args, list) else [args]
    if not topics or not all(isinstance(topic, str) for topic in topics):
        raise BitmexRefusal(400, "args must be a topic or an array of topics.")
    if len(topics) > MAX_ARGS:
        raise BitmexRefusal(400, f"Too many args sent. Max length is {MAX_ARGS}")
    return topics


def _shown(request: Row) -> Row:
    """Return a request in the form to record: without the key and its signature."""
    return {**request, "args": "***"} if str(request.get("op")).startswith("auth") else request


def _help() -> Row:
    return {
        "info": "See https://www.bitmex.com/app/wsAPI and https://www.bitmex.com/explorer for more documentation.",
        "usage": 'Send JSON in the form {"op": "string", "args": ["string"]}',
        "ops": ["authKey", "authKeyExpires", "cancelAllAfter", "subscribe", "unsubscribe"],
        "subscribe": "To subscribe, send: {op: subscribe, args: [subscriptionTopic, ...]}",
        "subscriptionSubjects": {
            "authenticationRequired": list(PRIVATE),
            "public": [name for name in TABLES if name not in PRIVATE],
        },
    }
