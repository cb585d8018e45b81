"""Accesses: who read what personal data through the API, when. Recorded beside the answer, never in its way.

    handler ──▶ put: one append, at most QUEUE_MAX waiting ──▶ every ROUND_S: to the store's ACCESS stream, AT_ONCE
                                                              ──▶ the archive, p=access, kept at least six months

An entry names the caller (the principal of the key or token), the call, the customer by key (8 bytes of a hash: the log
is about callers and must not be another place that knows customers), the decision or the request id of a search if
there is one, and when. What was read is not in it.

  * `put` waits for nothing and raises nothing. What finds the queue full is dropped and counted, and the log says so;
  * what the store does not take is tried again until the worker stops; then, and when a worker is killed, what waits is
    lost: up to ROUND_S of reads, and more while the store is away (reads of the store fail then as well);
  * one entry may come twice, when the store took it and its reply was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

import orjson

from decision_service.archive.rows import signed
from decision_service.archive.schema import ACCESS
from decision_service.core.errors import StoreError
from decision_service.core.links import customer_key

LOG = logging.getLogger("decision_service.access")
ROUND_S: Final = 0.25
AT_ONCE: Final = 64
QUEUE_MAX: Final = 16_384
STORE_TIMEOUT_S: Final = 2.0
CLOSE_S: Final = 1.0
AGAIN_S: Final = 1.0  # after the store failed


class Access(NamedTuple):
    """One read. `call` is the route's template, `decision_id` empty where none was asked for."""

    at_ms: int
    principal: str
    call: str
    customer_key: int | None
    decision_id: str = ""
    request_id: str = ""  # the caller's own id of the HTTP request, if it sent one

    def fields(self) -> dict[bytes, bytes]:
        """The entry of the stream."""
        body: dict[str, object] = {"at_ms": self.at_ms, "principal": self.principal, "call": self.call}
        if self.customer_key is not None:
            body["customer_key"] = self.customer_key
        if self.request_id:
            body["request_id"] = self.request_id
        fields = {b"kind": b"access", b"body": orjson.dumps(body)}
        return fields | ({b"decision_id": self.decision_id.encode()} if self.decision_id else {})


class TakesEntries(Protocol):
    """A store, as far as it is asked here."""

    async def add_entry(self, place: int, fields: Mapping[bytes, bytes], timeout_s: float) -> bytes: ...


class CountsAccesses(Protocol):
    """What counts accesses: `written`, `dropped` or `failed`."""

    def count_accesses(self, result: str, number: int) -> None: ...


class AccessLog:
    """One worker's record of reads."""

    def __init__(self, store: TakesEntries, meters: CountsAccesses, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._meters = meters
        self._now_ms = now_ms
        self._waiting: deque[Access] = deque()
        self._filled = asyncio.Event()
        self._closing = False
        self._full = False
        self._task: asyncio.Task[None] | None = None

    def put(
        self, principal: str, call: str, customer_id: str | None, decision_id: str = "", request_id: str = ""
    ) -> None:
        """Record a read that was answered. Waits for nothing and raises nothing."""
        if len(self._waiting) >= QUEUE_MAX:
            self._meters.count_accesses("dropped", 1)
            if not self._full:
                self._full = True
                LOG.error("reads of personal data are not recorded: %d wait for the store", QUEUE_MAX)
            return
        key = None if customer_id is None else signed(customer_key(customer_id))
        self._waiting.append(Access(self._now_ms(), principal, call, key, decision_id, request_id))
        self._filled.set()

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop; what waits is written if the store is quick about it, and otherwise lost."""
        self._closing = True
        self._filled.set()
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=CLOSE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._waiting:
            self._meters.count_accesses("dropped", len(self._waiting))
            LOG.error("%d reads of personal data are not recorded: the worker stops", len(self._waiting))
            self._waiting.clear()

    async def flush(self) -> None:
        """Write everything that waits. StoreError: the rest goes on waiting."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), AT_ONCE))]
            results = await asyncio.gather(*(self._write(access) for access in batch), return_exceptions=True)
            left = [access for access, error in zip(batch, results, strict=True) if error is not None]
            self._meters.count_accesses("written", len(batch) - len(left))
            if left:
                self._waiting.extendleft(reversed(left))
                self._meters.count_accesses("failed", len(left))
                raise next(error for error in results if error is not None)
            self._full = False

    async def _write(self, access: Access) -> None:
        await self._store.add_entry(ACCESS, access.fields(), STORE_TIMEOUT_S)

    async def _work(self) -> None:
        while True:
            await self._filled.wait()
            if not self._closing:
                await asyncio.sleep(ROUND_S)
            self._filled.clear()
            with contextlib.suppress(StoreError):
                await self.flush()
            if self._closing:
                return
            if self._waiting:
                self._filled.set()
                await asyncio.sleep(AGAIN_S)
