"""The dispatch thread: the only one that runs user code.

It takes batches from the inbox, has the dialect decode them and the delivery hand them on, in the order of arrival.
When the handlers are too slow for that, it catches up by the overflow rule.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from finx_sync.errors import FinxSyncError, InternalError
from finx_sync.messages import Message
from finx_sync.pipeline.catchup import Backlog, Conflated, Waiting
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.delivery import Delivery, Judgement
from finx_sync.pipeline.delivery import __file__ as delivery_file
from finx_sync.pipeline.handlers import Handlers
from finx_sync.pipeline.queue import Batch, Dropped, Inbox, Item, Ordered

__all__ = ["Worker"]

logger = logging.getLogger("finx_sync")

SLICE: Final = 128
"""Messages between two entries in the books, at most."""
MAX_BACKLOG_BYTES: Final = 256 * 1024 * 1024
"""Bytes of messages that are taken in while catching up; the others wait where they are."""
SLOW_SLICE: Final = 0.02
"""Seconds; slices that take longer get shorter, so that slow handlers are noticed soon."""

SAMPLE_INTERVAL: Final = 0.1
"""Seconds between two messages that are sampled, at least."""

OnMissed = Callable[[Dropped | Conflated], object]
OURS: Final = frozenset({__file__, delivery_file})
"""Where the dispatch thread is when no user code runs."""


class Worker:
    """Runs the dispatch thread.

    Args:
        inbox: where batches come from.
        ledger: the books.
        handlers: who wants what.
        delivery: calls them.
        decode: payloads to messages, one for each, in order; never raises.
        message_types: what of these is for the user.
        max_lag: seconds that a message may wait before old states make way for new ones; None for ever.
        backlog_limit: messages that may wait while catching up.
        on_missed: told, before the first message after them, of messages that were dropped or replaced.
        sample: given a message now and then, as decoded, with when it arrived (monotonic) and the name of its line.
        on_end: the thread's last act; given the error if it crashed.
        name: the thread's name.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        counter: MessageCounter,
        handlers: Handlers,
        delivery: Delivery,
        decode: Callable[[Sequence[bytes]], list[Any]],
        message_types: tuple[type[Message], ...],
        max_lag: float | None,
        backlog_limit: int,
        on_missed: OnMissed,
        sample: Callable[[Any, float, str], object],
        on_end: Callable[[FinxSyncError | None], None],
        name: str,
    ) -> None:
        self._inbox = inbox
        self._counter = counter
        self._handlers = handlers
        self._delivery = delivery
        self._decode = decode
        self._message_types = frozenset(message_types)
        self._max_lag = max_lag
        self._backlog_limit = backlog_limit
        self._on_missed = on_missed
        self._sample = sample
        self._sample_due = 0.0  # monotonic
        self._on_end = on_end
        self._abandoned = False
        self._slice = 1
        self._arrived: float | None = None  # monotonic, of what is being handed on; read by the watch
        self._busy_since: float | None = None  # likewise: since when the dispatch thread has not come up for air
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
            self._delivery.stopping = True
            self._handlers.touch()
        self._inbox.close()

    def forked(self) -> None:
        """In the child of a fork, which may run on in a handler: let that one return, and end."""
        self._counter.forked()
        self._inbox.forked()
        self._handlers.forked()
        self._delivery.stopping = self._abandoned = True

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; returns whether it came."""
        if self.started:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def on_this_thread(self) -> bool:
        """Whether the caller is the dispatch thread."""
        # Alive, since the system gives the number of a thread that has ended to another one.
        return threading.get_ident() == self._thread.ident and self._thread.is_alive()

    def running(self) -> str | None:
        """The user's function that the dispatch thread is in now, for whoever waits for it in vain."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        inner: str | None = None
        while frame is not None:
            if frame.f_code.co_filename in OURS:
                return inner
            inner, frame = frame.f_code.co_name, frame.f_back
        return None

    def lag(self, now: float) -> float:
        """Seconds since the message arrived that is being handed on now; 0 when none is. Any thread."""
        arrived = self._arrived
        return 0.0 if arrived is None else max(0.0, now - arrived)

    def busy_for(self, now: float) -> float:
        """Seconds that the dispatch thread has been in one handler, or a few fast ones; 0 when idle. Any thread."""
        since = self._busy_since
        return 0.0 if since is None else max(0.0, now - since)

    def look_up(self, now: float) -> None:
        """Make the dispatch thread look up after the handler that runs, if it has fallen behind. Any thread."""
        if self._max_lag is not None and self.lag(now) > self._max_lag:
            self._handlers.touch()

    def _run(self) -> None:
        crash: FinxSyncError | None = None
        try:
            while (item := self._inbox.get()) is not None:
                self._take(item)
                if self._abandoned:
                    return
        except BaseException as error:  # noqa: BLE001  # not the user's code, which is guarded: ours. Never silent.
            crash = InternalError(f"the dispatch thread has crashed: {type(error).__name__}; please report it")
            crash.__cause__ = error
        for event in self._inbox.throw_away():
            event()
        self._on_end(crash)
        if crash is not None:
            logger.critical("the dispatch thread has crashed", exc_info=crash.__cause__)

    def _take(self, item: Item) -> None:
        if isinstance(item, Batch):
            self._arrived = self._delivery.now = item.arrived
            self._dispatch(item)
            self._delivery.account(item.size)
            self._arrived = self._busy_since = None
        elif isinstance(item, Dropped):
            self._on_missed(item)
        elif isinstance(item, Ordered):
            item.event()
        else:
            item()

    def _dispatch(self, batch: Batch) -> None:
        payloads, position = batch.payloads, 0
        while position < len(payloads):
            if self._delivery.stopping:
                self._counter.drop_waiting(len(payloads) - position)
                return
            begun = self._busy_since = time.monotonic()
            if self._is_behind(batch, len(payloads) - position, begun):
                self._catch_up(Batch(payloads[position:], batch.received_at, batch.arrived, batch.connection), [], [])
                return
            # A gate is told of what came together as one, however fast this machine is: so a replay judges it alike.
            size = self._slice if self._delivery.gate is None else len(payloads)
            part = payloads[position : position + size] if len(payloads) > 1 else payloads
            position += len(part)
            self._inbox.take(len(part))
            messages = self._decode(part)  # not the whole batch at once: these stay in the processor's cache
            if begun >= self._sample_due:
                self._sample_due = begun + SAMPLE_INTERVAL
                self._sample(messages[-1], batch.arrived, batch.connection.line)
            done = self._dispatch_slice(messages, part, batch)
            if done < len(part):  # it broke off, since messages have waited for too long
                rest = Batch(payloads[position:], batch.received_at, batch.arrived, batch.connection)
                self._catch_up(rest, messages[done:], part[done:])
                return
            if time.monotonic() - begun > SLOW_SLICE:
                self._slice = max(1, self._slice // 4)
            elif self._slice < SLICE:
                self._slice = min(SLICE, self._slice * 2)

    def _dispatch_slice(self, messages: list[Any], part: list[bytes], batch: Batch) -> int:
        """Hand on; returns how many, fewer than all only where it is time to catch up."""
        delivery, received_at, connection = self._delivery, batch.received_at, batch.connection
        done = 0
        if len(part) > 1 and delivery.gate is None:  # one alone first: its time is taken
            done = delivery.run(messages[:1], part[:1], received_at, connection)
        while done < len(part):
            rest = (messages[done:], part[done:]) if done else (messages, part)
            done += delivery.run(*rest, received_at, connection)
            if done == len(part):
                break
            if delivery.stopping:
                self._counter.settle(dropped=len(part) - done)
                return len(part)
            if self._is_behind(batch, len(part) - done, time.monotonic()):
                break
        return done

    # Catching up

    def _is_behind(self, batch: Batch, left: int, now: float) -> bool:
        if self._max_lag is None:
            return False
        if self._max_lag > 0:
            return now - batch.arrived > self._max_lag
        return self._counter.waiting > 1 or left > 1

    def _catch_up(self, batch: Batch, messages: list[Any], payloads: list[bytes]) -> None:
        """Take in all that waits, keep the newest states and every event, hand on the oldest; until nothing is left.

        Args:
            batch: what has not been decoded yet.
            messages: of the same batch, before that: decoded already, and in hand.
            payloads: theirs.
        """
        backlog = Backlog()
        self._delivery.queue = partial(self._queue, backlog)
        self._add(messages, payloads, batch, backlog)
        self._absorb(batch, backlog)
        while len(backlog) and not self._delivery.stopping:
            self._absorb_waiting(backlog)
            if self._delivery.stopping:  # meanwhile: nobody is called any more
                break
            if backlog.conflated is not None:
                self._on_missed(backlog.conflated)
                backlog.conflated = None
            self._deliver_oldest(backlog)
        self._delivery.queue = None
        self._counter.settle(dropped=backlog.messages())
        for event in backlog.events():  # the stream is stopping: no message follows that they could be early for
            event.event()

    def _absorb_waiting(self, backlog: Backlog) -> None:
        """Take in what waits now. What comes meanwhile has to wait for the oldest message to be handed on."""
        left = self._counter.waiting
        while len(backlog) < self._backlog_limit and backlog.size < MAX_BACKLOG_BYTES and left >= 0:
            if self._delivery.stopping or (item := self._inbox.get_waiting()) is None:
                return
            if isinstance(item, Batch):
                left -= len(item.payloads)
                self._absorb(item, backlog)
                self._delivery.account(item.size)
            elif isinstance(item, Ordered):
                backlog.add_event(item)
            else:
                self._take(item)

    def _absorb(self, batch: Batch, backlog: Backlog) -> None:
        """Take in a batch, in slices: one read may have brought half a million messages, and a stop must not wait."""
        payloads = batch.payloads
        for position in range(0, len(payloads), SLICE):
            if self._delivery.stopping:
                self._counter.drop_waiting(len(payloads) - position)
                return
            part = payloads[position : position + SLICE]
            self._inbox.take(len(part))
            self._add(self._decode(part), part, batch, backlog)

    def _add(self, messages: list[Any], payloads: list[bytes], batch: Batch, backlog: Backlog) -> None:
        """Put messages in hand into the backlog; act at once on those that are for the library."""
        delivery, received_at, connection = self._delivery, batch.received_at, batch.connection
        delivery.now = batch.arrived
        if delivery.gate is not None:
            delivery.prepare(delivery.gate, messages, received_at, connection)
        dropped = duplicates = done = 0
        for message, payload in zip(messages, payloads, strict=True):
            if delivery.stopping:
                dropped += len(messages) - done
                break
            done += 1
            if type(message) not in self._message_types:
                delivery.other(message, payload, connection)
                continue
            try:
                if delivery.gate is not None:
                    judgement = delivery.gate.judge(message, payload, received_at, connection)
                    if judgement is not Judgement.PASS:
                        duplicates += judgement is Judgement.DUPLICATE
                        continue
                dropped += backlog.add(Waiting(message, payload, received_at, batch.arrived))
            except Exception as error:  # noqa: BLE001  # see `Delivery.spoiled`
                delivery.spoiled(payload, error)
        self._counter.settle(dropped=dropped, duplicate=duplicates)

    def _queue(self, backlog: Backlog, message: Message, payload: bytes, received_at: float) -> None:
        """What a gate has kept, and lets go on now."""
        replaced = backlog.add(Waiting(message, payload, received_at, self._delivery.now))
        self._counter.settle(dropped=replaced)

    def _deliver_oldest(self, backlog: Backlog) -> None:
        oldest = backlog.pop()
        if isinstance(oldest, Ordered):
            oldest.event()
            return
        self._arrived, self._busy_since = oldest.arrived, time.monotonic()
        self._delivery.now = oldest.arrived
        self._delivery.hand_on(oldest.message, oldest.payload, oldest.received_at)
