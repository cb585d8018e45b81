"""`decision-service rules diff A B`: what the policy B decides otherwise than A, by meaning and not by lines.

A and B are rules directories or single files, or a running service: `http://host:port` is the policy in force there,
`http://host:port#7` the published policy number 7. Exit status 0 if nothing differs, 1 if something does, 2 without
such a file, 4 if a file cannot be read as a policy file, 6 without such a published policy, 7 if the service does not
answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import orjson

from decision_service.cli.findings import FAILED, WRONG, print_findings, unusable
from decision_service.cli.service_options import ask, unreachable
from decision_service.core.errors import NotFound
from decision_service.core.source import Document, Findings
from decision_service.differences.comparing import differences
from decision_service.differences.parts import parts_of
from decision_service.differences.report import report_json, report_lines
from decision_service.http_client import ConnectionLost
from decision_service.policies.files import read_directory, read_document, read_text

DIFFERENT: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules diff`."""
    parser.add_argument("before", metavar="A", help="directory, file or service[#number] as it was")
    parser.add_argument("after", metavar="B", help="directory, file or service[#number] as it is")
    parser.add_argument("--bearer-file", type=Path, help="file that holds the API key or token to send")
    parser.add_argument("--notes", action="store_true", help="also notes, meanings and tests, which decide nothing")
    parser.add_argument("--json", action="store_true", help="differences as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare; the exit status."""
    findings = Findings()
    sides = []
    for name in (args.before, args.after):
        try:
            documents = _documents_at(name, args.bearer_file, findings)
        except ConnectionLost as error:
            return unreachable(error)
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


def _documents_at(name: str, bearer_file: Path | None, findings: Findings) -> Mapping[str, Document] | str:
    """The policy files of a service, a directory, or one file; or why there are none. ConnectionLost, NotFound."""
    if name.startswith(("http://", "https://")):
        files = _published_files(name, bearer_file)
        read = {file: read_text(text, file, findings) for file, text in files.items()}
        return {file: document for file, document in read.items() if document is not None}
    path = Path(name)
    if path.is_file():
        document = read_document(path, path.name, findings)
        return {} if document is None else {path.name: document}
    return unusable(path) or read_directory(path, findings)


def _published_files(address: str, bearer_file: Path | None) -> dict[str, str]:
    """The files of a published policy: of the number behind `#`, else of the one in force."""
    url, _, number = address.partition("#")
    service = argparse.Namespace(url=url, bearer_file=bearer_file)
    if not number:
        versions = ask(service, "GET", "/v1/policy/versions")["versions"]
        number = next((str(version["number"]) for version in versions if version["current"]), "")
    if not number:
        raise NotFound(f"{url} runs no published policy")
    files: dict[str, str] = ask(service, "GET", f"/v1/policy/versions/{quote(number, safe='')}")["files"]
    return files
