"""Publishing through the store: an edit anywhere is everywhere, an old disk leads nobody back, nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from conftest_service import RULES
from fleet_workers import UNSTABLE, files_of, host, running, save, until

from decision_service.core.errors import NotFound, PolicyRejected
from decision_service.store import Store
from decision_service.store.memory import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.mark.fault("F13")
async def test_fleet_an_edit_on_one_host_is_in_force_on_the_other(tmp_path: Path, store: Store) -> None:
    """Over a real server: the other host's files are old and stay so; both run the edit under one number and id."""
    async with running(host(tmp_path / "a"), store) as a, running(host(tmp_path / "b"), store) as b:
        assert (a.bundle, b.bundle, a.current.id == b.current.id) == (1, 1, True)
        save(tmp_path / "a", "two")
        await until(lambda: a.label == b.label == "two")
        assert (a.bundle, b.bundle, a.current.id == b.current.id) == (2, 2, True)
        statuses = {w.worker_id: (w.policy_label, w.bundle, w.problem) for w in await store.workers(0, 2.0)}
        await until(lambda: b.fleet == (0, False))
        assert statuses["a"] == ("two", 2, "")


@pytest.mark.fault("F14")
async def test_fleet_a_restart_with_an_old_disk_takes_the_fleets_policy(tmp_path: Path) -> None:
    """What was published before and left behind is not published again by a start; only a new content is."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "b"), store):
        pass
    async with running(host(tmp_path / "a"), store) as a:
        save(tmp_path / "a", "two")
        await until(lambda: a.bundle == 2)
    async with running(tmp_path / "b", store) as b:
        assert (b.label, b.bundle, b.problem) == ("two", 2, "")
        assert await b.reload(), "asking the old disk is no edit either"
        assert (b.label, b.bundle) == ("two", 2)
        assert await b.reload(force=True), "unless it is meant"
        assert (b.label, b.bundle) == ("one", 3)
    save(tmp_path / "b", "three")
    async with running(tmp_path / "b", store) as b:
        assert (b.label, b.bundle) == ("three", 4)


async def test_fleet_going_back_by_an_edit_is_an_edit(tmp_path: Path) -> None:
    """Files that once were published and come back on a disk, as version control does it, are published again."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a, running(tmp_path / "a", store, "a2") as a2:
        save(tmp_path / "a", "two")
        await until(lambda: a.bundle == a2.bundle == 2)
        save(tmp_path / "a", "one")
        await until(lambda: a.bundle == a2.bundle == 3)
        assert [head.label for head in (await a.published()).values()] == ["one", "two", "one"]


async def test_fleet_two_workers_of_a_host_publish_an_edit_once(tmp_path: Path) -> None:
    """Both read the same files; whoever is second finds them published and takes the number."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store, "1") as one, running(tmp_path / "a", store, "2") as two:
        for i in range(5):
            save(tmp_path / "a", f"edit {i}")
            await until(lambda i=i: one.label == two.label == f"edit {i}" and one.bundle == two.bundle)
        assert one.bundle == 6


async def test_fleet_two_publish_at_once_and_neither_is_lost(tmp_path: Path) -> None:
    """Both policies are kept, the higher number is in force everywhere."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a, running(host(tmp_path / "b"), store) as b:
        texts = [{**files_of(tmp_path / "a"), "policy.yaml": f'label: "{n}"\nlists: [block]\n'} for n in "xy"]
        numbers = await asyncio.gather(a.publish(texts[0], "ann"), b.publish(texts[1], "bob"))
        assert sorted(numbers) == [2, 3]
        last = "xy"[numbers.index(3)]
        await until(lambda: a.label == b.label == last and a.bundle == b.bundle == 3)
        heads = await a.published()
        assert {(h.label, h.by, h.origin) for h in list(heads.values())[:2]} == {
            ("x", "ann", "publish"), ("y", "bob", "publish"),
        }  # fmt: skip


async def test_fleet_a_restored_policy_is_the_old_content_under_a_new_number(tmp_path: Path) -> None:
    """It survives the disks of both hosts, which hold something else, and a restart."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a, running(host(tmp_path / "b"), store) as b:
        save(tmp_path / "a", "two")
        await until(lambda: b.bundle == 2)
        assert await b.restore(1, "ann") == 3
        await until(lambda: a.label == b.label == "one")
        heads = await a.published()
        assert (heads[3].digest, heads[3].origin) == (heads[1].digest, "restore of 1")
        with pytest.raises(NotFound):
            await b.restore(9, "ann")
    async with running(tmp_path / "a", store) as a:
        assert (a.label, a.bundle) == ("one", 3)


async def test_fleet_what_does_not_compile_is_published_by_nobody(tmp_path: Path) -> None:
    """Neither from a disk nor by a call; the problem names file and line, and goes with the mistake."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a:
        with pytest.raises(PolicyRejected) as refused:
            await a.publish({**files_of(tmp_path / "a"), "drawdown.yaml": UNSTABLE}, "ann")
        assert refused.value.diagnostics[0].nearest == "vel_prior_10m"
        assert a.problem == ""
        save(tmp_path / "a", "broken", UNSTABLE)
        await until(lambda: a.problem)
        assert (a.label, a.bundle, a.diagnostics[0].place.file) == ("one", 1, "drawdown.yaml")
        compiled = a.compiles
        (tmp_path / "a" / "rules" / "drawdown.yaml").touch()
        assert not await a.reload()
        assert a.compiles == compiled + 1, "asked for, it is tried again; touched, it is not"
        save(tmp_path / "a", "one")
        await until(lambda: not a.problem)
        assert (a.bundle, a.compiles) == (1, compiled + 1), "what is in force already needs no compiling"


async def test_fleet_a_broken_disk_does_not_stop_a_start_where_a_policy_is_published(tmp_path: Path) -> None:
    """The worker comes back with the fleet's policy and says what is wrong with its disk; without one it cannot."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store):
        pass
    save(tmp_path / "a", "broken", UNSTABLE)
    async with running(tmp_path / "a", store) as a:
        assert (a.label, a.bundle, a.diagnostics[0].nearest) == ("one", 1, "vel_prior_10m")
    with pytest.raises(PolicyRejected):
        async with running(tmp_path / "a", MemoryStore(partitions=16)):
            pass


@pytest.mark.fault("F16")
async def test_fleet_published_files_are_checked_by_name(tmp_path: Path) -> None:
    """F16: no name leads out of the rules directory."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a:
        good = files_of(tmp_path / "a")
        for name in (
            "../x.yaml",
            "/etc/x.yaml",
            "a//b.yaml",
            ".git/x.yaml",
            "a/../b.yaml",
            "x.txt",
            "a\\b.yaml",
            "é\n.yaml",
        ):
            with pytest.raises(PolicyRejected) as refused:
                await a.publish({**good, name: RULES}, "mallory")
            assert refused.value.diagnostics[0].expected.startswith("a path below the rules directory")
        assert list(await a.published()) == [1]
