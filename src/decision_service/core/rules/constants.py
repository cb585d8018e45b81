"""Named constants, so that no threshold is a literal in a condition: of one rule set, or shared by all of them.

    burst_requests_10m: 4                                        a number
    sensitive_amounts: [99, 199, 299]                            a list of numbers, or of quoted strings
    small_ticket: {value: 500, unit: money, note: why}           with a unit
    odd_hour_end: {effective_from: {2026-01-01: 5}, unit: n}     dated: the value in force at the decision instant

A constant is folded into every expression that names it; a dated one is looked up once a decision and is null before
its first date.

What several scenes must agree on (the cap on rates, what counts as late) stands once, in `constants.yaml` beside the
rule sets: the same block under `constants:`, with an optional `note:`. A shared constant works wherever one of the rule
set itself works. A name has one meaning: a rule set that gives a shared name another value is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from decision_service.core.expressions.functions import FUNCTIONS
from decision_service.core.expressions.tokens import RESERVED
from decision_service.core.limits import CONSTANTS_MAX, LIST_VALUES_MAX
from decision_service.core.rules.fields import check_keys, identifier, instant_ms, is_number, mapping, number, one_of
from decision_service.core.rules.spec import DatedConstant
from decision_service.core.source import Document, Findings, MappingNode, Node, Place, Scalar, SequenceNode
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary
from decision_service.core.zone import Zone

_RESERVED: Final = RESERVED | FUNCTIONS.keys() | {"any", "known", "inf"}  # of expressions and of cells
UNITS: Final = ("money", "ratio", "n", "s", "h", "d", "km", "kmh", "bps", "points")
Value = float | str | tuple[float | str, ...]


@dataclass(frozen=True, slots=True)
class Constants:
    """The constants of one file: as names of the language, where each stands, and the dated ones."""

    specs: tuple[NameSpec, ...] = ()
    places: tuple[tuple[str, Place], ...] = ()
    dated: tuple[DatedConstant, ...] = ()


NO_CONSTANTS: Final = Constants()


def read_shared_constants(
    document: Document | None, vocabulary: Vocabulary, zone: Zone | None, findings: Findings
) -> Constants:
    """The constants of `constants.yaml`, which every rule set sees; none without the file."""
    if document is None:
        return NO_CONSTANTS
    root = document.root
    check_keys(root, ("note", "constants"), ("constants",), "the file of shared constants", findings)
    block = root.get("constants")
    return NO_CONSTANTS if block is None else read_constants(block, vocabulary, zone, findings)


def read_constants(
    node: Node, vocabulary: Vocabulary, zone: Zone | None, findings: Findings, shared: Constants = NO_CONSTANTS
) -> Constants:
    """The constants below `constants:`; what is wrong, or named like a shared one, is left out and reported."""
    block = mapping(node, "`constants`", node.place, findings)
    if block is not None and len(block.items) > CONSTANTS_MAX:
        findings.error(node.place, f"more than {CONSTANTS_MAX} constants in one file")
        return NO_CONSTANTS
    elsewhere = dict(shared.places)
    specs, places, dated = [], [], []
    for key, value in block.items if block is not None else ():
        name = identifier(key, "a constant", findings)
        if name is None:
            continue
        if name in _RESERVED:
            findings.error(key.place, f"`{name}` is a word of the language", expected="another name", length=len(name))
            continue
        if name in elsewhere:
            _report_clash(name, key.place, elsewhere[name], findings)
            continue
        if name in vocabulary:
            findings.error(key.place, f"`{name}` already means something else", length=len(name))
            continue
        read = _read(name, value, zone, findings)
        if read is not None:
            specs.append(read[0])
            places.append((name, key.place))
            dated += [read[1]] if read[1] is not None else []
    return Constants(tuple(specs), tuple(places), tuple(dated))


def _report_clash(name: str, place: Place, shared: Place, findings: Findings) -> None:
    findings.error(
        place, f"the constant `{name}` is shared already, on line {shared.line} of {shared.file}",
        expected="that one, without a value here; or another name for this one", length=len(name),
    )  # fmt: skip


def _read(name: str, node: Node, zone: Zone | None, findings: Findings) -> tuple[NameSpec, DatedConstant | None] | None:
    if not isinstance(node, MappingNode):
        value = _value(node, name, findings)
        return None if value is None else (_spec(name, value, "", ""), None)
    if not check_keys(node, ("value", "effective_from", "unit", "note"), (), f"constant `{name}`", findings):
        return None
    given, dates = node.get("value"), node.get("effective_from")
    if (given is None) == (dates is None):
        findings.error(node.place, f"constant `{name}` needs `value` or `effective_from`, one of them")
        return None
    unit_node = node.get("unit")
    unit = "" if unit_node is None else one_of(unit_node, UNITS, f"unit of `{name}`", findings)
    note = node.get("note")
    meaning = note.text if isinstance(note, Scalar) else ""
    if unit is None:
        return None
    if given is not None:
        value = _value(given, name, findings)
        return None if value is None else (_spec(name, value, unit, meaning), None)
    assert dates is not None
    dated = read_dated(name, dates, zone, findings)
    return None if dated is None else (NameSpec(name, Kind.NUMBER, unit, True, meaning), dated)


def _spec(name: str, value: Value, unit: str, meaning: str) -> NameSpec:
    kind = Kind.LIST if isinstance(value, tuple) else Kind.STRING if isinstance(value, str) else Kind.NUMBER
    return NameSpec(name, kind, unit, False, meaning, value)


def _value(node: Node, name: str, findings: Findings) -> Value | None:
    if not isinstance(node, SequenceNode):
        return _one(node, name, findings)
    values = [_one(item, name, findings) for item in node]
    sound = tuple(value for value in values if value is not None)
    if not sound or len({type(value) for value in sound}) > 1 or len(sound) > LIST_VALUES_MAX:
        findings.error(node.place, f"constant `{name}`", expected="numbers only or strings only, at least one")
        return None
    return sound if len(sound) == len(values) else None


def _one(node: Node, name: str, findings: Findings) -> float | str | None:
    if isinstance(node, Scalar) and node.quoted:
        return node.text
    if is_number(node):
        return number(node, f"constant `{name}`", findings)
    text = node.text if isinstance(node, Scalar) else ""
    findings.error(
        node.place, f"constant `{name}`: `{text}` is neither a number nor a quoted string",
        expected='a number such as 0.25, or text in quotes such as "app"', length=max(1, len(text)),
    )  # fmt: skip
    return None


def read_dated(name: str, node: Node, zone: Zone | None, findings: Findings) -> DatedConstant | None:
    """A mapping of dates to numbers."""
    block = mapping(node, f"the dates of `{name}`", node.place, findings)
    if block is None:
        return None
    pairs = [(instant_ms(key, zone, findings), number(value, f"`{name}`", findings)) for key, value in block.items]
    sound = sorted((start, value) for start, value in pairs if start is not None and value is not None)
    if not pairs:
        findings.error(node.place, f"`{name}` has no dates", expected="{2026-01-31: 0.24}")
    if not pairs or len(sound) < len(pairs):
        return None
    return DatedConstant(name, tuple(start for start, _ in sound), tuple(value for _, value in sound))
