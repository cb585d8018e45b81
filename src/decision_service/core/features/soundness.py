"""Rows and constants that are spelt right and cannot be meant: found here, before anything is made of them.

Names that no expression could refer to, parameters that change nothing, windows said twice, numbers out of their range,
constants that YAML would have read as something else. Each is one finding that says what was expected; a row with a
finding is left out of what is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from decision_service.core.features.aggregations import AGGREGATIONS, MOMENTS, SERIES
from decision_service.core.features.event_names import EVENT_NAMES
from decision_service.core.features.rows import Row, Variant
from decision_service.core.rules.fields import is_number
from decision_service.core.source import Findings, MappingNode, Place, Scalar, SequenceNode

NAME_CHARS_MAX: Final = 96
_NAME: Final = re.compile(rf"[a-z][a-z0-9_]{{0,{NAME_CHARS_MAX - 1}}}", re.ASCII)
_SLOT: Final = re.compile(r"\{([^}]*)\}")
_IMPLICIT: Final = re.compile(
    r"(?i:yes|no|on|off|y|true|false|null|~)|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[-+]?0[xob0-9][0-9a-fA-F_]+"
    r"|[0-9]+_[0-9_]+"
)
_SPANS: Final = ("buckets", "windows", "months", "window", "month")
_FLAGS: Final = ("incl", "internal")
_MANY: Final = ("windows", "months", "null")  # may be several values; `each` is values by name
_REPORTED: Final = ("delay", "buckets", *_FLAGS)  # whoever reads these says when they are no text
_TAKEN_BY: Final = {  # the keys that only some aggregations look at, and which do
    key: frozenset(name for name, one in AGGREGATIONS.items() if key in one.wants)
    for key in sorted({want for one in AGGREGATIONS.values() for want in one.wants})
}
_RANGES: Final[dict[str, tuple[Callable[[float], bool], str]]] = {
    "q": (lambda x: 0 <= x <= 1, "a share from 0 to 1, such as 0.95"),
    "top": (lambda x: x >= 1 and x == round(x), "a whole number from 1"),
    "cap": (lambda x: x >= 1 and x == round(x), "a whole number from 1"),
    "skip": (lambda x: x >= 0 and x == round(x), "a whole number from 0"),
    "share": (lambda x: x >= 0, "a ratio from 0, such as 0.8"),
    "half_life": (lambda x: x > 0, "days above 0"),
}  # fmt: skip


def sound_rows(rows: Sequence[Row], findings: Findings) -> list[Row]:
    """The rows without a finding, in their order."""
    return [row for row in rows if _is_sound(row, findings)]


def _is_sound(row: Row, findings: Findings) -> bool:
    before = len(findings.diagnostics)
    _check_names(row, findings)
    _check_plain(row, findings)
    if row.section == "features":
        _check_taken(row, findings)
    if row.section != "segments":
        _check_spans(row, findings)
        for key in _FLAGS:
            _check_flag(row, key, findings)
        for key, (fits, expected) in _RANGES.items():
            _check_range(row, key, fits, expected, findings)
    return len(findings.diagnostics) == before


def _check_names(row: Row, findings: Findings) -> None:
    length = len(row.name)
    parameters = [name for name, _ in _each_of(row)]
    for slot in _SLOT.findall(row.name):
        if slot not in parameters:
            expected = f"one of {', '.join(parameters)}" if parameters else f"each: {{{slot or 'name'}: [...]}}"
            findings.error(row.place, f"`{{{slot}}}` is no parameter of this row", expected=expected, length=length)
            return
    for name, values in _each_of(row):
        if values > 1 and f"{{{name}}}" not in row.name:
            findings.error(
                row.place_of("each"), f"`{name}` has {values} values and does not occur in the row's name",
                expected=f"{{{name}}} somewhere in `{row.name}`",
            )  # fmt: skip
            return
    for variant in row.variants:
        if not _NAME.fullmatch(variant.name):
            findings.error(
                row.place, f"`{variant.name}` is not a name", length=length,
                expected=f"lower-case letters, digits and underscores, a letter first, {NAME_CHARS_MAX} at most",
            )  # fmt: skip
            return


def _each_of(row: Row) -> list[tuple[str, int]]:
    """Parameters of `each` with how many values each has."""
    node = row.nodes.get("each")
    if not isinstance(node, MappingNode):
        return []
    return [(key.text, len(list(value)) if not isinstance(value, (Scalar, MappingNode)) else 1)
            for key, value in node.items]  # fmt: skip


def _check_spans(row: Row, findings: Findings) -> None:
    given = [key for key in _SPANS if row.has(key)]
    if len(given) > 1:
        findings.error(
            row.place_of(given[1]), f"the row has both `{given[0]}` and `{given[1]}`", expected="one of them"
        )
    if any(row.plain("agg", variant) in SERIES for variant in row.variants):
        for key in given:
            if key not in ("months", "month"):
                findings.error(
                    row.place_of(key),
                    f"a series counts buckets, it has no `{key}`",
                    expected="months: [3, 6] or month: 6",
                )
    node = row.nodes.get("windows")
    if isinstance(node, MappingNode):
        for key_, value in node.items:
            if not isinstance(value, Scalar):
                findings.error(
                    value.place, f"the window `{key_.text}` must be one duration", expected=f"{key_.text}: 90d"
                )


def _check_flag(row: Row, key: str, findings: Findings) -> None:
    node = row.nodes.get(key)
    if node is not None and (not isinstance(node, Scalar) or node.text not in ("true", "false")):
        length = len(node.text) if isinstance(node, Scalar) else 1
        findings.error(node.place, f"`{key}` is true or it is not there", expected=f"{key}: true", length=length)


def _check_plain(row: Row, findings: Findings) -> None:
    """What takes one value has one, and what takes several at least one: `grain: [payee]` would else be no grain."""
    each = row.nodes.get("each")
    several = [(key, row.nodes.get(key)) for key in _MANY]
    several += [(key.text, node) for key, node in each.items] if isinstance(each, MappingNode) else []
    for name, node in several:
        if isinstance(node, (SequenceNode, MappingNode)) and not list(node.items):
            findings.error(node.place, f"`{name}` has no value", expected="at least one")
    for key, node in row.nodes.items():
        if key not in (*_MANY, *_REPORTED, "each") and not isinstance(node, Scalar):
            findings.error(node.place, f"`{key}` takes one value", expected=f"{key}: ..., not a list or a mapping")


def _check_taken(row: Row, findings: Findings) -> None:
    """No key that the row's aggregation would pass over."""
    agg = row.plain("agg", Variant(""))
    if agg not in AGGREGATIONS and agg not in SERIES and agg not in MOMENTS:
        return  # the reader of rows has said so
    for key, takers in _TAKEN_BY.items():
        if row.has(key) and agg not in takers:
            findings.error(
                row.place_of(key), f"`{agg}` does not look at `{key}`", expected=f"no `{key}`, or {_some(takers)}"
            )


def _some(names: Iterable[str]) -> str:
    """A few of the names."""
    first = sorted(names)
    return ", ".join(first[:4]) + (" ..." if len(first) > 4 else "")


def _check_range(row: Row, key: str, fits: Callable[[float], bool], expected: str, findings: Findings) -> None:
    if not row.has(key):
        return
    for variant in row.variants or (Variant(""),):
        text = row.plain(key, variant)
        try:
            good = fits(float(text))
        except ValueError:
            return  # the reader of rows has said so, or it is filled in by `each`
        if not good:
            findings.error(row.place_of(key), f"`{key}` cannot be {text}", expected=expected, length=len(text))
            return


def check_constants(items: Iterable[tuple[Scalar, object]], taken: Collection[str], findings: Findings) -> None:
    """Constants whose name means something else already, or whose value YAML would not have read as it is meant."""
    event_names = {spec.name for spec in EVENT_NAMES}
    for key, node in items:
        if key.text in event_names or key.text in taken:
            what = "something an event has" if key.text in event_names else "an input"
            findings.error(key.place, f"`{key.text}` is the name of {what}", expected="another name for the constant",
                           length=len(key.text))  # fmt: skip
        elif not _NAME.fullmatch(key.text):
            findings.error(key.place, f"`{key.text}` is not a name", length=len(key.text),
                           expected="lower-case letters, digits and underscores, a letter first")  # fmt: skip
        values = [node] if isinstance(node, Scalar) else [] if isinstance(node, MappingNode) else list(node)  # type: ignore[call-overload]
        for value in values:
            if isinstance(value, Scalar):
                _check_value(value, value.place, findings)


def _check_value(value: Scalar, place: Place, findings: Findings) -> None:
    if not value.quoted and not is_number(value) and _IMPLICIT.fullmatch(value.text):
        findings.error(
            place, f"`{value.text}` means different things to different readers of YAML", length=len(value.text),
            expected="a number such as 12 or 0.25, or quotes around a text",
        )  # fmt: skip
