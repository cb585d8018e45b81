"""JSON Schema (draft 7) of what an analyst writes beside features: rule sets, shared constants, policy.yaml, cases.

Made from the tables that the readers themselves use: effects, guardrails, reasons, units, scenes, functions. The files
in `decision_service/schemas/` are its output; a test keeps them equal, and another fails for a key that a reader knows
and no schema. With the names of a policy (`Names`) an editor completes its features, attributes and lists as well.

    # yaml-language-server: $schema=rules.schema.json      first line of a rule set
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from decision_service.cases.expecting import DECISIONS, EXPECT_KEYS, NAMES, RECORDS, RUNGS, SETS
from decision_service.cases.reading import CASE_KEYS, STEP_KEYS
from decision_service.core.decision import HOLD_RANK, TIER_RANK
from decision_service.core.event import CHANNELS, KINDS, STATUSES
from decision_service.core.expressions.functions import FUNCTIONS
from decision_service.core.facility import FACILITY_STATUSES
from decision_service.core.limits import EXPRESSION_CHARS_MAX
from decision_service.core.policy import Policy
from decision_service.core.reasons import TEXTS
from decision_service.core.request import SCENES
from decision_service.core.rules.constants import UNITS
from decision_service.core.rules.guardrails import GUARDRAILS
from decision_service.dictionary.json_schema import DRAFT, Schema

IDENTIFIER: Final = r"^[a-z][a-z0-9_]{0,63}$"
DURATION: Final = r"^[1-9][0-9]{0,8}(s|m|h|d)$"
DATE: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_MOMENT: Final = r"^(now|[+-]([0-9]{1,6}[dhms])+|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].+)$"
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
    return with_definitions(_document("rule set", "What one scene decides.", ("rule_set", "scene", "fallback"), {
        "rule_set": _identifier("Name of the rule set."),
        "scene": _choice("Which question it answers.", SCENES),
        "note": _text("What it is for."),
        "stages": {"description": "Names of the stages, in the order they run.", "type": "array",
                   "items": _identifier("A stage.")},
        "constants": constants_block(),
        **{key: {"type": "array", "description": meaning, "items": item(names)}
           for key, (meaning, item) in _PARTS.items()},
        "guardrails": _guardrails(),
        "fallback": _fallback(),
    }))  # fmt: skip


def constants_schema(_names: Names = NO_NAMES) -> Schema:
    """The schema of `constants.yaml`."""
    return _document("shared constants", "Constants of every rule set.", ("constants",), {
        "note": _text("What they are for."), "constants": constants_block(),
    })  # fmt: skip


def policy_schema(names: Names = NO_NAMES) -> Schema:
    """The schema of `policy.yaml`."""
    feature = _named("A feature.", names.features)
    return _document("policy", "What holds for the whole policy.", (), {
        "label": _text("Shown with every decision."),
        "lists": {"description": "The lists that exist.", "type": "array", "items": _identifier("A list.")},
        "record": {"description": "Features to keep with every drawdown though no rule asks for them.",
                   "type": "array", "items": feature},
        "serial": {"description": "Rises with every signed policy; one below the highest there was is not taken.",
                   "type": "integer", "minimum": 1, "maximum": 999_999_999_999_999},
    })  # fmt: skip


def case_schema(names: Names = NO_NAMES) -> Schema:
    """The schema of a case file."""
    keys = _case_keys(names)
    step = _mapping("Events, then a question.", (), {key: keys[key] for key in STEP_KEYS})
    properties = {key: keys[key] for key in CASE_KEYS if key != "steps"}
    properties["steps"] = {"description": "One after the other, on the same customer.", "type": "array", "items": step}
    meaning = "A history, a question, and the answer that is expected."
    return with_definitions(_document("case", meaning, ("case", "now"), properties))


SCHEMAS: Final[Mapping[str, Callable[[Names], Schema]]] = {
    "rules": rules_schema, "constants": constants_schema, "policy": policy_schema, "case": case_schema,
}  # fmt: skip


# --- pieces ----------------------------------------------------------------------------------------------------------


def _document(title: str, meaning: str, required: Iterable[str], properties: Schema) -> Schema:
    return {"$schema": DRAFT, "title": f"decision-service: {title}", **_mapping(meaning, required, properties)}


def _mapping(meaning: str, required: Iterable[str], properties: Schema) -> Schema:
    told: Schema = {"description": meaning, "type": "object", "additionalProperties": False, "properties": properties}
    return told | ({"required": list(required)} if required else {})


def _text(meaning: str) -> Schema:
    return {"description": meaning, "type": ["string", "number"]}


def _identifier(meaning: str) -> Schema:
    return {"description": meaning, "type": "string", "pattern": IDENTIFIER}


def _choice(meaning: str, words: Iterable[str]) -> Schema:
    return {"description": meaning, "enum": list(words)}


def _explained(meaning: str, words: Mapping[str, str]) -> Schema:
    """A choice of words that editors explain one by one."""
    return {"description": meaning, "oneOf": [{"const": word, "description": told} for word, told in words.items()]}


def _named(meaning: str, known: tuple[str, ...]) -> Schema:
    return _choice(meaning, known) if known else _identifier(meaning)


def _expression(meaning: str) -> Schema:
    functions = ", ".join(function.signature for function in FUNCTIONS.values())
    return {
        "description": f"{meaning} Functions: {functions}.", "type": ["string", "number"],
        "maxLength": EXPRESSION_CHARS_MAX,
    }  # fmt: skip


def _duration(meaning: str) -> Schema:
    return {"description": meaning, "type": "string", "pattern": DURATION}


def _dated(meaning: str, value: Schema) -> Schema:
    """A mapping of dates to values."""
    return {
        "description": meaning, "type": "object", "minProperties": 1, "propertyNames": {"pattern": DATE},
        "additionalProperties": value,
    }  # fmt: skip


_SCALAR: Final[Schema] = {"type": ["number", "string"]}


def constants_block() -> Schema:
    """The schema of `constants:`."""
    plain: Schema = {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR, "minItems": 1}]}
    spelled = _mapping("With its unit, or by date.", (), {
        "value": plain,
        "effective_from": _dated("The value in force from each date.", {"type": "number"}),
        "unit": _choice("Unit.", UNITS),
        "note": _text("Where it comes from."),
    })  # fmt: skip
    return {
        "description": "Named values, so that no threshold is a literal.", "type": "object",
        "propertyNames": {"pattern": IDENTIFIER},
        "additionalProperties": {"anyOf": [*plain["anyOf"], spelled]},
    }  # fmt: skip


def _effect_keys() -> Schema:
    """Every effect that takes a value."""
    hold = _choice("Do not pay out now.", HOLD_RANK)
    change = _expression("A share of the limit, or an amount.")
    return {
        "hold": hold,
        "cap_draw": _expression("Pay out at most this, in major units."),
        "limit": {"description": "Change the limit.", "anyOf": [
            {"const": "freeze"},
            *(_mapping("", (key,), {key: change}) for key in ("raise", "cut", "set")),
        ]},
        "price": {"description": "Price of new draws.", "anyOf": [
            _mapping("Basis points on top.", ("add_bps",), {"add_bps": _expression("Basis points.")}),
            _mapping("This annual rate.", ("set_apr",), {"set_apr": _expression("0.18 is 18 % a year.")}),
        ]},
        "alert": _mapping("A warning beside the outcome.", ("tier", "indicator"), {
            "tier": _choice("How grave.", TIER_RANK), "indicator": _identifier("What warns."),
        }),
        "offer": _identifier("What marketing may offer."),
        "renew": _choice("What to do about the renewal.", ("auto", "manual", "decline")),
        "tag": _identifier("A label for downstream."),
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
    one: Schema = {"anyOf": [_explained("", words), _mapping("Effects.", (), _effect_keys()) | {"minProperties": 1}]}
    return {"description": "What to ask for.", "anyOf": [*one["anyOf"], {"type": "array", "items": one, "minItems": 1}]}


def _on_null(*words: str) -> Schema:
    return _ref("on_null_of_a_rule" if "fire" in words else "on_null_of_a_block")


def _on_null_words(*words: str) -> Schema:
    told = {
        "hold": "A person looks at it.", "skip": "As if it were not there.", "fire": "As if it were true.",
    }  # fmt: skip
    hold = _mapping("A hold of this kind.", ("hold",), {"hold": _choice("Kind of hold.", HOLD_RANK)})
    described = _explained("", {word: told[word] for word in words})
    return {"description": _MEANINGS["on_null"], "anyOf": [described, hold]}


def _reason() -> Schema:
    return _ref("reason")


def _tests(expected: Schema, *, asks: bool = True) -> Schema:
    return {"description": _MEANINGS["tests"], "type": "array", "items": inline_test_schema(expected, asks=asks)}


def inline_test_schema(expected: Schema, *, asks: bool = True) -> Schema:
    """One inline test; what comes to a number asks for nothing."""
    value: Schema = {"anyOf": [{"type": ["number", "string", "boolean", "null"]}, {"type": "array", "items": _SCALAR}]}
    return _mapping("Values and what they come to.", ("given", "expect"), {
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
        "id": _identifier(_MEANINGS["id"]), "stage": _identifier(_MEANINGS["stage"]), "note": _text(_MEANINGS["note"]),
    }  # fmt: skip


# --- rules and blocks ------------------------------------------------------------------------------------------------


def rule_schema(names: Names = NO_NAMES) -> Schema:
    """One rule."""
    return _mapping("A rule.", ("id", "when", "then"), {
        **_head(names), "when": _expression(_MEANINGS["when"]), "on_null": _on_null("hold", "skip", "fire"),
        "then": effects(), "reason": _reason(),
        "tests": _tests(_choice("What the condition comes to.", ("fires", "silent", "unknown"))),
    })  # fmt: skip


def matrix_schema(names: Names = NO_NAMES) -> Schema:
    """One matrix."""
    axis = {"type": "string", "pattern": r"^\s*[A-Za-z_][A-Za-z0-9_.]*\s*(in|<=)\s*\[[\s\S]*\]\s*$"}
    row: Schema = {"type": "array", "items": effects(), "minItems": 1}
    return _mapping("What to do by two values.", ("id", "rows", "columns", "cells"), {
        **_head(names), "rows": {"description": _MEANINGS["rows"], **axis},
        "columns": {"description": _MEANINGS["columns"], **axis},
        "cells": {"description": _MEANINGS["cells"], "type": "object", "additionalProperties": row},
        "on_null": _on_null("hold", "skip"), "reason": _reason(), "tests": _tests(_label()),
    })  # fmt: skip


def row_schema() -> Schema:
    """One row of a table."""
    cell: Schema = {"description": "any, null, known, a value, a list of values, or comparisons joined by `and`.",
                    "type": ["string", "number", "array"], "items": _SCALAR}  # fmt: skip
    return _mapping("A row: a cell an input, and what it asks for.", ("if", "then"), {
        "id": _identifier("Name of the row; without one it is called by its number."), "note": _text(_MEANINGS["note"]),
        "if": {"type": "array", "items": cell, "minItems": 1}, "then": effects(), "reason": _reason(),
    })  # fmt: skip


def table_schema(names: Names = NO_NAMES) -> Schema:
    """One decision table."""
    expected: Schema = {"description": "A row by its id or number, `otherwise` or `unknown`; of an `all` table a list.",
                        "type": ["string", "number", "array"]}  # fmt: skip
    return _mapping("What to do by the first row, or all rows, that apply.", ("id", "hit", "inputs", "rows"), {
        **_head(names), "hit": _choice(_MEANINGS["hit"], ("first", "all")),
        "inputs": {"description": _MEANINGS["inputs"], "type": "array", "minItems": 1,
                   "items": _expression("A name or an expression.") | _examples(names)},
        "rows": {"description": "The rows, from the top.", "type": "array", "items": row_schema(), "minItems": 1},
        "otherwise": effects(), "on_null": _on_null("hold", "skip"),
        "reason": _reason(), "tests": _tests(expected),
    })  # fmt: skip


def _examples(names: Names) -> Schema:
    known = [*names.features, *names.attributes]
    return {"examples": known} if known else {}


def tree_schema(names: Names = NO_NAMES) -> Schema:
    """One tree."""
    branch: Schema = {"anyOf": [{"$ref": "#/definitions/branch"}, effects()]}
    return _mapping("What to do by one question after the other.", ("id", "root"), {
        **_head(names), "root": branch, "on_null": _on_null("hold", "skip"), "reason": _reason(),
        "tests": _tests(_label()),
    })  # fmt: skip


def branch_schema() -> Schema:
    """A node of a tree: a condition and where it leads."""
    branch: Schema = {"anyOf": [{"$ref": "#/definitions/branch"}, effects()]}
    return _mapping("A question.", ("if", "then", "else"), {
        "if": _expression("The condition."), "then": branch, "else": branch,
        "unknown": branch | {"description": "Where it leads when the condition is unknown; without it `on_null`."},
    })  # fmt: skip


def points_schema(names: Names = NO_NAMES) -> Schema:
    """One points scorecard."""
    part = _mapping("A value and its points.", ("value", "bins"), {
        "value": _expression("A name or an expression.") | _examples(names),
        "bins": {"description": "Points by what the value is: a comparison, a value, `null`, `any`.", "type": "object",
                 "additionalProperties": {"type": "number"}, "minProperties": 1},
        "note": _text(_MEANINGS["note"]),
    })  # fmt: skip
    return _mapping("Points added up, as the names `<id>.points` and `<id>.grade`.", ("id", "base", "of"), {
        "id": _identifier(_MEANINGS["id"]), "note": _text(_MEANINGS["note"]),
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
        "number": [number, _identifier("A constant."), _dated("By date.", number)],
        "duration": [_duration("Such as 180d."), _identifier("A constant."), _dated("By date.", _SCALAR)],
        "tiers": [_mapping("By tier.", (), dict.fromkeys(TIER_RANK, _SCALAR))],
        "holds": [_mapping("By kind.", (), {kind: _duration("Such as 15m.") for kind in HOLD_RANK})],
    }  # fmt: skip
    return _mapping("Bounds on what the effects may do, whatever the rules say.", (), {
        spec.key: {"description": f"{spec.meaning[:1].upper()}{spec.meaning[1:]}.", "anyOf": forms[spec.form]}
        for spec in GUARDRAILS
    })  # fmt: skip


def _fallback() -> Schema:
    static = _mapping("The answer.", ("hold", "reason"), {
        "hold": _choice("Kind of hold.", HOLD_RANK), "reason": _reason(),
    })  # fmt: skip
    return _mapping("The answer when nothing can be assessed.", ("static",), {
        "static": static,
        "small_amount": {"description": "A draw up to this on a clean snapshot is paid even then.", "type": "number",
                         "minimum": 0},
    })  # fmt: skip


# --- cases -----------------------------------------------------------------------------------------------------------


def _moment(meaning: str) -> Schema:
    return {"description": f"{meaning}: RFC 3339 with an offset, or relative as -3d, -2h30m, now.",
            "type": "string", "pattern": _MOMENT}  # fmt: skip


def _case_keys(names: Names) -> Schema:
    value: Schema = {"type": ["number", "string", "boolean"]}
    told = _mapping("", ("value",), {"value": value, "as_of": _moment("When it was true")})
    attribute: Schema = {"anyOf": [value, told]}
    facility = _facility()
    return {
        "case": _identifier("Name of the case."),
        "shows": {"description": "Which applications of the strategies it shows.", "type": ["integer", "array"],
                  "items": {"type": "integer"}},
        "note": _text("What it shows."),
        "now": _moment("The instant of the question"),
        "facility": facility,
        "facilities": {"type": "array", "items": facility, "minItems": 1},
        "attributes": {"description": "Declared attributes of the customer.", "type": "object",
                       "additionalProperties": attribute}
                      | ({"propertyNames": {"enum": list(names.attributes)}} if names.attributes else {}),
        "lists": {"description": "Members of lists.", "type": "object",
                  "additionalProperties": {"type": "array", "items": _SCALAR}}
                 | ({"propertyNames": {"enum": list(names.lists)}} if names.lists else {}),
        "events": {"description": "What happened before.", "type": "array", "items": _event()},
        "request": _request(),
        "expect": _expect(),
    }  # fmt: skip


def _facility() -> Schema:
    amount: Schema = {"type": ["number", "string"]}
    return _mapping("As PUT /v1/facilities takes it.", ("facility_id", "product", "currency", "limit", "outstanding"), {
        "facility_id": _SCALAR, "customer_id": _SCALAR, "product": _SCALAR, "currency": {"type": "string"},
        "limit": amount, "outstanding": amount, "as_of": _moment("Of when it is"), "apr": {"type": "number"},
        "status": _choice("", FACILITY_STATUSES), "granted_at": _moment("When it was granted"),
        "expires_at": _moment("When it ends"), "reviewed_at": _moment("When it was last reviewed"),
        "next_due_at": _moment("When the next instalment is due"), "next_due_amount": amount,
        "days_past_due": {"type": "integer"},
    })  # fmt: skip


def _event() -> Schema:
    ids = ("event_id", "customer_id", "facility_id", "device_id", "counterparty_id", "ip", "category", "currency",
           "decision_id", "about_event_id")  # fmt: skip
    return _mapping("As POST /v1/events takes it.", ("kind",), {
        "repeat": {"description": "How often; `{n}` in ids is its number.", "type": "integer", "minimum": 1},
        "every": _duration("The time from one to the next."), "at": _moment("When it (first) happened"),
        "occurred_at": _moment("The same as `at`"),
        "step": {"description": "The step whose drawdown it settles or concerns.", "type": "integer", "minimum": 1},
        "kind": _choice("", KINDS), "status": _choice("", STATUSES), "channel": _choice("", CHANNELS),
        "amount": _SCALAR, "value": {"type": "number"}, "geo": {"type": "object"}, **dict.fromkeys(ids, _SCALAR),
    })  # fmt: skip


def _request() -> Schema:
    ids = ("request_id", "customer_id", "facility_id", "currency", "device_id", "counterparty_id", "ip", "purpose")
    return _mapping("As POST /v1/decisions takes it; ids and currency are filled in.", (), {
        "scene": _choice("Which question.", SCENES), "amount": _SCALAR, "channel": _choice("", CHANNELS),
        "term_months": {"type": "integer"}, "geo": {"type": "object"}, "attributes": {"type": "object"},
        "occurred_at": _moment("When it was asked, if not now"), **dict.fromkeys(ids, _SCALAR),
    })  # fmt: skip


def _expect() -> Schema:
    name: Schema = {"type": "array", "items": _SCALAR}
    code: Schema = {"type": "array", "items": _reason()}
    keys: Schema = {
        "decision": _choice("The headline.", DECISIONS),
        "hold": {"description": "Kind of hold; null for none.", "enum": [*HOLD_RANK, None]},
        "rung": _choice("How much stood behind it.", RUNGS),
        "renewal": {"enum": ["auto", "manual", "decline", None]},
        "approved_amount": {"type": "number"},
        "alerts": {"type": "array", "items": _effect_keys()["alert"]},
        **{key: code if key.startswith("reasons") else name for key in (*SETS, *NAMES)},
        **{key: {"anyOf": [{"type": "null"}, _mapping("", (), dict.fromkeys(parts, _NULLABLE))]}
           for key, parts in RECORDS.items()},
    }  # fmt: skip
    return _mapping("What the answer must be.", (), {key: keys[key] for key in EXPECT_KEYS}) | {"minProperties": 1}


_NULLABLE: Final[Schema] = {"type": ["number", "string", "null"]}


_DEFINITIONS: Final[Mapping[str, Callable[[], Schema]]] = {
    "effects": _effects,
    "reason": lambda: _explained(_MEANINGS["reason"], TEXTS),
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
