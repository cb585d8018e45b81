"""What guardrails let through of a raise, a cut, a price and a warning tier."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcome_cases import (
    EFFECTS,
    EVENTS,
    GUARDRAILS,
    LINE,
    POSITION,
    SCENE,
    T_MS,
    history,
    merged,
    outcome_of,
    unhurried,
)

from decision_service.core.decision import (
    TIER_RANK,
    TIERS,
    Alert,
    Approve,
    CapDraw,
    ChangeLimit,
    ChangePrice,
    Effect,
    Reprice,
    TierChange,
)
from decision_service.core.event import APPROVED, BOOKED, KINDS, LIMIT_CHANGE, Event, code_key, facility_key
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS
from decision_service.core.rules.spec import Bound, Guardrails

LIMIT = LINE.limit_minor
MANUAL = Bound((float("inf"),))
DWELLS = {"blue": Bound((30.0 * DAY_MS,)), "yellow": Bound((60.0 * DAY_MS,)), "orange": MANUAL, "red": MANUAL}
TIERED = Guardrails(tier_dwells_ms=DWELLS)


def limit(days_ago: float, yuan: float, after_minor: int = 0, status: int = BOOKED) -> Event:
    """A change of the line's limit."""
    at_ms = T_MS - round(days_ago * DAY_MS)
    return Event(1, LIMIT_CHANGE, status, at_ms, after_minor, yuan, facility=facility_key("f-1"))


def rate(days_ago: float) -> Event:
    """A change of the line's price."""
    return Event(
        1, KINDS["rate_change"], APPROVED, T_MS - round(days_ago * DAY_MS), value=50, facility=facility_key("f-1")
    )


def tier(days_ago: float, rank: int) -> Event:
    """A tier asserted."""
    code = code_key("warning_tier")
    return Event(1, KINDS["other"], BOOKED, T_MS - round(days_ago * DAY_MS), value=rank, code=code)


def raised(
    to: int, rails: Guardrails, *events: Event, others: tuple[Facility, ...] = ()
) -> tuple[int, tuple[str, ...]]:
    """What becomes of the limit when a raise is asked for, and the guardrails that show."""
    outcome = merged(ChangeLimit("set", to), guardrails=rails, standing=history(*events, others=others), scene="limit")
    return LIMIT if outcome.limit_change is None else outcome.limit_change.to_minor, outcome.bounded


# --- properties -------------------------------------------------------------------------------------------------------


@unhurried
@given(EFFECTS, GUARDRAILS, EVENTS, SCENE)
def test_a_raise_never_exceeds_any_bound(
    effects: list[Effect], rails: Guardrails, events: list[Event], scene: str
) -> None:
    """Not the step, the year nor the cap, exactly; and there is none within a cooling-off."""
    standing = history(*events, others=(replace(LINE, facility_id="f-2", limit_minor=300_00),))
    change = outcome_of(effects, rails, standing, scene).limit_change
    if change is None or change.kind != "raise":
        return
    seen, by = standing.limit_history(), Fraction(change.to_minor - LIMIT)
    assert by > 0
    if rails.limit_step_max is not None:
        assert by <= Fraction(rails.limit_step_max.at(T_MS)) * LIMIT + Fraction(1, 10**6)
    if rails.limit_year_max is not None:
        assert seen.raised_minor is not None
        year = Fraction(rails.limit_year_max.at(T_MS)) * seen.limit_before_minor
        assert seen.raised_minor + by <= year + Fraction(1, 10**6)
    if rails.limit_cap is not None:
        assert change.to_minor + 300_00 <= Fraction(rails.limit_cap.at(T_MS)) * 100 + Fraction(1, 10**6)
    for wait, last_ms in (
        (rails.limit_raise_cooldown_ms, seen.last_raise_ms),
        (rails.limit_raise_after_cut_ms, seen.last_cut_ms),
    ):
        assert wait is None or T_MS - last_ms >= wait.at(T_MS)


@unhurried
@given(EFFECTS, GUARDRAILS, SCENE)
def test_a_cut_leaves_what_is_used_and_the_cushion(effects: list[Effect], rails: Guardrails, scene: str) -> None:
    """And it is a cut: below the limit there was."""
    outcome = outcome_of(effects, rails, scene=scene)
    if outcome.limit_change is not None and outcome.limit_change.kind == "cut":
        used = POSITION.outstanding_minor + POSITION.reserved_minor + outcome.approved_minor
        cushion = 0 if rails.limit_cut_cushion is None else Fraction(rails.limit_cut_cushion.at(T_MS))
        assert used * (1 + cushion) - Fraction(1, 10**6) <= outcome.limit_change.to_minor < LIMIT


@unhurried
@given(EFFECTS, GUARDRAILS, EVENTS, SCENE)
def test_a_price_stays_within_its_bounds(
    effects: list[Effect], rails: Guardrails, events: list[Event], scene: str
) -> None:
    """Never above the cap without a hold, never further than one step, never a fall below the floor, and in the
    direction that was asked for."""
    standing = history(*events)
    outcome = outcome_of(effects, rails, standing, scene)
    if outcome.reprice is None:
        return
    now, to = outcome.reprice.from_bps, outcome.reprice.to_bps
    asked = max(e.action.apr_bps for e in effects if isinstance(e.action, ChangePrice))
    assert outcome.hold is None
    cap, step = rails.apr_cap_bps, rails.price_step_max_bps
    assert cap is None or to <= cap.at(T_MS)
    assert step is None or abs(to - now) <= step.at(T_MS) or (cap is not None and to == int(cap.at(T_MS)) < now)
    assert rails.apr_floor_bps is None or to >= min(now, rails.apr_floor_bps.at(T_MS))
    assert now < to <= asked or now > to >= asked
    cooldown = rails.price_cooldown_ms
    assert cooldown is None or T_MS - standing.last_price_change_ms() >= cooldown.at(T_MS)


ALERTS = st.lists(st.builds(Alert, st.sampled_from(sorted(TIER_RANK)), st.sampled_from("abc")), max_size=4)


@unhurried
@given(ALERTS, ALERTS, GUARDRAILS, EVENTS)
def test_more_alerts_never_lower_the_tier(
    alerts: list[Alert], more: list[Alert], rails: Guardrails, events: list[Event]
) -> None:
    """And the tier is never below the highest alert."""

    def rank(asked: list[Alert]) -> int:
        change = merged(*asked, guardrails=rails, standing=history(*events), scene="warning").tier
        return 0 if change is None else TIERS.index(change.to_tier)

    assert rank(alerts) <= rank([*alerts, *more])
    assert rank(alerts) >= max((TIER_RANK[alert.tier] for alert in alerts), default=0)


class Unread:
    """A history that nobody may read."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"read {name}")


@pytest.mark.parametrize(
    "actions",
    [[Approve()], [Approve(), CapDraw(5)], [Approve(), ChangePrice(2_000)], [Approve(), ChangeLimit("set", 1_100_00)]],
)
def test_the_log_is_read_only_for_what_is_bounded_by_it(actions: list[object]) -> None:
    """A step, a cap on rates or a floor looks at no history."""
    rails = Guardrails(
        apr_cap_bps=Bound((2_400.0,)), apr_floor_bps=Bound((300.0,)), price_step_max_bps=Bound((500.0,)),
        limit_step_max=Bound((0.2,)), tier_dwells_ms=DWELLS,
    )  # fmt: skip
    assert merged(*actions, guardrails=rails, standing=Unread()).hold is None  # type: ignore[arg-type]


# --- raises and cuts --------------------------------------------------------------------------------------------------


def test_a_raise_is_limited_to_one_step() -> None:
    """50 % is given as 20 %, and the guardrail shows; what fits is given as asked."""
    rails = Guardrails(limit_step_max=Bound((0.20,)))
    assert raised(1_500_00, rails) == (1_200_00, ("guardrail:limit_step_max",))
    assert raised(1_200_00, rails) == (1_200_00, ())


def test_a_share_that_is_no_binary_fraction_is_not_a_cent_short() -> None:
    """29 % of 1,000.00 is 290.00."""
    assert raised(2_000_00, Guardrails(limit_step_max=Bound((0.29,))))[0] == 1_290_00


@pytest.mark.parametrize(("days", "to"), [(179.9, LIMIT), (180, 1_100_00), (500, 1_100_00)])
def test_a_raise_waits_for_the_cooling_off_since_the_last(days: float, to: int) -> None:
    """It is over when exactly so much time has passed. A cut before does not matter to it."""
    rails = Guardrails(limit_raise_cooldown_ms=Bound((180.0 * DAY_MS,)))
    signs = ("guardrail:limit_raise_cooldown",) if to == LIMIT else ()
    assert raised(1_100_00, rails, limit(days, 100)) == (to, signs)
    assert raised(1_100_00, rails, limit(1, -100)) == (1_100_00, ())


@pytest.mark.parametrize("change", [-100, 0, float("nan")])
def test_a_raise_waits_after_a_cut_a_freeze_and_a_change_nobody_knows_the_direction_of(change: float) -> None:
    """90 days in this case."""
    rails = Guardrails(limit_raise_after_cut_ms=Bound((90.0 * DAY_MS,)))
    assert raised(1_100_00, rails, limit(89, change)) == (LIMIT, ("guardrail:limit_raise_after_cut",))
    assert raised(1_100_00, rails, limit(91, change), limit(1, 100)) == (1_100_00, ())


def test_the_raises_of_a_year_together_stay_below_their_share() -> None:
    """800 was raised by 200; 50 % of 800 leaves 200 more, however the limit stands today."""
    rails = Guardrails(limit_year_max=Bound((0.50,)))
    assert raised(2_000_00, rails, limit(200, 200, 1_000_00)) == (1_200_00, ("guardrail:limit_year_max",))
    assert raised(2_000_00, rails, limit(200, 200)) == (1_200_00, ("guardrail:limit_year_max",))
    assert raised(2_000_00, rails, limit(365, 200, 1_000_00))[0] == 1_500_00
    assert raised(2_000_00, rails, limit(200, 400, 1_000_00))[0] == LIMIT
    assert raised(2_000_00, rails, limit(200, float("nan"), 1_000_00))[0] == LIMIT


def test_all_lines_of_a_borrower_stay_under_the_cap_together() -> None:
    """Another line of 300 leaves 200 of a cap of 1,500; a line over the cap is not cut by it."""
    other = replace(LINE, facility_id="f-2", limit_minor=300_00)
    cap = Guardrails(limit_cap=Bound((1_500.0,)))
    assert raised(2_000_00, cap, others=(LINE, other)) == (1_200_00, ("guardrail:limit_cap",))
    assert raised(2_000_00, Guardrails(limit_cap=Bound((500.0,))), others=(LINE, other))[0] == LIMIT


def test_every_guardrail_that_alone_would_have_changed_a_raise_shows() -> None:
    """So that an analyst sees all that stands in the way, not the first of it."""
    rails = Guardrails(
        limit_step_max=Bound((0.10,)), limit_cap=Bound((1_050.0,)), limit_raise_cooldown_ms=Bound((9.0 * DAY_MS,))
    )
    signs = ("guardrail:limit_cap", "guardrail:limit_raise_cooldown", "guardrail:limit_step_max")
    assert raised(1_500_00, rails, limit(1, 1)) == (LIMIT, signs)


def test_a_cut_never_goes_below_what_is_used_and_its_cushion() -> None:
    """Outstanding, reserved and this draw: 400; and 2 % on top."""
    cut = merged(Approve(), ChangeLimit("set", 100_00)).limit_change
    assert cut is not None
    assert (cut.kind, cut.to_minor) == ("cut", 400_00)
    outcome = merged(Approve(), ChangeLimit("set", 100_00), guardrails=Guardrails(limit_cut_cushion=Bound((0.02,))))
    assert outcome.limit_change is not None
    assert (outcome.limit_change.to_minor, outcome.bounded) == (408_00, ("guardrail:limit_cut_cushion",))


def test_there_is_no_raise_beside_a_cut() -> None:
    """Not even where nothing is left of the cut."""
    rails = Guardrails(limit_cut_cushion=Bound((1.0,)))
    both = [ChangeLimit("set", 1_100_00), ChangeLimit("set", 100_00)]
    used_up = merged(*both, Approve(), guardrails=rails, scene="drawdown")
    assert used_up.limit_change is not None
    assert (used_up.limit_change.kind, used_up.limit_change.to_minor) == ("cut", 800_00)


# --- price ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "rails", "to", "signs"),
    [
        (1_000, Guardrails(apr_floor_bps=Bound((1_200.0,))), 1_200, ("guardrail:apr_floor",)),
        (1_000, Guardrails(apr_floor_bps=Bound((1_900.0,))), None, ("guardrail:apr_floor",)),
        (1_850, Guardrails(apr_floor_bps=Bound((1_900.0,))), 1_850, ()),
        (1_000, Guardrails(price_step_max_bps=Bound((200.0,))), 1_600, ("guardrail:price_step_max_bps",)),
        (2_300, Guardrails(price_step_max_bps=Bound((200.0,))), 2_000, ("guardrail:price_step_max_bps",)),
        (2_000, Guardrails(price_step_max_bps=Bound((200.0,))), 2_000, ()),
        (1_900, Guardrails(price_cooldown_ms=Bound((180.0 * DAY_MS,))), None, ("guardrail:price_cooldown",)),
        (1_900, Guardrails(price_cooldown_ms=Bound((10.0 * DAY_MS,))), 1_900, ()),
    ],
)
@pytest.mark.parametrize("scene", ["drawdown", "price"])
def test_a_price_is_bounded(asked: int, rails: Guardrails, to: int | None, signs: tuple[str, ...], scene: str) -> None:
    """At 18 % now and changed ten days ago: a floor stops a fall and never turns it into a rise, a step limits either
    way, a cooling-off drops the change."""
    outcome = merged(Approve(), ChangePrice(asked), guardrails=rails, standing=history(rate(10)), scene=scene)
    assert outcome.reprice == (None if to is None else Reprice(1_800, to))
    assert outcome.bounded == signs
    assert outcome.decision == ("approve" if to is None else "reprice")
    assert ("rule:r1" in {reason.source for reason in outcome.reasons}) == (to is not None)


def test_a_price_above_the_cap_is_reviewed_even_if_a_step_would_stay_below_it() -> None:
    """What the risk asks for is above what may be charged: a part of it is still lending at a loss."""
    rails = Guardrails(apr_cap_bps=Bound((2_400.0,)), price_step_max_bps=Bound((100.0,)))
    outcome = merged(Approve(), ChangePrice(3_000), guardrails=rails)
    assert (outcome.hold, outcome.reprice, outcome.bounded) == ("review", None, ("guardrail:apr_cap",))


def test_a_fall_from_above_the_cap_comes_down_to_it_whatever_the_step() -> None:
    """The cap of a new year takes force at once."""
    rails = Guardrails(apr_cap_bps=Bound((1_500.0,)), price_step_max_bps=Bound((200.0,)))
    assert merged(Approve(), ChangePrice(1_000), guardrails=rails).reprice == Reprice(1_800, 1_500)


def test_a_bound_holds_before_its_first_date_too() -> None:
    """A cap is never absent; after a date the value of that date holds."""
    rails = Guardrails(apr_cap_bps=Bound((2_400.0, 2_000.0), (T_MS + 1, T_MS + 2)))
    assert merged(Approve(), ChangePrice(2_401), guardrails=rails).hold == "review"
    later = Guardrails(apr_cap_bps=Bound((2_400.0, 2_000.0), (T_MS - 2, T_MS)))
    assert merged(Approve(), ChangePrice(2_001), guardrails=later).hold == "review"


# --- the warning tier -------------------------------------------------------------------------------------------------


def warned(*alerts: Alert, events: tuple[Event, ...] = ()) -> tuple[TierChange | None, tuple[str, ...]]:
    """What alerts make of the tier in force."""
    outcome = merged(*alerts, guardrails=TIERED, standing=history(*events), scene="warning")
    return outcome.tier, outcome.bounded


def test_a_higher_tier_takes_force_at_once() -> None:
    """With the indicators that ask for it; without alerts and without a tier there is nothing."""
    alerts = (Alert("red", "overdue"), Alert("blue", "inquiries"), Alert("red", "court"))
    assert warned(*alerts)[0] == TierChange("none", "red", ("court", "overdue"), True)
    assert warned(Alert("orange", "court"), events=(tier(1, 2),))[0] == TierChange("yellow", "orange", ("court",), True)
    assert warned() == (None, ())


@pytest.mark.parametrize(("days", "to", "recorded"), [(59.9, "yellow", False), (60, "blue", True)])
def test_a_lower_tier_waits_for_the_dwell(days: float, to: str, recorded: bool) -> None:
    """Counted from when the tier in force was last asserted; then it falls to what is asked for now."""
    change, signs = warned(Alert("blue", "a"), events=(tier(days, 2),))
    assert change == TierChange("yellow", to, ("a",) if to == "blue" else (), recorded)
    assert signs == (() if recorded else ("guardrail:tier_dwell",))


def test_a_manual_tier_never_falls_by_itself() -> None:
    """Only when a person records a lower one; until then it is recorded again lest the log forgets it."""
    assert warned(events=(tier(399, 3),))[0] == TierChange("orange", "orange", (), True)
    assert warned(events=(tier(0, 3),)) == (TierChange("orange", "orange", (), False), ("guardrail:tier_dwell",))
    assert warned(events=(tier(9, 4), tier(2, 0))) == (None, ())


@pytest.mark.parametrize(("days", "recorded"), [(0, False), (1 / DAY_MS, True), (0.5, True), (1.5, True)])
def test_a_tier_asserted_again_is_recorded_again_once_a_day(days: float, recorded: bool) -> None:
    """That is what its dwell counts from. The day is that of UTC, so a daily run never skips one by a second."""
    assert T_MS % DAY_MS == 0
    change, _ = warned(Alert("blue", "a"), events=(tier(days, 1),))
    assert change == TierChange("blue", "blue", ("a",), recorded)


def test_a_tier_without_a_dwell_falls_when_nothing_asks_for_it() -> None:
    """What is not given does not bound."""
    outcome = merged(guardrails=Guardrails(), standing=history(tier(0.1, 4)), scene="warning")
    assert (outcome.tier, outcome.bounded) == (TierChange("red", "none", (), True), ())
