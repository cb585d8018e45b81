"""Every case of this folder is answered as it says: by the service in memory, and by a real server over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from decision_service.cases.calling import carry_out
from decision_service.cases.case import Body, Case
from decision_service.cases.in_memory import run_cases
from decision_service.cases.reading import read_cases
from decision_service.cases.report import failure_lines
from decision_service.cases.sending import shift_to
from decision_service.cli.policy_options import policy_of
from decision_service.core.policy import Policy
from decision_service.core.source import Findings
from decision_service.linker import ROUND_S
from decision_service.settings import Settings, load_settings
from service_process import ROOT, ServiceProcess

FILES = sorted(Path(__file__).parent.glob("*.yaml"))
SINK_IN_S = 5.0  # how long reported links and lists may take to be seen


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(rules=ROOT / "rules", models=ROOT / "models")


@pytest.fixture(scope="module")
def policy(settings: Settings) -> Policy:
    return policy_of(settings)[0]


def case_in(path: Path) -> Case:
    findings = Findings()
    cases = read_cases(path, findings)
    assert not findings.diagnostics, "\n".join(finding.render() for finding in findings.diagnostics)
    return cases[0]


def test_there_are_cases_and_no_two_share_a_name() -> None:
    """The folder holds cases, each under its own name."""
    findings = Findings()
    assert len(read_cases(Path(__file__).parent, findings)) == len(FILES) > 0
    assert not findings.diagnostics


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_case_is_answered_as_it_says(path: Path, policy: Policy, settings: Settings) -> None:
    """The service in memory answers the case as expected."""
    [result] = run_cases([case_in(path)], policy, settings)
    assert result.passed, "\n".join(failure_lines(result))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path_factory.mktemp("cases"), links_budget_ms=1_000) as process:
        yield process


class OverHttp:
    """`Answerer` over HTTP: the clock is the server's, so links and lists are waited for."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._reported = False  # anything whose links may still be on their way

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a call. A busy machine's 503 is asked again, as every call may be."""
        until = time.monotonic() + SINK_IN_S
        reply = await self._client.request(method, path, json=body)
        while reply.status_code == 503 and time.monotonic() < until:
            await asyncio.sleep(0.2)
            reply = await self._client.request(method, path, json=body)
        assert reply.is_success, f"{method} {path}: {reply.text}"
        return reply.json() if reply.content else None

    async def be_at(self, now_ms: int) -> None:
        """Wait until what was reported has been linked; a round of the linker tells how much still waits."""
        if not self._reported:
            return
        self._reported = False
        await asyncio.sleep(2 * ROUND_S)
        until = time.monotonic() + SINK_IN_S
        while time.monotonic() < until:
            text = (await self._client.get("/metrics")).text
            waiting = [line for line in text.splitlines() if line.startswith("decision_service_links_waiting")]
            assert waiting, "the service tells how many links wait"
            if all(float(line.rpartition(" ")[2]) == 0 for line in waiting):
                return
            await asyncio.sleep(0.02)

    async def put_facility(self, facility_id: str, body: Body) -> None:
        await self._call("PUT", f"/v1/facilities/{facility_id}", body)

    async def put_attributes(self, customer_id: str, body: Body) -> None:
        await self._call("PUT", f"/v1/customers/{customer_id}/attributes", body)

    async def put_on_list(self, name: str, value: str) -> None:
        before = (await self._call("GET", "/v1/policy"))["id"]
        await self._call("PUT", f"/v1/lists/{name}/{value}")
        until = time.monotonic() + SINK_IN_S
        while time.monotonic() < until:
            if (await self._call("GET", "/v1/policy"))["id"] != before:
                return
            await asyncio.sleep(0.05)

    async def post_events(self, bodies: list[Body]) -> None:
        self._reported = True
        answer = await self._call("POST", "/v1/events", {"events": bodies})
        assert answer["accepted"] + answer["duplicate"] == len(bodies), answer

    async def decide(self, body: Body) -> Mapping[str, Any]:
        self._reported = True
        answer = await self._call("POST", "/v1/decisions", {**body, "deadline_ms": 5_000})
        told: Mapping[str, Any] = await self._call("GET", f"/v1/decisions/{answer['decision_id']}")
        return told


def test_a_real_server_answers_every_case_the_same(server: ServiceProcess) -> None:
    """Shifted by whole weeks to now, every case is answered over HTTP as in memory."""

    async def run() -> list[str]:
        lines: list[str] = []
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            for path in FILES:
                case = case_in(path)
                last_ms = max(step.now_ms for step in case.steps)
                shift = shift_to(last_ms, time.time_ns() // 1_000_000, f"{case.name}-")
                lines += failure_lines(await carry_out(case, OverHttp(client), shift, say_when=True))
        return lines

    failures = asyncio.run(run())
    assert not failures, "\n".join(failures)
