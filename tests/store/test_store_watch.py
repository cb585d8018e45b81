"""What watching scorecards asks of every store: tallies, the decisions of an outbox, summaries."""

from __future__ import annotations

import asyncio

import pytest
from store_cases import T, decision_id

from decision_service.core.limits import PARTITIONS
from decision_service.store import TALLY_AT_ONCE, Commit, Store
from decision_service.store.keys import partition_of, tally_key
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio

SERIES = "behaviour/2026.11.2/1f0c9a3e5b7d/champion/drawdown"
FOR_EVER_MS = 2**53


async def test_store_increments_of_a_day_add_up(any_store: Store) -> None:
    """Whoever gives them, in whatever order; another day and another series have counts of their own."""
    await any_store.add_tally(SERIES, 20_000, {b"n": 3, b"0.10": 1}, 400, T)
    await asyncio.gather(
        any_store.add_tally(SERIES, 20_000, {b"n": 4, b"p": 2**60}, 400, T),
        any_store.add_tally(SERIES, 20_001, {b"n": 1}, 400, T),
        any_store.add_tally(SERIES + "2", 20_000, {b"n": 9}, 400, T),
    )
    assert await any_store.read_tally(SERIES, 20_000, T) == {b"n": 7, b"0.10": 1, b"p": 2**60}
    assert await any_store.read_tally(SERIES, 20_002, T) == {}
    assert dict(await any_store.tally_days(T)) == {SERIES: [20_000, 20_001], SERIES + "2": [20_000]}


async def test_store_forgets_days_beyond_those_that_are_kept(any_store: Store) -> None:
    """A new day takes the place of the oldest; what is kept cannot grow."""
    for day in (100, 109, 110):
        await any_store.add_tally(SERIES, day, {b"n": 1}, 10, T)
    assert dict(await any_store.tally_days(T)) == {SERIES: [100, 109, 110]}
    await any_store.add_tally("other", 111, {b"n": 1}, 10, T)
    assert dict(await any_store.tally_days(T)) == {"other": [111], SERIES: [109, 110]}


async def test_store_takes_more_increments_than_one_script_does(any_store: Store) -> None:
    """A scorecard of 2,000 features has more bins than are added at once."""
    many = {b"%d.%d" % (row, column): row + 1 for row in range(TALLY_AT_ONCE // 5) for column in range(11)}
    await any_store.add_tally(SERIES, 1, many, 400, T)
    assert await any_store.read_tally(SERIES, 1, T) == many


async def test_store_counts_expire_with_the_days_that_are_kept(valkey_server: ValkeyServer) -> None:
    """The hash itself goes after as many days, even if nothing is ever counted again."""
    store = open_store(valkey_server.url)
    await store.add_tally(SERIES, 20_000, {b"n": 1}, 7, T)
    await store.close()
    with valkey_server.client() as client:
        left_ms = client.pttl(tally_key(SERIES, 20_000))
    assert 6.9 * 86_400_000 < left_ms <= 7 * 86_400_000


async def test_store_tells_the_decisions_of_an_outbox_page_by_page(any_store: Store) -> None:
    """Every decision of the partition once, in the order they were committed, among events and across pages."""
    partition = partition_of("c-1", PARTITIONS)
    wanted = []
    for number in range(260):
        wanted.append(decision_id("c-1", f"r-{number}"))
        await any_store.commit(Commit("c-1", 2 * number, decision=(wanted[-1], b"frame %d" % number)), T)
        await any_store.commit(Commit("c-1", 2 * number + 1, events=[b"{}"]), T)
    told: list[str] = []
    after, pages = b"", 0
    while pages == 0 or after:
        after, ids = await any_store.outbox_decisions(partition, 0, FOR_EVER_MS, after, T)
        told += ids
        pages += 1
    assert told == wanted
    other = partition_of("c-2", PARTITIONS)
    assert await any_store.outbox_decisions(other, 0, FOR_EVER_MS, b"", T) == (b"", [])


async def test_store_leaves_out_decisions_of_other_times(valkey: str) -> None:
    """Instants are the server's own: what was committed before or after them is not read."""
    store = open_store(valkey)
    await store.commit(Commit("c-1", 0, decision=(decision_id("c-1"), b"f")), T)
    partition = partition_of("c-1", PARTITIONS)
    assert (await store.outbox_decisions(partition, 0, FOR_EVER_MS, b"", T))[1] == [decision_id("c-1")]
    assert (await store.outbox_decisions(partition, 0, 1_000, b"", T))[1] == []
    assert (await store.outbox_decisions(partition, FOR_EVER_MS - 1, FOR_EVER_MS, b"", T))[1] == []
    await store.close()


async def test_store_reads_many_frames_at_once(any_store: Store) -> None:
    """In the order asked for; None for one that is not there."""
    first, second, gone = (decision_id("c-1", request) for request in ("a", "b", "c"))
    await any_store.commit(Commit("c-1", 0, decision=(first, b"1")), T)
    await any_store.commit(Commit("c-1", 1, decision=(second, b"2")), T)
    partition = partition_of("c-1", PARTITIONS)
    assert list(await any_store.read_decisions(partition, [second, gone, first], T)) == [b"2", None, b"1"]
    assert list(await any_store.read_decisions(partition, [], T)) == []
    with pytest.raises(ValueError, match="is not the id of a decision of partition"):
        await any_store.read_decisions(partition, ["d" + "f" * 35], T)


async def test_store_keeps_the_last_summary_of_a_name(any_store: Store) -> None:
    """A new one takes the place of the old; others stay."""
    assert dict(await any_store.read_watches(T)) == {}
    await any_store.save_watch("behaviour/1", b"{}", T)
    await any_store.save_watch("behaviour/2", b"\0\r\n", T)
    await any_store.save_watch("behaviour/1", b"[1]", T)
    assert dict(await any_store.read_watches(T)) == {"behaviour/1": b"[1]", "behaviour/2": b"\0\r\n"}
