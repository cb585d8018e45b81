"""The trace: a stored decision explained, from its frame and the description of the policy that made it.

The policy's description (`Policy.describe`) is kept in the store under the policy's id, so a decision can be explained
after the policy that made it is gone. Nothing is decided again: the values shown are the values the rules saw. The
description of a policy from before there were scenes describes its drawdown scene at the top.

Only contributions to a score are computed here, because few decisions are looked at: by the version that scored, while
it has a role in the active policy, from the recorded features, and only if that scorecard still gives the recorded
score. They are SHAP values in units of the margin (log-odds of bad), so `expected` plus all of them is the margin, and
a positive one raised the risk. `reasons` are the codes that weigh most against the customer, each with its share of
what raised the risk: those of an adverse answer that rests on the score are among its reasons, those of any other
answer are told only here.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import orjson

from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.core.scorecards.scorecard import Row, Scorecard
from decision_service.decision_log import Frame
from decision_service.scorecards.shadows import ShadowScores

BLOCKS: Final = {"matrix": "matrices", "table": "tables", "tree": "trees"}  # by their sort in a description
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
NO_POLICY: Final = {  # of a decision that was lost and put back by `reconcile`: no rule or value of it is known
    "id": "", "numbers": (), "strings": (), "features": {}, "rules": (),
}  # fmt: skip
VERDICTS: Final = ("silent", "fired", "unknown, skipped", "unknown, fired", "unknown, held", "went wrong")


def render_trace(
    frame: Frame, policy: Mapping[str, Any], active: Sequence[Scorecard], shadows: ShadowScores | None = None
) -> dict[str, Any]:
    """The trace object of `GET /v1/decisions/{id}`. `active` are the scorecards in force, champions first; `shadows`
    what was recorded of them, if anything was. Takes a millisecond or so.
    """
    answer = orjson.loads(frame.answer)
    if answer["rung"] == "static":
        return _static(frame, policy)
    scene = _scene(answer.get("scene", DRAWDOWN_SCENE), policy)
    numbers = dict(zip(scene["numbers"], np.frombuffer(frame.numbers, "<f8").tolist(), strict=True))
    strings = dict(zip(scene["strings"], frame.rest["strings"], strict=True))
    values: dict[str, float | str | None] = {**{n: _shown(v) for n, v in numbers.items()}, **strings}
    features, answered = scene["features"], answer["scores"]
    in_force = _InForce(scene.get("constants", {}), _asked_at_ms(frame, answer))
    return {
        "request": orjson.loads(frame.request),
        "seq": frame.rest["seq"],
        "state_version": frame.rest["version"],
        "policy_id": policy["id"],
        "stages_us": frame.rest["stages_us"],
        "inputs": {name: value for name, value in values.items() if name not in features},
        "features": {
            name: {"value": values[name], "unit": spec["unit"], "meaning": spec["meaning"]}
            for name, spec in features.items()
        },
        "rules": [
            {**_rule(rule, verdict, values), **_where(rule), "constants": in_force(rule)}
            for rule, verdict in zip(scene["rules"], frame.verdicts, strict=True)
        ],
        "cells": frame.rest["cells"],
        "bounded": frame.rest.get("bounded", []),  # decisions of older versions lack it
        "blocks": [
            {**_block(sort, block, frame.rest["cells"], values), **_where(block), "constants": in_force(block)}
            for sort in BLOCKS
            for block in scene.get(BLOCKS[sort], ())  # descriptions of old policies lack them
        ],
        "points": [_points(card, values) for card in scene.get("points", ())],  # nor these
        "scorecards": {
            name: _scorecard(name, told, answered[name], numbers, scene, active)
            for name, told in frame.rest["scorecards"].items()
        },
        **_shadows(scene, shadows),
    }


def _static(frame: Frame, policy: Mapping[str, Any]) -> dict[str, Any]:
    """The trace of a static answer: nothing was read and nothing evaluated; its cell names what answered."""
    return {
        "request": orjson.loads(frame.request), "seq": None, "state_version": None, "policy_id": policy["id"],
        "stages_us": frame.rest["stages_us"], "inputs": {}, "features": {}, "rules": [], "cells": frame.rest["cells"],
        "bounded": [], "blocks": [], "points": [], "scorecards": {}, "shadows": {}, "shadows_missing": None,
    }  # fmt: skip


def _shadows(scene: Mapping[str, Any], recorded: ShadowScores | None) -> dict[str, Any]:
    """What the shadows scored, or null with the reason why nothing is known."""
    if recorded is not None or not scene.get("shadows"):  # descriptions of old policies lack them
        return {"shadows": recorded or {}, "shadows_missing": None}
    names = ", ".join(f"{name} {version}" for name, version in scene["shadows"])
    return {"shadows": None, "shadows_missing": f"not recorded: {names} score within moments of the answer, or never"}


def _scene(name: str, policy: Mapping[str, Any]) -> Mapping[str, Any]:
    """The description of the scene that judged; `features` by name, with unit and meaning."""
    if "scenes" not in policy:
        return policy
    scene, told = policy["scenes"][name], policy["features"]
    return {**scene, "features": {feature: told[feature] for feature in scene["features"] if feature in told}}


def _points(card: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """One points scorecard: what it came to, and what each value earned."""
    return {
        "id": card["id"], "points": values[card["points"]],
        "grade": None if card["grade"] is None else values[card["grade"]], "base": card["base"],
        "of": [{"value": one["value"], "points": values[one["part"]]} for one in card["of"]],
        "values": {name: values.get(name) for name in card["names"]},
    }  # fmt: skip


def _scorecard(
    name: str, scored: Sequence[str], answered: Mapping[str, Any], numbers: Mapping[str, float],
    scene: Mapping[str, Any], active: Sequence[Scorecard],
) -> dict[str, Any]:  # fmt: skip
    """One scorecard's score as answered, the features it rests on, and what each contributed."""
    version, problem, role = scored if len(scored) == 3 else (*scored, "champion")  # frames of before there were roles
    used = scene.get(f"{'challenger' if role == 'challenger' else 'scorecard'}_features", {}).get(name, ())
    features = {feature: _shown(numbers[feature]) for feature in used}
    told: dict[str, Any] = {"contributions": None, "expected": None, "reasons": None}
    card = _active(name, version, active)
    unexplained = problem if answered["points"] is None else _unexplained(version, numbers, card)
    if not unexplained and card is not None:
        told = _contributions(card, numbers)
    problem = "; ".join(dict.fromkeys(why for why in (problem, unexplained) if why))
    return {"version": version, "role": role, **answered, "problem": problem or None, "features": features, **told}


def _active(name: str, version: str, active: Sequence[Scorecard]) -> Scorecard | None:
    """The version that scored if it is active, else the champion of today."""
    of_name = [card for card in active if card.name == name]
    return next((card for card in of_name if card.version == version), next(iter(of_name), None))


def _unexplained(version: str, numbers: Mapping[str, float], active: Scorecard | None) -> str:
    """Why the active scorecard cannot say what made up a score, or the empty string."""
    if active is None:
        return "contributions unknown: this scorecard is no longer active"
    if active.version != version:
        return f"contributions unknown: version {version} scored, version {active.version} is active"
    other_features = any(feature not in numbers for feature in active.names)
    if other_features or active.score(_row(active, numbers)).pd != numbers[f"{active.name}.pd"]:
        return f"contributions unknown: the active version {version} is another model now"
    return ""


def _contributions(card: Scorecard, numbers: Mapping[str, float]) -> dict[str, Any]:
    row = _row(card, numbers)
    computed = card.scorer.contributions(row)
    *contributions, expected = computed.tolist()
    ranked = sorted(zip(card.names, contributions, strict=True), key=lambda pair: -abs(pair[1]))
    return {
        "contributions": [
            {"feature": feature, "value": _shown(numbers[feature]), "contribution": contribution}
            for feature, contribution in ranked
        ],
        "expected": expected,
        "reasons": [{"code": one.code, "share": one.share} for one in card.adverse(row, computed)],
    }


def _row(card: Scorecard, numbers: Mapping[str, float]) -> Row:
    return np.array([numbers[feature] for feature in card.names], np.float64)


def _shown(value: float) -> float | None:
    return None if math.isnan(value) else value


def _rule(rule: Mapping[str, Any], verdict: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """One rule's verdict with the values it saw, and, if unknown, what it lacked."""
    saw = {name: values.get(name) for name in rule["names"]}
    missing = [name for name, value in saw.items() if value is None]
    unknown = verdict in (2, 3, 4)
    return {
        "id": rule["id"],
        "verdict": VERDICTS[verdict],
        "when": rule["when"],
        "values": saw,
        "because": f"unknown because {_listed(missing)} missing" if unknown else None,
        "reason": rule.get("reason"),
    }


def _where(part: Mapping[str, Any]) -> dict[str, Any]:
    """Where a rule or block stands and what it is for."""
    return {"stage": part.get("stage") or None, "note": part.get("note")}


def _block(sort: str, block: Mapping[str, Any], cells: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """A matrix, table or tree: what of it was hit, and the values it saw."""
    hit = [label for cell in cells for name, _, label in [cell.partition(":")] if name == block["id"]]
    saw = {name: values.get(name) for name in block["names"]}
    missing = [name for name, value in saw.items() if value is None]
    unknown = hit == ["unknown"] and missing
    return {
        "id": block["id"], "sort": sort, "hit": hit, "values": saw,
        "because": f"unknown because {_listed(missing)} missing" if unknown else None, "reason": block.get("reason"),
    }  # fmt: skip


def _asked_at_ms(frame: Frame, answer: Mapping[str, Any]) -> int:
    """The instant that a decision was about."""
    told = orjson.loads(frame.request).get("occurred_at") or answer["decided_at"]
    return int(datetime.fromisoformat(told).timestamp() * 1000)


class _InForce:
    """The constants of a scene, with the values they had at an instant."""

    def __init__(self, constants: Mapping[str, Any], t_ms: int) -> None:
        self._values = {name: _value_at(value, t_ms) for name, value in constants.items()}

    def __call__(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """Those that a rule or block names."""
        words = _NAME.findall(orjson.dumps(part).decode())
        return {name: self._values[name] for name in sorted(self._values.keys() & set(words))}


def _value_at(value: Any, t_ms: int) -> Any:
    if not isinstance(value, Mapping):
        return value
    position = bisect_right(value["from_ms"], t_ms)
    return value["values"][position - 1] if position else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) + (" is" if len(names) == 1 else " are")
