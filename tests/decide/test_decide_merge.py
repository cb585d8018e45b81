"""Merging effects: commutative, idempotent, and never approving by default."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decision_service.core.decision import (
    Alert,
    Approve,
    CapDraw,
    ChangeLimit,
    ChangePrice,
    Effect,
    Hold,
    Offer,
    Renew,
    Reprice,
    Tag,
)
from decision_service.core.facility import Facility, Position
from decision_service.core.merge import Outcome, merge

LINE = Facility("f-1", "c-1", "revolver", "CNY", 1_000_00, 200_00, 0, 1_800, "active", 0)
POSITION = Position(200_00, 100_00, 700_00)


@dataclass(frozen=True)
class Rails:
    """Guardrails of a test."""

    limit_step_max: float | None = 0.20
    cap_bps: int | None = 2_400

    def apr_cap_at(self, t_ms: int) -> int | None:
        """The same cap at every instant."""
        return self.cap_bps


def merged(*actions: object, amount: int = 100_00, raise_allowed: bool = True, rails: Rails | None = None) -> Outcome:
    """The outcome of actions asked for by rules r0, r1 ..."""
    effects = [Effect(action, f"rule:r{i}", "RC11") for i, action in enumerate(actions)]  # type: ignore[arg-type]
    return merge(effects, amount, LINE, POSITION, rails or Rails(), 0, raise_allowed)


ACTIONS = st.one_of(
    st.sampled_from([Hold("block"), Hold("review"), Hold("step_up"), Approve(), ChangeLimit("freeze"), Tag("t")]),
    st.builds(CapDraw, st.integers(0, 150_00)),
    st.builds(lambda to: ChangeLimit("set", to), st.integers(0, 2_000_00)),
    st.builds(ChangePrice, st.integers(100, 4_000)),
    st.builds(Alert, st.sampled_from(["blue", "red"]), st.sampled_from(["a", "b"])),
    st.builds(Offer, st.sampled_from(["coupon", "waiver"])),
    st.builds(Renew, st.sampled_from(["auto", "manual"])),
)
EFFECTS = st.lists(st.builds(Effect, ACTIONS, st.sampled_from(["rule:a", "rule:b"]), st.sampled_from(["", "RC11"])))


@given(st.data(), EFFECTS)
def test_neither_order_nor_repetition_changes_the_outcome(data: st.DataObject, effects: list[Effect]) -> None:
    """Any permutation of the effects, with any of them repeated, merges to the same outcome."""
    again = data.draw(st.permutations(effects + data.draw(st.lists(st.sampled_from(effects))) if effects else effects))
    first = merge(effects, 100_00, LINE, POSITION, Rails(), 0, True)
    assert merge(again, 100_00, LINE, POSITION, Rails(), 0, True) == first


@given(EFFECTS)
def test_an_outcome_pays_out_nothing_beside_a_hold_and_never_more_than_asked(effects: list[Effect]) -> None:
    """The approved amount is 0 with a hold or a freeze, else between 1 and the amount asked for."""
    outcome = merge(effects, 100_00, LINE, POSITION, Rails(), 0, True)
    frozen = outcome.limit_change is not None and outcome.limit_change.kind == "freeze"
    assert (outcome.approved_minor == 0) == (outcome.hold is not None or frozen)
    assert outcome.approved_minor <= 100_00


@given(EFFECTS)
def test_a_block_cannot_be_softened(effects: list[Effect]) -> None:
    """Adding a block yields a block whatever else was asked for."""
    outcome = merge([*effects, Effect(Hold("block"), "rule:x", "RC01")], 100_00, LINE, POSITION, Rails(), 0, True)
    assert (outcome.decision, outcome.hold) == ("hold", "block")


def test_rules_that_say_nothing_are_no_approval() -> None:
    """Without an explicit approve the outcome is a review with RC90."""
    outcome = merged(Tag("seen"))
    assert (outcome.decision, outcome.hold, outcome.approved_minor) == ("hold", "review", 0)
    assert "RC90" in {reason.code for reason in outcome.reasons}


def test_the_headline_is_the_most_severe_thing_that_happened() -> None:
    """hold > limit_change > reprice > approve."""
    assert merged(Approve()).decision == "approve"
    assert merged(Approve(), ChangePrice(2_000)).decision == "reprice"
    assert merged(Approve(), ChangePrice(2_000), CapDraw(50_00)).decision == "limit_change"
    assert merged(Approve(), ChangePrice(2_000), CapDraw(50_00), Hold("step_up")).decision == "hold"


def test_the_smallest_cap_holds_and_is_told_as_a_draw_cap() -> None:
    """Two caps pay out the smaller one; the limit itself stays."""
    outcome = merged(Approve(), CapDraw(80_00), CapDraw(60_00))
    assert outcome.approved_minor == 60_00
    assert outcome.limit_change is not None
    assert (outcome.limit_change.kind, outcome.limit_change.to_minor) == ("draw_cap", 60_00)


def test_a_cap_that_does_not_bind_leaves_no_reason() -> None:
    """A cap at or above the amount changes nothing, so it is no cause of anything."""
    effects = [Effect(Approve(), "matrix:m"), Effect(CapDraw(100_00), "matrix:m", "RC30")]
    outcome = merge(effects, 100_00, LINE, POSITION, Rails(), 0, True)
    assert (outcome.decision, outcome.reasons) == ("approve", ())


def test_a_cap_of_nothing_is_a_review() -> None:
    """An approval of zero does not exist."""
    assert merged(Approve(), CapDraw(0)).hold == "review"


def test_a_cut_never_goes_below_what_is_used() -> None:
    """Outstanding, reserved and this draw stay within the limit that a cut leaves."""
    outcome = merged(Approve(), ChangeLimit("set", 100_00))
    assert outcome.limit_change is not None
    assert (outcome.limit_change.kind, outcome.limit_change.to_minor) == ("cut", 400_00)


def test_a_raise_is_limited_to_one_step_and_needs_its_cooling_off() -> None:
    """A raise of 50 % is given as 20 %, and not at all during the cooling-off or beside a hold."""
    raised = merged(Approve(), ChangeLimit("set", 1_500_00))
    assert raised.limit_change is not None
    assert (raised.limit_change.kind, raised.limit_change.to_minor) == ("raise", 1_200_00)
    assert merged(Approve(), ChangeLimit("set", 1_500_00), raise_allowed=False).limit_change is None
    assert merged(Hold("step_up"), ChangeLimit("set", 1_500_00)).limit_change is None


def test_a_price_above_the_cap_is_reviewed_and_not_clipped() -> None:
    """Clip-and-lend is a negative margin: the draw is held instead."""
    outcome = merged(Approve(), ChangePrice(2_401))
    assert (outcome.hold, outcome.reprice) == ("review", None)
    assert merged(Approve(), ChangePrice(2_400)).reprice == Reprice(1_800, 2_400)


@pytest.mark.parametrize("rails", [Rails(cap_bps=None), Rails(limit_step_max=None)])
def test_guardrails_that_are_not_set_bound_nothing(rails: Rails) -> None:
    """Without a cap or a step the effects go through as asked."""
    outcome = merged(Approve(), ChangeLimit("set", 1_500_00), ChangePrice(2_300), rails=rails)
    assert outcome.reprice == Reprice(1_800, 2_300)
