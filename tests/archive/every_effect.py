"""A policy that does everything a policy can do: each effect when the question's purpose asks for it, each sort of
block, features of every grain, a rule set for every scene."""

# ruff: noqa: E501  # its rules read best as one line each

from __future__ import annotations

from typing import Final

_FEATURES: Final = """
segments:
  draw: kind == "drawdown"
  paid: kind == "repayment"
features:
  vel_prior: {agg: count, of: draw, windows: [10m, 30d], null: Z, unit: n, en: "requests", zh: "请求数"}
  vol_mean: {agg: mean, of: draw, value: amount, windows: [30d, 365d], null: [D], unit: money, en: "mean", zh: "均值"}
  vol_std: {agg: std, of: draw, value: amount, windows: [365d], null: [N2], unit: money, en: "spread", zh: "离散"}
  vel_paid: {agg: count, of: paid, windows: [30d], null: Z, unit: n, en: "repayments", zh: "还款次数"}
  payee_draws: {agg: count, of: draw, grain: payee, window: 7d, null: [Z, X], unit: n, en: "draws", zh: "支用次数"}
  device_draws: {agg: count, of: draw, grain: device, window: 7d, null: [Z, X], unit: n, en: "draws", zh: "支用次数"}
  ip_people: {agg: distinct, of: draw, by: customer, grain: ip, window: 7d, null: [Z, X], unit: n, en: "people", zh: "人"}
derived:
  mix_shared: {expr: "payee_draws / (1 + device_draws)", null: [D], unit: ratio, en: "of both", zh: "混合"}
"""
_ATTRIBUTES: Final = """
attributes:
  income: {type: number, unit: money, source: bank, ttl: 30d, meaning: "income", meaning_zh: "收入"}
  segment: {type: string, source: crm, ttl: 400d, meaning: "segment", meaning_zh: "客群"}
"""
_DRAWDOWN: Final = """
rule_set: drawdown
scene: drawdown
constants:
  burst: {value: 6, unit: n}
rules:
  - {id: on_list, when: request.customer_id in list.block, on_null: hold, then: {hold: block}, reason: RC01}
  - {id: payee_allowed, when: request.counterparty_id in list.allow, then: {tag: allowed}}
  - {id: over_limit, when: request.amount > facility.available, on_null: hold, then: {hold: block}, reason: RC04}
  - {id: burst, when: vel_prior_10m >= burst, on_null: skip, then: {hold: step_up}, reason: RC11}
  - {id: shared_device, when: device_draws >= 9, on_null: skip, then: {hold: review}, reason: RC18}
  - {id: shared, when: mix_shared > 2 or ip_people > 6, on_null: skip, then: {tag: shared}}
  - {id: poor, when: income < 1000, on_null: skip, then: {alert: {tier: orange, indicator: poor}}, reason: RC30}
  - id: unknown_income
    when: income * 0 > 1 and request.purpose == "must_know"
    on_null: hold
    then: {hold: review}
    reason: RC30
  - {id: asks_cap, when: request.purpose == "cap", then: {cap_draw: 0.5 * request.amount}, reason: RC20}
  - {id: asks_freeze, when: request.purpose == "freeze", on_null: skip, then: {limit: freeze}, reason: RC20}
  - {id: asks_cut, when: request.purpose == "cut", then: {limit: {cut: 0.25}}, reason: RC20}
  - {id: asks_dearer, when: request.purpose == "dearer", then: {price: {add_bps: 75}}, reason: RC30}
  - {id: asks_cheaper, when: request.purpose == "cheaper", then: {price: {set_apr: 0.10}}, reason: RC30}
  - {id: asks_offer, when: request.purpose == "offer", then: [{offer: coupon}, {tag: offered}]}
  - {id: asks_step_up, when: request.purpose == "step_up", on_null: skip, then: {hold: step_up}, reason: RC10}
points:
  - id: intent
    base: 500
    of:
      - {value: request.amount / facility.limit, bins: {"<= 0.3": 30, any: 0}}
      - {value: facility.product, bins: {revolver: -20, any: 0}}
    grades: {A: 520, B: 505, C: 0}
tables:
  - id: by_intent
    hit: first
    inputs: [intent.grade, facility.age_d]
    rows:
      - {if: [A, any], then: approve}
      - {if: [B, ">= 30"], then: [approve, {tag: fair}], id: fair}
    otherwise: approve
    on_null: hold
    reason: RC30
trees:
  - id: size
    root: {if: request.amount > 50, then: {tag: large}, else: nothing}
    on_null: skip
guardrails: {apr_cap: {2026-01-01: 0.24}, price_step_max_bps: 50}
fallback: {static: {hold: review, reason: RC90}, small_amount: 500}
"""
_FALLBACK: Final = "fallback: {static: {hold: review, reason: RC90}}\n"
_REVIEWS: Final = {
    "limit.yaml": """
rule_set: limit
scene: limit
rules:
  - {id: freeze, when: request.purpose == "freeze", on_null: skip, then: {limit: freeze}, reason: RC20}
  - {id: cut, when: request.purpose == "cut", then: {limit: {cut: 0.5}}, reason: RC20}
  - {id: set, when: request.purpose == "set", then: {limit: {set: 1.5 * facility.limit}}, reason: RC20}
  - {id: raise, when: request.purpose == "raise", then: {limit: {raise: 0.10}}}
  - {id: nothing_else, when: facility.limit >= 0, then: approve}
guardrails: {limit_step_max: 0.2, limit_raise_cooldown: 2d, limit_cut_cushion: 0.1}
""",
    "price.yaml": """
rule_set: price
scene: price
rules:
  - {id: dearer, when: facility.apr < 0.19, then: {price: {add_bps: 50}}, reason: RC30}
  - {id: cheaper, when: vel_paid_30d >= 2, then: {price: {set_apr: 0.15}}, reason: RC30}
  - {id: nothing_else, when: facility.limit >= 0, then: approve}
guardrails: {price_cooldown: 1d, apr_floor: 0.12}
""",
    "warning.yaml": """
rule_set: warning
scene: warning
rules:
  - {id: busy, when: vel_prior_30d >= 3, then: {alert: {tier: yellow, indicator: busy}}}
  - {id: very_busy, when: vel_prior_30d >= 8, then: {alert: {tier: orange, indicator: busy}}}
  - {id: nothing_else, when: facility.limit >= 0, then: approve}
guardrails: {tier_dwell: {blue: 30d, yellow: 60d, orange: manual, red: manual}}
""",
    "marketing.yaml": """
rule_set: marketing
scene: marketing
rules:
  - {id: idle, when: vel_prior_30d <= 1, then: {offer: coupon}}
  - {id: nothing_else, when: facility.limit >= 0, then: approve}
""",
    "renewal.yaml": """
rule_set: renewal
scene: renewal
rules:
  - {id: never, when: vel_paid_30d == 0 and request.purpose == "strict", then: {renew: decline}}
  - {id: person, when: vel_paid_30d == 0, then: {renew: manual}}
  - {id: good, when: vel_paid_30d > 0, then: {renew: auto}}
""",
}
EVERY_EFFECT: Final = {
    "policy.yaml": 'label: "every effect"\nlists: [block, allow]\nrecord: [vol_mean_365d, vol_std_365d, vel_paid_30d]\n',
    "attributes.yaml": _ATTRIBUTES,
    "features/all.yaml": _FEATURES,
    "drawdown.yaml": _DRAWDOWN,
    **{name: text + _FALLBACK for name, text in _REVIEWS.items()},
}
"""File name below the rules folder to its text."""
