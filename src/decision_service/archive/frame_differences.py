"""Where two frames of one decision differ, by name and in the order of cause, and what that probably means.

    version, seq -> fingerprint, request -> numbers: inputs, features, scores, points -> strings -> scorecards
      -> verdicts -> cells, bounded -> answer -> the rest of the frame

What comes first is nearest to the cause: a feature that differs makes a rule fire that makes an answer differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from decision_service.core.policy import Policy
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.core.scene import Scene
from decision_service.decision_log import Frame, decode
from decision_service.trace import VERDICTS

FIELDS_MAX: Final = 50  # told of one decision
_NOTHING: Final = object()
_COMPARED: Final = ("version", "seq", "strings", "scorecards", "cells", "bounded")  # by themselves

LOG: Final = (
    "the log prefix rebuilt from the archive is not what the decision saw: changes are missing, doubled or out of order"
)
STATE: Final = "facility, attributes or position: the state was rebuilt otherwise, or the code that reads it changed"
PARSER: Final = "the parser of requests changed"
FEATURES: Final = (
    "the feature's code changed (its inputs and the log are the same), or floating-point arithmetic is another here"
)
LINKS: Final = "a feature of an entity log, which is taken as recorded: the layout of the numbers changed"
SCORING: Final = "scoring changed: its features are the same"
POINTS: Final = "the points of a points scorecard are computed otherwise: what they rest on is the same"
STRINGS: Final = "attributes, facility or grades: the state was rebuilt otherwise, or the code that reads it changed"
RULES: Final = "the rule is evaluated otherwise: the values it sees are the same"
BLOCKS: Final = "a table, matrix, tree or guardrail is evaluated otherwise: the values it sees are the same"
MERGE: Final = "effects merge, or answers are written, otherwise: every verdict is the same"
STATIC: Final = "a static answer: the rule set's fallback, or what a snapshot must show to be paid on, is another"
LAYOUT: Final = "only the layout of the frame changed"


class Difference(NamedTuple):
    """One field that differs: `numbers.vol_ok_amt_7d`, `answer.reasons[1].code`. None stands for null and for nothing
    there."""

    field: str
    recorded: Any
    replayed: Any
    cause: str


def differences(recorded: bytes, replayed: bytes, policy: Policy) -> list[Difference]:
    """The fields in which a recorded frame and a replayed one differ, nearest to the cause first; at most FIELDS_MAX.
    Empty if they are the same. ValueError if the recorded one is damaged."""
    if recorded == replayed:
        return []
    found = list(_all(decode(recorded), decode(replayed), policy))
    return found[:FIELDS_MAX] or [Difference("frame", len(recorded), len(replayed), LAYOUT)]


def _all(was: Frame, now: Frame, policy: Policy) -> Iterator[Difference]:
    answer = orjson.loads(was.answer)
    scene = policy.scenes[answer.get("scene", DRAWDOWN_SCENE)]
    for name in ("version", "seq"):
        yield from _values(name, was.rest.get(name), now.rest.get(name), LOG)
    yield from _values("fingerprint", was.fingerprint.hex(), now.fingerprint.hex(), PARSER)
    yield from _values("request", was.request.decode(), now.request.decode(), PARSER)
    yield from _numbers(was.numbers, now.numbers, scene)
    yield from _named("strings", was.rest.get("strings"), now.rest.get("strings"), scene.string_names, STRINGS)
    yield from _values("scorecards", was.rest.get("scorecards"), now.rest.get("scorecards"), SCORING)
    yield from _verdicts(was.verdicts, now.verdicts, scene)
    blocks, merge = (STATIC, STATIC) if answer["rung"] == "static" else (BLOCKS, MERGE)
    for name in ("cells", "bounded"):
        yield from _values(name, was.rest.get(name), now.rest.get(name), blocks)
    yield from _values("answer", answer, orjson.loads(now.answer), merge)
    yield from _values("rest", _other(was.rest), _other(now.rest), LAYOUT)


def _other(rest: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rest.items() if name not in _COMPARED}


def _numbers(was: bytes, now: bytes, scene: Scene) -> Iterator[Difference]:
    if was == now:
        return
    before, after = np.frombuffer(was, np.float64), np.frombuffer(now, np.float64)
    if len(before) != len(after):
        yield Difference("numbers", len(before), len(after), "the policy's layout of numbers changed")
        return
    bits_before, bits_after = before.view(np.uint64), after.view(np.uint64)
    for at in np.flatnonzero(bits_before != bits_after).tolist():
        name = scene.number_names[at] if at < len(scene.number_names) else str(at)
        yield Difference(f"numbers.{name}", _shown(before[at]), _shown(after[at]), _cause_of_number(at, scene))


def _cause_of_number(at: int, scene: Scene) -> str:
    behind_features = scene.first_feature + len(scene.plan.names)
    if at < scene.first_feature:
        return STATE
    if at >= scene.first_points:
        return POINTS
    if at >= behind_features:
        return SCORING
    links = sum(len(plan.names) for grain, plan in scene.plan.plans.items() if grain != "customer")
    return LINKS if at < scene.first_feature + links else FEATURES


def _shown(value: Any) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number


def _verdicts(was: bytes, now: bytes, scene: Scene) -> Iterator[Difference]:
    rules = scene.rule_set.rules
    if len(was) != len(now):
        yield Difference("verdicts", len(was), len(now), "the policy's rules are others")
        return
    for at, (before, after) in enumerate(zip(was, now, strict=True)):
        if before != after:
            name = rules[at].id if at < len(rules) else str(at)
            yield Difference(f"verdicts.{name}", _verdict(before), _verdict(after), RULES)


def _verdict(code: int) -> str:
    return VERDICTS[code] if code < len(VERDICTS) else str(code)


def _named(path: str, was: Any, now: Any, names: Sequence[str], cause: str) -> Iterator[Difference]:
    """Vectors whose places have names."""
    same_size = isinstance(was, list) and isinstance(now, list) and len(was) == len(now) == len(names)
    if not same_size:
        yield from _values(path, was, now, cause)
        return
    for name, before, after in zip(names, was, now, strict=True):
        yield from _values(f"{path}.{name}", before, after, cause)


def _values(path: str, was: Any, now: Any, cause: str) -> Iterator[Difference]:
    """JSON values, down to the first leaves that differ."""
    if type(was) is type(now) is dict:
        for key in dict.fromkeys((*was, *now)):
            yield from _values(f"{path}.{key}", was.get(key, _NOTHING), now.get(key, _NOTHING), cause)
    elif type(was) is type(now) is list:
        for at in range(max(len(was), len(now))):
            old, new = (one[at] if at < len(one) else _NOTHING for one in (was, now))
            yield from _values(f"{path}[{at}]", old, new, cause)
    elif was != now or type(was) is not type(now):
        yield Difference(path, None if was is _NOTHING else was, None if now is _NOTHING else now, cause)
