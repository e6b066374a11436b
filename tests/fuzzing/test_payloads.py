"""Damaged messages through every venue's decoder, and through all that a stream does about what comes out of it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest

from finx_sync.errors import FinxSyncError, HandlerRaisedError, UnreadableMessageError
from finx_sync.events import Batch, Connection, RequestSent, TimerFired
from finx_sync.messages import Message
from finx_sync.session.session import Session
from finx_sync.stream import Stream
from finx_sync.venues.base import Unreadable
from finx_sync.venues.bitmex import BitmexStream, TableItem
from finx_sync.venues.finx import parse_reply
from finx_sync.venues.ftx import FtxOrderBook
from tests.fuzzing.payloads import VENUES, Mutator, Venue, deep_payloads

SEEDS = 3
PAYLOADS = 300
"""Of each seed and venue."""
LONG = 150
"""Seeds of `make test-long`."""
REUSED = 50
"""Payloads through one stream, which takes longer to make than to use."""
each_venue = pytest.mark.parametrize("venue", VENUES.values(), ids=list(VENUES))


class NoSocket:
    """Where the payloads come from."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def hand_over_reading(self, promote: object) -> None: ...


class Rig:
    """A stream's whole dispatch thread, on the thread of the test: decoding, control, tables, books, handlers.

    Its connections are what a connected stream's are, but for the sockets.
    """

    def __init__(self, venue: Venue) -> None:
        self.errors: list[FinxSyncError] = []
        self.messages = 0
        self.stream: Stream = venue.stream()
        self.stream.on_error(self.errors.append)
        for kind in self.stream._codec.message_types:
            self.stream._handlers.add(kind, self._touch)
        for register in ("on_table", "on_orderbook", "on_orderbook_grouped", "on_trade", "on_fill", "on_order"):
            if hasattr(self.stream, register):  # what a venue's state makes of its messages
                getattr(self.stream, register)(self._touch)
        self.stream.on_message(lambda text: None)
        self.stream.on_gap(lambda gap: None)
        self.session = self.stream._session = Session(self.stream._session_parts(live=True))
        self.connections: list[Connection] = []
        self._asks: dict[Connection, partial[None]] = {}
        for name in dict.fromkeys([*self.stream._subscriptions.endpoints(), ""]):
            opened = self.session.connections
            supervisor = opened._serving[name] = opened._new(name, patient=True)
            supervisor.connection = Connection(name, owner=supervisor.token)
            self.connections.append(supervisor.connection)
        self.session.add(*self.stream._subscriptions.desired())
        self._connect()

    def _connect(self) -> None:
        key = self.stream._account.key
        for connection in self.connections:
            self.stream._codec.opening(key, time.time())
            ask = self._asks[connection] = partial(self.session.queue.emit, RequestSent, connection)
            self.stream._subscriptions.opened(connection.endpoint, key, ask)
            self.session.connections.opened(connection, key)
        self._dispatch()

    def _touch(self, message: Message | TableItem) -> None:
        self.messages += 1
        if not isinstance(message, FtxOrderBook):  # made of several messages
            assert message.received_at == 5.0
        if isinstance(message, Message):
            assert not message.backfilled

    def feed(self, payloads: list[bytes]) -> None:
        """One read brings these."""
        texts = [
            str(payload, "utf-8", "replace").encode() for payload in payloads
        ]  # the transport lets nothing else in
        self.session.queue.put(Batch(texts, 5.0, time.monotonic(), self.connections[0]), NoSocket())
        self.session.queue.emit(TimerFired)
        self._dispatch()

    def reconnect(self) -> None:
        """The connections are lost, and come back."""
        for connection in self.connections:
            self.session.connections.closed(connection, 5.0, "connection lost")
            self.stream._subscriptions.closed(connection.endpoint, self._asks[connection])
        self._connect()
        if isinstance(self.stream, BitmexStream):  # what is done a minute later
            self.stream.storage.expire(time.monotonic() + 120.0)

    def _dispatch(self) -> None:
        while (item := self.session.queue.get_waiting()) is not None:
            self.session.pipeline.process(item)

    def assert_sound(self) -> None:
        """Nothing of ours has raised, nothing is lost, and what was said is bounded."""
        for error in self.errors:
            assert not isinstance(error, HandlerRaisedError), repr(error.__cause__)
            assert len(str(error)) < 10_000  # a control character is shown as four
        books = self.session.counters()
        assert books.in_flight == books.waiting == 0
        known = books.handled + books.unclaimed + books.control + books.unreadable + books.duplicate
        assert books.received == known + books.dropped


def foreign_exception(decode: Callable[[], object], allowed: type[Exception] | tuple[()] = ()) -> str | None:
    """What a decoder raises that it must not."""
    try:
        decode()
    except allowed:
        return None
    except Exception as error:  # noqa: BLE001  # any
        return repr(error)
    return None


def assert_decodes(stream: Stream, payloads: Iterable[bytes]) -> None:
    """One thing for each payload, from the venue's own decoder, and one that the dispatch thread can use."""
    for payload in payloads:
        (message,) = stream._codec.decode([payload])
        if isinstance(message, Message):
            assert type(message.name_of(message)) is str, payload[:500]
            assert (message.received_at, message.backfilled) == (0.0, False)
            if message.is_state:
                hash(message.state_of(message))
            assert isinstance(message.absent, tuple)
            assert len(list(message.items())) == len(message)
        elif isinstance(message, Unreadable):
            assert isinstance(message.error, UnreadableMessageError)
            assert len(str(message.error)) < 3000


def run(venue: Venue, seed: int) -> None:
    """One seed's payloads: each by itself, all together, and through a whole stream."""
    mutator = Mutator(venue, seed)
    payloads = [mutator.payload() for _ in range(PAYLOADS)]
    alone = venue.stream()
    assert_decodes(alone, payloads)
    assert len(venue.stream()._codec.decode(payloads)) == len(payloads)
    rig = Rig(venue)
    for begin in range(0, PAYLOADS, 50):
        rig.feed(payloads[begin : begin + 50])
        rig.reconnect()
    rig.assert_sound()
    assert rig.messages, "nothing whole was among them"


@pytest.fixture(autouse=True)
def nothing_crashed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No guard was needed: those are for what nobody has thought of."""
    caplog.set_level(logging.ERROR, "finx_sync")
    yield
    assert not [record for record in caplog.records if record.exc_info or "defect" in record.getMessage()]


@each_venue
@pytest.mark.parametrize("seed", range(SEEDS))
def test_damaged_messages_raise_nothing(venue: Venue, seed: int) -> None:
    """One message would end the stream, or a field of ours would be the server's to set."""
    run(venue, seed)


@each_venue
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_more_damaged_messages_raise_nothing(venue: Venue) -> None:
    """What is rare would be met by users first."""
    for seed in range(SEEDS, SEEDS + LONG):
        run(venue, seed)


@each_venue
def test_messages_as_deep_as_can_be_raise_nothing(venue: Venue) -> None:
    """A level too deep for what comes after decoding would end the stream as a defect of ours."""
    payloads = list(deep_payloads(venue, step=9, places=2))
    assert_decodes(venue.stream(), payloads)
    rig = Rig(venue)
    rig.feed(payloads)
    rig.assert_sound()


@each_venue
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_messages_of_every_depth_raise_nothing(venue: Venue) -> None:
    """The one depth that was left out would be the one that ends a stream."""
    rig, number = Rig(venue), 0
    for number, payload in enumerate(deep_payloads(venue), 1):
        assert_decodes(venue.stream(), [payload])
        rig.feed([payload])
        rig.assert_sound()
        if number % REUSED and not rig.session.pipeline.delivery.stopping:
            rig.reconnect()  # whatever was asked for is asked for anew, so that this payload may be its answer too
        else:
            rig = Rig(venue)
    assert number > 1000


@pytest.mark.parametrize("seed", range(SEEDS))
def test_damaged_replies_raise_what_the_functions_expect(seed: int) -> None:
    """A blocking function would raise an error that no caller was told of."""
    mutator = Mutator(VENUES["finx"], 1000 + seed)
    texts = [mutator.payload().decode("utf-8", "replace") for _ in range(PAYLOADS)]
    texts += [payload.decode() for payload in deep_payloads(VENUES["finx"], step=9, places=3)]
    raised = {
        text[:300]: foreign_exception(lambda text=text: parse_reply(text), UnreadableMessageError) for text in texts
    }  # type: ignore[misc]
    assert not {text: what for text, what in raised.items() if what is not None}


@each_venue
def test_the_fuzzer_itself_finds_what_is_planted(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that cannot fail would let everything pass."""
    rig = Rig(venue)
    monkeypatch.setattr(rig.stream._codec, "decode", lambda payloads: [] + 1)  # type: ignore[operator]
    with pytest.raises(TypeError):
        assert_decodes(rig.stream, [b"{}"])
    assert sys.getrecursionlimit() >= 1000
