"""What rules cost: compiling thousands of them, and judging columns of decisions with the shipped ones.

    python benchmarks/rules.py            # 5,000 generated rules; 200,000 decisions by the shipped drawdown rules
    python benchmarks/rules.py --json

Compiling is CPU time of one thread, reading the YAML and running two inline tests a rule included, with Python's cyclic
collector on and off (the service compiles with it off, see `interpreter.py`). Judging is decisions a second of one
core, the best of five runs, on random values.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path

import numpy as np

from decision_service.active_policy import load_policy
from decision_service.core.expressions.columns import Columns, Texts
from decision_service.core.expressions.units import report_mixed_units
from decision_service.core.rules.columns import VectorRuleSet
from decision_service.core.rules.compile import compile_rule_set
from decision_service.core.rules.lint import lint_condition
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.rules.shadows import lint_rules
from decision_service.core.source import Findings, Scalar
from decision_service.core.vocabulary import Kind, Layout, NameSpec, Vocabulary
from decision_service.policy_files import read_text

ROOT = Path(__file__).parents[1]
T_MS = 1_795_000_000_000
NAMES = ("a", "b", "c")
HEAD = "rule_set: many\nscene: drawdown\nfallback: {static: {hold: review, reason: RC90}}\nrules:\n"
RULE = """\
  - id: r{i}
    when: a >= {low} and b > {share} or c >= {high}
    on_null: skip
    then: {{hold: step_up}}
    reason: RC11
    tests:
      - {{given: {{a: 99, b: 9, c: 0}}, expect: fires}}
      - {{given: {{a: 0, b: 0, c: 0}}, expect: silent}}
"""


def compile_seconds(rules: int, *, collecting: bool) -> float:
    """CPU seconds from the text of `rules` rules to their compiled function."""
    text = HEAD + "".join(RULE.format(i=i, low=i % 17 + 1, share=i % 100 / 100, high=i % 29 + 2) for i in range(rules))
    vocabulary = Vocabulary({name: NameSpec(name, Kind.NUMBER) for name in NAMES})
    layout = Layout({name: i for i, name in enumerate(NAMES)}, {})
    gc.collect()
    (gc.enable if collecting else gc.disable)()
    began = time.process_time()
    findings = Findings()
    document = read_text(text, "many.yaml", findings)
    spec = None if document is None else read_rule_set(document, vocabulary, findings)
    assert spec is not None
    assert not findings.errors
    compile_rule_set(spec, layout, findings)
    seconds = time.process_time() - began
    gc.enable()
    return seconds


def lint_seconds(rules: int) -> float:
    """CPU seconds of everything that only warns: conditions, units, rules in each other's way. Part of the above."""
    text = HEAD + "".join(RULE.format(i=i, low=i % 17 + 1, share=i % 100 / 100, high=i % 29 + 2) for i in range(rules))
    vocabulary = Vocabulary({name: NameSpec(name, Kind.NUMBER) for name in NAMES})
    document = read_text(text, "many.yaml", Findings())
    spec = None if document is None else read_rule_set(document, vocabulary, Findings())
    assert spec is not None
    findings = Findings()
    began = time.process_time()
    for rule in spec.rules:
        report_mixed_units(rule.when, findings)
        lint_condition(rule.when, Scalar(rule.when_text, rule.when.place), findings)
    lint_rules(spec.rules, findings)
    return time.process_time() - began


def judged_per_second(decisions: int) -> tuple[int, float]:
    """How many rules the shipped set has, and how many decisions a second one core judges by them."""
    policy, _ = load_policy(ROOT / "rules", ROOT / "models", "Asia/Shanghai", 86_400_000)
    random = np.random.default_rng(1)
    choices = np.array([np.nan, 0.0, 1.0, 2.0, 0.5, 0.96, 30.0, 4_990.0])
    numbers = [random.choice(choices, decisions) for _ in policy.drawdown.number_names]
    grades = ("A", "B", "C", "D", "E")
    strings = [Texts(random.integers(-1, 5, decisions).astype(np.int32), grades) for _ in policy.drawdown.string_names]
    columns = Columns(decisions, numbers, strings, policy.rule_lists)
    rule_set = VectorRuleSet(policy.drawdown.rule_set.spec, policy.drawdown.layout)
    t_ms = np.full(decisions, T_MS, np.int64)
    seconds = []
    for _ in range(5):
        began = time.process_time()
        rule_set.judge(columns, t_ms)
        seconds.append(time.process_time() - began)
    return len(policy.drawdown.rule_set.rules), decisions / min(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rules", type=int, default=5_000)
    parser.add_argument("--decisions", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    off, on = (compile_seconds(args.rules, collecting=collecting) for collecting in (False, True))
    warnings = lint_seconds(args.rules)
    shipped, rate = judged_per_second(args.decisions)
    if args.json:
        print(json.dumps({"rules": args.rules, "compile_s": off, "collecting_s": on, "lint_s": warnings,
                          "shipped_rules": shipped, "decisions_per_s": rate}))  # fmt: skip
        return
    print(f"compiling {args.rules:,} rules: {off:.1f} s of CPU, {on:.1f} s with the collector on")
    print(f"of which warnings: {warnings:.2f} s")
    print(f"judging by {shipped} rules: {rate:,.0f} decisions/s of one core")


if __name__ == "__main__":
    main()
