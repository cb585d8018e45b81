"""Fixtures of the tools' tests: a small policy in a folder of its own, and commands run as the shell would."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools_command import Command

from decision_service.cli import main
from small_policy import write_rules

RULES = """
rule_set: drawdown
scene: drawdown
constants:
  burst: {value: 2, unit: n}
rules:
  - id: on_list
    when: request.customer_id in list.block
    on_null: hold
    then: {hold: block}
    reason: RC01
  - id: burst_of_requests
    when: vel_prior_10m >= burst
    on_null: skip
    then: {hold: step_up}
    reason: RC11
    tests:
      - {given: {vel_prior_10m: 2}, expect: fires}
  - id: otherwise
    when: request.amount > 0
    on_null: skip
    then: approve
matrices:
  - id: by_size
    rows: facility.status in [active, frozen]
    columns: request.amount <= [1000, inf]
    cells:
      active: [approve, {cap_draw: 1000}]
      frozen: [{hold: block}, {hold: block}]
    on_null: {hold: review}
    reason: RC22
    tests:
      - {given: {facility.status: frozen, request.amount: 1}, expect: frozen/1000}
fallback: {static: {hold: review, reason: RC90}}
"""
CASE = """
case: three_draws_in_ten_minutes
now: 2026-11-21T15:00:00+08:00
facility:
  {facility_id: f-1, customer_id: c-1, product: revolver, currency: CNY, limit: 20000, outstanding: 0, apr: 0.18,
   status: active, granted_at: -400d}
events:
  - {repeat: 2, every: 1m, kind: drawdown, amount: 100, at: -5m}
request: {amount: 500}
expect:
  {decision: hold, hold: step_up, reasons: [RC11], fired: [burst_of_requests, "by_size:active/1000"], silent: [on_list]}
steps:
  - now: +1h
    request: {amount: 5000}
    expect:
      {decision: limit_change, approved_amount: 1000, silent: [burst_of_requests],
       limit_change: {kind: draw_cap, to: 1000}}
  - now: +1m
    lists: {block: [c-1]}
    request: {amount: 10}
    expect: {hold: block, reasons_include: [RC01]}
"""


@pytest.fixture
def policy_folder(tmp_path: Path) -> Path:
    """A rules folder; `models` beside it is empty and `tests/cases` holds one case."""
    rules = write_rules(tmp_path / "rules", RULES)
    (tmp_path / "models").mkdir()
    (tmp_path / "tests" / "cases").mkdir(parents=True)
    (tmp_path / "tests" / "cases" / "burst.yaml").write_text(CASE, encoding="utf-8")
    return rules


@pytest.fixture
def case_file(policy_folder: Path) -> Path:
    """The one case."""
    return policy_folder.parent / "tests" / "cases" / "burst.yaml"


@pytest.fixture
def command(policy_folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `rules <arguments>`; the exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["rules", *map(str, arguments)])
        output = capsys.readouterr()
        return status, output.out, output.err

    return run
