"""JSON Schema (draft 7) of what an analyst writes beside features: rule sets, shared constants, policy.yaml.

Made from the tables that the readers themselves use: effects, guardrails, reasons, units, scenes, functions. The files
in `decision_service/schemas/` are its output; a test keeps them equal, and another fails for a key that a reader knows
and no schema. With the names of a policy (`Names`) an editor completes its features, attributes and lists as well.

    # yaml-language-server: $schema=rules.schema.json      first line of a rule set
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from decision_service.core.decision import HOLD_RANK, TIER_RANK
from decision_service.core.policy import Policy
from decision_service.core.reasons import TEXTS
from decision_service.core.request import SCENES
from decision_service.core.rules.constants import UNITS
from decision_service.core.rules.guardrails import GUARDRAILS
from decision_service.core.scorecards.manifest import NAME_PATTERN, VERSION_PATTERN
from decision_service.core.scorecards.roles import SALT_PATTERN, SHADOWS_MAX
from decision_service.dictionary.json_schema import Schema
from decision_service.dictionary.schema_words import (
    DATE,
    IDENTIFIER,
    SCALAR,
    choice,
    dated,
    document,
    duration,
    explained,
    expression,
    identifier,
    mapping,
    named,
    text,
)  # fmt: skip

_MEANINGS: Final[Mapping[str, str]] = {
    "id": "Name of this rule or block, once in the rule set; traces, reasons and cases use it.",
    "stage": "One of `stages`: where it runs and is shown. The outcome does not depend on it.",
    "note": "Why it is there, for people.",
    "when": "The condition. It fires when this is true; when it is unknown, `on_null` decides.",
    "on_null": "What to do when a missing value leaves it unknown.",
    "reason": "Code given to the customer and core banking.",
    "tests": "Examples, run every time the file is loaded.",
    "asks": "All effects asked for then, written as in `then`; `nothing` for none.",
    "given": "Values by name; every other name is missing.",
    "at": "The instant of decision, for dated constants.",
    "hit": "`first`: the first row that applies; `all`: every row that does.",
    "inputs": "What the cells of the rows are about: names or expressions.",
    "rows": "`name in [A, B, null]` or `name <= [0.5, 0.8, inf]`.",
    "columns": "`name in [A, B, null]` or `name <= [0.5, 0.8, inf]`.",
    "cells": "One list a row, under the row's label, with one effect a column.",
}


@dataclass(frozen=True, slots=True)
class Names:
    """What an editor may complete besides the language itself: names of one policy."""

    features: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()

    @classmethod
    def of(cls, policy: Policy) -> Names:
        """The names of a policy."""
        return cls(tuple(sorted(policy.catalogue.by_name)), tuple(sorted(policy.attributes)), policy.list_names)


NO_NAMES: Final = Names()


def rules_schema(names: Names = NO_NAMES) -> Schema:
    """The schema of a rule set."""
    return with_definitions(document("rule set", "What one scene decides.", ("rule_set", "scene", "fallback"), {
        "rule_set": identifier("Name of the rule set."),
        "scene": choice("Which question it answers.", SCENES),
        "note": text("What it is for."),
        "stages": {"description": "Names of the stages, in the order they run.", "type": "array",
                   "items": identifier("A stage.")},
        "constants": constants_block(),
        **{key: {"type": "array", "description": meaning, "items": item(names)}
           for key, (meaning, item) in _PARTS.items()},
        "guardrails": _guardrails(),
        "fallback": _fallback(),
    }))  # fmt: skip


def constants_schema(_names: Names = NO_NAMES) -> Schema:
    """The schema of `constants.yaml`."""
    return document("shared constants", "Constants of every rule set.", ("constants",), {
        "note": text("What they are for."), "constants": constants_block(),
    })  # fmt: skip


def policy_schema(names: Names = NO_NAMES) -> Schema:
    """The schema of `policy.yaml`."""
    feature = named("A feature.", names.features)
    return document("policy", "What holds for the whole policy.", (), {
        "label": text("Shown with every decision."),
        "lists": {"description": "The lists that exist.", "type": "array", "items": identifier("A list.")},
        "scorecards": {"description": "Champion, challenger and shadows, by scorecard.", "type": "object",
                       "propertyNames": {"pattern": f"^{NAME_PATTERN}$"}, "additionalProperties": roles_schema()},
        "record": {"description": "Features to keep with every drawdown though no rule asks for them.",
                   "type": "array", "items": feature},
        "serial": {"description": "Rises with every signed policy; one below the highest there was is not taken.",
                   "type": "integer", "minimum": 1, "maximum": 999_999_999_999_999},
    })  # fmt: skip


def roles_schema() -> Schema:
    """Champion, challenger and shadows of one scorecard."""
    return mapping("Which version of the scorecard scores whom.", (), {
        "champion": _version("Scores everybody else; without it the version active in models/."),
        "challenger": challenger_schema(),
        "shadows": {"description": "Versions that score after the answer and are only recorded.", "type": "array",
                    "items": _version("A version."), "maxItems": SHADOWS_MAX, "uniqueItems": True},
    })  # fmt: skip


def challenger_schema() -> Schema:
    """The version that scores a share of the customers."""
    return mapping("Scores a share of the customers, always the same ones.", ("version", "share"), {
        "version": _version("Its version in models/."),
        "share": {"description": "Share of the customers, between 0 and 1. Growing it keeps who was in.",
                  "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "salt": {"description": "Divides the customers; without it the scorecard's name. Another salt, others.",
                 "type": ["string", "number"], "pattern": f"^{SALT_PATTERN}$"},
    })  # fmt: skip


def _version(meaning: str) -> Schema:
    return {"description": meaning, "type": ["string", "number"], "pattern": f"^{VERSION_PATTERN}$"}


def constants_block() -> Schema:
    """The schema of `constants:`."""
    plain: Schema = {"anyOf": [SCALAR, {"type": "array", "items": SCALAR, "minItems": 1}]}
    spelled = mapping("With its unit, or by date.", (), {
        "value": plain,
        "effective_from": dated("The value in force from each date.", {"type": "number"}),
        "unit": choice("Unit.", UNITS),
        "note": text("Where it comes from."),
    })  # fmt: skip
    return {
        "description": "Named values, so that no threshold is a literal.", "type": "object",
        "propertyNames": {"pattern": IDENTIFIER},
        "additionalProperties": {"anyOf": [*plain["anyOf"], spelled]},
    }  # fmt: skip


def effect_keys() -> Schema:
    """Every effect that takes a value."""
    hold = choice("Do not pay out now.", HOLD_RANK)
    change = expression("A share of the limit, or an amount.")
    return {
        "hold": hold,
        "cap_draw": expression("Pay out at most this, in major units."),
        "limit": {"description": "Change the limit.", "anyOf": [
            {"const": "freeze"},
            *(mapping("", (key,), {key: change}) for key in ("raise", "cut", "set")),
        ]},
        "price": {"description": "Price of new draws.", "anyOf": [
            mapping("Basis points on top.", ("add_bps",), {"add_bps": expression("Basis points.")}),
            mapping("This annual rate.", ("set_apr",), {"set_apr": expression("0.18 is 18 % a year.")}),
        ]},
        "alert": mapping("A warning beside the outcome.", ("tier", "indicator"), {
            "tier": choice("How grave.", TIER_RANK), "indicator": identifier("What warns."),
        }),
        "offer": identifier("What marketing may offer."),
        "renew": choice("What to do about the renewal.", ("auto", "manual", "decline")),
        "tag": identifier("A label for downstream."),
    }  # fmt: skip


def _ref(name: str) -> Schema:
    """What is described once and used in many places."""
    return {"$ref": f"#/definitions/{name}"}


def effects() -> Schema:
    """What may be asked for."""
    return _ref("effects")


def _effects() -> Schema:
    """A word, a mapping, or a list of either."""
    words = {"approve": "Explicitly nothing against it.", "nothing": "Asks for nothing."}
    one: Schema = {"anyOf": [explained("", words), mapping("Effects.", (), effect_keys()) | {"minProperties": 1}]}
    return {"description": "What to ask for.", "anyOf": [*one["anyOf"], {"type": "array", "items": one, "minItems": 1}]}


def _on_null(*words: str) -> Schema:
    return _ref("on_null_of_a_rule" if "fire" in words else "on_null_of_a_block")


def _on_null_words(*words: str) -> Schema:
    told = {
        "hold": "A person looks at it.", "skip": "As if it were not there.", "fire": "As if it were true.",
    }  # fmt: skip
    hold = mapping("A hold of this kind.", ("hold",), {"hold": choice("Kind of hold.", HOLD_RANK)})
    described = explained("", {word: told[word] for word in words})
    return {"description": _MEANINGS["on_null"], "anyOf": [described, hold]}


def reason() -> Schema:
    return _ref("reason")


def _tests(expected: Schema, *, asks: bool = True) -> Schema:
    return {"description": _MEANINGS["tests"], "type": "array", "items": inline_test_schema(expected, asks=asks)}


def inline_test_schema(expected: Schema, *, asks: bool = True) -> Schema:
    """One inline test; what comes to a number asks for nothing."""
    value: Schema = {"anyOf": [{"type": ["number", "string", "boolean", "null"]}, {"type": "array", "items": SCALAR}]}
    return mapping("Values and what they come to.", ("given", "expect"), {
        "given": {"description": _MEANINGS["given"], "type": "object", "additionalProperties": value},
        "at": {"description": _MEANINGS["at"], "type": "string", "pattern": DATE},
        "expect": expected,
        **({"asks": effects() | {"description": _MEANINGS["asks"]}} if asks else {}),
    })  # fmt: skip


def _label() -> Schema:
    return {"description": "The cell, row or leaf that is hit, or `unknown`.", "type": ["string", "number", "array"]}


def _head(names: Names) -> Schema:
    """The keys that rules and blocks share."""
    return {
        "id": identifier(_MEANINGS["id"]), "stage": identifier(_MEANINGS["stage"]), "note": text(_MEANINGS["note"]),
    }  # fmt: skip


# --- rules and blocks ------------------------------------------------------------------------------------------------


def rule_schema(names: Names = NO_NAMES) -> Schema:
    """One rule."""
    return mapping("A rule.", ("id", "when", "then"), {
        **_head(names), "when": expression(_MEANINGS["when"]), "on_null": _on_null("hold", "skip", "fire"),
        "then": effects(), "reason": reason(),
        "tests": _tests(choice("What the condition comes to.", ("fires", "silent", "unknown"))),
    })  # fmt: skip


def matrix_schema(names: Names = NO_NAMES) -> Schema:
    """One matrix."""
    axis = {"type": "string", "pattern": r"^\s*[A-Za-z_][A-Za-z0-9_.]*\s*(in|<=)\s*\[[\s\S]*\]\s*$"}
    row: Schema = {"type": "array", "items": effects(), "minItems": 1}
    return mapping("What to do by two values.", ("id", "rows", "columns", "cells"), {
        **_head(names), "rows": {"description": _MEANINGS["rows"], **axis},
        "columns": {"description": _MEANINGS["columns"], **axis},
        "cells": {"description": _MEANINGS["cells"], "type": "object", "additionalProperties": row},
        "on_null": _on_null("hold", "skip"), "reason": reason(), "tests": _tests(_label()),
    })  # fmt: skip


def row_schema() -> Schema:
    """One row of a table."""
    cell: Schema = {"description": "any, null, known, a value, a list of values, or comparisons joined by `and`.",
                    "type": ["string", "number", "array"], "items": SCALAR}  # fmt: skip
    return mapping("A row: a cell an input, and what it asks for.", ("if", "then"), {
        "id": identifier("Name of the row; without one it is called by its number."), "note": text(_MEANINGS["note"]),
        "if": {"type": "array", "items": cell, "minItems": 1}, "then": effects(), "reason": reason(),
    })  # fmt: skip


def table_schema(names: Names = NO_NAMES) -> Schema:
    """One decision table."""
    expected: Schema = {"description": "A row by its id or number, `otherwise` or `unknown`; of an `all` table a list.",
                        "type": ["string", "number", "array"]}  # fmt: skip
    return mapping("What to do by the first row, or all rows, that apply.", ("id", "hit", "inputs", "rows"), {
        **_head(names), "hit": choice(_MEANINGS["hit"], ("first", "all")),
        "inputs": {"description": _MEANINGS["inputs"], "type": "array", "minItems": 1,
                   "items": expression("A name or an expression.") | _examples(names)},
        "rows": {"description": "The rows, from the top.", "type": "array", "items": row_schema(), "minItems": 1},
        "otherwise": effects(), "on_null": _on_null("hold", "skip"),
        "reason": reason(), "tests": _tests(expected),
    })  # fmt: skip


def _examples(names: Names) -> Schema:
    known = [*names.features, *names.attributes]
    return {"examples": known} if known else {}


def tree_schema(names: Names = NO_NAMES) -> Schema:
    """One tree."""
    branch: Schema = {"anyOf": [{"$ref": "#/definitions/branch"}, effects()]}
    return mapping("What to do by one question after the other.", ("id", "root"), {
        **_head(names), "root": branch, "on_null": _on_null("hold", "skip"), "reason": reason(),
        "tests": _tests(_label()),
    })  # fmt: skip


def branch_schema() -> Schema:
    """A node of a tree: a condition and where it leads."""
    branch: Schema = {"anyOf": [{"$ref": "#/definitions/branch"}, effects()]}
    return mapping("A question.", ("if", "then", "else"), {
        "if": expression("The condition."), "then": branch, "else": branch,
        "unknown": branch | {"description": "Where it leads when the condition is unknown; without it `on_null`."},
    })  # fmt: skip


def points_schema(names: Names = NO_NAMES) -> Schema:
    """One points scorecard."""
    part = mapping("A value and its points.", ("value", "bins"), {
        "value": expression("A name or an expression.") | _examples(names),
        "bins": {"description": "Points by what the value is: a comparison, a value, `null`, `any`.", "type": "object",
                 "additionalProperties": {"type": "number"}, "minProperties": 1},
        "note": text(_MEANINGS["note"]),
    })  # fmt: skip
    return mapping("Points added up, as the names `<id>.points` and `<id>.grade`.", ("id", "base", "of"), {
        "id": identifier(_MEANINGS["id"]), "note": text(_MEANINGS["note"]),
        "base": {"description": "Points to start with.", "type": "number"},
        "of": {"type": "array", "items": part, "minItems": 1},
        "grades": {"description": "Lowest points of each grade, falling.", "type": "object",
                   "additionalProperties": {"type": "number"}},
        "tests": _tests({"description": "The points, or `unknown`.", "type": ["number", "string"]}, asks=False),
    })  # fmt: skip


_PARTS: Final[Mapping[str, tuple[str, Callable[[Names], Schema]]]] = {
    "points": ("Points scorecards, computed before the rules.", points_schema),
    "rules": ("Rules.", rule_schema),
    "tables": ("Decision tables.", table_schema),
    "trees": ("Decision trees.", tree_schema),
    "matrices": ("Matrices of two values.", matrix_schema),
}


def _guardrails() -> Schema:
    number: Schema = {"type": "number", "exclusiveMinimum": 0}
    forms: dict[str, list[Schema]] = {
        "number": [number, identifier("A constant."), dated("By date.", number)],
        "duration": [duration("Such as 180d."), identifier("A constant."), dated("By date.", SCALAR)],
        "tiers": [mapping("By tier.", (), dict.fromkeys(TIER_RANK, SCALAR))],
        "holds": [mapping("By kind.", (), {kind: duration("Such as 15m.") for kind in HOLD_RANK})],
    }  # fmt: skip
    return mapping("Bounds on what the effects may do, whatever the rules say.", (), {
        spec.key: {"description": f"{spec.meaning[:1].upper()}{spec.meaning[1:]}.", "anyOf": forms[spec.form]}
        for spec in GUARDRAILS
    })  # fmt: skip


def _fallback() -> Schema:
    static = mapping("The answer.", ("hold", "reason"), {
        "hold": choice("Kind of hold.", HOLD_RANK), "reason": reason(),
    })  # fmt: skip
    return mapping("The answer when nothing can be assessed.", ("static",), {
        "static": static,
        "small_amount": {"description": "A draw up to this on a clean snapshot is paid even then.", "type": "number",
                         "minimum": 0},
    })  # fmt: skip


_DEFINITIONS: Final[Mapping[str, Callable[[], Schema]]] = {
    "effects": _effects,
    "reason": lambda: explained(_MEANINGS["reason"], TEXTS),
    "on_null_of_a_rule": lambda: _on_null_words("hold", "skip", "fire"),
    "on_null_of_a_block": lambda: _on_null_words("hold", "skip"),
    "branch": branch_schema,
}


def with_definitions(schema: Schema) -> Schema:
    """A schema with everything that its parts refer to."""
    found: Schema = {}
    wanted = True
    while wanted:
        said = str((schema, found))
        more = {name: make() for name, make in _DEFINITIONS.items() if name not in found and f"/{name}'" in said}
        found |= more
        wanted = bool(more)
    return {**schema, "definitions": found}
