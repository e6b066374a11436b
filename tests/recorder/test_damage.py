"""Damaged recordings: undamaged parts are read, and every loss is reported."""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finx_sync.errors import InvalidInputError, RecordingError
from finx_sync.notices import Gap
from finx_sync.recorder import writer
from finx_sync.recorder.format import HEAD, OVERHEAD, Closed, blocks
from finx_sync.recorder.replay import Replay
from finx_sync.stream import Stream
from tests.recorder.venues import SUBSCRIBED, player, raw, record_all

V1: Final = Path(__file__).parent / "data"
"""A recording of FinX in three files, written by version 1: two replacements and a lost connection."""
REASON: Final = "damaged recording"
CLOCK: Final = 0.01
"""Seconds by which the times of consecutive records of two connections may be out of order."""


class Sound:
    """An undamaged recording and its messages. It is not a dataclass, whose repr would print its files at a failure.

    Attributes:
        venue: the venue.
        is_old: whether it is of version 1.
        files: the contents of its files, by name.
        raw: every payload with its time.
        texts: the messages that a replay delivers, and how often at least; duplicates on two connections count once.
    """

    def __init__(self, venue: str, paths: list[Path], *, is_old: bool = False) -> None:
        played = Played(venue, paths)
        assert played.replay.damage == []
        assert not played.damages
        self.venue = venue
        self.is_old = is_old
        self.files = {path.name: path.read_bytes() for path in paths}
        self.raw = raw(paths)
        by_connection = Counter((text, number) for text, _, number in self.raw)
        self.texts = {
            text: min(count, max(by_connection[text, number] for other, _, number in self.raw if other == text))
            for text, count in Counter(played.texts).items()
        }


class Played:
    """A replay, and what its handlers received."""

    def __init__(self, venue: str, path: Any) -> None:
        self.stream: Stream = player(venue)
        self.texts: list[str] = []
        self.gaps: list[Gap] = []
        self.stream.on_message(self.texts.append)
        self.stream.on_gap(self.gaps.append)
        self.stream.on_error(lambda error: None)
        self.replay: Replay = self.stream.replay(path, speed="max")

    @property
    def damages(self) -> list[Gap]:
        """The gaps due to damage."""
        return [gap for gap in self.gaps if gap.reason == REASON]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sound]:
    """A recording of every venue and one of version 1, each in several files of several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "FLUSH_INTERVAL", 0.05)
        paths = record_all(tmp_path_factory.mktemp("recordings"))
    found = {venue: Sound(venue, paths[venue]) for venue in SUBSCRIBED}
    found["version 1"] = Sound("finx", list(V1.glob("*.finxrec")), is_old=True)
    return found.__getitem__


# Making damage

PLACES: Final = ("first byte", "mark", "lengths", "checksum", "content", "last byte", "between", "connection's end")
KINDS: Final = ("flip", "cut", "zero", "insert", "remove block", "remove file", "empty file")


@dataclass(frozen=True)
class Wound:
    """One damage: the file, the block, the place in it, the kind of damage, and a number that determines the rest."""

    file: int
    block: int
    place: str
    kind: str
    chance: int


wounds = st.lists(
    st.builds(
        Wound,
        st.integers(0, 100),
        st.integers(0, 100),
        st.sampled_from(PLACES),
        st.sampled_from(KINDS),
        st.integers(0, 2**16),
    ),
    min_size=1,
    max_size=3,
)


def spans(data: bytes) -> list[tuple[int, int, bool]]:
    """Return the beginning and end of each block of a file, and whether it contains a connection's end."""
    found = [one for one in blocks(data) if one.records is not None]
    ends = [*(one.offset for one in found), len(data)][1:]
    return [
        (one.offset, end, any(isinstance(record, Closed) for record in one.records or ()))
        for one, end in zip(found, ends, strict=bool(found))
    ]


def hurt(files: dict[str, bytes], wound: Wound) -> None:
    """Damage one of the files."""
    candidates = sorted(files)
    if wound.place == "connection's end":
        candidates = [name for name in candidates if any(ends for *_, ends in spans(files[name]))] or candidates
    name = candidates[wound.file % len(candidates)]
    data = bytearray(files[name])
    if wound.kind in ("remove file", "empty file"):
        files[name] = b""
        if wound.kind == "remove file":
            del files[name]
        return
    found = spans(bytes(data)) or [(0, len(data), False)]
    if wound.place == "connection's end":
        found = [one for one in found if one[2]] or found
    begin, end, _ = found[wound.block % len(found)]
    if begin == end:
        return
    place = {
        "first byte": begin,
        "mark": begin + wound.chance % 4,
        "lengths": begin + 4 + wound.chance % (HEAD.size - 4),
        "checksum": begin + HEAD.size + wound.chance % 4,
        "last byte": end - 1,
        "between": end,
    }.get(wound.place, begin + OVERHEAD + wound.chance % max(1, end - begin - OVERHEAD))
    if wound.kind == "cut":
        del data[place:]
    elif wound.kind == "remove block":
        del data[begin:end]
    elif wound.kind == "insert":
        data[place:place] = bytes([wound.chance % 256]) * (1 + wound.chance % 100)
    elif place < len(data):
        data[place] = 0 if wound.kind == "zero" and data[place] else data[place] ^ 1 << wound.chance % 8
    files[name] = bytes(data)


def leaves_no_trace(wound: Wound) -> bool:
    """Return whether a damaged recording of version 1, which has neither block numbers nor an end, looks complete."""
    cut = wound.kind == "cut" and wound.place in ("first byte", "mark", "between")
    return cut or wound.kind in ("remove block", "remove file")


def written(files: dict[str, bytes], folder: Path, how: str) -> Any:
    """Write the files; return the path or paths to replay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    if how == "folder":
        return folder
    if how == "list":
        return [folder / name for name in sorted(files, reverse=True)]
    return folder / re.sub(r"\.\d{4}", "", next(iter(files), "feed.finxrec"))


def check(truth: Sound, path: Any) -> None:
    """Check that every missing message is in a gap, and that no message that is left is taken for a duplicate."""
    try:
        played = Played(truth.venue, path)
    except (InvalidInputError, RecordingError):
        return  # the damage is reported
    damage, delivered, there = played.replay.damage, Counter(played.texts), raw(path)
    survived = Counter(text for text, *_ in there)
    spans = [(gap.start, gap.end) for gap in played.damages]
    spans += [(one.start, math.inf) for one in damage if one.at_end]  # everything after the last readable record
    if truth.is_old and damage:  # the beginning of the recording may be unknown
        spans += [
            (0.0, one.start) for one in damage[:1] if one.start <= min((at for _, at, _ in there), default=math.inf)
        ]

    def is_told(at: float) -> bool:
        return any(start - CLOCK <= at <= end + CLOCK for start, end in spans)

    outside = Counter(text for text, at, _ in there if not is_told(at))
    for text, count in truth.texts.items():
        assert delivered[text] >= min(count, outside[text]), "a message that is left is not delivered"
    lost = Counter(text for text, *_ in truth.raw) - survived
    if not lost:
        return
    assert damage, "messages are missing, and nothing is reported"
    told = Counter(text for text, at, _ in truth.raw if is_told(at))
    assert not lost - told, "a message is missing outside of the gaps"
    said = [one for one in damage if one.is_last]
    for one in said:
        assert any(
            gap.start <= one.start and (gap.end, gap.missed) == (one.end, one.missed) for gap in played.damages
        ), "a damage makes no gap"
    if None not in (counts := [one.missed for one in said]):
        assert sum(counts) == sum(lost.values()), "the number of missing messages is not the reported one"  # type: ignore[arg-type]
    for gap in played.damages:
        for name in gap.names:
            assert any(
                one.kind == "missing" and one.start <= gap.end + CLOCK and gap.start - CLOCK <= one.end
                for one in played.stream.coverage(name)
            ), "coverage() does not know of a gap"


@pytest.mark.parametrize("venue", [*SUBSCRIBED, "version 1"])
@settings(max_examples=max(10, settings.default.max_examples // 4))
@given(damage=wounds, how=st.sampled_from(["file", "folder", "list"]))
def test_no_damage_hides_what_is_missing(
    sound: Callable[[str], Sound], venue: str, damage: list[Wound], how: str
) -> None:
    """A replay would deliver fewer messages than were recorded, and report them as complete."""
    truth = sound(venue)
    files = dict(truth.files)
    for wound in damage:
        if files and not (venue == "version 1" and leaves_no_trace(wound)):
            hurt(files, wound)
    with tempfile.TemporaryDirectory() as folder:
        check(truth, written(files, Path(folder) / "hurt", how))


@pytest.mark.parametrize("venue", [*SUBSCRIBED, "version 1"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["flip", "cut"])
def test_every_place_in_every_file(
    sound: Callable[[str], Sound], tmp_path: Path, venue: str, place: str, kind: str
) -> None:
    """Damage at some kind of place would not be noticed."""
    truth = sound(venue)
    for number in range(len(truth.files)):
        files, wound = dict(truth.files), Wound(number, number, place, kind, 12345)
        if venue == "version 1" and leaves_no_trace(wound):
            continue
        hurt(files, wound)
        check(truth, written(files, tmp_path / str(number), "file"))


# How each kind of damage is reported


def played_with(truth: Sound, folder: Path, how: str = "file", **changed: bytes | None) -> Played:
    """Replay a recording with some files, named without suffix, replaced by other contents, or missing (None)."""
    files = dict(truth.files)
    for name, data in changed.items():
        if data is None:
            del files[f"{name}.finxrec"]
        else:
            files[f"{name}.finxrec"] = data
    return Played(truth.venue, written(files, folder, how))


def test_a_flipped_bit_in_the_header_costs_the_first_block_alone(
    sound: Callable[[str], Sound], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The venue of the whole recording would be unknown."""
    truth = sound("finx")
    whole = truth.files["feed.finxrec"]
    for place in range(0, 82, 9):
        caplog.clear()
        flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        played = played_with(truth, tmp_path / str(place), feed=flipped)
        assert played.replay.messages == len(truth.raw)  # the damaged block had none
        (damage,) = played.replay.damage
        assert (damage.offset, damage.missed, damage.at_end) == (0, 0, False)
        assert len(played.damages) == 1
        assert [record.message for record in caplog.records] == [str(damage)]


@pytest.mark.parametrize("how", ["file", "folder", "list"])
def test_a_missing_part_is_damage(sound: Callable[[str], Sound], tmp_path: Path, how: str) -> None:
    """A replay by file would silently stop before it, and one by folder would silently skip it."""
    truth = sound("finx")
    played = played_with(truth, tmp_path, how, **{"feed.0002": None})
    (damage,) = played.replay.damage
    assert "missing" in str(damage)
    assert damage.missed == len(truth.raw) - played.replay.messages > 0
    (gap,) = [gap for gap in played.damages if gap.missed is not None]
    assert (gap.missed, gap.end) == (damage.missed, damage.end)
    assert gap.start <= damage.start < damage.end
    assert gap.names == ("BTC-PERPETUAL", "BTC:USDC")


def test_a_recording_without_its_end_is_damaged(sound: Callable[[str], Sound], tmp_path: Path) -> None:
    """A recording that was cut off between two blocks, or that has lost its last part, would look complete."""
    truth = sound("finx")
    name = max(name for name in truth.files if name != "feed.finxrec").removesuffix(".finxrec")
    data = truth.files[f"{name}.finxrec"]
    closing = spans(data)[-1][0]
    for number, changed in enumerate((None, data[:closing])):
        played = played_with(truth, tmp_path / str(number), **{name: changed})
        (damage,) = played.replay.damage
        assert (damage.at_end, damage.missed) == (True, None)
        assert played.damages
    alone = Played("finx", tmp_path / "1" / "feed.0001.finxrec")  # a part that is read by itself is complete
    assert alone.replay.damage == []


def test_what_is_sound_is_played_once(sound: Callable[[str], Sound], tmp_path: Path) -> None:
    """A copy of a file in the folder would double its messages."""
    truth = sound("finx")
    copy = {"copy of feed": truth.files["feed.finxrec"], "another": truth.files["feed.0002.finxrec"]}
    played = played_with(truth, tmp_path, "folder", **copy)
    assert played.replay.messages == len(truth.raw)
    assert played.replay.damage == []


def test_recordings_of_two_venues_are_not_played_as_one(sound: Callable[[str], Sound], tmp_path: Path) -> None:
    """The messages of one venue would be taken for those of the other."""
    other = {f"ime.{name}": data for name, data in sound("ime").files.items()}
    with pytest.raises(RecordingError, match="IME"):
        Played("finx", written({**sound("finx").files, **other}, tmp_path, "folder"))
