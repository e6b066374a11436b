"""The steps to a relay's feed on Redis: Redis, the feed, its relay, and the first message."""

from __future__ import annotations

import time
from typing import Final

from finx_sync.doctor.findings import Finding, Report, Step, failure, judge_skew
from finx_sync.errors import ConnectionLostError, FinxSyncError, StreamTimeoutError
from finx_sync.relay.about import About, about_of
from finx_sync.relay.address import RelayAddress
from finx_sync.relay.feed import SILENCE
from finx_sync.relay.filtering import TagFilter
from finx_sync.relay.reader import FeedReader, Opening, Records
from finx_sync.relay.wire import partition_of, tag_of
from finx_sync.stream import Stream

__all__ = ["examine_feed"]

BLOCK: Final = 0.25
CHECK_RELAY: Final = "look whether the relay runs, and what it logs"
CHECK_NAMES: Final = "check the names; the relay has to be told them, or run with --on-demand"


class _FailedError(Exception):
    """A step has failed and was reported; the later ones make no sense."""


def examine_feed(stream: Stream, note: Report, tick_timeout: float) -> None:
    """Take the steps; see `finx_sync.doctor.examine`."""
    assert stream._account.feed is not None
    address = RelayAddress.parse(stream._account.feed, default_feed=stream._codec.venue.lower())
    note(Finding("address", "ok", str(address)))
    examination = _Examination(stream, address, note, tick_timeout)
    try:
        examination.run()
    except _FailedError:
        pass
    finally:
        examination.close()


class _Examination:
    def __init__(self, stream: Stream, address: RelayAddress, note: Report, tick_timeout: float) -> None:
        self._stream = stream
        self._address = address
        self._note = note
        self._tick_timeout = tick_timeout
        self._wanted = stream._subscriptions.desired()
        self._readers = [FeedReader(address)]
        self._began = time.monotonic()

    def close(self) -> None:
        for reader in self._readers:
            reader.close()

    def run(self) -> None:
        """Take the steps behind the address.

        Raises:
            _FailedError: a step failed.
        """
        self._began, before = time.monotonic(), time.time()
        opening = self._open(before)
        about = self._judge_feed(opening)
        self._note(judge_skew((before + time.time()) / 2 - opening.at, time.time() - before))
        self._open_others(about)
        self._wait_for_relay(about)
        self._wait_for_message(about)

    def _open(self, before: float) -> Opening:
        try:
            opening = self._readers[0].open(tag_of(*one) for one in self._wanted)
        except FinxSyncError as error:
            self._note(failure("Redis", error, time.monotonic() - self._began))
            raise _FailedError from error
        self._passed("Redis", "it answers")
        return opening

    def _judge_feed(self, opening: Opening) -> About:
        codec = self._stream._codec
        try:
            about = about_of(opening.about, self._address, codec.venue)
        except FinxSyncError as error:
            self._note(failure("feed", error, time.monotonic() - self._began))
            raise _FailedError from error
        absent = [one.name for one in self._wanted if not about.on_demand and not about.lists(one, codec)]
        text = f"one of {about.venue}, with {about.partitions} partition{'s' if about.partitions > 1 else ''}"
        if absent:
            self._note(Finding("feed", "warning", f"{text}; it does not contain {', '.join(absent)}", CHECK_NAMES))
        else:
            self._passed("feed", text)
        return about

    def _open_others(self, about: About) -> None:
        """Begin to read the other partitions, and tell a relay on demand what is wanted."""
        try:
            for partition in range(1, about.partitions):
                self._readers.append(FeedReader(self._address, partition))
                self._readers[-1].open(())
            if about.on_demand:
                self._readers[0].demand([tag_of(*one) for one in self._wanted], self._tick_timeout)
        except FinxSyncError as error:
            self._note(failure("relay", error, time.monotonic() - self._began))
            raise _FailedError from error

    def _wait_for_relay(self, about: About) -> None:
        """Something has to be written within some seconds, if only that the relay is alive."""
        reader, deadline = self._readers[0], time.monotonic() + SILENCE
        before = reader.cursor
        while reader.cursor == before and time.monotonic() < deadline:
            self._read(reader)
        if reader.cursor == before:
            error = ConnectionLostError(f"it has written nothing for {SILENCE:g} s; {CHECK_RELAY}")
            self._note(failure("relay", error, time.monotonic() - self._began))
            raise _FailedError
        if about.is_open:
            self._passed("relay", "it writes")
        else:
            self._note(Finding("relay", "warning", "it writes, and is not connected to the venue", CHECK_RELAY))

    def _wait_for_message(self, about: About) -> None:
        wanted = TagFilter(self._stream._codec)
        wanted.want(self._wanted)
        needed = {partition_of(tag_of(*one), about.partitions) for one in self._wanted}
        readers = [self._readers[partition] for partition in sorted(needed)] or self._readers[:1]
        deadline = time.monotonic() + self._tick_timeout
        while time.monotonic() < deadline:
            for reader in readers:
                for tag in self._read(reader):
                    if wanted.passes(tag):
                        self._passed("tick", f"the first is of {tag.decode('utf-8', 'replace')}")
                        return
        text = f"no message of what is subscribed within {self._tick_timeout:g} s"
        self._note(Finding("tick", "failed", text, CHECK_NAMES, error=StreamTimeoutError(text)))

    def _read(self, reader: FeedReader) -> list[bytes]:
        """The tags of what comes next."""
        try:
            return [tag for part in reader.read(BLOCK) if isinstance(part, Records) for tag in part.tags]
        except FinxSyncError as error:
            self._note(failure("relay", error, time.monotonic() - self._began))
            raise _FailedError from error

    def _passed(self, step: Step, text: str) -> None:
        now = time.monotonic()
        self._note(Finding(step, "ok", text, seconds=now - self._began))
        self._began = now
