"""Writes a stream's events to files, on its own thread.

Other threads only put events into a queue. While events come, the writer passes a block to the operating system at
least four times a second, so a process that is killed loses at most the last quarter of a second. If the disk is slower
than the feed, the queue is bounded, and the messages left out are recorded as such.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO, Final

import msgspec

from finx_sync.clock import Clock
from finx_sync.errors import ConfigError, FinxSyncError
from finx_sync.events import Batch, ConnectionOpened, Event
from finx_sync.recorder.encoder import EventEncoder
from finx_sync.recorder.format import VERSION, BlockHeader, Known, Lost, Received, Record, block, pack, packer
from finx_sync.redaction import marks, redact, remember

__all__ = ["ROTATE_BYTES", "Recording", "numbered"]

logger = logging.getLogger("finx_sync")

FLUSH_INTERVAL: Final = 0.25
"""The longest time between two blocks, seconds."""
BLOCK_SIZE: Final = 1024 * 1024
"""Bytes of payloads after which a block is written without waiting."""
MAX_WAITING: Final = 64 * 1024 * 1024
"""Bytes of payloads that may wait for the disk."""
ROTATE_BYTES: Final = 256 * 1024 * 1024
STOP_TIMEOUT: Final = 5.0
SUBSCRIPTIONS_SHARE: Final = 16
"""The subscriptions are repeated after this many times their own size, so that they never take much space."""
SUSPICIOUS: Final = (
    b"apikey", b"api-key", b"api_key", b"secret", b"token", b"signature", b'sign"', b"sign=", b"passw", b"passphrase",
    b"authorization", b"cookie", b"streaming", b"streamer", b"://",
)  # fmt: skip
"""The marks by which `redact` recognises secrets, in lower case: payloads without any of them are not searched."""


def numbered(path: Path, part: int) -> Path:
    """Return the name of a recording's file: ``feed.finxrec``, then ``feed.0001.finxrec`` and so on."""
    return path if part == 0 else path.with_name(f"{path.stem}.{part:04d}{path.suffix}")


class Recording:
    """A recording in progress, made by `Stream.record`. All methods may be called from any thread.

    ::

        with stream.record("feed.finxrec"), stream:
            ...

    Attributes:
        paths: the files so far.
        messages: the number of messages written so far.
        lost: the number of messages left out because the disk was slower than the feed.
        failure: the error that ended the recording; None if there was none.

    Args:
        path: the path of the first file. Existing files are never overwritten.
        venue: the venue of the feed.
        rotate_bytes: the size at which a new file is begun, bytes.
        compress: whether to compress: with zstd if its package is installed, otherwise with zlib.
        on_end: called when the recording takes no more events.

    Raises:
        ConfigError: the file cannot be created, or an option is invalid.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        venue: str,
        *,
        rotate_bytes: int = ROTATE_BYTES,
        compress: bool = True,
        on_end: Callable[[Recording], object] = lambda recording: None,
    ) -> None:
        if not isinstance(rotate_bytes, int) or rotate_bytes < 1:
            raise ConfigError(f"rotate_bytes is a number of bytes above 0, not {rotate_bytes!r}")
        self.paths: list[Path] = []
        self.messages = 0
        self.failure: FinxSyncError | None = None
        self._base = Path(path)
        self._venue = venue
        self._rotate_bytes = rotate_bytes
        self._codec, self._compress = packer(compress)
        self._run = uuid.uuid4().hex
        self._pid = os.getpid()
        self._clock = Clock()
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards the next three, which the threads that call `put` share with the writer
        self._waiting = 0
        self._lost: Lost | None = None
        self.lost = 0
        # Used by the writer's thread only
        self._encoder = EventEncoder()
        self._secrets: set[bytes] = set()
        self._size = 0
        self._began = self._clock.wall()
        self._block = self._first_block = 0
        self._received = self._first_received = 0
        self._since_subscriptions = 0  # bytes
        self._on_end = on_end
        try:
            self._begin_file()
        except OSError as error:
            raise ConfigError(f"cannot record to {self._base}: {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._write, name="finx-sync recorder", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def __repr__(self) -> str:
        state = "recording" if self._thread.is_alive() else "ended"
        return (
            f"<Recording {self._base} {state}, {self.messages} messages in {len(self.paths)} files, {self.lost} lost>"
        )

    # As a sink, on the threads that events come from

    def put(self, event: Event) -> None:
        """Queue an event. The payloads of a batch stay valid."""
        if isinstance(event, Batch):
            # Counted before it is queued, so the writer never subtracts a size that has not been added yet.
            with self._lock:
                if self._waiting + event.size > MAX_WAITING:
                    self._leave_out(event)
                    return
                self._waiting += event.size
        self._queue.put(event)

    def _leave_out(self, batch: Batch) -> None:
        assert self._lock.locked()
        if self._lost is None:
            logger.warning("the recording %s cannot keep up with the feed; messages are left out", self._base)
        before = self._lost or Lost(0, batch.at, batch.at)
        self._lost = Lost(before.count + len(batch.payloads), before.start, batch.at)
        self.lost += len(batch.payloads)

    # The end

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Write the waiting events, and close the file. Further calls do nothing. The stream itself continues.

        Args:
            timeout: how long to wait for the writer, seconds; the log reports it if that was not enough.
        """
        if os.getpid() != self._pid:  # in a forked child: the file belongs to the parent
            return
        self._queue.put(None)  # first, so that an interrupt cannot leave the thread without an end
        self._on_end(self)
        atexit.unregister(self.stop)
        self._thread.join(timeout)
        if self._thread.is_alive():
            logger.warning("the recording %s has not been written to its end within %g s", self._base, timeout)

    @property
    def is_active(self) -> bool:
        """Whether it is still writing."""
        return self._thread.is_alive()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # The writer's thread

    def _write(self) -> None:
        try:
            while self._write_block():
                pass
            self._close_file("run")
        except Exception as error:  # noqa: BLE001  # usually a full disk; the stream continues
            self.failure = ConfigError(f"the recording {self._base} has ended: {type(error).__name__}: {error}")
            logger.error("%s", self.failure)
            self._on_end(self)
        finally:
            self._file.close()

    def _write_block(self) -> bool:
        """Gather records for a while and write them; return whether more may follow."""
        header, records = self._header(), list[Record]()
        size, until, more = 0, time.monotonic() + FLUSH_INTERVAL, True
        while more and size < BLOCK_SIZE:
            try:
                item = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                break
            if item is None:
                more = False
                break
            if isinstance(item, Batch):
                size += item.size
                self.messages += len(item.payloads)
                self._received += len(item.payloads)
            elif isinstance(item, ConnectionOpened):
                self._know(item.secrets)
            self._encoder.add(item, records)
        with self._lock:
            self._waiting -= size
            lost, self._lost = self._lost, None
        if lost is not None:
            records.append(lost)
            self._received += lost.count
        if records:
            self._put(header, records)
            if self._size >= self._rotate_bytes and more:
                self._rotate()
        return more

    def _header(self, closes: str = "") -> BlockHeader:
        """Return the header of the next block."""
        subscriptions = None
        if (
            closes
            or self._block == self._first_block
            or self._since_subscriptions >= SUBSCRIPTIONS_SHARE * self._encoder.size_of_subscriptions
        ):
            subscriptions = list(self._encoder.subscriptions.values())
        return BlockHeader(
            VERSION,
            self._run,
            self._venue,
            self._began,
            len(self.paths) - 1,
            self._first_block,
            self._first_received,
            self._block,
            self._received,
            self._clock.wall(),
            closes,
            list(self._encoder.open.values()),
            self._encoder.state,
            subscriptions,
        )

    def _know(self, secrets: tuple[str, ...]) -> None:
        """Add secrets that must never be written."""
        remember(*secrets)
        self._secrets.update(mark for secret in secrets for mark in marks(secret))

    def _put(self, header: BlockHeader, records: list[Record]) -> None:
        content = pack([header, *(self._cleaned(record) for record in records)])
        data = block(content, self._codec, self._compress)
        self._file.write(data)
        self._file.flush()
        self._size += len(data)
        self._block += 1
        self._since_subscriptions = 0 if header.subscriptions is not None else self._since_subscriptions + len(content)

    def _cleaned(self, record: Record) -> Record:
        """Return the record without any key that a server may have echoed."""
        if not isinstance(record, (Received, Known)) or not self._is_suspicious(b"".join(record.payloads)):
            return record
        return msgspec.structs.replace(record, payloads=[self._clean(bytes(payload)) for payload in record.payloads])

    def _is_suspicious(self, text: bytes) -> bool:
        lower = text.lower()
        return any(mark in lower for mark in SUSPICIOUS) or any(secret in text for secret in self._secrets)

    def _clean(self, payload: bytes) -> bytes:
        if not self._is_suspicious(payload):
            return payload
        return redact(payload.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    # Files

    def _new_file(self) -> BinaryIO:
        """Create the next file of this name that does not exist yet, so that nothing is ever overwritten."""
        self._base.parent.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            path = numbered(self._base, number)
            try:
                file = path.open("xb")
                break
            except FileExistsError:
                number += 1
        self.paths.append(path)
        return file

    def _begin_file(self) -> None:
        """Begin the next file with a block that only has a header, so that the file can be read if nothing follows."""
        self._file = self._new_file()
        self._size, self._first_block, self._first_received = 0, self._block, self._received
        self._put(self._header(), [])

    def _close_file(self, closes: str) -> None:
        """Write a last block that marks the end of the file, so that a reader can tell if the end is missing."""
        self._put(self._header(closes), [])
        os.fsync(self._file.fileno())
        self._file.close()

    def _rotate(self) -> None:
        self._close_file("part")
        self._begin_file()
