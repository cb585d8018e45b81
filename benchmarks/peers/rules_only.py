"""(c) Rules only: this service's compiled rule set beside zen-engine with its static loader and rule-engine.

40 and 400 conditions (`rules_made`), the same text and the same values in all three languages, one thread, one decision
a call. What each engine decides is compared for every decision before anything is timed; then rounds in turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import peer_paths  # noqa: F401
from decision_service.core.rules.codegen import FIRED
from peer_report import IN_TURNS_COLUMNS, Part, Ratio, in_turns, in_turns_rows, say
from rules_made import NUMBERS, STRINGS, compiled, conditions, decisions, rule_set_text
from rules_peers import PEERS

OURS: Final = "this service"
T_MS: Final = 1_795_000_000_000
SIZES: Final = (40, 400)
DECISIONS: Final = 200
NOTES: Final = [
    "the same conditions and values for all. This service also looks up a matrix, and gives verdicts of three values, "
    "effects and reasons; the others say which conditions are true.",
    "zen-engine: one graph with one expression a rule, in its static loader, so the decision is parsed and compiled "
    "once; evaluated from Python, which turns the inputs and the result into its own values each time. Called from "
    "Rust it would not pay for that.",
    "rule-engine: each rule parsed once, asked with `matches`. It computes in decimals.",
    "no value is null: both raise an error for a comparison with null, so rules would have to ask for it first.",
    "inputs are what each takes: a dict for them, vectors for this service, which its features fill in place.",
]
Verdicts = list[bool]


class DifferentVerdicts(Exception):
    """An engine judges differently."""


def run(quick: bool) -> Part:
    """Compare, then time."""
    part = Part("rules", "(c) Rules only", list(NOTES), IN_TURNS_COLUMNS)
    rounds, seconds = (1, 0.2) if quick else (5, 1.5)
    for rules in SIZES:
        say(f"rules: {rules} rules")
        calls = engines(rules)
        compared = same_verdicts(calls)
        timed: dict[str, Callable[[int], Any]] = {name: call for name, (call, _) in calls.items()}
        spent = in_turns(timed, rounds, seconds)
        part.rows += [(f"{row[0]}, {rules} rules", *row[1:]) for row in in_turns_rows(spent, OURS)]
        part.ratios += [
            Ratio(f"{rules} rules, CPU, {name} / this service", found.cpu_us / spent[OURS].cpu_us)
            for name, found in spent.items() if name != OURS
        ]  # fmt: skip
        part.checked += f"{rules} rules: {compared:,} verdicts equal in {len(calls)} engines. "
    return part


def engines(rules: int) -> dict[str, tuple[Callable[[int], Any], Callable[[int], Verdicts]]]:
    """For each engine: the call that is timed, and what it comes to as verdicts; both of the i-th decision."""
    whens, asked = conditions(rules), decisions(DECISIONS)
    rule_set = compiled(rule_set_text(whens))
    vectors = [([float(d[n]) for n in NUMBERS], [str(d[n]) for n in STRINGS]) for d in asked]

    def judged(i: int) -> Any:
        numbers, strings = vectors[i % DECISIONS]
        return rule_set.evaluate(numbers, strings, {}, T_MS, 100, 2_000_000, 1_800)

    found: dict[str, tuple[Callable[[int], Any], Callable[[int], Verdicts]]] = {
        OURS: (judged, lambda i: [verdict == FIRED for verdict in judged(i).verdicts])
    }
    for name, make in PEERS.items():
        decide = make(whens)
        call = lambda i, decide=decide: decide(asked[i % DECISIONS])  # noqa: E731
        found[name] = (call, call)
    return found


def same_verdicts(calls: dict[str, tuple[Callable[[int], Any], Callable[[int], Verdicts]]]) -> int:
    """How many verdicts were compared; DifferentVerdicts if one differs."""
    compared = 0
    for i in range(DECISIONS):
        expected = calls[OURS][1](i)
        for name, (_, verdicts) in calls.items():
            if (found := verdicts(i)) != expected:
                first = next(k for k, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1])
                raise DifferentVerdicts(f"{name} judges rule {first} of decision {i} differently: {found[first]}")
        compared += len(expected)
    return compared
