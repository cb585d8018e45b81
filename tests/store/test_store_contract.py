"""What every store promises, checked on memory, on a real server and on a real cluster of three primaries."""

from __future__ import annotations

import asyncio

import pytest
from store_cases import T, decision_id, facility, record

from decision_service.core.errors import StoreDamaged, VersionMoved
from decision_service.core.event import EMPTY_LOG, header
from decision_service.core.facility import Attribute
from decision_service.core.limits import EVENTS_PER_CUSTOMER_MAX
from decision_service.store import Commit, CustomerState, Store, WorkerStatus

pytestmark = pytest.mark.anyio

ODD_IDS = [
    "}",
    "{",
    "{}x}",
    "a{b}c",
    "}{",
    "line\nbreak\r\n",
    "空 格",
    "👩‍👩‍👧",
    " ",
    "*?[a]",
    "x" * 128,
    "$5\r\nhello",
]


async def test_store_unknown_customer_is_empty(any_store: Store) -> None:
    """A customer never heard of has version 0, an empty log and nothing else."""
    assert await any_store.read("c-1", decision_id("c-1"), T) == CustomerState(0, EMPTY_LOG, {}, {}, None)


async def test_store_commit_is_read_back_whole(any_store: Store) -> None:
    """Everything in a commit is there in the next read, under the version the commit answered."""
    wanted = decision_id("c-1")
    version = await any_store.commit(
        Commit(
            "c-1",
            0,
            record(1) + record(2),
            facilities={"f-1": facility(), "f-2": facility("f-2", days_past_due=0)},
            attributes={"pi": Attribute(3.141592653589793, 5), "city": Attribute("上海", 6)},
            decision=(wanted, b"\0frame\r\n"),
            events=[b"{}"],
        ),
        T,
    )
    state = await any_store.read("c-1", wanted, T)
    assert state == CustomerState(
        version,
        EMPTY_LOG + record(1) + record(2),
        {"f-1": facility(), "f-2": facility("f-2", days_past_due=0)},
        {"pi": Attribute(3.141592653589793, 5), "city": Attribute("上海", 6)},
        b"\0frame\r\n",
    )
    assert await any_store.read_decision(wanted, T) == b"\0frame\r\n"


async def test_store_every_commit_moves_the_version(any_store: Store) -> None:
    """Versions count up by one, also for a commit with nothing in it."""
    assert [await any_store.commit(Commit("c-1", n), T) for n in range(3)] == [1, 2, 3]


async def test_store_moved_version_writes_nothing(any_store: Store) -> None:
    """A commit on a version that moved changes nothing at all."""
    await any_store.commit(Commit("c-1", 0, record(1)), T)
    before = await any_store.read("c-1", decision_id("c-1"), T)
    late = Commit(
        "c-1",
        0,
        record(2),
        header(9),
        {"f-1": facility()},
        {"a": Attribute(1.0, 1)},
        (decision_id("c-1"), b"frame"),
        [b"{}"],
    )
    for version in (0, 2, 10**15):
        with pytest.raises(VersionMoved):
            await any_store.commit(late._replace(expected_version=version), T)
    assert await any_store.read("c-1", decision_id("c-1"), T) == before


async def test_store_decision_is_written_once(any_store: Store) -> None:
    """A decision id that exists makes the commit lose, even on the right version."""
    wanted = decision_id("c-1")
    await any_store.commit(Commit("c-1", 0, decision=(wanted, b"first")), T)
    with pytest.raises(VersionMoved):
        await any_store.commit(Commit("c-1", 1, record(1), decision=(wanted, b"second")), T)
    state = await any_store.read("c-1", wanted, T)
    assert (state.version, state.log, state.decision) == (1, EMPTY_LOG, b"first")


async def test_store_torn_records_are_refused(any_store: Store) -> None:
    """Records that are not whole are refused and nothing is written."""
    for commit in (Commit("c-1", 0, b"short"), Commit("c-1", 0, b"", EMPTY_LOG[:-1])):
        with pytest.raises(StoreDamaged):
            await any_store.commit(commit, T)
    assert await any_store.read("c-1", None, T) == CustomerState()


async def test_store_trimmed_log_replaces_and_appends(any_store: Store) -> None:
    """A trimmed log takes the place of the old one, header included, before the new records are appended."""
    await any_store.commit(Commit("c-1", 0, b"".join(record(n) for n in range(5))), T)
    trimmed = header(3, 77) + record(3) + record(4)
    await any_store.commit(Commit("c-1", 1, record(5), trimmed), T)
    assert (await any_store.read("c-1", None, T)).log == trimmed + record(5)


async def test_store_later_snapshot_replaces_earlier(any_store: Store) -> None:
    """A facility and an attribute given again replace what was stored; others stay."""
    one = Commit("c-1", 0, facilities={"f-1": facility(), "f-2": facility("f-2")})
    await any_store.commit(one, T)
    await any_store.commit(Commit("c-1", 1, facilities={"f-1": facility(limit_minor=5)}), T)
    state = await any_store.read("c-1", None, T)
    assert state.facilities == {"f-1": facility(limit_minor=5), "f-2": facility("f-2")}


@pytest.mark.parametrize("odd", ODD_IDS)
async def test_store_odd_ids_work(any_store: Store, odd: str) -> None:
    """Ids of any UTF-8 but NUL are ids like others, in every place where an id may stand."""
    wanted = decision_id(odd, odd)
    await any_store.commit(
        Commit(odd, 0, record(1), None, {odd: facility(odd, odd)}, {odd: Attribute(odd, 1)}, (wanted, b"f")), T
    )
    state = await any_store.read(odd, wanted, T)
    assert (state.facilities, state.attributes) == ({odd: facility(odd, odd)}, {odd: Attribute(odd, 1)})
    assert state.decision == b"f"
    assert await any_store.claim_facility(odd, odd, T) == odd
    assert await any_store.change_list(odd, odd, True, T)
    assert (await any_store.read_lists(0, T))[1] == {odd: frozenset({odd})}


async def test_store_customers_do_not_meet(any_store: Store) -> None:
    """Customers of one partition share nothing but the outbox."""
    for number in range(600):
        await any_store.commit(Commit(f"c-{number}", 0, record(number)), T)
    for number in range(600):
        state = await any_store.read(f"c-{number}", None, T)
        assert (state.version, state.log) == (1, EMPTY_LOG + record(number))


@pytest.mark.fault("B19")
async def test_store_holds_a_full_log(any_store: Store) -> None:
    """A log of 4,096 events comes back byte for byte."""
    records = b"".join(record(n) for n in range(EVENTS_PER_CUSTOMER_MAX))
    await any_store.commit(Commit("c-1", 0, records), T)
    assert (await any_store.read("c-1", None, T)).log == EMPTY_LOG + records


async def test_store_large_call_is_one_commit(any_store: Store) -> None:
    """A thousand events with their bodies, and 256 attributes, are one commit."""
    attributes = {f"a{n}": Attribute(n / 7, n) for n in range(256)}
    bodies = [b"%d" % n for n in range(1_000)]
    records = b"".join(record(n) for n in range(1_000))
    await any_store.commit(Commit("c-1", 0, records, attributes=attributes, events=bodies), T)
    state = await any_store.read("c-1", None, T)
    assert (state.log, state.attributes) == (EMPTY_LOG + records, attributes)


@pytest.mark.fault("D05")
async def test_store_concurrent_commits_all_count(any_store: Store) -> None:
    """Of commits that race on one version exactly one wins; those who read again all get through."""

    async def append(number: int) -> int:
        moved = 0
        while True:
            state = await any_store.read("c-1", None, T)
            try:
                await any_store.commit(Commit("c-1", state.version, record(number)), T)
                return moved
            except VersionMoved:
                moved += 1

    moved = sum(await asyncio.gather(*(append(n) for n in range(40))))
    state = await any_store.read("c-1", None, T)
    found = {state.log[at : at + 64] for at in range(64, len(state.log), 64)}
    assert (state.version, found) == (40, {record(n) for n in range(40)})
    assert moved > 0


async def test_store_malformed_decision_id_is_nothing(any_store: Store) -> None:
    """What is no decision id, or names a partition that does not exist, is not found."""
    for odd in ("", "d", "d-1", decision_id("c-1")[:-1], "dfff" + "0" * 32, "d{}" + "0" * 33, "D" + "0" * 35):
        assert await any_store.read_decision(odd, T) is None
    assert await any_store.read_decision(decision_id("c-1"), T) is None


async def test_store_foreign_decision_id_is_a_mistake(any_store: Store) -> None:
    """A decision id of another partition in a read or a commit is a programmer's error."""
    foreign = decision_id("c-2")
    with pytest.raises(ValueError, match="not the id of a decision"):
        await any_store.read("c-1", foreign, T)
    with pytest.raises(ValueError, match="not the id of a decision"):
        await any_store.commit(Commit("c-1", 0, decision=(foreign, b"frame")), T)


async def test_store_facility_has_one_owner(any_store: Store) -> None:
    """The first claim holds for ever; later ones learn whose it is."""
    assert await any_store.facility_owner("f-1", T) is None
    owners = await asyncio.gather(*(any_store.claim_facility("f-1", f"c-{n}", T) for n in range(10)))
    assert len(set(owners)) == 1
    assert await any_store.facility_owner("f-1", T) == owners[0]


async def test_store_lists_change_and_version(any_store: Store) -> None:
    """A list's change moves the version once; who knows the version gets no lists."""
    assert await any_store.read_lists(0, T) == (0, None)
    assert await any_store.change_list("block", "m-1", True, T)
    assert await any_store.change_list("block", "m-2", True, T)
    assert not await any_store.change_list("block", "m-1", True, T)
    assert await any_store.change_list("watch", "d-1", True, T)
    assert await any_store.read_lists(0, T) == (
        3,
        {"block": frozenset({"m-1", "m-2"}), "watch": frozenset({"d-1"})},
    )
    assert await any_store.read_lists(3, T) == (3, None)
    assert not await any_store.change_list("watch", "d-2", False, T)
    assert await any_store.change_list("watch", "d-1", False, T)
    assert await any_store.read_lists(3, T) == (4, {"block": frozenset({"m-1", "m-2"})})


async def test_store_reload_counts(any_store: Store) -> None:
    """Each reload asked for gets the next number."""
    assert await any_store.read_fleet(T) == (0, 0, 0)
    assert [await any_store.publish_reload(T), await any_store.publish_reload(T)] == [1, 2]
    assert await any_store.read_fleet(T) == (2, 0, 0)


async def test_store_policy_is_kept_as_first_saved(any_store: Store) -> None:
    """A policy's description is kept under its id and never replaced."""
    assert await any_store.read_policy("abc", T) is None
    await any_store.save_policy("abc", b"one\0", T)
    await any_store.save_policy("abc", b"two", T)
    assert await any_store.read_policy("abc", T) == b"one\0"


async def test_store_sources_are_kept_until_the_archive_has_them(any_store: Store) -> None:
    """A part of a policy is kept whole, however large; once archived only that it is so is known."""
    small, large = b"{}", bytes(range(256)) * 3_000  # three pieces
    assert await any_store.missing_sources(["lists/a", "cards/b.tar"], T) == {"lists/a", "cards/b.tar"}
    assert await any_store.missing_sources([], T) == frozenset()
    assert await any_store.read_source("cards/b.tar", T) is None
    for name, document in (("lists/a", small), ("cards/b.tar", large), ("contents/e", b"")):
        await any_store.save_source(name, document, T)
        await any_store.save_source(name, document, T)
        assert await any_store.read_source(name, T) == document
    assert await any_store.missing_sources(["lists/a", "cards/b.tar", "cards/c.tar"], T) == {"cards/c.tar"}
    await any_store.shed_source("cards/b.tar", 0, T)
    await any_store.shed_source("lists/a", 60_000, T)
    assert [await any_store.read_source(name, T) for name in ("cards/b.tar", "lists/a")] == [b"", b""]
    assert await any_store.missing_sources(["lists/a", "cards/b.tar"], T) == frozenset()
    await any_store.save_source("cards/b.tar", large, T)
    assert await any_store.read_source("cards/b.tar", T) == large


async def test_store_silent_workers_are_forgotten(any_store: Store) -> None:
    """A worker that has not renewed its entry for ten seconds is not listed."""
    old = WorkerStatus("w-2", "p1", "2026.1", 1_000_000)
    new = WorkerStatus("w-1", "p2", "2026.2", 1_009_000, "rules/a.yaml:1:1: error")
    await any_store.announce_worker(old, T)
    await any_store.announce_worker(new, T)
    assert await any_store.workers(1_010_000, T) == [new, old]
    assert await any_store.workers(1_010_001, T) == [new]
    await any_store.announce_worker(WorkerStatus("w-3", "p2", "2026.2", 1_030_000), T)
    assert [w.worker_id for w in await any_store.workers(1_010_000, T)] == ["w-3"]


async def test_store_safe_store_has_no_problems(any_store: Store) -> None:
    """A store configured as the profile asks has nothing to complain of."""
    assert list(await any_store.check()) == []


async def test_store_import_is_kept_by_slice(any_store: Store) -> None:
    """What became of each slice of an imported file is kept under the import's id, the last word on each."""
    assert await any_store.read_import("events:abc", T) == {}
    await any_store.save_import("events:abc", 7, b"one", T)
    await any_store.save_import("events:abc", 7, b"\0two", T)
    await any_store.save_import("events:abc", 11, b"", T)
    assert await any_store.read_import("events:abc", T) == {7: b"\0two", 11: b""}
    assert await any_store.read_import("events:abd", T) == {}
