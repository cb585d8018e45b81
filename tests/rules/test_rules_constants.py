"""Constants shared by all rule sets: seen everywhere, dated where they say so, one meaning a name."""

from __future__ import annotations

import pytest
from rule_cases import HEAD, LAYOUT, VOCABULARY, evaluate
from test_rules_evaluate import rule

from decision_service.core.errors import PolicyRejected
from decision_service.core.limits import CONSTANTS_MAX, DAY_MS
from decision_service.core.policy import Policy, compile_policy
from decision_service.core.rules.compile import RuleSet, compile_rule_set
from decision_service.core.rules.constants import read_shared_constants
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Diagnostic, Document, Findings
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_text

JANUARY_2026_MS = 1_767_225_600_000
SHARED = """note: what all scenes agree on
constants:
  late: {value: 5, unit: d, note: days}
  steps: [1, 2]
  product: "revolving"
  top: {effective_from: {2026-01-01: 0.24, 2026-02-01: 0.20}, unit: ratio}
"""
USES_ALL = "facility.apr > top and facility.days_past_due > late and not facility.age_d in steps and facility.product == product"  # noqa: E501  (one line of YAML)


def read(text: str, name: str, findings: Findings) -> Document:
    """A document that is well-formed YAML."""
    document = read_text(text, name, findings)
    assert document is not None, findings.errors
    return document


def compiled_with(shared: str, text: str, findings: Findings) -> RuleSet | None:
    """A rule set beside a file of shared constants."""
    constants = read_shared_constants(read(shared, "constants.yaml", findings), VOCABULARY, None, findings)
    spec = read_rule_set(read(HEAD + text, "drawdown.yaml", findings), VOCABULARY, findings, None, constants)
    return None if spec is None else compile_rule_set(spec, LAYOUT, findings)


def policy_of(findings: Findings, **files: str) -> Policy:
    """A policy of a few small files."""
    documents = {f"{name}.yaml": read(text, f"{name}.yaml", findings) for name, text in files.items()}
    return compile_policy(documents, {}, zone_named("Asia/Shanghai"), DAY_MS, findings)


def messages(findings: list[Diagnostic]) -> list[tuple[str, int, str]]:
    """File, line and message of each."""
    return [(d.place.file, d.place.line, d.message) for d in findings]


@pytest.mark.parametrize(
    ("t_ms", "apr", "verdict"),
    [
        (JANUARY_2026_MS - 1, 0.5, 4),
        (JANUARY_2026_MS, 0.22, 0),
        (JANUARY_2026_MS + 31 * DAY_MS - 1, 0.22, 0),
        (JANUARY_2026_MS + 31 * DAY_MS, 0.22, 1),
    ],
)
def test_a_shared_constant_works_like_one_of_the_rule_set(t_ms: int, apr: float, verdict: int) -> None:
    """Numbers, lists, strings, and dated ones: unknown before the first date, then the value in force."""
    findings = Findings()
    rules = compiled_with(SHARED, rule("{hold: review}", USES_ALL, "hold"), findings)
    assert rules is not None, [d.render() for d in findings.errors]
    values: dict[str, float | str] = {
        "facility.apr": apr, "facility.days_past_due": 6.0, "facility.age_d": 3.0, "facility.product": "revolving",
    }  # fmt: skip
    assert evaluate(rules, values, t_ms=t_ms).verdicts == bytes([verdict])
    assert rules.spec.constants_used == {"late", "steps", "product", "top"}


def test_only_the_dated_constants_a_rule_set_uses_are_looked_up() -> None:
    """A decision pays for what its own rules name."""
    rules = compiled_with(SHARED, rule("{tag: a}", "facility.days_past_due > late"), Findings())
    assert rules is not None
    assert rules.spec.dated == ()


def test_a_name_that_is_shared_cannot_be_given_another_value() -> None:
    """The error stands at the second place and names the first."""
    findings = Findings()
    assert compiled_with(SHARED, "constants: {late: 3}\n" + rule("{tag: a}", "utl_after > late"), findings) is None
    found = messages(findings.errors)
    assert found == [("drawdown.yaml", 4, "the constant `late` is shared already, on line 3 of constants.yaml")]


def test_a_dated_constant_is_no_edge_of_a_matrix() -> None:
    """The columns of a matrix are settled when the policy compiles, and the error says so."""
    findings = Findings()
    matrix = (
        "matrices:\n  - {id: m, rows: 'behaviour.grade in [A]', columns: 'utl_after <= [top, inf]',"
        " cells: {A: [approve, approve]}, on_null: skip}\n"
    )
    assert compiled_with(SHARED, rule("{tag: a}") + matrix, findings) is None
    error = findings.errors[0]
    assert error.message == "`top` is no edge: its value is not known when the policy compiles"
    assert error.expected == "a number, a constant without dates or inf"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("constants: {facility.limit: 3}", 1, "a constant: `facility.limit` is not a name"),
        ("constants: {utl_after: 3}", 1, "`utl_after` already means something else"),
        ("constants: {late: 012}", 1, "constant `late`: `012` is neither a number nor a quoted string"),
        ("note: x\nconstant: {late: 5}", 2, "unknown key `constant` in the file of shared constants"),
        ("note: x", 1, "the file of shared constants has no `constants`"),
        ("constants: [5]", 1, "`constants` must be a mapping"),
        ("constants: {late: {effective_from: {}}}", 1, "`late` has no dates"),
    ],
)
def test_what_is_wrong_in_the_shared_file_is_said_there(text: str, line: int, message: str) -> None:
    """The same errors as in a rule set, at their place in constants.yaml."""
    findings = Findings()
    read_shared_constants(read(text, "constants.yaml", findings), VOCABULARY, None, findings)
    assert ("constants.yaml", line, message) in messages(findings.errors)


@pytest.mark.fault("F09")
def test_the_number_of_constants_is_capped() -> None:
    """A file holds CONSTANTS_MAX at most."""
    findings = Findings()
    text = "constants:\n" + "".join(f"  c{i}: {i}\n" for i in range(CONSTANTS_MAX + 1))
    read_shared_constants(read(text, "constants.yaml", findings), VOCABULARY, None, findings)
    assert [d.message for d in findings.errors] == [f"more than {CONSTANTS_MAX} constants in one file"]


DRAWDOWN = HEAD + rule("{tag: a}", "facility.days_past_due > late")
PRICE = HEAD.replace("drawdown", "price") + rule("{tag: a}", "facility.apr > top")


def test_a_constant_that_no_rule_set_uses_is_a_warning_at_its_place() -> None:
    """One use anywhere is enough."""
    findings = Findings()
    policy_of(findings, constants=SHARED, drawdown=DRAWDOWN, price=PRICE)
    unused = [m for m in messages(findings.diagnostics) if m[0] == "constants.yaml"]
    assert unused == [
        ("constants.yaml", 4, "the constant `steps` is not used"),
        ("constants.yaml", 5, "the constant `product` is not used"),
    ]


def test_a_changed_shared_constant_is_another_policy() -> None:
    """The file is part of what identifies a policy."""
    one = policy_of(Findings(), constants=SHARED, drawdown=DRAWDOWN)
    other = policy_of(Findings(), constants=SHARED.replace("value: 5", "value: 6"), drawdown=DRAWDOWN)
    assert one.id != other.id
    assert "constants.yaml" in one.describe()["files"]


def test_a_policy_whose_shared_constants_are_wrong_is_refused() -> None:
    """With the place in constants.yaml."""
    with pytest.raises(PolicyRejected) as refused:
        policy_of(Findings(), constants="constants: {late: no}\n", drawdown=DRAWDOWN)
    assert refused.value.diagnostics[0].place.file == "constants.yaml"
