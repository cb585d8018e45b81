"""The shipped drawdown rule set: complete, tested, and covering the ten applications."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from decision_service.core.features.catalogue import read_features
from decision_service.core.rules.attributes import input_vocabulary, read_attributes
from decision_service.core.rules.compile import RuleSet, compile_rule_set
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Findings
from decision_service.core.vocabulary import Kind, Layout, NameSpec
from decision_service.policy_files import read_directory

RULES = Path(__file__).parents[2] / "rules"

APPLICATIONS = {
    "1 unusual draws in sensitive hours": ("odd_hour_unusual", "odd_hour_twofold"),
    "2 high-frequency draws": ("velocity_burst", "velocity_amount"),
    "3 full draw soon after the grant": ("full_draw_at_once", "full_draw_in_a_day"),
    "4 sensitive amounts": ("sensitive_amounts", "sensitive_amounts_doctored_device"),
    "5 short of money": ("short_of_money", "short_of_money_weak_score"),
    "6 silent good customers": ("silent_good_returns",),
    "7 good customers about to leave": ("good_customer_leaving",),
    "8 scorecard intercepts": ("score_by_utilisation", "no_score_small_only"),
    "9 limits of the good": ("limit_up_best", "limit_up_good"),
    "10 price of the risky": ("price_up_weak", "price_up_high_use"),
    "impossible journeys": ("impossible_journey", "impossible_journey_fresh_credentials"),
    "equal amounts": ("equal_amounts",),
}


@pytest.fixture(scope="module")
def starter() -> RuleSet:
    """The shipped rule set over the shipped features and attributes."""
    findings = Findings()
    documents = read_directory(RULES, findings)
    attributes = read_attributes(documents["attributes.yaml"], findings)
    base = input_vocabulary(attributes)
    features = read_features([d for n, d in sorted(documents.items()) if n.startswith("features/")], base, findings)
    vocabulary = base.with_names(
        *features.vocabulary_specs,
        NameSpec("behaviour.points", Kind.NUMBER, "points"), NameSpec("behaviour.pd", Kind.NUMBER, "ratio"),
        NameSpec("behaviour.grade", Kind.STRING),
        *(NameSpec(f"list.{name}", Kind.LIST) for name in ("block", "watch", "allow")),
    )  # fmt: skip
    spec = read_rule_set(documents["drawdown.yaml"], vocabulary, findings)
    assert spec is not None, "\n".join(d.render() for d in findings.errors)
    names = sorted(spec.names_used)
    layout = Layout({n: i for i, n in enumerate(names)}, {n: i for i, n in enumerate(names)})
    rule_set = compile_rule_set(spec, layout, findings)
    assert [d.render() for d in findings.diagnostics] == []
    return rule_set


def test_the_starter_set_compiles_without_a_warning_and_its_own_tests_pass(starter: RuleSet) -> None:
    """Dozens of rules and the matrix, no diagnostic of any kind."""
    assert len(starter.rules) >= 40
    assert [matrix.id for matrix in starter.matrices] == ["score_by_utilisation"]


def test_every_rule_is_shown_to_fire_and_to_stay_silent(starter: RuleSet) -> None:
    """Each rule has an inline test of either sort."""
    lacking = [r.id for r in starter.rules if not {"fires", "silent"} <= {t.expect for t in r.tests}]
    assert lacking == []


@pytest.mark.parametrize("application", APPLICATIONS)
def test_every_application_has_its_rules(starter: RuleSet, application: str) -> None:
    """The ten applications and the two extra patterns each name the rules that cover them."""
    known = {part.id for part in (*starter.rules, *starter.matrices)}
    assert set(APPLICATIONS[application]) <= known


def test_conditions_name_their_thresholds(starter: RuleSet) -> None:
    """No literal but 0, 1 and the 2 of `at_least(2, ...)` stands in a condition: thresholds are constants."""
    literals = {n for r in starter.rules for n in re.findall(r"(?<![\w.])\d[\d.]*(?![\w.])", r.when_text)}
    assert literals <= {"0", "1", "2"}


def test_the_stages_follow_one_another(starter: RuleSet) -> None:
    """Rules are traced hard rules first and side effects last."""
    stages = list(dict.fromkeys(rule.stage for rule in starter.rules))
    assert stages == ["hard", "anomaly", "strain", "score", "cap", "price", "limit", "side"]


def test_nothing_known_is_never_approved(starter: RuleSet) -> None:
    """With every value null the rule set holds and the matrix is unknown."""
    size = len(starter.spec.names_used)
    evaluation = starter.evaluate([float("nan")] * size, [None] * size, {}, 1_800_000_000_000, 100, 0, 0)
    kinds = {type(effect.action).__name__ for effect in evaluation.effects}
    assert kinds == {"Hold"}
    assert evaluation.cells == ("score_by_utilisation:unknown",)
