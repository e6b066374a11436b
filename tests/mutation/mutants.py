"""Small, evil changes of the library, each with the tests that must notice it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MUTANTS", "Mutant"]


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        name: what the library no longer does.
        path: the file, from the project's root.
        old: a text that stands in it exactly once.
        new: what it becomes.
        tests: what pytest is to run; at least one of them must fail.
    """

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


LOOP = "finx_sync/transport/loop.py"
FRAMES = "finx_sync/transport/frames.py"
CUTTING = "finx_sync/transport/cutting.py"
HANDSHAKE = "finx_sync/transport/handshake.py"
SUPERVISOR = "finx_sync/session/supervisor.py"
APP_TESTS = "tests/transport/test_app.py"
DROP_IN_TESTS = "tests/transport/test_drop_in.py"
FRAME_TESTS = "tests/transport/test_frames.py"
MANAGER_TESTS = "tests/venues/finx/test_stream.py"
HOSTILE_TESTS = "tests/hostile/test_peers.py"

MUTANTS = (
    Mutant(
        "sends no pings",
        LOOP,
        "        self._send(PING, self._heartbeat.payload)\n",
        "",
        (f"{DROP_IN_TESTS}::test_pings_go_out_in_time_and_are_answered",),
    ),
    Mutant(
        "judges no missing pong",
        LOOP,
        "            self._pong_left = self._heartbeat.timeout\n",
        "            self._pong_left = None\n",
        (f"{APP_TESTS}::test_a_peer_that_answers_no_pings_is_dead",),
    ),
    Mutant(
        "answers no pings",
        LOOP,
        "            self._send(PONG, frame.data)\n",
        "            pass\n",
        (f"{DROP_IN_TESTS}::test_pings_go_out_in_time_and_are_answered",),
    ),
    Mutant(
        "does not subscribe again after a reconnect",
        "finx_sync/session/subscriptions.py",
        "append(_Open(key, send, set(carried)))\n            self._ask(endpoint, self._of(endpoint))\n",
        "append(_Open(key, send, set(carried)))\n"
        "            self._ask(endpoint, () if hasattr(self, 'once') else self._of(endpoint))\n"
        "            self.once = True\n",
        (f"{MANAGER_TESTS}::test_each_subscription_once_per_connection",),
    ),
    Mutant(
        "never resets the back-off",
        SUPERVISOR,
        "failures = 1 if self._was_healthy() else failures + 1",
        "failures = failures + 1",
        ("tests/lifecycle/test_endings.py::test_healthy_data_resets_the_back_off",),
    ),
    Mutant(
        "resets the back-off at every connection",
        SUPERVISOR,
        "failures = 1 if self._was_healthy() else failures + 1",
        "failures = 1",
        (f"{HOSTILE_TESTS}::test_a_server_that_breaks_every_connection_is_left_alone_longer_and_longer",),
    ),
    Mutant(
        "redacts nothing",
        "finx_sync/redaction.py",
        '        text = pattern.sub(rf"\\1{REDACTED}", text)\n',
        "        pass\n",
        (f"{MANAGER_TESTS}::test_the_key_is_in_no_log_repr_or_error",),
    ),
    Mutant(
        "retries a refused key",
        "finx_sync/session/failures.py",
        "REFUSING_STATUS: Final = frozenset({401, 403})",
        "REFUSING_STATUS: Final = frozenset({499})",
        (f"{MANAGER_TESTS}::test_a_refusing_handshake_raises_from_start",),
    ),
    Mutant(
        "believes text that is not UTF-8",
        CUTTING,
        "    if text.isascii():\n        return True\n",
        "    return True\n",
        (FRAME_TESTS, "-k", "python"),
    ),
    Mutant(
        "takes messages of any size",
        FRAMES,
        "        if joined + length > self._max_size and opcode < CLOSE:\n",
        "        if False:\n",
        (FRAME_TESTS,),
    ),
    Mutant(
        "believes masked frames",
        FRAMES,
        "        if second & MASKED:\n",
        "        if False:\n",
        (FRAME_TESTS,),
    ),
    Mutant(
        "follows no rule for redirects",
        HANDSHAKE,
        "    if 300 <= answer.status < 400:\n",
        "    if False:\n",
        ("tests/transport/test_connecting.py", "-k", "bad_handshake"),
    ),
    Mutant(
        "believes any Sec-WebSocket-Accept",
        HANDSHAKE,
        '    if headers.get("sec-websocket-accept") != accept:\n',
        "    if False:\n",
        (HOSTILE_TESTS, "-k", "accept"),
    ),
    Mutant(
        "checks no host name",
        "finx_sync/transport/options.py",
        '        context.check_hostname = sslopt.get("check_hostname", True)\n',
        "        context.check_hostname = False\n",
        (f"{DROP_IN_TESTS}::test_the_name_is_checked_without_a_context_of_the_users",),
    ),
    Mutant(
        "lets a child of a fork use the stream",
        "finx_sync/stream/lifecycle.py",
        "        forks.disown(self, why)\n",
        "",
        ("tests/test_forks.py::test_multiprocessing_with_fork",),
    ),
    Mutant(
        "lets any number of bytes wait",
        "finx_sync/pipeline/queue.py",
        "        elif waiting > count and self._waiting_bytes() >= MAX_WAITING_BYTES:\n",
        "        elif False:\n",
        (HOSTILE_TESTS, "-k", "large_messages"),
    ),
)
