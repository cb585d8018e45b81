"""`rules test` runs cases through the real service and says what they never reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tools_command import Command, golden

from decision_service.cases.reading import read_cases
from decision_service.core.source import Findings

MISTAKES = {
    "a key that is none": ("now: 2026", "nwo: 2026"),
    "an instant that is none": ("at: -5m", "at: five minutes ago"),
    "a decision that is none": ("decision: hold", "decision: hodl"),
    "an event that the API refuses": ("kind: drawdown", "kind: drawdwon"),
    "a facility that the API refuses": ("limit: 20000", "limit: -1"),
    "a request that the API refuses": ("{amount: 500}", "{amount: 500, chanel: app}"),
    "a repetition without a distance": ("every: 1m, ", ""),
    "a step in the past": ("now: +1h", "now: -1h"),
    "a question without an answer": ("request: {amount: 10}", "note: no question"),
    "a reason that is none": ("reasons: [RC11]", "reasons: [RC999]"),
}


def arguments(rules: Path) -> tuple[object, ...]:
    return ("test", rules, "--models", rules.parent / "models")


def test_cases_that_hold_pass_and_coverage_is_told(command: Command, policy_folder: Path) -> None:
    """Status 0; what neither a test nor a case reaches is named."""
    status, out, _ = command(*arguments(policy_folder))
    assert status == 0
    golden("test_passes", out)


def test_a_case_that_fails_is_told_at_its_place(command: Command, policy_folder: Path, case_file: Path) -> None:
    """Expected and got, what fired, and the values that the silent rule saw."""
    case_file.write_text(
        case_file.read_text()
        .replace("reasons: [RC11]", "reasons: [RC10]")
        .replace("silent: [burst_of_requests]", "fired: [burst_of_requests, otherwize]")
    )
    status, out, _ = command(*arguments(policy_folder))
    assert status == 1
    golden("test_fails", out)


def test_results_come_as_json(command: Command, policy_folder: Path) -> None:
    """Cases, their steps and the coverage of each scene."""
    status, out, _ = command(*arguments(policy_folder), "--json")
    report = json.loads(out)
    assert (status, report["passed"], report["inline_tests"]) == (0, True, 2)
    [case] = report["cases"]
    assert [step["decision"] for step in case["steps"]] == ["hold", "limit_change", "hold"]
    assert "burst_of_requests" in case["steps"][0]["fired"]
    [scene] = report["scenes"]
    assert scene["never_silent"] == ["otherwise"]
    assert scene["percent"] == pytest.approx(report["coverage"])


def test_too_little_coverage_fails(command: Command, policy_folder: Path) -> None:
    """--min-coverage is met or the status is 1."""
    assert command(*arguments(policy_folder), "--min-coverage", "50")[0] == 0
    assert command(*arguments(policy_folder), "--min-coverage", "99")[0] == 1


def test_without_cases_the_inline_tests_count_alone(command: Command, policy_folder: Path, case_file: Path) -> None:
    """A folder without case files is no mistake."""
    case_file.unlink()
    status, out, _ = command(*arguments(policy_folder))
    assert status == 0
    assert "2 inline tests passed; 0 cases, 0 failed" in out


def test_an_inline_test_that_fails_is_an_error(command: Command, policy_folder: Path) -> None:
    """Such a policy would not load, and is not tested any further."""
    path = policy_folder / "drawdown.yaml"
    path.write_text(path.read_text().replace("expect: fires", "expect: silent"))
    status, out, _ = command(*arguments(policy_folder))
    assert status == 4
    assert "this test of rule `burst_of_requests` fails" in out


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_a_mistake_in_a_case_names_its_place(
    mistake: str, command: Command, policy_folder: Path, case_file: Path
) -> None:
    """Status 4 and the line; nothing is run."""
    right, wrong = MISTAKES[mistake]
    text = case_file.read_text()
    assert right in text
    case_file.write_text(text.replace(right, wrong, 1))
    status, out, _ = command(*arguments(policy_folder))
    assert status == 4
    assert "burst.yaml:" in out
    assert "coverage" not in out


def test_a_case_that_cannot_be_carried_out_says_why(command: Command, policy_folder: Path, case_file: Path) -> None:
    """An attribute that the policy does not declare is found when the case runs."""
    case_file.write_text(case_file.read_text().replace("events:", "attributes: {nothing_of_ours: 1}\nevents:", 1))
    status, out, _ = command(*arguments(policy_folder))
    assert status == 1
    assert "attributes.nothing_of_ours: no such attribute is declared" in out


def test_two_cases_of_one_name_are_refused(case_file: Path) -> None:
    """A name stands for one case."""
    (case_file.parent / "other.yaml").write_text(case_file.read_text())
    findings = Findings()
    read_cases(case_file.parent, findings)
    assert ["is taken by burst.yaml:2" in finding.message for finding in findings.errors] == [True]


def test_no_case_of_that_name_is_no_success(policy_folder: Path, command: Command) -> None:
    """A slip in `--only` must not look like a test that passed."""
    status, _, error = command("test", policy_folder, "--only", "nosuchcase")
    assert status == 2
    assert "no case whose name contains 'nosuchcase'" in error
