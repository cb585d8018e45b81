"""The fleet when something is wrong: a scorecard is missing, a bundle damaged, the store or a disk away, the watch
dead, files half written, or touched a thousand times a second."""

from __future__ import annotations

import asyncio
import shutil
import zlib
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from conftest_service import RULES
from fleet_workers import files_of, host, running, save, until
from scorecard_maker import Trained, manifest_text, train, write_scorecard
from test_service_trace import SCORED_FEATURES

from decision_service.core.errors import PolicyRejected, ScorecardRejected, StoreUnavailable
from decision_service.policies.bundle import Content, unpack
from decision_service.policies.disk_watch import SCAN_S, DiskWatch
from decision_service.policies.source import NotAtRest, PolicySource
from decision_service.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
POLICY = 'label: "{}"\nlists: [block]\n'


class AwayStore(MemoryStore):
    """A store that can be unreachable for what concerns policies."""

    def __init__(self) -> None:
        super().__init__(partitions=16)
        self.away = False
        self.damaged: set[int] = set()

    async def published_heads(self, timeout_s: float) -> dict[int, bytes]:
        if self.away:
            raise StoreUnavailable("away")
        return dict(await super().published_heads(timeout_s))

    async def read_bundle(self, number: int, timeout_s: float) -> bytes | None:
        bundle = await super().read_bundle(number, timeout_s)
        return bundle[:-9] if bundle is not None and number in self.damaged else bundle


@pytest.fixture(scope="module")
def model() -> Trained:
    """A small real model."""
    return train(10, 4)


def scored_host(folder: Path, model: Trained) -> Path:
    """A host whose policy has a scorecard."""
    made = host(folder)
    (made / "rules" / "features" / "velocity.yaml").write_text(SCORED_FEATURES, encoding="utf-8")
    write_scorecard(made / "models", model)
    return made


def write_version(models: Path, version: str, model: Trained) -> None:
    """A further version of the scorecard."""
    (models / "behaviour" / version).mkdir()
    (models / "behaviour" / version / "model.txt").write_bytes(model.text)
    manifest = manifest_text(model).replace("version: '1'", f"version: '{version}'")
    (models / "behaviour" / version / "manifest.yaml").write_text(manifest)


@pytest.mark.fault("F13", "G15")
async def test_fleet_a_worker_without_the_scorecard_keeps_its_policy_until_it_comes(
    tmp_path: Path, model: Trained
) -> None:
    """It says which version is missing; the fleet is in skew meanwhile; with the files there it takes the policy."""
    store = MemoryStore(partitions=16)
    hosts = [scored_host(tmp_path / name, model) for name in "ab"]
    async with running(hosts[0], store) as a, running(hosts[1], store) as b:
        assert (a.bundle, b.bundle) == (1, 1)
        write_version(hosts[0] / "models", "2", model)
        await until(lambda: a.bundle == 2)
        await until(lambda: b.problem)
        assert b.problem == ("published policy 2: behaviour/2: this version of the scorecard is not on this host")
        assert (b.bundle, b.scorecards["behaviour"].version) == (1, "1")
        await until(lambda: b.fleet == (1, True) and a.fleet == (1, False))
        status = next(w for w in await store.workers(0, 2.0) if w.worker_id == "b")
        assert (status.bundle, status.problem) == (1, b.problem)
        write_version(hosts[1] / "models", "2", model)
        await until(lambda: not b.problem)
        assert (b.bundle, b.scorecards["behaviour"].version) == (2, "2")
        assert list(await a.published()) == [2, 1], "neither host published twice"


async def test_fleet_another_model_under_the_same_version_is_not_taken(tmp_path: Path, model: Trained) -> None:
    """A host whose version 1 is another model does not decide as if it were the one that was compiled with."""
    source = PolicySource(tmp_path / "a" / "rules", scored_host(tmp_path / "a", model) / "models", "UTC", 86_400_000)
    content = source.read_when_at_rest()
    scored_host(tmp_path / "b", train(12, 4))
    other = PolicySource(tmp_path / "b" / "rules", tmp_path / "b" / "models", "UTC", 86_400_000)
    with pytest.raises(ScorecardRejected, match="behaviour/1: is another model here"):
        other.compile(content)
    mean = Content(content.files, (content.scorecards[0]._replace(name="../behaviour"),))
    with pytest.raises(ScorecardRejected, match="names no scorecard"):
        other.compile(mean)


@pytest.mark.fault("F14")
async def test_fleet_a_damaged_bundle_is_taken_by_nobody(tmp_path: Path) -> None:
    """The digest of the content is checked before anything of it is compiled; the next number is taken again."""
    store = AwayStore()
    async with running(host(tmp_path / "a"), store) as a, running(host(tmp_path / "b"), store) as b:
        store.damaged = {2}
        save(tmp_path / "a", "two")
        await until(lambda: b.problem)
        assert b.problem.startswith("published policy 2: published policy 2:1:1: error: is damaged")
        assert (a.label, b.label) == ("two", "one")
        save(tmp_path / "a", "three")
        await until(lambda: b.label == "three")
        assert b.problem == ""


@pytest.mark.fault("F14")
def test_fleet_a_bundle_must_be_what_its_head_says() -> None:
    """Another content, a bomb, and a name that leads out are refused before they are compiled."""
    good = Content({"drawdown.yaml": RULES}, ())
    assert unpack(good.pack(), good.digest, "x") == good
    for bundle, digest in (
        (Content({"drawdown.yaml": "x"}, ()).pack(), good.digest),
        (b"no zlib", good.digest),
        (Content({"a.yaml": "0" * 40_000_000}, ()).pack(), good.digest),
        ((evil := Content({"../drawdown.yaml": RULES}, ())).pack(), evil.digest),
    ):
        with pytest.raises(PolicyRejected):
            unpack(bundle, digest, "x")


async def test_fleet_what_is_edited_while_the_store_is_away_is_published_when_it_is_back(tmp_path: Path) -> None:
    """The worker decides by its disk meanwhile, as it would alone."""
    store = AwayStore()
    async with running(host(tmp_path / "a"), store) as a, running(host(tmp_path / "b"), store) as b:
        store.away = True
        save(tmp_path / "a", "two")
        await until(lambda: a.label == "two")
        assert (a.bundle, b.label) == (0, "one")
        store.away = False
        await until(lambda: a.bundle == 2 and b.label == "two")


async def test_fleet_a_start_without_a_store_publishes_later_unless_it_was_left_behind(tmp_path: Path) -> None:
    """An old disk that started while the store was away follows the fleet once it is back."""
    store = AwayStore()
    async with running(host(tmp_path / "a"), store) as a:
        save(tmp_path / "a", "two")
        await until(lambda: a.bundle == 2)
        store.away = True
        async with running(host(tmp_path / "b"), store) as b:
            assert (b.label, b.bundle) == ("one", 0)
            store.away = False
            await until(lambda: b.bundle == 2)
            assert (a.label, b.label, list(await a.published())) == ("two", "two", [2, 1])


@pytest.mark.fault("F13")
async def test_fleet_a_worker_whose_watch_died_follows_through_the_store(tmp_path: Path) -> None:
    """F13: two workers of one host; the one that no longer sees its disk runs the edit nonetheless."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store, "1") as seeing, running(tmp_path / "a", store, "2") as blind:
        await blind.stop_watching()
        save(tmp_path / "a", "two")
        await until(lambda: seeing.label == blind.label == "two" and seeing.bundle == blind.bundle == 2)


@pytest.mark.fault("F15")
async def test_fleet_a_disk_that_is_gone_changes_nothing_and_is_told(tmp_path: Path) -> None:
    """F15: the rules are removed, empty, and back: the last good policy stays, the problem is told, and goes."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a:
        shutil.move(tmp_path / "a" / "rules", tmp_path / "a" / "moved")
        await until(lambda: a.problem)
        assert "there is no such rules directory" in a.problem
        assert (a.label, a.changes[-1]) == ("one", ("", False))
        (tmp_path / "a" / "rules").mkdir()
        await until(lambda: "drawdown" in a.problem)
        await until(lambda: a.fleet == (0, True))
        (tmp_path / "a" / "rules").rmdir()
        shutil.move(tmp_path / "a" / "moved", tmp_path / "a" / "rules")
        await until(lambda: not a.problem)
        assert (a.label, a.bundle) == ("one", 1)
        save(tmp_path / "a", "two")
        await until(lambda: a.label == "two")


@pytest.mark.fault("F02")
async def test_fleet_a_half_written_file_is_never_in_force(tmp_path: Path) -> None:
    """F02: a save in three steps with pauses longer than the watch's patience, each part of which compiles: only the
    whole is taken, and nobody is told of a problem."""
    store = MemoryStore(partitions=16)
    rule = "  - id: {0}\n    when: request.amount > {1}\n    on_null: skip\n    then: {{hold: step_up}}\n"
    rule += "    reason: RC11\n"
    head, _, tail = RULES.partition("  - id: burst")
    async with running(host(tmp_path / "a"), store) as a:
        labels = [a.current.id]
        with (tmp_path / "a" / "rules" / "drawdown.yaml").open("w") as file:
            for part in (
                head + "  - id: burst" + tail.partition("fallback")[0],
                rule.format("r1", 500),
                rule.format("r2", 600),
            ):
                file.write(part)
                file.flush()
                for _ in range(12):
                    await asyncio.sleep(0.05)
                    labels.append(a.current.id)
                assert not a.problem
            file.write("fallback: {static: {hold: review, reason: RC90}}\n")
        await until(lambda: a.bundle == 2)
        assert set(labels) == {labels[0]}, "what was half written was not in force"
        assert [rule.id for rule in a.current.scenes["drawdown"].rule_set.rules][-2:] == ["r1", "r2"]


@pytest.mark.fault("F02")
def test_fleet_files_that_somebody_writes_are_not_read(tmp_path: Path) -> None:
    """A file open for writing anywhere is not at rest; somebody who asks is told which one after a while."""
    host(tmp_path / "a")
    source = PolicySource(tmp_path / "a" / "rules", tmp_path / "a" / "models", "UTC", 86_400_000)
    with (tmp_path / "a" / "rules" / "drawdown.yaml").open("a"):
        with pytest.raises(NotAtRest, match=r"drawdown\.yaml"):
            source.read()
        with pytest.raises(PolicyRejected, match=r"drawdown\.yaml:1:1: error: is being written"):
            source.read_when_at_rest()
    assert source.read().files["drawdown.yaml"] == RULES


@pytest.mark.fault("F11")
async def test_fleet_a_storm_of_touches_compiles_nothing(tmp_path: Path) -> None:
    """F11: a thousand touches a second for three seconds, and asking to reload all the while, compile nothing; an edit
    that comes in the middle of it is compiled once."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a:
        before = a.compiles
        rules = tmp_path / "a" / "rules" / "drawdown.yaml"
        asked = []
        for i in range(60):
            for _ in range(50):
                rules.touch()
            asked.append(asyncio.create_task(a.reload()))
            if i == 30:
                save(tmp_path / "a", "two")
            await asyncio.sleep(0.05)
        assert all(await asyncio.gather(*asked))
        await until(lambda: a.label == "two")
        assert a.compiles == before + 1


@pytest.mark.fault("F11")
async def test_fleet_a_storm_of_edits_compiles_one_at_a_time(tmp_path: Path) -> None:
    """Twenty edits in a row are at most one compile running and one waiting; the last edit is in force."""
    store = MemoryStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a:
        reloads = []
        for i in range(20):
            save(tmp_path / "a", f"edit {i}")
            reloads.append(asyncio.create_task(a.reload()))
        began = a.compiles
        assert all(await asyncio.gather(*reloads))
        await until(lambda: a.label == "edit 19")
        assert a.compiles - began <= 2


class OpenStore(MemoryStore):
    """A store whose published policies a test may spoil and forget, and whose kept policies it may count."""

    def spoil(self, head: bytes) -> int:
        """Put a head that nobody can read, and a bundle that is none, under the next number, which is returned."""
        number = max(self._published, default=0) + 1
        self._published[number] = (head, b"junk")
        return number

    def forget(self) -> None:
        """Lose everything about policies, as an emptied store does."""
        self._published.clear()
        self._policies.clear()

    @property
    def kept(self) -> dict[str, bytes]:
        """The descriptions of policies."""
        return self._policies


@pytest.mark.parametrize("head", [b"not json", b"{}", b"[]", b'{"digest": 5}'])
async def test_fleet_a_spoilt_head_stops_nobody(tmp_path: Path, head: bytes) -> None:
    """Workers keep their policy and say so; the list of versions, the next edit and the next start work as before."""
    store = OpenStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a:
        spoilt = store.spoil(head)
        await until(lambda: a.problem)
        assert f"published policy {spoilt}" in a.problem
        assert [one.origin for one in (await a.published()).values()] == ["damaged", "disk"]
        async with running(host(tmp_path / "b"), store) as b:
            assert (b.label, b.bundle) == ("one", 1)
        save(tmp_path / "a", "two")
        await until(lambda: (a.label, a.bundle, a.problem) == ("two", spoilt + 1, ""))


def test_fleet_a_bundle_without_rule_files_is_damaged() -> None:
    """Whatever its digest: what is not files and scorecards is refused, not stumbled over."""
    for canonical in (b"{}", b"[]", b'{"files": [1], "scorecards": []}', b'{"files": {"a.yaml": 1}, "scorecards": []}'):
        with pytest.raises(PolicyRejected, match="damaged"):
            unpack(zlib.compress(canonical), sha256(canonical).hexdigest(), "published policy 1")


async def test_fleet_an_emptied_store_is_given_the_policy_again_and_followed(tmp_path: Path) -> None:
    """Numbers begin anew; the policy in force and its description are there again, and edits reach everybody."""
    store = OpenStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a, running(host(tmp_path / "b"), store) as b:
        save(tmp_path / "a", "two")
        await until(lambda: a.bundle == b.bundle == 2)
        store.forget()
        await until(lambda: a.bundle == b.bundle == 1 and a.current.id in store.kept)
        assert (a.label, b.label) == ("two", "two")
        save(tmp_path / "b", "three")
        await until(lambda: a.label == b.label == "three")
        assert a.bundle == b.bundle == 2


async def test_fleet_a_change_of_a_list_keeps_no_further_description(tmp_path: Path) -> None:
    """Lists change thousands of times a day: each id that they give is kept, as a few bytes that name where the
    description is."""
    store = OpenStore(partitions=16)
    async with running(host(tmp_path / "a"), store) as a:
        plain, described = a.current.id, a.current.describe()
        for i in range(3):
            before = a.current.id
            await store.change_list("block", f"c-{i}", present=True, timeout_s=2.0)
            await until(lambda before=before: a.current.id != before)
        await until(lambda: len(store.kept) == 4)
        assert all(len(kept) < 50 for policy_id, kept in store.kept.items() if policy_id != plain)
        for policy_id in store.kept:
            assert orjson.dumps(await a.description(policy_id)) == orjson.dumps(described | {"id": policy_id})


class SlowStore(MemoryStore):
    """Keeping a description takes until `go` is set."""

    def __init__(self) -> None:
        super().__init__(partitions=16)
        self.go = asyncio.Event()
        self.go.set()

    async def save_policy(self, policy_id: str, document: bytes, timeout_s: float) -> None:
        await self.go.wait()
        await super().save_policy(policy_id, document, timeout_s)


async def test_fleet_files_and_lists_that_move_at_once_are_both_in_force(tmp_path: Path) -> None:
    """Neither brings back what the other has replaced: not the old list (a blocked customer would be served), not the
    old rules."""
    store = SlowStore()
    async with running(host(tmp_path / "a"), store) as a:
        for label in ("two", "three"):
            store.go.clear()
            edit = asyncio.create_task(
                a.publish({**files_of(tmp_path / "a"), "policy.yaml": POLICY.format(label)}, "ann")
            )
            await until(lambda label=label: a.compiles > (1 if label == "two" else 2))
            await asyncio.sleep(0.3)
            await store.change_list("block", label, present=True, timeout_s=2.0)
            await asyncio.sleep(0.6)
            store.go.set()
            await edit
            await until(lambda label=label: label in a.current.lists["block"])
            assert a.label == label


async def test_fleet_a_watch_that_is_woken_as_it_is_cancelled_ends(tmp_path: Path) -> None:
    """A worker must stop even if a file changes in the very turn of the event loop in which it stops watching."""

    async def changed() -> bool:
        return True

    watch = DiskWatch(PolicySource(tmp_path, tmp_path, "UTC", 86_400_000), changed, lambda: None)
    scan = asyncio.create_task(watch.scan())
    await asyncio.sleep(0.05)
    watch._wake.set()
    await asyncio.sleep(0)  # the event has told its waiter, which has not run yet
    scan.cancel()
    ended, _ = await asyncio.wait([scan], timeout=2 * SCAN_S)
    scan.cancel()
    assert ended
