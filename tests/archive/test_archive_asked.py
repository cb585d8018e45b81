"""The archive asked, end to end: a service decides, its store forgets, and everything is still told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import redis

from decision_service.api.instants import format_instant
from decision_service.cli import main
from decision_service.store.embedded import running_url
from decision_service.store.keys import decision_key, partition_of_kept
from service_process import ServiceProcess

SECRET = "c-客户 7"
DEADLINE_MS = 4_000


def facility(customer: str) -> dict[str, Any]:
    now_ms = time.time_ns() // 1_000_000
    return {
        "customer_id": customer, "product": "revolver", "currency": "CNY", "limit": 50_000, "outstanding": 0,
        "as_of": format_instant(now_ms), "apr": 0.18, "status": "active",
        "granted_at": format_instant(now_ms - 90 * 86_400_000),
    }  # fmt: skip


def drawdown(number: int, customer: str) -> dict[str, Any]:
    return {
        "request_id": f"r-{number}", "customer_id": customer, "facility_id": f"f-{customer[-1]}",
        "amount": 100 + number, "currency": "CNY", "channel": "app", "device_id": "d-1", "deadline_ms": DEADLINE_MS,
    }  # fmt: skip


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[Any]]:
    """The exit status of a command, and the JSON lines it printed."""
    capsys.readouterr()
    status = main(list(arguments))
    return status, [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
def test_what_left_the_store_is_told_by_the_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decisions are searched, shown, compacted and indexed; once their frames are gone the service explains them with
    the same bytes, answers retries, and commands that read decisions miss none."""
    data = tmp_path / "service" / "data"
    with ServiceProcess(tmp_path / "service") as service, httpx.Client(base_url=service.url, timeout=20) as client:
        for customer in ("c-1", SECRET):
            assert client.put(f"/v1/facilities/f-{customer[-1]}", json=facility(customer)).status_code == 200
        asked = [drawdown(number, ("c-1", SECRET)[number % 2]) for number in range(6)]
        answers = [client.post("/v1/decisions", json=body) for body in asked]
        ids = [answer.json()["decision_id"] for answer in answers]
        waiting = client.get("/v1/decisions", params={"customer_id": SECRET}).json()
        assert ([one["decision_id"] for one in waiting["decisions"]], waiting["includes_waiting"]) == (ids[5::-2], True)

        status, (done,) = told(capsys, "archive", "run", "--once", "--data-dir", str(data), "--json")
        assert (status, done["rows"] >= 8) == (0, True)
        newest = client.get("/v1/decisions?limit=4").json()
        assert [one["decision_id"] for one in newest["decisions"]] == ids[:1:-1]
        _, found = told(capsys, "archive", "search", "--data-dir", str(data), "--customer", SECRET, "--json")
        assert [one["decision_id"] for one in found] == ids[5::-2]
        assert {one["customer_id"] for one in found} == {SECRET}
        assert found == client.get("/v1/decisions", params={"customer_id": SECRET}).json()["decisions"]
        assert told(capsys, "archive", "search", "--data-dir", str(data), "--rule", "no_such", "--json") == (1, [])

        day = found[0]["recorded_at"][:10]
        compact = ("archive", "compact", "--data-dir", str(data), "--day", day, "--grace-minutes", "0", "--json")
        status, (done,) = told(capsys, *compact)
        assert (status, done["indexed"] >= 8, done["problems"]) == (0, True, [])

        stored = [client.get(f"/v1/decisions/{decision_id}") for decision_id in ids]
        assert {answer.headers["decision-source"] for answer in stored} == {"store"}
        url = running_url(data)
        assert url is not None
        with redis.Redis.from_url(url) as store:
            assert store.delete(*(decision_key(partition_of_kept(one), one) for one in ids)) == len(ids)
        for decision_id, before in zip(ids, stored, strict=True):
            after = client.get(f"/v1/decisions/{decision_id}")
            assert (after.content, after.headers["decision-source"]) == (before.content, "archive")
        for body, first in zip(asked, answers, strict=True):
            again = client.post("/v1/decisions", json=body)
            assert (again.content, again.headers.get("idempotency-replayed")) == (first.content, "true")
        refused = client.post("/v1/decisions", json={**asked[0], "amount": 7})
        assert refused.json()["type"].endswith("idempotency-key-reuse")
        assert client.get("/v1/decisions/d000" + "0" * 32).status_code == 404

        acknowledged = tmp_path / "acknowledged.jsonl"
        acknowledged.write_bytes(b"\n".join(answer.content for answer in answers))
        command = ("reconcile", str(acknowledged), "--data-dir", str(data), "--since", day, "--verify", "--json")
        status, (report,) = told(capsys, *command)
        assert status == 0, report
        assert (report["agreed"], report["stored"], report["lost"], report["damaged"]) == (6, 6, 0, 0)
        _, (watched,) = told(capsys, "models", "watch", "--data-dir", str(data), "--since", day, "--json")
        assert sum(one["n"] for one in watched["watched"]) >= 6, watched

        assert main(["archive", "verify", "--data-dir", str(data), "--store"]) == 0
        capsys.readouterr()
        assert main(["archive", "show", ids[1], "--data-dir", str(data)]) == 0
        assert capsys.readouterr().out.startswith(answers[1].json()["decision"].upper())
        status, shown = told(capsys, "archive", "search", "--data-dir", str(data), "--limit", "1", "--json")
        assert (status, len(shown)) == (0, 1)
        assert main(["archive", "show", "d000" + "0" * 32, "--data-dir", str(data)]) == 6
