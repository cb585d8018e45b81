"""A bundle: one policy as it is published, the rule files as text and the scorecards they were compiled with.

    content   {"files": {name: text}, "scorecards": [[name, version, sha256 of its manifest]]}, and if the files are
              signed "signatures": text of the signatures file; the first scorecard of a name is the champion, others
              are what policy.yaml names as challenger and shadows
              canonical JSON (sorted keys, UTF-8); its SHA-256 is the digest that tells one content from another
    bundle    the content, compressed (zlib): what the store keeps under a number
    head      what is told of a bundle without reading it: digest, policy id, label, when, by whom, whence, the
              digest of every file

A bundle comes from a store that several hosts write, so nothing in it is believed before `unpack` has checked it: the
digest of the content, sizes before anything is expanded, its shape, the number and the names of the files
(`policy_names`).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from decision_service.core.errors import PolicyRejected
from decision_service.core.limits import BUNDLE_BYTES_MAX, POLICY_FILES_MAX
from decision_service.core.policy import Policy
from decision_service.core.scorecards.roles import Cast
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Diagnostic, Findings, Place
from decision_service.policies.files import SIGNATURES_FILE
from decision_service.policies.names import takes_name

CANONICAL_BYTES_MAX: Final = 2 * BUNDLE_BYTES_MAX  # quotes and line ends are escaped
ROLLBACK: Final = "rollback of "  # origin of what the fleet was led back to
SIGNATURES_BYTES_MAX: Final = 65_536
_COMPRESSION: Final = 6


class ScorecardUsed(NamedTuple):
    """A scorecard by name, version and the SHA-256 of its manifest, which names that of the model."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Content:
    """What makes two policies the same one, but for lists and settings."""

    files: Mapping[str, str]
    scorecards: tuple[ScorecardUsed, ...]
    loaded: tuple[Scorecard, ...] = field(default=(), repr=False, compare=False)  # held, not to be loaded again
    signatures: str = ""  # text of the signatures file

    @cached_property
    def canonical(self) -> bytes:
        """The canonical bytes."""
        cards = [tuple(card) for card in self.scorecards]
        told: dict[str, Any] = {"files": dict(self.files), "scorecards": cards}
        if self.signatures:
            told["signatures"] = self.signatures
        return orjson.dumps(told, option=orjson.OPT_SORT_KEYS)

    @property
    def sent_files(self) -> dict[str, str]:
        """The files as somebody sends them: those of the policy, and the signatures if there are any."""
        return {**self.files, **({SIGNATURES_FILE: self.signatures} if self.signatures else {})}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal."""
        return sha256(self.canonical).hexdigest()

    @cached_property
    def file_digests(self) -> dict[str, str]:
        """SHA-256 of every file."""
        return {name: sha256(text.encode()).hexdigest() for name, text in sorted(self.files.items())}

    def pack(self) -> bytes:
        """The bundle."""
        return zlib.compress(self.canonical, _COMPRESSION)


@dataclass(frozen=True, slots=True)
class BundleHead:
    """What is told of a published policy. `origin`: `disk`, `publish`, `restore of N`, or `known`
    (published again by a worker that ran it when the store had forgotten it), or `rollback of N` with the `reason`.
    `forced`: whoever published it wanted it whatever the guard and the watch say."""

    digest: str
    policy_id: str
    label: str
    at_ms: int
    by: str
    origin: str
    files: Mapping[str, str] = field(default_factory=dict)  # name to SHA-256
    scorecards: tuple[ScorecardUsed, ...] = ()
    forced: bool = False
    reason: str = ""

    @property
    def rollback(self) -> dict[str, Any] | None:
        """Of a policy that the fleet was led back to: from what, and why."""
        if not self.origin.startswith(ROLLBACK):
            return None
        return {"of": int(self.origin.removeprefix(ROLLBACK)), "reason": self.reason, "by": self.by}

    def encode(self) -> bytes:
        """As the store keeps it."""
        return orjson.dumps(asdict(self) | {"scorecards": [tuple(card) for card in self.scorecards]})


def head_of(
    content: Content, policy: Policy, at_ms: int, by: str, origin: str, *, forced: bool = False, reason: str = ""
) -> BundleHead:  # fmt: skip
    """The head of a content that compiled to `policy`."""
    return BundleHead(
        content.digest, policy.id, policy.label, at_ms, by, origin, content.file_digests, content.scorecards, forced,
        reason,
    )  # fmt: skip


DAMAGED_HEAD: Final = BundleHead("", "", "", 0, "", "damaged")
"""Stands for a head that cannot be read: the content of no bundle has an empty digest, so it is never taken."""


_LATER_FIELDS: Final[dict[str, Any]] = {"forced": False, "reason": ""}  # heads from before them lack these


def decode_head(raw: bytes) -> BundleHead:
    """The head the store kept, or DAMAGED_HEAD: one that somebody spoilt must not hide the others."""
    try:
        told: dict[str, Any] = _LATER_FIELDS | orjson.loads(raw)
        known = {one.name: told[one.name] for one in fields(BundleHead)}
        cards = tuple(ScorecardUsed(*card) for card in known["scorecards"])
        head = BundleHead(**known | {"files": dict(known["files"]), "scorecards": cards})
    except (ValueError, TypeError, LookupError):
        return DAMAGED_HEAD
    return head if _is_sound(head) else DAMAGED_HEAD


def _is_sound(head: BundleHead) -> bool:
    told = (head.digest, head.policy_id, head.label, head.by, head.origin, head.reason)
    texts = (*told, *head.files, *head.files.values())
    return all(isinstance(text, str) for text in texts) and isinstance(head.at_ms, int)


def used(cast: Cast) -> tuple[ScorecardUsed, ...]:
    """Scorecards as a bundle names them: the champions by name, then challengers and shadows by name and version."""
    champions, variants = (
        {ScorecardUsed(card.name, card.version, card.manifest.sha256) for card in cards}
        for cards in (cast.champions.values(), cast.variants)
    )
    return (*sorted(champions), *sorted(variants - champions))


def content_of(files: Mapping[str, str | bytes], cast: Cast, findings: Findings) -> Content | None:
    """The content of files that are to be published, the signatures among them if they are signed, or None with what is
    wrong with them among the findings."""
    _check_names(files.keys() - {SIGNATURES_FILE}, findings)
    texts: dict[str, str] = {}
    for name, content in files.items():
        try:
            texts[name] = content if isinstance(content, str) else content.decode()
        except UnicodeDecodeError as error:
            findings.error(Place(name, 1, 1), f"byte {error.start} is not UTF-8", expected="UTF-8 text")
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts.values())
    if size > BUNDLE_BYTES_MAX:
        findings.error(_nowhere(files), f"{size:,} bytes of rules together; at most {BUNDLE_BYTES_MAX:,} are published")
    signatures = texts.pop(SIGNATURES_FILE, "")
    if len(signatures) > SIGNATURES_BYTES_MAX:
        findings.error(Place(SIGNATURES_FILE, 1, 1), f"more than {SIGNATURES_BYTES_MAX:,} bytes of signatures")
    loaded = (*cast.champions.values(), *cast.variants)
    return None if findings.errors else Content(texts, used(cast), loaded, signatures)


def _nowhere(files: Iterable[str]) -> Place:
    return Place(next(iter(sorted(files)), "rules"), 1, 1)


def _check_names(files: Collection[str], findings: Findings) -> None:
    if len(files) > POLICY_FILES_MAX:
        findings.error(_nowhere(files), f"{len(files)} files; a policy has at most {POLICY_FILES_MAX}")
    for name in files:
        takes_name(name, findings)


def unpack(bundle: bytes, digest: str, shown_as: str) -> Content:
    """The content of a bundle, checked. PolicyRejected if it is not the content that the head tells of."""
    start = Place(shown_as, 1, 1)
    try:
        reader = zlib.decompressobj()
        canonical = reader.decompress(bundle, CANONICAL_BYTES_MAX + 1)
    except zlib.error:
        raise PolicyRejected([Diagnostic(start, "is damaged: it cannot be decompressed")]) from None
    if len(canonical) > CANONICAL_BYTES_MAX:
        raise PolicyRejected([Diagnostic(start, f"is larger than {CANONICAL_BYTES_MAX:,} bytes")])
    if sha256(canonical).hexdigest() != digest:
        raise PolicyRejected([Diagnostic(start, "is damaged: its content is not the one that was published")])
    content = _told(canonical)
    if content is None:
        raise PolicyRejected([Diagnostic(start, "is damaged: it holds no rule files")])
    findings = Findings()
    _check_names(content.files, findings)
    if findings.errors:
        raise PolicyRejected(findings.errors)
    return content


def _told(canonical: bytes) -> Content | None:
    try:
        told = orjson.loads(canonical)
        cards = tuple(ScorecardUsed(*card) for card in told["scorecards"])
        content = Content(dict(told["files"]), cards, signatures=told.get("signatures", ""))
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    texts = (*content.files, *content.files.values(), content.signatures, *(text for card in cards for text in card))
    return content if all(isinstance(text, str) for text in texts) else None
