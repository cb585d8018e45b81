"""`decision-service reconcile` and the journal: what waits there is not lost, is delivered, and conflicts are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from conftest_service import LINE, ask
from reconcile_cases import PARTITIONS, kept, reconcile
from static_cases import Host, clean, said, start_host

from decision_service.core.event import drawdown_key, holds_key
from decision_service.decision_records import exposure_key
from decision_service.store.open import open_store
from valkey_server import ValkeyServer


@pytest.fixture(autouse=True)
def _same_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECISION_SERVICE_PARTITIONS", str(PARTITIONS))


def on(url: str, folder: Path, test: Callable[[Host], Awaitable[Any]]) -> Any:
    """What a test finds with a service and its journal in a folder; nothing is delivered."""

    async def go() -> Any:
        store = open_store(url, partitions=PARTITIONS)
        host, end = await start_host(folder, store)
        try:
            return await test(host)
        finally:
            await end()
            await store.close()

    return asyncio.run(go())


def answered(server: ValkeyServer, folder: Path) -> list[dict[str, Any]]:
    """A full answer, and two of the fallback while the server is gone: a small approval and a hold."""

    async def test(host: Host) -> list[dict[str, Any]]:
        await host.customers.put_facility(LINE)
        full = said(
            await host.decide(ask("r-0", 5_000_00))
        )  # a hold: whom it approved something lately gets nothing more
        server.kill()
        static = [said(await host.decide(clean(f"r-{n}", amount))) for n, amount in ((1, 400_00), (2, 900_00))]
        assert [(one["rung"], one["approved_amount"]) for one in static] == [("static", 400.0), ("static", 0)]
        server.start()
        return [full, *static]

    told: list[dict[str, Any]] = on(server.url, folder, test)
    return told


@pytest.mark.fault("A02", "B16")
def test_what_waits_in_the_journal_is_not_lost_and_is_delivered(
    valkey_private: ValkeyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three answers were told, two of them lie in the journal: nothing is lost; --repair brings them to the store."""
    listed = kept(tmp_path / "told.jsonl", answered(valkey_private, tmp_path / "host"))
    where = (listed, "--data-dir", tmp_path / "host", "--since", "2026-01-01", "--verify")
    status, told = reconcile(capsys, valkey_private.url, *where)
    assert (status, told["agreed"], told["waiting"], told["undelivered"], told["verified"]) == (0, 3, 2, 2, 1)
    status, told = reconcile(capsys, valkey_private.url, *where, "--repair")
    assert (status, told["agreed"], told["delivered"], told["undelivered"], told["verified"]) == (0, 3, 2, 0, 3)
    assert reconcile(capsys, valkey_private.url, listed)[0] == 0


def test_without_the_journal_they_are_lost_and_another_host_may_hold_it(
    valkey_private: ValkeyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list of all hosts' answers needs all hosts' journals."""
    listed = kept(tmp_path / "told.jsonl", answered(valkey_private, tmp_path / "host"))
    (tmp_path / "other").mkdir()
    here = (listed, "--data-dir", tmp_path / "other")
    assert reconcile(capsys, valkey_private.url, *here)[1]["lost"] == 2
    assert reconcile(capsys, valkey_private.url, *here, "--journal", tmp_path / "host")[0] == 0


def test_a_conflict_is_told_and_its_exposure_is_there_once(
    valkey_private: ValkeyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another host decided the same request with another content while the journal waited: both are named, and what
    the caller was told to pay out stands in the log once, whoever found out first."""
    told = answered(valkey_private, tmp_path / "host")

    async def decided_anew(host: Host) -> dict[str, Any]:
        return said(await host.decide(ask("r-1", 5_000_00)))

    assert on(valkey_private.url, tmp_path / "other", decided_anew)["decision"] == "hold"
    listed = kept(tmp_path / "told.jsonl", told)
    status, found = reconcile(
        capsys, valkey_private.url, listed, "--data-dir", tmp_path / "host", "--repair"
    )  # fmt: skip
    assert (status, found["different"], found["conflict"], found["delivered"]) == (1, 1, 1, 2)
    conflict = next(one for one in found["findings"] if one["finding"] == "conflict")
    assert (conflict["note"], conflict["acknowledged"]["approved_amount"]) == ("differs", 400.0)
    assert conflict["stored"]["decision"] == "hold"

    async def log(host: Host) -> bytes:
        return (await host.store.read("c-1", None, 2)).log

    held: bytes = on(valkey_private.url, tmp_path / "other", log)
    assert held.count(exposure_key(told[1]["decision_id"]).to_bytes(8, "little")) == 1
    assert holds_key(held, drawdown_key(told[2]["decision_id"]))
