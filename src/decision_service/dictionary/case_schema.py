"""JSON Schema (draft 7) of case files: a history, a question, and the answer that is expected.

Made from the tables that the reader of cases itself uses (`cases.reading`, `cases.expecting`), so that no key is known
to one and not to the other.
"""

from __future__ import annotations

from typing import Final

from decision_service.cases.expecting import DECISIONS, EXPECT_KEYS, NAMES, RECORDS, RUNGS, SETS
from decision_service.cases.reading import CASE_KEYS, STEP_KEYS
from decision_service.core.decision import HOLD_RANK
from decision_service.core.event import CHANNELS, KINDS, STATUSES
from decision_service.core.facility import FACILITY_STATUSES
from decision_service.core.request import SCENES
from decision_service.dictionary.json_schema import Schema
from decision_service.dictionary.policy_schema import NO_NAMES, Names, effect_keys, reason, with_definitions
from decision_service.dictionary.schema_words import SCALAR, choice, document, duration, identifier, mapping, text

_MOMENT: Final = r"^(now|[+-]([0-9]{1,6}[dhms])+|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].+)$"
_NULLABLE: Final[Schema] = {"type": ["number", "string", "null"]}


def case_schema(names: Names = NO_NAMES) -> Schema:
    """The schema of a case file."""
    keys = _case_keys(names)
    step = mapping("Events, then a question.", (), {key: keys[key] for key in STEP_KEYS})
    properties = {key: keys[key] for key in CASE_KEYS if key != "steps"}
    properties["steps"] = {"description": "One after the other, on the same customer.", "type": "array", "items": step}
    meaning = "A history, a question, and the answer that is expected."
    return with_definitions(document("case", meaning, ("case", "now"), properties))


def _moment(meaning: str) -> Schema:
    return {"description": f"{meaning}: RFC 3339 with an offset, or relative as -3d, -2h30m, now.",
            "type": "string", "pattern": _MOMENT}  # fmt: skip


def _case_keys(names: Names) -> Schema:
    value: Schema = {"type": ["number", "string", "boolean"]}
    told = mapping("", ("value",), {"value": value, "as_of": _moment("When it was true")})
    attribute: Schema = {"anyOf": [value, told]}
    facility = _facility()
    return {
        "case": identifier("Name of the case."),
        "shows": {"description": "Which applications of the strategies it shows.", "type": ["integer", "array"],
                  "items": {"type": "integer"}},
        "note": text("What it shows."),
        "now": _moment("The instant of the question"),
        "facility": facility,
        "facilities": {"type": "array", "items": facility, "minItems": 1},
        "attributes": {"description": "Declared attributes of the customer.", "type": "object",
                       "additionalProperties": attribute}
                      | ({"propertyNames": {"enum": list(names.attributes)}} if names.attributes else {}),
        "lists": {"description": "Members of lists.", "type": "object",
                  "additionalProperties": {"type": "array", "items": SCALAR}}
                 | ({"propertyNames": {"enum": list(names.lists)}} if names.lists else {}),
        "events": {"description": "What happened before.", "type": "array", "items": _event()},
        "request": _request(),
        "expect": _expect(),
    }  # fmt: skip


def _facility() -> Schema:
    amount: Schema = {"type": ["number", "string"]}
    return mapping("As PUT /v1/facilities takes it.", ("facility_id", "product", "currency", "limit", "outstanding"), {
        "facility_id": SCALAR, "customer_id": SCALAR, "product": SCALAR, "currency": {"type": "string"},
        "limit": amount, "outstanding": amount, "as_of": _moment("Of when it is"), "apr": {"type": "number"},
        "status": choice("", FACILITY_STATUSES), "granted_at": _moment("When it was granted"),
        "expires_at": _moment("When it ends"), "reviewed_at": _moment("When it was last reviewed"),
        "next_due_at": _moment("When the next instalment is due"), "next_due_amount": amount,
        "days_past_due": {"type": "integer"},
    })  # fmt: skip


def _event() -> Schema:
    ids = ("event_id", "customer_id", "facility_id", "device_id", "counterparty_id", "ip", "category", "currency",
           "decision_id", "about_event_id")  # fmt: skip
    return mapping("As POST /v1/events takes it.", ("kind",), {
        "repeat": {"description": "How often; `{n}` in ids is its number.", "type": "integer", "minimum": 1},
        "every": duration("The time from one to the next."), "at": _moment("When it (first) happened"),
        "occurred_at": _moment("The same as `at`"),
        "step": {"description": "The step whose drawdown it settles or concerns.", "type": "integer", "minimum": 1},
        "kind": choice("", KINDS), "status": choice("", STATUSES), "channel": choice("", CHANNELS),
        "amount": SCALAR, "value": {"type": "number"}, "geo": {"type": "object"}, **dict.fromkeys(ids, SCALAR),
    })  # fmt: skip


def _request() -> Schema:
    ids = ("request_id", "customer_id", "facility_id", "currency", "device_id", "counterparty_id", "ip", "purpose")
    return mapping("As POST /v1/decisions takes it; ids and currency are filled in.", (), {
        "scene": choice("Which question.", SCENES), "amount": SCALAR, "channel": choice("", CHANNELS),
        "term_months": {"type": "integer"}, "geo": {"type": "object"}, "attributes": {"type": "object"},
        "occurred_at": _moment("When it was asked, if not now"), **dict.fromkeys(ids, SCALAR),
    })  # fmt: skip


def _expect() -> Schema:
    name: Schema = {"type": "array", "items": SCALAR}
    code: Schema = {"type": "array", "items": reason()}
    keys: Schema = {
        "decision": choice("The headline.", DECISIONS),
        "hold": {"description": "Kind of hold; null for none.", "enum": [*HOLD_RANK, None]},
        "rung": choice("How much stood behind it.", RUNGS),
        "renewal": {"enum": ["auto", "manual", "decline", None]},
        "approved_amount": {"type": "number"},
        "alerts": {"type": "array", "items": effect_keys()["alert"]},
        **{key: code if key.startswith("reasons") else name for key in (*SETS, *NAMES)},
        **{key: {"anyOf": [{"type": "null"}, mapping("", (), dict.fromkeys(parts, _NULLABLE))]}
           for key, parts in RECORDS.items()},
    }  # fmt: skip
    return mapping("What the answer must be.", (), {key: keys[key] for key in EXPECT_KEYS}) | {"minProperties": 1}
