"""`decision-service rules sign DIR --key FILE`: put one's name under a policy, just as its files are now.

Adds the signature to `DIR/policy.signatures`, in the place of an older one of the same signer. Exit status 4 if the
policy does not compile (nobody should sign what cannot be in force; `--unchecked` signs all the same), 2 without such a
directory or key.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import orjson

from decision_service.cli.findings import FAILED, print_findings, unusable
from decision_service.cli.policy_options import settings_of
from decision_service.core.errors import PolicyRejected
from decision_service.core.scorecards.roles import NO_CARDS
from decision_service.core.source import Diagnostic, Findings
from decision_service.policies.bundle import Content, content_of
from decision_service.policies.files import SIGNATURES_FILE, read_all
from decision_service.policies.loading import examine_files
from decision_service.policies.signatures import signatures_in, signed
from decision_service.policies.signers import read_key
from decision_service.settings import Settings

WRONG: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules sign`."""
    parser.add_argument("rules", type=Path, metavar="DIR", help="rules directory")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key of `rules keygen`")
    parser.add_argument("--models", type=Path, help="scorecards directory (setting `models`)")
    parser.add_argument("--unchecked", action="store_true", help="sign even what does not compile here")
    parser.add_argument("--json", action="store_true", help="signer, serial and signers so far as JSON")


def run(args: argparse.Namespace) -> int:
    """Sign; the exit status."""
    settings = settings_of(args)
    problem = unusable(settings.rules)
    if problem:
        print(problem, file=sys.stderr)
        return WRONG
    try:
        key = read_key(args.key)
    except (ValueError, OSError) as error:
        print(f"decision-service: {error}", file=sys.stderr)
        return WRONG
    content = _content(settings.rules)
    serial, found = _examined(settings)
    if not args.unchecked and any(finding.severity == "error" for finding in found):
        print_findings(found)
        print("not signed: the policy does not compile (--unchecked signs all the same)", file=sys.stderr)
        return FAILED
    text = signed(content, key)
    _replace(settings.rules / SIGNATURES_FILE, text)
    names = [signature.signer for signature in signatures_in(text)]
    if args.json:
        print(orjson.dumps({"signer": key.name, "serial": serial, "signatures": names}).decode())
    else:
        print(f"{len(content.files)} files signed by {key.name}; signatures: {', '.join(names)}")
    if serial is None:
        print("policy.yaml has no `serial`: a service that asks for signatures will not take it", file=sys.stderr)
    return 0


def _content(rules: Path) -> Content:
    """What is signed: every policy file, with the signatures that are there. PolicyRejected."""
    findings = Findings()
    files = read_all(rules, findings)
    content = content_of(files, NO_CARDS, findings)
    if content is None:
        raise PolicyRejected(findings.errors)
    return content


def _examined(settings: Settings) -> tuple[int | None, list[Diagnostic]]:
    policy, found = examine_files(
        settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms, {}
    )
    return (None if policy is None else policy.serial), found


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, "utf-8")
    partial.replace(path)
