"""A defect: one thing about an archive that is not as it was written, and where.

audit       what was decided, or another audit column, does not have its digest
personal    what is personal does not have its digest, or is gone though nobody may have taken it away
chain       the row does not follow the one before: something of it, or of the rows before it, was exchanged
position    rows are missing, there twice, or in another order
file        a file cannot be read, is not what its name says, or does not belong
tail        the last rows are missing: a checkpoint, or the store, knows of later ones
checkpoint  the chain is sound and not the one that was pinned: it was forged, or the checkpoint is wrong
document    a policy, its content, a list or a scorecard that rows rest on is missing or was changed
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from decision_service.archive.segments import place_name

Part = Literal["audit", "personal", "chain", "position", "file", "tail", "checkpoint", "document"]
DEFECTS_PER_PLACE_MAX: Final = 20  # told; behind so many nothing new is learnt


class Defect(NamedTuple):
    """One defect. `position` is the first row that it concerns, `last` the last one where they are many; 0: none."""

    part: Part
    what: str
    path: str = ""
    place: int | None = None
    position: int = 0
    last: int = 0
    decision_id: str = ""

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return self._asdict() | {"place": None if self.place is None else place_name(self.place)}

    def __str__(self) -> str:
        rows = f"{self.position}" if self.last in (0, self.position) else f"{self.position} to {self.last}"
        where = [] if self.place is None else [f"place {place_name(self.place)}"]
        where += [f"row {rows}"] if self.position else []
        where += [f"decision {self.decision_id}"] if self.decision_id else []
        where += [self.path] if self.path else []
        return f"{self.part}: {', '.join(where)}{': ' if where else ''}{self.what}"
