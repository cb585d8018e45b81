"""Policies in the archive: each that decided can be made again, scorecards and lists included, and has the same id."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from every_effect import EVERY_EFFECT
from replay_world import World, world
from scorecard_maker import Trained, manifest_text, train, write_scorecard
from test_service_trace import SCORED_FEATURES

from decision_service.archive.files import Archive
from decision_service.archive.policies import ArchivedPolicies, PolicyKeeper, load_policy
from decision_service.core.errors import ArchiveDamaged, NotFound
from decision_service.policies.sources import card_name, content_name, record_name

ROLES = "scorecards: {behaviour: {champion: '1', challenger: {version: '2', share: 0.3}, shadows: ['3']}}\n"
FILES = {
    **{name: text for name, text in EVERY_EFFECT.items() if name != "features/all.yaml"},
    "policy.yaml": 'label: "scored"\nlists: [block, allow]\n' + ROLES,
    "features/scored.yaml": SCORED_FEATURES,
    "drawdown.yaml": """
rule_set: drawdown
scene: drawdown
rules:
  - {id: weak, when: behaviour.grade == "E", on_null: skip, then: {hold: review}, reason: RC30}
  - {id: listed, when: request.customer_id in list.block, on_null: hold, then: {hold: block}, reason: RC01}
  - {id: otherwise, when: request.amount > 0, then: approve}
fallback: {static: {hold: review, reason: RC90}}
""",
}
SCORED = {name: FILES[name] for name in ("policy.yaml", "features/scored.yaml", "drawdown.yaml")}


@pytest.fixture(scope="module")
def model() -> Trained:
    """A small real model."""
    return train(10, 4)


@pytest.fixture
def models(tmp_path: Path, model: Trained) -> Path:
    """Three versions of it: champion, challenger and shadow."""
    for version in ("1", "2", "3"):
        write_scorecard(tmp_path / "source", model, manifest_text(model, version=version))
    return tmp_path / "source"


async def kept(there: World, archive: Archive) -> str:
    """Archive the policy in force; its id."""
    policy_id = there.active.current.id
    assert await PolicyKeeper(there.store, archive).keep([policy_id]) == frozenset()
    return policy_id


def test_policy_with_scorecards_and_lists_is_made_again(tmp_path: Path, models: Path) -> None:
    """From the archive alone, in the very roles; with other lists it is not compiled twice; the store keeps marks."""

    async def go() -> None:
        archive = Archive(tmp_path / "archive")
        async with world(tmp_path / "w", SCORED, models) as there:
            first = await kept(there, archive)
            content = content_name(there.active.content.digest if there.active.content else "")
            assert await there.store.read_source(content, 1.0) == b""
            for n in range(3):
                await there.change_list("block", f"c-{n}")
            second = await kept(there, archive)
            roles = there.active.current.roles()
        assert first != second
        policies = ArchivedPolicies(archive)
        again = policies.get(second)
        assert again.id == second
        assert again.roles() == roles
        assert again.lists["block"] == {"c-0", "c-1", "c-2"}
        assert policies.get(first).scenes is again.scenes
        assert policies.record(first).cards[0].name == "behaviour"
        assert not policies.zone_moved(first)
        assert len(archive.names("cards")) == 3

    (tmp_path / "w").mkdir()
    asyncio.run(go())


def test_policy_that_is_spoilt_in_the_archive_is_refused(tmp_path: Path, models: Path) -> None:
    """A part that is missing is not found; one that changed is damaged; neither ever makes another policy."""

    async def go() -> tuple[str, str, str]:
        async with world(tmp_path / "w", SCORED, models) as there:
            content = there.active.content
            assert content is not None
            return await kept(there, archive), content.digest, content.scorecards[0].sha256

    (tmp_path / "w").mkdir()
    archive = Archive(tmp_path / "archive")
    policy_id, digest, card = asyncio.run(go())
    for name in (content_name(digest), card_name(card)):
        document = archive.read_bytes(name)
        archive.write(name, document[: len(document) // 2])
        with pytest.raises(ArchiveDamaged):
            load_policy(archive, policy_id)
        archive.remove(name)
        with pytest.raises(NotFound, match="is not in the archive"):
            load_policy(archive, policy_id)
        archive.write(name, document)
    tar = archive.read_bytes(card_name(card))
    archive.write(card_name(card), tar.replace(b"leaf_value=", b"leaf_value=1"))
    with pytest.raises(ArchiveDamaged):
        load_policy(archive, policy_id)
    archive.write(card_name(card), tar)
    record = orjson.loads(archive.read_bytes(record_name(policy_id)))
    archive.write(record_name(policy_id), orjson.dumps(record | {"reservation_timeout_ms": 1_000_000}))
    with pytest.raises(ArchiveDamaged, match=f"what is kept of policy {policy_id} makes policy "):
        load_policy(archive, policy_id)
    archive.write(record_name(policy_id), orjson.dumps(record))
    assert load_policy(archive, policy_id).id == policy_id


def test_policy_whose_parts_come_late_is_asked_for_again(tmp_path: Path) -> None:
    """While a part is missing nothing names the policy in the archive; the worker that has it brings it."""

    async def go() -> None:
        archive = Archive(tmp_path / "archive")
        async with world(tmp_path / "w", EVERY_EFFECT) as there:
            policy_id, lost = there.active.current.id, there.store._sources
            keeper = PolicyKeeper(there.store, archive)
            taken = {name: lost.pop(name) for name in list(lost) if name.startswith("contents/")}
            assert await keeper.keep([policy_id, ""]) == {policy_id}
            assert not archive.exists(record_name(policy_id))
            lost |= taken
            assert await keeper.keep([policy_id]) == frozenset()
        assert load_policy(archive, policy_id).id == policy_id

    (tmp_path / "w").mkdir()
    asyncio.run(go())


def test_policy_sources_are_given_again_to_a_store_that_forgot(tmp_path: Path) -> None:
    """An emptied store gets whole copies again: nothing that is kept rests on what was lost."""

    async def go() -> None:
        archive = Archive(tmp_path / "archive")
        async with world(tmp_path / "w", EVERY_EFFECT) as there:
            await there.change_list("block", "c-1")
            there.store._sources.clear()
            there.active._in_force.describe_again()
            await there.active._in_force.catch_up()
            await there.change_list("block", "c-2")
            policy_id = await kept(there, archive)
        assert load_policy(archive, policy_id).lists["block"] == {"c-1", "c-2"}

    (tmp_path / "w").mkdir()
    asyncio.run(go())
