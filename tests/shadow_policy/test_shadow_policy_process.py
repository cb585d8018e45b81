"""The shadow policy of a running service: a real process beside a real worker, on a real store."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest_service import RULES, write_policy

from decision_service.api.instants import format_instant
from service_process import ServiceProcess

STRICTER = RULES.replace(
    "  - id: otherwise",
    """  - id: large
    when: request.amount >= 500
    on_null: skip
    then: {hold: review}
    reason: RC10
  - id: otherwise""",
)
PATIENCE_S = 180.0  # its process runs when nobody else wants a core
LINE = {
    "customer_id": "c-1", "product": "revolver", "currency": "CNY", "limit": 100_000, "outstanding": 0, "apr": 0.18,
    "status": "active",
}  # fmt: skip


def until(found: Callable[[], Any], what: str) -> Any:
    """The first true value of `found()`."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


class Serving:
    """A service and what is asked of it."""

    def __init__(self, service: ServiceProcess) -> None:
        self.service = service
        self.client = httpx.Client(base_url=service.url, timeout=10)
        now_ms = time.time_ns() // 1_000_000
        line = LINE | {"as_of": format_instant(now_ms - 60_000), "granted_at": format_instant(now_ms - 10**9)}
        self.ask("PUT", "/v1/facilities/f-1", line)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON."""
        response = self.client.request(method, path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def draw(self, request_id: str, amount: int) -> dict[str, Any]:
        """A decision."""
        asked = {"request_id": request_id, "customer_id": "c-1", "facility_id": "f-1", "currency": "CNY"}
        told: dict[str, Any] = self.ask("POST", "/v1/decisions", asked | {"amount": amount, "deadline_ms": 5_000})
        return told

    @property
    def shadow(self) -> dict[str, Any]:
        """What stands in shadow."""
        told: dict[str, Any] = self.ask("GET", "/v1/policy")["shadow"]
        return told

    def standing(self, state: str) -> dict[str, Any]:
        """The shadow once it is in a state."""
        told: dict[str, Any] = until(lambda: self.shadow if self.shadow["state"] == state else None, state)
        return told

    def said(self, decision_id: str) -> dict[str, Any]:
        """What the shadow said of a decision, once it is recorded."""
        path = f"/v1/decisions/{decision_id}"
        told: dict[str, Any] = until(lambda: self.ask("GET", path)["trace"]["shadow_policy"], "a record")
        return told

    def metric(self, line: str) -> float:
        """A value of the metrics page."""
        page = self.client.get("/metrics").text
        found = re.search(rf"^decision_service_shadow_policy_{re.escape(line)} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else 0.0


@pytest.fixture
def start(tmp_path: Path, valkey: str) -> Iterator[Callable[..., Serving]]:
    """Start a service on the small policy, with settings."""
    started: list[Serving] = []
    (tmp_path / "models").mkdir()
    write_policy(tmp_path / "rules")

    def serving(**settings: Any) -> Serving:
        paths = {"rules": tmp_path / "rules", "models": tmp_path / "models"}
        service = ServiceProcess(tmp_path / "service", store_url=valkey, **paths, **settings)
        started.append(Serving(service.start()))
        return started[-1]

    yield serving
    for one in started:
        one.client.close()
        one.service.stop()


def shadow_pid(service: ServiceProcess) -> int:
    """The process of the shadow."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) in _children(service):
            command = (folder / "cmdline").read_bytes()
            if b"decision_service.shadow_policy.process" in command:
                return int(folder.name)
    raise AssertionError("no shadow process")


def _children(service: ServiceProcess) -> set[int]:
    assert service.process is not None
    pid = service.process.pid
    return {int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()}


def test_a_policy_in_shadow_is_recorded_compared_and_told(start: Callable[..., Serving], tmp_path: Path) -> None:
    """What the candidate would have said stands beside the decision, in the trace and in the metrics; answers stay. An
    edit that does not compile is refused with its place, and the one before stays in shadow."""
    folder = write_policy(tmp_path / "shadow", STRICTER)
    serving = start(shadow_rules=folder)
    told = serving.standing("shadowing")
    assert (told["source"], told["rules"], told["problem"]) == ("disk", 5, None)
    small, large = serving.draw("d-1", 100), serving.draw("d-2", 600)
    assert [small["decision"], large["decision"]] == ["approve", "approve"]
    said = serving.said(large["decision_id"])
    assert (said["outcome"], said["hold"], said["approved_minor"]) == ("hold", "review", 0)
    assert (said["rules"], said["reasons"]) == (["large", "otherwise"], ["RC10"])
    assert said["differs"] == ["outcome", "approved", "hold", "reasons"]
    assert said["policy_id"] == told["id"]
    assert serving.said(small["decision_id"])["differs"] == []
    assert serving.metric('decisions_total{result="differed"}') == 1
    assert serving.metric('outcomes_total{active="approve",scene="drawdown",shadow="hold"}') == 1
    assert serving.metric('rules_total{change="new",rule="large",scene="drawdown"}') == 1
    assert serving.metric('rules_total{change="both",rule="otherwise",scene="drawdown"}') == 2
    assert serving.metric("running") == 1

    (folder / "drawdown.yaml").write_text(STRICTER.replace("request.amount >= 500", "request.amuont >= 500"))
    refused = until(lambda: serving.shadow if serving.shadow["problem"] else None, "a refusal")
    assert (refused["state"], refused["id"]) == ("shadowing", told["id"])
    assert [(d["file"], d["nearest"]) for d in refused["diagnostics"]] == [("drawdown.yaml", "request.amount")]
    assert serving.said(serving.draw("d-3", 700)["decision_id"])["policy_id"] == told["id"]


@pytest.mark.slow
def test_a_shadow_that_dies_is_switched_off_and_answers_go_on(start: Callable[..., Serving], tmp_path: Path) -> None:
    """The circuit opens and says so; a policy that is published meanwhile is taken at once, and stopping it brings back
    what the directory holds."""
    serving = start(shadow_rules=write_policy(tmp_path / "shadow", STRICTER))
    serving.standing("shadowing")
    os.kill(shadow_pid(serving.service), signal.SIGKILL)
    broken = serving.standing("broken")
    assert "ended" in broken["problem"]
    assert serving.draw("d-1", 600)["decision"] == "approve"
    until(lambda: serving.metric('breaks_total{reason="ended"}') == 1, "a break that is counted")
    files = {path.relative_to(tmp_path / "rules").as_posix(): path.read_text() for path in _files(tmp_path / "rules")}
    published = serving.ask("PUT", "/v1/policy/shadow", {"files": files})
    told = serving.standing("shadowing")
    assert (told["source"], told["number"], told["id"]) == ("published", 1, published["id"])
    assert serving.said(serving.draw("d-2", 600)["decision_id"])["differs"] == []
    assert serving.ask("DELETE", "/v1/policy/shadow") == {"stopped": True}
    until(lambda: serving.shadow["source"] == "disk", "the directory again")
    assert serving.said(serving.draw("d-3", 600)["decision_id"])["hold"] == "review"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.yaml") if path.is_file()]
