"""`decision-service features list`: every feature in a line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import orjson

from decision_service.cli.policy_options import add_policy_options, policy_of, settings_of
from decision_service.core.features.catalogue import SURGE
from decision_service.core.source import nearest_name
from decision_service.dictionary.entry import Dictionary
from decision_service.dictionary.families import FAMILIES, family_named

WRONG = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `features list`."""
    add_policy_options(parser)
    families = ", ".join(f"{family.letter} {family.en}" for family in FAMILIES)
    parser.add_argument("--family", help=f"only one family, by letter, prefix or name: {families}")
    parser.add_argument("--grain", help="only one grain: customer, facility, loan, device, payee, ip")
    parser.add_argument("--used", action="store_true", help="only what every decision computes")
    parser.add_argument("--all", action="store_true", help="intermediates and `__new` companions as well")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """List; the exit status."""
    family = family_named(args.family) if args.family else None
    if args.family and family is None:
        known = [word for each in FAMILIES for word in (each.letter, each.en, *each.prefixes)]
        near = nearest_name(args.family, known)
        print(f"no family {args.family!r}" + (f": did you mean {near}?" if near else ""), file=sys.stderr)
        return WRONG
    policy, _ = policy_of(settings_of(args))
    dictionary = Dictionary(policy)
    told = [
        line
        for line in map(dictionary.brief, dictionary.names)
        if (family is None or line["family"] == family.letter)
        and (args.grain is None or line["grain"] == args.grain)
        and (line["computed"] or not args.used)
        and (args.all or args.used or not (line["internal"] or SURGE in line["name"]))
    ]
    if args.json:
        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(_lines(told)) if told else "no such features")
    return 0


def _lines(told: list[dict[str, Any]]) -> Iterator[str]:
    rows = [("name", "unit", "null", "grain", "used by", "meaning")]
    rows += [
        (line["name"], line["unit"], line["null"], line["grain"], _used(line), _meaning(line)) for line in told
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]).rstrip()
    yield ""
    yield f"{len(told)} features; {sum(line['computed'] for line in told)} of them computed with every decision"


def _used(line: dict[str, Any]) -> str:
    counts = ((line["rules"], "rule"), (line["scorecards"], "card"), (line["features"], "feature"))
    return ", ".join(f"{n} {what}{'s' if n > 1 else ''}" for n, what in counts if n) or "-"


def _meaning(line: dict[str, Any]) -> str:
    return "  ".join(text for text in (line["meaning"]["en"], line["meaning"]["zh"]) if text)
