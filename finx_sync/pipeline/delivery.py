"""Delivers decoded messages to the user's handlers, and counts them. Runs on the dispatch thread only."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol, cast

from finx_sync.errors import HandlerRaisedError, UnreadableMessageError
from finx_sync.events import Connection
from finx_sync.messages import Message
from finx_sync.pipeline.commands import CommandSink, FailStream
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.handlers import Handler, Handlers, Route
from finx_sync.pipeline.latest import WEIGH_AFTER, LastValues, set_field
from finx_sync.pipeline.output import NOTICES, Outlet, Topic
from finx_sync.pipeline.overlap import Verdict
from finx_sync.pipeline.venue import VenueDriver
from finx_sync.reporting import is_configured
from finx_sync.venues.base import Outcome, Subscription

__all__ = ["Delivery", "Disposition", "MessageFilter"]

logger = logging.getLogger("finx_sync")

Disposition = Literal["unclaimed", "unknown", "control", "unreadable"]
"""The outcome of a decoded message that is not for the user."""

EXCERPT: Final = 1024
"""The number of bytes of a payload that an error shows at most."""

_NOBODY: Final = Route()


class MessageFilter(Protocol):
    """Sees user messages before the handlers do, and may hold or drop them. Only set while it is needed."""

    @property
    def checks(self) -> bool:
        """Whether `check` must be called for each message; `prepare` is always called."""

    def prepare(self, messages: Sequence[Any], received_at: float, connection: Connection) -> None:
        """Take note of the messages that come next."""

    def check(self, message: Message, payload: bytes, received_at: float, connection: Connection) -> Verdict:
        """Whether `message` may pass."""


class ControlMessages(Protocol):
    """Acts on messages that are not for the user."""

    def take(self, message: Any, connection: Connection) -> Disposition:
        """Act on a message. Returns its disposition."""


class Delivery:
    """Calls handlers.

    Args:
        handlers: the registered handlers.
        counter: counts the disposition of each message.
        latest: the tables of last values to update; their types are the user's message types.
        venue: turns messages of some types into what handlers get.
        commands: ends the stream when a handler raises; None if the stream goes on then.
        outlet: where an output is attached that gets what is delivered; None for nowhere.

    Attributes:
        controls: acts on messages that are not for the user. Set before the first message.
        filter: sees every message first; None, the usual case, costs nothing.
        queue: takes the messages that the filter releases while earlier messages are still waiting; usually None.
        now: the time of the event being handled, monotonic seconds. It is the same in a replay.
        stopping: set by `stop` on any thread; delivery ends after the running handler.
    """

    controls: ControlMessages

    def __init__(
        self,
        handlers: Handlers,
        counter: MessageCounter,
        latest: LastValues,
        venue: VenueDriver,
        commands: CommandSink | None = None,
        *,
        outlet: Outlet | None = None,
    ) -> None:
        self._handlers = handlers
        self._counter = counter
        self._latest = latest
        self._venue = venue
        self._expanded = venue.kinds
        # The types that go to handlers unchanged.
        self._direct = {kind: table for kind, table in latest.items() if kind not in self._expanded}
        self._commands = commands
        self._outlet = Outlet() if outlet is None else outlet
        self.filter: MessageFilter | None = None
        self.queue: Callable[[Message, bytes, float], object] | None = None
        self.now = 0.0
        self.stopping = False
        self._defects = 0
        self._unweighed = 0  # bytes delivered since the size of the last values was checked

    def stop(self) -> None:
        """End after the running handler. Any thread."""
        # Flag first, then new routes. The delivery loops read them in the opposite order: a loop either sees the flag
        # before it begins, or later finds the routes replaced.
        self.stopping = True
        self._handlers.touch()

    def run(self, messages: list[Any], payloads: Sequence[bytes], received_at: float, connection: Connection) -> int:
        """Deliver messages in order until the handlers change or the stream stops. Returns how many were delivered."""
        message_filter, output, done = self.filter, self._outlet.output, 0
        if message_filter is not None:
            self.prepare(message_filter, messages, received_at, connection)
        if (message_filter is None or self._checking() is None) and "message" not in self._handlers.topics:
            routes = self._handlers.routes
            if type(messages[0]) in self._expanded:
                done = self._call_expanded(messages, payloads, received_at)
            elif output is None:
                done = self._call_one(messages, payloads, received_at)
            else:
                done = (self._call_one if routes else self._call_nobody)(messages, payloads, received_at)
                if done:
                    output.take(messages[:done], payloads[:done], received_at)
            if done == len(messages) or self._handlers.routes is not routes:
                return done
        rest = (messages[done:], payloads[done:]) if done else (messages, payloads)
        return done + self._call_each(*rest, received_at, connection)

    def prepare(
        self, message_filter: MessageFilter, messages: Sequence[Any], received_at: float, connection: Connection
    ) -> None:
        """Announce messages to the filter. Never raises, whatever the messages contain."""
        try:
            message_filter.prepare(messages, received_at, connection)
        except Exception as error:  # noqa: BLE001  # the messages must still be delivered
            self._defect("could not be checked for gaps", error)

    def weigh(self, size: int) -> None:
        """Limit the size of the last values. Called with the bytes of each batch; checks only every `WEIGH_AFTER`."""
        self._unweighed += size
        if self._unweighed > WEIGH_AFTER:
            self._unweighed = 0
            for table in self._latest.values():
                table.forget_heavy()

    def _checking(self) -> MessageFilter | None:
        """The filter, if it has to check every message."""
        message_filter = self.filter
        return message_filter if message_filter is not None and message_filter.checks else None

    def run_timed(self, messages: Sequence[Any], payloads: Sequence[bytes], times: Sequence[float]) -> int:
        """Like `run`, for messages of several batches, each with its own time. For replays without pauses.

        Ends when the handlers change, and before the first message that needs more than one call of one handler: there
        is a filter, an output or an `on_message` handler, it is not for the user, or not exactly one handler wants it.

        Returns:
            How many messages were delivered.
        """
        handlers, latest = self._handlers, self._direct
        routes = handlers.routes
        if self.stopping or self.filter is not None or self._outlet.output or "message" in handlers.topics:
            return 0
        simple = {
            kind: (latest[kind].entries, kind.name_of, route.only.function, route.only)
            for kind, route in routes.items()
            if kind in latest and route.only is not None
        }
        for kind in simple:
            latest[kind].forget_surplus()
        done = 0
        for message, payload, received_at in zip(messages, payloads, times, strict=True):
            found = simple.get(type(message))
            if found is None:
                break
            table, name_of, function, handler = found
            set_field(message, "received_at", received_at)
            table[name_of(message)] = (payload, received_at)
            done += 1
            handler.calls += 1
            try:
                function(message)
            except BaseException as error:  # noqa: BLE001  # as in `_call_one`
                self._failed(handler, message, error)
            if handlers.routes is not routes:
                break
        self._counter.handle(done)
        return done

    def deliver(self, message: Message, payload: bytes, received_at: float) -> None:
        """Deliver a message that the filter held, after all messages that are already waiting."""
        if self.stopping:
            self._counter.settle(dropped=1)
        elif self.queue is not None:
            self.queue(message, payload, received_at)
        else:
            self.hand_on(message, payload, received_at)

    def hand_on(self, message: Message, payload: bytes, received_at: float) -> None:
        """Deliver a message that is in flight and that the filter has passed."""
        self._counter.settle(**{self._deliver(message, payload, received_at): 1})

    def duplicates(self, count: int) -> None:
        """Count `count` held messages as duplicates: another connection has delivered them, or will."""
        self._counter.settle(duplicate=count)

    def drop(self, count: int) -> None:
        """Count `count` held messages as dropped."""
        self._counter.settle(dropped=count)

    def remember(self, message: Message, payload: bytes, received_at: float) -> None:
        """Keep a message as the last one of its name, unless there is a newer one. Handlers do not get it.

        Types that the venue's state turns into something else are left out: their last values follow from all messages.
        """
        table = self._direct.get(type(message))
        if table is None:
            return
        name = message.name_of(message)
        if received_at > table.received_at(name):
            table.entries[name] = (payload, received_at)
            table.forget_surplus()

    def deliver_uncounted(self, message: Message) -> None:
        """Deliver a backfilled message, which is not counted as received."""
        self._hand_on_part(type(message), message)

    def notify(self, topic: str, value: object) -> bool:
        """Call the handlers of an event. Returns whether there were any."""
        if topic in NOTICES and (output := self._outlet.output) is not None:
            output.notice(cast(Topic, topic), value)
        handlers = self._handlers.topics.get(topic, ())
        for handler in handlers:
            self._call(handler, value)
        return bool(handlers)

    def subscription(self, topic: Literal["added", "removed"], subscription: Subscription) -> None:
        """Tell the output of a subscription that is wanted from now on, or no longer."""
        if (output := self._outlet.output) is not None:
            output.notice(topic, subscription)

    def _call_one(self, messages: list[Any], payloads: Sequence[bytes], received_at: float) -> int:
        """The hot path: deliver messages whose type has exactly one handler. Kept as short as possible.

        Ends before the first message of another kind. Returns how many messages were delivered.
        """
        handlers, latest = self._handlers, self._direct
        routes = handlers.routes
        if self.stopping:  # read after the routes; see `stop`
            return 0
        kind: type[Message] | None = None
        handler: Handler | None = None
        done = begin = 0
        defect: Exception | None = None
        begun = time.perf_counter()
        try:
            for message, payload in zip(messages, payloads, strict=True):
                if type(message) is not kind:
                    if handler is not None:
                        handler.calls += done - begin
                        handler, begin = None, done
                    kind = type(message)
                    last, handler = latest.get(kind), routes.get(kind, _NOBODY).only
                    if last is None or handler is None:
                        break
                    last.forget_surplus()
                    table, name_of, function = last.entries, kind.name_of, handler.function
                set_field(message, "received_at", received_at)
                table[name_of(message)] = (payload, received_at)  # not the message: see `LastTable`
                try:
                    function(message)
                except BaseException as error:  # noqa: BLE001  # user code may raise anything; the stream goes on
                    assert handler is not None
                    self._failed(handler, message, error)
                done += 1
                if handlers.routes is not routes:  # a handler was added or removed, or the stream was stopped
                    break
        except Exception as error:  # noqa: BLE001  # not the user's: see `spoiled`
            defect = error
        if handler is not None:
            handler.calls += done - begin
            if done == 1:  # enough runs have one message: see `Pipeline._process_slice`
                handler.times.append(time.perf_counter() - begun)
        self._counter.handle(done)
        if defect is not None:
            self.spoiled(payloads[done], defect)
            done += 1
        return done

    def _call_nobody(self, messages: list[Any], payloads: Sequence[bytes], received_at: float) -> int:
        """Like `_call_one`, when no message type has a handler, as in a process that only relays."""
        latest = self._direct
        if self.stopping:
            return 0
        kind: type[Message] | None = None
        done = 0
        defect: Exception | None = None
        try:
            for message, payload in zip(messages, payloads, strict=True):
                if type(message) is not kind:
                    kind = type(message)
                    last = latest.get(kind)
                    if last is None:
                        break
                    last.forget_surplus()
                    table, name_of = last.entries, kind.name_of
                table[name_of(message)] = (payload, received_at)
                done += 1
        except Exception as error:  # noqa: BLE001  # not the user's: see `spoiled`
            defect = error
        self._counter.settle(unclaimed=done)
        if defect is not None:
            self.spoiled(payloads[done], defect)
            done += 1
        return done

    def _call_each(  # noqa: PLR0912, PLR0915  # on the path of every message, saving a call matters more than a short function
        self, messages: list[Any], payloads: Sequence[bytes], received_at: float, connection: Connection
    ) -> int:
        """Deliver any messages: for several handlers, handlers by name, `on_message`, or not for the user at all."""
        handlers, latest, message_filter = self._handlers, self._latest, self._checking()
        output = self._outlet.output
        routes, texts = handlers.routes, "message" in handlers.topics
        if self.stopping:  # read after the routes; see `stop`
            return 0
        counts = {"handled": 0, "unclaimed": 0, "duplicate": 0}
        kind: type | None = None
        done = 0
        timed = len(messages) == 1
        defect: Exception | None = None
        try:
            for message, payload in zip(messages, payloads, strict=True):
                if type(message) is not kind:
                    kind = type(message)
                    table = latest.get(kind)
                    if table is not None:
                        expands = kind in self._expanded
                        route = _NOBODY if expands else routes.get(kind, _NOBODY)
                        everyone, by_name, name_of = route.everyone, route.by_name, kind.name_of
                        table.forget_surplus()
                        entries = table.entries
                done += 1
                if table is None:
                    self.other(message, payload, connection)
                    message_filter = self._checking()  # a control message may have set or removed it
                    if handlers.routes is not routes:
                        break
                    continue
                name = name_of(message)
                if message_filter is not None:
                    verdict = message_filter.check(message, payload, received_at, connection)
                    if verdict is not Verdict.PASS:
                        counts["duplicate"] += verdict is Verdict.DUPLICATE
                        continue
                if output is not None and not expands:
                    output.add(message, payload, received_at)
                heard = texts and self.notify("message", str(payload, "utf-8"))
                set_field(message, "received_at", received_at)
                entries[name] = (payload, received_at)
                wanted = by_name.get(name, everyone) if by_name else everyone
                fate = "handled" if wanted or heard else "unclaimed"
                counts[self._expand(message, payload, entries, name, heard) if expands else fate] += 1
                for handler in wanted:
                    if timed:
                        self._call(handler, message)
                        continue
                    handler.calls += 1
                    try:
                        handler.function(message)
                    except BaseException as error:  # noqa: BLE001  # as in `_call_one`
                        self._failed(handler, message, error)
                if handlers.routes is not routes:
                    break
        except Exception as error:  # noqa: BLE001  # not the user's: see `spoiled`
            defect = error
        self._counter.settle(**counts)
        if defect is not None:
            self.spoiled(payloads[done - 1], defect)
        return done

    def _deliver(self, message: Message, payload: bytes, received_at: float) -> str:
        """Deliver one message to its handlers. Returns its disposition."""
        heard = "message" in self._handlers.topics and self.notify("message", str(payload, "utf-8"))
        set_field(message, "received_at", received_at)
        name = message.name_of(message)
        table = self._latest[type(message)]
        table.entries[name] = (payload, received_at)
        table.forget_surplus()
        if type(message) in self._expanded:
            return self._expand(message, payload, table.entries, name, heard)
        if (output := self._outlet.output) is not None:
            output.add(message, payload, received_at)
        route = self._handlers.routes.get(type(message), _NOBODY)
        wanted = route.by_name.get(name, route.everyone)
        for handler in wanted:
            self._call(handler, message)
        return "handled" if wanted or heard else "unclaimed"

    def _call_expanded(self, messages: list[Any], payloads: Sequence[bytes], received_at: float) -> int:
        """Like `_call_one`, for message types that the venue's state turns into something else for handlers."""
        handlers, latest, expanded, expand = self._handlers, self._latest, self._expanded, self._venue.expand
        output, routes = self._outlet.output, handlers.routes
        if self.stopping:  # read after the routes; see `stop`
            return 0
        handled = unclaimed = duplicate = 0
        kind: type | None = None
        defect: Exception | None = None
        try:
            for message, payload in zip(messages, payloads, strict=True):
                if type(message) is not kind:
                    kind = type(message)
                    if kind not in expanded:
                        break
                    last = latest[kind]
                    last.forget_surplus()
                    entries, name_of = last.entries, kind.name_of
                set_field(message, "received_at", received_at)
                name = name_of(message)
                made = expand(message)
                entries[name] = entry = (payload, received_at)
                for further in made.names:
                    entries[further] = entry
                if output is not None and not made.is_duplicate:
                    output.add(message, payload, received_at)
                if made.messages and self._hand_on_all(made):
                    handled += 1
                elif made.is_duplicate:
                    duplicate += 1
                else:
                    unclaimed += 1
                if handlers.routes is not routes:
                    break
        except Exception as error:  # noqa: BLE001  # not the user's: see `spoiled`
            defect = error
        self._counter.settle(handled=handled, unclaimed=unclaimed, duplicate=duplicate)
        done = handled + unclaimed + duplicate
        if defect is not None:
            self.spoiled(payloads[done], defect)
            done += 1
        return done

    def _expand(self, message: Message, payload: bytes, entries: dict[str, Any], name: str, heard: bool) -> str:
        """Deliver what the venue's state makes of a message. Returns the message's disposition.

        Args:
            message: the message.
            payload: what it was decoded from.
            entries: the last values of its type, which contain it under `name`.
            name: its name.
            heard: whether `on_message` handlers got its text.
        """
        made = self._venue.expand(message)
        for further in made.names:
            entries[further] = entries[name]
        if not made.is_duplicate and (output := self._outlet.output) is not None:
            output.add(message, payload, message.received_at)
        claimed = self._hand_on_all(made) or heard
        return "handled" if claimed else "duplicate" if made.is_duplicate else "unclaimed"

    def _hand_on_all(self, made: Outcome) -> bool:
        """Deliver the messages that the venue's state made of one. Returns whether any of them had a handler.

        One payload may become a hundred thousand messages, so `stopping` is checked between them.
        """
        claimed, notify = False, self.notify
        for number, (topic, part) in enumerate(made.messages):
            if self.stopping:
                self._venue.withheld([left for _, left in made.messages[number:]])
                break
            claimed = (notify(topic, part) if isinstance(topic, str) else self._hand_on_part(topic, part)) or claimed
        return claimed

    def _hand_on_part(self, kind: type[Message], part: Message) -> bool:
        """Deliver a message that has no payload of its own. Returns whether it had a handler."""
        name = part.name_of(part)
        table = self._latest.get(kind)
        if table is not None:
            table[name] = part
            table.forget_surplus()
        route = self._handlers.routes.get(kind, _NOBODY)
        wanted = route.by_name.get(name, route.everyone)
        for handler in wanted:
            self._call(handler, part)
        return bool(wanted)

    def other(self, message: Any, payload: bytes, connection: Connection) -> None:
        """Act on a message that is not for the user, and count it. Never raises, whatever the message is."""
        heard = "message" in self._handlers.topics and self.notify("message", str(payload, "utf-8"))
        try:
            fate = self.controls.take(message, connection)
        except Exception as error:  # noqa: BLE001  # see `spoiled`
            self.spoiled(payload, error)
        else:
            self._count(fate, heard)

    def spoiled(self, payload: bytes, error: Exception) -> None:
        """Report a message as unreadable, and count it, after the library itself raised while processing it.

        No such message is known. If one exists, the stream goes on without it.
        """
        self._defect("could not be processed", error)
        failure = UnreadableMessageError(
            f"it could not be processed ({type(error).__name__})", str(payload[:EXCERPT], "utf-8", "replace")
        )
        failure.__cause__ = error
        self.notify("error", failure)
        self._counter.settle(unreadable=1)

    def _defect(self, what: str, error: Exception) -> None:
        self._defects += 1
        if str(self._defects).strip("0") == "1":  # 1, 10, 100 and so on
            text = "a message %s, which is a defect of finx_sync (%d so far); please report it"
            logger.error(text, what, self._defects, exc_info=error)

    def _count(self, fate: Disposition, heard: bool) -> None:
        """Count a message that is not for the user; `heard`: whether `on_message` handlers got its text."""
        if fate in ("control", "unreadable"):
            self._counter.settle(**{fate: 1})
        else:
            claimed = "handled" if heard else "unclaimed"
            self._counter.settle(**{claimed: 1, "unknown": int(fate == "unknown")})

    def _call(self, handler: Handler, value: object) -> None:
        handler.calls += 1
        begun = time.perf_counter()
        try:
            handler.function(value)
        except BaseException as error:  # noqa: BLE001  # as in `_call_one`
            self._failed(handler, value, error)
        handler.times.append(time.perf_counter() - begun)

    def _failed(self, handler: Handler, value: object, error: BaseException) -> None:
        handler.failures += 1
        goes_on = self._commands is None
        failure = HandlerRaisedError(handler.label, handler.function, value, stream_goes_on=goes_on)
        failure.__cause__ = error
        # An exception of an error handler is logged and counted, but not passed to the error handlers again.
        heard = handler.topic != "error" and self.notify("error", failure)
        if self._commands is not None:
            self.stop()
            self._commands.execute(FailStream(failure))
        if heard and not is_configured():  # `on_error` has it; without a configured log, do not repeat it on stderr
            return
        if handler.failures == 1:
            what = "goes on" if goes_on else "has ended"
            logger.error("the handler %s raised; the stream %s", handler.label, what, exc_info=error)
        elif str(handler.failures).strip("0") == "1":  # 10, 100, 1000: many tracebacks would not help
            logger.error("the handler %s has raised %d times, now: %r", handler.label, handler.failures, error)
