"""Who is told to hand_over the reading, and to whom it is called back."""

from __future__ import annotations

from typing import Any

from finx_sync.pipeline.leader import FLOOD, QUICK, STREAK, LeaderElection


class Source:
    """A source; what it was told to do with its reading, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def pause_reading(self) -> None:
        raise AssertionError

    resume_reading = pause_reading

    def hand_over_reading(self, promote: Any) -> None:
        self.told.append(promote)


class Leading:
    """A leadership; how often its wait was ended."""

    interrupted = 0

    def turn(self) -> bool:
        raise AssertionError

    def interrupt(self) -> None:
        self.interrupted += 1


class Feed:
    """Two sources and their leader, in a time of their own."""

    def __init__(self) -> None:
        self.election = LeaderElection(self._lead)
        self.one, self.other, self.reading = Source(), Source(), Leading()
        self.now = 1000.0

    def _lead(self, leadership: Any) -> None:
        self.election.leadership = leadership

    def comes(self, source: Source, count: int = 1, *, after: float = QUICK / 2, alone: bool = True) -> None:
        self.now += after
        self.election.came(source, count, self.now, alone=alone)

    def hand_over(self) -> None:
        """Until the first source has handed over its reading."""
        for _ in range(STREAK + 1):
            self.comes(self.one)
        (promote,) = self.one.told
        promote(self.reading)
        self.one.told.clear()


def test_a_streak_leads_and_a_flood_or_a_pause_gives_back() -> None:
    """A lone message would wake two threads, or a flood be read by one."""
    for how in ({"count": FLOOD}, {"after": 2 * QUICK}, {"alone": False}):
        feed = Feed()
        feed.hand_over()
        feed.comes(feed.one)
        assert feed.one.told == []
        feed.comes(feed.one, **how)  # type: ignore[arg-type]
        assert feed.one.told == [None]
        assert feed.reading.interrupted == 1


def test_each_message_of_another_source_ends_the_leaders_wait() -> None:
    """The second message would lie in the queue while the leader waits for the first source's next one."""
    feed = Feed()
    feed.hand_over()
    for count in (1, 2, 3):
        feed.comes(feed.other)
        assert feed.reading.interrupted == count
    assert feed.other.told == []
    assert set(feed.one.told) == {None}


def test_the_old_source_is_called_back_and_not_who_spoke_last() -> None:
    """Where another source spoke between the offer and the leadership, nobody would be called back."""
    feed = Feed()
    for _ in range(STREAK + 1):
        feed.comes(feed.one)
    (promote,) = feed.one.told
    feed.comes(feed.other)
    promote(feed.reading)
    feed.comes(feed.one)
    assert feed.one.told[1:] == [None]
    assert feed.other.told == []
