"""What BitMEX's protocol has to remember in one run: the tables, and which of them are to be asked for anew."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, ClassVar, Final

from finx_sync.venues.base import (
    NOTHING,
    Command,
    Notify,
    Outcome,
    Resubscribe,
    Subscription,
    Topic,
    VenueState,
)
from finx_sync.venues.bitmex.messages import Row, TableItem, TableUpdate
from finx_sync.venues.bitmex.storage import Storage
from finx_sync.venues.bitmex.topics import answered_by, covers, endpoint_of, split_topic

__all__ = ["ROWS", "BitmexState", "rows_of"]

DROPPED: Final = frozenset({"slow consumer", "conflated", "damaged recording", "trimmed", "relay lost"})
"""Reasons of gaps on a connection that goes on; after the others the server sends all images anew."""
HEAL_INTERVAL: Final = 5.0
"""Seconds between two requests for the same table's image: a server that errs is not to be hammered."""

TABLES_NOTED: Final = 1000
MAX_NAMES: Final = 50_000
"""Topics whose newest row is kept; beyond, the half that was seen first goes. A server may make up any number."""
ROWS: Final = "table"
"""Event name of all rows; those of a table or of a symbol in it have the topic behind it."""


def rows_of(topic: str) -> str:
    """Event name of the rows of a table, or of a symbol in it."""
    return f"{ROWS} {topic}"


class BitmexState(VenueState):
    """Merges tables, and hands on the rows that change.

    `storage`, `newest` and `forget` are for any thread.

    Args:
        lock: guards the tables.
        deletes: hand on deleted rows too, as they were.

    Attributes:
        storage: the tables.
    """

    takes: ClassVar[frozenset[type]] = frozenset({TableUpdate})

    def __init__(self, lock: AbstractContextManager[Any] | None = None, *, deletes: bool = False) -> None:
        self._lock = nullcontext() if lock is None else lock
        self.storage = Storage(lock)
        self._deletes = deletes
        self._newest: dict[str, tuple[Row, TableUpdate]] = {}
        self._desired: dict[Subscription, None] = {}
        self._given_up: set[str] = set()  # topics whose image may still be on its way
        self._healed_at: dict[str, float] = {}
        self._noted: dict[str, Outcome] = {}  # by table: a message counts as its newest, too
        # Which events have handlers, by topic; as of `_wanted`, which is another one when handlers come or go.
        self._wanted: Container[Topic] = ()
        self._events: dict[str, tuple[str, ...]] = {}

    # For any thread

    def newest(self, topic: str) -> TableItem | None:
        """The row of a topic, like "quote:XBTUSD" or "margin", that changed last; None where there was none yet."""
        found = self._newest.get(topic)
        return None if found is None else TableItem.of(*found)

    def forget(self, topic: str) -> None:
        """Drop a topic's rows, also those of an image that is still on its way."""
        with self._lock:
            self._given_up.add(topic)
            self.storage.forget(*split_topic(topic))

    # For the dispatch thread

    def added(self, subscription: Subscription, now: float) -> Outcome:
        self._desired[subscription] = None
        with self._lock:
            self._given_up.discard(subscription.name)
        return NOTHING

    def removed(self, subscription: Subscription, now: float) -> Outcome:
        if subscription not in self._desired:
            return NOTHING
        del self._desired[subscription]
        self.forget(subscription.name)
        table, symbol = split_topic(subscription.name)
        if symbol is not None:
            return NOTHING
        # Parts of it that are wanted on their own were dropped with it.
        return _asked_anew(one for one in self._desired if one.name.startswith(f"{table}:"))

    def opened(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        self.storage.clear(self._tables_of(endpoint))
        self._healed_at.clear()
        return NOTHING

    def closed(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        self.storage.suspend(self._tables_of(endpoint))
        return NOTHING

    def _tables_of(self, endpoint: str) -> list[str]:
        return [name for name in self.storage.keys if endpoint_of(name) == endpoint]

    def take(self, message: TableUpdate, connection: Hashable | None, now: float, wanted: Container[Topic]) -> Outcome:
        table, action, storage = message.table, message.action, self.storage
        noted = self._noted.get(table) or self._note(table)
        commands: tuple[Command, ...] = ()
        if action == "partial":
            with self._lock:
                if answered_by(message) in self._given_up:
                    return noted
                rows = storage.apply(message, now)
            commands = (Notify(),)
        else:
            rows = storage.apply(message, now)
        if storage.lost:
            commands = (*self._heal(now).commands, *commands)
        messages = self._rows(message, rows, wanted)
        return Outcome(messages, commands, False, noted.names) if messages or commands else noted

    def _note(self, table: str) -> Outcome:
        if len(self._noted) >= TABLES_NOTED:  # far more than BitMEX has
            self._noted.clear()
        return self._noted.setdefault(table, Outcome(names=(table,)))

    def _rows(self, update: TableUpdate, rows: list[Row], wanted: Container[Topic]) -> list[tuple[Topic, Any]]:
        """What handlers get of the rows that a message has changed."""
        table = update.table
        messages: list[tuple[Topic, Any]] = []
        if update.action == "delete" and not self._deletes:
            return messages
        if wanted is not self._wanted:
            self._wanted, self._events = wanted, {}
        newest, events_of = self._newest, self._events
        if len(newest) > MAX_NAMES or len(events_of) > MAX_NAMES:
            self._forget_surplus()
        # What is kept keeps no other rows.
        head = TableUpdate(received_at=update.received_at, table=table, action=update.action, data=[])
        for row in rows:
            symbol = row.get("symbol")
            name = f"{table}:{symbol}" if isinstance(symbol, str) else table
            newest[name] = newest[table] = (row, head)
            events = events_of.get(name)
            if events is None:
                all_three = (ROWS, rows_of(table), rows_of(name))
                # Twice the same where a table has no symbols.
                events = events_of[name] = tuple(event for event in dict.fromkeys(all_three) if event in wanted)
            for event in events:
                messages.append((event, TableItem.of(row, update)))  # noqa: PERF401  # most often there is one or none
        return messages

    def _forget_surplus(self) -> None:
        for name in list(islice(self._newest, len(self._newest) // 2)):
            del self._newest[name]
        self._events.clear()

    def unreadable(self, endpoint: str, now: float) -> Outcome:
        return self._distrust(endpoint, now)

    def missed(self, reason: str, now: float) -> Outcome:
        return self._distrust(None, now) if reason in DROPPED else NOTHING

    def round(self, now: float) -> Outcome:
        self.storage.expire(now)
        return self._heal(now) if self.storage.lost else NOTHING

    def _distrust(self, endpoint: str | None, now: float) -> Outcome:
        """Changes of unknown tables were lost: ask again for all tables of one endpoint, or of every one."""
        for subscription in self._desired:
            if endpoint is None or endpoint_of(subscription.name) == endpoint:
                self.storage.lost.add(split_topic(subscription.name))
        return self._heal(now)

    def _heal(self, now: float) -> Outcome:
        """Ask for new images of tables that a change did not fit: something was lost, or the server erred."""
        healed: dict[Subscription, None] = {}
        for table, symbol in list(self.storage.lost):
            subscriptions = [subscription for subscription in self._desired if covers(subscription.name, table, symbol)]
            due = [
                subscription
                for subscription in subscriptions
                if now >= self._healed_at.get(subscription.name, -HEAL_INTERVAL) + HEAL_INTERVAL
            ]
            if len(due) == len(subscriptions):
                self.storage.lost.discard((table, symbol))
            for subscription in due:
                self._healed_at[subscription.name] = now
                self._doubt(subscription.name)
                healed[subscription] = None
        return _asked_anew(healed, "changes were lost")

    def _doubt(self, topic: str) -> None:
        """Take in no news of a topic until its next image; tables that only grow need none to go on growing."""
        table, symbol = split_topic(topic)
        if self.storage.keys.get(table):
            self.storage.forget(table, symbol)


def _asked_anew(subscriptions: Iterable[Subscription], why: str = "") -> Outcome:
    wanted = tuple(subscriptions)
    return Outcome(commands=(Resubscribe(wanted, why),)) if wanted else NOTHING
