"""Published policies in every store: numbered, kept in order, and none lost when two workers publish at once."""

from __future__ import annotations

import asyncio

import pytest
from store_cases import T

from decision_service.core.errors import VersionMoved
from decision_service.core.limits import POLICIES_KEPT_MAX
from decision_service.store import Store, WorkerStatus

pytestmark = pytest.mark.anyio


async def test_store_published_policies_are_numbered_and_found_again(any_store: Store) -> None:
    """Numbers rise from 1; heads are told newest first; a bundle is found by its number, bytes unchanged."""
    assert await any_store.read_fleet(T) == (0, 0, 0)
    assert await any_store.published_heads(T) == {}
    assert await any_store.publish_policy(0, b"head one", b"\0one\xff", T) == 1
    assert await any_store.publish_policy(1, b"head two", b"", T) == 2
    assert list((await any_store.published_heads(T)).items()) == [(2, b"head two"), (1, b"head one")]
    assert await any_store.read_bundle(1, T) == b"\0one\xff"
    assert await any_store.read_bundle(2, T) == b""
    assert await any_store.read_bundle(3, T) is None
    assert await any_store.read_fleet(T) == (0, 2, 0)


async def test_store_published_since_the_caller_looked_is_refused(any_store: Store) -> None:
    """Who does not know the newest number learns that it moved, and nothing is written."""
    await any_store.publish_policy(0, b"a", b"A", T)
    for expected in (0, 2):
        with pytest.raises(VersionMoved):
            await any_store.publish_policy(expected, b"b", b"B", T)
    assert await any_store.published_heads(T) == {1: b"a"}
    assert await any_store.read_fleet(T) == (0, 1, 0)


async def test_store_publishing_at_once_loses_nobody(any_store: Store) -> None:
    """Ten publish at once, each again after it was refused: ten numbers, each policy under exactly one."""

    async def publish(name: int) -> int:
        while True:
            newest = (await any_store.read_fleet(T)).published
            try:
                return await any_store.publish_policy(newest, b"%d" % name, b"bundle %d" % name, T)
            except VersionMoved:
                await asyncio.sleep(0)

    numbers = await asyncio.gather(*(publish(name) for name in range(10)))
    assert sorted(numbers) == list(range(1, 11))
    for name, number in enumerate(numbers):
        assert await any_store.read_bundle(number, T) == b"bundle %d" % name


async def test_store_published_policies_kept_are_bounded(any_store: Store) -> None:
    """Beyond POLICIES_KEPT_MAX the oldest goes, head and bundle."""
    for number in range(POLICIES_KEPT_MAX + 2):
        await any_store.publish_policy(number, b"head", b"bundle", T)
    heads = await any_store.published_heads(T)
    assert list(heads) == list(range(POLICIES_KEPT_MAX + 2, 2, -1))
    assert [await any_store.read_bundle(number, T) for number in (2, 3)] == [None, b"bundle"]


async def test_store_worker_tells_which_bundle_it_runs(any_store: Store) -> None:
    """The number comes back with the worker's status."""
    status = WorkerStatus("w-1", "p1", "2026.1", 1_000, "cannot compile", 7)
    await any_store.announce_worker(status, T)
    assert await any_store.workers(1_000, T) == [status]


async def test_store_highest_serial_never_falls(any_store: Store) -> None:
    """It rises with what is published, and a lower one, none, or one that is refused leaves it."""
    assert await any_store.policy_serial(T) == 0
    for number, (serial, highest) in enumerate([(7, 7), (3, 7), (0, 7), (999_999_999_999_999, 999_999_999_999_999)]):
        await any_store.publish_policy(number, b"head", b"bundle", T, serial)
        assert await any_store.policy_serial(T) == highest
    with pytest.raises(VersionMoved):
        await any_store.publish_policy(0, b"head", b"bundle", T, 1_000_000_000_000_000)
    assert await any_store.policy_serial(T) == 999_999_999_999_999
