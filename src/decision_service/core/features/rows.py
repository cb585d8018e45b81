"""One row of a feature file, with its variants: what its windows, months, buckets and `each` multiply it into.

A row keeps its scalars as typed, with their places, so that whatever is wrong later is reported where it stands.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from decision_service.core.features import durations
from decision_service.core.features.aggregations import (
    AGGREGATIONS,
    MOMENTS,
    SEGMENT_KEYS,
    SERIES,
    UNITS,
)
from decision_service.core.features.event_names import KEYS, MEASURES
from decision_service.core.features.grains import CUSTOMER, GRAINS
from decision_service.core.features.nulls import EXPECTED as NULL_EXPECTED
from decision_service.core.features.nulls import NullRule, read_codes
from decision_service.core.features.opcodes import DAYS_MAX
from decision_service.core.limits import DAY_MS
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, SequenceNode, nearest_name

MONTH_MS: Final = 30 * DAY_MS
_COMMON: Final = (
    "windows", "window", "months", "month", "each", "null", "unit", "en", "zh", "of", "incl", "internal",
)  # fmt: skip
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "segments": ("expr", "each", "en", "zh"),
    "derived": (*_COMMON, "expr"),
    "features": (
        *_COMMON, "grain", "delay", "agg", "value", "by", "buckets", "over", "with", "skip", "q", "top", "width",
        "half_life", "cap", "within", "share", "against", "least", "above", "below", "calendar", *SEGMENT_KEYS,
    ),
}  # fmt: skip
_MEANT: Final = {  # words people use for a group key
    "payee": "counterparty", "merchant": "counterparty", "day": "local_day", "hour": "local_hour",
    "weekday": "local_dow", "mcc": "category",
}  # fmt: skip
_SLOT: Final = re.compile(r"\{(\w+)([+-]\d+)?\}")
_BUCKETS: Final = re.compile(r"(\d{1,3}) x (\d+[mhd])")


@dataclass(frozen=True, slots=True)
class Variant:
    """One name a row defines. `window_ms` is 0 where there is none; `months` is p of a bucket row, `bucket` k."""

    name: str
    label: str = ""
    window_ms: int = 0
    months: int = 0
    bucket: int = -1
    buckets: int = 0
    bucket_ms: int = 0
    values: Mapping[str, str] = field(default_factory=dict)


_ANY_VARIANT: Final = Variant("")  # for what is the same in all variants of a row


@dataclass(frozen=True, slots=True)
class Row:
    """One row as typed, with what it defines."""

    section: str
    name: str
    place: Place
    nodes: Mapping[str, Node]
    null: NullRule = field(default_factory=NullRule)
    unit: str = ""
    internal: bool = False
    variants: tuple[Variant, ...] = ()

    def has(self, key: str) -> bool:
        """Whether the row says `key`."""
        return key in self.nodes

    def place_of(self, key: str) -> Place:
        """Where `key`'s value stands, or the row."""
        node = self.nodes.get(key)
        return self.place if node is None else node.place

    def plain(self, key: str, variant: Variant, default: str = "") -> str:
        """The text under `key` with the variant's values filled in."""
        node = self.nodes.get(key)
        return _filled(node.text, variant) if isinstance(node, Scalar) else default

    def flag(self, key: str) -> bool:
        """Whether `key` is `true`."""
        return self.plain(key, _ANY_VARIANT) == "true"

    def number(self, key: str, variant: Variant, default: float = 0.0) -> float:
        """The number under `key`; checked when the row was read."""
        text = self.plain(key, variant)
        return float(text) if text else default

    @property
    def grain(self) -> str:
        """Whose events the row looks at."""
        return self.plain("grain", _ANY_VARIANT, CUSTOMER)

    @property
    def delay_ms(self) -> int:
        """How far back from the decision instant the row is computed."""
        return durations.delay_ms(self.plain("delay", _ANY_VARIANT, "0s")) or 0

    def segment_names(self) -> Iterator[tuple[str, str]]:
        """Every segment the row refers to: `(key, name)`."""
        for key in ("of", *SEGMENT_KEYS):
            if self.has(key):
                for variant in self.variants:
                    yield key, self.plain(key, variant)

    def definition(self, variant: Variant) -> str:
        """The formula as one line for people."""
        if self.section == "derived":
            return self.plain("expr", variant)
        parts = [f"{key}: {self.plain(key, variant)}" for key in _KEYS["features"]
                 if isinstance(self.nodes.get(key), Scalar) and key not in ("null", "unit", "en", "zh")]  # fmt: skip
        return ", ".join(parts)


def _filled(text: str, variant: Variant) -> str:
    if "{" not in text:
        return text
    values = {"w": variant.label, "p": str(variant.months), **variant.values}

    def fill(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None:
            return match[0]
        return str(int(value) + int(match[2])) if match[2] else value

    return _SLOT.sub(fill, text)


def _unknown_keys(nodes: MappingNode, section: str, findings: Findings) -> None:
    allowed = _KEYS[section]
    for key, _ in nodes.items:
        if key.text in ("grain", "delay") and section == "derived":
            findings.error(
                key.place, f"a derived row has no `{key.text}`", length=len(key.text),
                expected="a formula over rows of `features`, which may have one",
            )  # fmt: skip
        elif key.text not in allowed:
            findings.error(
                key.place, f"unknown key `{key.text}`", expected=", ".join(sorted(allowed)),
                nearest=nearest_name(key.text, allowed), length=len(key.text),
            )  # fmt: skip


def _scalars(node: Node | None, findings: Findings) -> list[Scalar]:
    if node is None:
        return []
    items = [node] if isinstance(node, Scalar) else list(node) if isinstance(node, SequenceNode) else [node]
    wrong = [item for item in items if not isinstance(item, Scalar)]
    for item in wrong:
        findings.error(item.place, "a plain value or a list of plain values is expected here")
    return [item for item in items if isinstance(item, Scalar)]


def _null_rule(node: Node | None, place: Place, findings: Findings) -> NullRule:
    codes = _scalars(node, findings)
    rule = read_codes([scalar.text for scalar in codes] or ["-"])
    if isinstance(rule, str):
        wrong = next(scalar for scalar in codes if scalar.text == rule)
        findings.error(wrong.place, f"unknown null code `{rule}`", expected=NULL_EXPECTED, length=len(rule))
        return NullRule()
    if not codes:
        findings.error(place, "the row does not say when its value is null", expected=f"null: {NULL_EXPECTED}")
    return rule


def _windows(node: Node | None, findings: Findings) -> list[tuple[str, int]]:
    """`(label, ms)` of every window; bad ones are reported and left out."""
    if isinstance(node, MappingNode):
        pairs = [(key.text, value) for key, value in node.items if isinstance(value, Scalar)]
    else:
        pairs = [(scalar.text, scalar) for scalar in _scalars(node, findings)]
    windows = []
    for label, scalar in pairs:
        length = durations.duration_ms(scalar.text)
        if length is None:
            findings.error(
                scalar.place, f"`{scalar.text}` is no window", expected=durations.EXPECTED, length=len(scalar.text)
            )
        else:
            windows.append((label, length))
    return windows


def _month_counts(node: Node | None, findings: Findings) -> list[int]:
    counts = []
    for scalar in _scalars(node, findings):
        if scalar.text.isdecimal() and 1 <= int(scalar.text) <= 24:
            counts.append(int(scalar.text))
        else:
            findings.error(scalar.place, f"`{scalar.text}` is no number of months", expected="1 to 24")
    return counts


def _bucket_variants(node: Node, name: str, values: Mapping[str, str], findings: Findings) -> list[Variant]:
    text = node.text if isinstance(node, Scalar) else ""
    match = _BUCKETS.fullmatch(text)
    width = durations.duration_ms(match[2]) if match else None
    if match is None or width is None or not 1 <= int(match[1]) <= 366:
        findings.error(node.place, f"`{text}` is no row of buckets", expected="12 x 30d", length=len(text) or 1)
        return []
    n = int(match[1])
    return [Variant(f"{name}_m{k}", f"m{k}", (k + 1) * width, 0, k, n, width, values) for k in range(n)]


def _each(node: Node | None, findings: Findings) -> list[dict[str, str]]:
    """Every combination of the parameters of `each`."""
    if node is None:
        return [{}]
    if not isinstance(node, MappingNode):
        findings.error(node.place, "`each` is a mapping of a name to a list of values")
        return [{}]
    names = [key.text for key, _ in node.items]
    lists = [[scalar.text for scalar in _scalars(value, findings)] for _, value in node.items]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*lists)]


def _variants(name: str, nodes: MappingNode, findings: Findings) -> Iterator[Variant]:
    for values in _each(nodes.get("each"), findings):
        bare = _filled(name, Variant("", values=values))
        buckets = nodes.get("buckets")
        windows, months = nodes.get("windows"), nodes.get("months")
        if buckets is not None:
            yield from _bucket_variants(buckets, bare, values, findings)
        elif windows is not None:
            for label, length in _windows(windows, findings):
                yield Variant(f"{bare}_{label}", label, length, values=values)
        elif months is not None:
            for p in _month_counts(months, findings):
                yield Variant(f"{bare}_{p}m", f"{p}m", p * MONTH_MS, p, values=values)
        else:
            window = _windows(nodes.get("window"), findings) or [("", 0)]
            month = _month_counts(nodes.get("month"), findings) or [0]
            yield Variant(bare, window[0][0], window[0][1] or month[0] * MONTH_MS, month[0], values=values)


def _check_choice(nodes: MappingNode, key: str, known: Iterable[str], findings: Findings, what: str) -> str | None:
    """The scalar under `key` if it is a known one."""
    node = nodes.get(key)
    if not isinstance(node, Scalar):
        return None
    if node.text in known:
        return node.text
    findings.error(
        node.place, f"unknown {what} `{node.text}`", expected=", ".join(word for word in sorted(known) if word),
        nearest=_MEANT.get(node.text, "") or nearest_name(node.text, known), length=max(1, len(node.text)),
    )  # fmt: skip
    return None


def _check_number(nodes: MappingNode, key: str, findings: Findings) -> None:
    node = nodes.get(key)
    if not isinstance(node, Scalar) or _SLOT.search(node.text):
        return
    good = durations.duration_ms(node.text) is not None if key in ("within", "width") else _is_number(node.text)
    if not good:
        expected = durations.EXPECTED if key in ("within", "width") else "a number"
        findings.error(node.place, f"`{node.text}` is not {expected}", expected=expected, length=len(node.text))


def _check_delay(node: Node | None, findings: Findings) -> None:
    if node is not None and (not isinstance(node, Scalar) or durations.delay_ms(node.text) is None):
        text = node.text if isinstance(node, Scalar) else ""
        findings.error(node.place, f"`{text}` is no delay", expected="a duration such as 7d", length=len(text) or 1)


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < 1e300
    except ValueError:
        return False


def _check_aggregation(key: Scalar, nodes: MappingNode, findings: Findings) -> None:
    known = (*AGGREGATIONS, *SERIES, *MOMENTS)
    name = _check_choice(nodes, "agg", known, findings, "aggregation")
    if nodes.get("agg") is None:
        findings.error(
            key.place, f"feature `{key.text}` has no `agg`", expected=", ".join(sorted(known)), length=len(key.text)
        )
    if name is None:
        return
    wanted: tuple[str, ...] = ("over",) if name in SERIES else () if name in MOMENTS else ("of",)
    wanted += ("calendar",) if name == "in_calendar" else ()
    wanted += AGGREGATIONS[name].wants if name in AGGREGATIONS else ()
    for want in wanted:
        if nodes.get(want) is None:
            findings.error(key.place, f"`{name}` needs `{want}`", expected=f"{want}: ...", length=len(key.text))
    _check_choice(nodes, "by", KEYS, findings, "group key")
    _check_choice(nodes, "grain", GRAINS, findings, "grain")
    _check_delay(nodes.get("delay"), findings)
    _check_choice(nodes, "value", MEASURES, findings, "value of an event")
    if nodes.get("buckets") is not None and name not in ("count", "sum"):
        findings.error(key.place, f"`{name}` has no form per bucket", expected="count or sum")
    if name in AGGREGATIONS and all(nodes.get(k) is None for k in ("window", "windows", "buckets")):
        findings.error(key.place, f"`{name}` needs a window", expected=durations.EXPECTED, length=len(key.text))
    if name in AGGREGATIONS and AGGREGATIONS[name].by_day:
        _check_days(nodes, findings)
    for number in ("q", "top", "half_life", "cap", "share", "least", "above", "below", "skip", "within", "width"):
        _check_number(nodes, number, findings)


def _check_days(nodes: MappingNode, findings: Findings) -> None:
    """The windows of an aggregation over local days are whole days that the kernel's buffers hold."""
    for key in ("window", "windows"):
        node = nodes.get(key)
        values = [value for _, value in node.items] if isinstance(node, MappingNode) else [node]
        for scalar in (scalar for value in values for scalar in _scalars(value, Findings())):
            length = durations.duration_ms(scalar.text)
            if length is not None and (length % DAY_MS or length > DAYS_MAX * DAY_MS):
                findings.error(
                    scalar.place, f"`{scalar.text}` is no number of local days", expected=f"1d to {DAYS_MAX}d",
                    length=len(scalar.text),
                )  # fmt: skip


def _is_true(node: Node | None) -> bool:
    return isinstance(node, Scalar) and node.text == "true"


def _check_row(key: Scalar, nodes: MappingNode, section: str, findings: Findings) -> None:
    _unknown_keys(nodes, section, findings)
    if section == "features":
        _check_aggregation(key, nodes, findings)
    elif nodes.get("expr") is None:
        findings.error(key.place, f"`{key.text}` has no `expr`", expected="expr: ...", length=len(key.text))
    internal = _is_true(nodes.get("internal"))
    for wanted in () if section == "segments" or internal else ("en", "zh", "unit"):
        if nodes.get(wanted) is None:
            findings.error(key.place, f"feature `{key.text}` has no `{wanted}`", expected=f"{wanted}: ...",
                           length=len(key.text))  # fmt: skip
    _check_choice(nodes, "unit", UNITS, findings, "unit")


def _read_row(key: Scalar, nodes: MappingNode, section: str, findings: Findings) -> Row:
    _check_row(key, nodes, section, findings)
    null = NullRule() if section == "segments" else _null_rule(nodes.get("null"), key.place, findings)
    unit = nodes.get("unit")
    return Row(
        section, key.text, key.place, {name.text: node for name, node in nodes.items}, null,
        unit.text if isinstance(unit, Scalar) else "", _is_true(nodes.get("internal")),
        tuple(_variants(key.text, nodes, findings)),
    )  # fmt: skip


def row_keys(section: str) -> tuple[str, ...]:
    """The keys that a row of a section may have."""
    return _KEYS[section]


def read_rows(
    items: Iterable[tuple[Scalar, object]], section: str, findings: Findings, broken: list[Row] | None = None
) -> list[Row]:
    """Rows of one section; those with a mistake go to `broken`. A segment may be written as just its condition."""
    rows = []
    for key, node in items:
        if isinstance(node, Scalar) and section == "segments":
            node = MappingNode(((Scalar("expr", node.place), node),), node.place)
        if isinstance(node, MappingNode):
            before = len(findings.errors)
            row = _read_row(key, node, section, findings)
            if len(findings.errors) == before:
                rows.append(row)
            elif broken is not None:
                broken.append(row)
        else:
            findings.error(
                key.place, f"`{key.text}` is not a row", expected="{agg: ..., of: ...}", length=len(key.text)
            )
    return rows
