"""Reading the inline tests of rules and blocks (`rehearsal.py` runs them).

    tests:
      - {given: {vel_req_cnt_10m: 4}, expect: fires, asks: {hold: step_up}}
      - {given: {vel_req_cnt_10m: 3, vel_req_cnt_1h: 5}, expect: silent}
      - {given: {}, expect: unknown, asks: nothing}
      - {given: {behaviour.grade: C, utl_after: 0.9}, expect: C/0.95}      of a matrix: the cell
      - {given: {list.block: [c-1], request.customer_id: c-1}, at: 2026-07-01, expect: fires}

A name that is not given is null. `at` is the decision instant for dated constants; without it the last date holds.
`asks` are all effects that are asked for then, written as in `then`; without it the test says nothing about them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from decision_service.core.expressions.names import names_in
from decision_service.core.rules.effects import EffectReader
from decision_service.core.rules.fields import (
    check_keys,
    instant_ms,
    is_number,
    mapping,
    number,
    one_of,
    scalar,
    sequence,
)
from decision_service.core.rules.spec import NOTHING_KNOWN, ComputedEffect, EffectSpec, TestSpec
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, SequenceNode, nearest_name
from decision_service.core.vocabulary import Kind, NameSpec
from decision_service.core.zone import Zone

_KEYS = ("given", "at", "expect")
_KEYS_WITH_EFFECTS = (*_KEYS, "asks")
Value = float | str | frozenset[str]


class TestReader:
    """Reads the inline tests of one rule or block that reads `specs` and comes to one of `expected`.

    `effects` reads what is asked for; None for something that comes to a number and asks for nothing.
    """

    __test__ = False  # not a test of ours, whatever pytest thinks of the name

    def __init__(
        self, specs: Iterable[NameSpec], expected: Collection[str], zone: Zone | None, findings: Findings,
        effects: EffectReader | None,
    ) -> None:  # fmt: skip
        self._known = {spec.name: spec for spec in specs}
        self._expected = expected
        self._zone = zone
        self._findings = findings
        self._effects = effects

    def read(self, node: MappingNode, *, several: bool) -> tuple[TestSpec, ...]:
        """The tests under `tests` of `node`; wrong ones are left out and reported.

        `several`: a test may expect a list of `expected`; they are joined by `+` in the order of `expected`.
        """
        tests = node.get("tests")
        items = None if tests is None else sequence(tests, "`tests`", self._findings)
        read = [self._test(item, several) for item in items or ()]
        return tuple(test for test in read if test is not None)

    def _test(self, node: Node, several: bool) -> TestSpec | None:
        keys = _KEYS if self._effects is None else _KEYS_WITH_EFFECTS
        block = mapping(node, "a test", node.place, self._findings)
        if block is None or not check_keys(block, keys, ("given", "expect"), "a test", self._findings):
            return None
        at_node, expect_node, asks_node = block.get("at"), block.get("expect"), block.get("asks")
        given = self._all_given(block)
        expect = None if expect_node is None else self._expect(expect_node, several)
        at_ms = None if at_node is None else instant_ms(at_node, self._zone, self._findings)
        asks = None if asks_node is None else self._asked(asks_node)
        if given is None or expect is None or (at_ms is None and at_node is not None):
            return None
        if asks_node is None:
            return TestSpec(given, at_ms, expect, _at(expect_node, node.place))
        place = _at(expect_node, node.place)
        return None if asks is None else TestSpec(given, at_ms, expect, place, asks, asks_node.place)

    def _expect(self, node: Node, several: bool) -> str | None:
        findings, expected = self._findings, self._expected
        if self._effects is None and is_number(node):
            value = number(node, "`expect`", findings)
            return None if value is None else shown_points(value)
        if not several or not isinstance(node, SequenceNode):
            return one_of(node, expected, "`expect`", findings)
        chosen = {one_of(item, expected, "`expect`", findings) for item in node}
        if not chosen:
            findings.error(node.place, "`expect` names nothing", expected=", ".join(expected))
        return None if not chosen or None in chosen else "+".join(label for label in expected if label in chosen)

    def _asked(self, node: Node) -> tuple[EffectSpec, ...] | None:
        """The effects, whose amounts may read what the rule reads: nothing else is known in its test."""
        asks = None if self._effects is None else self._effects.read(node)
        if asks is None:
            return None
        amounts = [effect for effect in asks if isinstance(effect, ComputedEffect)]
        unread = [(e.place, spec.name) for e in amounts for spec in names_in(e.amount) if spec.name not in self._known]
        for place, name in unread:
            self._not_read(place, name)
        return None if unread else asks

    def _all_given(self, block: MappingNode) -> tuple[tuple[str, Value], ...] | None:
        given = mapping(block.get("given"), "`given`", block.place, self._findings)
        pairs = [] if given is None else [self._given(key, value) for key, value in given.items]
        sound = tuple(pair for pair in pairs if pair is not None)
        return None if given is None or len(sound) < len(pairs) else sound

    def _given(self, key: Scalar, node: Node) -> tuple[str, Value] | None:
        spec = self._known.get(key.text)
        if spec is None:
            self._not_read(key.place, key.text)
            return None
        value = _value(node, spec, self._findings)
        return None if value is None else (spec.name, value)

    def _not_read(self, place: Place, name: str) -> None:
        self._findings.error(
            place, f"`{name}` is not read here", expected=", ".join(sorted(self._known)),
            nearest=nearest_name(name, self._known), length=len(name),
        )  # fmt: skip


def shown_points(points: float) -> str:
    """Points as a test writes and compares them."""
    return f"{points:.10g}"


def _at(node: Node | None, otherwise: Place) -> Place:
    return otherwise if node is None else node.place


def _value(node: Node, spec: NameSpec, findings: Findings) -> Value | None:
    if spec.kind is Kind.LIST:
        items = sequence(node, f"`{spec.name}`", findings)
        return None if items is None else frozenset(item.text for item in items if isinstance(item, Scalar))
    if spec.kind is Kind.STRING:
        text = scalar(node, f"`{spec.name}`", findings)
        return None if text is None else text.text
    if isinstance(node, Scalar) and node.text == "null":
        return NOTHING_KNOWN
    return number(node, f"`{spec.name}`", findings)
