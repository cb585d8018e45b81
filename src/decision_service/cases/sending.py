"""Bodies of a case as they are sent: instants as text, decisions of earlier steps by the ids they got.

A server's clock cannot be moved, so a case sent to one is shifted instead, by whole weeks (hours and weekdays stay what
they are), and its ids are made its own, so that two cases on one server never meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from decision_service.api.instants import format_instant
from decision_service.cases.case import Instant, OfStep
from decision_service.core.limits import DAY_MS

WEEK_MS: Final = 7 * DAY_MS
IDS: Final = frozenset(
    {"customer_id", "facility_id", "device_id", "counterparty_id", "event_id", "request_id", "about_event_id"}
)
SOME_DECISION: Final = "d000" + "0" * 32  # stands for a decision that has not been made yet


@dataclass(frozen=True, slots=True)
class Shift:
    """How a case is changed on its way: instants later by `ms`, ids behind `prefix` (none: as they are)."""

    ms: int = 0
    prefix: str = ""

    def id(self, text: str) -> str:
        """An id, or a member of a list."""
        return f"{self.prefix}{text}"

    def address(self, text: str) -> str:
        """An address: of another network for another prefix, and of one network where they were of one."""
        if not self.prefix or ":" in text:
            return text
        network, _, host = text.rpartition(".")
        digest = blake2b(f"{self.prefix}{network}".encode(), digest_size=2).digest()
        return f"10.{digest[0]}.{digest[1]}.{host}"


UNSHIFTED: Final = Shift()


def shift_to(now_ms: int, real_now_ms: int, prefix: str) -> Shift:
    """The shift that brings an instant to the week that ends now."""
    return Shift((real_now_ms - now_ms) // WEEK_MS * WEEK_MS, prefix)


@dataclass(frozen=True, slots=True)
class _Renderer:
    shift: Shift
    decisions: Mapping[int, str] = field(default_factory=dict)

    def value(self, name: str, value: Any) -> Any:
        match value:
            case Instant(ms):
                return format_instant(ms + self.shift.ms)
            case OfStep(number):
                return self.decisions.get(number, SOME_DECISION)
            case dict():
                return {key: self.value(key, item) for key, item in value.items()}
            case list():
                return [self.value(name, item) for item in value]
        text: Callable[[str], str] | None = self.shift.id if name in IDS else None
        if name == "ip":
            text = self.shift.address
        return text(value) if text is not None and isinstance(value, str) else value


def rendered(body: Any, shift: Shift = UNSHIFTED, decisions: Mapping[int, str] | None = None) -> Any:
    """A body as JSON takes it. `decisions` are the ids of the decisions made so far, by their step."""
    return _Renderer(shift, decisions or {}).value("", body)
