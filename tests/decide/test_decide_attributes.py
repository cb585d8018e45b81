"""Attributes end to end: present, stale, absent; their sources; formulas over them; the same online and offline."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from decision_service.core.decide import decide
from decision_service.core.decision import Decision
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import Policy, compile_policy
from decision_service.core.request import DecisionRequest
from decision_service.core.source import Findings
from decision_service.core.state import CustomerState
from decision_service.core.zone import zone_named
from decision_service.dictionary.explained import computed_numbers
from decision_service.policies.files import read_directory, read_text

RULES = Path(__file__).parents[2] / "rules"
T = 1_790_000_000_000
FORMULAS = (
    "amt_over_income", "ext_inq_delta", "ext_debt_delta_90d", "ext_ltv", "geo_ip_gps_mismatch", "use_restricted_hit",
)  # fmt: skip
RECORD = f"record: [{', '.join(FORMULAS)}]\n"
RULE_SET = """\
rule_set: drawdown
scene: drawdown
stages: [hard]
rules:
  - {id: poor, stage: hard, when: amt_over_income > 3, on_null: skip, then: {hold: review}, reason: RC01}
  - {id: bureau_down, stage: hard, when: "not src_bureau_ok", on_null: hold, then: {hold: step_up}, reason: RC33}
  - {id: bureau_old, stage: hard, when: feat_age_s_bureau > 864000, on_null: skip, then: {alert: {tier: yellow, indicator: old}}, reason: RC33}
fallback: {static: {hold: review, reason: RC90}}
"""  # noqa: E501


@pytest.fixture(scope="module")
def policy() -> Policy:
    """The shipped features and attributes under a small rule set."""
    findings = Findings()
    documents = {n: d for n, d in read_directory(RULES, findings).items() if n.startswith("features/")}
    for name, text in (("policy.yaml", RECORD), ("drawdown.yaml", RULE_SET)):
        document = read_text(text, name, findings)
        assert document is not None
        documents[name] = document
    documents["attributes.yaml"] = read_directory(RULES, findings)["attributes.yaml"]
    return compile_policy(documents, {}, zone_named("Asia/Shanghai"), 48 * 3_600_000, findings)


def facility() -> Facility:
    """A line of 50,000 yuan with 10,000 drawn."""
    return Facility("f", "c", "p", "CNY", 5_000_000, 1_000_000, T - DAY_MS, 1_800, "active", T - 400 * DAY_MS)


def state_of(**attributes: tuple[float | str, int]) -> CustomerState:
    """A customer with attributes `(value, age in ms)`."""
    stored = {name: Attribute(value, T - age_ms) for name, (value, age_ms) in attributes.items()}
    return CustomerState(version=1, facilities={"f": facility()}, attributes=stored)


def request_of(amount_minor: int = 100_000, **attributes: float | str) -> DecisionRequest:
    """A request of 1,000 yuan at T, with attributes of its own."""
    return DecisionRequest(
        request_id="r", customer_id="c", facility_id="f", amount_minor=amount_minor, currency="CNY", occurred_at_ms=T,
        channel=None, device_id=None, counterparty_id=None, purpose=None, geo=None, term_months=None, facility=None,
        fingerprint=b"", body=b"", attributes=attributes,
    )  # fmt: skip


def value(policy: Policy, name: str, state: CustomerState, request: DecisionRequest | None = None) -> float | None:
    """One number of the decision's vector."""
    decide(request or request_of(), state, policy, T, "d" * 32)
    number = float(policy.drawdown.numbers[policy.drawdown.layout.numbers[name]])
    return None if number != number else number


def decision(policy: Policy, state: CustomerState, request: DecisionRequest | None = None) -> Decision:
    """The whole answer."""
    return decide(request or request_of(), state, policy, T, "d" * 32)


TTL_INCOME = 95 * DAY_MS


@pytest.mark.parametrize(("age_ms", "expected"), [(0, 0.1), (TTL_INCOME, 0.1), (TTL_INCOME + 1, None), (-1, None)])
def test_a_formula_over_a_stale_attribute_is_null(policy: Policy, age_ms: int, expected: float | None) -> None:
    """A value holds to the millisecond of its ttl, and one dated after the decision is not known yet."""
    assert value(policy, "amt_over_income", state_of(income_monthly=(10_000.0, age_ms))) == expected


def test_every_formula_over_attributes_is_null_without_them(policy: Policy) -> None:
    """No attribute, no value: unknown is never 0, and no rule fires on it."""
    for name in FORMULAS:
        assert value(policy, name, state_of()) is None


def test_a_formula_over_two_attributes_needs_both(policy: Policy) -> None:
    """One of the pair stale makes the difference null; both fresh give it."""
    fresh, stale = DAY_MS, 36 * DAY_MS
    pair = {"ext_inq_cnt_30d": (5.0, fresh), "ext_inq_cnt_prior_90d": (6.0, fresh)}
    assert value(policy, "ext_inq_delta", state_of(**pair)) == 3
    assert value(policy, "ext_inq_delta", state_of(**(pair | {"ext_inq_cnt_prior_90d": (6.0, stale)}))) is None


def test_the_request_goes_before_what_is_stored(policy: Policy) -> None:
    """A value sent with the request replaces the stored one, stale or not."""
    state = state_of(income_monthly=(10_000.0, TTL_INCOME + 1))
    assert value(policy, "amt_over_income", state, request_of(income_monthly=500.0)) == 2


def test_income_of_nothing_is_a_surge_and_no_number(policy: Policy) -> None:
    """x / 0 is null, never infinite."""
    assert value(policy, "amt_over_income", state_of(income_monthly=(0.0, 0))) is None


@pytest.mark.fault("G13")
@pytest.mark.parametrize(("attributes", "ok", "age_s"), [
    ({}, 0, None),
    ({"ext_inq_cnt_30d": (1.0, 1_500)}, 1, 1.5),
    ({"ext_inq_cnt_30d": (1.0, 35 * DAY_MS)}, 1, 35 * 86_400),
    ({"ext_inq_cnt_30d": (1.0, 35 * DAY_MS + 1)}, 0, 35 * 86_400 + 0.001),
    ({"ext_inq_cnt_30d": (1.0, 36 * DAY_MS), "ext_od_elsewhere": (0.0, DAY_MS)}, 1, 86_400),
    ({"ext_inq_cnt_30d": (1.0, DAY_MS), "ext_od_elsewhere": (0.0, 36 * DAY_MS)}, 1, 86_400),
    ({"ext_executed": (1.0, 0)}, 0, None),
    ({"ext_inq_cnt_30d": (1.0, -1)}, 0, None),
])  # fmt: skip
def test_a_source_is_ok_while_anything_of_it_is_fresh(
    policy: Policy, attributes: dict[str, tuple[float, int]], ok: float, age_s: float | None
) -> None:
    """Its age is that of its newest value, fresh or not; other sources and the future do not count."""
    assert value(policy, "src_bureau_ok", state_of(**attributes)) == ok
    assert value(policy, "feat_age_s_bureau", state_of(**attributes)) == age_s


def test_a_text_keeps_its_source_alive(policy: Policy) -> None:
    """A string attribute is as good a sign of life as a number."""
    state = state_of(ext_watch_list=("sanctions", 60_000))
    assert value(policy, "src_watchlist_ok", state) == 1
    assert value(policy, "feat_age_s_watchlist", state) == 60


def test_a_value_with_the_request_is_new(policy: Policy) -> None:
    """It is 0 seconds old."""
    state = state_of(ext_od_elsewhere=(0.0, DAY_MS))
    assert value(policy, "feat_age_s_bureau", state, request_of(ext_inq_cnt_30d=1.0)) == 0


def test_one_decision_leaves_nothing_to_the_next(policy: Policy) -> None:
    """The vector of a customer with attributes is wiped for one without."""
    assert value(policy, "src_bureau_ok", state_of(ext_inq_cnt_30d=(1.0, 0))) == 1
    assert value(policy, "src_bureau_ok", state_of()) == 0
    assert value(policy, "feat_age_s_bureau", state_of()) is None


def test_rules_read_sources_like_any_name(policy: Policy) -> None:
    """A missing source holds, an old one alerts, a fresh one is silent."""

    def sources(state: CustomerState) -> list[str]:
        return [reason.source for reason in decision(policy, state).reasons if reason.source.startswith("rule:")]

    assert sources(state_of()) == ["rule:bureau_down"]
    assert sources(state_of(ext_inq_cnt_30d=(1.0, 11 * DAY_MS))) == ["rule:bureau_old"]
    assert sources(state_of(ext_inq_cnt_30d=(1.0, 0))) == []


def test_what_a_rule_misses_through_a_formula_is_told(policy: Policy) -> None:
    """`missing` names the attribute behind the feature that a rule asks for, and nothing that only is recorded."""
    assert decision(policy, state_of()).missing == ("income_monthly",)
    assert decision(policy, state_of(income_monthly=(1.0, TTL_INCOME + 1))).missing == ("income_monthly",)
    assert decision(policy, state_of(income_monthly=(1.0, 0))).missing == ()


def test_an_attribute_that_changed_its_type_or_is_unknown_is_not_there(policy: Policy) -> None:
    """What was stored under an earlier declaration is null, not an error."""
    assert value(policy, "amt_over_income", state_of(income_monthly=("many", 0), gone=(1.0, 0))) is None
    assert value(policy, "src_accounts_ok", state_of(income_monthly=("many", 0))) == 0


def test_looking_at_features_fills_the_same(policy: Policy) -> None:
    """The features call and a decision agree, also on features no rule uses."""
    state = state_of(ext_debt=(90_000.0, 0), ext_debt_90d_ago=(60_000.0, 0), ext_collateral_value=(40_000.0, 0))
    names = ("ext_debt_delta_90d", "ext_ltv", "amt_over_income")
    looked, _ = computed_numbers(policy, state, facility(), request_of(), names)
    assert [looked[name] for name in names[:2]] == [0.5, 0.25]
    assert math.isnan(looked["amt_over_income"])
    assert (looked["src_bureau_ok"], looked["feat_age_s_bureau"]) == (1, 0)
    assert [value(policy, name, state) for name in names] == [0.5, 0.25, None]
