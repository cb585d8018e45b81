"""Where a policy comes from: the rules and models of this host, read whole and at rest, or the files of a bundle.

A file that somebody is writing is not read: an editor that saves in several steps leaves, for a moment, a file that may
well compile and means something else. So the files are at rest only if two readings are equal and no process has one of
them open for writing. The kernel says so by granting or refusing a read lease, where the file system has leases and the
file is ours; elsewhere the two readings must do.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from decision_service.core.errors import PolicyRejected
from decision_service.core.policy import POLICY_FILE, Policy, compile_policy
from decision_service.core.scorecards.roles import Cast, cast_of
from decision_service.core.source import Diagnostic, Findings, Place
from decision_service.core.zone import zone_named
from decision_service.interpreter import beside_the_loop
from decision_service.policies.bundle import Content, content_of, used
from decision_service.policies.files import SIGNATURES_FILE, read_all, read_documents, read_text
from decision_service.policies.loading import check_files, roles_in
from decision_service.policies.signatures import NOBODY_ASKED, SignatureRule
from decision_service.scorecards.files import known_versions, load_cast, load_versions

APART_S: Final = 0.02  # between two readings
REST_S: Final = 2.0  # how long somebody who asks for a reload waits for the files to come to rest
Signature = tuple[tuple[str, int, int, int], ...]


class NotAtRest(Exception):
    """A file is being written, `name` if it is known which: look again."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy that compiled, what it was compiled from, and the warnings."""

    policy: Policy
    content: Content
    findings: Findings


class Source(Protocol):
    """What compiles what this host holds: this thread (`PolicySource`), or a process (`CompilingProcess`)."""

    @property
    def rules(self) -> Path:
        """The folder of the policy files."""

    @property
    def models(self) -> Path:
        """The folder of the scorecards."""

    @property
    def signatures(self) -> SignatureRule:
        """Who must have signed."""

    def signature(self) -> Signature:
        """Changes whenever a file below the directories does."""

    def read(self) -> Content:
        """The files and the scorecards that they name. NotAtRest, PolicyRejected, ScorecardRejected."""

    def read_when_at_rest(self) -> Content:
        """The same, waiting a little for the files to come to rest."""

    def with_files(self, files: Mapping[str, str]) -> Content:
        """These files beside the scorecards that they name. PolicyRejected, ScorecardRejected."""

    def check(self, files: Mapping[str, str]) -> list[Diagnostic]:
        """Every finding, with some files replaced or added; nothing is raised."""

    def compile(self, content: Content, *, signed: bool = True) -> Candidate:
        """The policy a content means. `signed`: as it must be to come into force. PolicyRejected, ScorecardRejected."""


@dataclass(frozen=True, slots=True)
class PolicySource:
    """The directories of this host and the settings that a policy is compiled with. Call from a thread."""

    rules: Path
    models: Path
    time_zone: str
    reservation_timeout_ms: int
    signatures: SignatureRule = NOBODY_ASKED

    def signature(self) -> Signature:
        """Changes whenever a file below the directories comes, goes, or is written: path, time, size, inode."""
        return tuple(sorted((*_stats(self.rules), *_stats(self.models))))

    def read(self) -> Content:
        """The files and the scorecards on disk that they name. NotAtRest, PolicyRejected, ScorecardRejected."""
        findings = Findings()
        files = _at_rest(self.rules, findings)
        content = content_of(files, self._cards(files), findings)
        if content is None:
            files.pop(SIGNATURES_FILE, None)
            read_documents(files, findings)
            raise PolicyRejected(findings.errors)
        return content

    def read_when_at_rest(self) -> Content:
        """The same, waiting a little for the files to come to rest. PolicyRejected if they do not."""
        until = time.monotonic() + REST_S
        while True:
            try:
                return self.read()
            except NotAtRest as error:
                if time.monotonic() > until:
                    raise refusal_of(error) from None
                time.sleep(APART_S)

    def with_files(self, files: Mapping[str, str]) -> Content:
        """These files beside the scorecards on disk that they name. PolicyRejected, ScorecardRejected."""
        findings = Findings()
        content = content_of(files, self._cards(files), findings)
        if content is None:
            raise PolicyRejected(findings.errors)
        return content

    def _cards(self, files: Mapping[str, str | bytes]) -> Cast:
        """The scorecards on disk in the versions that the files name."""
        text = files.get(POLICY_FILE)
        document = None if text is None else read_text(text, POLICY_FILE, Findings())
        return load_cast(self.models, {} if document is None else roles_in({POLICY_FILE: document}))

    def check(self, files: Mapping[str, str]) -> list[Diagnostic]:
        """Every finding of the rules folder with some files replaced or added, in file order; nothing is raised."""
        return check_files(self.rules, self.models, self.time_zone, self.reservation_timeout_ms, files)

    def compile(self, content: Content, *, signed: bool = True) -> Candidate:
        """The policy a content means, with the very scorecards it names. PolicyRejected, also if it is not signed as it
        must be; ScorecardRejected."""
        if signed:
            self.signatures.check(content)
        findings = Findings()
        with beside_the_loop():
            documents = read_documents(content.files, findings)
            named = ((card.name, card.version, card.sha256) for card in content.scorecards)
            cast = cast_of(load_versions(self.models, named), known_versions(self.models))
            policy = compile_policy(
                documents, cast.champions, zone_named(self.time_zone), self.reservation_timeout_ms, findings,
                variants=cast.variants, known=cast.known,
            )  # fmt: skip
        if used(cast) != content.scorecards:
            problem = "the scorecards that are published with the policy do not stand in their order"
            raise PolicyRejected([Diagnostic(Place(POLICY_FILE, 1, 1), problem)])
        return Candidate(policy, content, findings)


def refusal_of(error: NotAtRest) -> PolicyRejected:
    """What to say to somebody who asked for files that do not come to rest."""
    findings = Findings()
    findings.error(Place(error.name, 1, 1), "is being written", expected="files that nobody has open for writing")
    return PolicyRejected(findings.errors)


def _stats(directory: Path) -> Iterator[tuple[str, int, int, int]]:
    yield str(directory), int(directory.is_dir()), 0, 0
    for folder, _, names in os.walk(directory, followlinks=True):
        for name in names:
            path = Path(folder, name)
            with suppress(OSError):
                status = path.stat()
                yield str(path), status.st_mtime_ns, status.st_size, status.st_ino


def _at_rest(rules: Path, findings: Findings) -> dict[str, bytes]:
    """The files, read twice. NotAtRest."""
    ignored = Findings()
    first = read_all(rules, ignored)
    time.sleep(APART_S)
    files = read_all(rules, findings)
    for name in sorted(first.keys() | files.keys()):
        if first.get(name) != files.get(name) or _is_being_written(rules / name):
            raise NotAtRest(name)
    return files


def _is_being_written(path: Path) -> bool:
    """Whether a process has the file open for writing; False where that cannot be found out.

    Should somebody open it during the microseconds that the lease is held, the kernel would send SIGIO, which ends a
    process; SIGURG, which is ignored by default, is asked for instead.
    """
    with suppress(OSError), path.open("rb") as file:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return True
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
