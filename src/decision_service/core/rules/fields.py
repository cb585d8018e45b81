"""Typed reading of YAML nodes: the text that was typed becomes a number, a duration, a date, a name; or a finding.

Nothing is guessed. A number is written as a number (`012`, `1_000`, `1:30`, `no` and `"5"` are not); text that is to be
a string constant is quoted; a duration carries its unit; a date is `2026-01-31` or an instant with an offset.
Every reader returns None after recording why.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import Final

from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, SequenceNode, nearest_name
from decision_service.core.zone import Zone

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_IDENTIFIER: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_UNIT_MS: Final = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}


def mapping(node: Node | None, what: str, place: Place, findings: Findings) -> MappingNode | None:
    """`node` as a mapping; `place` is where its key stands, for when it is missing altogether."""
    if isinstance(node, MappingNode):
        return node
    at = place if node is None else node.place
    findings.error(at, f"{what} must be a mapping", expected="`key: value` lines or {key: value}")
    return None


def sequence(node: Node, what: str, findings: Findings) -> SequenceNode | None:
    """`node` as a sequence."""
    if isinstance(node, SequenceNode):
        return node
    findings.error(node.place, f"{what} must be a list", expected="`- item` lines or [item, item]")
    return None


def check_keys(
    node: MappingNode, known: Collection[str], required: Collection[str], what: str, findings: Findings
) -> bool:
    """Report unknown and missing keys; whether there were none."""
    sound = True
    for key, _ in node.items:
        if key.text not in known:
            sound = False
            findings.error(
                key.place, f"unknown key `{key.text}` in {what}", expected=", ".join(known),
                nearest=nearest_name(key.text, known), length=len(key.text),
            )  # fmt: skip
    for name in required:
        if node.get(name) is None:
            sound = False
            findings.error(node.place, f"{what} has no `{name}`")
    return sound


def scalar(node: Node, what: str, findings: Findings) -> Scalar | None:
    """`node` as a scalar with text in it."""
    if isinstance(node, Scalar) and node.text:
        return node
    findings.error(node.place, f"{what} must be a text" if isinstance(node, Scalar) else f"{what} must be one value")
    return None


def number(node: Node, what: str, findings: Findings) -> float | None:
    """`node` as a finite number."""
    if isinstance(node, Scalar) and not node.quoted and _NUMBER.fullmatch(node.text):
        value = float(node.text)
        if abs(value) < float("inf"):
            return value
    shown = f"`{node.text}`" if isinstance(node, Scalar) else "this"
    length = len(node.text) if isinstance(node, Scalar) else 1
    findings.error(
        node.place, f"{what}: {shown} is not a number", expected="a number such as 12, 0.25 or 1e6", length=length
    )
    return None


def is_number(node: Node) -> bool:
    """Whether `node` is written as a number."""
    return isinstance(node, Scalar) and not node.quoted and _NUMBER.fullmatch(node.text) is not None


def identifier(node: Node, what: str, findings: Findings) -> str | None:
    """`node` as a name: lower-case letters, digits and underscores."""
    if isinstance(node, Scalar) and _IDENTIFIER.fullmatch(node.text):
        return node.text
    shown = f"`{node.text}`" if isinstance(node, Scalar) else "this"
    findings.error(
        node.place, f"{what}: {shown} is not a name", expected="lower-case letters, digits and underscores, 64 at most"
    )
    return None


def one_of(node: Node, known: Collection[str], what: str, findings: Findings) -> str | None:
    """`node` as one of a closed set of words."""
    if isinstance(node, Scalar) and node.text in known:
        return node.text
    text = node.text if isinstance(node, Scalar) else ""
    findings.error(
        node.place, f"{what}: `{text}` is not known" if text else f"{what} must be one word",
        expected=", ".join(known), nearest=nearest_name(text, known), length=max(1, len(text)),
    )  # fmt: skip
    return None


def duration_ms(node: Node, what: str, findings: Findings) -> int | None:
    """`node` as a duration in ms."""
    match = _DURATION.fullmatch(node.text) if isinstance(node, Scalar) else None
    if match is None:
        findings.error(node.place, f"{what} must be a duration", expected="a number and s, m, h or d, such as 180d")
        return None
    return int(match[1]) * _UNIT_MS[match[2]]


def is_date(node: Scalar) -> bool:
    """Whether `node` starts like a date."""
    return _DATE.match(node.text) is not None


def instant_ms(node: Node, zone: Zone | None, findings: Findings) -> int | None:
    """`node` as an instant: the midnight that starts a date in the business time zone, or an instant with offset."""
    text = node.text if isinstance(node, Scalar) else ""
    try:
        if _DATE.fullmatch(text):
            midnight = date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()
            return _utc(midnight * DAY_MS, zone)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * SECOND_MS)
    except ValueError:
        pass
    findings.error(
        node.place,
        f"`{text}` is not a date",
        expected="2026-01-31 or 2026-01-31T00:00:00+08:00",
        length=max(1, len(text)),
    )
    return None


def _utc(local_ms: int, zone: Zone | None) -> int:
    if zone is None:
        return local_ms
    return local_ms - zone.offset_at(local_ms - zone.offset_at(local_ms))
