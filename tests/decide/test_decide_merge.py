"""Merging effects: commutative, idempotent, and never approving by default, in every scene."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcome_cases import (
    AMOUNT,
    EFFECT,
    EFFECTS,
    EVENTS,
    GUARDRAILS,
    LINE,
    POSITION,
    SCENE,
    STEP_AND_CAP,
    T_MS,
    UNBOUNDED,
    history,
    merged,
    outcome_of,
    unhurried,
)

from decision_service.core.decision import (
    HOLD_RANK,
    Alert,
    Approve,
    CapDraw,
    ChangeLimit,
    ChangePrice,
    Effect,
    Hold,
    Renew,
    Reprice,
    Tag,
)
from decision_service.core.event import Event
from decision_service.core.merge import merge
from decision_service.core.rules.spec import Bound, Guardrails

BLOCK = Effect(Hold("block"), "rule:x", "RC01")


@unhurried
@given(st.data(), EFFECTS, GUARDRAILS, EVENTS, SCENE)
def test_neither_order_nor_repetition_changes_the_outcome(
    data: st.DataObject, effects: list[Effect], rails: Guardrails, events: list[Event], scene: str
) -> None:
    """Any permutation of the effects, with any of them repeated, merges to the same outcome."""
    repeated = data.draw(st.lists(st.sampled_from(effects), max_size=3)) if effects else []
    again = data.draw(st.permutations(effects + repeated))
    assert outcome_of(again, rails, history(*events), scene) == outcome_of(effects, rails, history(*events), scene)


PLAIN = st.builds(
    Effect,
    st.one_of(
        st.builds(Hold, st.sampled_from(["step_up", "review", "block"])), st.builds(CapDraw, st.integers(0, 150_00)),
        st.builds(ChangePrice, st.integers(1_700, 2_600)), st.builds(Alert, st.just("red"), st.sampled_from("ab")),
        st.just(Approve()),
    ),
    st.sampled_from(["rule:a", "rule:b"]), st.sampled_from(["", "RC11"]),
)  # fmt: skip


@unhurried
@given(st.lists(PLAIN, max_size=6), st.sampled_from([UNBOUNDED, STEP_AND_CAP]))
def test_a_plain_drawdown_comes_to_what_the_general_way_makes_of_it(effects: list[Effect], rails: Guardrails) -> None:
    """A tag without a reason, which is not plain, changes nothing but the tags."""
    general = outcome_of([*effects, Effect(Tag("t"), "rule:t")], rails)
    assert outcome_of(effects, rails) == general._replace(tags=())


@unhurried
@given(EFFECTS, EFFECTS, EFFECTS, GUARDRAILS, SCENE)
def test_how_effects_are_grouped_does_not_matter(
    some: list[Effect], more: list[Effect], rest: list[Effect], rails: Guardrails, scene: str
) -> None:
    """Merging what the rules of several stages ask for is the same in any grouping of the stages, each without what it
    says twice."""
    left = [*dict.fromkeys([*some, *more]), *rest]
    right = [*some, *dict.fromkeys([*more, *rest])]
    assert outcome_of(left, rails, scene=scene) == outcome_of(right, rails, scene=scene)


@unhurried
@given(EFFECTS, GUARDRAILS)
def test_an_outcome_pays_out_nothing_beside_a_hold_and_never_more_than_asked(
    effects: list[Effect], rails: Guardrails
) -> None:
    """The approved amount is 0 with a hold or a freeze, else between 1 and the amount asked for."""
    outcome = outcome_of(effects, rails)
    frozen = outcome.limit_change is not None and outcome.limit_change.kind == "freeze"
    assert (outcome.approved_minor == 0) == (outcome.hold is not None or frozen)
    assert outcome.approved_minor <= AMOUNT


@unhurried
@given(EFFECTS, GUARDRAILS, st.sampled_from(sorted(HOLD_RANK)), SCENE)
def test_a_hold_only_ever_makes_an_outcome_worse(
    effects: list[Effect], rails: Guardrails, kind: str, scene: str
) -> None:
    """Adding one pays out no more, raises nothing, prices nothing, renews nothing by itself, lifts no other hold."""
    before = outcome_of(effects, rails, scene=scene)
    after = outcome_of([*effects, Effect(Hold(kind), "rule:x")], rails, scene=scene)  # type: ignore[arg-type]
    assert after.approved_minor <= before.approved_minor
    assert after.hold is not None
    assert HOLD_RANK[after.hold] >= max(
        HOLD_RANK[kind], HOLD_RANK.get(before.hold or "", 0) if asked_for(effects) else 0
    )
    assert after.limit_change is None or after.limit_change.kind in ("freeze", "cut")
    assert (after.reprice, after.renewal == "auto") == (None, False)


def asked_for(effects: list[Effect]) -> bool:
    """Whether somebody asked for a hold."""
    return any(isinstance(effect.action, Hold) for effect in effects)


@unhurried
@given(EFFECTS, EFFECT, GUARDRAILS, SCENE)
def test_no_effect_ends_a_hold(effects: list[Effect], another: Effect, rails: Guardrails, scene: str) -> None:
    """But an approval ends the hold of a drawdown that nobody had approved, and no other."""
    before, after = (outcome_of(e, rails, scene=scene) for e in (effects, [*effects, another]))
    nobody_approved = any(reason.source == "policy:no_outcome" for reason in before.reasons)
    if before.hold is not None and not (nobody_approved and isinstance(another.action, Approve)):
        assert after.hold is not None
        assert HOLD_RANK[after.hold] >= HOLD_RANK[before.hold] or nobody_approved


@unhurried
@given(EFFECTS, SCENE)
def test_a_block_cannot_be_softened(effects: list[Effect], scene: str) -> None:
    """Adding a block yields a block whatever else was asked for."""
    outcome = outcome_of([*effects, BLOCK], scene=scene)
    assert (outcome.decision, outcome.hold) == ("hold", "block")


@unhurried
@given(EFFECTS, GUARDRAILS, SCENE)
def test_only_a_warning_has_a_tier_and_only_a_drawdown_pays(
    effects: list[Effect], rails: Guardrails, scene: str
) -> None:
    """A review pays out nothing and is not held for it."""
    outcome = outcome_of(effects, rails, scene=scene)
    assert outcome.tier is None or scene == "warning"
    if scene != "drawdown":
        assert outcome.approved_minor == 0
        assert outcome.limit_change is None or outcome.limit_change.kind != "draw_cap"
        assert outcome.hold is None or asked_for(effects) or "guardrail:apr_cap" in outcome.bounded


def test_rules_that_say_nothing_about_a_drawdown_are_no_approval() -> None:
    """Without an explicit approve the outcome is a review with RC90."""
    outcome = merged(Tag("seen"))
    assert (outcome.decision, outcome.hold, outcome.approved_minor) == ("hold", "review", 0)
    assert "RC90" in {reason.code for reason in outcome.reasons}


@pytest.mark.parametrize("scene", ["warning", "limit", "price", "marketing", "renewal"])
def test_a_review_in_which_nobody_asks_for_anything_changes_nothing(scene: str) -> None:
    """It approves, without a reason."""
    outcome = outcome_of([], scene=scene)
    assert (outcome.decision, outcome.hold, outcome.reasons, outcome.bounded) == ("approve", None, (), ())


def test_the_headline_is_the_most_severe_thing_that_happened() -> None:
    """hold > limit_change > reprice > approve."""
    assert merged(Approve()).decision == "approve"
    assert merged(Approve(), ChangePrice(2_000)).decision == "reprice"
    assert merged(Approve(), ChangePrice(2_000), CapDraw(50_00)).decision == "limit_change"
    assert merged(Approve(), ChangePrice(2_000), CapDraw(50_00), Hold("step_up")).decision == "hold"


def test_the_smallest_cap_holds_and_is_told_as_a_draw_cap() -> None:
    """Two caps pay out the smaller one; the limit itself stays, also where somebody asked for a raise."""
    outcome = merged(Approve(), CapDraw(80_00), CapDraw(60_00), ChangeLimit("set", 1_100_00))
    assert outcome.approved_minor == 60_00
    assert outcome.limit_change is not None
    assert (outcome.limit_change.kind, outcome.limit_change.to_minor) == ("draw_cap", 60_00)


def test_a_cap_that_does_not_bind_leaves_no_reason() -> None:
    """A cap at or above the amount changes nothing, so it is no cause of anything."""
    outcome = outcome_of([Effect(Approve(), "matrix:m"), Effect(CapDraw(AMOUNT), "matrix:m", "RC30")])
    assert (outcome.decision, outcome.reasons) == ("approve", ())


def test_a_cap_of_nothing_is_a_review() -> None:
    """An approval of zero does not exist."""
    assert merged(Approve(), CapDraw(0)).hold == "review"


def test_a_price_above_the_cap_is_reviewed_and_not_clipped() -> None:
    """Clip-and-lend is a negative margin: the draw is held instead."""
    outcome = merged(Approve(), ChangePrice(2_401))
    assert (outcome.hold, outcome.reprice, outcome.bounded) == ("review", None, ("guardrail:apr_cap",))
    assert ("RC36", "guardrail:apr_cap") in {(reason.code, reason.source) for reason in outcome.reasons}
    assert merged(Approve(), ChangePrice(2_400)).reprice == Reprice(1_800, 2_400)


def test_what_is_not_bounded_goes_through_as_asked() -> None:
    """Without a cap or a step."""
    outcome = merged(Approve(), ChangeLimit("set", 9_000_00), ChangePrice(9_000), guardrails=UNBOUNDED)
    assert outcome.reprice == Reprice(1_800, 9_000)
    assert outcome.limit_change is not None
    assert (outcome.limit_change.to_minor, outcome.bounded) == (9_000_00, ())


def test_an_alert_of_one_indicator_is_given_once_with_its_highest_tier() -> None:
    """Two rules that see the same thing do not warn twice."""
    alerts = [
        Alert("yellow", "inquiries"),
        Alert("red", "inquiries"),
        Alert("blue", "inquiries"),
        Alert("blue", "hours"),
    ]
    assert merged(Approve(), *alerts).alerts == (Alert("blue", "hours"), Alert("red", "inquiries"))


@pytest.mark.parametrize(
    ("asked", "renewal"),
    [
        ([], None),
        ([Renew("auto")], "auto"),
        ([Renew("auto"), Renew("manual")], "manual"),
        ([Renew("auto"), Renew("decline"), Renew("manual")], "decline"),
        ([Renew("auto"), Hold("review")], "manual"),
        ([Renew("decline"), Hold("review")], "decline"),
        ([Hold("review")], None),
    ],
)
def test_the_most_cautious_renewal_holds(asked: list[object], renewal: str | None) -> None:
    """decline > manual > auto; beside a hold nothing is renewed by itself."""
    assert merged(*asked, scene="renewal").renewal == renewal


def test_what_a_guardrail_left_nothing_of_is_the_cause_of_nothing() -> None:
    """A cut that would go below what is used, where nearly all is used, gives no reason; one that happens does."""
    cushion = Guardrails(limit_cut_cushion=Bound((1.0,)))
    used_up = replace(LINE, limit_minor=POSITION.outstanding_minor + POSITION.reserved_minor)
    cut = [Effect(ChangeLimit("set", 0), "rule:cut", "RC20")]
    spent = merge(cut, 0, used_up, POSITION, cushion, T_MS, history(), "limit")
    assert (spent.decision, spent.reasons, spent.bounded) == ("approve", (), ("guardrail:limit_cut_cushion",))
    assert [reason.code for reason in outcome_of(cut, cushion, scene="limit").reasons] == ["RC20"]


def test_a_review_does_not_freeze_a_frozen_line_again() -> None:
    """The same finding every night is one freeze; a drawdown on it is answered as ever."""
    frozen = replace(LINE, status="frozen")
    effects = [Effect(ChangeLimit("freeze"), "rule:a", "RC03")]
    review = merge(effects, 0, frozen, POSITION, UNBOUNDED, T_MS, history(), "warning")
    drawdown = merge(effects, AMOUNT, frozen, POSITION, UNBOUNDED, T_MS, history(), "drawdown")
    assert (review.decision, review.limit_change) == ("approve", None)
    assert (drawdown.approved_minor, drawdown.limit_change and drawdown.limit_change.kind) == (0, "freeze")
