"""The reasons a scorecard gives for an adverse answer that rests on its score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from conftest_service import ask
from scene_cases import FEATURES, decided, review

from decision_service.core.decision import Decision
from decision_service.core.limits import HOUR_MS
from decision_service.core.policy import compile_policy
from decision_service.core.scorecards.adverse import REASONS_MAX
from decision_service.core.scorecards.manifest import Manifest, ScorecardFeature
from decision_service.core.scorecards.scaling import Grades, Platt, Scaling
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_text

FALLBACK = "fallback: {static: {hold: review, reason: RC90}}\n"
NAMES = ("vel_prior_10m", "vel_drawn_30d", "vel_paid_30d", "facility.limit", "facility.apr", "facility.days_past_due")
REASONS = ("RC11", "RC30", "RC31", "RC35", "RC36", "RC37")
AGAINST = ("RC30", "RC31")  # what CONTRIBUTIONS come to, heaviest first
CONTRIBUTIONS = (0.0, 2.0, 1.0, -1.0, 0.0, 0.0)


class FixedScorer:
    """A scorer whose contributions are given, and that counts how often it was asked for them."""

    def __init__(self, contributions: tuple[float, ...], margin: float = -2.0) -> None:
        self._contributions = np.array([*contributions, -3.0])
        self._margin = margin
        self.asked = 0

    def margin(self, row: npt.NDArray[np.float64]) -> float:
        return self._margin

    def contributions(self, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        self.asked += 1
        return self._contributions


def card(scorer: FixedScorer, reasons: tuple[str, ...] = REASONS) -> Scorecard:
    """A scorecard `behaviour` on six numbers, each with a reason of its own."""
    features = tuple(ScorecardFeature(n, r, 0, True, 0.1, ()) for n, r in zip(NAMES, reasons, strict=True))
    manifest = Manifest(
        name="behaviour", version="1", model_file="model.txt", model_sha256="", features=features,
        calibration=Platt(0.9, -0.1), scaling=Scaling(), grades=Grades(("A", "B"), (600,)), training={}, metrics={},
        score_null_rate=0.0, score_deciles=(), golden=(), sha256="",
    )  # fmt: skip
    return Scorecard(manifest, scorer)


def answer(body: str, scorer: FixedScorer, scene: str = "drawdown", reasons: tuple[str, ...] = REASONS) -> Decision:
    """The answer of a rule set of these rules and blocks, asked for a draw, or in another scene for a review."""
    texts = {
        "policy.yaml": 'label: "test"\nlists: [block]\n', "features/velocity.yaml": FEATURES,
        f"{scene}.yaml": f"rule_set: {scene}\nscene: {scene}\n{body}{FALLBACK}",
        "drawdown.yaml": f"rule_set: drawdown\nscene: drawdown\n{body if scene == 'drawdown' else OTHERS}{FALLBACK}",
    }  # fmt: skip
    findings = Findings()
    documents = {name: document for name, text in texts.items() if (document := read_text(text, name, findings))}
    policy = compile_policy(
        documents, {"behaviour": card(scorer, reasons)}, zone_named("Asia/Shanghai"), HOUR_MS, findings
    )
    assert not findings.errors, [error.render() for error in findings.errors]
    return decided(policy, ask("r-1") if scene == "drawdown" else review(scene))


def rule(when: str, then: str, on_null: str = "skip") -> str:
    """One rule, and that everything else is approved."""
    first = f"  - {{id: one, when: '{when}', then: {then}, reason: RC20, on_null: {on_null}}}\n"
    return f"rules:\n{first}  - {{id: yes, when: request.amount >= 0, then: approve}}\n"


OTHERS = "rules: [{id: yes, when: request.amount > 0, then: approve}]\n"
SCORED = 'behaviour.grade == "B"'


def told(decision: Decision) -> tuple[str, ...]:
    """The codes that the scorecard gave, in their order."""
    return tuple(reason.code for reason in decision.reasons if reason.source == "scorecard:behaviour")


@pytest.mark.parametrize(
    ("then", "scene"),
    [
        ("{hold: review}", "drawdown"),
        ("{cap_draw: 10}", "drawdown"),
        ("{limit: freeze}", "drawdown"),
        ("{limit: {cut: 0.5}}", "limit"),
        ("{price: {add_bps: 50}}", "price"),
        ("{alert: {tier: yellow, indicator: weak}}", "warning"),
        ("{renew: manual}", "renewal"),
        ("{renew: decline}", "renewal"),
    ],
)  # fmt: skip
def test_whatever_is_adverse_because_of_a_score_names_what_weighed_in_it(then: str, scene: str) -> None:
    """Behind the rule's own reason stand the scorecard's codes, heaviest first, from one look at the contributions."""
    scorer = FixedScorer(CONTRIBUTIONS)
    decision = answer(rule(SCORED, then), scorer, scene)
    assert told(decision) == AGAINST
    assert next((reason.code, reason.source) for reason in decision.reasons) == ("RC20", "rule:one")
    assert scorer.asked == 1


@pytest.mark.parametrize(
    ("when", "then", "scene"),
    [
        (SCORED, "{tag: weak}", "drawdown"),  # not adverse
        (SCORED, "{cap_draw: 100000}", "drawdown"),  # does not bind
        (SCORED, "{limit: {raise: 0.1}}", "limit"),
        (SCORED, "{price: {add_bps: -50}}", "price"),
        (SCORED, "{renew: auto}", "renewal"),
        ("facility.limit > 0", "{hold: review}", "drawdown"),  # adverse, but not by the score
        ("facility.limit > 0", "{renew: decline}", "renewal"),
    ],
)
def test_an_answer_that_no_score_made_worse_names_nothing_of_it(when: str, then: str, scene: str) -> None:
    """The contributions are not even computed."""
    scorer = FixedScorer(CONTRIBUTIONS)
    assert told(answer(rule(when, then), scorer, scene)) == ()
    assert scorer.asked == 0


def test_an_effect_beside_the_one_that_held_gives_no_reason() -> None:
    """A tag by the score beside a hold for another cause leaves the score out of it."""
    body = rule("facility.limit > 0", "{hold: review}").replace(
        "rules:\n", f"rules:\n  - {{id: tagged, when: '{SCORED}', then: {{tag: weak}}, reason: RC20, on_null: skip}}\n"
    )
    assert told(answer(body, FixedScorer(CONTRIBUTIONS))) == ()


def beside(then: str, other: str) -> str:
    """A rule that looks at the score, one that does not, and that everything else is approved."""
    more = f"rules:\n  - {{id: other, when: facility.limit > 0, then: {other}, reason: RC36, on_null: skip}}\n"
    return rule(SCORED, then).replace("rules:\n", more)


@pytest.mark.parametrize(
    ("then", "other", "expected"),
    [
        ("{cap_draw: 10}", "{limit: {cut: 0.5}}", AGAINST),  # capped, though the limit change tells of the cut
        ("{limit: {cut: 0.5}}", "{cap_draw: 10}", AGAINST),
        ("{cap_draw: 10}", "{hold: review}", ()),  # the cap came to nothing
        ("{cap_draw: 0}", "{hold: review}", AGAINST),  # by itself it holds
        ("{cap_draw: 10}", "{limit: freeze}", ()),
        ("{hold: review}", "{hold: block}", AGAINST),
        ("{limit: {cut: 0.5}}", "{hold: review}", AGAINST),  # a cut stands beside a hold
        ("{price: {add_bps: 50}}", "{hold: review}", ()),  # a price does not
        ("{limit: {cut: 0.5}}", "{limit: freeze}", ()),
    ],
)
def test_of_two_effects_those_count_that_the_answer_is_made_of(
    then: str, other: str, expected: tuple[str, ...]
) -> None:
    """The score's effect beside another cause gives reasons if something adverse of it is left in the answer."""
    assert told(answer(beside(then, other), FixedScorer(CONTRIBUTIONS))) == expected


def test_a_hold_for_something_unknown_is_not_the_scores_doing() -> None:
    """Where a rule that looks at the score lacks another value, the cause is ours."""
    decision = answer(
        rule(f"{SCORED} and facility.days_past_due > 3", "{hold: block}", "hold"), FixedScorer(CONTRIBUTIONS)
    )
    assert decision.hold == "review"
    assert told(decision) == ()


def test_a_score_that_is_null_gives_no_reason() -> None:
    """A rule that fires because there is no score cannot say what weighed in it."""
    scorer = FixedScorer(CONTRIBUTIONS, margin=float("nan"))
    decision = answer(rule("is_null(behaviour.grade)", "{hold: review}"), scorer)
    assert decision.hold == "review"
    assert (told(decision), scorer.asked) == ((), 0)


TABLE = """
tables:
  - id: t
    hit: first
    inputs: [facility.limit, behaviour.grade]
    rows:
      - {if: ["<= %s", any], then: {hold: review}, reason: RC36}
      - {if: [any, B], then: {hold: review}, reason: RC30}
    otherwise: approve
    on_null: {hold: review}
rules: [{id: yes, when: request.amount > 0, then: approve}]
"""
TREE = """
trees:
  - id: t
    root:
      if: facility.limit <= %s
      then: {hold: review}
      else: {if: 'behaviour.points < 600', then: {hold: review}, else: approve}
    on_null: {hold: review}
    reason: RC30
rules: [{id: yes, when: request.amount > 0, then: approve}]
"""
MATRIX = """
matrices:
  - id: m
    rows: behaviour.grade in [A, B]
    columns: facility.limit <= [inf]
    cells: {A: [approve], B: [{hold: review}]}
    on_null: {hold: review}
    reason: RC30
"""
POINTS = """
points:
  - id: hand
    base: 0
    of:
      - {value: behaviour.points, bins: {"<= 600": 0, "> 600": 100, null: 0}}
rules:
  - {id: one, when: hand.points < 50, on_null: skip, then: {hold: review}, reason: RC20}
  - {id: yes, when: request.amount > 0, then: approve}
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (TABLE % 10, AGAINST), (TABLE % 1_000_000, ()), (TREE % 10, AGAINST), (TREE % 1_000_000, ()),
        (MATRIX, AGAINST), (POINTS, AGAINST),
    ],
)  # fmt: skip
def test_what_was_hit_says_whether_the_score_was_looked_at(body: str, expected: tuple[str, ...]) -> None:
    """A row whose cell is `any`, or a leaf before the question, does not rest on the score; points by hand do."""
    decision = answer(body, FixedScorer(CONTRIBUTIONS))
    assert decision.hold == "review"
    assert told(decision) == expected


@pytest.mark.parametrize(
    ("contributions", "reasons", "expected"),
    [
        ((1.0, 2.0, 3.0, 4.0, 5.0, 0.0), REASONS, ("RC36", "RC35", "RC31", "RC30")),  # four at most
        ((1.0, 0.04, 0.0, 0.0, 0.0, 0.0), REASONS, ("RC11",)),  # 5 % at least
        ((1.0, 0.06, 0.0, 0.0, 0.0, 0.0), REASONS, ("RC11", "RC30")),
        ((1.0, 1.0, 0.0, 0.0, 0.0, 0.0), REASONS, ("RC11", "RC30")),  # equal weights by code
        ((2.0, -1.5, 1.0, 0.0, 0.0, 0.0), ("RC30", "RC30", "RC31", "RC35", "RC36", "RC37"), ("RC31", "RC30")),  # netted
        ((1.0, -1.5, 1.0, 0.0, 0.0, 0.0), ("RC30", "RC30", "RC31", "RC35", "RC36", "RC37"), ("RC31",)),
        ((-1.0, -1.0, 0.0, 0.0, 0.0, 0.0), REASONS, ()),  # nothing weighed against
        ((0.0, 0.1, 0.0, 0.0, 0.0, 9.0), REASONS, ("RC30",)),  # days past due are unknown: no cause
        ((9.0, 1.0, 0.0, 0.0, 0.0, 0.0), ("RC91", *REASONS[1:]), ("RC30",)),
    ],
)
def test_codes_are_netted_weighed_and_limited(
    contributions: tuple[float, ...], reasons: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """Contributions of one code are added, those of null features left out, and what is left is told by weight."""
    decision = answer(rule(SCORED, "{hold: review}"), FixedScorer(contributions), reasons=reasons)
    assert told(decision) == expected
    assert len(expected) <= REASONS_MAX


def test_shares_are_of_all_that_raised_the_risk() -> None:
    """Also of what is too little to be told."""
    scored = card(FixedScorer(CONTRIBUTIONS))
    row = np.zeros(6)
    shares = scored.adverse(row, np.array([6.0, 3.0, 0.8, 0.2, -5.0, 0.0, 1.0]))
    assert [(one.code, pytest.approx(one.share)) for one in shares] == [("RC11", 0.6), ("RC30", 0.3), ("RC31", 0.08)]
