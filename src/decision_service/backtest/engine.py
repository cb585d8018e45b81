"""The candidate over batches of archived decisions: scores, rules, effects and their merging, all as columns.

An engine compiles each scene of the candidate once. It needs the numbers that the scene's rules and scorecards read;
`needs` names them, so that whoever makes batches knows what to compute. Points and grades that the rule set fills
itself, and scores, are never among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from decision_service.backtest.batch import Batch, Ints
from decision_service.backtest.effects import Asked, Effects
from decision_service.backtest.merging import Standings, merged
from decision_service.backtest.outcome import Outcomes
from decision_service.backtest.scoring import Scores, cards_of, scores
from decision_service.core.expressions.columns import Columns, Floats, Texts
from decision_service.core.expressions.vector import VectorCompiler
from decision_service.core.policy import Policy
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.core.rules.columns import VectorRuleSet, values_at
from decision_service.core.rules.points_code import VectorPoints
from decision_service.core.scene import Scene
from decision_service.core.vocabulary import BASE_STRINGS, Layout

CHUNK: Final = 8_192
_LIMIT, _OUTSTANDING, _RESERVED = "facility.limit", "facility.outstanding", "facility.reserved"
_APR, _CUSTOMER_LIMIT = "facility.apr", "customer.limit"
LINE: Final = (_LIMIT, _OUTSTANDING, _RESERVED, _APR, _CUSTOMER_LIMIT)  # what merging looks at
_STATUS: Final = "facility.status"
_BPS: Final = 10_000


@dataclass(slots=True)
class Decided:
    """What the candidate says about a batch. `verdicts` uint8[rules, n] and `cells` int32[blocks, n] are as in
    `core.rules.columns`, `hits` by the id of the table; `scores` by scorecard."""

    outcomes: Outcomes
    verdicts: np.ndarray
    cells: np.ndarray
    hits: dict[str, np.ndarray]
    scores: Mapping[str, Scores] = field(default_factory=dict)


class SceneEngine:
    """One scene of the candidate."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        spec = scene.rule_set.spec
        self._spec = spec
        filled = frozenset(spec.numbers_filled)
        scored = {f"{s.scorecard.name}.{part}" for s in scene.score_slots for part in ("points", "pd")}
        read = [scene.number_names[i] for i in scene.read]
        self._numbers = tuple(dict.fromkeys((*read, *LINE)))
        self._given = tuple(name for name in self._numbers if name not in filled and name not in scored)
        wanted = (n for n in scene.string_names if n in spec.names_used or n in spec.strings_filled)
        self._strings = tuple(wanted)
        layout = Layout(
            {name: i for i, name in enumerate(self._numbers)}, {name: i for i, name in enumerate(self._strings)}
        )
        compiler = VectorCompiler(layout, [dated.name for dated in spec.dated])
        self._points = VectorPoints(spec.points, compiler, layout)
        self._rules = VectorRuleSet(spec, layout)
        self._effects = Effects(spec, compiler)

    @property
    def needs(self) -> frozenset[str]:
        """The numbers that a batch must have."""
        cards = (card for slots in self.scene.score_slots for card in cards_of(slots))
        return frozenset(self._given).union(*(card.names for card in cards))

    @property
    def texts(self) -> frozenset[str]:
        """The archived strings that a batch must have: grades that are scored again are not looked at."""
        grades = {f"{slots.scorecard.name}.grade" for slots in self.scene.score_slots}
        base = {spec.name for spec in BASE_STRINGS if spec.name in self._strings or spec.name == _STATUS}
        attributes = {slot.spec.spec.name for slot in self.scene.text_slots if slot.spec.spec.name in self._strings}
        return frozenset(base | attributes | grades)

    def decide(self, batch: Batch, reusable: frozenset[str]) -> Decided:
        """Answer a batch. `reusable` are the scorecards whose recorded scores stand."""
        found = {
            slots.scorecard.name: scores(batch, slots, slots.scorecard.name in reusable)
            for slots in self.scene.score_slots
        }
        spec, n = self._spec, batch.count
        hits = {t.id: np.zeros((len(t.labels) + 1, n), np.bool_) for t in spec.tables if t.hit == "all"}
        decided = Decided(
            Outcomes(n), np.empty((len(spec.rules), n), np.uint8), np.empty((len(spec.blocks), n), np.int32), hits,
            found,
        )  # fmt: skip
        with np.errstate(all="ignore"):  # what overflows or has no value is null, which is no reason for a warning
            for start in range(0, n, CHUNK):
                self._decide(batch, found, start, min(start + CHUNK, n), decided)
        return decided

    def _decide(self, batch: Batch, found: Mapping[str, Scores], start: int, stop: int, decided: Decided) -> None:
        columns = self._columns(batch, found, start, stop)
        t_ms, part = batch.t_ms[start:stop], slice(start, stop)
        judged = self._rules.judge(columns, t_ms)
        line = dict(zip(LINE, (columns.numbers[self._numbers.index(name)] for name in LINE), strict=True))
        scale = batch.scale[part]
        limit = _whole(line[_LIMIT] * scale)
        asked = Asked(stop - start, limit, _whole(line[_APR] * _BPS), scale, batch.amount_minor[part])
        self._effects.ask(judged, columns, asked)
        used = _whole(line[_OUTSTANDING] * scale) + _whole(line[_RESERVED] * scale)
        frozen = None
        if self.scene.name != DRAWDOWN_SCENE:
            frozen = _slice(batch.texts[_STATUS], start, stop).among({"frozen"})
        standings = Standings(
            t_ms, used, _whole(line[_CUSTOMER_LIMIT] * scale), batch.history_lost[part], frozen,
            None if batch.tiers is None else batch.tiers[part],
        )  # fmt: skip
        decided.outcomes.put(start, merged(asked, standings, self._spec.guardrails, self.scene.name))
        decided.verdicts[:, part], decided.cells[:, part] = judged.verdicts, judged.cells
        for table, hit in judged.hits.items():
            decided.hits[table][:, part] = hit

    def _columns(self, batch: Batch, found: Mapping[str, Scores], start: int, stop: int) -> Columns:
        """What the rules see, with scores in place and the rule set's own points filled."""
        n = stop - start
        given = dict(zip(self._given, batch.columns(self._given, start, stop), strict=True))
        for name, score in found.items():
            given[f"{name}.points"], given[f"{name}.pd"] = score.points[start:stop], score.pd[start:stop]
        nothing: Floats = np.full(n, np.nan)
        numbers = [given.get(name, nothing) for name in self._numbers]
        grades = {f"{name}.grade": score.grade for name, score in found.items()}
        blank = Texts(np.full(n, -1, np.int32), ())
        strings = [
            _slice(grades.get(name) or batch.texts[name], start, stop)
            if name in grades or name in batch.texts
            else blank
            for name in self._strings
        ]  # fmt: skip
        named = {dated.name: values_at(dated, batch.t_ms[start:stop]) for dated in self._spec.dated}
        return self._points.filled(Columns(n, numbers, strings, batch.lists, named))


class Engine:
    """A candidate policy, scene by scene."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.scenes = {name: SceneEngine(scene) for name, scene in policy.scenes.items()}


def _slice(texts: Texts, start: int, stop: int) -> Texts:
    return Texts(texts.codes[start:stop], texts.values)


def _whole(x: Floats) -> Ints:
    """Minor units or basis points back from what was divided: exact below 2^53."""
    return np.rint(x).astype(np.int64)
