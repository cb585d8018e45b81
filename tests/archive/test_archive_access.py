"""Reads of personal data are recorded beside the answer, and never in its way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import orjson
import pytest
from made_archive import key_of

from decision_service.archive import access
from decision_service.archive.access import AccessLog
from decision_service.archive.schema import ACCESS
from decision_service.core.errors import StoreUnavailable

pytestmark = pytest.mark.anyio


class Entries:
    """A stream that takes entries, or fails as long as it is told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, Mapping[bytes, bytes]]] = []
        self.fails = False

    async def add_entry(self, place: int, fields: Mapping[bytes, bytes], timeout_s: float) -> bytes:
        await asyncio.sleep(0)
        if self.fails:
            raise StoreUnavailable("away")
        self.taken.append((place, fields))
        return b"1-0"


class Counts(Counter[str]):
    """What was counted."""

    def count_accesses(self, result: str, number: int) -> None:
        self[result] += number


async def test_a_read_is_recorded_without_what_was_read() -> None:
    """Who, which call, whose by hash, which decision, the caller's own id, when."""
    store, counts = Entries(), Counts()
    log = AccessLog(store, counts, lambda: 7)
    log.put("auditor", "GET /v1/decisions/{decision_id}", "c-1", "d0a3", "x-1")
    log.put("clerk", "GET /v1/decisions", None)
    await log.flush()
    (place, first), (_, second) = store.taken
    assert place == ACCESS
    assert (first[b"kind"], first[b"decision_id"]) == (b"access", b"d0a3")
    assert orjson.loads(first[b"body"]) == {
        "at_ms": 7, "principal": "auditor", "call": "GET /v1/decisions/{decision_id}", "customer_key": key_of("c-1"),
        "request_id": "x-1",
    }  # fmt: skip
    assert orjson.loads(second[b"body"]) == {"at_ms": 7, "principal": "clerk", "call": "GET /v1/decisions"}
    assert counts == {"written": 2}


async def test_what_the_store_does_not_take_waits_in_order() -> None:
    store, counts = Entries(), Counts()
    log = AccessLog(store, counts, lambda: 7)
    store.fails = True
    for number in range(3):
        log.put(f"p{number}", "call", None)
    with pytest.raises(StoreUnavailable):
        await log.flush()
    store.fails = False
    await log.flush()
    assert [orjson.loads(fields[b"body"])["principal"] for _, fields in store.taken] == ["p0", "p1", "p2"]
    assert counts == {"written": 3, "failed": 3}


async def test_a_full_queue_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call goes on; so does the log once there is room."""
    monkeypatch.setattr(access, "QUEUE_MAX", 2)
    store, counts = Entries(), Counts()
    log = AccessLog(store, counts, lambda: 7)
    for _ in range(5):
        log.put("p", "call", None)
    await log.flush()
    log.put("p", "call", None)
    await log.flush()
    assert (counts["dropped"], counts["written"]) == (3, 3)


async def test_a_worker_that_stops_writes_what_waits_and_counts_what_is_lost() -> None:
    for fails in (False, True):
        store, counts = Entries(), Counts()
        store.fails = fails
        log = AccessLog(store, counts, lambda: 7)
        log.start()
        log.put("p", "call", None)
        await log.close()
        assert (len(store.taken), counts["dropped"]) == (0, 1) if fails else (1, 0)
