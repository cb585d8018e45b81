"""What shadow scorecards said of decisions: what every store promises, on memory, a server and a cluster."""

from __future__ import annotations

import pytest
from store_cases import T, decision_id

from decision_service.core.limits import PARTITIONS
from decision_service.store import Commit, Store, keys
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio

IDS = [decision_id(f"c-{i}") for i in range(150)]


async def test_shadows_are_read_back_and_kept_once(any_store: Store) -> None:
    """What was given first stays; giving it again, or beside new ones, adds only what is new."""
    assert await any_store.read_shadows(IDS[0], T) is None
    portions = any_store.together_decisions(IDS)
    assert sorted(one for portion in portions for one in portion) == sorted(IDS)
    for portion in portions:
        assert await any_store.save_shadows({one: f"of {one}".encode() for one in portion}, T) == len(portion)
    for one in (IDS[0], IDS[77], IDS[-1]):
        assert await any_store.read_shadows(one, T) == f"of {one}".encode()
    assert await any_store.save_shadows({IDS[0]: b"another"}, T) == 0
    assert await any_store.read_shadows(IDS[0], T) == f"of {IDS[0]}".encode()
    assert await any_store.save_shadows({}, T) == 0
    assert list(any_store.together_decisions([])) == []


async def test_shadows_move_no_version(any_store: Store) -> None:
    """The customer can be committed under the version that was read before shadows were recorded."""
    version = await any_store.commit(Commit("c-1", 0, decision=(decision_id("c-1"), b"frame")), T)
    await any_store.save_shadows({decision_id("c-1"): b"scores"}, T)
    assert (await any_store.read("c-1", decision_id("c-1"), T)).decision == b"frame"
    assert await any_store.commit(Commit("c-1", version), T) == version + 1


async def test_shadows_of_what_is_no_decision_are_refused(any_store: Store) -> None:
    """A wrong id is a mistake of the caller, told before anything is written."""
    with pytest.raises(ValueError, match="is not the id of a decision"):
        any_store.together_decisions(["r-1"])
    assert await any_store.read_shadows("r-1", T) is None


async def test_shadows_follow_their_decision_in_the_outbox(valkey: str, valkey_server: ValkeyServer) -> None:
    """The stream of the decision's partition has an entry of the kind `shadow`, once; both keys share a slot."""
    partition = keys.partition_of("c-1", PARTITIONS)
    key, stream = keys.shadow_key(partition, decision_id("c-1")), keys.outbox_key(partition)
    assert keys.slot_of(key) == keys.slot_of(stream)
    store = open_store(valkey)
    try:
        for _ in range(2):
            await store.save_shadows({decision_id("c-1"): b"{}"}, T)
    finally:
        await store.close()
    with valkey_server.client() as client:
        assert client.get(key) == b"{}"
        entries = client.xrange(stream)
    assert [fields for _, fields in entries] == [
        {b"kind": b"shadow", b"id": decision_id("c-1").encode(), b"scores": b"{}"}
    ]
