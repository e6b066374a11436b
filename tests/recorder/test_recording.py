"""Recording a stream, and replaying it to the same handlers."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finx_sync import Backoff, Gap, StateChange, StreamManager
from finx_sync.cli.main import main
from finx_sync.errors import ConfigError, InvalidInputError, RecordingError, UsageError
from finx_sync.events import Batch, Connection, ConnectionOpened
from finx_sync.recorder import format as blocks_format
from finx_sync.recorder.format import Lost, Opened, Received, Started, block, blocks, pack, packer
from finx_sync.recorder.reader import RecordingReader
from finx_sync.recorder.writer import Recording
from finx_sync.sandbox import Sandbox
from finx_sync.testing import Cut, FaultProxy
from finx_sync.venues.bitmex import BitmexStream
from tests.scripted import CONTRACT, ScriptedServer

NAME = "BTC-PERPETUAL"
QUICK = Backoff(first=0.01, cap=0.05)


class Log:
    """Everything that a stream's handlers receive, in order."""

    def __init__(self, stream: StreamManager) -> None:
        self.stream = stream
        self.items: list[tuple[Any, ...]] = []
        stream.on_contract(self.add)
        stream.on_spot(self.add)
        stream.on_gap(self.add)
        stream.on_state(self.add)
        stream.on_error(self.add)

    def add(self, item: Any) -> None:
        """Record what a handler received."""
        if isinstance(item, StateChange):
            reason = item.reason
            self.items.append((item.old, item.new, type(reason), str(reason)))
        elif isinstance(item, Gap):
            self.items.append((item,))
        elif isinstance(item, Exception):
            self.items.append((repr(item),))
        else:
            self.items.append((item.name, item.received_at, tuple(item.items())))

    @staticmethod
    def gaps_of(items: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the gaps, one for each name, since it varies which names are reported together."""
        gaps = [item[0] for item in items if isinstance(item[0], Gap)]
        return [(gap.start, gap.end, name, gap.reason) for gap in gaps for name in gap.names]

    @property
    def messages(self) -> list[tuple[Any, ...]]:
        """The ticks alone."""
        return [item for item in self.items if len(item) == 3]


def player() -> StreamManager:
    """Return a stream that is never started."""
    return StreamManager(environment="sandbox")


def recorded(path: Path, url: str, action: Callable[[StreamManager, Log], object]) -> Log:
    """Record a stream while `action` runs; return what its handlers received."""
    stream = StreamManager("sandbox-key", url=url, reconnect=QUICK)
    log = Log(stream)
    stream.subscribe_contract(NAME)
    stream.subscribe_spot("BTC:USDC")
    with stream.record(path):
        stream.start()
        action(stream, log)
        stream.stop(drain=True)
    return log


def wait_for_ticks(log: Log, count: int) -> None:
    """Wait for `count` more ticks."""
    target = len(log.messages) + count
    deadline = time.monotonic() + 20
    while len(log.messages) < target:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_replay_is_what_was_seen(sandbox: Sandbox, tmp_path: Path) -> None:
    """With yesterday's feed, a bot would behave differently than it did yesterday."""

    def action(stream: StreamManager, log: Log) -> None:
        wait_for_ticks(log, 20)
        proxy.inject(Cut())
        wait_for_ticks(log, 20)

    with FaultProxy(sandbox.url) as proxy:
        live = recorded(tmp_path / "feed.finxrec", proxy.url, action)
    assert any("Gap" in str(item) for item in live.items)
    replayed = []
    for speed in ("max", 50):
        stream = player()
        log = Log(stream)
        replay = stream.replay(tmp_path / "feed.finxrec", speed=speed)  # type: ignore[arg-type]
        assert replay.finished
        assert replay.damage == []
        assert stream.latest(NAME).received_at == replay.at.timestamp() or stream.latest("BTC:USDC")  # type: ignore[union-attr]
        books = stream.stats().messages
        settled = books.handled + books.control + books.duplicate + books.dropped
        assert books.received == settled == replay.messages
        replayed.append(log.items)
    assert replayed[0] == replayed[1]
    assert [item for item in replayed[0] if len(item) == 3] == live.messages
    assert sorted(Log.gaps_of(replayed[0])) == sorted(Log.gaps_of(live.items))
    assert [item[:2] for item in replayed[0] if len(item) == 4] == [item[:2] for item in live.items if len(item) == 4]


def test_replays_of_a_replaced_connection_are_alike(sandbox: Sandbox, tmp_path: Path) -> None:
    """Messages of two connections would be delivered twice, or differently each time."""
    path = tmp_path / "feed.finxrec"

    def action(stream: StreamManager, log: Log) -> None:
        wait_for_ticks(log, 10)
        stream.reconnect_now()
        wait_for_ticks(log, 40)

    live = recorded(path, sandbox.url, action)
    logs = []
    for speed in ("max", "max", 50):
        log = Log(player())
        log.stream.replay(path, speed=speed)  # type: ignore[arg-type]
        logs.append(log.items)
    assert logs[0] == logs[1] == logs[2]
    assert {item[0] for item in live.messages} == {item[0] for item in logs[0] if len(item) == 3}
    assert len(logs[0]) < 1.5 * len(live.items)


def test_recording_may_begin_while_the_stream_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    """A recording would have to be planned before the start."""
    stream = StreamManager("sandbox-key", url=sandbox.url)
    stream.subscribe_contract(NAME)
    with stream:
        stream.take(3, timeout=10)
        recording = stream.record(tmp_path / "feed.finxrec")
        with pytest.raises(UsageError, match="already"):
            stream.record(tmp_path / "other.finxrec")
        stream.take(5, timeout=10)
        recording.stop()
        assert not recording.is_active
        with stream.record(tmp_path / "feed.finxrec") as second:  # no file is overwritten
            stream.take(5, timeout=10)
        assert second.paths == [tmp_path / "feed.0001.finxrec"]
        assert "0 lost" in repr(second)
    again = player()
    seen: list[Any] = []
    again.on_contract(seen.append)
    again.on_gap(seen.append)
    again.replay(tmp_path / "feed.finxrec", speed="max")
    assert len(seen) >= 10
    assert sum(isinstance(item, Gap) for item in seen) == 1  # between the two recordings


def test_pausing_and_stepping(sandbox: Sandbox, tmp_path: Path) -> None:
    """A bug at message 17 could not be examined just before it happens."""
    path = tmp_path / "feed.finxrec"
    live = recorded(path, sandbox.url, lambda stream, log: wait_for_ticks(log, 40))
    stream = player()
    log = Log(stream)
    with stream.replay(path, speed="max", pause_at=17) as replay:
        assert (replay.messages, replay.finished) == (17, False)
        assert "paused" in repr(replay)
        before = len(log.messages)
        assert stream.is_connected
        with pytest.raises(UsageError):
            stream.start()
        replay.resume(pause_at=18)
        assert replay.messages == 18
        middle = live.messages[30][1]
        replay.resume(until=dt.datetime.fromtimestamp(middle, dt.timezone.utc))
        assert before < len(log.messages) <= 40
        assert all(item[1] <= middle + 1e-5 for item in log.messages)
        replay.resume()
        assert replay.finished
        with pytest.raises(UsageError):
            replay.resume()
    assert log.messages == live.messages
    assert "finished" in repr(replay)


def test_stopping_in_a_handler_ends_a_replay(sandbox: Sandbox, tmp_path: Path) -> None:
    """The replay of a day could not be stopped."""
    path = tmp_path / "feed.finxrec"
    recorded(path, sandbox.url, lambda stream, log: wait_for_ticks(log, 40))
    stream = player()
    seen: list[Any] = []

    def stop(tick: Any) -> None:
        seen.append(tick)
        with pytest.raises(UsageError):
            stream.take(1)  # this is the dispatch thread
        stream.stop()

    stream.on_contract(stop)
    stream.on_spot(stop)
    assert stream.replay(path, speed="max").finished
    assert len(seen) == 1
    assert stream.state.value == "stopped"
    books = stream.stats().messages
    assert books.received == books.handled + books.control + books.duplicate + books.dropped


def test_a_raising_handler_is_told_as_live(sandbox: Sandbox, tmp_path: Path) -> None:
    """A replay would end where the live stream continued."""
    path = tmp_path / "feed.finxrec"
    recorded(path, sandbox.url, lambda stream, log: wait_for_ticks(log, 10))
    stream = player()
    errors: list[Exception] = []
    stream.on_error(errors.append)
    stream.on_contract(lambda tick: 1 / 0)
    stream.replay(path, speed="max")
    assert errors
    assert all(isinstance(error.__cause__, ZeroDivisionError) for error in errors)


def test_ten_times_as_fast(sandbox: Sandbox, tmp_path: Path) -> None:
    """A replay would not have the requested speed."""
    path = tmp_path / "feed.finxrec"
    live = recorded(path, sandbox.url, lambda stream, log: time.sleep(1.0))
    lasted = live.messages[-1][1] - live.messages[0][1]
    for speed in (4.0, "max"):
        begin = time.monotonic()
        player().replay(path, speed=speed)  # type: ignore[arg-type]
        seconds = time.monotonic() - begin
        assert seconds >= 0.8 * lasted / speed if isinstance(speed, float) else True


def test_keys_are_never_written(tmp_path: Path) -> None:
    """A recording that is shared would reveal the key."""
    secret = "a-very-secret-key"
    echo = {**CONTRACT, "instrument_name": NAME, "redis_key": NAME, "state": f"open {secret}"}

    def script(connection: Any) -> None:
        connection.recv()
        connection.send('{"isAuth": true}')
        connection.send(
            json.dumps({"error": "bad", "APIKey": secret, "url": f"wss://x/streaming/{secret}?APIKey={secret}"})
        )
        for _ in range(5):
            connection.send(json.dumps(echo))

    with ScriptedServer(script) as server:
        stream = StreamManager(lambda: secret, url=server.url)
        stream.subscribe_contract(NAME)
        log = Log(stream)
        with stream.record(tmp_path / "feed.finxrec", compress=False), stream:
            wait_for_ticks(log, 5 - len(log.messages))
    content = (tmp_path / "feed.finxrec").read_bytes()
    assert NAME.encode() in content
    assert secret.encode() not in content
    assert content.count(b"open ***") >= 3


def test_a_short_key_is_blotted_out_as_a_whole_text_only(tmp_path: Path) -> None:
    """A key that is a common word would remove that word from the data."""
    recording = Recording(tmp_path / "feed.finxrec", "FinX", compress=False)
    connection = Connection("")
    recording.put(ConnectionOpened(0.0, 0.0, connection, ("public",)))
    recording.put(Batch([b'{"key":"public","method":"public/get"}'], 1.0, 1.0, connection))
    recording.stop()
    (received,) = [record for record in RecordingReader(tmp_path / "feed.finxrec") if isinstance(record, Received)]
    assert received.payloads == [b'{"key":"***","method":"public/get"}']


def test_files_rotate_and_are_played_as_one(sandbox: Sandbox, tmp_path: Path) -> None:
    """A recording of a week would be one file, or a replay would omit some of its files."""
    stream = StreamManager("sandbox-key", url=sandbox.url)
    log = Log(stream)
    stream.subscribe_contract(NAME)
    with stream.record(tmp_path / "feed.finxrec", rotate_bytes=1) as recording:
        stream.start()
        while len(recording.paths) < 3:
            wait_for_ticks(log, 5)
        stream.stop(drain=True)
    assert [path.name for path in recording.paths[:2]] == ["feed.finxrec", "feed.0001.finxrec"]
    for path in (tmp_path / "feed.finxrec", tmp_path, recording.paths):
        again = player()
        played = Log(again)
        again.replay(path, speed="max")
        assert played.messages == log.messages
        assert not any("Gap" in str(item) for item in played.items)
    alone = Log(player())
    alone.stream.replay(recording.paths[1], speed="max")  # each file can be read by itself
    assert 0 < len(alone.messages) < len(log.messages)
    assert all(message in log.messages for message in alone.messages)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_recorder_has_everything_up_to_the_last_second(sandbox: Sandbox, tmp_path: Path) -> None:
    """After a crash, the recording of what led to it would be lost."""
    path = tmp_path / "feed.finxrec"
    program = """
        import sys, time
        from finx_sync import StreamManager
        stream = StreamManager("sandbox-key", url=sys.argv[1])
        stream.subscribe_contract("BTC-PERPETUAL")
        stream.on_contract(lambda tick: print(repr(tick.received_at), flush=True))
        stream.record(sys.argv[2])
        stream.run()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), sandbox.url, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    times: list[float] = []
    reader = threading.Thread(target=lambda: times.extend(map(float, child.stdout or ())))
    reader.start()
    deadline = time.monotonic() + 30
    while not times or times[-1] - times[0] < 2.5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    reader.join(10)
    child.stdout.close()
    log = Log(player())
    log.stream.replay(path, speed="max")
    kept = [message[1] for message in log.messages]
    assert kept == times[: len(kept)]
    assert times[-1] - kept[-1] < 1.0


def test_damage_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    """One bad sector would make the whole day unreadable, or damaged bytes would be replayed."""
    path = tmp_path / "feed.finxrec"
    codec, compress = packer(True)
    parts = [block(pack([Started(1, "run", 0, "FinX", 1.0), Opened(0, "", 1.0, 1.0)]), codec, compress)]
    for number in range(6):
        payload = json.dumps({**CONTRACT, "timestamp": str(number)}).encode()
        parts.append(block(pack([Received([0], [float(number)], [float(number)], [1], [payload])]), codec, compress))
    damaged = bytearray(parts[2])
    damaged[-3] ^= 1
    path.write_bytes(b"".join([*parts[:2], damaged, *parts[3:]]) + parts[1][:40])
    stream = player()
    seen: list[int] = []
    stream.on_contract(lambda tick: seen.append(tick.timestamp))
    replay = stream.replay(path, speed="max")
    assert seen == [0, 2, 3, 4, 5]
    assert [(one.length, one.at_end) for one in replay.damage] == [(len(parts[2]), False), (40, True)]
    assert "damaged" in str(replay.damage[0])


@settings(max_examples=settings.default.max_examples // 2)
@given(st.integers(0, 2**32), st.integers(0, 300), st.booleans())
def test_no_damage_is_ever_played(seed: int, place: int, cut: bool) -> None:
    """A flipped bit would become a price."""
    chance = random.Random(seed)
    codec, compress = packer(chance.random() < 0.5)
    sound = [[Lost(number, 0.0, 1.0)] * 3 for number in range(5)]
    data = bytearray(b"".join(block(pack(records), codec, compress) for records in sound))
    if cut:
        del data[place % len(data) :]
    else:
        data[place % len(data)] ^= 1 << chance.randrange(8)
    found = list(blocks(bytes(data)))
    assert [one.records for one in found if one.records is not None] == [
        records for records in sound if records in [one.records for one in found]
    ]
    assert sum(one.records is None for one in found) <= 1


def test_what_the_disk_cannot_take_is_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages would silently be missing from a recording, or the memory would fill up."""
    from finx_sync.recorder import writer

    monkeypatch.setattr(writer, "MAX_WAITING", 2000)
    gate = threading.Event()
    pack_as_ever = writer.pack
    monkeypatch.setattr(writer, "pack", lambda records: (gate.wait(10), pack_as_ever(records))[1])
    gate.set()
    recording = Recording(tmp_path / "feed.finxrec", "FinX")
    gate.clear()
    connection = Connection("")
    payload = json.dumps(CONTRACT).encode()
    for number in range(50):
        recording.put(Batch([payload], float(number), float(number), connection))
    gate.set()
    recording.stop()
    assert recording.lost > 0
    assert recording.lost + recording.messages == 50
    stream = player()
    gaps: list[Gap] = []
    stream.on_gap(gaps.append)
    stream.replay(tmp_path / "feed.finxrec", speed="max")
    assert sum(gap.missed or 0 for gap in gaps) == recording.lost
    assert {gap.reason for gap in gaps} == {"slow consumer"}


def test_other_venues(sandbox: Sandbox, tmp_path: Path) -> None:
    """Only FinX could be recorded."""
    stream = BitmexStream(environment="sandbox", api_key="sandbox-key", api_secret="sandbox-secret")
    stream.subscribe("trade:XBTUSD", "quote:XBTUSD")
    rows: list[Any] = []
    stream.on_table(rows.append)
    with stream.record(tmp_path / "bitmex.finxrec", compress=False):
        stream.start()
        deadline = time.monotonic() + 20
        while len(rows) < 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        stream.stop(drain=True)
    assert b"sandbox-secret" not in (tmp_path / "bitmex.finxrec").read_bytes()
    again = BitmexStream(environment="sandbox", api_key="sandbox-key", api_secret="sandbox-secret")
    replayed: list[Any] = []
    again.on_table(replayed.append)
    again.replay(tmp_path / "bitmex.finxrec", speed="max")
    assert list(map(repr, replayed)) == list(map(repr, rows))
    with pytest.raises(RecordingError, match="BitMEX"):
        player().replay(tmp_path / "bitmex.finxrec")


def test_wrong_files_and_arguments(tmp_path: Path) -> None:
    """A typo would look like an empty recording."""
    stream = player()
    with pytest.raises(InvalidInputError, match="no recording at"):
        stream.replay(tmp_path / "nothing.finxrec")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(RecordingError, match="is not a recording"):
        stream.replay(tmp_path / "text")
    codec, compress = packer(False)
    newer = block(pack([Started(99, "run", 0, "FinX", 1.0)]), codec, compress)
    (tmp_path / "newer").write_bytes(newer)
    with pytest.raises(RecordingError, match="newer"):
        stream.replay(tmp_path / "newer")
    for wrong in ({"speed": 0}, {"speed": "fast"}, {"until": "noon"}, {"until": True}, {"pause_at": -1}):
        good = block(pack([Started(1, "run", 0, "FinX", 1.0)]), codec, compress)
        (tmp_path / "good").write_bytes(good)
        with pytest.raises(InvalidInputError):
            stream.replay(tmp_path / "good", **wrong)
    with pytest.raises(ConfigError, match="cannot record"):
        stream.record(tmp_path / "text" / "feed.finxrec")
    with pytest.raises(ConfigError, match="rotate_bytes"):
        stream.record(tmp_path / "feed.finxrec", rotate_bytes=0)
    stream.record(tmp_path / "feed.finxrec").stop()


def test_without_zstandard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording would need the package, or report it as missing when it is not needed."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    codec, compress = packer(True)
    assert codec == blocks_format.ZLIB
    (tmp_path / "feed.finxrec").write_bytes(block(pack([Started(1, "run", 0, "FinX", 1.0)]), codec, compress))
    assert RecordingReader(tmp_path / "feed.finxrec").venue == "FinX"


def test_tables(sandbox: Sandbox, tmp_path: Path) -> None:
    """Only this library could read a recording."""
    import duckdb
    import pyarrow.parquet as pq

    path = tmp_path / "feed.finxrec"
    live = recorded(path, sandbox.url, lambda stream, log: wait_for_ticks(log, 30))
    done = player().convert(path, tmp_path / "tables")
    assert done.rows["contract_tick"] + done.rows["spot_tick"] == len(live.messages)
    assert done.damage == []
    rows = pq.read_table(tmp_path / "tables" / "contract_tick.parquet").to_pylist()
    ticks = [item for item in live.messages if item[0] == NAME]
    assert [(row["instrument_name"], row["mark_price"]) for row in rows] == [
        (name, dict(items)["mark_price"]) for name, _, items in ticks
    ]
    assert rows[0]["received_at"].timestamp() == pytest.approx(ticks[0][1], abs=1e-5)
    for _ in range(2):  # existing tables are replaced
        player().convert(path, tmp_path / "feed.duckdb")
    with duckdb.connect(str(tmp_path / "feed.duckdb")) as database:
        assert database.sql("select count(*) from contract_tick").fetchall() == [(len(rows),)]
        assert ("open",) in database.sql("select distinct event from events").fetchall()


def test_the_commands(sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line would lack what the library can do."""
    path = str(tmp_path / "feed.finxrec")
    where = ["--environment", "sandbox", "--url", sandbox.url]
    assert main(["record", NAME, "BTC:USDC", "--output", path, "--count", "12", *where]) == 0
    assert "feed.finxrec" in capsys.readouterr().out
    assert main(["replay", path, "--speed", "max", "--pause-at", "8"]) == 0
    assert 0 < len(capsys.readouterr().out.splitlines()) < 12
    assert main(["replay", path, "--speed", "max"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 12
    assert main(["convert", path, str(tmp_path / "tables")]) == 0
    assert "contract_tick" in capsys.readouterr().out
    assert main(["replay", str(tmp_path / "none.finxrec")]) == 2
    assert main(["record", "--output", path]) == 2


def test_the_writer_keeps_up_with_a_fast_feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searching each message for keys would take longer than the messages take to arrive."""
    looked_at: list[str] = []
    monkeypatch.setattr("finx_sync.recorder.writer.redact", lambda text: looked_at.append(text) or text)
    recording = Recording(tmp_path / "feed.finxrec", "FinX")
    connection = Connection("")
    recording.put(ConnectionOpened(0.0, 0.0, connection, ("sandbox-key",)))
    payload = json.dumps(CONTRACT).encode()
    for number in range(50):
        recording.put(Batch([payload] * 1000, 1e9 + number / 7, number / 7, connection))
    recording.stop(30)
    assert looked_at == []
    assert (recording.messages, recording.lost) == (50_000, 0)
