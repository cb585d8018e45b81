"""One rule set a scene: what a policy of several scenes compiles to, and what each of them computes."""

from __future__ import annotations

import orjson
import pytest
from conftest_service import ask
from scene_cases import DRAWDOWN, FALLBACK, FILES, LIMIT, RENEWAL, RULE_SETS, compiled, decided, review

from decision_service.answer import answer_bytes
from decision_service.core.errors import InvalidInput, PolicyRejected
from decision_service.core.policy import Policy
from decision_service.core.request import SCENES, DecisionRequest
from decision_service.decision_log import decode, encode
from decision_service.trace import render_trace


@pytest.fixture(scope="module")
def policy() -> Policy:
    """All six scenes and one scorecard."""
    return compiled(FILES, "card")


def test_a_policy_has_the_scenes_that_have_a_rule_set_in_their_order(policy: Policy) -> None:
    """Whatever the files are called; only drawdown must be among them."""
    assert tuple(policy.scenes) == SCENES
    assert tuple(compiled({"a.yaml": LIMIT, "b.yaml": DRAWDOWN, "features/velocity.yaml": FILES[
        "features/velocity.yaml"]}).scenes) == ("drawdown", "limit")  # fmt: skip


def test_a_policy_without_drawdown_rules_does_not_compile() -> None:
    """A service that could not judge a single drawdown never starts."""
    with pytest.raises(PolicyRejected, match="no rule set for the scene `drawdown`"):
        compiled({"renewal.yaml": RENEWAL, "features/velocity.yaml": FILES["features/velocity.yaml"]})


def test_two_rule_sets_for_one_scene_are_an_error_that_names_both_files() -> None:
    """Which of them would judge is nobody's guess."""
    with pytest.raises(PolicyRejected) as refused:
        compiled({**FILES, "second.yaml": LIMIT})
    (told,) = refused.value.diagnostics
    assert (told.place.file, "limit.yaml" in told.message, "`limit`" in told.message) == ("second.yaml", True, True)


def test_rule_ids_may_repeat_between_scenes(policy: Policy) -> None:
    """`burst` is a rule of drawdown and one of limit."""
    having = [name for name, scene in policy.scenes.items() if any(r.id == "burst" for r in scene.rule_set.rules)]
    assert having == ["drawdown", "limit"]


def test_a_scene_computes_only_what_its_own_rules_need(policy: Policy) -> None:
    """No drawdown pays for a feature that only another scene looks at; drawdown scores every scorecard, a review those
    that its rules refer to."""
    computed = {name: scene.plan.names for name, scene in policy.scenes.items()}
    assert computed == {
        "drawdown": ("vel_paid_30d", "vel_prior_10m"), "warning": ("vel_drawn_30d",), "limit": ("vel_paid_30d",),
        "price": (), "marketing": ("vel_drawn_30d",), "renewal": ("vel_paid_30d",),
    }  # fmt: skip
    assert {name for name, scene in policy.scenes.items() if scene.score_slots} == {"drawdown"}
    scored = {**FILES, "price.yaml": RULE_SETS["price.yaml"].replace("facility.apr < 0.19", 'card.grade == "B"')}
    price = compiled(scored, "card", "unused").scenes["price"]
    assert [slot.scorecard.name for slot in price.score_slots] == ["card"]
    assert price.plan.names == ("vel_paid_30d",)


def test_recorded_features_are_of_drawdowns() -> None:
    """`record` asks for what no rule asks for; reviews do not pay for it."""
    files = {**FILES, "policy.yaml": 'label: "t"\nlists: [block]\nrecord: [vel_drawn_30d]\n'}
    policy = compiled(files)
    assert policy.drawdown.plan.names == ("vel_drawn_30d", "vel_prior_10m")
    assert policy.scenes["renewal"].plan.names == ("vel_paid_30d",)


def test_entity_logs_are_read_for_the_scene_that_looks_at_them() -> None:
    """A review whose rules look at a payee reads it though drawdown does not."""
    rule = "  - {id: crowd, when: payee_draws > 3, then: {tag: crowd}}\n"
    policy = compiled({**FILES, "renewal.yaml": RENEWAL.replace(FALLBACK, rule + FALLBACK)})
    assert (policy.drawdown.link_grains, policy.scenes["renewal"].link_grains) == ((), ("payee",))


def test_a_scene_without_a_rule_set_is_refused_by_name(policy: Policy) -> None:
    """The scenes there are are told."""
    only = compiled({name: text for name, text in FILES.items() if name not in ("price.yaml", "warning.yaml")})
    with pytest.raises(InvalidInput, match="drawdown, limit, marketing, renewal") as refused:
        decided(only, review("price"))
    assert refused.value.field == "scene"
    assert decided(policy, review("price")).scene == "price"


def traced(policy: Policy, request: DecisionRequest, described: bytes) -> dict[str, object]:
    """The trace of a decision as it is rendered from what was stored."""
    decision = decided(policy, request)
    assert decision.trace is not None
    frame = decode(encode(decision, decision.trace, request, answer_bytes(decision, 0), {}))
    return render_trace(frame, orjson.loads(described), {})


def test_a_trace_shows_the_scene_that_judged(policy: Policy) -> None:
    """Its rules, its features with unit and meaning, its scorecards: none of another scene."""
    described = orjson.dumps(policy.describe())
    trace = traced(policy, review("marketing"), described)
    assert [rule["id"] for rule in trace["rules"]] == ["idle"]  # type: ignore[attr-defined, index]
    assert trace["features"] == {"vel_drawn_30d": {"value": 0.0, "unit": "n", "meaning": "draws"}}
    assert trace["scorecards"] == {}
    drawdown = traced(policy, ask("d-1"), described)
    assert list(drawdown["features"]) == ["vel_paid_30d", "vel_prior_10m"]  # type: ignore[call-overload]
    assert list(drawdown["scorecards"]) == ["card"]  # type: ignore[call-overload]


def test_decisions_from_before_there_were_scenes_stay_explainable(policy: Policy) -> None:
    """Their answers say no scene, and their policies describe one at the top."""
    described = policy.describe()
    flat = {**described, **described["scenes"]["drawdown"], "features": {
        name: described["features"][name] for name in policy.drawdown.plan.names}}  # fmt: skip
    del flat["scenes"]
    decision, request = decided(policy, ask("old")), ask("old")
    assert decision.trace is not None
    answer = orjson.loads(answer_bytes(decision, 0))
    for name in ("scene", "tier", "renewal"):
        del answer[name]
    old = decode(encode(decision, decision.trace, request, orjson.dumps(answer), {}))
    new = decode(encode(decision, decision.trace, request, answer_bytes(decision, 0), {}))
    assert render_trace(old, orjson.loads(orjson.dumps(flat)), {}) == render_trace(new, described, {})
