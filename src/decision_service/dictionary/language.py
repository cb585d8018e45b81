"""The reference of the policy language: a page of prose and worked examples, its tables made from the code.

The prose is `language.template.md`; `{{name}}` in it stands for the section that `SECTIONS` makes. What a table says is
what the readers themselves go by, so that the page cannot describe another language than the one that compiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import Any, Final

from decision_service.cli.rules import COMMANDS
from decision_service.core import limits
from decision_service.core.decision import HOLD_RANK, RENEWALS, TIER_RANK
from decision_service.core.expressions.functions import FUNCTIONS
from decision_service.core.reasons import TEXTS
from decision_service.core.request import SCENES
from decision_service.core.rules.constants import UNITS
from decision_service.core.rules.guardrails import GUARDRAILS
from decision_service.core.vocabulary import BASE_NUMBERS, BASE_STRINGS, Kind
from decision_service.dictionary import policy_schema
from decision_service.dictionary.case_schema import case_schema

_SLOT: Final = re.compile(r"\{\{(\w+)\}\}")
_LOGIC: Final = ("true", "false", "unknown")
_EFFECTS: Final[Mapping[str, str]] = {
    f"hold: {' | '.join(HOLD_RANK)}": "do not pay out now",
    "cap_draw: 0.8 * request.amount": "pay out at most this, in major units",
    "limit: freeze": "no further draw on this line",
    "limit: {raise: 0.10}": "raise the limit by a share of it",
    "limit: {cut: 0.20}": "cut the limit by a share of it",
    "limit: {set: 5000}": "set the limit, in major units",
    "price: {add_bps: 100}": "basis points on top of the rate, for new draws",
    "price: {set_apr: 0.18}": "this annual rate, for new draws",
    f"alert: {{tier: {' | '.join(TIER_RANK)}, indicator: name}}": "a warning beside the outcome",
    "offer: name": "what marketing may offer",
    f"renew: {' | '.join(RENEWALS)}": "what to do about the renewal",
    "tag: name": "a label for downstream",
    "approve": "explicitly nothing against it",
    "nothing": "asks for nothing: what a cell, row or leaf says that has no say",
}
_LIMITS: Final[Mapping[str, str]] = {
    "EXPRESSION_CHARS_MAX": "characters of an expression",
    "EXPRESSION_DEPTH_MAX": "levels of an expression",
    "EXPRESSION_NODES_MAX": "terms of an expression",
    "RULES_MAX": "rules of a rule set",
    "CONSTANTS_MAX": "constants of a file",
    "MATRIX_CELLS_MAX": "cells of a matrix",
    "TABLE_INPUTS_MAX": "inputs of a table",
    "TABLE_ROWS_MAX": "rows of a table",
    "TREE_DEPTH_MAX": "levels of a tree",
    "TREE_NODES_MAX": "nodes of a tree",
    "POINTS_BINS_MAX": "bins of one value of a points scorecard",
    "LIST_VALUES_MAX": "members of a list",
    "POLICY_FILE_BYTES_MAX": "bytes of a file",
    "POLICY_FILES_MAX": "files of a policy",
    "YAML_DEPTH_MAX": "levels of YAML",
}
_KEYS: Final[tuple[tuple[str, Callable[[], Mapping[str, Any]]], ...]] = (
    ("Rule set", policy_schema.rules_schema),
    ("Rule", policy_schema.rule_schema),
    ("Decision table", policy_schema.table_schema),
    ("Row of a table", policy_schema.row_schema),
    ("Tree", policy_schema.tree_schema),
    ("Branch of a tree", policy_schema.branch_schema),
    ("Matrix", policy_schema.matrix_schema),
    ("Points scorecard", policy_schema.points_schema),
    ("policy.yaml", policy_schema.policy_schema),
    ("Roles of a scorecard", policy_schema.roles_schema),
    ("Challenger", policy_schema.challenger_schema),
    ("Case", case_schema),
)
_SHARED: Final = {"effects": "What to ask for.", "reason": "A reason code.", "branch": "A branch, or effects."}


def language_page() -> str:
    """The whole page as Markdown."""
    template = (files("decision_service.dictionary") / "language.template.md").read_text(encoding="utf-8")
    return _SLOT.sub(lambda slot: SECTIONS[slot[1]](), template)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(head)
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _functions() -> str:
    return _table(("function", "gives"), ((f"`{f.signature}`", f.meaning) for f in FUNCTIONS.values()))


def _names() -> str:
    rows = (
        (f"`{s.name}`", "text" if s.kind is Kind.STRING else s.unit, s.meaning, "yes" if s.nullable else "no")
        for s in (*BASE_NUMBERS, *BASE_STRINGS)
    )
    return _table(("name", "unit", "meaning", "may be null"), rows)


def _truth() -> str:
    return "\n".join(f"| {x} | {y} | {_and(x, y)} | {_or(x, y)} | {_not(x)} |" for x in _LOGIC for y in _LOGIC)


def _and(x: str, y: str) -> str:
    return "false" if "false" in (x, y) else "unknown" if "unknown" in (x, y) else "true"


def _or(x: str, y: str) -> str:
    return _not(_and(_not(x), _not(y)))


def _not(x: str) -> str:
    return {"true": "false", "false": "true"}.get(x, x)


def _guardrails() -> str:
    return _table(("guardrail", "example", "bounds"), ((f"`{g.key}`", f"`{g.example}`", g.meaning) for g in GUARDRAILS))


def _keys() -> str:
    """The keys of every block, from its schema."""
    parts = []
    for title, schema in _KEYS:
        told = schema()
        required = told.get("required", ())
        rows = (
            (f"`{key}`", "yes" if key in required else "", _described(value))
            for key, value in told["properties"].items()
        )
        parts.append(f"### {title}\n\n{_table(('key', 'needed', 'meaning'), rows)}")
    return "\n\n".join(parts)


def _described(schema: Mapping[str, Any]) -> str:
    said = schema.get("description") or _SHARED.get(schema.get("$ref", "").rpartition("/")[2], "")
    if not said and "$ref" in schema:
        said = "What to do when a missing value leaves it unknown."
    said = said.partition(" Functions:")[0]
    words = [f"`{word}`" for word in schema.get("enum", ()) if word]
    return f"{said} {', '.join(words)}".strip() if len(words) <= 8 else said


SECTIONS: Final[Mapping[str, Callable[[], str]]] = {
    "scenes": lambda: ", ".join(f"`{scene}`" for scene in SCENES),
    "functions": _functions,
    "units": lambda: ", ".join(f"`{unit}`" for unit in UNITS),
    "names": _names,
    "truth": _truth,
    "effects": lambda: _table(("effect", "asks for"), ((f"`{effect}`", said) for effect, said in _EFFECTS.items())),
    "guardrails": _guardrails,
    "keys": _keys,
    "reasons": lambda: _table(("code", "text"), ((f"`{code}`", text) for code, text in TEXTS.items())),
    "limits": lambda: _table(("at most", "of"), ((f"{getattr(limits, n):,}", said) for n, said in _LIMITS.items())),
    "tools": lambda: _table(
        ("command", "does"), ((f"`decision-service rules {name}`", said) for name, said in COMMANDS.items())
    ),
}
