"""What the backtest's tests share: throw-away policies with effects of every sort, random customers, and decisions of a
plain `decide` as batches."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from decision_service.backtest.batch import Batch, ScoredBefore
from decision_service.backtest.engine import SceneEngine
from decision_service.backtest.outcome import HOLDS, LIMITS
from decision_service.core.decide import HISTORY_LOST, decide
from decision_service.core.decision import Decision
from decision_service.core.event import APPROVED, BOOKED, KINDS, Event, code_key, facility_key, header
from decision_service.core.expressions.columns import Texts
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.money import SCALES
from decision_service.core.policy import Policy, compile_policy
from decision_service.core.request import DecisionRequest
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Findings
from decision_service.core.state import CustomerState
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_text

T_MS = 1_782_000_000_000  # 2026-06-21
FALLBACK = "fallback: {static: {hold: review, reason: RC90}}\n"
ATTRIBUTES = """
attributes:
  x1: {type: number, unit: ratio, source: s, ttl: 35d, meaning: "a share", meaning_zh: "甲"}
  x2: {type: number, unit: ratio, source: s, ttl: 35d, meaning: "a share", meaning_zh: "乙"}
  x3: {type: number, unit: money, source: s, ttl: 35d, meaning: "an amount", meaning_zh: "丙"}
  x4: {type: number, unit: bps, source: s, ttl: 35d, meaning: "basis points", meaning_zh: "丁"}
  kind: {type: string, source: s, ttl: 35d, meaning: "a word", meaning_zh: "戊"}
"""
FEATURES = """
segments:
  draw: kind == "drawdown"
features:
  vel: {agg: count, of: draw, windows: [30d], null: Z, unit: n, en: "draws", zh: "支用次数"}
"""
MORE_FEATURES = """
constants:
  city_km: 30
segments:
  draw: kind == "drawdown"
  paid: kind == "repayment" and facility == request.facility_id
  to_payee: kind == "drawdown" and counterparty == request.counterparty_id
  on_device: kind == "drawdown" and device == request.device_id
  placed: has_place and kind == "drawdown"
features:
  vel: {agg: count, of: draw, windows: [30d], null: Z, unit: n, en: "draws", zh: "支用次数"}
  big: {agg: sum, of: draw, value: amount, incl: true, windows: [7d, 90d], null: Z, unit: money, en: "drawn", zh: "额"}
  back: {agg: count, of: paid, windows: [90d], null: Z, unit: n, en: "paid", zh: "还款"}
  payee: {agg: count, of: to_payee, windows: [90d], null: Z, unit: n, en: "to the payee", zh: "户"}
  device: {agg: count, of: on_device, windows: [90d], null: Z, unit: n, en: "on the device", zh: "机"}
  moved: {agg: km_last, of: placed, window: 90d, null: N1, unit: km, en: "kilometres", zh: "公里"}
  granted: {agg: grant_age, null: X, unit: s, en: "seconds since the grant", zh: "秒"}
derived:
  rush: {expr: vel_30d + big_7d / 1000, null: D, unit: n, en: "rush", zh: "急"}
  far: {expr: moved / city_km + x1, null: X, unit: n, en: "cities", zh: "城"}
"""
CONDITIONS = (
    "x1 > 0.5", "x2 < 0.3 or x1 > 0.9", "request.amount > 500", "facility.apr < 0.19", "x3 >= 300", "not (x1 > 0.2)",
    "facility.available < request.amount", "request.channel == \"app\"", "kind in [\"a\", \"b\"]",
    "request.amount >= 0",
    "is_null(x2)", "request.customer_id in list.block", "x1 + x2 > dated", "facility.outstanding > 200",
    "p.points > 510", "p.grade == \"A\"", "vel_30d >= 1",
)  # fmt: skip
FIXED = (
    "approve", "{hold: step_up}", "{hold: review}", "{hold: block}", "{limit: freeze}", "{tag: t1}", "{tag: t2}",
    "{offer: o1}", "{renew: auto}", "{renew: manual}", "{renew: decline}", "{alert: {tier: yellow, indicator: i1}}",
    "{alert: {tier: red, indicator: i1}}", "{alert: {tier: blue, indicator: i2}}", "[approve, {tag: t3}]",
)  # fmt: skip
COMPUTED = (
    "{cap_draw: x3}", "{cap_draw: x1 * request.amount}", "{cap_draw: 400}", "{limit: {raise: x2}}",
    "{limit: {raise: 0.15}}", "{limit: {cut: x1}}", "{limit: {cut: 0.3}}", "{limit: {set: 2 * x3}}",
    "{price: {add_bps: x4}}", "{price: {set_apr: x1 / 4}}", "{price: {add_bps: 30}}", "[approve, {cap_draw: x3}]",
    "[{hold: step_up}, {price: {add_bps: x4}}]", "{price: {set_apr: 0.18}}",
)  # fmt: skip
GUARDRAILS = (
    "", "guardrails: {apr_cap: 0.24}", "guardrails: {apr_cap: {2026-01-01: 0.20, 2026-06-20: 0.22}, apr_floor: 0.10}",
    "guardrails: {price_step_max_bps: 50, limit_step_max: 0.1, limit_cut_cushion: 0.05}",
    "guardrails: {price_cooldown: 90d, limit_raise_cooldown: 180d, limit_step_max: 0.2}",
    "guardrails: {limit_year_max: 0.5, limit_raise_after_cut: 90d, limit_cap: 2000, apr_cap: 0.3}",
    "guardrails: {tier_dwell: {blue: 30d, yellow: 60d, orange: manual, red: manual}, limit_cap: 1500}",
)  # fmt: skip
SCENES = ("drawdown", "drawdown", "warning", "limit", "price", "marketing", "renewal")


def wild_rules(rng: random.Random, scene: str) -> str:
    """A rule set of a scene: anything may be asked for, under any condition."""
    gentle = rng.random() < 0.7  # nobody holds, or nothing else would ever be seen
    effects = [
        effect for effect in FIXED + COMPUTED + COMPUTED if not (gentle and ("hold" in effect or "freeze" in effect))
    ]
    unknown = ["skip", "fire"] if gentle else ["hold", "skip", "fire", "{hold: step_up}"]
    blocks = ["skip"] if gentle else ["hold", "skip", "{hold: block}"]

    def one() -> str:
        return rng.choice(effects)

    rules = [
        f"  - {{id: r{i}, when: '{rng.choice(CONDITIONS)}', on_null: {rng.choice(unknown)},"
        f" then: {one()}, reason: RC{rng.choice([10, 11, 20, 30])}}}"
        for i in range(rng.randint(2, 9))
    ]  # fmt: skip
    cells = "\n".join(f"      {row}: [{one()}, {one()}, nothing]" for row in ("a", "b", '"null"'))
    return f"""
rule_set: {scene}
scene: {scene}
constants:
  dated: {{effective_from: {{2026-01-01: 0.5, 2026-06-21: 1.2}}}}
points:
  - id: p
    base: 500
    of:
      - {{value: x1, bins: {{"<= 0.3": 30, "> 0.3 and <= 0.8": 10, "> 0.8": -20}}}}
      - {{value: request.channel, bins: {{app: 5, any: 0}}}}
    grades: {{A: 520, B: 500, C: 0}}
rules:
  - {{id: seen, when: vel_30d >= 0, on_null: skip, then: {{tag: seen}}}}
{chr(10).join(rules)}
matrices:
  - id: m
    rows: kind in [a, b, "null"]
    columns: x2 <= [0.3, 0.7, inf]
    cells:
{cells}
    on_null: {rng.choice(blocks)}
    reason: RC30
tables:
  - id: first
    hit: first
    inputs: [p.grade, x1 + x2]
    rows:
      - {{if: [A, "> 0.4"], then: {one()}}}
      - {{if: [[B, C], any], then: {one()}, reason: RC11}}
    otherwise: {one()}
    on_null: {rng.choice(blocks)}
    reason: RC31
  - id: every
    hit: all
    inputs: [x1, facility.apr]
    rows:
      - {{if: ["> 0.5", any], then: {one()}}}
      - {{if: [any, "< 0.19"], then: {one()}}}
      - {{if: ["<= 0.9", ">= 0.1"], then: {one()}}}
    otherwise: {one()}
    on_null: {rng.choice(blocks)}
    reason: RC32
trees:
  - id: way
    root: {{if: x2 > 0.5, then: {{if: x3 > 400, then: {one()}, else: {one()}}}, else: {one()}}}
    on_null: {rng.choice(blocks)}
    reason: RC20
{rng.choice(GUARDRAILS)}
{FALLBACK}"""


def compiled(
    rule_sets: Sequence[str], features: str = FEATURES, cards: dict[str, Scorecard] | None = None, lists: Any = None
) -> Policy:
    """A policy of these rule sets."""
    findings = Findings()
    files = {
        "policy.yaml": 'label: "test"\nlists: [block]\n',
        "attributes.yaml": ATTRIBUTES,
        "features/f.yaml": features,
    }
    files |= {f"{i}.yaml": text for i, text in enumerate(rule_sets)}
    documents = {name: read_text(text, name, findings) for name, text in files.items()}
    known = {name: document for name, document in documents.items() if document is not None}
    members = {"block": frozenset({"c-1", "c-7"})} if lists is None else lists
    return compile_policy(known, cards or {}, zone_named("Asia/Shanghai"), HOUR_MS, findings, members)


def random_asked(rng: random.Random, scene: str, number: int) -> tuple[DecisionRequest, CustomerState]:
    """A question and what is known of the customer: lines, attributes, a log that may have been trimmed."""
    customer, t_ms = f"c-{rng.randint(0, 30)}", T_MS + rng.randint(0, 2 * DAY_MS)
    currency = rng.choice(["CNY", "JPY", "BHD"])
    scale = SCALES[currency]
    line = Facility(
        "f-1", customer, rng.choice(["revolver", "other"]), currency, rng.choice([1_000, 1_237]) * scale,
        rng.choice([0, 200, 900]) * scale, t_ms - rng.choice([1, 400]) * DAY_MS, rng.choice([1_800, 1_950, 2_300, 900]),
        rng.choice(["active", "frozen"]), t_ms - 500 * DAY_MS,
    )  # fmt: skip
    lines = {"f-1": line}
    if rng.random() < 0.3:
        lines["f-2"] = _other(line)
    kinds = [KINDS["drawdown"], KINDS["limit_change"], KINDS["rate_change"], KINDS["repayment"], KINDS["other"]]
    events = [
        Event(
            i + 1, rng.choice(kinds), rng.choice([BOOKED, APPROVED]), t_ms - rng.randint(0, 300) * DAY_MS,
            rng.randint(0, 300) * scale, rng.choice([1.0, 100.0, -100.0]), facility=facility_key("f-1"),
            code=rng.choice([0, code_key("warning_tier")]),
        )
        for i in range(rng.choice([0, 0, 1, 3, 6]))
    ]  # fmt: skip
    trimmed = rng.random() < 0.05
    log = (header(5, t_ms - 10 * DAY_MS) if trimmed else header()) + b"".join(event.pack() for event in events)

    def attributes() -> dict[str, float | str]:
        some: dict[str, float | str] = {
            "x1": rng.choice([0.0, 0.1, 0.29, 0.5, 0.7, 0.95, 1.0]), "x2": rng.choice([0.0, 0.25, 0.3, 0.6, 1.2]),
            "x3": rng.choice([0.0, 0.4, 120.5, 333.33, 800.0]), "x4": rng.choice([-300.0, 0.0, 12.5, 45.0, 800.0]),
            "kind": rng.choice(["a", "b", "c"]),
        }  # fmt: skip
        return {name: value for name, value in some.items() if rng.random() < 0.6}

    stored = {name: Attribute(value, t_ms - rng.choice([0, 50]) * DAY_MS) for name, value in attributes().items()}
    amount = rng.choice([1, 100, 333, 1_000]) * scale + rng.choice([0, 1]) if scene == "drawdown" else 0
    request = DecisionRequest(
        f"r-{number}", customer, "f-1", amount, currency if scene == "drawdown" or rng.random() < 0.5 else "", t_ms,
        rng.choice([None, "app", "web"]), None, None, None, None, None, None, b"", b"{}", attributes(), scene=scene,
    )  # fmt: skip
    return request, CustomerState(1, log, lines, stored)


def _other(line: Facility) -> Facility:
    return Facility(
        "f-2", line.customer_id, line.product, line.currency, line.limit_minor // 2, 0, line.as_of_ms, 1_000, "active",
        line.granted_at_ms,
    )  # fmt: skip


@dataclass
class Case:
    """One archived decision and what is needed to make it again."""

    request: DecisionRequest
    state: CustomerState
    before: Decision

    def again(self, policy: Policy) -> Decision:
        """The same question under another policy."""
        return decide(self.request, self.state, policy, self.before.decided_at_ms, self.before.decision_id)


def cases(policy: Policy, scene: str, count: int, seed: int) -> list[Case]:
    """Random decisions of a policy."""
    rng, made = random.Random(seed), []
    for number in range(count):
        request, state = random_asked(rng, scene, number)
        assert request.occurred_at_ms is not None
        before = decide(request, state, policy, request.occurred_at_ms, f"p000{number:032x}")
        made.append(Case(request, state, before))
    return made


def batch_of(policy: Policy, engine: SceneEngine, made: Sequence[Case], lists: Mapping[str, frozenset[str]]) -> Batch:
    """Those decisions as an archive would give them."""
    scene = policy.scenes[engine.scene.name]
    traces = [case.before.trace for case in made]
    matrix = np.array([np.frombuffer(trace.numbers, "<f8") for trace in traces if trace is not None])
    texts = {
        name: Texts.of([trace.strings[scene.string_names.index(name)] for trace in traces if trace is not None])
        for name in engine.texts
        if name in scene.string_names
    }
    lost = [any(r.source == HISTORY_LOST.source for r in case.before.reasons) for case in made]
    scored = {
        s.scorecard.name: ScoredBefore(np.zeros(len(made), np.int32), (s.scorecard.manifest.sha256,))
        for s in scene.score_slots
    }
    return Batch(
        scene.name, matrix, {name: i for i, name in enumerate(scene.number_names)}, texts,
        np.array([case.request.occurred_at_ms for case in made], np.int64),
        np.array([case.request.amount_minor for case in made], np.int64),
        np.array([SCALES[case.before.currency] for case in made], np.int64), np.array(lost, np.bool_),
        [case.request.customer_id for case in made], scored,
        np.array([-1 if c.before.tier is not None else 0 for c in made], np.int8), {}, lists,
    )  # fmt: skip


def told(decision: Decision) -> dict[str, Any]:
    """A plain decision with the words of `Outcomes.answer`."""
    change = decision.limit_change
    assert decision.hold is None or decision.hold in HOLDS
    assert change is None or change.kind in LIMITS
    return {
        "decision": decision.decision,
        "approved_minor": decision.approved_minor,
        "hold": decision.hold,
        "price_bps": None if decision.reprice is None else decision.reprice.to_bps,
        "limit": None if change is None else change.kind,
        "limit_to_minor": None if change is None else change.to_minor,
        "renewal": decision.renewal,
        "tier": None if decision.tier is None else decision.tier.to_tier,
        "alerts": sorted((a.tier, a.indicator) for a in decision.alerts),
        "offers": sorted(decision.offers),
        "tags": sorted(decision.tags),
        "reasons": sorted((r.code, r.source) for r in decision.reasons if not r.source.startswith("scorecard:")),
    }
