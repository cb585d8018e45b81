"""Every JSON Schema of policy and case files by the name that `decision-service rules schema` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from decision_service.dictionary.case_schema import case_schema
from decision_service.dictionary.json_schema import Schema
from decision_service.dictionary.policy_schema import Names, constants_schema, policy_schema, rules_schema

SCHEMAS: Final[Mapping[str, Callable[[Names], Schema]]] = {
    "rules": rules_schema, "constants": constants_schema, "policy": policy_schema, "case": case_schema,
}  # fmt: skip
