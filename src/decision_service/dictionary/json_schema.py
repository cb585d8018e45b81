"""JSON Schema (draft 7) of feature files and of the attributes file, for editors that complete and check as one types.

Made from the tables that the compiler itself reads: aggregations, group keys, units, null codes. The files in
`decision_service/schemas/` are its output, kept because an editor wants a file; a test keeps them equal, and another
fails for a key of a row that has no schema here. The schema knows what one row may say; what rows say together (names
that exist, units that fit) is for `features check`.

    # yaml-language-server: $schema=features.schema.json      first line of a feature file
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from decision_service.core.event import CHANNELS, KINDS
from decision_service.core.expressions.functions import FUNCTIONS
from decision_service.core.features.aggregations import AGGREGATIONS, MOMENTS, SEGMENT_KEYS, SERIES, UNITS
from decision_service.core.features.catalogue import section_names
from decision_service.core.features.event_names import EVENT_NAMES, KEYS, MEASURES
from decision_service.core.features.grains import GRAINS
from decision_service.core.features.nulls import EXPECTED as NULL_CODES
from decision_service.core.features.rows import row_keys
from decision_service.core.limits import EXPRESSION_CHARS_MAX
from decision_service.core.rules.attributes import ATTRIBUTE_KEYS, ATTRIBUTE_KINDS
from decision_service.core.rules.constants import UNITS as ATTRIBUTE_UNITS

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_SLOT: Final = r"\{\w+([+-]\d+)?\}"
_DURATION: Final = r"^([1-9][0-9]{0,8}(ms|s|m|h|d)|life)$"
_DELAY: Final = r"^[1-9][0-9]{0,8}(ms|s|m|h|d)$"
_NULL_CODE: Final = (
    r"^(Z|-|D|X|>=1|N\d+(->-?\d+(\.\d+)?)?|H\d*p?|Cap\[-?[\d.e]+, ?-?[\d.e]+\])$"
)  # fmt: skip
_TTL: Final = r"^[1-9][0-9]{0,8}(s|m|h|d)$"
_ROW_NAME: Final = rf"^([a-z0-9_]|{_SLOT})+$"
_IDENTIFIER: Final = r"^[a-z][a-z0-9_]{0,63}$"

Schema = dict[str, Any]


def features_schema() -> Schema:
    """The schema of a file under `rules/features/`."""
    return {
        "$schema": DRAFT,
        "title": "decision-service: features",
        "description": "Segments of events, features over them, and features derived from features.",
        "type": "object",
        "additionalProperties": False,
        "properties": {section: _SECTIONS[section] for section in section_names()},
    }


def attributes_schema() -> Schema:
    """The schema of `rules/attributes.yaml`."""
    return {
        "$schema": DRAFT,
        "title": "decision-service: declared attributes",
        "description": "Values that arrive from outside, with a source and a time to live.",
        "type": "object",
        "additionalProperties": False,
        "required": ["attributes"],
        "properties": {
            "attributes": {
                "type": "object",
                "propertyNames": {"pattern": _IDENTIFIER},
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["type", "source", "ttl", "meaning"],
                    "properties": {key: _ATTRIBUTE[key] for key in ATTRIBUTE_KEYS},
                },
            }
        },
    }


def schema_text(schema: Schema) -> str:
    """A schema as the files hold it."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


# --- values ---


def _text(meaning: str, **more: Any) -> Schema:
    return {"type": "string", "minLength": 1, "description": meaning, **more}


def _choice(meaning: str, words: Any) -> Schema:
    return {"description": meaning, "enum": [word for word in words if word]}


def _number(meaning: str, low: float | None = None, high: float | None = None) -> Schema:
    """A number, or a parameter of `each`."""
    number: Schema = {"type": "number"}
    number |= {} if low is None else {"minimum": low}
    number |= {} if high is None else {"maximum": high}
    return {"description": meaning, "anyOf": [number, {"type": "string", "pattern": _SLOT}]}


def _whole(meaning: str, low: int, high: int | None = None) -> Schema:
    number: Schema = {"type": "integer", "minimum": low} | ({} if high is None else {"maximum": high})
    return {"description": meaning, "anyOf": [number, {"type": "string", "pattern": _SLOT}]}


def _flag(meaning: str) -> Schema:
    return {"description": meaning, "type": "boolean"}


def _one_or_more(item: Schema, meaning: str) -> Schema:
    return {"description": meaning, "anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def _expression(meaning: str) -> Schema:
    functions = ", ".join(function.signature for function in FUNCTIONS.values())
    return {
        "description": f"{meaning} Functions: {functions}.", "maxLength": EXPRESSION_CHARS_MAX,
        "type": ["string", "number"],
    }  # fmt: skip


def _segment(meaning: str) -> Schema:
    return _text(meaning + " (the name of a segment).", pattern=_ROW_NAME)


_NAMES: Final = ", ".join(spec.name for spec in EVENT_NAMES)
_CONDITION: Final = _expression(
    f"A condition over one event: {_NAMES}; inputs such as facility.limit; constants. Kinds: {', '.join(KINDS)}. "
    f"Channels: {', '.join(CHANNELS)}."
)
_SEGMENT_KEYS: Final[dict[str, str]] = {
    "while": "Segment that the newest events must be in to be counted",
    "since": "Segment whose newest event the counting starts after",
    "after": "Segment of the events that come first",
    "before": "Segment of the events that come afterwards",
    "repaid": "Segment of what pays a balance, or what fell due, down",
    "among": "Segment of the events a share is of",
    "limits": "Segment of the line's limit changes",
    "answer": "Segment of the events that answer",
}
KEY_SCHEMAS: Final[Mapping[str, Schema]] = {
    "expr": _expression("A formula over features, inputs, attributes and constants."),
    "agg": _choice("How the events become one number.", sorted((*AGGREGATIONS, *SERIES, *MOMENTS))),
    "of": _segment("Which events"),
    **{key: _segment(meaning) for key, meaning in _SEGMENT_KEYS.items()},
    "value": _choice("What of an event is looked at; its amount by default.", MEASURES),
    "by": _choice("What the events are grouped by.", KEYS),
    "over": _text("A row with `buckets`.", pattern=_ROW_NAME),
    "with": _text("Another row with `buckets`.", pattern=_ROW_NAME),
    "against": _text("A number of money, such as customer.outstanding."),
    "calendar": _text("A declared calendar.", pattern=_ROW_NAME),
    "windows": {
        "description": "A feature for each: `(t - W, t]`; a mapping gives the windows other labels.",
        "anyOf": [
            {"type": "string", "pattern": _DURATION},
            {"type": "array", "items": {"type": "string", "pattern": _DURATION}, "minItems": 1},
            {"type": "object", "additionalProperties": {"type": "string", "pattern": _DURATION}, "minProperties": 1},
        ],
    },
    "window": _text("One window, not told in the name.", pattern=_DURATION),
    "buckets": _text("Rolling buckets, such as 12 x 30d.", pattern=r"^\d{1,3} x \d+[mhd]$"),
    "months": _one_or_more({"type": "integer", "minimum": 1, "maximum": 24}, "Numbers of buckets, a feature for each."),
    "month": {"type": "integer", "minimum": 1, "maximum": 24, "description": "One number of buckets."},
    "each": {
        "description": "Parameters: the row is repeated for every combination of their values.",
        "type": "object", "minProperties": 1,
        "additionalProperties": _one_or_more({"type": ["string", "number"]}, "Values of the parameter."),
    },
    "null": {
        **_one_or_more({"type": "string", "pattern": _NULL_CODE}, f"When the value is unknown: {NULL_CODES}."),
    },
    "unit": {"description": "Unit of the value.", "enum": list(UNITS)},
    "en": _text("Meaning in English."),
    "zh": _text("Meaning in Chinese."),
    "incl": _flag("The request itself counts."),
    "internal": _flag("Only for other features: not offered to rules and scorecards by the reference."),
    "grain": _choice("Whose events; the customer's by default.", GRAINS),
    "delay": _text("The window ends this much before the decision.", pattern=_DELAY),
    "skip": _whole("Newest buckets left out.", 0),
    "q": _number("Which quantile.", 0, 1),
    "top": _whole("How many of the largest values.", 1),
    "cap": _whole("Most that is counted.", 1),
    "width": _text("A duration.", pattern=_DELAY),
    "within": _text("A duration.", pattern=_DELAY),
    "half_life": _number("Days.", 0),
    "share": _number("A ratio.", 0),
    "least": _number("A level that is reached."),
    "above": _number("A level that is exceeded."),
    "below": _number("A level that is not reached."),
}  # fmt: skip
"""What every key of a row takes; a key may be in more than one section."""


# --- rows ---


def _segments() -> Schema:
    row = {
        "type": "object", "additionalProperties": False, "required": ["expr"],
        "properties": {**{key: KEY_SCHEMAS[key] for key in row_keys("segments")}, "expr": _CONDITION},
    }  # fmt: skip
    return {
        "description": "Named conditions: which events a feature looks at.", "type": "object",
        "propertyNames": {"pattern": _ROW_NAME},
        "additionalProperties": {"anyOf": [{**_CONDITION, "type": "string"}, row]},
    }  # fmt: skip


def _told() -> Schema:
    """A row that is not internal says its unit and its meaning."""
    return {
        "if": {"not": {"required": ["internal"], "properties": {"internal": {"const": True}}}},
        "then": {"required": ["unit", "en", "zh"]},
    }


def _wants() -> list[Schema]:
    """What each aggregation must be given."""
    needs: dict[tuple[str, ...], list[str]] = {}
    for name, aggregation in AGGREGATIONS.items():
        needs.setdefault(("of", *aggregation.wants), []).append(name)
    for name in SERIES:
        needs.setdefault(("over",), []).append(name)
    rules: list[Schema] = [
        {"if": _is(names), "then": {"required": list(wanted)}} for wanted, names in sorted(needs.items())
    ]
    spans = [{"required": [key]} for key in ("window", "windows", "buckets")]
    rules.append({"if": _is(list(AGGREGATIONS)), "then": {"anyOf": spans}})
    rules.append({"if": {"required": ["buckets"]}, "then": _is(["count", "sum"])})
    return rules


def _is(names: list[str]) -> Schema:
    return {"required": ["agg"], "properties": {"agg": {"enum": sorted(names)}}}


def _one_span() -> Schema:
    """At most one of the keys that say a window."""
    spans = ("window", "windows", "buckets", "months", "month")
    pairs = [[a, b] for i, a in enumerate(spans) for b in spans[i + 1 :]]
    return {"not": {"anyOf": [{"required": pair} for pair in pairs]}}


def _rows(section: str, required: list[str], meaning: str, *rules: Schema) -> Schema:
    return {
        "description": meaning, "type": "object", "propertyNames": {"pattern": _ROW_NAME},
        "additionalProperties": {
            "type": "object", "additionalProperties": False, "required": [*required, "null"],
            "properties": {key: KEY_SCHEMAS[key] for key in row_keys(section)},
            "allOf": [_told(), _one_span(), *rules],
        },
    }  # fmt: skip


_SCALAR: Final[Schema] = {"type": ["number", "string"]}
_DATE: Final[Schema] = {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
_SECTIONS: Final[Mapping[str, Schema]] = {
    "constants": {
        "description": "Numbers, texts, or lists of either, by name.", "type": "object",
        "propertyNames": {"pattern": _IDENTIFIER}, "additionalProperties": _one_or_more(_SCALAR, "A named constant."),
    },
    "calendars": {
        "description": "Versioned lists of local dates.", "type": "object",
        "additionalProperties": {
            "type": "object", "additionalProperties": False, "required": ["from", "until", "version", "days"],
            "properties": {
                "from": _DATE, "until": _DATE, "version": {"type": ["string", "number"]},
                "days": {"type": "array", "items": _DATE},
            },
        },
    },
    "segments": _segments(),
    "features": _rows("features", ["agg"], "Features computed from events.", *_wants()),
    "derived": _rows("derived", ["expr"], "Features computed from features, inputs and attributes."),
}  # fmt: skip
_ATTRIBUTE: Final[Mapping[str, Schema]] = {
    "type": _choice("What a value is.", ATTRIBUTE_KINDS),
    "unit": _choice("Unit of a number.", ATTRIBUTE_UNITS),
    "source": _text("Who supplies it.", pattern=_IDENTIFIER),
    "ttl": _text("How long a value holds.", pattern=_TTL),
    "meaning": _text("Meaning in English."),
    "meaning_zh": _text("Meaning in Chinese."),
}
assert set(_SEGMENT_KEYS) >= set(SEGMENT_KEYS), "a segment key without a schema"
