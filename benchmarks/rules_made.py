"""Rules made up for measuring: conditions over a hundred names, of the sorts that analysts write.

The text of a condition means the same in this language, in ZEN's and in rule-engine's, so all three are given the same;
a value is a multiple of 1/64, so that no engine rounds one differently from another.
"""

from __future__ import annotations

import random
from typing import Final

from decision_service.core.rules.compile import RuleSet, compile_rule_set
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Findings
from decision_service.core.vocabulary import Kind, Layout, NameSpec, Vocabulary
from decision_service.policies.files import read_text

NUMBERS: Final = tuple(f"x{i}" for i in range(97))
STRINGS: Final = ("grade", "channel", "product")
WORDS: Final = ("A", "B", "C", "D", "E")
VOCABULARY: Final = Vocabulary(
    {name: NameSpec(name, Kind.NUMBER) for name in NUMBERS} | {name: NameSpec(name, Kind.STRING) for name in STRINGS}
)
LAYOUT: Final = Layout(
    {name: i for i, name in enumerate(NUMBERS)}, {name: i for i, name in enumerate(STRINGS)}
)  # fmt: skip
_HEAD: Final = "rule_set: many\nscene: drawdown\nfallback: {static: {hold: review, reason: RC90}}\nrules:\n"
_RULE: Final = """\
  - id: r{i}
    when: {when}
    on_null: skip
    then: {{hold: step_up}}
    reason: RC11
"""
_TESTS: Final = """\
    tests:
      - {given: {a: 99, b: 9, c: 0}, expect: fires}
      - {given: {a: 0, b: 0, c: 0}, expect: silent}
"""
_MATRIX: Final = """\
matrices:
  - id: m
    rows: grade in [A, B, C, D, E]
    columns: x0 <= [0.25, 0.5, 0.75, inf]
    cells:
      A: [approve, approve, approve, approve]
      B: [approve, approve, approve, {tag: b}]
      C: [approve, approve, {cap_draw: 0.8 * 1000}, {hold: review}]
      D: [approve, {cap_draw: 0.5 * 1000}, {hold: review}, {hold: review}]
      E: [{hold: review}, {hold: review}, {hold: review}, {hold: block}]
    on_null: {hold: review}
    reason: RC30
"""


def conditions(count: int) -> list[str]:
    """Conditions, each true of a few decisions in a hundred."""
    made = random.Random(count)

    def high() -> str:
        return f"{made.choice(NUMBERS)} > {made.randint(50, 63) / 64}"

    def low() -> str:
        return f"{made.choice(NUMBERS)} <= {made.randint(1, 14) / 64}"

    def text() -> str:
        return f'{made.choice(STRINGS)} == "{made.choice(WORDS)}"'

    forms = (
        lambda: f"{high()} and {low()}",
        lambda: f"{high()} and ({low()} or {text()})",
        lambda: f"{high()} and {high()} or {low()} and {low()}",
        lambda: f'{high()} and {made.choice(STRINGS)} in ["A", "C"]',
        lambda: f"{high()} and not ({low()} or {made.choice(NUMBERS)} < {made.choice(NUMBERS)})",
        lambda: f"{high()} and {made.choice(NUMBERS)} + {made.choice(NUMBERS)} > {made.randint(80, 110) / 64}",
        lambda: f"{made.choice(NUMBERS)} * 2 > {made.choice(NUMBERS)} + {made.randint(100, 127) / 64}",
    )
    return [made.choice(forms)() for _ in range(count)]


def rule_set_text(whens: list[str]) -> str:
    """The YAML of a rule set with these conditions and one matrix."""
    return _HEAD + "".join(_RULE.format(i=i, when=f"'{when}'") for i, when in enumerate(whens)) + _MATRIX


def many_rules_text(count: int) -> str:
    """The YAML of `count` rules with two inline tests each."""
    return _HEAD + "".join(
        _RULE.format(i=i, when=f"a >= {i % 17 + 1} and b > {i % 100 / 100} or c >= {i % 29 + 2}") + _TESTS
        for i in range(count)
    )


def compiled(text: str, vocabulary: Vocabulary = VOCABULARY, layout: Layout = LAYOUT) -> RuleSet:
    """A rule set of text that must compile, its inline tests included."""
    findings = Findings()
    document = read_text(text, "made.yaml", findings)
    spec = None if document is None else read_rule_set(document, vocabulary, findings)
    rule_set = None if spec is None else compile_rule_set(spec, layout, findings)
    assert rule_set is not None, [finding.render() for finding in findings.errors]
    assert not findings.errors, [finding.render() for finding in findings.errors]
    return rule_set


def decisions(count: int) -> list[dict[str, float | str]]:
    """Complete values of `count` decisions: nothing is null, for the other engines raise an error for null."""
    made = random.Random(count)
    return [
        {name: made.randint(0, 64) / 64 for name in NUMBERS} | {name: made.choice(WORDS) for name in STRINGS}
        for _ in range(count)
    ]
