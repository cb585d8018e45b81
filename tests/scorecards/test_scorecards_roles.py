"""Roles: which customers a challenger scores, and what `policy.yaml` may say of champions, challengers and shadows."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from decision_service.core.scorecards.roles import (
    SHADOWS_MAX,
    Cast,
    Challenger,
    Roles,
    cast_of,
    give_roles,
    read_roles,
    share_of,
)
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Findings
from decision_service.policies.files import read_text

VECTORS = {
    ("behaviour", "c-1001"): 0.3223630097714443,
    ("behaviour", "客户-1"): 0.7971398208049624,
    ("autumn", "c-1001"): 0.4213851605809634,
    ("autumn", ""): 0.7638073113303574,
}
CUSTOMERS = [f"c-{i}" for i in range(20_000)]


def card(version: str, name: str = "behaviour", grades: str = "ABCDE", grain: str = "customer") -> Scorecard:
    """Something with a scorecard's name, version, grades and grain."""
    manifest = SimpleNamespace(grades=SimpleNamespace(names=tuple(grades)), grain=grain)
    return cast(Scorecard, SimpleNamespace(name=name, version=version, manifest=manifest))


ALL = Cast(
    {"behaviour": card("1"), "fraud": card("7", "fraud")},
    [card("2"), card("3"), card("4", grades="XYZ"), card("5", grain="loan")],
    {"behaviour": ("1", "2", "3", "4", "5"), "fraud": ("7",)},
)


def given(text: str, cards: Cast = ALL) -> tuple[Roles, list[Any]]:
    """The roles a section gives, and what is wrong with it."""
    findings = Findings()
    document = read_text(text, "policy.yaml", findings)
    assert document is not None, [d.render() for d in findings.errors]
    return give_roles(read_roles(document.root, findings), cards, findings), findings.errors


def problem(text: str) -> str:
    """The only error of a section on one line: place, message, expected, nearest."""
    errors = [one for one in given(text)[1] if "has no role" not in one.message]
    assert len(errors) == 1, [one.render() for one in errors]
    one = errors[0]
    return f"{one.place.line}:{one.place.column}+{one.length} {one.message} | {one.expected} | {one.nearest}"


def test_a_customers_share_is_pinned_for_ever() -> None:
    """The same numbers in every version of this service, or a running trial would change its customers."""
    assert {key: share_of(*key) for key in VECTORS} == VECTORS


def test_shares_are_uniform() -> None:
    """The largest gap between the shares of 20,000 customers and the uniform distribution is that of chance."""
    shares = np.sort([share_of("behaviour", customer) for customer in CUSTOMERS])
    n = len(shares)
    gap = max(np.max(np.arange(1, n + 1) / n - shares), np.max(shares - np.arange(n) / n))
    assert gap < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov, one chance in a thousand
    assert shares[0] >= 0.0
    assert shares[-1] < 1.0


def test_two_salts_divide_customers_independently() -> None:
    """In a table of 10 x 10 cells customers fall as if the two shares knew nothing of each other."""
    cells = np.zeros((10, 10))
    for customer in CUSTOMERS:
        cells[int(10 * share_of("behaviour", customer)), int(10 * share_of("autumn", customer))] += 1
    expected = len(CUSTOMERS) / 100
    assert ((cells - expected) ** 2 / expected).sum() < 148.2  # chi-squared, 99 degrees, one chance in a thousand


def test_a_growing_share_keeps_who_was_in() -> None:
    """Whoever the challenger scores at 5 % it scores at 20 %, and of 20,000 customers it scores about its share."""
    small, large = (Challenger(card("2"), share, "behaviour") for share in (0.05, 0.20))
    first = {customer for customer in CUSTOMERS if small.takes(customer)}
    then = {customer for customer in CUSTOMERS if large.takes(customer)}
    assert first < then
    for found, share in ((first, 0.05), (then, 0.20)):
        deviation = math.sqrt(len(CUSTOMERS) * share * (1 - share))
        assert abs(len(found) - share * len(CUSTOMERS)) < 4 * deviation


def test_a_section_gives_roles() -> None:
    """Champion, challenger and shadows by name; the salt is the scorecard's name unless it is said."""
    cards = Cast({"behaviour": card("1")}, [card("2"), card("3")], {})
    text = (
        "scorecards:\n  behaviour:\n    champion: '1'\n    challenger: {version: '2', share: 0.1}\n    shadows: ['3']\n"
    )
    roles, errors = given(text, cards)
    assert not errors
    challenger = roles.challengers["behaviour"]
    assert (challenger.scorecard.version, challenger.share, challenger.salt) == ("2", 0.1, "behaviour")
    assert [shadow.version for shadow in roles.shadows["behaviour"]] == ["3"]
    salted, _ = given(text.replace("share: 0.1", "share: 0.1, salt: autumn"), cards)
    assert salted.challengers["behaviour"].salt == "autumn"
    assert given("label: x\n", Cast({"behaviour": card("1")})) == (Roles({}, {}), [])


def test_the_first_version_of_a_name_in_a_bundle_is_the_champion() -> None:
    """Those after it are its challenger and shadows, whatever their versions."""
    cards = [card("9"), card("7", "fraud"), card("1"), card("2")]
    found = cast_of(cards, {})
    assert {name: one.version for name, one in found.champions.items()} == {"behaviour": "9", "fraud": "7"}
    assert [one.version for one in found.variants] == ["1", "2"]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("behavior: {shadows: ['2']}", "2:3+8 no scorecard `behavior` is in models/ |  | behaviour"),
        (
            "behaviour: {champion: '11'}",
            "2:26+2 scorecard `behaviour` has no version 11 in models/ | one of 1, 2, 3, 4, 5 | 1",
        ),
        (
            "behaviour: {shadows: ['22']}",
            "2:26+2 scorecard `behaviour` has no version 22 in models/ | one of 1, 2, 3, 4, 5 | 2",
        ),
        (
            "behaviour: {challenger: {version: '1', share: 0.1}}",
            "2:38+1 version 1 is the champion of behaviour already | another version as challenger, or a `champion` "
            "(without one: the version active in models/) | ",
        ),
        (
            "behaviour: {champion: '1', challenger: {version: '1', share: 0.1}}",
            "2:53+1 version 1 is the champion of behaviour already | another version as challenger | ",
        ),
        (
            "behaviour: {shadows: ['2', '2']}",
            "2:31+1 version 2 is a shadow of behaviour already | another version as shadow | ",
        ),
        (
            "behaviour: {challenger: {version: '2', share: 0.5}, shadows: ['2']}",
            "2:66+1 version 2 is a challenger of behaviour already | another version as shadow | ",
        ),
        (
            "behaviour: {challenger: {version: '2', share: 1}}",
            "2:49+1 scorecards.behaviour.challenger.share must be between 0 and 1, both left out | a share of the "
            "customers such as 0.10; nobody: leave the challenger out; everybody: `champion` | ",
        ),
        (
            "behaviour: {challenger: {version: '2', share: 0.0}}",
            "2:49+3 scorecards.behaviour.challenger.share must be between 0 and 1, both left out | a share of the "
            "customers such as 0.10; nobody: leave the challenger out; everybody: `champion` | ",
        ),
        (
            "behaviour: {challenger: {version: '2'}}",
            "2:27+1 scorecards.behaviour.challenger lacks 'share' | a number | ",
        ),
        (
            "behaviour: {challenger: {version: '2', share: 0.1, salt: 'a b'}}",
            "2:61+3 scorecards.behaviour.challenger.salt is wrong | letters, digits, dots and dashes, 64 at most | ",
        ),
        (
            "behaviour: {challenger: {version: '4', share: 0.1}}",
            "2:38+1 version 4 grades X, Y, Z | the grades of the champion, which the rules know: A, B, C, D, E | ",
        ),
        (
            "behaviour: {shadows: ['5']}",
            "2:26+1 version 5 scores by loan | by customer, as the champion does | ",
        ),
        (
            "behaviour: {shadow: ['2']}",
            "2:15+6 scorecards.behaviour has no key 'shadow' | challenger, champion, shadows | shadows",
        ),
        ("behaviour: '2'", "2:15+1 `scorecards.behaviour` must be a mapping | champion, challenger, shadows | "),
        (
            "behaviour: {shadows: '2'}",
            "2:25+1 scorecards.behaviour.shadows must be a list of versions | `shadows: [2027.1.2]` | ",
        ),
        (
            "behaviour: {shadows: ['../2']}",
            "2:26+4 scorecards.behaviour.shadows is wrong | a version such as 2026.12.1 | ",
        ),
        ("behaviour: {challenger: '2'}", "2:28+1 scorecards.behaviour.challenger is wrong | a mapping | "),
    ],
)
def test_what_is_wrong_is_told_like_a_compiler(section: str, expected: str) -> None:
    """Place, message, what was expected and the nearest known name."""
    assert problem(f"scorecards:\n  {section}\n") == expected


def test_a_section_that_is_no_mapping_is_refused() -> None:
    """A list of scorecards says nothing of roles."""
    assert problem("scorecards: [behaviour]\n").startswith("1:13+1 `scorecards` must be a mapping")


def test_too_many_shadows_are_refused() -> None:
    """What one worker scores after an answer is bounded."""
    versions = ", ".join(f"'9{i}'" for i in range(SHADOWS_MAX + 1))
    _, errors = given(f"scorecards:\n  behaviour: {{shadows: [{versions}]}}\n")
    assert f"has {SHADOWS_MAX + 1} versions" in "\n".join(error.message for error in errors)


def test_a_version_that_comes_without_a_role_is_refused() -> None:
    """A published policy cannot bring scorecards that its files do not name."""
    _, errors = given("label: x\n", Cast({"behaviour": card("1")}, [card("2")], {}))
    assert [error.message for error in errors] == [
        "version 2 of the scorecard `behaviour` comes with the policy and has no role"
    ]
