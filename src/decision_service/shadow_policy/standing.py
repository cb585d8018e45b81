"""Standing: what is in shadow here, or why nothing is; what `GET /v1/policy` tells of it.

off         nothing is set or published to be in shadow
starting    the process is starting, or compiling its first candidate
shadowing   decisions are evaluated; `problem` says why the policy is not a newer one, if it should be
refused     the only candidate there is cannot be taken: `problem` and `diagnostics` say why
broken      switched off for a while: `problem` says what it did
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

State = Literal["off", "starting", "shadowing", "refused", "broken"]
DISK: Final = "disk"
PUBLISHED: Final = "published"


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one worker. `policy_id` is without lists; `number` of what is published, 0 if it came from the disk."""

    state: State = "off"
    policy_id: str = ""
    label: str = ""
    source: str = ""
    number: int = 0
    problem: str = ""
    diagnostics: tuple[dict[str, Any], ...] = field(default=())
    scorecards: dict[str, str] = field(default_factory=dict)
    rules: int = 0

    def as_json(self) -> dict[str, Any]:
        """For a machine."""
        return {
            "state": self.state, "id": self.policy_id or None, "label": self.label or None,
            "source": self.source or None, "number": self.number, "problem": self.problem or None,
            "diagnostics": list(self.diagnostics), "scorecards": self.scorecards, "rules": self.rules,
        }  # fmt: skip
