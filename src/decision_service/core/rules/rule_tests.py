"""Reading the inline tests of rules and blocks (`rehearsal.py` runs them).

    tests:
      - {given: {vel_req_cnt_10m: 4}, expect: fires}
      - {given: {vel_req_cnt_10m: 3, vel_req_cnt_1h: 5}, expect: silent}
      - {given: {behaviour.grade: C, utl_after: 0.9}, expect: C/0.95}      of a matrix: the cell
      - {given: {list.block: [c-1], request.customer_id: c-1}, at: 2026-07-01, expect: fires}

A name that is not given is null. `at` is the decision instant for dated constants; without it the last date holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

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
from decision_service.core.rules.spec import NOTHING_KNOWN, TestSpec
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, SequenceNode, nearest_name
from decision_service.core.vocabulary import Kind, NameSpec
from decision_service.core.zone import Zone


class _Expected(NamedTuple):
    """What a test may expect."""

    words: Collection[str]
    several: bool
    numbers: bool


Value = float | str | frozenset[str]


def read_tests(
    node: MappingNode, specs: Iterable[NameSpec], expected: Collection[str], zone: Zone | None, findings: Findings,
    *, several: bool = False, numbers: bool = False,
) -> tuple[TestSpec, ...]:  # fmt: skip
    """The tests under `tests` of a rule or block that reads `specs`; wrong ones are left out and reported.

    `several`: a test may expect a list of `expected`; they are joined by `+` in the order of `expected`. `numbers`: a
    test may expect a number instead.
    """
    tests = node.get("tests")
    items = None if tests is None else sequence(tests, "`tests`", findings)
    known = {spec.name: spec for spec in specs}
    read = [_test(item, known, _Expected(expected, several, numbers), zone, findings) for item in items or ()]
    return tuple(test for test in read if test is not None)


def _test(
    node: Node, known: dict[str, NameSpec], expected: _Expected, zone: Zone | None, findings: Findings
) -> TestSpec | None:
    block = mapping(node, "a test", node.place, findings)
    if block is None or not check_keys(block, ("given", "at", "expect"), ("given", "expect"), "a test", findings):
        return None
    given_node, at_node, expect_node = block.get("given"), block.get("at"), block.get("expect")
    given = mapping(given_node, "`given`", node.place, findings)
    expect = None if expect_node is None else _expect(expect_node, expected, findings)
    at_ms = None if at_node is None else instant_ms(at_node, zone, findings)
    if given is None or expect is None or (at_ms is None and at_node is not None):
        return None
    pairs = [_given(key, value, known, findings) for key, value in given.items]
    sound = tuple(pair for pair in pairs if pair is not None)
    return TestSpec(sound, at_ms, expect, _at(expect_node, node.place)) if len(sound) == len(pairs) else None


def _expect(node: Node, expected: _Expected, findings: Findings) -> str | None:
    if expected.numbers and is_number(node):
        value = number(node, "`expect`", findings)
        return None if value is None else shown_points(value)
    if not expected.several or not isinstance(node, SequenceNode):
        return one_of(node, expected.words, "`expect`", findings)
    chosen = {one_of(item, expected.words, "`expect`", findings) for item in node}
    if not chosen:
        findings.error(node.place, "`expect` names nothing", expected=", ".join(expected.words))
    return None if not chosen or None in chosen else "+".join(label for label in expected.words if label in chosen)


def shown_points(points: float) -> str:
    """Points as a test writes and compares them."""
    return f"{points:.10g}"


def _at(node: Node | None, otherwise: Place) -> Place:
    return otherwise if node is None else node.place


def _given(key: Scalar, node: Node, known: dict[str, NameSpec], findings: Findings) -> tuple[str, Value] | None:
    spec = known.get(key.text)
    if spec is None:
        findings.error(
            key.place, f"`{key.text}` is not read here", expected=", ".join(sorted(known)),
            nearest=nearest_name(key.text, known), length=len(key.text),
        )  # fmt: skip
        return None
    value = _value(node, spec, findings)
    return None if value is None else (spec.name, value)


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
