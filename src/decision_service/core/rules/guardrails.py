"""The `guardrails` and `fallback` blocks of a rule set.

guardrails:
  apr_cap: {2026-01-01: 0.24}                    dated; or one number
  limit_step_max: 0.20                           largest raise as a share of the limit
  limit_raise_cooldown: 180d                     no raise this soon after any change of the limit
  hold_expiry: {step_up: 15m, review: 24h}       how long a hold stands
fallback:
  static: {hold: review, reason: RC90}           the answer when nothing can be assessed
  small_amount: 500                              a draw up to this, on a clean snapshot, is paid even then
"""

from __future__ import annotations

from decision_service.core.decision import HOLD_RANK, HoldKind
from decision_service.core.reasons import TEXTS
from decision_service.core.rules.constants import read_dated
from decision_service.core.rules.fields import check_keys, duration_ms, is_number, mapping, number, one_of
from decision_service.core.rules.spec import Fallback, Guardrails
from decision_service.core.source import Findings, MappingNode, Node
from decision_service.core.zone import Zone

_BPS = 10_000


def read_guardrails(node: Node, zone: Zone | None, findings: Findings) -> Guardrails:
    """The guardrails below `guardrails:`; what is wrong is left out and reported."""
    block = mapping(node, "`guardrails`", node.place, findings)
    known = ("apr_cap", "limit_step_max", "limit_raise_cooldown", "hold_expiry")
    if block is None or not check_keys(block, known, (), "`guardrails`", findings):
        return Guardrails()
    cap, step = block.get("apr_cap"), block.get("limit_step_max")
    cooldown, expiry = block.get("limit_raise_cooldown"), block.get("hold_expiry")
    expiries = dict(Guardrails().hold_expiries_ms)
    if expiry is not None:
        expiries |= _expiries(expiry, findings)
    return Guardrails(
        () if cap is None else _caps(cap, zone, findings),
        None if step is None else _share(step, "`limit_step_max`", findings),
        None if cooldown is None else duration_ms(cooldown, "`limit_raise_cooldown`", findings),
        expiries,
    )


def _caps(node: Node, zone: Zone | None, findings: Findings) -> tuple[tuple[int, int], ...]:
    if is_number(node):
        share = _share(node, "`apr_cap`", findings)
        return () if share is None else ((0, round(share * _BPS)),)
    dated = read_dated("apr_cap", node, zone, findings)
    if dated is None:
        return ()
    if not all(0 < value <= 1 for value in dated.values):
        findings.error(node.place, "`apr_cap` must be a ratio", expected="a number such as 0.24 for 24 % a year")
    return tuple((start, round(cap * _BPS)) for start, cap in zip(dated.starts_ms, dated.values, strict=True))


def _share(node: Node, what: str, findings: Findings) -> float | None:
    value = number(node, what, findings)
    if value is not None and not 0 < value <= 1:
        findings.error(node.place, f"{what} must be a ratio", expected="a number above 0, at most 1, such as 0.20")
        return None
    return value


def _expiries(node: Node, findings: Findings) -> dict[str, int]:
    block = mapping(node, "`hold_expiry`", node.place, findings)
    if block is None or not check_keys(block, tuple(HOLD_RANK), (), "`hold_expiry`", findings):
        return {}
    read = {key.text: duration_ms(value, f"`{key.text}`", findings) for key, value in block.items}
    return {kind: expiry for kind, expiry in read.items() if expiry is not None}


def read_fallback(node: Node, findings: Findings) -> Fallback | None:
    """The fallback below `fallback:`."""
    block = mapping(node, "`fallback`", node.place, findings)
    if block is None or not check_keys(block, ("static", "small_amount"), ("static",), "`fallback`", findings):
        return None
    static = mapping(block.get("static"), "`static`", block.place, findings)
    if static is None or not check_keys(static, ("hold", "reason"), ("hold", "reason"), "`static`", findings):
        return None
    hold, reason = _hold(static, findings), read_reason(static, findings)
    small_node = block.get("small_amount")
    small = 0.0 if small_node is None else number(small_node, "`small_amount`", findings)
    if small is not None and small < 0:
        findings.error(block.place, "`small_amount` must not be negative")
        return None
    return None if hold is None or reason is None or small is None else Fallback(hold, reason, small)


def _hold(block: MappingNode, findings: Findings) -> HoldKind | None:
    node = block.get("hold")
    match None if node is None else one_of(node, HOLD_RANK, "kind of hold", findings):
        case "step_up":
            return "step_up"
        case "review":
            return "review"
        case "block":
            return "block"
    return None


def read_reason(block: MappingNode, findings: Findings) -> str | None:
    """The reason code under `reason`; the empty string if there is none, None if it is not a known code."""
    node = block.get("reason")
    return "" if node is None else one_of(node, TEXTS, "reason code", findings)
