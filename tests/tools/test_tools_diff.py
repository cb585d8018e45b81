"""`rules diff` tells what two policies decide otherwise, and calls nothing a difference that decides the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tools_command import Command, golden

from decision_service.core.source import Findings
from decision_service.differences.comparing import Difference, differences
from decision_service.differences.parts import parts_of
from decision_service.policies.files import read_text
from service_process import ROOT, ServiceProcess

BLOCKS = """
tables:
  - id: renewal_by_lateness
    inputs: [behaviour.grade, rpy_dpd_max_365d]
    rows:
      - {if: [[A, B], "<= 0"], then: [{renew: auto}, {limit: {raise: 0.10}}]}
      - {id: c_late, if: [C, "> 0 and <= late_short"], then: {renew: manual}, reason: RC31}
    otherwise: {renew: decline}
    on_null: {hold: review}
trees:
  - id: how_strained
    root:
      if: utl_now > 0.8
      then: {if: utl_max > 0.9, then: {hold: review}, else: approve}
      else: nothing
    on_null: skip
points:
  - id: intent
    base: 500
    of:
      - {value: utl_now, bins: {"<= 0.3": 30, "> 0.3": -20, null: 0}}
    grades: {A: 520, B: 0}
"""
SAME = {
    "white space and brackets": ("vel_prior_10m >= burst", "(vel_prior_10m   >= (burst))"),
    "a number's form": ("{value: 2, unit: n}", "{value: 2.0, unit: n}"),
    "a hold by its longer name": ("on_null: hold", "on_null: {hold: review}"),
    "the order of effects": ("then: {hold: step_up}", "then: [{hold: step_up}]"),
    "a comment": ("rules:", "# what we do\nrules:"),
    "block style": ("then: {hold: block}", "then:\n      hold: block"),
}
CHANGED = (
    ("{value: 2, unit: n}", "{effective_from: {2026-01-01: 2, 2027-01-01: 3}, unit: n}"),
    ("request.amount > 0", "request.amount >= 0"),
    ("active: [approve, {cap_draw: 1000}]", "active: [approve, {cap_draw: 0.5 * request.amount}]"),
    ("reason: RC90", "reason: RC91"),
    ("id: on_list", "id: on_block_list"),
    ('"<= 0"]', '"<= 1"]'),
    ("[{renew: auto}, {limit: {raise: 0.10}}]", "[{renew: auto}, {limit: {raise: 0.20}}]"),
    ("else: approve", "else: {tag: strained}"),
    ('"> 0.3": -20', '"> 0.3": -30'),
    ("B: 0", "B: 10"),
)


@pytest.fixture
def both(policy_folder: Path) -> tuple[Path, Path]:
    """The policy with blocks of every sort, twice."""
    path = policy_folder / "drawdown.yaml"
    path.write_text(path.read_text() + BLOCKS)
    other = policy_folder.parent / "other"
    shutil.copytree(policy_folder, other)
    return policy_folder, other


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("what", SAME, ids=str)
def test_what_decides_the_same_is_no_difference(what: str, both: tuple[Path, Path], command: Command) -> None:
    """Layout, comments and equal forms: status 0."""
    replace(both[1] / "drawdown.yaml", *SAME[what])
    status, out, _ = command("diff", *both)
    assert (status, out) == (0, "no difference\n")


FIRST = """
constants: {good: ["A"], least: 3, odd: [1, 2]}
tables:
  - id: t
    hit: first
    inputs: [utl_now, behaviour.grade]
    rows:
      - {id: high, if: ["> 1", good], then: approve}
      - {id: low, if: ["> 0", any], then: {hold: review}}
points:
  - id: p
    base: 0
    of: [{value: utl_now, bins: {"> 1": 3, "> 0": 5}}, {value: utl_now, bins: {any: 1}}]
rules: [{id: r, when: "request.purpose == 'a  b'", on_null: skip, then: approve}]
"""
EASILY_MISSED = {
    "rows in another order": ("id: high, if: [\"> 1\", good], then: approve}\n      - {id: low, if: [\"> 0\", any]",
                              "id: low, if: [\"> 1\", good], then: approve}\n      - {id: high, if: [\"> 0\", any]"),
    "bins in another order": ('"> 1": 3, "> 0": 5', '"> 0": 5, "> 1": 3'),
    "the first of two bins of one value": ('"> 0": 5}', '"> 0": 6}'),
    "the second of two values alike": (", {value: utl_now, bins: {any: 1}}", ""),
    "a text that looks like a number": ("least: 3", 'least: "3"'),
    "texts that look like numbers": ("odd: [1, 2]", 'odd: ["1", "2"]'),
    "the last digit": ("least: 3", "least: 3.0000000000000004"),
    "a text instead of the constant": ('"> 1", good', '"> 1", "good"'),
    "spaces inside a text": ("a  b", "a b"),
}  # fmt: skip


def compared(before: str, after: str) -> list[Difference]:
    sides = [read_text(f"scene: drawdown\n{text}", "drawdown.yaml", Findings()) for text in (before, after)]
    assert None not in sides
    old, new = (parts_of({"drawdown.yaml": side}) for side in sides if side is not None)
    return differences(old, new)


@pytest.mark.parametrize("what", EASILY_MISSED, ids=str)
def test_no_change_of_meaning_is_missed(what: str) -> None:
    """Order where the first wins, quotes where they tell a text from a number or a constant, digits, spaces."""
    old, new = EASILY_MISSED[what]
    assert old in FIRST
    assert compared(FIRST, FIRST.replace(old, new, 1))


def test_rows_that_change_places_are_a_difference() -> None:
    """Of a table that takes the first row that applies; in one that takes all of them the order is nothing."""
    lines = FIRST.splitlines()
    at = next(number for number, line in enumerate(lines) if "id: high" in line)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    swapped = "\n".join(lines)
    assert [change.part for change in compared(FIRST, swapped)[0].changes] == ["order of rows"]
    assert not compared(FIRST.replace("hit: first", "hit: all"), swapped.replace("hit: first", "hit: all"))


def test_the_order_of_a_list_and_a_zero_below_zero_are_no_difference() -> None:
    """Lists are sets, and -0 is 0."""
    assert not compared(FIRST, FIRST.replace("odd: [1, 2]", "odd: [2, 1]"))
    assert not compared("constants: {a: 0}", "constants: {a: -0}")


def test_every_sort_of_change_is_told_by_what_it_is_of(both: tuple[Path, Path], command: Command) -> None:
    """Rules, constants by date, cells by their labels, rows, leaves, bins, grades, fallback, lists and features."""
    for old, new in CHANGED:
        replace(both[1] / "drawdown.yaml", old, new)
    replace(both[1] / "policy.yaml", "[block]", "[block, watch]")
    replace(both[1] / "features" / "velocity.yaml", "windows: [10m]", "windows: [10m, 1h]")
    status, out, _ = command("diff", *both)
    assert status == 1
    golden("diff", out)


def test_differences_come_as_json(both: tuple[Path, Path], command: Command) -> None:
    """Each with its group, sort, name and the parts that changed."""
    replace(both[1] / "drawdown.yaml", "{value: 2, unit: n}", "{value: 3, unit: n}")
    status, out, _ = command("diff", *both, "--json")
    assert status == 1
    assert json.loads(out) == [
        {
            "group": "drawdown", "sort": "constant", "name": "burst", "how": "changed",
            "changes": [{"part": None, "old": "2", "new": "3"}],
        }
    ]  # fmt: skip


def test_notes_and_tests_are_told_only_if_asked_for(both: tuple[Path, Path], command: Command) -> None:
    """They decide nothing."""
    replace(both[1] / "drawdown.yaml", "when: request.amount > 0", "note: all others\n    when: request.amount > 0")
    assert command("diff", *both)[0] == 0
    status, out, _ = command("diff", *both, "--notes")
    assert status == 1
    assert "note: all others (new)" in out


def test_a_feature_may_stand_in_any_file(both: tuple[Path, Path], command: Command) -> None:
    """A renamed feature file is no difference."""
    (both[1] / "features" / "velocity.yaml").rename(both[1] / "features" / "counts.yaml")
    assert command("diff", *both)[0] == 0


def test_the_shipped_policy_equals_itself_and_not_an_empty_one(command: Command, tmp_path: Path) -> None:
    """Against a folder with a label alone, everything is removed."""
    assert command("diff", ROOT / "rules", ROOT / "rules")[0] == 0
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "policy.yaml").write_text("label: none\n")
    status, out, _ = command("diff", ROOT / "rules", tmp_path / "few", "--json")
    assert status == 1
    assert {difference["how"] for difference in json.loads(out)} <= {"removed", "changed"}


def test_what_cannot_be_read_is_told(both: tuple[Path, Path], command: Command, tmp_path: Path) -> None:
    """Status 2 without such a directory, 4 for a file that is not a policy file."""
    assert command("diff", both[0], tmp_path / "nowhere")[0] == 2
    (both[1] / "drawdown.yaml").write_text("rules: [")
    status, out, _ = command("diff", *both)
    assert status == 4
    assert "not valid YAML" in out


def test_a_running_service_is_compared_by_what_it_published(
    command: Command, policy_folder: Path, tmp_path: Path
) -> None:
    """The policy in force, a published one by its number; 6 without such a number, 7 without such a service."""
    with ServiceProcess(tmp_path / "service", rules=policy_folder, models=tmp_path / "models") as server:
        same = command("diff", server.url, policy_folder)
        numbered = command("diff", f"{server.url}#1", policy_folder)[0]
        replace(policy_folder / "drawdown.yaml", "{value: 2, unit: n}", "{value: 2000, unit: n}")
        status, out, _ = command("diff", f"{server.url}#1", policy_folder)
        missing = command("diff", f"{server.url}#99", policy_folder)[0]
    assert same[:2] == (0, "no difference\n")
    assert (numbered, missing) == (0, 6)
    assert status == 1
    assert "constant burst: 2 -> 2000" in out
    assert command("diff", "http://127.0.0.1:9", policy_folder)[0] == 7


def test_roles_of_scorecards_are_told_by_name() -> None:
    """Which share grew, which shadow came, which scorecard has roles now."""
    before = "scorecards:\n  behaviour: {challenger: {version: '2', share: 0.10}, shadows: ['3']}\n"
    after = (
        "scorecards:\n  behaviour: {challenger: {version: '2', share: 0.20}, shadows: ['3', '4']}\n"
        "  fraud: {champion: '7'}\n"
    )
    sides = []
    for text in (before, after):
        document = read_text(text, "policy.yaml", Findings())
        assert document is not None
        sides.append(parts_of({"policy.yaml": document}))
    found = [(d.sort, d.name, d.how, [(c.part, c.old, c.new) for c in d.changes]) for d in differences(*sides)]
    assert found == [
        (
            "scorecard",
            "behaviour",
            "changed",
            [("challenger.share", "0.1", "0.2"), ("shadows", '["3"]', '["3", "4"]')],
        ),
        ("scorecard", "fraud", "added", [("champion", None, '"7"')]),
    ]
