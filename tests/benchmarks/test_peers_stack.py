"""The stack beside this service: both answer alike, whoever does not is caught, and the stack keeps its word."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from peer_modules import POLICY, both_answers

import stack
import stack_app
from peer_histories import Customer, draw, plain
from same_answers import Checked, DifferentAnswers, compare
from stack_rules import RULES, Rule, load_rules
from stack_store import Variant
from valkey_server import ValkeyServer

NUMBERS = range(20_000, 20_060)


def compared(rules: list[Rule] | None = None) -> Checked:
    """What comparing some answers came to."""
    checked = Checked()
    for request, ours, stack_ in both_answers(NUMBERS, rules):
        compare(request, ours, stack_, "in process", checked)
        checked.outcomes[ours["decision"]] += 1
        checked.reasons.update(reason["source"] for reason in ours["reasons"])
    return checked


@pytest.mark.slow
def test_the_stack_and_this_service_answer_alike() -> None:
    """Sixty customers of whom much is wrong: outcomes, amounts, reasons, scores and every feature are equal."""
    checked = compared()
    assert checked.values > 3_000
    assert checked.outcomes["approve"] >= 10
    assert checked.outcomes["hold"] >= 10
    assert len(checked.reasons) >= 10
    assert "scorecard:behaviour" in checked.reasons


def test_a_rule_of_the_stack_that_is_wrong_is_caught() -> None:
    """One rule that never fires is a difference, and the message says where."""
    rules = load_rules()
    broken = next(i for i, rule in enumerate(rules) if rule.name == "many_times_mean")
    rules[broken] = replace(rules[broken], matches=lambda _: False)
    with pytest.raises(DifferentAnswers, match="many_times_mean"):
        compared(rules)


def test_a_feature_that_is_wrong_is_caught() -> None:
    """A value that differs in the tenth digit, or is null on one side only, is a difference."""
    request, ours, stack_ = next(both_answers(NUMBERS))
    for wrong in (ours["features"]["utl_after"] + 1e-8, None):
        with pytest.raises(DifferentAnswers, match="utl_after"):
            compare(request, ours, stack_ | {"features": stack_["features"] | {"utl_after": wrong}}, "x", Checked())


def test_the_stack_has_every_rule_of_the_policy() -> None:
    """Name for name, in the same order."""
    ours = re.findall(r"- {id: (\w+)", (POLICY / "rules" / "drawdown.yaml").read_text())
    assert [rule.name for rule in load_rules()] == ours
    assert len(ours) >= 40


@pytest.mark.anyio
@pytest.mark.parametrize("variant", ["pipelined", "per-feature"])
async def test_the_stack_answers_a_request_once(valkey_server: ValkeyServer, variant: Variant) -> None:
    """A repeat gets the answer there is and appends nothing; one that is under way is told so."""
    customer = plain(77, 1_790_000_000_000, events=12)
    app = stack_app.application(valkey_server.port, POLICY / "models" / "behaviour" / "1", variant, load_rules())
    with valkey_server.client() as client:
        client.flushall()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stack") as http,
    ):
        await told(http, customer)
        first = await http.post("/v1/decisions", json=draw(customer, "r1", 300.0))
        again = await http.post("/v1/decisions", json=draw(customer, "r1", 300.0))
        with valkey_server.client() as client:
            client.set("d:r2", "pending")
            draws = client.zrange("h:p-77:drawdown", 0, -1)
        pending = await http.post("/v1/decisions", json=draw(customer, "r2", 300.0))
        unknown = await http.post("/v1/decisions", json=draw(customer, "r3", 300.0) | {"facility_id": "nobody"})
    assert first.json() == again.json()
    assert sum(json.loads(event)["id"] == first.json()["decision_id"] for event in draws) == 1
    assert (pending.status_code, unknown.status_code) == (409, 404)


async def told(http: httpx.AsyncClient, customer: Customer) -> None:
    """Tell the stack of a customer."""
    put = await http.put(f"/v1/facilities/{customer.facility_id}", json=customer.line)
    posted = await http.post("/v1/events", json={"events": customer.events})
    assert (put.status_code, posted.status_code) == (200, 200)


@pytest.mark.slow
def test_the_whole_comparison_runs_and_is_told_with_its_notes() -> None:
    """Servers of both sides, answers compared over HTTP, rounds in turns, every figure in its place."""
    part = stack.run(quick=True)
    assert "equal" in part.checked
    assert len(part.rows) == 4
    assert all(isinstance(cell, float | int | str) for row in part.rows for cell in row)
    assert len(part.notes) >= len(stack.NOTES)


@pytest.mark.slow
def test_a_wrong_stack_stops_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack whose rules differ is not measured."""
    wrong = tmp_path / "rules.yaml"
    wrong.write_text(RULES.read_text().replace("8 * con_amt_mean_90d", "80 * con_amt_mean_90d"))
    started: Any = stack.stack
    monkeypatch.setattr(stack, "stack", lambda *args: started(*args, rules=wrong))
    with pytest.raises(SystemExit, match="many_times_mean"):
        stack.run(quick=True)
