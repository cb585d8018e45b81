"""Conditions and formulas that the language allows and the kernel does not compute: told before a plan is laid out.

Laying out a plan would raise `Unsupported`. Everything is tried here on registers that nobody runs, so that what cannot
be computed is a diagnostic with a place like any other mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from decision_service.core.expressions.tree import Compare, In, Literals, Name, String, Tree
from decision_service.core.features.event_names import TEXTS
from decision_service.core.features.references import children
from decision_service.core.features.registers import Registers, Unsupported
from decision_service.core.features.segments import SegmentCompiler
from decision_service.core.source import Findings, Place, nearest_name
from decision_service.core.vocabulary import Kind, Vocabulary

if TYPE_CHECKING:
    from decision_service.core.features.catalogue import FeatureSpec, Segment

_OF_EVENTS: Final = "comparisons of what an event has, arithmetic, `in`, `is_null`, joined by `and`, `or` and `not`"
_OF_NUMBERS: Final = "numbers, conditions and texts of the request"
_REQUEST_TEXTS: Final = {text.request_name: text for text in TEXTS.values() if text.request_name}


def check_supported(
    segments: Mapping[str, Segment], specs: Mapping[str, FeatureSpec], inputs: Vocabulary, findings: Findings
) -> None:
    """Report every segment and formula that cannot be computed, each once."""
    numeric = [name for name, spec in inputs.items() if spec.kind in (Kind.NUMBER, Kind.FLAG) and spec.constant is None]
    slots = {name: slot for slot, name in enumerate(numeric)}
    registers = Registers(slots, len(slots), {name: len(slots) + i for i, name in enumerate(specs)})
    compiler = SegmentCompiler(registers)
    for segment in segments.values():
        if not _report_texts(segment.tree, findings):
            _try(compiler.mask, segment.tree, segment.place, _OF_EVENTS, findings)
    tried: set[int] = set()
    for spec in specs.values():
        if spec.tree is not None and id(spec.row) not in tried and not _report_texts(spec.tree, findings):
            tried.add(id(spec.row))
            _try(registers.value, spec.tree, spec.row.place_of("expr"), _OF_NUMBERS, findings)


def _try(compile_it: Callable[[Tree], int], tree: Tree, place: Place, expected: str, findings: Findings) -> None:
    try:
        compile_it(tree)
    except Unsupported as error:
        findings.error(place, str(error), expected=expected)


def _report_texts(tree: Tree, findings: Findings) -> bool:
    """Report comparisons with a kind, status or channel that does not exist; whether there were any."""
    found = False
    for name, literal, place in _compared(tree):
        text = TEXTS.get(name) or _REQUEST_TEXTS.get(name)
        if text is not None and text.known is not None and literal not in text.known:
            found = True
            findings.error(
                place, f"there is no {name.removeprefix('request.')} `{literal}`", expected=", ".join(text.known),
                nearest=nearest_name(literal, text.known), length=len(literal) + 2,
            )  # fmt: skip
    return found


def _compared(tree: Tree) -> Iterator[tuple[str, str, Place]]:
    """Every name that is compared with a text: name, text, where the text stands."""
    match tree:
        case Compare(left=Name(spec=spec), right=String(value=value, place=place)):
            yield spec.name, value, place
        case Compare(left=String(value=value, place=place), right=Name(spec=spec)):
            yield spec.name, value, place
        case In(item=Name(spec=spec), container=Literals(values=values, place=place)):
            yield from ((spec.name, str(value), place) for value in values if isinstance(value, str))
    for child in children(tree):
        yield from _compared(child)
