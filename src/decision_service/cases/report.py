"""What came of the cases, as text for a person and as JSON: every mismatch at its place, and what was reached."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from decision_service.cases.calling import CaseResult, StepResult
from decision_service.cases.coverage import SceneCoverage, percent
from decision_service.cases.expecting import Mismatch, happened
from decision_service.core.source import Diagnostic

WIDTH: Final = 110  # characters
NAMES_SHOWN: Final = 12  # of what was never reached, without --all


# --- a case that failed ----------------------------------------------------------------------------------------------


def failure_lines(result: CaseResult) -> list[str]:
    """Everything that is wrong about a case, with what fired and what the rules in question saw."""
    lines = []
    if result.problem:
        lines.append(f"{result.case.file}: {result.case.name}: {result.problem}")
    for step in result.steps:
        if not step.mismatches:
            continue
        for mismatch in step.mismatches:
            lines += _mismatch(result, step, mismatch)
        lines += [_fired(step), ""]
    return lines


def _mismatch(result: CaseResult, step: StepResult, mismatch: Mismatch) -> list[str]:
    where = f", step {step.number}" if len(result.case.steps) > 1 else ""
    about = f" `{mismatch.about}`" if mismatch.about else ""
    told = Diagnostic(
        mismatch.place, f"{result.case.name}{where}: {mismatch.expected.key}{about}",
        length=mismatch.expected.length,
    )  # fmt: skip
    expected = mismatch.expected.key if mismatch.about else shown(mismatch.expected.value)
    lines = [*told.render().splitlines(), f"      = expected: {expected}", f"      = got: {shown(mismatch.got)}"]
    rule = next((r for r in step.answer["trace"]["rules"] if r["id"] == mismatch.about), None)
    return lines if rule is None else lines + saw_lines(rule)


def saw_lines(rule: Mapping[str, Any]) -> list[str]:
    """What a rule asks and the values it saw."""
    saw = ", ".join(f"{name} = {shown(value)}" for name, value in sorted(rule["values"].items()))
    lines = _wrapped(f"= when: {' '.join(rule['when'].split())}") + _wrapped(f"= saw: {saw}" if saw else "")
    return lines + _wrapped(f"= {rule['because']}" if rule.get("because") else "")


def _fired(step: StepResult) -> str:
    trace = step.answer["trace"]
    rules = [rule["id"] for rule in trace["rules"] if happened(trace)[rule["id"]] == "fired"]
    names = [*rules, *trace["cells"]]
    decided = step.answer["decision"] + (f" ({step.answer['hold']['kind']})" if step.answer["hold"] else "")
    reasons = ", ".join(sorted({f"{r['code']} {r['source']}" for r in step.answer["reasons"]}))
    told = f"decided: {decided}; fired: {', '.join(names) or 'nothing'}; reasons: {reasons or 'none'}"
    return "\n".join(_wrapped(f"= {told}"))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="      ", subsequent_indent="          ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def shown(value: Any) -> str:
    """A value as a case would write it."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)


# --- coverage --------------------------------------------------------------------------------------------------------


def coverage_lines(scenes: Sequence[SceneCoverage], everything: bool) -> list[str]:
    """How much of each scene was reached, and what was not."""
    width = max((len(scene.scene) for scene in scenes), default=0)
    lines = []
    for scene in scenes:
        lines.append(f"{scene.scene:<{width}}  {percent([scene]):5.1f} % of {scene.rules} rules, {scene.cells} cells")
        for what, names in (
            ("never fired", scene.never_fired), ("never silent", scene.never_silent), ("never hit", scene.never_hit),
        ):  # fmt: skip
            lines += _names(what, names, everything)
    return [*lines, f"coverage {percent(scenes):.1f} %"]


def _names(what: str, names: Sequence[str], everything: bool) -> list[str]:
    if not names:
        return []
    listed = names if everything else names[:NAMES_SHOWN]
    more = f" and {len(names) - len(listed)} more" if len(listed) < len(names) else ""
    return _wrapped(f"{what}: {', '.join(listed)}{more}")


# --- for a machine ---------------------------------------------------------------------------------------------------


def results_json(results: Iterable[CaseResult]) -> list[dict[str, Any]]:
    """Every case and what came of its questions."""
    return [
        {
            "case": result.case.name, "file": result.case.file, "shows": result.case.shows, "passed": result.passed,
            "problem": result.problem or None,
            "steps": [
                {
                    "step": step.number, "decision_id": step.answer["decision_id"], "decision": step.answer["decision"],
                    "fired": sorted(name for name, did in happened(step.answer["trace"]).items() if did == "fired"),
                    "mismatches": [mismatch.as_json() for mismatch in step.mismatches],
                }
                for step in result.steps
            ],
        }
        for result in results
    ]  # fmt: skip
