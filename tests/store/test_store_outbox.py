"""The outbox as an archive sees it: leases and fences, a head that moves once, trimming, frames that expire."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import pytest
from store_cases import T, decision_id, record

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable, StoreUnsafe, VersionMoved
from decision_service.core.limits import PARTITIONS
from decision_service.store import Commit, Store, keys
from decision_service.store.changes import unpack
from decision_service.store.memory import MemoryStore
from decision_service.store.open import open_store
from decision_service.store.outbox import ACCESS, LISTS, POLICY, ArchiveHead, OutboxState
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio

PLACE = keys.partition_of("c-1", PARTITIONS)
LEASE_MS = 60_000
KEPT_MS = 60_000


async def fill(store: Store, first: int, last: int) -> list[str]:
    """Commit decisions of c-1 from `first` to before `last`; their ids."""
    ids = [decision_id("c-1", f"r-{number}") for number in range(first, last)]
    for number, one in zip(range(first, last), ids, strict=True):
        await store.commit(Commit("c-1", number, record(number), decision=(one, b"frame %d" % number)), T)
    return ids


async def taken(store: Store, owner: str = "one", lease_ms: int = LEASE_MS, place: int = PLACE) -> ArchiveHead:
    """The head of the place, which must be free or this owner's."""
    head = await store.take_place(place, owner, lease_ms, T)
    assert head is not None
    return head


async def step(store: Store, head: ArchiveHead, count: int = 10, place: int = PLACE, trim: bool = True) -> ArchiveHead:
    """Archive the next entries; the new head."""
    entries = await store.read_outbox(place, head.last_id, count, T)
    position = head.position + len(entries)
    last_id = entries[-1][0] if entries else head.last_id
    new = ArchiveHead(position, bytes([position % 256]) * 32, last_id, f"p={position}.parquet", head.fence)
    ids = [fields[b"id"].decode() for _, fields in entries if b"id" in fields]
    await store.archived(place, head, new, ids, KEPT_MS, head.last_id if trim else b"", T)
    return new


async def test_outbox_is_read_on_from_an_id(any_store: Store) -> None:
    """Entries come oldest first, each once, however small the portions, and tell of the commits."""
    ids = await fill(any_store, 0, 7)
    found, after = [], b""
    while entries := await any_store.read_outbox(PLACE, after, 3, T):
        found += entries
        after = entries[-1][0]
    assert [unpack(fields).decision_id for _, fields in found] == ids
    assert [unpack(fields).version for _, fields in found] == list(range(1, 8))
    assert len({entry_id for entry_id, _ in found}) == 7
    assert await any_store.read_outbox(PLACE + 1, b"", 3, T) == []


async def test_outbox_head_is_what_was_archived(any_store: Store) -> None:
    """A head is told as it was set, byte for byte, to its owner again and to the next one."""
    assert await taken(any_store) == ArchiveHead(fence=1)
    await fill(any_store, 0, 3)
    head = ArchiveHead(
        3, bytes(range(32)), (await any_store.read_outbox(PLACE, b"", 9, T))[-1][0], "空/a b}.parquet", 1
    )
    await any_store.archived(PLACE, ArchiveHead(fence=1), head, [], KEPT_MS, b"", T)
    assert await taken(any_store) == head
    await any_store.leave_place(PLACE, "one", T)
    assert await taken(any_store, "two") == head._replace(fence=2)


async def test_outbox_place_has_one_owner(any_store: Store) -> None:
    """Of many who ask at once one gets it; the others when it is left, and nobody by leaving what is another's."""
    heads = await asyncio.gather(*(any_store.take_place(PLACE, f"o-{n}", LEASE_MS, T) for n in range(10)))
    winners = [n for n, head in enumerate(heads) if head is not None]
    assert len(winners) == 1
    owner = f"o-{winners[0]}"
    await any_store.leave_place(PLACE, "somebody", T)
    assert await any_store.take_place(PLACE, "somebody", LEASE_MS, T) is None
    assert (await taken(any_store, owner)).fence == 1, "keeping a place is no new owner"
    await any_store.leave_place(PLACE, owner, T)
    assert (await taken(any_store, "somebody")).fence == 2
    assert (await taken(any_store, owner, place=PLACE + 1)).fence == 1, "places are apart"


@pytest.mark.parametrize("next_owner", ["one", "two", None])
async def test_outbox_lapsed_owner_writes_nothing(any_store: Store, next_owner: str | None) -> None:
    """Whoever was away for longer than the lease cannot move the head, be the place another's, taken again or free."""
    await fill(any_store, 0, 5)
    head = await taken(any_store, lease_ms=30)
    await asyncio.sleep(0.08)
    if next_owner is not None:
        assert (await taken(any_store, next_owner)).fence == head.fence + 1
    before = await any_store.outbox_state(PLACE, T)
    with pytest.raises(VersionMoved):
        await step(any_store, head)
    assert (await any_store.outbox_state(PLACE, T)) == before
    assert await step(any_store, await taken(any_store, next_owner or "three"))


async def test_outbox_head_moves_once(any_store: Store) -> None:
    """Of two steps from one head, also of one owner, one is taken; only from the very head that is there."""
    await fill(any_store, 0, 5)
    head = await taken(any_store)
    results = await asyncio.gather(step(any_store, head, 3), step(any_store, head, 5), return_exceptions=True)
    assert sorted(type(one) for one in results if isinstance(one, Exception)) == [VersionMoved]
    now = await taken(any_store)
    assert now in results
    for other in (
        now._replace(position=now.position - 1), now._replace(hash=bytes(32)), now._replace(path=""),
        now._replace(last_id=b"1-1"), now._replace(fence=7),
    ):  # fmt: skip
        with pytest.raises(VersionMoved):
            await any_store.archived(PLACE, other, now._replace(fence=other.fence), [], KEPT_MS, b"", T)
    assert await taken(any_store) == now


async def test_outbox_is_trimmed_through_what_an_earlier_head_covers(any_store: Store) -> None:
    """A step trims what the head before it covered and nothing else; the last rows go when there is nothing new."""
    await fill(any_store, 0, 25)
    head, left = await taken(any_store), []
    for _ in range(5):
        head = await step(any_store, head)
        left.append((await any_store.outbox_state(PLACE, T)).length)
    assert left == [25, 15, 5, 0, 0]
    await fill(any_store, 25, 26)
    assert await any_store.read_outbox(PLACE, b"", 9, T) == await any_store.read_outbox(PLACE, head.last_id, 9, T) != []


async def test_outbox_refuses_steps_back_and_trimming_ahead(any_store: Store) -> None:
    """What would lose an entry is a mistake of the caller, and changes nothing."""
    await fill(any_store, 0, 20)
    one = await step(any_store, await taken(any_store))
    two = await step(any_store, one)
    for expected, head, trim, told in [
        (two, one, b"", "position"), (two, two, b"9999999999999-0", "trim_through"), (one, two, two.last_id, "trim_"),
        (two, two._replace(last_id=one.last_id), b"", "last_id"), (two, two._replace(fence=9), b"", "fence"),
        (two, two._replace(hash=b"short"), b"", "position"), (two, two, b"$", "not the id"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=told):
            await any_store.archived(PLACE, expected, head, [], KEPT_MS, trim, T)
    assert await taken(any_store) == two
    assert (await any_store.outbox_state(PLACE, T)).length == 10


async def test_outbox_state_tells_what_waits(any_store: Store) -> None:
    """Entries in all and those behind the head, with the instants of the oldest of each."""
    assert await any_store.outbox_state(PLACE, T) == OutboxState(0, 0, 0, 0)
    await fill(any_store, 0, 12)
    entries = await any_store.read_outbox(PLACE, b"", 99, T)
    instants = [int(entry_id.split(b"-")[0]) for entry_id, _ in entries]
    assert await any_store.outbox_state(PLACE, T) == OutboxState(12, instants[0], 12, instants[0])
    head = await step(any_store, await taken(any_store), 5)
    assert await any_store.outbox_state(PLACE, T) == OutboxState(12, instants[0], 7, instants[5])
    head = await step(any_store, head, 5)
    assert await any_store.outbox_state(PLACE, T) == OutboxState(7, instants[5], 2, instants[10])
    head = await step(any_store, head, 5)
    assert await any_store.outbox_state(PLACE, T) == OutboxState(2, instants[10], 0, 0)
    await step(any_store, head, 5)
    assert await any_store.outbox_state(PLACE, T) == OutboxState(0, 0, 0, 0)


async def test_outbox_frames_expire_once_they_are_archived(any_store: Store) -> None:
    """Frames and shadow records of the decisions named, however many, are kept so long and no longer; others stay."""
    ids = await fill(any_store, 0, 3)
    await any_store.save_shadows(dict.fromkeys(ids, b"{}"), T)
    await any_store.save_shadow_policy(dict.fromkeys(ids, b"{}"), T)
    head = await taken(any_store)
    names = [*ids[:2], *(decision_id("c-1", f"gone-{n}") for n in range(1_200))]
    last = (await any_store.read_outbox(PLACE, b"", 9, T))[-1][0]
    new = head._replace(position=9, hash=b"h" * 32, last_id=last)
    await any_store.archived(PLACE, head, new, names, KEPT_MS, b"", T)
    assert await any_store.read_decisions(PLACE, ids, T) == [b"frame 0", b"frame 1", b"frame 2"]
    await any_store.archived(PLACE, new, new, names, 1, b"", T)
    await asyncio.sleep(0.05)
    assert await any_store.read_decisions(PLACE, ids, T) == [None, None, b"frame 2"]
    assert [await any_store.read_shadows(one, T) for one in ids] == [None, None, b"{}"]
    assert [await any_store.read_shadow_policy(one, T) for one in ids] == [None, None, b"{}"]
    state = await any_store.read("c-1", ids[0], T)
    assert (state.version, state.decision, len(state.log)) == (3, None, 4 * 64), "what a decision left stays"
    with pytest.raises(ValueError, match="not the id of a decision"):
        await any_store.archived(PLACE + 1, new, new, ids, KEPT_MS, b"", T)


async def test_outbox_goes_on_behind_an_archive_that_is_ahead(any_store: Store) -> None:
    """A store that was set back takes over the head of the archive; what it takes from then on has ids behind it,
    though its clock has not come so far, and the next row is the one after the archive's last."""
    await fill(any_store, 0, 2)
    ahead = ArchiveHead(900, b"a" * 32, b"9999999999999-3", "p=900.parquet", 1)
    await any_store.archived(PLACE, await taken(any_store), ahead, [], KEPT_MS, b"", T)
    assert (await any_store.outbox_state(PLACE, T)).waiting == 0
    ids = await fill(any_store, 2, 5)
    assert (await any_store.outbox_state(PLACE, T)).waiting == 3
    entries = await any_store.read_outbox(PLACE, ahead.last_id, 9, T)
    assert [fields[b"id"].decode() for _, fields in entries] == ids
    head = await step(any_store, ahead, 2)
    assert (head.position, await any_store.outbox_state(PLACE, T)) == (
        902, OutboxState(3, 9_999_999_999_999, 1, 9_999_999_999_999)
    )  # fmt: skip


async def test_outbox_takes_entries_of_its_own(any_store: Store) -> None:
    """Erasures and accesses stand among the rest, in the order they came."""
    await fill(any_store, 0, 1)
    mine = await any_store.add_entry(PLACE, {b"kind": b"erasure", b"body": b"{}"}, T)
    await fill(any_store, 1, 2)
    entries = await any_store.read_outbox(PLACE, b"", 9, T)
    assert [fields[b"kind"] for _, fields in entries] == [b"decision", b"erasure", b"decision"]
    assert entries[1] == (mine, {b"kind": b"erasure", b"body": b"{}"})
    read = await any_store.add_entry(ACCESS, {b"kind": b"access", b"by": b"x\r\n"}, T)
    assert await any_store.read_outbox(ACCESS, b"", 9, T) == [(read, {b"kind": b"access", b"by": b"x\r\n"})]
    head = await step(any_store, await taken(any_store, place=ACCESS), place=ACCESS)
    assert (head.position, (await any_store.outbox_state(ACCESS, T)).waiting) == (1, 0)


async def test_outbox_lets_decisions_of_an_erased_customer_expire_at_once(any_store: Store) -> None:
    """Those that are named; the others stay."""
    ids = await fill(any_store, 0, 2)
    await any_store.expire_decisions(PLACE, ids[:1], 1, T)
    await asyncio.sleep(0.05)
    assert [await any_store.read_decision(one, T) is None for one in ids] == [True, False]
    with pytest.raises(ValueError, match="not the id of a decision"):
        await any_store.expire_decisions(PLACE + 1, ids, 1, T)


async def test_outbox_tells_its_heads_to_those_who_only_look(any_store: Store) -> None:
    """Without a lease, and also of a place that nobody ever took."""
    await fill(any_store, 0, 1)
    assert await any_store.archive_head(PLACE, T) == ArchiveHead()
    head = await step(any_store, await taken(any_store))
    assert await any_store.archive_head(PLACE, T) == head


async def test_outbox_is_told_of_policies_and_lists(any_store: Store) -> None:
    """Each published policy by its number and head, each change of a list with who made it; nothing of no change."""
    assert await any_store.publish_policy(0, b"head one", b"bundle", T) == 1
    with pytest.raises(VersionMoved):
        await any_store.publish_policy(0, b"late", b"bundle", T)
    assert await any_store.publish_policy(1, b"head two", b"bundle", T) == 2
    told = [fields for _, fields in await any_store.read_outbox(POLICY, b"", 9, T)]
    assert told == [
        {b"kind": b"policy", b"number": b"1", b"head": b"head one"},
        {b"kind": b"policy", b"number": b"2", b"head": b"head two"},
    ]
    for present in (True, True, False, False):
        await any_store.change_list("block", "m-\n1", present, T, by="ann")
    await any_store.change_list("watch", "d-1", True, T)
    rest = [fields for _, fields in await any_store.read_outbox(LISTS, b"", 9, T)]
    wanted = [
        (b"list", b"block", b"m-\n1", b"1", b"1", b"ann"), (b"list", b"block", b"m-\n1", b"0", b"2", b"ann"),
        (b"list", b"watch", b"d-1", b"1", b"3", b""),
    ]  # fmt: skip
    assert [tuple(fields.values()) for fields in rest] == wanted
    assert list(rest[0]) == [b"kind", b"list", b"value", b"present", b"version", b"by"]
    for place in (POLICY, LISTS):
        await step(any_store, await taken(any_store, place=place), place=place)
        assert (await any_store.outbox_state(place, T)).waiting == 0


@pytest.mark.parametrize("seed", range(3))
async def test_outbox_owners_that_race_and_lapse_archive_each_entry_once(any_store: Store, seed: int) -> None:
    """Owners that come, go, are away for too long and die between any two steps, while entries come: in the end the
    segments behind the heads hold every entry once, in order, and nothing was trimmed that is in none."""
    rng, staged, published = Random(seed), dict[str, list[bytes]](), dict[str, list[bytes]]()
    stop = False

    async def own(name: str) -> None:
        while not stop:
            head = await any_store.take_place(PLACE, name, rng.choice((5, 2_000)), T)
            if head is None:
                await asyncio.sleep(0.002)
                continue
            if head.path and head.path not in published:
                published[head.path] = staged[head.path]
            with contextlib.suppress(VersionMoved):
                for _ in range(rng.randint(1, 4)):
                    head = await one(head, name)
            if rng.random() < 0.5:
                await any_store.leave_place(PLACE, name, T)

    async def one(head: ArchiveHead, name: str) -> ArchiveHead:
        entries = await any_store.read_outbox(PLACE, head.last_id, rng.randint(1, 9), T)
        if not entries:
            await asyncio.sleep(0.001)
            return head
        position = head.position + len(entries)
        new = ArchiveHead(position, rng.randbytes(32), entries[-1][0], f"{head.position}-{position}-{name}", head.fence)
        staged[new.path] = [fields[b"id"] for _, fields in entries]
        await asyncio.sleep(rng.choice((0, 0, 0.001, 0.01)))  # perhaps for longer than the lease
        await any_store.archived(PLACE, head, new, [], KEPT_MS, head.last_id, T)
        if rng.random() < 0.2:
            raise VersionMoved("it dies before it published")
        published[new.path] = staged[new.path]
        return new

    owners = [asyncio.create_task(own(f"o-{n}")) for n in range(3)]
    ids = await fill(any_store, 0, 120)
    async with asyncio.timeout(30):
        while (await any_store.outbox_state(PLACE, T)).waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    stop = True
    await asyncio.gather(*owners)
    last = await any_store.take_place(PLACE, "o-0", 1_000, T) or await any_store.take_place(PLACE, "o-1", 1_000, T)
    if last is not None:
        published.setdefault(last.path, staged[last.path])
    segments = sorted(published, key=lambda path: int(path.split("-")[0]))
    assert [one.decode() for path in segments for one in published[path]] == ids


# --- a server ---------------------------------------------------------------------------------------------------------


async def test_outbox_lost_reply_shows_in_the_head(valkey: str, valkey_server: ValkeyServer) -> None:
    """Who does not know whether the head moved takes the place again and sees it; asked once more, nothing is done
    twice."""
    store = open_store(valkey)
    try:
        await fill(store, 0, 10)
        head = await taken(store)
        new = await step(store, head, 4)
        with pytest.raises(VersionMoved):
            await store.archived(PLACE, head, new, [], KEPT_MS, b"", T)
        assert await taken(store) == new
        await store.archived(PLACE, new, new, [], KEPT_MS, new.last_id, T)
        assert await store.outbox_state(PLACE, T) == OutboxState(
            6, *(await _instant(store, new),), 6, await _instant(store, new)
        )
    finally:
        await store.close()


async def _instant(store: Store, head: ArchiveHead) -> int:
    return int((await store.read_outbox(PLACE, head.last_id, 1, T))[0][0].split(b"-")[0])


async def test_outbox_lease_is_kept_by_taking_again(store: Store, valkey_server: ValkeyServer) -> None:
    """An owner who takes its place again keeps it for that much longer, with its fence."""
    head = await taken(store, lease_ms=LEASE_MS)
    assert await taken(store, lease_ms=3 * LEASE_MS) == head
    with valkey_server.client() as client:
        assert LEASE_MS < client.pttl(keys.lease_key(PLACE)) <= 3 * LEASE_MS


async def test_outbox_group_tells_any_tool_how_far_the_archive_is(valkey: str, valkey_server: ValkeyServer) -> None:
    """The consumer group `archive` stands where the head stands, and its lag is what waits; it is made again for a
    stream that was deleted."""
    store = open_store(valkey)

    def group() -> tuple[bytes, int | None]:
        with valkey_server.client() as client:
            (told,) = client.xinfo_groups(keys.outbox_key(PLACE))
        return told["last-delivered-id"], told["lag"]

    try:
        await fill(store, 0, 10)
        head = await step(store, await taken(store), 4)
        assert group() == (head.last_id, 6)
        head = await step(store, head, 4)
        assert group() == (head.last_id, 2)
        with valkey_server.client() as client:
            client.delete(keys.outbox_key(PLACE))
        assert await store.outbox_state(PLACE, T) == OutboxState(0, 0, 0, 0)
        head = await step(store, head)
        await fill(store, 10, 15)
        assert (await store.outbox_state(PLACE, T)).waiting == 5
        head = await step(store, head, 2)
        head = await step(store, head, 1)
        assert (await store.outbox_state(PLACE, T)).waiting == 2
        assert group()[0] == head.last_id
    finally:
        await store.close()


async def test_outbox_tells_what_waits_where_the_server_cannot(valkey: str, valkey_server: ValkeyServer) -> None:
    """A group that is made in the midst of a stream knows no lag: what waits is counted until it does."""
    store = open_store(valkey)
    key = keys.outbox_key(PLACE)
    try:
        await fill(store, 0, 10)
        head = await step(store, await taken(store), 3)
        with valkey_server.client() as client:
            client.xgroup_destroy(key, "archive")
            head = await step(store, head, 3, trim=False)
            assert client.xinfo_groups(key)[0]["lag"] is None
            assert (await store.outbox_state(PLACE, T)).waiting == 4
            head = await step(store, head, 4)
            await fill(store, 10, 15)
            head = await step(store, head, 2)
            assert client.xinfo_groups(key)[0]["lag"] == 3 == (await store.outbox_state(PLACE, T)).waiting
    finally:
        await store.close()


async def test_outbox_lease_without_its_head_is_nobodys(store: Store, valkey_server: ValkeyServer) -> None:
    """A head that is gone under a lease is not taken for an empty one of the same owner: the fence is another."""
    await fill(store, 0, 3)
    for _ in range(3):
        await store.leave_place(PLACE, "one", T)
        head = await taken(store)
    assert head.fence == 3
    with valkey_server.client() as client:
        client.delete(keys.head_key(PLACE))
    with pytest.raises(VersionMoved):
        await step(store, head)
    assert await taken(store, "two") == ArchiveHead(fence=1)
    assert await store.take_place(PLACE, "one", LEASE_MS, T) is None


@pytest.mark.fault("B13", "C12")
@pytest.mark.parametrize("sort", ["head", "lease", "outbox"])
async def test_outbox_of_another_type_changes_nothing(store: Store, valkey_server: ValkeyServer, sort: str) -> None:
    """A key of a place that is of another type is told, and no other key changes."""
    await fill(store, 0, 5)
    head = await taken(store)
    spoilt = {"head": keys.head_key(PLACE), "lease": keys.lease_key(PLACE), "outbox": keys.outbox_key(PLACE)}[sort]
    with valkey_server.client() as client:
        client.delete(spoilt)
        client.sadd(spoilt, "odd")
        before = {key: client.dump(key) for key in client.keys("*") if b"{meta}" not in key}
        entries = [(b"1-1", {b"kind": b"change"})] if sort == "outbox" else await store.read_outbox(PLACE, b"", 9, T)
        new = head._replace(position=1, last_id=entries[0][0])
        with pytest.raises(Exception, match="another type"):
            await store.archived(PLACE, head, new, [], KEPT_MS, b"", T)
        assert {key: client.dump(key) for key in client.keys("*") if b"{meta}" not in key} == before


@pytest.mark.fault("A10")
async def test_outbox_of_a_store_that_lost_its_history_is_nobodys(valkey: str, valkey_server: ValkeyServer) -> None:
    """A store that is empty though it was in use has no head of its own: no chain begins anew over an archive that has
    rows. Once it is accepted, whoever has those rows goes on from them."""
    store = open_store(valkey)
    try:
        await fill(store, 0, 6)
        old = await step(store, await taken(store))
        with valkey_server.client() as client:
            client.flushall()
        for _ in range(200):
            try:
                await store.take_place(PLACE, "one", LEASE_MS, T)
            except StoreUnsafe:
                break
            except (StoreUnavailable, OutcomeUnknown):
                await asyncio.sleep(0.01)
        else:
            raise AssertionError("the place of a store that lost its history was taken")
        with pytest.raises(VersionMoved):
            await store.archived(PLACE, old, old._replace(position=9), [], KEPT_MS, b"", T)
        await store.accept_history(T)
        head = await taken(store)
        assert head == ArchiveHead(fence=1)
        await fill(store, 0, 2)
        await store.archived(PLACE, head, old._replace(fence=head.fence), [], KEPT_MS, b"", T)
        again = await step(store, await taken(store))
        assert again.position == old.position + 2
    finally:
        await store.close()


async def test_outbox_in_memory_lapses_by_its_own_clock() -> None:
    """A store in memory tells time by the clock it is given; ids rise though that steps back."""
    now = [1_000]
    store = MemoryStore(now_ms=lambda: now[0])
    await fill(store, 0, 2)
    now[0] = 500
    await fill(store, 2, 3)
    assert [one for one, _ in await store.read_outbox(PLACE, b"", 9, T)] == [b"1000-0", b"1000-1", b"1000-2"]
    head = await taken(store, lease_ms=10)
    now[0] = 505
    assert await taken(store, lease_ms=10) == head
    now[0] = 514
    assert await store.take_place(PLACE, "two", 10, T) is None
    now[0] = 515
    assert await store.take_place(PLACE, "two", 10, T) == head._replace(fence=2)
