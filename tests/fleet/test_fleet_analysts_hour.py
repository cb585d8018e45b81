"""An analyst's hour: files are broken in ten ways, a rule and a feature are added live, two versions are compared, the
old one is restored; requests run all the while and not one of them fails.

The short variant runs at 50 requests a second; the long one asks for 500 and prints what the machine carried (`-s`).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fixed_rate import Load

from decision_service.http_client import Client
from service_process import ROOT, ServiceProcess

pytestmark = pytest.mark.anyio
PATIENCE_S = 60.0
FEATURE = """
features:
  vol_travel_cnt:
    {agg: count, of: draw_travel, windows: [7d], null: Z, unit: n, en: "travel draws", zh: "旅行笔数"}
segments:
  draw_travel: kind == "drawdown" and category == "travel"
"""
RULE = """
  - id: many_travel
    stage: anomaly
    when: vol_travel_cnt_7d >= 3
    on_null: skip
    then: {hold: step_up}
    reason: RC11
"""


@dataclass(frozen=True, slots=True)
class Break:
    """A mistake: in which file `right` becomes `wrong`, where the answer puts it, and the cure it names."""

    file: str
    right: str
    wrong: str
    cure: str


BREAKS = (
    Break("drawdown.yaml", "vol_travel_cnt_7d >= 3", "vol_travel_cnt_7 >= 3", "vol_travel_cnt_7d"),
    Break("drawdown.yaml", "    on_null: skip\n    then: {hold: step_up}", "    then: {hold: step_up}", "on_null"),
    Break("drawdown.yaml", "    when: vol_travel", "    whne: vol_travel", "when"),
    Break(
        "drawdown.yaml", "then: {hold: step_up}\n    reason: RC11", "then: {hold: stepup}\n    reason: RC11", "step_up"
    ),
    Break("drawdown.yaml", "  - id: many_travel", "  - id: blocked_customer", "each id once"),
    Break("drawdown.yaml", "    when: vol_travel", "\twhen: vol_travel", "spaces, not tabs"),
    Break("drawdown.yaml", "then: {hold: step_up}\n    reason: RC11", "then: {hold: step_up\n    reason: RC11", "}"),
    Break("drawdown.yaml", "vol_travel_cnt_7d >= 3", "vol_travel_cnt_7d => 3", "`==`"),
    Break("drawdown.yaml", "vol_travel_cnt_7d >= 3", 'vol_travel_cnt_7d >= "three"', "number"),
    Break("features/mine.yaml", "agg: count", "agg: cuont", "count"),
)


class Analyst:
    """Somebody with an editor on the rules folder and a client of the service."""

    def __init__(self, rules: Path, client: Client) -> None:
        self.rules = rules
        self.client = client
        self.requests = 0

    def save(self, name: str, text: str) -> None:
        """Save a file as editors do: write another, rename it."""
        partial = self.rules / name
        partial = partial.with_name(f".{partial.name}.new")
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.rules / name)

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One call."""
        response = await self.client.call(method, path, body)
        return response.status, response.json()

    async def everywhere(self, label_of: str, wanted: Any) -> None:
        """Wait until every worker says so, and none has a problem."""
        until = time.monotonic() + PATIENCE_S
        while True:
            _, status = await self.call("GET", "/v1/policy")
            told = [(worker[label_of], worker["problem"]) for worker in status["workers"]]
            if len(told) == 2 and set(told) == {(wanted, None)}:
                return
            assert time.monotonic() < until, told
            await asyncio.sleep(0.05)

    async def fired(self) -> tuple[list[str], str]:
        """The rules that fire for the traveller now, and the policy that says so."""
        self.requests += 1
        body = {
            "request_id": f"t-{self.requests}", "customer_id": "traveller", "facility_id": "tf", "amount": 5,
            "currency": "CNY", "deadline_ms": 5_000,
        }  # fmt: skip
        _, told = await self.call("POST", "/v1/decisions/preview", body)
        rules = told["trace"]["rules"]
        return [rule["id"] for rule in rules if rule["verdict"] == "fired"], told["policy"]["id"]


async def open_lines(client: Client, customers: int) -> None:
    """Facilities for the load and for a customer who travels."""
    now = datetime.now(UTC)
    for customer, facility in [*((f"l-{i}", f"lf-{i}") for i in range(customers)), ("traveller", "tf")]:
        line = {
            "customer_id": customer, "product": "revolver", "currency": "CNY", "limit": 100_000, "outstanding": 0,
            "as_of": (now - timedelta(days=1)).isoformat(), "apr": 0.18, "status": "active",
            "granted_at": (now - timedelta(days=400)).isoformat(),
        }  # fmt: skip
        assert (await client.call("PUT", f"/v1/facilities/{facility}", line)).status == 200
    events = [
        {"event_id": f"e-{i}", "customer_id": "traveller", "kind": "drawdown", "amount": 20, "currency": "CNY",
         "category": "travel", "occurred_at": (now - timedelta(days=i + 1)).isoformat()}
        for i in range(4)
    ]  # fmt: skip
    assert (await client.call("POST", "/v1/events", {"events": events})).json()["accepted"] == 4


async def break_in_ten_ways(analyst: Analyst, files: dict[str, str]) -> None:
    """Each mistake is refused with its file and line and the way to mend it, and nothing that is in force changes."""
    _, before = await analyst.call("GET", "/v1/policy")
    for mistake in BREAKS:
        good = files[mistake.file]
        at = good.index(mistake.right, max(0, good.find("  - id: many_travel")))
        for name, text in files.items():
            wrong = good[:at] + mistake.wrong + good[at + len(mistake.right) :]
            analyst.save(name, wrong if name == mistake.file else text)
        status, told = await analyst.call("POST", "/v1/policy/reload")
        assert status == 422, (mistake, told)
        line = good[:at].count("\n") + 1
        places = [(d["file"], d["line"]) for d in told["diagnostics"]]
        near = [d for d in told["diagnostics"] if d["file"] == mistake.file and abs(d["line"] - line) <= 10]
        assert near, (mistake, line, places)
        cures = " ".join(f"{d['message']} {d['expected']} {d['nearest']}" for d in near)
        assert mistake.cure in cures, (mistake, cures)
        _, now = await analyst.call("GET", "/v1/policy")
        assert now["id"] == before["id"]


async def hour(rules: Path, url: str, rate: int, customers: int) -> tuple[Load, set[str], float]:
    """The hour; the load, the policies that were in force, and the seconds from a save to a decision that shows it."""
    async with Client(url) as client:
        analyst = Analyst(rules, client)
        await open_lines(client, customers)
        await analyst.everywhere("bundle", 1)
        old = (rules / "drawdown.yaml").read_text(encoding="utf-8")
        new = {"features/mine.yaml": FEATURE, "drawdown.yaml": old.replace("\nrules:\n", "\nrules:\n" + RULE, 1)}
        async with Load(url, rate, customers) as load:
            fired, first_id = await analyst.fired()
            assert "many_travel" not in fired
            await break_in_ten_ways(analyst, new)
            for name, text in new.items():
                analyst.save(name, text)
            saved = time.monotonic()
            while "many_travel" not in (await analyst.fired())[0]:
                assert time.monotonic() < saved + PATIENCE_S, await analyst.call("GET", "/v1/policy")
                await asyncio.sleep(0.02)
            live_s = time.monotonic() - saved
            await analyst.everywhere("bundle", 2)
            _, second_id = await analyst.fired()
            _, told = await analyst.call("GET", "/v1/policy/versions")
            assert told["versions"][0]["files_changed"] == {
                "added": ["features/mine.yaml"], "changed": ["drawdown.yaml"], "removed": [],
            }  # fmt: skip
            versions = [(await analyst.call("GET", f"/v1/policy/versions/{number}"))[1] for number in (1, 2)]
            assert versions[1]["files"]["drawdown.yaml"] == versions[0]["files"]["drawdown.yaml"].replace(
                "\nrules:\n", "\nrules:\n" + RULE, 1
            )
            assert (await analyst.call("POST", "/v1/policy/versions/1/restore"))[0] == 200
            await analyst.everywhere("bundle", 3)
            fired, third_id = await analyst.fired()
            assert ("many_travel" in fired, third_id) == (False, first_id)
    return load, {first_id, second_id}, live_s


@pytest.mark.parametrize(("rate", "customers"), [(50, 20), pytest.param(500, 200, marks=pytest.mark.slow)])
async def test_fleet_an_analysts_hour(rate: int, customers: int, tmp_path: Path) -> None:
    """Not one request failed; every decision carries a policy that was in force."""
    rules = tmp_path / "rules"
    shutil.copytree(ROOT / "rules", rules)
    with ServiceProcess(tmp_path / "service", workers=2, rules=rules) as service:
        load, in_force, live_s = await hour(rules, service.url, rate, customers)
    print(f"\nlive in a trace after {live_s:.2f} s; {load.account()}; policies {json.dumps(load.policies)}")
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert set(load.policies) <= in_force
    assert len(load.policies) == 2


@pytest.mark.fault("F13")
@pytest.mark.slow
async def test_fleet_two_hosts_follow_one_store(tmp_path: Path, valkey: str) -> None:
    """Two services with rules folders of their own: an edit on one is in force on the other, whose files are old; that
    one's restart does not lead the fleet back."""
    hosts = {name: tmp_path / name for name in "ab"}
    for folder in hosts.values():
        shutil.copytree(ROOT / "rules", folder / "rules")
    with (
        ServiceProcess(hosts["a"] / "service", rules=hosts["a"] / "rules", store_url=valkey) as a,
        ServiceProcess(hosts["b"] / "service", rules=hosts["b"] / "rules", store_url=valkey) as b,
    ):
        async with Client(a.url) as client_a:
            analyst = Analyst(hosts["a"] / "rules", client_a)
            await analyst.everywhere("bundle", 1)
            policy = (hosts["a"] / "rules" / "policy.yaml").read_text(encoding="utf-8")
            analyst.save("policy.yaml", policy + "\n# edited on host a\n")
            await analyst.everywhere("bundle", 2)
            b.stop()
            b.start()
            await asyncio.sleep(3)
            _, status = await analyst.call("GET", "/v1/policy")
            assert (status["bundle"], status["skew"]) == (2, False)
            _, told = await analyst.call("GET", "/v1/policy/versions")
            assert [version["number"] for version in told["versions"]] == [2, 1]
        async with Client(b.url) as client_b:
            status = (await client_b.call("GET", "/v1/policy")).json()
            assert (status["bundle"], status["problem"]) == (2, None)
