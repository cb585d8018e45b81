"""Loading a policy from the rules and models of this host, once: for commands, checks and tests.

A worker loads through `policies/source.py`, which also sees that nobody is writing the files; both compile the same
way. `load_policy` raises what is wrong, `check_files` and `examine_files` raise nothing and tell everything. Files
given by name replace or join those of the directory and never leave it (`policies/names.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from decision_service.core.errors import PolicyRejected, ScorecardRejected
from decision_service.core.policy import POLICY_FILE, Policy, compile_policy
from decision_service.core.scorecards.roles import RolesSpec, read_roles
from decision_service.core.source import Diagnostic, Document, Findings, Place
from decision_service.core.zone import zone_named
from decision_service.interpreter import beside_the_loop
from decision_service.policies.files import SIGNATURES_FILE, read_directory, read_text
from decision_service.policies.names import takes_name
from decision_service.scorecards.files import load_cast


def load_policy(rules: Path, models: Path, time_zone: str, reservation_timeout_ms: int) -> tuple[Policy, Findings]:
    """Read and compile what is on disk. PolicyRejected with all diagnostics; ScorecardRejected."""
    findings = Findings()
    with beside_the_loop():
        documents = read_directory(rules, findings)
        return _compile(documents, models, time_zone, reservation_timeout_ms, findings), findings


def _compile(
    documents: Mapping[str, Document],
    models: Path,
    time_zone: str,
    reservation_timeout_ms: int,
    findings: Findings,
) -> Policy:
    cast = load_cast(models, roles_in(documents))
    return compile_policy(
        documents, cast.champions, zone_named(time_zone), reservation_timeout_ms, findings, variants=cast.variants,
        known=cast.known,
    )  # fmt: skip


def roles_in(documents: Mapping[str, Document]) -> Mapping[str, RolesSpec]:
    """The roles that `policy.yaml` gives, as far as it can be read; compiling tells what is wrong with it."""
    document = documents.get(POLICY_FILE)
    return {} if document is None else read_roles(document.root, Findings())


def check_files(
    rules: Path, models: Path, time_zone: str, reservation_timeout_ms: int, files: Mapping[str, str] | None = None
) -> list[Diagnostic]:
    """Every finding of the rules directory, with some files replaced or added, in file order; nothing is raised."""
    with beside_the_loop():
        return examine_files(rules, models, time_zone, reservation_timeout_ms, files or {})[1]


def examine_files(
    rules: Path, models: Path, time_zone: str, reservation_timeout_ms: int, files: Mapping[str, str]
) -> tuple[Policy | None, list[Diagnostic]]:
    """The policy, or None if it does not compile, and every finding in file order; nothing is raised."""
    findings = Findings()
    policy = None
    documents = dict(read_directory(rules, findings))
    for name, text in files.items():
        if name == SIGNATURES_FILE:  # of the files, and none of them
            continue
        document = read_text(text, name, findings) if takes_name(name, findings) else None
        if document is not None:
            documents[name] = document
    try:
        policy = _compile(documents, models, time_zone, reservation_timeout_ms, findings)
    except PolicyRejected:
        pass  # the findings tell
    except ScorecardRejected as error:
        findings.error(Place(error.path, 1, 1), error.message)
    return policy, sorted(findings.diagnostics, key=lambda finding: finding.place)
