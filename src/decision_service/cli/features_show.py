"""`decision-service features show NAME`: everything about one feature or declared attribute."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final

import orjson

from decision_service.cli.policy_options import add_policy_options, policy_of, settings_of
from decision_service.core.errors import NotFound
from decision_service.core.reasons import TEXTS
from decision_service.core.source import nearest_name
from decision_service.dictionary.entry import Dictionary

SHOWN_MAX: Final = 12  # names of features in one line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `features show`."""
    parser.add_argument("name", help="a feature or a declared attribute")
    add_policy_options(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Show; the exit status."""
    policy, _ = policy_of(settings_of(args))
    dictionary = Dictionary(policy)
    told = told_of(dictionary, args.name)
    if args.json:
        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(_lines(told)))
    return 0


def told_of(dictionary: Dictionary, name: str) -> dict[str, Any]:
    """The entry of a feature or attribute. NotFound with the nearest name."""
    if name in dictionary.catalogue.by_name:
        return dictionary.feature(name)
    if name in dictionary.policy.attributes:
        return dictionary.attribute(name)
    near = nearest_name(name, (*dictionary.names, *dictionary.policy.attributes))
    raise NotFound(f"no feature or attribute {name!r}" + (f": did you mean {near}?" if near else ""))


def _lines(told: dict[str, Any]) -> Iterator[str]:
    yield f"{told['name']}    {told['file']}:{told['line']}"
    yield f"  {told['meaning']['en']}"
    if told["meaning"]["zh"]:
        yield f"  {told['meaning']['zh']}"
    yield ""
    for label, text in _facts(told):
        yield f"  {label:<11} {text}"
    for label, items in (("segments", told.get("segments")), ("constants", told.get("constants"))):
        for i, (name, text) in enumerate((items or {}).items()):
            yield f"  {label if i == 0 else '':<11} {name} = {_constant(text)}"
    yield from _listed("same row", [name for name in told.get("same_row", ()) if name != told["name"]])
    yield from _listed("needs", told.get("needs", ()))
    yield from _users(told["used_by"])
    for i, code in enumerate(told["reasons"]):
        yield f"  {'reasons' if i == 0 else '':<11} {code} {TEXTS.get(code, '')}"


def _facts(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if told["sort"] == "attribute":
        yield "type", f"{told['type']}, declared attribute of `{told['source']}`, valid for {told['ttl']}"
    else:
        yield "family", f"{told['family']}  {told['family_title']['en']}  {told['family_title']['zh']}"
        words = f"  ({told['aggregation']})" if told["aggregation"] else ""
        yield "formula", told["formula"] + words
    if told.get("window"):
        yield "window", f"{told['window']['label']}: {told['window']['interval']}"
    if told.get("grain", "customer") != "customer":
        yield "grain", f"{told['grain']}: events of that {told['grain']}"
    yield "unit", told["unit"] or "none"
    yield "null", (f"{told['null']}: " if "null" in told else "") + told["null_rule"]["en"]
    if told["null_rule"]["zh"]:
        yield "", told["null_rule"]["zh"]
    if "computed" in told:
        yield "computed", "with every decision" if told["computed"] else "only when asked for"


def _constant(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_constant, value)) + "]"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _listed(label: str, names: Any) -> Iterator[str]:
    for start in range(0, len(names), SHOWN_MAX):
        yield f"  {label if start == 0 else '':<11} {', '.join(names[start : start + SHOWN_MAX])}"


def _users(uses: list[dict[str, Any]]) -> Iterator[str]:
    told = []
    for use in uses:
        if use["sort"] != "feature":
            beside = ", ".join(part for part in (use["scene"], use["reason"]) if part)
            told.append(f"{use['sort']} {use['name']}" + (f" ({beside})" if beside else ""))
    features = [use["name"] for use in uses if use["sort"] == "feature"]
    for i, line in enumerate(told or ([] if features else ["nobody"])):
        yield f"  {'used by' if i == 0 else '':<11} {line}"
    yield from _listed("" if told else "used by", [f"feature {name}" for name in features])
