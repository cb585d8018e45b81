"""The terms of an import: what it works with and within."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from decision_service.api.parse import Clock
from decision_service.imports.links import LinksKept
from decision_service.recording import Retention
from decision_service.store import Store

TIMEOUT_S: Final = 30.0
MEMORY_BYTES_MAX: Final = 256 * 1_048_576  # of rows held; beyond, they go to files in the temporary directory


class Watch(Protocol):
    """Is told how far the work is."""

    def __call__(self, stage: str, done: int, total: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What an import works with."""

    store: Store
    clock: Clock
    retention: Retention
    links_kept: LinksKept
    watch: Watch
    again: bool = False  # whether to go through what an earlier run finished
    memory_bytes_max: int = MEMORY_BYTES_MAX


def import_id_of(path: Path, sort: str) -> str:
    """The id under which the import of a file's content is kept."""
    with path.open("rb") as file:
        return f"{sort}:{hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()}"
