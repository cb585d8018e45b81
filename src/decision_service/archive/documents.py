"""Documents: the policies that rows name, with rule files, lists and scorecards, are there and what their names say.

    policies/<id>.json ──▶ contents/<digest> · cards/<sha256>.tar · lists/<digest>     (`policies/sources.py`)

A part is named by its digest, which is made again here. The record of a policy is named by the policy's id, which takes
compiling to prove (`archive.policies.load_policy` does); so checkpoints pin the SHA-256 of every record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256

import orjson

from decision_service.archive.defects import Defect
from decision_service.archive.files import Archive
from decision_service.core.errors import PolicyRejected
from decision_service.policies.bundle import unpack
from decision_service.policies.list_copies import rebuild
from decision_service.policies.sources import card_name, content_name, list_name, record_name, unpacked
from decision_service.scorecards.files import MANIFEST_FILE


class Documents:
    """Every document is looked at once, however many policies rest on it."""

    def __init__(self, archive: Archive) -> None:
        self.looked_at: set[str] = set()
        self._archive = archive

    def check(self, named: Collection[str], pinned: Mapping[str, str]) -> Iterator[Defect]:
        """What is wrong with the records of these policies, those that checkpoints pinned, and what they rest on."""
        names = {record_name(policy_id) for policy_id in named} | set(pinned)
        for name in sorted(names):
            self.looked_at.add(name)
            try:
                record = self._archive.read_bytes(name)
            except FileNotFoundError:
                by = "a checkpoint knows of it" if name in pinned else "rows name it"
                yield Defect("document", f"is missing, and {by}", name)
                continue
            if pinned.get(name, digest := sha256(record).hexdigest()) != digest:
                yield Defect("document", "was changed after a checkpoint pinned it", name)
            yield from self._parts(name, record)

    def _parts(self, name: str, record: bytes) -> Iterator[Defect]:
        try:
            told = orjson.loads(record)
            content, lists = told["content"], sorted(told["lists"].values())
            cards = [digest for _, _, digest in told["cards"]]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            yield Defect("document", f"is no record of a policy: {error}", name)
            return
        wanted = [(content_name(content), content, _check_content)]
        wanted += [(card_name(digest), digest, _check_card) for digest in cards]
        wanted += [(list_name(digest), digest, self._check_list) for digest in lists]
        for part, digest, check in wanted:
            if part in self.looked_at:
                continue
            self.looked_at.add(part)
            try:
                check(self._archive.read_bytes(part), digest)
            except FileNotFoundError:
                yield Defect("document", f"is missing, and {name} rests on it", part)
            except PolicyRejected:
                yield Defect("document", "is not what its name says: it was changed", part)
            except ValueError as error:
                yield Defect("document", f"is not what its name says: {error}", part)

    def _check_list(self, document: bytes, digest: str) -> None:
        del document  # read again, with what it builds on
        rebuild(digest, self._list)

    def _list(self, digest: str) -> bytes | None:
        self.looked_at.add(list_name(digest))
        try:
            return self._archive.read_bytes(list_name(digest))
        except FileNotFoundError:
            return None


def _check_content(document: bytes, digest: str) -> None:
    unpack(document, digest, content_name(digest))


def _check_card(document: bytes, digest: str) -> None:
    """The manifest has its digest, and names those of all other files."""
    files = unpacked(document)
    manifest = files[MANIFEST_FILE]
    if sha256(manifest).hexdigest() != digest:
        raise ValueError("its manifest was changed")
    for name, content in files.items():
        if name != MANIFEST_FILE and sha256(content).hexdigest().encode() not in manifest:
            raise ValueError(f"{name} was changed")
