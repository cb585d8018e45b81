"""Conditions that are hardly meant: never true, always true, or with such a part; and rules in each other's way."""

from __future__ import annotations

import itertools
import random

import pytest
from rule_cases import HEAD, VOCABULARY

from decision_service.core.expressions.parse import parse_condition
from decision_service.core.expressions.scalar import compile_condition
from decision_service.core.expressions.tree import Tree
from decision_service.core.rules.cases import CASES_MAX, TooManyCases, asks_for_null, cases_of, implies
from decision_service.core.rules.lint import lint_condition
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Findings, Place, Scalar
from decision_service.core.vocabulary import Kind, Layout, NameSpec, Vocabulary
from decision_service.policies.files import read_text

START = Place("rules.yaml", 1, 1)
NAMES = Vocabulary(
    {name: NameSpec(name, Kind.NUMBER) for name in ("x", "y", "z")}
    | {"g": NameSpec("g", Kind.STRING), "f": NameSpec("f", Kind.FLAG)}
    | {"list.block": NameSpec("list.block", Kind.LIST), "top": NameSpec("top", Kind.NUMBER, "", False, "", 5.0)}
    | {"limit": NameSpec("limit", Kind.NUMBER, "", False)}
)  # fmt: skip
NEVER_X = "this condition is never true: no value of `x` meets all its bounds"
NEVER_G = "this condition is never true: no value of `g` meets all its bounds"
NEVER = "this condition is never true: its parts contradict each other"
X_KNOWN = "this condition is true whenever `x` is known"


def tree_of(text: str) -> Tree:
    """A condition over NAMES."""
    findings = Findings()
    tree = parse_condition(text, START, NAMES, findings)
    assert tree is not None, findings.errors
    return tree


def warnings_of(text: str) -> list[str]:
    """The messages about one condition."""
    findings = Findings()
    lint_condition(tree_of(text), Scalar(text, START), findings)
    return [found.message for found in findings.diagnostics]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top > 6", "this condition is never true"),
        ("top > 4", "this condition is always true"),
        ("x > 5 and x < 3", NEVER_X),
        ("x > 5 and x <= top", NEVER_X),
        ("5 < x < 5", NEVER_X),
        ("x >= 5 and x < 5", NEVER_X),
        ("x == 3 and x == 4", NEVER_X),
        ("x == 3 and x > 3", NEVER_X),
        ("x == 3 and x != 3", NEVER_X),
        ("x >= 3 and x <= 3 and x != 3", NEVER_X),
        ("x in [1, 2] and x > 2", NEVER_X),
        ("x in [1, 2] and x in [3, 4]", NEVER_X),
        ("x in [1, 2] and x not in [1, 2, 3]", NEVER_X),
        ("is_null(x) and x > 2", NEVER_X),
        ('g == "A" and g == "B"', NEVER_G),
        ('g in ["A", "B"] and g == "C"', NEVER_G),
        ('g in ["A", "B"] and not (g == "A" or g == "B")', NEVER_G),
        ("x > 5 and (x < 3 or x == 4)", NEVER_X),
        ("(x > 5 or y > 5) and x < 3 and y < 3", NEVER),
        ("f and not f", "this condition is never true: no value of `f` meets all its bounds"),
        ("x > y and x < y", NEVER),
        ("x > y and y > x", NEVER),
        ("x < x", "this condition is never true: its parts contradict each other"),
        ("at_least(2, x > 1, y > 1) and not at_least(1, x > 1, y > 1)", NEVER),
        ("g in list.block and not g in list.block", NEVER),
        ("x > 5 or x <= 5", X_KNOWN),
        ("x > 5 or x < 7", X_KNOWN),
        ("x != 3 or x > 2", X_KNOWN),
        ("not (x > 5 and x < 3)", X_KNOWN),
        ("x <= 5 or not x <= 4", X_KNOWN),
        ('g == "A" or g != "A"', "this condition is true whenever `g` is known"),
        ("limit > 5 or limit <= 5", "this condition is always true"),
        ("x > y or x <= y", "this condition is true whenever `x` and `y` are known"),
        ("x == x", X_KNOWN),
        ("y > 1 and (x > 5 or x <= 5)", "this part of the condition is true whenever `x` is known"),
        ("y > 1 or (x > 5 and x < 3)",
         "this part of the condition is never true: no value of `x` meets all its bounds"),
        ("y > 1 or not (z > 1 or x > 5 and x < 3)",
         "this part of the condition is never true: no value of `x` meets all its bounds"),
    ],
)  # fmt: skip
def test_a_condition_that_says_nothing_is_warned_of(text: str, message: str) -> None:
    """One warning, which says what is so and names the value where it is one."""
    assert warnings_of(text) == [message]


@pytest.mark.parametrize(
    "text",
    [
        "x > 5 and x < 7", "x > 5 or x < 3", "2 <= x < 5", "x > 5 and (y > 1 or x < 7)", "x == 3 or x == 4",
        "x != 3 and x != 4", "x > y and y > z and z > x", "is_null(x) or x > 5", "x > 5 and not is_null(x)",
        'g in ["A", "B"] and g != "A"', "at_least(2, x > 1, y > 1, z > 1) and x <= 1", "x + 1 > 5 and x < 3",
        "f or x > 5 and not f", "x * y > 5 and x * y < 7",
    ],
)  # fmt: skip
def test_a_condition_that_may_be_meant_is_not(text: str) -> None:
    """What the checker cannot be sure of is no warning."""
    assert warnings_of(text) == []


@pytest.mark.fault("F09")
def test_a_condition_of_too_many_cases_is_left_alone() -> None:
    """Work is bounded: 2 to the power of 7 cases are over the cap."""
    text = " and ".join(f"(x > {i} or y > {i})" for i in range(7))
    assert CASES_MAX < 2**7
    with pytest.raises(TooManyCases):
        cases_of(tree_of(text))
    assert warnings_of(f"({text}) or x > 100") == []


# --- against brute force --------------------------------------------------------------------------------------------

GRID = list(
    itertools.product((None, 0.0, 1.0, 2.0, 3.0), (None, 0.0, 1.5, 3.0), (None, "A", "B", "C"), (None, 0.0, 1.0))
)
LAYOUT = Layout({"x": 0, "y": 1, "f": 2}, {"g": 0})


def random_condition(rng: random.Random, depth: int) -> str:
    """A condition over x, y, g and f with bounds that the grid lies between."""
    if depth == 0 or rng.random() < 0.2:
        name, op = rng.choice("xy"), rng.choice(("<", "<=", ">", ">=", "==", "!="))
        atoms = (
            f"{name} {op} {rng.choice((0.5, 1, 1.5, 2, 3))}", f"1 {op} {name}", f"x {op} y", "f", f"is_null({name})",
            f'g {rng.choice(("==", "!="))} "{rng.choice("AB")}"', f'g {rng.choice(("in", "not in"))} ["A", "C"]',
            f"x in [{rng.choice((0, 1))}, {rng.choice((2, 3))}]",
        )  # fmt: skip
        return rng.choice(atoms)
    parts = [f"({random_condition(rng, depth - 1)})" for _ in range(rng.choice((1, 2, 2, 3)))]
    if len(parts) == 1:
        return f"not {parts[0]}"
    return f"at_least(2, {', '.join(parts)})" if rng.random() < 0.1 else rng.choice((" and ", " or ")).join(parts)


def truths(tree: Tree) -> list[bool]:
    """Where in the grid a condition is true."""
    condition = compile_condition(tree, LAYOUT)
    return [
        condition([float("nan") if v is None else v for v in (x, y, f)], [g], {}) for x, y, g, f in GRID
    ]  # fmt: skip


def test_what_is_said_of_a_condition_holds_for_every_value() -> None:
    """600 random conditions on a grid: one without cases is true nowhere, one whose negation has none is false
    nowhere that it can be told."""
    rng, never, always = random.Random(4), 0, 0
    for _ in range(600):
        text = random_condition(rng, 2)
        tree = tree_of(text)
        if not cases_of(tree, True):
            never += 1
            assert not any(truths(tree)), text
        if not cases_of(tree, False):
            always += 1
            assert not any(truths(tree_of(f"not ({text})"))), text
    assert min(never, always) > 8


def test_one_condition_implies_another_only_if_it_does_for_every_value() -> None:
    """6,000 random pairs on a grid: implied cases mean implied truth; and, where nothing asks for null, doubt about one
    is doubt about the other."""
    rng, found = random.Random(5), 0
    texts = [random_condition(rng, 1) for _ in range(120)]
    trees = [tree_of(text) for text in texts]
    cases = [cases_of(tree) for tree in trees]
    true = [truths(tree) for tree in trees]
    false = [truths(tree_of(f"not ({text})")) for text in texts]
    for i, j in rng.sample(list(itertools.permutations(range(120), 2)), 6_000):
        if cases[i] and cases[j] and all(any(implies(a, b) for b in cases[j]) for a in cases[i]):
            found += 1
            assert all(b or not a for a, b in zip(true[i], true[j], strict=True)), (texts[i], texts[j])
            if not asks_for_null(cases[j]):
                assert all(b or not a for a, b in zip(false[j], false[i], strict=True)), (texts[i], texts[j])
    assert found > 50


# --- rules beside each other ----------------------------------------------------------------------------------------


def warnings_about(rules: str) -> list[tuple[int, str]]:
    """Line and message of every warning about some rules, of which each stands on a line from line 5 on."""
    findings = Findings()
    document = read_text(f"{HEAD}rules:\n{rules}", "drawdown.yaml", findings)
    assert document is not None, findings.errors
    assert read_rule_set(document, VOCABULARY, findings) is not None, [d.render() for d in findings.errors]
    return [(found.place.line, found.message) for found in findings.diagnostics]


def rule(name: str, when: str, then: str, on_null: str = "skip", reason: str = "RC11") -> str:
    """One rule on one line."""
    return f"  - {{id: {name}, when: '{when}', on_null: {on_null}, then: {then}, reason: {reason}}}\n"


COUNT = "vel_req_cnt_10m"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (rule("a", f"{COUNT} >= 3", "{hold: review}"), rule("b", f"{COUNT} >= 5", "{hold: review}")),
        (rule("a", f"{COUNT} >= 3", "{hold: block}"), rule("b", f"{COUNT} > 3", "{hold: review}")),
        (rule("a", f"{COUNT} >= 3", "{hold: review}"), rule("b", f"{COUNT} >= 3 and tod_is_odd", "{hold: review}")),
        (rule("a", f"{COUNT} >= 3 or utl_after > 1", "{hold: review}"), rule("b", "utl_after > 2", "{hold: review}")),
        (rule("a", f"{COUNT} in [1, 2, 3]", "{tag: t}"), rule("b", f"{COUNT} == 2", "{tag: t}")),
        (rule("a", 'behaviour.grade in ["D", "E"]', "{hold: review}"),
         rule("b", 'behaviour.grade == "E"', "{hold: review}")),
        (rule("a", f"{COUNT} >= 3", "{hold: review}", "hold"), rule("b", f"{COUNT} >= 5", "{hold: review}", "hold")),
        (rule("a", f"{COUNT} >= 3", "{hold: block}", "fire"), rule("b", f"{COUNT} >= 5", "{hold: review}", "hold")),
        (rule("a", f"{COUNT} >= 3", "{cap_draw: 100}"), rule("b", f"{COUNT} >= 5", "{cap_draw: 200}")),
        (rule("a", f"{COUNT} >= 3", "{price: {add_bps: 200}}"), rule("b", f"{COUNT} >= 5", "{price: {add_bps: 100}}")),
        (rule("a", f"{COUNT} >= 3", "{limit: {cut: 0.2}}"), rule("b", f"{COUNT} >= 5", "{limit: {cut: 0.1}}")),
        (rule("a", f"{COUNT} >= 3", "{limit: {raise: 0.1}}"), rule("b", f"{COUNT} >= 5", "{limit: {raise: 0.2}}")),
        (rule("a", f"{COUNT} >= 3", "{cap_draw: 0.5 * request.amount}"),
         rule("b", f"{COUNT} >= 5", "{cap_draw: 0.5 * request.amount}")),
        (rule("a", f"{COUNT} >= 3", "{alert: {tier: red, indicator: x}, hold: review}"),
         rule("b", f"{COUNT} >= 5", "{alert: {tier: blue, indicator: x}}")),
        (rule("a", f"{COUNT} >= 3", "{renew: decline}"), rule("b", f"{COUNT} >= 5", "{renew: manual}")),
        (rule("a", f"at_least(2, tod_is_odd, {COUNT} > 1, utl_after > 1)", "{hold: review}"),
         rule("b", f"at_least(3, tod_is_odd, {COUNT} > 1, utl_after > 1)", "{hold: review}")),
        (rule("a", "request.amount > facility.available", "{hold: block}"),
         rule("b", "facility.available < request.amount and tod_is_odd", "{hold: block}")),
    ],
)  # fmt: skip
def test_a_rule_in_the_shadow_of_another_is_warned_of(first: str, second: str) -> None:
    """In whichever order they stand, the warning is at the rule that changes nothing and names the other."""
    said = "changes nothing: whenever it is true, so is `a` on line"
    assert warnings_about(first + second) == [(6, f"`b` {said} 5, which asks for no less")]
    assert warnings_about(second + first) == [(5, f"`b` {said} 6, which asks for no less")]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (rule("a", f"{COUNT} >= 3", "{hold: review}"), rule("b", f"{COUNT} >= 5", "{hold: block}")),
        (rule("a", f"{COUNT} >= 3", "{hold: review}"), rule("b", f"{COUNT} >= 2 and utl_after > 1", "{hold: review}")),
        (rule("a", f"{COUNT} >= 3", "{hold: review}"), rule("b", f"{COUNT} >= 5", "{hold: review}", "skip", "RC12")),
        (rule("a", f"{COUNT} >= 3", "{hold: review}"), rule("b", f"{COUNT} >= 5", "{hold: review}", "hold")),
        (rule("a", f"{COUNT} >= 3", "{hold: review}", "hold"), rule("b", f"{COUNT} >= 5", "{hold: review}", "fire")),
        (rule("a", f"{COUNT} >= 3", "{tag: one}"), rule("b", f"{COUNT} >= 5", "{tag: two}")),
        (rule("a", f"{COUNT} >= 3", "{cap_draw: 200}"), rule("b", f"{COUNT} >= 5", "{cap_draw: 100}")),
        (rule("a", f"{COUNT} >= 3", "{limit: {raise: 0.2}}"), rule("b", f"{COUNT} >= 5", "{limit: {raise: 0.1}}")),
        (rule("a", f"{COUNT} >= 3", "{hold: review}"), rule("b", f"{COUNT} >= 5", "{hold: review, tag: t}")),
        (rule("a", f"{COUNT} >= 3 and utl_after > 1", "{hold: review}"), rule("b", f"{COUNT} >= 5", "{hold: review}")),
        (rule("a", f"{COUNT} >= 5", "{hold: review}"), rule("b", f"is_null({COUNT})", "{hold: review}")),
        (rule("a", f"not is_null({COUNT})", "{hold: review}", "hold"),
         rule("b", f"{COUNT} >= 3", "{hold: review}", "hold")),
    ],
)  # fmt: skip
def test_a_rule_that_matters_is_not(first: str, second: str) -> None:
    """Something more severe, another reason, another doubt, or a case of its own."""
    assert warnings_about(first + second) == []


def test_two_rules_with_one_condition_are_warned_of_at_the_second() -> None:
    """However it is written: sides swapped, order changed."""
    rules = rule("a", f"{COUNT} >= 3 and tod_is_odd", "{hold: review}") + rule(
        "b", f"tod_is_odd and 3 <= {COUNT}", "{tag: t}"
    )
    assert warnings_about(rules) == [(6, "`b` has the same condition as `a` on line 5")]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("{hold: review}", "approve", ("`approve`", "`hold: review`")),
        ("{limit: freeze}", "{limit: {raise: 0.1}}", ("`raise`", "`limit: freeze`")),
        ("{limit: {raise: 0.1}}", "{limit: {cut: 0.1}}", ("`cut`", "`raise`")),
        ("{renew: auto}", "{renew: decline}", ("`renew: decline`", "`renew: auto`")),
    ],
)
def test_opposite_effects_under_one_condition_are_named(one: str, other: str, said: tuple[str, str]) -> None:
    """The warning says what either asks for."""
    rules = rule("a", "tod_is_odd", one) + rule("b", "tod_is_odd", other)
    expected = f"`b` asks for {said[0]} under the same condition as `a` on line 5, which asks for {said[1]}"
    assert warnings_about(rules) == [(6, expected)]


def test_of_two_rules_that_imply_each_other_one_is_named() -> None:
    """Not both: the warning is to be followed once."""
    rules = rule("a", f"{COUNT} >= 5 and {COUNT} > 3", "{tag: t}") + rule("b", f"{COUNT} >= 5", "{tag: t}")
    assert len(warnings_about(rules)) == 1


def test_a_shadow_is_found_among_hundreds_of_rules() -> None:
    """Rules about different things do not stand in the way of finding those about one."""
    many = "".join(rule(f"r{i}", f"facility.age_d == {i} and vel_req_cnt_1h > {i % 7}", "{tag: t}") for i in range(500))
    found = warnings_about(
        rule("a", "utl_after > 0.5", "{tag: u}") + many + rule("b", "utl_after > 0.6 and tod_is_odd", "{tag: u}")
    )
    assert [message for _, message in found] == [
        "`b` changes nothing: whenever it is true, so is `a` on line 5, which asks for no less"
    ]
