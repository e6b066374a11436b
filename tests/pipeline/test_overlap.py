"""Make before break, payload by payload: once, in order, whichever connection is ahead."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from finx_sync.pipeline.overlap import WHOLE, Overlap, Verdict, mark, skip_to


def run(sequence: list[bytes], old_from: int, new_from: int, order: list[bool]) -> tuple[list[bytes], bool]:
    """Deliver a feed over two connections: the old one from `old_from`, the new one from `new_from`, in any order."""
    overlap: Overlap[bytes] = Overlap()
    delivered: list[bytes] = []
    old, new = list(sequence[old_from:]), list(sequence[new_from:])
    for is_old in [*order, *[True] * len(old), *[False] * len(new)]:
        if is_old and old:
            payload = old.pop(0)
            if overlap.old(payload) is Verdict.PASS:
                delivered.append(payload)
                if overlap.switched:
                    delivered += [kept for _, kept in overlap.kept]
                    overlap.kept.clear()
        elif not is_old and new:
            payload = new.pop(0)
            if overlap.new(payload, payload) is Verdict.PASS:
                delivered.append(payload)
    doubtful = overlap.finish()
    delivered += [kept for _, kept in overlap.kept]
    return delivered, doubtful


@given(st.integers(1, 30), st.integers(0, 29), st.lists(st.booleans(), max_size=80))
@example(5, 2, [])
def test_each_payload_once_and_in_order(count: int, new_from: int, order: list[bool]) -> None:
    """A bot would trade twice on one tick, miss one, or see the price go back in time."""
    sequence = [b"%d" % number for number in range(count)]
    new_from = min(new_from, count - 1)
    delivered, doubtful = run(sequence, 0, new_from, order)
    assert delivered == sequence
    assert not doubtful


@given(st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=20), st.integers(0, 19), st.lists(st.booleans()))
def test_true_repeats_are_never_invented(sequence: list[bytes], new_from: int, order: list[bool]) -> None:
    """The same price twice in a second is two ticks; comparing payloads must not make three of them."""
    delivered, _ = run(sequence, 0, min(new_from, len(sequence) - 1), order)
    assert len(delivered) <= len(sequence)
    assert set(delivered) <= set(sequence)


def test_without_proof_it_is_doubtful() -> None:
    """A new connection that begins after the old one's last message may have missed some in between."""
    overlap: Overlap[bytes] = Overlap()
    assert overlap.old(b"1") is Verdict.PASS
    assert overlap.new(b"3", b"3") is Verdict.HOLD
    assert overlap.finish()
    assert [kept for _, kept in overlap.kept] == [b"3"]
    assert not overlap.finish()
    silent: Overlap[bytes] = Overlap()
    assert not silent.finish()


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(0, 10), st.lists(st.booleans(), min_size=60, max_size=60))
def test_large_payloads_are_compared_like_small_ones(sequence: list[int], new_from: int, order: list[bool]) -> None:
    """What is remembered by its hash would be repeated, or taken for another."""
    small = [b"%d" % number for number in sequence]
    large = [b"%d" % number * 2 * WHOLE for number in sequence]
    handed_small, doubt_small = run(small, 0, new_from, order)
    handed_large, doubt_large = run(large, 0, new_from, order)
    assert [payload[:1] for payload in handed_large] == handed_small
    assert doubt_large == doubt_small


def test_large_payloads_are_not_kept() -> None:
    """Thousands of sixteen mebibytes for each name would be remembered for as long as two connections overlap."""
    overlap: Overlap[str] = Overlap()
    for number in range(10):
        overlap.old(b"%d" % number * 100_000)
    assert overlap.new(b"3" * 100_000, "kept") is Verdict.DUPLICATE
    owed = overlap.owed()
    assert len(owed) == 6
    assert all(len(one) <= WHOLE for one in owed)
    assert skip_to(mark(b"5" * 100_000), owed)
    assert len(owed) == 4
