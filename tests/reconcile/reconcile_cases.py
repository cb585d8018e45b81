"""A store that was lived in: decisions of the real service on a real server, and ways to lose some of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest_service import LINE, Run, Started, ask, decide

from decision_service.answer import Answer
from decision_service.cli import main
from decision_service.core.request import DecisionRequest
from decision_service.store import Store, keys
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

PARTITIONS = 16
T = 5.0
Report = tuple[int, dict[str, Any]]


def question(number: int, customer: int = 1, amount: int = 100_00) -> DecisionRequest:
    """The n-th draw of a customer; its line of 1,000 comes with it."""
    line = replace(LINE, facility_id=f"f-{customer}", customer_id=f"c-{customer}")
    return ask(
        f"r-{customer}-{number}", amount, customer_id=f"c-{customer}", facility_id=f"f-{customer}", facility=line
    )  # fmt: skip


class LivedStore:
    """Decisions on `url`; `lose` and its like do what a fail-over or a bad disk would."""

    def __init__(self, server: ValkeyServer, run: Run) -> None:
        self.server = server
        self._run = run
        self._starts = 0

    def open(self) -> Store:
        return open_store(self.server.url, partitions=PARTITIONS)

    def ask(self, *requests: DecisionRequest) -> list[dict[str, Any]]:
        """The service's answers, as a caller keeps them."""

        async def go(service: Started) -> list[Answer]:
            return [await decide(service, request) for request in requests]

        return [orjson.loads(answer.body) for answer in self._run(go, self.open())]

    def asked(self, test: Callable[[Started], Awaitable[Any]]) -> Any:
        """What a test of the service finds."""
        return self._run(test, self.open())

    def key(self, answer: dict[str, Any]) -> bytes:
        partition = keys.partition_of(answer["customer_id"], PARTITIONS)
        return keys.decision_key(partition, answer["decision_id"])

    def log_key(self, answer: dict[str, Any]) -> bytes:
        return keys.log_key(keys.partition_of(answer["customer_id"], PARTITIONS), answer["customer_id"])

    def outbox_key(self, answer: dict[str, Any]) -> bytes:
        return keys.outbox_key(keys.partition_of(answer["customer_id"], PARTITIONS))

    def lose(self, answer: dict[str, Any]) -> None:
        """The last commit of a customer never reached the replica that leads now."""
        with self.server.client() as client:
            log = client.get(self.log_key(answer))
            client.set(self.log_key(answer), log[:-64])
            client.delete(self.key(answer))
            last = client.xrevrange(self.outbox_key(answer), count=1)
            client.xdel(self.outbox_key(answer), last[0][0])
            partition = keys.partition_of(answer["customer_id"], PARTITIONS)
            client.hincrby(keys.meta_key(partition, answer["customer_id"]), "v", -1)


def kept(path: Path, answers: Iterable[dict[str, Any]], names: Iterable[str] | None = None) -> Path:
    """The caller's list: the answers as they came, or only some of their fields."""
    rows = (answer if names is None else {name: answer[name] for name in names} for answer in answers)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def reconcile(capsys: pytest.CaptureFixture[str], url: str, *arguments: object) -> Report:
    """The command; its exit status and summary."""
    status = main(["reconcile", "--redis-url", url, "--json", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, orjson.loads(out) if out else {"error": err}


async def state_of(store: Store, customer_id: str) -> Any:
    """A customer, the store closed afterwards."""
    try:
        return await store.read(customer_id, None, T)
    finally:
        await store.close()


def log_of(lived: LivedStore, customer_id: str) -> bytes:
    """A customer's log."""
    return bytes(asyncio.run(state_of(lived.open(), customer_id)).log)
