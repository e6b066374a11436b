"""The dispatch thread: the only one that runs user code.

It takes batches from the inbox, has the dialect decode them, keeps the last value of each name, and calls the handlers
in the order of arrival.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from finx_sync.dispatch.handlers import Handler, Handlers, Route
from finx_sync.dispatch.inbox import Batch, Connection, Inbox
from finx_sync.dispatch.ledger import Ledger
from finx_sync.errors import FinxSyncError, HandlerRaisedError, InternalError
from finx_sync.messages import Message

__all__ = ["Fate", "LastValues", "Worker"]

logger = logging.getLogger("finx_sync")

SLICE: Final = 128
"""Messages between two entries in the books."""

Fate = Literal["unclaimed", "unknown", "control", "unreadable"]
"""What became of a decoded thing that is no user message."""

LastValues = dict[type[Message], dict[str, Message]]
"""The newest message by type and name. Written by the dispatch thread only; the types in it are the venue's own."""

_set_received_at: Final = Message.__dict__["received_at"].__set__
"""Past `frozen`: here is where a decoded message is completed, before anyone sees it."""
_NOBODY: Final = Route()


class Worker:
    """Runs the dispatch thread.

    Args:
        inbox: where batches come from.
        ledger: the books.
        handlers: who wants what.
        decode: payloads to messages, one for each, in order; never raises.
        on_other: told, on the dispatch thread, of every decoded thing that is no user message, with its
            connection; returns what became of it.
        latest: the table of last values to keep; its types are the user messages.
        on_end: the thread's last act; given the error if it crashed.
        name: the thread's name.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        ledger: Ledger,
        handlers: Handlers,
        decode: Callable[[Sequence[memoryview]], list[Any]],
        on_other: Callable[[Any, Connection], Fate],
        latest: LastValues,
        on_end: Callable[[FinxSyncError | None], None],
        name: str,
    ) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._handlers = handlers
        self._decode = decode
        self._on_other = on_other
        self._latest = latest
        self._on_end = on_end
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._thread.ident is not None

    def stop(self, *, drain: bool) -> None:
        """Make the thread end: after all that waits (`drain`), or after the handler that runs. Returns at once."""
        if not drain:
            self._stopping = True
            self._handlers.touch()
        self._inbox.close()

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; returns whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def on_this_thread(self) -> bool:
        """Whether the caller is the dispatch thread."""
        return threading.get_ident() == self._thread.ident

    def running(self) -> str | None:
        """The user's function that the dispatch thread is in now, for whoever waits for it in vain."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        inner: str | None = None
        while frame is not None:
            if frame.f_code.co_filename == __file__:
                return inner
            inner, frame = frame.f_code.co_name, frame.f_back
        return None

    def tell(self, topic: str, value: object) -> bool:
        """Call the handlers of an event. On the dispatch thread. Returns whether there was one."""
        handlers = self._handlers.topics.get(topic, ())
        for handler in handlers:
            self._call(handler, value)
        return bool(handlers)

    def derive(self, message: Message) -> None:
        """Hand on a message made of others, such as a table's row. On the dispatch thread; it is not in the books."""
        route = self._handlers.routes.get(type(message), _NOBODY)
        name = message.name_of(message)
        table = self._latest.get(type(message))
        if table is not None:
            table[name] = message
        for handler in route.by_name.get(name, route.everyone):
            self._call(handler, message)

    def _run(self) -> None:
        crash: FinxSyncError | None = None
        try:
            while (item := self._inbox.get()) is not None:
                if isinstance(item, Batch):
                    self._dispatch(item)
                else:
                    item()
        except BaseException as error:  # not the user's code, which is guarded: ours. Never silent.
            logger.critical("the dispatch thread has crashed", exc_info=error)
            crash = InternalError(f"the dispatch thread has crashed: {type(error).__name__}; please report it")
            crash.__cause__ = error
        for event in self._inbox.throw_away():
            event()
        self._on_end(crash)

    def _dispatch(self, batch: Batch) -> None:
        payloads = batch.payloads
        if self._stopping:
            self._inbox.take(len(payloads))
            self._ledger.settle(dropped=len(payloads))
            return
        for begin in range(0, len(payloads), SLICE):
            part = payloads[begin : begin + SLICE]
            self._inbox.take(len(part))
            messages = self._decode(part)  # not the whole batch at once: these stay in the processor's cache
            done = 0
            while done < len(part) and not self._stopping:
                done += self._dispatch_run(messages[done:], part[done:], batch)
            self._ledger.settle(dropped=len(part) - done)

    def _dispatch_run(self, messages: list[Any], payloads: list[memoryview], batch: Batch) -> int:
        """Dispatch messages in order, until the handlers change or the stream stops; returns how many."""
        kind, handlers = type(messages[0]), self._handlers
        route = handlers.routes.get(kind, _NOBODY)
        if kind not in self._latest or route.by_name or len(route.everyone) != 1 or "message" in handlers.topics:
            return self._call_each(messages, payloads, batch)
        routes = handlers.routes
        done = self._call_one(messages, kind, route.everyone[0], batch.received_at)
        if done < len(messages) and handlers.routes is routes:  # another type follows
            done += self._call_each(messages[done:], payloads[done:], batch)
        return done

    def _call_one(self, messages: list[Any], kind: type[Message], handler: Handler, received_at: float) -> int:
        """The hot path: one handler for all messages of a type. Nothing here that need not be."""
        handlers, table, name_of, function = self._handlers, self._latest[kind], kind.name_of, handler.function
        routes = handlers.routes
        if self._stopping:  # looked at after the routes, which a stop replaces after it has set this
            return 0
        done = 0
        for message in messages:
            if type(message) is not kind:
                break
            _set_received_at(message, received_at)
            table[name_of(message)] = message
            done += 1
            try:
                function(message)
            except BaseException as error:  # noqa: BLE001  # whatever user code raises, the stream goes on
                self._failed(handler, message, error)
            if handlers.routes is not routes:  # a handler came or went, or the stream was stopped
                break
        handler.calls += done
        self._ledger.settle(handled=done)
        return done

    def _call_each(self, messages: list[Any], payloads: list[memoryview], batch: Batch) -> int:
        """The same for any mixture: several types or handlers, handlers by name, texts, what is no user message."""
        handlers, latest, received_at = self._handlers, self._latest, batch.received_at
        routes, texts = handlers.routes, "message" in handlers.topics
        if self._stopping:  # as above
            return 0
        handled = unclaimed = done = 0
        kind: type | None = None
        for message in messages:
            heard = texts and self.tell("message", str(payloads[done], "utf-8"))
            done += 1
            if type(message) is not kind:
                kind = type(message)
                table = latest.get(kind)
                if table is not None:
                    route = routes.get(kind, _NOBODY)
                    everyone, by_name, name_of = route.everyone, route.by_name, kind.name_of
            if table is None:
                self._book(self._on_other(message, batch.connection), heard)
                continue
            _set_received_at(message, received_at)
            name = name_of(message)
            table[name] = message
            wanted = by_name.get(name, everyone) if by_name else everyone
            if not (wanted or heard):
                unclaimed += 1
                continue
            handled += 1
            for handler in wanted:
                handler.calls += 1
                try:
                    handler.function(message)
                except BaseException as error:  # noqa: BLE001  # as above
                    self._failed(handler, message, error)
            if handlers.routes is not routes:
                break
        self._ledger.settle(handled=handled, unclaimed=unclaimed)
        return done

    def _book(self, fate: Fate, heard: bool) -> None:
        """Enter a message that is no user message; `heard` tells that `on_message` handlers had its text."""
        if fate in ("control", "unreadable"):
            self._ledger.settle(**{fate: 1})
        else:
            claimed = "handled" if heard else "unclaimed"
            self._ledger.settle(**{claimed: 1, "unknown": int(fate == "unknown")})

    def _call(self, handler: Handler, value: object) -> None:
        handler.calls += 1
        try:
            handler.function(value)
        except BaseException as error:  # noqa: BLE001  # whatever user code raises, the stream goes on
            self._failed(handler, value, error)

    def _failed(self, handler: Handler, value: object, error: BaseException) -> None:
        handler.failures += 1
        if handler.failures == 1:
            logger.error("the handler %s raised; the stream goes on", handler.label, exc_info=error)
        elif str(handler.failures).strip("0") == "1":  # 10, 100, 1000: a flood of tracebacks helps nobody
            logger.error("the handler %s has raised %d times, now: %r", handler.label, handler.failures, error)
        if handler.topic != "error":  # a raising error handler is logged and counted, not told to itself
            failure = HandlerRaisedError(handler.label, handler.function, value)
            failure.__cause__ = error
            self.tell("error", failure)
