"""YAML nodes of a case as the bodies of the API's calls.

Nothing is guessed: fields that are ids and words keep the text that was typed, instants are RFC 3339 with an offset or
relative to `now` (`-3d`, `-2h30m`, `+10m`, `now`), what is written as a number is one. Every field's place is kept
under its dotted path, so that whatever the API's parsers find wrong with a body can be shown where it is written.
"""

from __future__ import annotations

import re
from typing import Any, Final

from decision_service.api.instants import parse_instant
from decision_service.cases.case import Body, Instant
from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from decision_service.core.rules.fields import is_number
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, SequenceNode

INSTANTS: Final = frozenset(
    {"as_of", "granted_at", "expires_at", "reviewed_at", "next_due_at", "occurred_at", "at", "now"}
)
TEXTS: Final = frozenset(
    {
        "request_id", "event_id", "customer_id", "facility_id", "device_id", "counterparty_id", "decision_id",
        "about_event_id", "product", "currency", "status", "kind", "channel", "purpose", "category", "ip", "scene",
    }
)  # fmt: skip
RELATIVE: Final = re.compile(r"([+-])((?:[0-9]{1,6}[dhms])+)", re.ASCII)
_PART: Final = re.compile(r"([0-9]+)([dhms])", re.ASCII)
_UNIT_MS: Final = {"d": DAY_MS, "h": HOUR_MS, "m": MINUTE_MS, "s": SECOND_MS}
_EXPECTED: Final = "2026-11-21T03:12:09+08:00, now, or relative to `now`: -3d, -2h30m, +10m"


class Places(dict[str, Place]):
    """Where each field of a body is written, by its dotted path."""

    def nearest(self, path: str) -> Place:
        """The place of a field, or of the nearest thing around it that is written."""
        while path and path not in self:
            path = path.rpartition(".")[0]
        return self[path]


def instant_of(node: Node, now_ms: int | None, findings: Findings) -> int | None:
    """An instant in ms UTC, or None with the reason among the findings. Without `now_ms` nothing may be relative."""
    text = node.text if isinstance(node, Scalar) else ""
    if now_ms is not None and text == "now":
        return now_ms
    match = RELATIVE.fullmatch(text)
    if now_ms is not None and match is not None:
        away_ms = sum(int(number) * _UNIT_MS[unit] for number, unit in _PART.findall(match[2]))
        return now_ms + (away_ms if match[1] == "+" else -away_ms)
    try:
        return parse_instant(text)
    except ValueError:
        findings.error(node.place, f"`{text}` is not an instant", expected=_EXPECTED, length=max(1, len(text)))
    return None


def value_of(node: Node, field: str, now_ms: int, places: Places, path: str, findings: Findings) -> Any:
    """What stands under one field of a body."""
    places[path] = node.place
    if isinstance(node, MappingNode):
        return body_of(node, now_ms, places, path, findings)
    if isinstance(node, SequenceNode):
        return [value_of(item, field, now_ms, places, f"{path}.{i}", findings) for i, item in enumerate(node)]
    if field in INSTANTS:
        at_ms = instant_of(node, now_ms, findings)
        return None if at_ms is None else Instant(at_ms)
    return node.text if field in TEXTS else plain_value(node)


def body_of(node: MappingNode, now_ms: int, places: Places, path: str, findings: Findings) -> Body:
    """A mapping as a body; `path` is its own path, the empty string for a whole body."""
    places.setdefault(path, node.place)
    before = f"{path}." if path else ""
    return {
        key.text: value_of(value, key.text, now_ms, places, before + key.text, findings) for key, value in node.items
    }


def plain_value(node: Scalar) -> Any:
    """A number, true, false, null or a text."""
    if node.quoted:
        return node.text
    if is_number(node):
        value = float(node.text)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return {"true": True, "false": False, "null": None}.get(node.text, node.text)
