"""`decision-service rules diff A B`: what the policy B decides otherwise than A, by meaning and not by lines.

A and B are rules directories or single files. Exit status 0 if nothing differs, 1 if something does, 2 without such a
file, 4 if a file cannot be read as a policy file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

from decision_service.cli.rules_check import FAILED, WRONG, print_findings, unusable
from decision_service.core.source import Document, Findings
from decision_service.differences.comparing import differences
from decision_service.differences.parts import parts_of
from decision_service.differences.report import report_json, report_lines
from decision_service.policy_files import read_directory, read_document

DIFFERENT: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules diff`."""
    parser.add_argument("before", metavar="A", help="rules directory or file as it was")
    parser.add_argument("after", metavar="B", help="rules directory or file as it is")
    parser.add_argument("--notes", action="store_true", help="also notes, meanings and tests, which decide nothing")
    parser.add_argument("--json", action="store_true", help="differences as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare; the exit status."""
    findings = Findings()
    sides = []
    for name in (args.before, args.after):
        documents = documents_at(name, findings)
        if isinstance(documents, str):
            print(documents, file=sys.stderr)
            return WRONG
        sides.append(parts_of(documents))
    if findings.errors:
        print_findings(findings.errors)
        return FAILED
    found = differences(*sides, notes=args.notes)
    if args.json:
        print(orjson.dumps(report_json(found), option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(report_lines(found)))
    return DIFFERENT if found else 0


def documents_at(name: str, findings: Findings) -> Mapping[str, Document] | str:
    """The policy files of a directory, or one file; or why there are none."""
    path = Path(name)
    if path.is_file():
        document = read_document(path, path.name, findings)
        return {} if document is None else {path.name: document}
    return unusable(path) or read_directory(path, findings)
