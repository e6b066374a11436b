"""The desired subscriptions are requested exactly once on each connection."""

from __future__ import annotations

import json
import threading
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from finx_sync.session.subscriptions import Subscriptions
from finx_sync.venues.base import Request, Subscription
from finx_sync.venues.bitmex.codec import BitmexCodec
from finx_sync.venues.finx import FinxCodec

NAMES = st.sampled_from("ABCD")


def contract(name: str) -> Subscription:
    """Return a contract's subscription."""
    return Subscription("contract", name)


class Wishes(RuleBasedStateMachine):
    """Whatever users and networks do, each wanted subscription is requested once on each connection."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions = Subscriptions(FinxCodec("wss://host"))
        self.wanted: dict[str, None] = {}
        self.asked: list[str] | None = None
        self.must: set[str] = set()

    @rule(name=NAMES)
    def subscribe(self, name: str) -> None:
        assert self.subscriptions.add(contract(name)) == (name not in self.wanted)
        self.wanted[name] = None
        self.must.add(name)

    @rule(name=NAMES)
    def unsubscribe(self, name: str) -> None:
        assert self.subscriptions.remove(contract(name)) == (name in self.wanted)
        self.wanted.pop(name, None)

    @rule(name=NAMES)
    def refuse(self, name: str) -> None:
        self.subscriptions.refused(contract(name))
        self.wanted.pop(name, None)
        self.not_taken(name)

    @rule(name=NAMES)
    def postpone(self, name: str) -> None:
        self.not_taken(name)
        self.subscriptions.again(contract(name))

    def not_taken(self, name: str) -> None:
        self.must.discard(name)
        if self.asked is not None and name in self.asked:
            self.asked.remove(name)  # so that it may be requested once more

    @precondition(lambda self: self.asked is None)
    @rule()
    def open(self) -> None:
        self.asked, self.must = [], set(self.wanted)
        asked = self.asked
        self.send = lambda request: asked.append(json.loads(request.text)["instrumentName"])
        self.subscriptions.opened("", "key", self.send)

    @precondition(lambda self: self.asked is not None)
    @rule()
    def cut(self) -> None:
        self.subscriptions.closed("", lambda request: None)  # an older connection of the endpoint
        self.subscriptions.closed("", self.send)
        self.asked = None

    @invariant()
    def each_once(self) -> None:
        assert [one.name for one in self.subscriptions.desired()] == list(self.wanted)
        if self.asked is not None:
            assert set(Counter(self.asked).values()) <= {1}
            assert self.must <= set(self.asked)
            assert set(self.wanted) <= set(self.asked)


TestWishes = Wishes.TestCase
TestWishes.settings = settings(max_examples=settings.default.max_examples // 2, stateful_step_count=30)


def test_a_wish_that_meets_the_opening_is_sent_once() -> None:
    """A subscription that is added while the connection opens would be sent twice, or never."""
    for _ in range(200):
        subscriptions = Subscriptions(FinxCodec("wss://host"))
        sent: list[Request] = []
        barrier = threading.Barrier(2)

        def subscription(subscriptions: Subscriptions = subscriptions, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            subscriptions.add(contract("A"))

        thread = threading.Thread(target=subscription)
        thread.start()
        barrier.wait()
        subscriptions.opened("", "key", sent.append)
        thread.join()
        assert len(sent) == 1


def test_lines_of_one_stream_per_url() -> None:
    """A name would have no connection, or share one with another name."""
    subscriptions = Subscriptions(FinxCodec("wss://host", stream_per_url=True))
    subscriptions.add(Subscription("spot", "A:B"))
    subscriptions.add(Subscription("spot", "C:D"))
    assert subscriptions.endpoints() == ["A:B", "C:D"]
    assert subscriptions.desired("A:B") == [Subscription("spot", "A:B")]


def test_the_older_of_two_connections_is_asked_when_the_newer_fails() -> None:
    """A subscription added during a replacement that failed would never be requested."""
    subscriptions = Subscriptions(FinxCodec("wss://host"))
    old: list[Request] = []
    new: list[Request] = []
    to_old, to_new = old.append, new.append
    subscriptions.add(contract("A"))
    subscriptions.opened("", "key", to_old)
    subscriptions.opened("", "key", to_new)
    subscriptions.add(contract("B"))
    assert [(len(old), len(new)), subscriptions.carried("")] == [(1, 2), [contract("A")]]
    subscriptions.closed("", to_new)
    assert (len(old), subscriptions.carried("")) == (2, [contract("A"), contract("B")])
    subscriptions.closed("", to_old)
    assert subscriptions.carried("") == []


class ByUrl(FinxCodec):
    """A venue whose URL names the subscriptions."""

    asks_by_url = True


def test_what_a_url_asks_for_is_not_asked_again() -> None:
    """A venue that understands no requests would get some, or a subscription would wrongly count as requested."""
    subscriptions = Subscriptions(ByUrl("wss://host"))
    sent: list[Request] = []
    subscriptions.add(contract("A"))
    subscriptions.opened("", "key", sent.append, [contract("A")])
    assert not subscriptions.differs("")
    subscriptions.add(contract("B"))
    assert subscriptions.differs("")
    assert subscriptions.carried("") == [contract("A")]
    subscriptions.refused(contract("B"))
    assert not subscriptions.differs("")
    subscriptions.remove(contract("A"))
    assert subscriptions.differs("")
    assert sent == []


def test_a_wish_is_taken_back_in_the_venues_words_on_each_connection_that_carries_it() -> None:
    """The server would continue to send unwanted messages, or get an unsubscription for what it never sent."""
    subscriptions = Subscriptions(BitmexCodec("wss://host"))
    first, second = Subscription("trade", "XBTUSD"), Subscription("quote", "XBTUSD")
    subscriptions.add(first)
    sent: list[Request] = []
    late: list[Request] = []
    subscriptions.opened("", None, sent.append)
    subscriptions.add(second)
    subscriptions.opened("", None, late.append)
    sent.clear()
    late.clear()
    assert subscriptions.remove(second)
    assert not subscriptions.remove(second)
    assert [json.loads(one.text)["op"] for one in sent + late] == ["unsubscribe"] * 2


def test_a_wish_is_asked_for_again_only_while_it_is_wanted() -> None:
    """A request that a busy server rejected would never be repeated, or be repeated when it is no longer wanted."""
    subscriptions = Subscriptions(BitmexCodec("wss://host"))
    subscription = Subscription("trade", "XBTUSD")
    sent: list[Request] = []
    subscriptions.opened("", None, sent.append)
    subscriptions.add(subscription)
    subscriptions.again(subscription)
    assert [json.loads(one.text)["op"] for one in sent] == ["subscribe"] * 2
    subscriptions.refused(subscription)
    subscriptions.again(subscription)
    assert len(sent) == 2


def steps(count: int) -> int:
    """Subscribe and unsubscribe `count` names, one by one, while streaming; return the number of calls of a codec."""
    asked = 0

    class Counting(FinxCodec):
        def endpoint_of(self, subscription: Subscription) -> str:
            nonlocal asked
            asked += 1
            return super().endpoint_of(subscription)

    subscriptions = Subscriptions(Counting("wss://host"))
    subscriptions.opened("", "sandbox-key", lambda text: True)
    names = [contract(str(number)) for number in range(count)]
    for name in names:
        subscriptions.add(name)
        subscriptions.endpoints()
        subscriptions.differs("")
    assert subscriptions.desired() == names
    for name in names:
        assert subscriptions.wants(name)
        subscriptions.remove(name)
        subscriptions.endpoints()
        subscriptions.differs("")
    assert subscriptions.endpoints() == subscriptions.desired() == []
    return asked


def test_each_name_costs_the_same_however_many_there_are() -> None:
    """To unsubscribe ten thousand names would take five seconds, and twenty thousand four times as long."""
    assert steps(400) == 2 * steps(200)


def test_subscriptions_of_several_endpoints_keep_their_order() -> None:
    """`topics` would not be in the order in which they were added."""
    subscriptions = Subscriptions(BitmexCodec("wss://host"))
    names = ["chat", "trade:A", "announcement", "trade:B", "connected"]
    topics = [Subscription("topic", name) for name in names]
    subscriptions.add(*topics)
    assert subscriptions.desired() == topics
    assert subscriptions.desired("platform") == [topics[0], topics[2], topics[4]]
    for subscription in topics[::2]:
        assert subscriptions.remove(subscription)
    assert subscriptions.endpoints() == [""]
    subscriptions.add(topics[0])
    assert subscriptions.desired() == [topics[1], topics[3], topics[0]]
