"""`rules explain` tells, of a decision of a running service, what each rule asked, saw and came to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
from tools_command import Command, golden

from service_process import ServiceProcess

TABLE = """
points:
  - id: size
    base: 500
    of: [{value: request.amount, bins: {"<= 1000": 20, "> 1000": 0}}]
    grades: {A: 510, B: 0}
tables:
  - id: by_term
    hit: first
    inputs: [request.term_months]
    rows:
      - {id: long, if: ["> longest"], then: {hold: review}}
    otherwise: nothing
    on_null: skip
    reason: RC22
"""
LINE = {
    "customer_id": "c-1", "product": "revolver", "currency": "CNY", "limit": 20000, "outstanding": 0,
    "as_of": "2026-01-01T00:00:00Z", "apr": 0.18, "status": "active", "granted_at": "2025-01-01T00:00:00Z",
}  # fmt: skip


def with_a_table(folder: Path) -> None:
    path = folder / "drawdown.yaml"
    text = path.read_text().replace("constants:", "constants:\n  longest: {effective_from: {2020-01-01: 12}, unit: n}")
    text = text.replace(
        "when: vel_prior_10m >= burst",
        "when: vel_prior_10m >= burst or request.term_months > 1000 or size.points > 900",
    )
    path.write_text(text.replace("\nmatrices:", f"{TABLE}matrices:"))


def test_every_stage_is_told_with_values_constants_and_cells(
    command: Command, policy_folder: Path, tmp_path: Path
) -> None:
    """What fired, what hit, why something was unknown; with --all also what was silent; 6 for no such decision."""
    with_a_table(policy_folder)
    with ServiceProcess(tmp_path / "service", rules=policy_folder, models=tmp_path / "models") as server:
        httpx.put(f"{server.url}/v1/facilities/f-1", json=LINE).raise_for_status()
        asked = {"request_id": "r-1", "customer_id": "c-1", "facility_id": "f-1", "amount": 500, "currency": "CNY"}
        asked["deadline_ms"] = 5_000
        answer = httpx.post(f"{server.url}/v1/decisions", json=asked).raise_for_status().json()
        asked |= {"request_id": "r-2", "term_months": 24}
        second = httpx.post(f"{server.url}/v1/decisions", json=asked).raise_for_status().json()
        _, first_out, _ = command("explain", answer["decision_id"], "--url", server.url)
        _, all_out, _ = command("explain", second["decision_id"], "--url", server.url, "--all")
        status, out, _ = command("explain", second["decision_id"], "--url", server.url, "--json")
        missing = command("explain", "d000" + "0" * 32, "--url", server.url)[0]
    golden("explain", re.sub(r"policy \w{12}", "policy 0123456789ab", first_out + "\n" + all_out))
    told = json.loads(out)
    assert (status, missing) == (0, 6)
    parts = {part["id"]: part for stage in told["stages"] for part in stage["parts"]}
    assert parts["by_term"]["hit"] == ["long"]
    assert parts["by_term"]["constants"] == {"longest": 12}
    assert parts["by_term"]["values"] == {"request.term_months": 24}
    assert (told["decision"], told["hold"]) == ("hold", "review")


def test_a_service_that_is_not_there_is_told(command: Command) -> None:
    """Status 7, in words."""
    status, _, err = command("explain", "d000" + "0" * 32, "--url", "http://127.0.0.1:9")
    assert (status, "does not answer" in err) == (7, True)
