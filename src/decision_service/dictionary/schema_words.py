"""The words that JSON Schemas of policy and case files are made of: a text, a name, a choice, a mapping, a date ...

Each takes the meaning that an editor shows beside the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from decision_service.core.expressions.functions import FUNCTIONS
from decision_service.core.limits import EXPRESSION_CHARS_MAX
from decision_service.dictionary.json_schema import DRAFT, Schema

IDENTIFIER: Final = r"^[a-z][a-z0-9_]{0,63}$"
DURATION: Final = r"^[1-9][0-9]{0,8}(s|m|h|d)$"
DATE: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
SCALAR: Final[Schema] = {"type": ["number", "string"]}


def document(title: str, meaning: str, required: Iterable[str], properties: Schema) -> Schema:
    return {"$schema": DRAFT, "title": f"decision-service: {title}", **mapping(meaning, required, properties)}


def mapping(meaning: str, required: Iterable[str], properties: Schema) -> Schema:
    told: Schema = {"description": meaning, "type": "object", "additionalProperties": False, "properties": properties}
    return told | ({"required": list(required)} if required else {})


def text(meaning: str) -> Schema:
    return {"description": meaning, "type": ["string", "number"]}


def identifier(meaning: str) -> Schema:
    return {"description": meaning, "type": "string", "pattern": IDENTIFIER}


def choice(meaning: str, words: Iterable[str]) -> Schema:
    return {"description": meaning, "enum": list(words)}


def explained(meaning: str, words: Mapping[str, str]) -> Schema:
    """A choice of words that editors explain one by one."""
    return {"description": meaning, "oneOf": [{"const": word, "description": told} for word, told in words.items()]}


def named(meaning: str, known: tuple[str, ...]) -> Schema:
    return choice(meaning, known) if known else identifier(meaning)


def expression(meaning: str) -> Schema:
    functions = ", ".join(function.signature for function in FUNCTIONS.values())
    return {
        "description": f"{meaning} Functions: {functions}.", "type": ["string", "number"],
        "maxLength": EXPRESSION_CHARS_MAX,
    }  # fmt: skip


def duration(meaning: str) -> Schema:
    return {"description": meaning, "type": "string", "pattern": DURATION}


def dated(meaning: str, value: Schema) -> Schema:
    """A mapping of dates to values."""
    return {
        "description": meaning, "type": "object", "minProperties": 1, "propertyNames": {"pattern": DATE},
        "additionalProperties": value,
    }  # fmt: skip
