"""What an expression is measured in, and which mixtures of units are warned of."""

from __future__ import annotations

import pytest

from decision_service.core.expressions.parse import parse_condition, parse_expression, parse_number
from decision_service.core.expressions.units import check_unit, unit_of
from decision_service.core.source import Findings, Place
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary

START = Place("rules.yaml", 1, 1)
UNITS = {
    "amount": "money", "limit": "money", "share": "ratio", "use": "ratio", "count": "n", "dpd": "d", "age": "d",
    "gap": "s", "wait": "h", "way": "km", "speed": "kmh", "step": "bps", "score": "points", "bare": "",
}  # fmt: skip
NAMES = Vocabulary(
    {name: NameSpec(name, Kind.NUMBER, unit) for name, unit in UNITS.items()}
    | {"odd": NameSpec("odd", Kind.FLAG), "grade": NameSpec("grade", Kind.STRING)}
    | {
        "small": NameSpec("small", Kind.NUMBER, "money", False, "", 500.0),
        "half": NameSpec("half", Kind.NUMBER, "ratio", False, "", 0.5),
        "day": NameSpec("day", Kind.NUMBER, "s", False, "", 86_400.0),
        "plain": NameSpec("plain", Kind.NUMBER, "", False, "", 3.0),
        "prices": NameSpec("prices", Kind.LIST, "money", False, "", (99.0, 199.0)),
    }
)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("amount", "money"), ("0.8", ""), ("bare", ""), ("odd", ""), ("small", "money"), ("-small", "money"),
        ("share * limit", "money"), ("limit * share", "money"), ("0.8 * limit", "money"), ("plain * limit", "money"),
        ("limit / 12", "money"), ("amount / limit", "ratio"), ("amount / count", "money"), ("amount / share", "money"),
        ("count / count", "ratio"), ("dpd / count", "ratio"), ("amount / dpd", "money per d"),
        ("amount / dpd * age", "money"), ("age * (amount / dpd)", "money"), ("way / wait", "kmh"),
        ("count * amount", "money"), ("share * use", "ratio"), ("share * count", "n"), ("count * gap", "s"),
        ("24 * age", ""), ("gap / 3600", ""), ("100 * share", ""), ("amount * limit", ""), ("gap * age", ""),
        ("1 / amount", ""), ("bare / amount", ""), ("bare * amount", "money"), ("bare * share", ""),
        ("amount + limit - small", "money"), ("0 + amount", "money"), ("amount + share", ""), ("half * limit", "money"),
        ("-amount", "money"), ("abs(amount - limit)", "money"), ("floor(age)", "d"), ("round(share)", "ratio"),
        ("min(amount, limit)", "money"), ("coalesce(share, 0)", "ratio"), ("clip(amount, 0, limit)", "money"),
        ("max(0, share)", "ratio"), ("mean(count, count)", "n"), ("sqrt(amount)", ""), ("log(share)", ""),
        ("amount if odd else limit", "money"), ("0 if odd else share", "ratio"), ("amount if odd else share", ""),
        ("half * small", "money"), ("small / small", "ratio"), ("2 * 3", ""),
    ],
)  # fmt: skip
def test_units_follow_through_arithmetic(text: str, unit: str) -> None:
    """Money times a ratio is money, like by like a ratio, a literal beside anything but money is unknown."""
    tree = parse_expression(text, START, NAMES, Findings())
    assert tree is not None
    assert unit_of(tree) == unit


@pytest.mark.parametrize(
    ("text", "column", "message", "hint"),
    [
        ("amount > share", 1, "an amount of money is compared with a ratio: `amount` and `share`", "a share"),
        ("share <= amount", 1, "a ratio is compared with an amount of money: `share` and `amount`", "a share"),
        ("dpd > gap", 1, "a number of days is compared with a number of seconds: `dpd` and `gap`", "both in"),
        ("gap < dpd * share", 1, "a number of seconds is compared with a number of days: `gap`", "both in"),
        ("wait > age", 1, "a number of hours is compared with a number of days: `wait` and `age`", "both in"),
        ("count >= amount", 1, "a count is compared with an amount of money: `count` and `amount`", "an amou"),
        ("amount > half", 1, "an amount of money is compared with a ratio: `amount`", "a share"),
        ("age < day", 1, "a number of days is compared with a number of seconds: `age`", "both in"),
        ("amount / limit > small", 1, "a ratio is compared with an amount of money", "a share"),
        ("step > share", 1, "a number of basis points is compared with a ratio: `step` and `share`", "both in"),
        ("speed > way", 1, "a speed in km/h is compared with a number of kilometres: `speed` and `way`", "two val"),
        ("odd and amount + share > 5", 9, "an amount of money is added to a ratio: `amount` and `share`", "a share"),
        ("amount - count > 5", 1, "an amount of money is reduced by a count: `amount` and `count`", "an amou"),
        ("max(amount, share) > 5", 5, "an amount of money is in one `max` with a ratio: `amount` and `share`", ""),
        ("coalesce(age, share) > 5", 10, "a number of days is in one `coalesce` with a ratio: `age` and `share`", ""),
        ("(count if odd else share) > 5", 2, "a count is the alternative to a ratio: `count` and `share`", "a count"),
        ("share in prices", 1, "a ratio is looked up in a list of which each is an amount of money: `share`", ""),
        ("0 < amount < share", 5, "an amount of money is compared with a ratio: `amount` and `share`", "a share"),
        ("not (odd or amount != share)", 13, "an amount of money is compared with a ratio: `amount` and `share`", "a "),
        ("at_least(1, odd, count > share)", 18, "a count is compared with a ratio: `count` and `share`", "a count"),
        ("is_null(amount + share)", 9, "an amount of money is added to a ratio: `amount` and `share`", "a share"),
        ("amount / dpd > amount", 1, "a number of money per d is compared with an amount of money: `amount`", ""),
    ],
)  # fmt: skip
def test_unlike_units_are_a_warning_with_a_place_and_a_hint(text: str, column: int, message: str, hint: str) -> None:
    """Exactly one warning, which names both units and what to write instead."""
    findings = Findings()
    assert parse_condition(text, START, NAMES, findings) is not None
    (found,) = findings.diagnostics
    assert (found.severity, found.place.column, found.message) == ("warning", column, message)
    assert found.expected.startswith(hint)


@pytest.mark.parametrize(
    "text",
    [
        "amount > 500", "share > 0.8", "amount > bare", "amount > plain", "amount >= half * limit", "count > dpd",
        "amount + limit > small", "24 * age > wait", "gap / 3600 < wait", "odd == 1", 'grade == "A"', "is_null(amount)",
        "coalesce(half * limit, small) > amount", "amount / count > small", "amount in prices", "amount in [99, 199]",
        "2 <= count < 5", "share > half", "way / wait > speed", "amount / limit > share", "bare * share > amount",
    ],
)  # fmt: skip
def test_what_may_be_meant_is_not_warned_of(text: str) -> None:
    """Literals, numbers without a unit, conversions by a literal, and like with like."""
    findings = Findings()
    assert parse_condition(text, START, NAMES, findings) is not None
    assert findings.diagnostics == []


@pytest.mark.parametrize(
    ("text", "wanted", "messages"),
    [
        ("half * limit", "money", []),
        ("500", "money", []),
        ("share", "money", ["`cap_draw` wants an amount of money, this is a ratio"]),
        ("amount / limit", "money", ["`cap_draw` wants an amount of money, this is a ratio"]),
        ("amount", "ratio", ["`cap_draw` wants a ratio, this is an amount of money"]),
        ("share", "bps", ["`cap_draw` wants a number of basis points, this is a ratio"]),
        ("count - dpd", "bps", ["`cap_draw` wants a number of basis points, this is a count"]),
    ],
)
def test_an_amount_is_measured_in_what_its_effect_wants(text: str, wanted: str, messages: list[str]) -> None:
    """A cap is money, a raise a ratio, a markup basis points."""
    findings = Findings()
    tree = parse_number(text, START, NAMES, findings)
    assert tree is not None
    check_unit(tree, wanted, "`cap_draw`", len(text), findings)
    assert [found.message for found in findings.diagnostics] == messages
