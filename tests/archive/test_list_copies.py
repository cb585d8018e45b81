"""Copies of lists: every list that ever was can be had again, and changes of large lists cost little."""

from __future__ import annotations

import random

import orjson
import pytest

from decision_service.policies.list_copies import ListCopies, digest_of, rebuild


def changing(copies: ListCopies, kept: dict[str, bytes], values: set[str]) -> str:
    """What a worker does when a list moves."""
    digest = copies.look(frozenset(values))
    if digest not in kept:
        kept[digest] = copies.document()
    return digest


def test_list_copies_rebuild_every_list_that_there_was() -> None:
    """Values that come and go, seen by two workers that start at different times; all of it from what was kept."""
    rng = random.Random(7)
    kept: dict[str, bytes] = {}
    first, second = ListCopies(), ListCopies()
    values: set[str] = set()
    seen: dict[str, frozenset[str]] = {}
    for step in range(400):
        for _ in range(rng.randint(1, 3)):
            values.symmetric_difference_update({f"c-{rng.randint(0, 60)}"})
        workers = [first] if step < 100 else rng.sample([first, second], 2)
        for copies in workers:
            seen[changing(copies, kept, values)] = frozenset(values)
    assert len(seen) > 200
    for digest, was in seen.items():
        assert rebuild(digest, kept.get) == was
        assert digest == digest_of(sorted(was))


@pytest.mark.slow
def test_list_copies_cost_a_fraction_of_the_list_a_change() -> None:
    """1,000 changes of a list of 20,000: what is kept in all is less than 40 copies."""
    values = {f"customer-{n}" for n in range(20_000)}
    copies, kept = ListCopies(), dict[str, bytes]()
    changing(copies, kept, values)
    whole = sum(map(len, kept.values()))
    for step in range(1_000):
        values.add(f"later-{step}")
        changing(copies, kept, values)
    assert sum(map(len, kept.values())) < 40 * whole
    whole_ones = sum("values" in orjson.loads(document) for document in kept.values())
    assert 2 < whole_ones < 20


def test_list_copies_are_whole_again_after_a_loss() -> None:
    """What was kept and is lost is built on no more."""
    copies, kept = ListCopies(), dict[str, bytes]()
    changing(copies, kept, {"a", "b"})
    kept.clear()
    copies.start_again()
    digest = changing(copies, kept, {"a", "b", "c"})
    assert rebuild(digest, kept.get) == {"a", "b", "c"}


def test_list_copies_that_are_wrong_are_no_list() -> None:
    """A document that is missing, of another list, of no list, or that rests on itself."""
    digest = digest_of(["a"])
    with pytest.raises(ValueError, match="is not kept"):
        rebuild(digest, lambda _digest: None)
    for document in (b"[]", b'{"values": [1]}', b'{"base": "x"}', b"\0"):
        with pytest.raises(ValueError, match="damaged"):
            rebuild(digest, {digest: document}.get)
    with pytest.raises(ValueError, match="another list"):
        rebuild(digest, {digest: b'{"values": ["b"]}'}.get)
    with pytest.raises(ValueError, match="no whole copy"):
        rebuild(digest, lambda at: orjson.dumps({"base": at, "added": [], "removed": []}))
