"""The shadow policy in the store: what it said of decisions, and what is published to be in shadow."""

from __future__ import annotations

import pytest
from store_cases import T, decision_id

from decision_service.core.limits import PARTITIONS
from decision_service.store import Store, keys
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio

IDS = [decision_id(f"c-{i}") for i in range(70)]


async def test_what_the_shadow_policy_said_is_kept_once_beside_what_shadow_scorecards_scored(any_store: Store) -> None:
    """Records of both sorts of one decision do not touch each other; what was given first stays."""
    assert await any_store.read_shadow_policy(IDS[0], T) is None
    for portion in any_store.together_decisions(IDS):
        assert await any_store.save_shadow_policy({one: f"of {one}".encode() for one in portion}, T) == len(portion)
    await any_store.save_shadows({IDS[0]: b"scores"}, T)
    assert await any_store.save_shadow_policy({IDS[0]: b"another"}, T) == 0
    assert await any_store.read_shadow_policy(IDS[0], T) == f"of {IDS[0]}".encode()
    assert await any_store.read_shadows(IDS[0], T) == b"scores"
    assert await any_store.read_shadow_policy(IDS[-1], T) == f"of {IDS[-1]}".encode()
    assert await any_store.save_shadow_policy({}, T) == 0
    assert await any_store.read_shadow_policy("r-1", T) is None


async def test_it_follows_its_decision_in_the_outbox(valkey: str, valkey_server: ValkeyServer) -> None:
    """The stream of the decision's partition has an entry of the kind `shadow_policy`, once."""
    partition = keys.partition_of("c-1", PARTITIONS)
    stream = keys.outbox_key(partition)
    assert keys.slot_of(keys.shadow_policy_key(partition, decision_id("c-1"))) == keys.slot_of(stream)
    store = open_store(valkey)
    try:
        for _ in range(2):
            await store.save_shadow_policy({decision_id("c-1"): b"{}"}, T)
    finally:
        await store.close()
    with valkey_server.client() as client:
        entries = client.xrange(stream)
    assert [fields for _, fields in entries] == [
        {b"kind": b"shadow_policy", b"id": decision_id("c-1").encode(), b"body": b"{}"}
    ]


async def test_one_policy_is_published_to_be_in_shadow(any_store: Store) -> None:
    """The next takes its place, under a number that was never given before; policies in force are not touched."""
    assert await any_store.read_shadow(T) is None
    assert not await any_store.stop_shadow(T)
    assert await any_store.publish_policy(0, b"head", b"bundle", T) == 1
    assert await any_store.publish_shadow(b"h1", b"b1", T) == 1
    assert await any_store.publish_shadow(b"h2", b"b2", T) == 2
    assert await any_store.read_shadow(T) == (2, b"h2", b"b2")
    assert tuple(await any_store.read_fleet(T)) == (0, 1, 2)
    assert await any_store.stop_shadow(T)
    assert await any_store.read_shadow(T) is None
    assert (await any_store.read_fleet(T)).shadow == 0
    assert await any_store.publish_shadow(b"h3", b"b3", T) == 3
    assert list(await any_store.published_heads(T)) == [1]
