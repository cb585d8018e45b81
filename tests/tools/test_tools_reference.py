"""The reference of the language is up to date; every example on it compiles, warns of nothing, passes its tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from tools_command import Command

from decision_service.cases.in_memory import run_cases
from decision_service.cases.reading import read_case
from decision_service.cases.report import failure_lines
from decision_service.cli.policy_options import policy_of
from decision_service.core.policy import FEATURES_FOLDER, compile_policy
from decision_service.core.scorecards.roles import read_roles
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Document, Findings
from decision_service.core.zone import zone_named
from decision_service.layout.layout import laid_out
from decision_service.policies.files import read_directory, read_text
from decision_service.scorecards.files import load_scorecards
from decision_service.settings import load_settings
from service_process import ROOT

PAGE = ROOT / "docs" / "language.md"
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
RULES = [example for example in EXAMPLES if not example.startswith(("case:", "scorecards:"))]
CASES = [example for example in EXAMPLES if example.startswith("case:")]
HEADER = "rule_set: example\nscene: drawdown\n"
FALLBACK = "fallback: {static: {hold: review, reason: RC90}}\n"


@pytest.fixture(scope="module")
def dictionary() -> Mapping[str, Document]:
    """The shipped features, attributes and lists."""
    kept = (FEATURES_FOLDER, "attributes.yaml")
    return {name: d for name, d in read_directory(ROOT / "rules", Findings()).items() if name.startswith(kept)}


@pytest.fixture(scope="module")
def scorecards() -> Mapping[str, Scorecard]:
    return load_scorecards(ROOT / "models")


def test_the_page_is_up_to_date(command: Command) -> None:
    """`rules reference --check` compares it."""
    assert command("reference", "--check", "--out", PAGE)[0] == 0, "run `make reference`"


def test_a_page_that_differs_is_told_and_written_anew(command: Command, tmp_path: Path) -> None:
    """Status 1 with --check; without it the page is written."""
    path = tmp_path / "language.md"
    path.write_text("old")
    assert command("reference", "--check", "--out", path)[0] == 1
    assert command("reference", "--out", path)[0] == 0
    assert path.read_text() == PAGE.read_text() == command("reference", "--out", "-")[1]


@pytest.mark.parametrize("number", range(len(RULES)))
def test_every_example_compiles_and_passes(
    number: int, dictionary: Mapping[str, Document], scorecards: Mapping[str, Scorecard]
) -> None:
    """Without an error or a warning about it; its inline tests run while it compiles."""
    text = HEADER + RULES[number] + ("" if "fallback:" in RULES[number] else FALLBACK)
    findings = Findings()
    document = read_text(text, "example.yaml", findings)
    assert document is not None, [finding.render() for finding in findings.diagnostics]
    documents = {**dictionary, document.file: document}
    compile_policy(documents, scorecards, zone_named("Asia/Shanghai"), 86_400_000, findings)
    about = [finding.render() for finding in findings.diagnostics if finding.place.file == document.file]
    assert about == []


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_is_laid_out(number: int) -> None:
    """As `rules fmt` would have it."""
    assert laid_out(EXAMPLES[number], "example.yaml", Findings()) == EXAMPLES[number]


def test_the_example_of_a_case_holds() -> None:
    """It is carried out by the shipped policy."""
    settings = load_settings(rules=ROOT / "rules", models=ROOT / "models")
    findings = Findings()
    [document] = [read_text(example, "case.yaml", findings) for example in CASES]
    case = None if document is None else read_case(document, findings)
    assert case is not None, [finding.render() for finding in findings.diagnostics]
    [result] = run_cases([case], policy_of(settings)[0], settings)
    assert result.passed, "\n".join(failure_lines(result))


def test_the_example_of_roles_is_read() -> None:
    """Without a finding, but for the versions that are not shipped."""
    [example] = [example for example in EXAMPLES if example.startswith("scorecards:")]
    findings = Findings()
    document = read_text(example, "policy.yaml", findings)
    assert document is not None
    roles = read_roles(document.root, findings)["behaviour"]
    assert findings.diagnostics == []
    assert [(role, version.text) for role, version in roles.variants] == [
        ("challenger", "2027.1.1"),
        ("shadow", "2027.1.2"),
    ]


def test_the_examples_show_every_sort_of_block() -> None:
    """Nothing that a rule set may hold is without an example."""
    shown = {key for example in RULES for key in re.findall(r"^([a-z]+):", example, re.MULTILINE)}
    assert shown >= {
        "constants", "rules", "tables", "trees", "matrices", "points", "guardrails", "fallback", "stages",
    }  # fmt: skip
