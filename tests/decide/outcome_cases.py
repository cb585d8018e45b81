"""What the tests of merging share: a line, effects of every sort, guardrails of every sort, and an empty history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hypothesis import settings
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
    Tag,
)
from decision_service.core.event import EMPTY_LOG, KINDS, Event, code_key, facility_key, words_of
from decision_service.core.facility import Facility, Position
from decision_service.core.limits import DAY_MS
from decision_service.core.merge import Outcome, merge
from decision_service.core.request import SCENES
from decision_service.core.rules.spec import Bound, Guardrails
from decision_service.core.standing import Standing

T_MS: Final = 1_000 * DAY_MS
LINE: Final = Facility("f-1", "c-1", "revolver", "CNY", 1_000_00, 200_00, 0, 1_800, "active", 0)
POSITION: Final = Position(200_00, 100_00, 700_00)
UNBOUNDED: Final = Guardrails()
STEP_AND_CAP: Final = Guardrails(apr_cap_bps=Bound((2_400.0,)), limit_step_max=Bound((0.20,)))
AMOUNT: Final = 100_00
unhurried = settings(deadline=None)  # a busy machine makes no outcome wrong

ACTIONS = st.one_of(
    st.sampled_from([Hold("block"), Hold("review"), Hold("step_up"), Approve(), ChangeLimit("freeze"), Tag("t")]),
    st.builds(CapDraw, st.integers(0, 150_00)),
    st.builds(lambda to: ChangeLimit("set", to), st.integers(0, 2_000_00)),
    st.builds(ChangePrice, st.integers(100, 4_000)),
    st.builds(Alert, st.sampled_from(["blue", "yellow", "orange", "red"]), st.sampled_from(["a", "b"])),
    st.builds(Offer, st.sampled_from(["coupon", "waiver"])),
    st.builds(Renew, st.sampled_from(["auto", "manual", "decline"])),
)
EFFECT = st.builds(Effect, ACTIONS, st.sampled_from(["rule:a", "rule:b"]), st.sampled_from(["", "RC11"]))
EFFECTS = st.lists(EFFECT, max_size=8)
SCENE = st.sampled_from(SCENES)


def _bounds(values: st.SearchStrategy[float]) -> st.SearchStrategy[Bound | None]:
    return st.none() | st.builds(lambda value: Bound((value,)), values)


_days = st.sampled_from([float(DAY_MS), 30.0 * DAY_MS, 180.0 * DAY_MS])
_dwell = st.dictionaries(
    st.sampled_from(["blue", "yellow", "orange", "red"]),
    st.sampled_from([Bound((30.0 * DAY_MS,)), Bound((float("inf"),))]),
)
GUARDRAILS = st.builds(
    Guardrails, _bounds(st.floats(1_500, 3_000)), _bounds(st.floats(100, 1_400)), _bounds(st.integers(1, 500)),
    _bounds(_days), _bounds(st.floats(0.01, 1)), _bounds(st.floats(0.01, 3)), _bounds(st.floats(500, 5_000)),
    _bounds(_days), _bounds(_days), _bounds(st.floats(0.01, 1)), _dwell,
)  # fmt: skip

_instants = st.integers(1, 400).map(lambda days: T_MS - days * DAY_MS)
EVENTS = st.lists(
    st.builds(
        Event, st.just(1), st.sampled_from([KINDS["limit_change"], KINDS["rate_change"], KINDS["other"]]),
        st.sampled_from([1, 2]), _instants, st.sampled_from([0, 900_00, 1_000_00]),
        st.sampled_from([1.0, 2.0, 3.0, 100.0, -100.0, float("nan")]), facility=st.just(facility_key("f-1")),
        code=st.just(code_key("warning_tier")),
    ),
    max_size=4,
)  # fmt: skip


def history(*events: Event, others: Iterable[Facility] = ()) -> Standing:
    """What a log of these events says about the line."""
    return Standing(words_of(EMPTY_LOG + b"".join(event.pack() for event in events)), LINE, T_MS, others)


def outcome_of(
    effects: Iterable[Effect], guardrails: Guardrails = UNBOUNDED, standing: Standing | None = None,
    scene: str = "drawdown",
) -> Outcome:  # fmt: skip
    """What effects come to: of a draw of 100.00, or of a review."""
    amount = AMOUNT if scene == "drawdown" else 0
    return merge(effects, amount, LINE, POSITION, guardrails, T_MS, standing or history(), scene)


def merged(
    *actions: object, guardrails: Guardrails = STEP_AND_CAP, standing: Standing | None = None, scene: str = "drawdown"
) -> Outcome:
    """The outcome of actions asked for by rules r0, r1 ..., with RC11 as their reason."""
    effects = [Effect(action, f"rule:r{i}", "RC11") for i, action in enumerate(actions)]  # type: ignore[arg-type]
    return outcome_of(effects, guardrails, standing, scene)
