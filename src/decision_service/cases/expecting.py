"""What a case expects, and an answer with its trace held against it.

    decision: hold            hold: step_up (null: none)        approved_amount: 0        rung: full
    reasons: [RC10]           exactly these codes, in any order; `reasons_include` for some of them
    fired: [odd_hour, score_by_utilisation:C/0.95]      rules that fired; cells, rows and leaves that were hit
    silent: [...]             rules that did not, and whose condition is known; cells that were not hit
    unknown: [...]            rules and blocks that lacked a value
    limit_change: {kind: cut, to: 8000}     reprice: {to: 0.2}     tier: {to: orange}     null for none at all
    renewal: manual           offers: [...]    tags: [...]    missing: [...]    alerts: [{tier: red, indicator: dpd}]

What is not mentioned is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from decision_service.cases.case import Expected
from decision_service.cases.fields import plain_value
from decision_service.core.decision import HOLD_RANK
from decision_service.core.reasons import TEXTS
from decision_service.core.rules.fields import check_keys, mapping, one_of, scalar, sequence
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, SequenceNode, nearest_name

DECISIONS: Final = ("approve", "hold", "reprice", "limit_change")
RUNGS: Final = ("full", "no_links", "no_score", "static")
NAMES: Final = ("fired", "silent", "unknown")
SETS: Final = ("reasons", "reasons_include", "offers", "tags", "missing")
RECORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "limit_change": ("kind", "from", "to"),
    "reprice": ("from", "to", "delta_bps"),
    "tier": ("from", "to"),
}
WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "decision": DECISIONS,
    "hold": (*HOLD_RANK, "null"),
    "rung": RUNGS,
    "renewal": ("auto", "manual", "decline", "null"),
}
EXPECT_KEYS: Final = (*WORDS, "approved_amount", *SETS, *NAMES, *RECORDS, "alerts")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is not as expected."""

    expected: Expected
    got: Any
    about: str = ""  # the rule or cell that it is about, if it is about one

    @property
    def place(self) -> Place:
        """Where it is written what was expected."""
        return self.expected.place

    def as_json(self) -> dict[str, Any]:
        """For a machine."""
        return {
            "key": self.expected.key, "line": self.place.line, "column": self.place.column,
            "expected": self.expected.value, "got": self.got, "about": self.about or None,
        }  # fmt: skip


# --- reading ---------------------------------------------------------------------------------------------------------


def read_expected(block: MappingNode, findings: Findings) -> tuple[Expected, ...]:
    """What is expected, in the order it is written."""
    check_keys(block, EXPECT_KEYS, (), "`expect`", findings)
    read = []
    for key, node in block.items:
        if key.text in NAMES:
            read += _each_name(key.text, node, findings)
        elif key.text in EXPECT_KEYS:
            value = _value(key.text, node, findings)
            length = len(node.text) if isinstance(node, Scalar) else 1
            read.append(Expected(key.text, value, node.place, max(1, length)))
    if not read:
        findings.error(block.place, "nothing is expected", expected=", ".join(EXPECT_KEYS))
    return tuple(read)


def _each_name(key: str, node: Node, findings: Findings) -> list[Expected]:
    """One expectation a name, each at its own place."""
    items = [item for item in sequence(node, f"`{key}`", findings) or () if isinstance(item, Scalar)]
    return [Expected(key, item.text, item.place, max(1, len(item.text))) for item in items]


def _value(key: str, node: Node, findings: Findings) -> Any:
    if key in WORDS:
        word = one_of(node, WORDS[key], f"`{key}`", findings)
        return None if word == "null" else word
    if key in SETS:
        return _names(key, node, findings)
    if key == "alerts":
        items = sequence(node, "`alerts`", findings)
        return [_record(item, "an alert", ("tier", "indicator"), findings) for item in items or ()]
    if key in RECORDS:
        return _record(node, f"`{key}`", RECORDS[key], findings)
    text = scalar(node, f"`{key}`", findings)
    return None if text is None else plain_value(text)


def _names(key: str, node: Node, findings: Findings) -> list[str]:
    items = sequence(node, f"`{key}`", findings)
    names = [item.text for item in items or () if isinstance(item, Scalar)]
    if key.startswith("reasons") and isinstance(node, SequenceNode):
        for item in node:
            one_of(item, TEXTS, "reason code", findings)
    return names


def _record(node: Node, what: str, keys: Collection[str], findings: Findings) -> dict[str, Any] | None:
    if isinstance(node, Scalar) and node.text == "null":
        return None
    block = mapping(node, what, node.place, findings)
    if block is None or not check_keys(block, keys, (), what, findings):
        return None
    return {key.text: plain_value(value) if isinstance(value, Scalar) else None for key, value in block.items}


# --- comparing -------------------------------------------------------------------------------------------------------


def mismatches(expected: Collection[Expected], answer: Mapping[str, Any]) -> list[Mismatch]:
    """Everything about an answer (with its trace) that is not as expected."""
    return [mismatch for one in expected for mismatch in _compare(one, answer)]


def _compare(expected: Expected, answer: Mapping[str, Any]) -> list[Mismatch]:
    key = expected.key
    if key in NAMES:
        return _name_apart(expected, happened(answer["trace"]))
    got = _GOT[key](answer) if key in _GOT else answer.get(key)
    return [] if _fits(key, expected.value, got) else [Mismatch(expected, got)]


def _fits(key: str, expected: Any, got: Any) -> bool:
    if key == "reasons_include":
        return set(expected) <= set(got)
    if key in SETS:
        return sorted(set(expected)) == sorted(set(got))
    if isinstance(expected, dict):
        return got is not None and all(_equal(value, got.get(name)) for name, value in expected.items())
    if key == "alerts":
        return len(expected) == len(got) and all(any(_fits("", one, other) for other in got) for one in expected)
    return _equal(expected, got)


def _equal(expected: Any, got: Any) -> bool:
    both_numbers = all(isinstance(value, (int, float)) for value in (expected, got))
    return math.isclose(expected, got, rel_tol=1e-9, abs_tol=1e-9) if both_numbers else bool(expected == got)


_GOT: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "hold": lambda answer: answer["hold"] and answer["hold"]["kind"],
    "reasons": lambda answer: sorted({reason["code"] for reason in answer["reasons"]}),
    "reasons_include": lambda answer: sorted({reason["code"] for reason in answer["reasons"]}),
    "offers": lambda answer: [offer["name"] for offer in answer["offers"]],
}


def happened(trace: Mapping[str, Any]) -> dict[str, str]:
    """What every rule did, and every cell that was hit: fired, silent or unknown, by the name a case gives it."""
    did = {rule["id"]: _did(rule["verdict"]) for rule in trace["rules"]}
    for cell in trace["cells"]:
        block, _, label = cell.partition(":")
        did[block] = "unknown" if label == "unknown" else "fired"
        did[cell] = "fired"
    return did


def _did(verdict: str) -> str:
    if verdict in ("fired", "unknown, fired"):
        return "fired"
    return "silent" if verdict == "silent" else "unknown"


def _name_apart(expected: Expected, did: Mapping[str, str]) -> list[Mismatch]:
    name = expected.value
    got = did.get(name, "silent" if _is_cell_of(name, did) else "")
    if not got:
        near = nearest_name(name, did)
        got = "no such rule or cell" + (f": did you mean {near}?" if near else "")
    return [] if got == expected.key else [Mismatch(expected, got, name)]


def _is_cell_of(name: str, did: Mapping[str, str]) -> bool:
    """Whether a name is that of a cell of a block that was asked."""
    block, colon, _ = name.partition(":")
    return bool(colon) and block in did
