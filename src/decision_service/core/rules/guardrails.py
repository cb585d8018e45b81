"""The `guardrails` and `fallback` blocks of a rule set.

guardrails:                                      bounds on what the effects may do, whatever the rules say
  apr_cap: {2026-01-01: 0.24}                    a number, dates with numbers (the first holds before its date, too), or
  limit_cap: licence_cap                         the name of a constant of the same unit, dated or not
  limit_raise_cooldown: 180d                     a duration: likewise, of a constant in `d` or `s`
  tier_dwell: {blue: 30d, yellow: 60d, orange: manual, red: manual}
  hold_expiry: {step_up: 15m, review: 24h}       of each kind; 15 minutes and 24 hours where nothing is said
fallback:
  static: {hold: review, reason: RC90}           the answer when nothing can be assessed
  small_amount: 500                              a draw up to this, on a clean snapshot, is paid even then

`GUARDRAILS` is the whole list, and what the language reference tells about it. What is not given does not bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from decision_service.core.decision import HOLD_RANK, TIER_RANK, HoldKind
from decision_service.core.limits import AMOUNT_MINOR_MAX, DAY_MS, RETENTION_MS, SECOND_MS
from decision_service.core.reasons import TEXTS
from decision_service.core.rules.fields import check_keys, duration_ms, instant_ms, mapping, number, one_of
from decision_service.core.rules.spec import Bound, DatedConstant, Fallback, Guardrails
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, nearest_name
from decision_service.core.vocabulary import NameSpec, Vocabulary
from decision_service.core.zone import Zone

Form = Literal["number", "duration", "tiers", "holds"]
MANUAL: Final = "manual"
_BPS: Final = 10_000
_NOUNS: Final = {"ratio": "a ratio", "bps": "a number of basis points", "money": "an amount in major units"}
_DURATION_UNITS_MS: Final = {"d": DAY_MS, "s": SECOND_MS}


@dataclass(frozen=True, slots=True)
class GuardrailSpec:
    """One guardrail of the language: its key, what its value looks like, and what it bounds.

    `unit` is that of a constant standing for it; a number is above 0 and at most `most`.
    """

    key: str
    form: Form
    unit: str
    most: float
    example: str
    meaning: str

    @property
    def expected(self) -> str:
        """What a value looks like, for an analyst."""
        if self.form == "number":
            return f"{_NOUNS[self.unit]} above 0, at most {self.most:,.15g}, such as {self.example}; or a constant"
        return f"a duration such as {self.example}, or a constant in d or s"


GUARDRAILS: Final = (
    GuardrailSpec("apr_cap", "number", "ratio", 1, "0.24", "highest annual rate; one above is reviewed, not clipped"),
    GuardrailSpec("apr_floor", "number", "ratio", 1, "0.03", "lowest annual rate that a fall may end at"),
    GuardrailSpec("price_step_max_bps", "number", "bps", _BPS, "200", "largest change of the rate at once, up or down"),
    GuardrailSpec("price_cooldown", "duration", "d", math.inf, "180d", "no change of the price this soon after one"),
    GuardrailSpec("limit_step_max", "number", "ratio", 1, "0.20", "largest raise, as a share of the limit"),
    GuardrailSpec(
        "limit_year_max", "number", "ratio", 3, "0.50",
        "raises of the last 365 days and this one together, as a share of the limit before the first of them",
    ),
    GuardrailSpec(
        "limit_cap", "number", "money", AMOUNT_MINOR_MAX / 100, "200000",
        "limits of all open lines of one borrower in the facility's currency together, after a raise",
    ),
    GuardrailSpec("limit_raise_cooldown", "duration", "d", math.inf, "180d", "no raise this soon after a raise"),
    GuardrailSpec("limit_raise_after_cut", "duration", "d", math.inf, "90d", "no raise this soon after a cut"),
    GuardrailSpec("limit_cut_cushion", "number", "ratio", 1, "0.02", "a cut stays this share above what is used"),
    GuardrailSpec(
        "tier_dwell", "tiers", "d", math.inf, "30d",
        "how long each warning tier stands after it was last asserted; `manual`: until a person lowers it",
    ),
    GuardrailSpec("hold_expiry", "holds", "d", math.inf, "24h", "how long a hold of each kind stands"),
)  # fmt: skip
_BY_KEY: Final = {spec.key: spec for spec in GUARDRAILS}
_LOOK_BACK: Final = ("price_cooldown", "limit_raise_cooldown", "limit_raise_after_cut")


def read_guardrails(
    node: Node, vocabulary: Vocabulary, dated: Mapping[str, DatedConstant], zone: Zone | None, findings: Findings
) -> Guardrails:
    """The guardrails below `guardrails:`; what is wrong is left out and reported. `vocabulary` holds the constants that
    may stand for a value, `dated` those of them whose value depends on the date."""
    block = mapping(node, "`guardrails`", node.place, findings)
    if block is None or not check_keys(block, tuple(_BY_KEY), (), "`guardrails`", findings):
        return Guardrails()
    return _Reader(block, vocabulary, dated, zone, findings).read()


class _Reader:
    """Reads the guardrails of one rule set."""

    def __init__(
        self, block: MappingNode, vocabulary: Vocabulary, dated: Mapping[str, DatedConstant], zone: Zone | None,
        findings: Findings,
    ) -> None:  # fmt: skip
        self._block = block
        self._vocabulary = vocabulary
        self._dated = dated
        self._zone = zone
        self._findings = findings

    def read(self) -> Guardrails:
        """All of them."""
        single = {key: self._bound(key) for key, spec in _BY_KEY.items() if spec.form in ("number", "duration")}
        cap, floor = (_in_bps(single[key]) for key in ("apr_cap", "apr_floor"))
        self._refuse_floor_above_cap(floor, cap)
        for key in _LOOK_BACK:
            self._warn_of_a_look_back_too_far(key, single[key])
        return Guardrails(
            cap, floor, single["price_step_max_bps"], single["price_cooldown"], single["limit_step_max"],
            single["limit_year_max"], single["limit_cap"], single["limit_raise_cooldown"],
            single["limit_raise_after_cut"], single["limit_cut_cushion"],
            self._of_each("tier_dwell", tuple(TIER_RANK), required=True),
            {**Guardrails().hold_expiries_ms, **self._of_each("hold_expiry", tuple(HOLD_RANK), required=False)},
        )  # fmt: skip

    def _bound(self, key: str) -> Bound | None:
        node = self._block.get(key)
        return None if node is None else self._value(_BY_KEY[key], f"`{key}`", node)

    def _of_each(self, key: str, names: tuple[str, ...], *, required: bool) -> dict[str, Bound]:
        """A duration of each of some names; of every one of them, if that is required."""
        node = self._block.get(key)
        block = None if node is None else mapping(node, f"`{key}`", node.place, self._findings)
        if block is None:
            return {}
        check_keys(block, names, names if required else (), f"`{key}`", self._findings)
        each = {name.text: value for name, value in block.items if name.text in names}
        read = {name: self._value(_BY_KEY[key], f"`{key}.{name}`", value) for name, value in each.items()}
        return {name: bound for name, bound in read.items() if bound is not None}

    # --- a value --------------------------------------------------------------------------------------------------

    def _value(self, spec: GuardrailSpec, what: str, node: Node) -> Bound | None:
        if isinstance(node, MappingNode):
            return self._by_date(spec, what, node)
        if isinstance(node, Scalar) and node.text[:1].isalpha() and not node.quoted and not _is_manual(spec, node):
            return self._constant(spec, what, node)
        value = self._literal(spec, what, node)
        return None if value is None else Bound((value,))

    def _by_date(self, spec: GuardrailSpec, what: str, node: MappingNode) -> Bound | None:
        pairs = [
            (instant_ms(key, self._zone, self._findings), self._literal(spec, what, value)) for key, value in node.items
        ]
        sound = sorted((start, value) for start, value in pairs if start is not None and value is not None)
        if not pairs:
            self._findings.error(node.place, f"{what} has no dates", expected=f"{{2026-01-31: {spec.example}}}")
        if not pairs or len(sound) < len(pairs):
            return None
        return Bound(tuple(value for _, value in sound), tuple(start for start, _ in sound))

    def _literal(self, spec: GuardrailSpec, what: str, node: Node) -> float | None:
        """A number in range, or a duration in ms."""
        if isinstance(node, Scalar) and _is_manual(spec, node):
            return math.inf
        if spec.form != "number":
            return duration_ms(node, what, self._findings)
        value = number(node, what, self._findings)
        if value is None or self._in_range(spec, what, value, node):
            return value
        return None

    def _in_range(self, spec: GuardrailSpec, what: str, value: float, node: Node) -> bool:
        if 0 < value <= spec.most:
            return True
        self._findings.error(
            node.place, f"{what}: {value:,.15g} is out of range", expected=spec.expected,
            length=len(node.text) if isinstance(node, Scalar) else 1,
        )  # fmt: skip
        return False

    # --- the name of a constant -----------------------------------------------------------------------------------

    def _constant(self, spec: GuardrailSpec, what: str, node: Scalar) -> Bound | None:
        named = self._vocabulary.get(node.text)
        bound = None if named is None else _bound_of(named, self._dated)
        if named is None or bound is None:
            known = [name for name, other in self._vocabulary.items() if _bound_of(other, self._dated) is not None]
            self._findings.error(
                node.place, f"{what}: `{node.text}` is no constant with a number", expected=spec.expected,
                nearest=nearest_name(node.text, known), length=len(node.text),
            )  # fmt: skip
            return None
        factor = self._factor(spec, what, named, node.place)
        if factor is None or not all(self._in_range(spec, what, value, node) for value in bound.values):
            return None
        return Bound(tuple(value * factor for value in bound.values), bound.starts_ms)

    def _factor(self, spec: GuardrailSpec, what: str, named: NameSpec, place: Place) -> float | None:
        """What a constant's value is multiplied by, or None if its unit does not fit."""
        if spec.form == "number" and named.unit in ("", spec.unit):
            return 1.0
        if spec.form != "number" and named.unit in _DURATION_UNITS_MS:
            return _DURATION_UNITS_MS[named.unit]
        unit = f"the unit `{named.unit}`" if named.unit else "no unit"
        self._findings.error(
            place, f"{what}: the constant `{named.name}` has {unit}",
            expected=f"`unit: {spec.unit}`" if spec.form == "number" else "`unit: d` or `unit: s`",
            length=len(named.name),
        )  # fmt: skip
        return None

    # --- what does not go together --------------------------------------------------------------------------------

    def _refuse_floor_above_cap(self, floor: Bound | None, cap: Bound | None) -> None:
        node = self._block.get("apr_floor")
        if floor is None or cap is None or node is None:
            return
        if any(floor.at(t_ms) > cap.at(t_ms) for t_ms in (*floor.starts_ms, *cap.starts_ms)):
            self._findings.error(
                node.place, "`apr_floor` is above `apr_cap`", expected="a floor below the cap of its day"
            )

    def _warn_of_a_look_back_too_far(self, key: str, wait: Bound | None) -> None:
        node = self._block.get(key)
        if wait is not None and node is not None and max(wait.values) > RETENTION_MS:
            self._findings.warning(
                node.place, f"`{key}` looks further back than events are kept",
                expected=f"at most {RETENTION_MS // DAY_MS}d; what is no longer known counts as a change",
            )  # fmt: skip


def _is_manual(spec: GuardrailSpec, node: Scalar) -> bool:
    return spec.form == "tiers" and node.text == MANUAL


def _bound_of(named: NameSpec, dated: Mapping[str, DatedConstant]) -> Bound | None:
    """A constant as a bound; None if it is none, or not of a number."""
    if isinstance(named.constant, float):
        return Bound((named.constant,))
    constant = dated.get(named.name)
    return None if constant is None else Bound(constant.values, constant.starts_ms)


def _in_bps(rate: Bound | None) -> Bound | None:
    """Whole basis points: a hair above the cap is above it."""
    return None if rate is None else Bound(tuple(float(round(v * _BPS)) for v in rate.values), rate.starts_ms)


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
