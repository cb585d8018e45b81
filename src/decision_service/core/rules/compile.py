"""From the specification of a rule set to the thing that decides with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from decision_service.core.rules.codegen import EvaluateFunction, Evaluation, RuleSetCompiler
from decision_service.core.rules.rehearsal import report_failures, run_rule_tests
from decision_service.core.rules.rule_set import RuleSetSpec
from decision_service.core.rules.spec import Fallback, Guardrails, MatrixSpec, RuleSpec
from decision_service.core.source import Findings
from decision_service.core.vocabulary import Layout

__all__ = ["Evaluation", "Fallback", "Guardrails", "RuleSet", "compile_rule_set"]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A compiled rule set.

    `evaluate(numbers, strings, lists, t_ms, scale, limit_minor, apr_bps)` judges one decision: the two value vectors in
    the policy's layout (floats, NaN is null; texts, None is null), the lists by their full name (`list.block`), the
    decision instant, minor units in a major unit, and the facility's limit and annual rate. It first fills the places
    of the points scorecards in both vectors. It never raises for a value; verdicts follow `rules`, one byte each (see
    `decision.Trace`).
    """

    spec: RuleSetSpec
    evaluate: EvaluateFunction = field(repr=False)

    @property
    def rules(self) -> tuple[RuleSpec, ...]:
        """The rules in the order of the verdicts."""
        return self.spec.rules

    @property
    def matrices(self) -> tuple[MatrixSpec, ...]:
        """The matrices."""
        return self.spec.matrices

    @property
    def guardrails(self) -> Guardrails:
        """Bounds on what the effects may do."""
        return self.spec.guardrails

    @property
    def fallback(self) -> Fallback:
        """What to answer when nothing can be assessed."""
        return self.spec.fallback


def compile_rule_set(spec: RuleSetSpec, layout: Layout, findings: Findings) -> RuleSet:
    """Compile a rule set over a layout that has all its names, and run its inline tests; failures are errors."""
    generated = RuleSetCompiler(spec, layout).compile()
    report_failures(run_rule_tests(spec, generated, layout), findings)
    return RuleSet(spec, generated.evaluate)
