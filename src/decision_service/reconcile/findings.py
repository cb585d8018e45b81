"""Findings: what is wrong, counted by sort, the first of each kept to be shown, all of them written to a file.

lost          the caller has the answer, neither store nor journal have it
different     both have an answer on the request, with another outcome or amount
unaccounted   the store decided it and the caller's list lacks it: the answer never arrived, or the list is short
damaged       a decision of the store that is not whole: no frame, one that cannot be read, no record in the log
conflict      the journal's answer met another one in the store when it was delivered
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal

import orjson

from decision_service.core.errors import InvalidInput

Sort = Literal["lost", "different", "unaccounted", "damaged", "conflict"]
SORTS: Final[tuple[Sort, ...]] = ("lost", "different", "unaccounted", "damaged", "conflict")
SHOWN_MAX: Final = 20  # of each sort, in the summary


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `acknowledged` is what the caller says, `stored` what the store or the journal does;
    `repair` is empty where none was asked for, `done`, or why it was not."""

    sort: Sort
    decision_id: str
    customer_id: str = ""
    request_id: str = ""
    row: int | None = None
    acknowledged: Mapping[str, Any] = field(default_factory=dict)
    stored: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    repair: str = ""

    def as_json(self) -> dict[str, Any]:
        """For the report; what is not known is left out."""
        told = {
            "finding": self.sort, "decision_id": self.decision_id, "customer_id": self.customer_id,
            "request_id": self.request_id, "row": self.row, "acknowledged": self.acknowledged, "stored": self.stored,
            "note": self.note, "repair": self.repair,
        }  # fmt: skip
        return {name: value for name, value in told.items() if value not in ("", None) and value != {}}


REPAIRED: Final = "done"


class Findings:
    """Where findings go. A context manager."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` gets all of them as JSON lines. Raises InvalidInput if it cannot be written."""
        self.counts: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()
        self.shown: list[Finding] = []
        self._file: IO[bytes] | None = None
        if path is not None:
            try:
                self._file = path.open("wb")
            except OSError as error:
                raise InvalidInput("findings", f"cannot write {path}: {error.strerror}") from None

    def __enter__(self) -> Findings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def total(self) -> int:
        """How many there are."""
        return self.counts.total()

    def take(self, finding: Finding) -> None:
        """Count, show and write one."""
        self.counts[finding.sort] += 1
        self.repaired[finding.sort] += finding.repair == REPAIRED
        if self.counts[finding.sort] <= SHOWN_MAX:
            self.shown.append(finding)
        if self._file is not None:
            self._file.write(orjson.dumps(finding.as_json()) + b"\n")
