"""Deciding a review: nobody asks for money, nobody need approve, and what a drawdown gets is untouched by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest_service import LINE, T0_MS, ask
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_cases import FILES, RULE_SETS, compiled, decided, review

from decision_service.core.errors import InvalidInput
from decision_service.core.event import APPROVED, KINDS, Event, facility_key, header, unpack
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.policy import Policy
from decision_service.decision_records import change_records

OTHERS = [name for name in RULE_SETS if name != "drawdown.yaml"]


@pytest.fixture(scope="module")
def policy() -> Policy:
    """All six scenes."""
    return compiled(FILES)


def events(*at: tuple[str, int, int]) -> bytes:
    """A log of `(kind, hours before the decision, minor units)`."""
    records = [
        Event(
            n, KINDS[kind], APPROVED, T0_MS - hours * HOUR_MS, amount, facility=facility_key("f-1"),
        ).pack()
        for n, (kind, hours, amount) in enumerate(at, 1)
    ]  # fmt: skip
    return header() + b"".join(records)


def test_a_review_that_asks_for_nothing_approves_and_pays_nothing_out(policy: Policy) -> None:
    """No rule says `approve`: nothing changes."""
    decision = decided(policy, review("marketing"), events(("drawdown", 5, 100)))
    assert (decision.decision, decision.approved_minor, decision.hold, decision.reasons) == ("approve", 0, None, ())


def test_a_drawdown_still_needs_somebody_to_say_yes() -> None:
    """The same rules without `otherwise` hold."""
    files = {name: text for name, text in FILES.items() if name not in OTHERS}
    files["drawdown.yaml"] = files["drawdown.yaml"].replace("then: approve", "then: {tag: seen}")
    assert decided(compiled(files), ask("d-1")).hold == "review"


@pytest.mark.parametrize(
    ("scene", "outcome"),
    [("limit", "limit_change"), ("price", "reprice"), ("warning", "approve"), ("marketing", "approve"),
     ("renewal", "approve")],
)  # fmt: skip
def test_each_scene_is_judged_by_its_own_rules(policy: Policy, scene: str, outcome: str) -> None:
    """One rule of each fires."""
    decision = decided(policy, review(scene))
    assert (decision.scene, decision.decision, decision.currency) == (scene, outcome, "CNY")


def test_the_currency_of_a_review_is_that_of_the_facility_and_none_other(policy: Policy) -> None:
    """Left out it is looked up, sent it must fit; a drawdown may not leave it out."""
    yen = replace(LINE, currency="JPY")
    assert decided(policy, review("limit"), line=yen).currency == "JPY"
    assert decided(policy, replace(review("limit"), currency="JPY"), line=yen).currency == "JPY"
    for request in (replace(review("limit"), currency="CNY"), replace(ask("d-1"), currency="")):
        with pytest.raises(InvalidInput) as refused:
            decided(policy, request, line=yen)
        assert refused.value.field == "currency"


def test_a_review_asks_for_nothing_by_value(policy: Policy) -> None:
    """`request.amount` is 0, what a review does not name is null."""
    trace = decided(policy, review("limit")).trace
    assert trace is not None
    scene = policy.scenes["limit"]
    assert scene.numbers[scene.layout.numbers["request.amount"]] == 0
    named = dict(zip(scene.string_names, trace.strings, strict=True))
    assert (named["request.device_id"], named["request.counterparty_id"]) == (None, None)
    assert named["request.currency"] == "CNY"


def test_a_raise_on_trimmed_history_is_looked_at_by_a_person(policy: Policy) -> None:
    """What is used of the line is not known, so nothing gets better by itself; in any scene."""
    trimmed = header(1, T0_MS - HOUR_MS)
    for scene in ("limit", "price", "renewal"):
        decision = decided(policy, review(scene), trimmed)
        assert (decision.hold, decision.limit_change, decision.reprice) == ("review", None, None)
        assert [reason.code for reason in decision.reasons if reason.source.startswith("ledger")] == ["RC91"]


def test_a_drawdown_prices_its_draw_and_leaves_no_change_of_rate(policy: Policy) -> None:
    """A review that prices the line leaves one; `value` is the change in basis points."""
    priced = FILES["drawdown.yaml"].replace("then: approve", "then: [approve, {price: {add_bps: 50}}], reason: RC30")
    drawdown = decided(compiled({**FILES, "drawdown.yaml": priced}), ask("d-1"))
    assert drawdown.reprice is not None
    assert change_records(drawdown, T0_MS) == b""
    record = unpack(change_records(decided(policy, review("price")), T0_MS))
    assert (record.kind, record.status, record.value) == (KINDS["rate_change"], APPROVED, 50.0)


HISTORIES = st.lists(
    st.tuples(
        st.sampled_from(["drawdown", "repayment", "login", "limit_change"]), st.integers(0, 24 * 60),
        st.integers(1, 500_00),
    ),
    max_size=12,
)  # fmt: skip


@pytest.fixture(scope="module")
def alone() -> Policy:
    """The same policy without the other scenes."""
    return compiled({name: text for name, text in FILES.items() if name not in OTHERS}, "card")


@pytest.fixture(scope="module")
def among_others() -> Policy:
    """Drawdown rules among those of the other scenes."""
    return compiled(FILES, "card")


@settings(max_examples=60, deadline=None)
@given(history=HISTORIES, amount=st.integers(1, 2_000_00), age_d=st.integers(1, 900))
def test_drawdowns_do_not_depend_on_the_rules_of_other_scenes(
    alone: Policy, among_others: Policy, history: list[tuple[str, int, int]], amount: int, age_d: int
) -> None:
    """Every field of the decision and every byte of its trace, but for the id of the policy; whatever was reviewed in
    between."""
    line = replace(LINE, granted_at_ms=T0_MS - age_d * DAY_MS)
    log, request = events(*history), ask("d-1", amount, counterparty_id="m-1")
    before = decided(alone, request, log, line)
    for scene in among_others.scenes:
        decided(among_others, replace(request, scene=scene, amount_minor=0), log, line)
    after = decided(among_others, request, log, line)
    assert after.policy_id != before.policy_id
    assert after._replace(policy_id=before.policy_id) == before
    assert after.trace == before.trace
