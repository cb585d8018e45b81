"""Declared attributes: outside values with a source and a time to live, read like any other name.

    attributes:
      ext_inq_cnt_30d: {type: number, unit: n, source: bureau, ttl: 45d, meaning: "hard inquiries in 30 days"}

`type` is number, flag (0 or 1) or string. A value older than its `ttl`, or absent, is null.

Every source brings two more names: `src_<source>_ok` is 1 if at least one of its attributes is present and fresh at the
decision instant, else 0; `feat_age_s_<source>` is the seconds since its newest `as_of`, fresh or not, null if nothing
ever came (a value sent with the request is 0 seconds old).

The numbers of a decision begin with

    BASE_NUMBERS | numeric attributes | src_<source>_ok of every source | feat_age_s_<source> of every source
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.limits import STRING_VALUE_CHARS_MAX
from decision_service.core.rules.constants import UNITS
from decision_service.core.rules.fields import check_keys, duration_ms, identifier, mapping, one_of, scalar
from decision_service.core.source import Document, Findings, MappingNode, Node, Scalar
from decision_service.core.vocabulary import BASE_NUMBERS, BASE_STRINGS, Kind, NameSpec, Vocabulary

ATTRIBUTE_KEYS: Final = ("type", "unit", "source", "ttl", "meaning", "meaning_zh")
ATTRIBUTE_KINDS: Final = {"number": Kind.NUMBER, "flag": Kind.FLAG, "string": Kind.STRING}


@dataclass(frozen=True, slots=True)
class AttributeSpec:
    """One declared attribute."""

    spec: NameSpec
    source: str
    ttl_ms: int
    meaning_zh: str = ""

    def problem_with(self, value: object) -> str:
        """Why a value does not fit the declared type, or the empty string. A number must be finite."""
        match self.spec.kind:
            case Kind.STRING:
                fits = isinstance(value, str) and 0 < len(value) <= STRING_VALUE_CHARS_MAX
                return "" if fits else f"must be a text of 1 to {STRING_VALUE_CHARS_MAX} characters"
            case Kind.FLAG:
                return "" if value in (0, 1) and isinstance(value, (int, float)) else "must be 0 or 1"
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if number and float(value) - float(value) == 0 else "must be a finite number"  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class AttributeSlot:
    """Where one attribute's value goes, and what its source is told by: indices into the numbers.

    `index` is None for a string, which stands elsewhere.
    """

    spec: AttributeSpec
    index: int | None
    source_ok: int
    source_age: int


@dataclass(frozen=True, slots=True)
class AttributeLayout:
    """The inputs that declared attributes add to the numbers, in order; `names` begins with BASE_NUMBERS.

    `sources` is where the sources' `src_<source>_ok` stand. `nothing` is what all of them hold where no attribute is
    there: null, and 0 for those.
    """

    names: tuple[str, ...]
    slots: Mapping[str, AttributeSlot]
    sources: slice
    nothing: npt.NDArray[np.float64] = field(compare=False)


def source_specs(attributes: Iterable[AttributeSpec]) -> tuple[NameSpec, ...]:
    """`src_<source>_ok` of every source, then `feat_age_s_<source>` of every source, sources in order of name."""
    sources = sorted({attribute.source for attribute in attributes})
    return (
        *(NameSpec(f"src_{s}_ok", Kind.FLAG, "", False, f"something of {s} is present and fresh") for s in sources),
        *(NameSpec(f"feat_age_s_{s}", Kind.NUMBER, "s", True, f"seconds since the newest of {s}") for s in sources),
    )


def input_vocabulary(attributes: Mapping[str, AttributeSpec]) -> Vocabulary:
    """Every name that stands before any feature: base names, attributes, and what their sources bring."""
    declared = attributes.values()
    return Vocabulary(
        {s.name: s for s in (*BASE_NUMBERS, *BASE_STRINGS, *(a.spec for a in declared), *source_specs(declared))}
    )


def lay_out(attributes: Mapping[str, AttributeSpec]) -> AttributeLayout:
    """Where the attributes and their sources stand among the numbers."""
    numeric = [a.spec.name for a in attributes.values() if a.spec.kind is not Kind.STRING]
    sources = [spec.name for spec in source_specs(attributes.values())]
    names = (*(spec.name for spec in BASE_NUMBERS), *numeric, *sources)
    index = {name: i for i, name in enumerate(names)}
    slots = {
        name: AttributeSlot(
            a, index.get(name), index[f"src_{a.source}_ok"], index[f"feat_age_s_{a.source}"]
        )
        for name, a in attributes.items()
    }  # fmt: skip
    first = len(BASE_NUMBERS) + len(numeric)
    is_fresh = slice(first, first + len(sources) // 2)
    inputs = np.full(len(names), np.nan)
    inputs[is_fresh] = 0.0
    return AttributeLayout(names, slots, is_fresh, inputs[len(BASE_NUMBERS) :])


def read_attributes(document: Document, findings: Findings) -> dict[str, AttributeSpec]:
    """The declared attributes by name; what is wrong is left out and reported."""
    check_keys(document.root, ("attributes",), ("attributes",), "the attributes file", findings)
    node = document.root.get("attributes")
    block = None if node is None else mapping(node, "`attributes`", node.place, findings)
    specs = [_read(key, value, findings) for key, value in (block.items if block is not None else ())]
    return {spec.spec.name: spec for spec in specs if spec is not None}


def _read(key: Scalar, node: Node, findings: Findings) -> AttributeSpec | None:
    name = identifier(key, "an attribute", findings)
    block = mapping(node, f"attribute `{key.text}`", key.place, findings)
    required = ("type", "source", "ttl", "meaning")
    if (
        name is None
        or block is None
        or not check_keys(block, ATTRIBUTE_KEYS, required, f"attribute `{name}`", findings)
    ):
        return None
    kind = one_of(_must(block, "type"), ATTRIBUTE_KINDS, "type", findings)
    source = identifier(_must(block, "source"), "`source`", findings)
    ttl_ms = duration_ms(_must(block, "ttl"), "`ttl`", findings)
    meaning = scalar(_must(block, "meaning"), "`meaning`", findings)
    unit_node, chinese = block.get("unit"), block.get("meaning_zh")
    unit = "" if unit_node is None else one_of(unit_node, UNITS, "unit", findings)
    if kind is None or source is None or ttl_ms is None or meaning is None or unit is None:
        return None
    spec = NameSpec(name, ATTRIBUTE_KINDS[kind], unit, True, meaning.text)
    return AttributeSpec(spec, source, ttl_ms, chinese.text if isinstance(chinese, Scalar) else "")


def _must(block: MappingNode, key: str) -> Node:
    node = block.get(key)
    assert node is not None, "check_keys saw to it"
    return node
