"""What a rule may ask for, as an analyst writes it.

    hold: step_up | review | block            do not pay out now
    cap_draw: 0.8 * request.amount            pay out at most this (major units)
    limit: freeze                             or {raise: 0.10}, {cut: 0.20} (shares of the limit), {set: expression}
    price: {add_bps: 100}                     or {set_apr: 0.18}; new draws only
    alert: {tier: yellow, indicator: name}    a warning beside the outcome
    offer: name · tag: name · renew: auto | manual | decline
    approve                                   explicitly nothing against it
    nothing                                   asks for nothing: a cell, a row or a leaf must say something

One effect, a mapping of several, or a list of either; `nothing` stands alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from decision_service.core.decision import (
    HOLD_RANK,
    TIER_RANK,
    Action,
    Alert,
    Approve,
    CapDraw,
    ChangeLimit,
    ChangePrice,
    Hold,
    Offer,
    Renew,
    Tag,
)
from decision_service.core.expressions.parse import parse_number
from decision_service.core.expressions.units import check_unit
from decision_service.core.rules.amounts import check_amount
from decision_service.core.rules.fields import check_keys, identifier, one_of, scalar
from decision_service.core.rules.near_misses import meant_effect, meant_hold
from decision_service.core.rules.spec import ComputedEffect, ComputedSort, EffectSpec, FixedEffect, OnNull
from decision_service.core.source import Findings, MappingNode, Node, Scalar, SequenceNode, nearest_name
from decision_service.core.vocabulary import Vocabulary

_SORTS: Final = ("hold", "cap_draw", "limit", "price", "alert", "offer", "renew", "tag", "approve")
_UNITS: Final[dict[ComputedSort, str]] = {
    "cap_draw": "money", "set": "money", "raise": "ratio", "cut": "ratio", "add_bps": "bps", "set_apr": "ratio",
}  # fmt: skip
NOTHING: Final = "nothing"
_RENEWALS: Final = ("auto", "manual", "decline")
_ADVERSE: Final = (Hold, CapDraw, ChangeLimit, ChangePrice)


class EffectReader:
    """Reads effects over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary, findings: Findings) -> None:
        self._vocabulary = vocabulary
        self._findings = findings

    def read(self, node: Node) -> tuple[EffectSpec, ...] | None:
        """The effects that `node` asks for (none for `nothing`), or None if anything is wrong with them."""
        if isinstance(node, Scalar) and node.text == NOTHING:
            return ()
        if isinstance(node, SequenceNode):
            parts = [self.read(item) for item in node]
        elif isinstance(node, MappingNode):
            parts = [self._keyed(key, value) for key, value in node.items]
        elif node.text == "approve":
            parts = [(FixedEffect(Approve(), node.place),)]
        else:
            parts = [self._unknown(node)]
        if not parts or any(part == () for part in parts):
            self._findings.error(
                node.place, "no effect is asked for",
                expected="`approve` if nothing is against it, or `nothing` alone if this block has no say",
            )  # fmt: skip
            return None
        if None in parts:
            return None
        return tuple(effect for part in parts if part is not None for effect in part)

    def on_null(self, node: Node, may_fire: bool) -> OnNull | None:
        """What to do when the condition is unknown: fire, skip, hold (a review) or `{hold: kind}`."""
        if isinstance(node, MappingNode) and node.keys() == ("hold",):
            return self._hold_kind(node.items[0][1])
        if isinstance(node, Scalar) and node.text in HOLD_RANK:
            self._findings.error(
                node.place, f"`on_null`: `{node.text}` is a kind of hold", expected=f"`on_null: {{hold: {node.text}}}`",
                length=len(node.text),
            )  # fmt: skip
            return None
        words = ("fire", "skip", "hold") if may_fire else ("skip", "hold")
        match one_of(node, words, "`on_null`", self._findings):
            case "fire":
                return "fire"
            case "skip":
                return "skip"
            case "hold":
                return "review"
        return None

    def _keyed(self, key: Scalar, value: Node) -> tuple[EffectSpec, ...] | None:
        reader = _READERS.get(key.text)
        if reader is None:
            return self._alone(key) if key.text in ("approve", NOTHING) else self._unknown(key)
        effect = reader(self, value)
        return None if effect is None else (effect,)

    def _alone(self, key: Scalar) -> tuple[EffectSpec, ...] | None:
        beside = ", in a list beside others" if key.text == "approve" else " and alone"
        self._findings.error(
            key.place, f"`{key.text}` takes no value", expected=f"`{key.text}` as it is{beside}", length=len(key.text)
        )
        return None

    def _unknown(self, node: Scalar) -> tuple[EffectSpec, ...] | None:
        if node.text in _READERS:
            message, expected = f"`{node.text}` needs to say which", f"`{{{node.text}: ...}}`"
            self._findings.error(node.place, message, expected=expected, length=len(node.text))
            return None
        self._findings.error(
            node.place, f"unknown effect `{node.text}`", expected=meant_effect(node.text) or ", ".join(_SORTS),
            nearest=nearest_name(node.text, (*_SORTS, NOTHING)), length=max(1, len(node.text)),
        )  # fmt: skip
        return None

    def _hold_kind(self, node: Node) -> OnNull | None:
        if isinstance(node, Scalar) and node.text not in HOLD_RANK:
            self._findings.error(
                node.place, f"kind of hold: `{node.text}` is not known", expected=", ".join(HOLD_RANK),
                nearest=meant_hold(node.text, tuple(HOLD_RANK)), length=max(1, len(node.text)),
            )  # fmt: skip
            return None
        match one_of(node, HOLD_RANK, "kind of hold", self._findings):
            case "step_up":
                return "step_up"
            case "review":
                return "review"
            case "block":
                return "block"
        return None

    def _hold(self, node: Node) -> EffectSpec | None:
        kind = self._hold_kind(node)
        if kind is None or kind == "fire" or kind == "skip":
            return None
        return FixedEffect(Hold(kind), node.place)

    def _cap_draw(self, node: Node) -> EffectSpec | None:
        return self._computed("cap_draw", node)

    def _limit(self, node: Node) -> EffectSpec | None:
        if isinstance(node, Scalar) and node.text == "freeze":
            return FixedEffect(ChangeLimit("freeze"), node.place)
        return self._one_of_computed(
            node, "limit", ("raise", "cut", "set"), "`freeze`, {raise: 0.10}, {cut: 0.20} or {set: 5000}"
        )

    def _price(self, node: Node) -> EffectSpec | None:
        return self._one_of_computed(node, "price", ("add_bps", "set_apr"), "{add_bps: 100} or {set_apr: 0.18}")

    def _one_of_computed(
        self, node: Node, what: str, sorts: tuple[ComputedSort, ...], expected: str
    ) -> EffectSpec | None:
        if not isinstance(node, MappingNode) or len(node.items) != 1:
            self._findings.error(node.place, f"`{what}` takes one change", expected=expected)
            return None
        key, value = node.items[0]
        sort = next((sort for sort in sorts if sort == key.text), None)
        if sort is None:
            self._findings.error(
                key.place, f"unknown change `{key.text}` of the {what}", expected=expected,
                nearest=nearest_name(key.text, sorts), length=len(key.text),
            )  # fmt: skip
            return None
        return self._computed(sort, value)

    def _computed(self, sort: ComputedSort, node: Node) -> EffectSpec | None:
        text = scalar(node, f"`{sort}`", self._findings)
        if text is None:
            return None
        amount = parse_number(text.text, text.place, self._vocabulary, self._findings)
        if amount is None:
            return None
        if check_unit(amount, _UNITS[sort], f"`{sort}`", len(text.text), self._findings):
            check_amount(amount, sort, len(text.text), self._findings)
        return ComputedEffect(sort, amount, text.place, text.text)

    def _alert(self, node: Node) -> EffectSpec | None:
        if not isinstance(node, MappingNode):
            self._findings.error(node.place, "`alert` takes two things", expected="{tier: yellow, indicator: name}")
            return None
        if not check_keys(node, ("tier", "indicator"), ("tier", "indicator"), "`alert`", self._findings):
            return None
        tier_node, indicator_node = node.get("tier"), node.get("indicator")
        assert tier_node is not None, "check_keys saw to it"
        assert indicator_node is not None, "check_keys saw to it"
        tier = one_of(tier_node, TIER_RANK, "tier", self._findings)
        indicator = identifier(indicator_node, "`indicator`", self._findings)
        return None if tier is None or indicator is None else FixedEffect(Alert(tier, indicator), node.place)

    def _offer(self, node: Node) -> EffectSpec | None:
        name = identifier(node, "`offer`", self._findings)
        return None if name is None else FixedEffect(Offer(name), node.place)

    def _tag(self, node: Node) -> EffectSpec | None:
        name = identifier(node, "`tag`", self._findings)
        return None if name is None else FixedEffect(Tag(name), node.place)

    def _renew(self, node: Node) -> EffectSpec | None:
        how = one_of(node, _RENEWALS, "`renew`", self._findings)
        return None if how is None else FixedEffect(Renew(how), node.place)


_READERS: Final[dict[str, Callable[[EffectReader, Node], EffectSpec | None]]] = {
    "hold": EffectReader._hold, "cap_draw": EffectReader._cap_draw, "limit": EffectReader._limit,
    "price": EffectReader._price, "alert": EffectReader._alert, "offer": EffectReader._offer,
    "renew": EffectReader._renew, "tag": EffectReader._tag,
}  # fmt: skip


def is_adverse(effect: EffectSpec) -> bool:
    """Whether the customer may ask why: a hold, a cap, a freeze, a cut, a price."""
    if isinstance(effect, FixedEffect):
        return isinstance(effect.action, _ADVERSE)
    return effect.sort != "raise"


def holds(effect: EffectSpec) -> bool:
    """Whether an effect holds the draw: a hold, or a freeze, beside which nothing is paid out."""
    return isinstance(effect, FixedEffect) and isinstance(effect.action, (Hold, ChangeLimit))


def action_of(effect: EffectSpec) -> Action | None:
    """The action, where it is known when the policy compiles."""
    return effect.action if isinstance(effect, FixedEffect) else None
