"""The shipped policy: six scenes, complete, tested, and covering the ten applications and the two extra patterns."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pytest

from decision_service.cases.coverage import coverage
from decision_service.cases.parts import blocks_of
from decision_service.cases.reading import read_cases
from decision_service.core.decision import Alert, ChangeLimit, ChangePrice, Offer, Renew
from decision_service.core.policy import Policy
from decision_service.core.request import SCENES
from decision_service.core.source import Findings
from decision_service.policies.loading import examine_files
from decision_service.settings import load_settings

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"

APPLICATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "1 unusual draws in sensitive hours": {"drawdown": ("odd_hour_unusual", "odd_hour_twofold")},
    "2 high-frequency draws": {"drawdown": ("velocity_burst", "velocity_amount")},
    "3 full draw soon after the grant": {"drawdown": ("full_draw_at_once", "full_draw_in_a_day")},
    "4 sensitive amounts": {"drawdown": ("sensitive_amounts", "sensitive_amounts_doctored_device")},
    "5 short of money": {"drawdown": ("short_of_money", "short_of_money_weak_score"), "warning": ("two_soft_signs",)},
    "6 silent good customers": {"drawdown": ("silent_good_returns",), "marketing": ("activation",)},
    "7 good customers about to leave": {"drawdown": ("good_customer_leaving",), "marketing": ("retention",)},
    "8 scorecard intercepts": {"drawdown": ("score_by_utilisation", "no_score_small_only")},
    "9 limits of the good": {"drawdown": ("limit_up_best", "limit_up_good"), "limit": ("limit_by_use",)},
    "10 price of the risky": {"drawdown": ("price_up_weak", "price_up_high_use"), "price": ("up_by_grade",)},
    "11 impossible journeys": {"drawdown": ("impossible_journey", "impossible_journey_fresh_credentials")},
    "12 equal amounts": {"drawdown": ("equal_amounts",)},
}


@pytest.fixture(scope="module")
def starter() -> Policy:
    """The shipped rules over the shipped features, attributes and scorecard."""
    settings = load_settings(rules=ROOT / "rules", models=ROOT / "models")
    policy, found = examine_files(
        settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms, {}
    )
    assert [diagnostic.render() for diagnostic in found] == []
    assert policy is not None
    return policy


def test_the_starter_policy_compiles_without_a_warning_and_its_own_tests_pass(starter: Policy) -> None:
    """Six scenes, dozens of rules, and every sort of block, no diagnostic of any kind."""
    assert set(starter.scenes) == set(SCENES)
    assert len(starter.scenes["drawdown"].rule_set.rules) >= 50
    kinds = Counter(block.kind for scene in starter.scenes.values() for block in blocks_of(scene.rule_set.spec))
    assert set(kinds) == {"matrix", "table", "tree"}
    assert any(scene.rule_set.spec.points for scene in starter.scenes.values())


@pytest.mark.parametrize("scene", SCENES)
def test_inline_tests_reach_every_rule_both_ways_and_every_cell(starter: Policy, scene: str) -> None:
    """Each rule is shown to fire and to stay silent, each row, leaf and cell to be hit."""
    [reached] = [found for found in coverage(starter, []) if found.scene == scene]
    assert (reached.never_fired, reached.never_silent, reached.never_hit) == ((), (), ())


@pytest.mark.parametrize("application", APPLICATIONS)
def test_every_application_has_its_rules(starter: Policy, application: str) -> None:
    """The ten applications and the two extra patterns each name the rules that cover them."""
    for scene, ids in APPLICATIONS[application].items():
        rule_set = starter.scenes[scene].rule_set
        known = {rule.id for rule in rule_set.rules} | {block.id for block in blocks_of(rule_set.spec)}
        assert set(ids) <= known


def test_every_application_and_every_scene_is_lived_out_in_cases() -> None:
    """Each application and each review scene has a case where it does something and one where it does nothing."""
    findings = Findings()
    cases = read_cases(CASES, findings)
    assert not findings.errors
    shown = Counter(number for case in cases for number in case.shows)
    assert {number: shown[number] >= 2 for number in range(1, 13)} == dict.fromkeys(range(1, 13), True)
    asked = Counter(
        str(step.request.get("scene", "drawdown")) for case in cases for step in case.steps if step.request is not None
    )
    assert all(asked[scene] >= 2 for scene in SCENES)


@pytest.mark.parametrize("scene", SCENES)
def test_conditions_name_their_thresholds(starter: Policy, scene: str) -> None:
    """No literal but 0, 1 and the 2 of `at_least(2, ...)` stands in a condition: thresholds are constants."""
    texts = (rule.when_text for rule in starter.scenes[scene].rule_set.rules)
    literals = {number for text in texts for number in re.findall(r"(?<![\w.])\d[\d.]*(?![\w.])", text)}
    assert literals <= {"0", "1", "2"}


def test_the_stages_of_a_drawdown_follow_one_another(starter: Policy) -> None:
    """Rules are traced hard rules first and side effects last."""
    stages = list(dict.fromkeys(rule.stage for rule in starter.scenes["drawdown"].rule_set.rules))
    assert stages == ["hard", "anomaly", "strain", "score", "cap", "price", "limit", "side"]


def effects_of_nothing(starter: Policy, scene: str) -> list[object]:
    """What a scene asks for when every value is null."""
    parts = starter.scenes[scene]
    numbers = [math.nan] * len(parts.layout.numbers)
    strings: list[str | None] = [None] * len(parts.layout.strings)
    evaluation = parts.rule_set.evaluate(numbers, strings, {}, 1_800_000_000_000, 100, 100_000, 1_800)
    return [effect.action for effect in evaluation.effects]


def test_nothing_known_is_never_approved(starter: Policy) -> None:
    """With every value null a drawdown is held by all that speak."""
    assert {type(action).__name__ for action in effects_of_nothing(starter, "drawdown")} == {"Hold"}


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene != "drawdown"])
def test_a_review_that_knows_nothing_changes_nothing(starter: Policy, scene: str) -> None:
    """No limit, no price, no offer, no alert; at most it asks for a person."""
    asked = effects_of_nothing(starter, scene)
    assert not [action for action in asked if isinstance(action, (ChangeLimit, ChangePrice, Offer, Alert))]
    assert Renew("auto") not in asked
