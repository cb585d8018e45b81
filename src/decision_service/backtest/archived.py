"""Batches out of the archive: the rows of segments as what `engine` takes, with what was answered beside them.

    segments ──columns of a few──▶ rows that are decisions ──by policy and scene──▶ Loaded(view, batch, before)

A `View` is one archived policy's scene beside the candidate's: which numbers stand, which are to be computed. Numbers
go from Parquet to the batch without being copied one by one; strings are cut out of the frames' `rest` and parsed a few
thousand rows at a time. The answers themselves are only read for rows whose state they alone tell (a trimmed log, a
warning tier).

Not every row can be judged again; `Skips` counts those by why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from decision_service.backtest import strings_cut
from decision_service.backtest.batch import TIER_UNKNOWN, Batch, Ints, ScoredBefore
from decision_service.backtest.engine import Engine, SceneEngine
from decision_service.backtest.outcome import DECISIONS, HOLDS, LIMITS, NONE
from decision_service.backtest.recomputing import STRINGS as REQUEST_STRINGS
from decision_service.backtest.sameness import Meanings, Shared, shared
from decision_service.core.decide import HISTORY_LOST
from decision_service.core.errors import ArchiveDamaged, NotFound
from decision_service.core.expressions.columns import Mask, Texts
from decision_service.core.money import SCALES
from decision_service.core.policy import Policy
from decision_service.core.scene import ChallengedSlots, Scene

if TYPE_CHECKING:
    import pyarrow as pa

    from decision_service.archive.policies import ArchivedPolicies

COLUMNS: Final = (
    "position", "at_ms", "kind", "decision_id", "scene", "outcome", "hold", "asked_minor", "approved_minor", "currency",
    "decided_at_ms", "t_ms", "policy_id", "rung", "reasons", "limit_kind", "limit_to_minor", "apr_to_bps", "numbers",
    "verdicts", "customer_key", "customer_id", "rest",
)  # fmt: skip
CURRENCY: Final = "request.currency"
SEGMENTED_BY: Final = ("facility.product", "request.channel")  # strings that the report looks at
WARNING: Final = "warning"
_HEAVY: Final = ("numbers", "verdicts", "rest")  # read where they lie
_LOOKED_AT: Final = ("kind", "at_ms", "policy_id", "scene", "rung")  # to choose the rows, and not after
_AT_ONCE: Final = 8_192  # rows whose strings are parsed together
_STRINGS, _AFTER_STRINGS = b'"strings":', b',"cells":'
_CARDS, _AFTER_CARDS = b'"scorecards":', b',"stages_us":'

Skips = Counter[str]
Answers = Callable[[], "pa.ChunkedArray"]  # the answers of a table's rows


@dataclass(frozen=True, slots=True)
class Before:
    """What was answered, with the codes of `Outcomes`; `fired` bool[rules, n] of the archived policy's rules."""

    decision: npt.NDArray[np.uint8]
    hold: npt.NDArray[np.uint8]
    approved_minor: Ints
    price_bps: Ints
    limit: npt.NDArray[np.uint8]
    limit_to_minor: Ints
    verdicts: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """One scene of an archived policy beside the candidate's."""

    policy: Policy
    scene: Scene
    engine: SceneEngine
    shared: Shared
    reusable: frozenset[str]  # scorecards whose recorded scores stand where their own model gave them
    lists: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Some decisions of one view. `ids` are decision ids as Arrow has them."""

    view: View
    batch: Batch
    before: Before
    positions: Ints
    decided_at_ms: Ints
    customer_keys: Ints
    texts: dict[str, Texts]  # SEGMENTED_BY, and what recomputing looks at
    rows: Ints  # of the table
    ids: pa.Array = field(repr=False)


class Views:
    """The views of a candidate on archived policies; each is worked out once."""

    def __init__(self, engine: Engine, policies: ArchivedPolicies) -> None:
        self._engine = engine
        self._policies = policies
        self._candidate = Meanings(engine.policy)
        self._meanings: dict[bytes, Meanings] = {}
        self._shared: dict[tuple[bytes, str], Shared] = {}
        self._views: dict[tuple[str, str], View | str] = {}

    def of(self, policy_id: str, scene: str) -> View | str:
        """The view of a policy's scene, or why there is none."""
        key = (policy_id, scene)
        if key not in self._views:
            self._views[key] = self._view(policy_id, scene)
        return self._views[key]

    def _view(self, policy_id: str, scene: str) -> View | str:
        engine = self._engine.scenes.get(scene)
        if engine is None:
            return f"the candidate has no rule set for the scene {scene}"
        if not policy_id:
            return "put back by reconcile: no policy decided"
        try:
            policy = self._policies.get(policy_id)
        except (NotFound, ArchiveDamaged) as error:
            return f"its policy cannot be had: {error.message}"
        found = policy.scenes[scene]
        same = self._shared_with(policy, found, engine)
        lists = {name: policy.rule_lists.get(name, frozenset()) for name in self._engine.policy.rule_lists}
        return View(policy, found, engine, same, _reusable(found, engine, same), lists)

    def _shared_with(self, policy: Policy, scene: Scene, engine: SceneEngine) -> Shared:
        key = (policy.content, scene.name)
        if key not in self._shared:
            meanings = self._meanings.setdefault(policy.content, Meanings(policy))
            needs = engine.needs | (engine.texts - {f"{s.scorecard.name}.grade" for s in engine.scene.score_slots})
            recorded = (*scene.number_names, *scene.string_names)
            self._shared[key] = shared(needs, meanings, self._candidate, recorded, self._engine.policy.catalogue)
        return self._shared[key]


def _reusable(scene: Scene, engine: SceneEngine, same: Shared) -> frozenset[str]:
    there = {slots.scorecard.name for slots in scene.score_slots}
    return frozenset(
        slots.scorecard.name
        for slots in engine.scene.score_slots
        if slots.scorecard.name in there and same.same.issuperset(slots.scorecard.names)
    )


def loaded(
    table: pa.Table, views: Views, since_ms: int, until_ms: int, answers: Answers, skips: Skips
) -> Iterator[Loaded]:
    """The decisions of a table of COLUMNS that were committed in [since_ms, until_ms), by policy and scene."""
    import pyarrow.compute as pc

    at_ms = _ints(table["at_ms"])
    wanted = (at_ms >= since_ms) & (at_ms < until_ms) & _mask(pc.is_valid(table["decision_id"]))
    kinds = _mask(pc.equal(table["kind"], "change"))
    skips["unreadable when it was archived"] += int((wanted & ~kinds).sum())
    wanted &= kinds
    static = _mask(pc.fill_null(pc.equal(table["rung"], "static"), False))
    skips["answered statically: nothing was read"] += int((wanted & static).sum())
    wanted &= ~static
    erased = _mask(pc.is_null(table["rest"]))
    skips["erased"] += int((wanted & erased).sum())
    wanted &= ~erased
    policies, scenes = (strings_cut.texts_of(table[name].combine_chunks()) for name in ("policy_id", "scene"))
    group = np.where(wanted, policies.codes.astype(np.int64) * len(scenes.values) + scenes.codes, -1)
    for code in np.unique(group[group >= 0]).tolist():
        rows = np.flatnonzero(group == code)
        policy, scene = divmod(code, len(scenes.values))
        view = views.of(policies.values[policy], scenes.values[scene])
        if isinstance(view, str):
            skips[view] += len(rows)
            continue
        yield _loaded(table, view, rows, answers)


def _loaded(table: pa.Table, view: View, rows: Ints, answers: Answers) -> Loaded:
    import pyarrow as pa

    scene, engine = view.scene, view.engine
    matrix = _vectors(table["numbers"], rows, len(scene.number_names), np.dtype("<f8"))
    verdicts = _vectors(table["verdicts"], rows, len(scene.rule_set.rules), np.dtype("u1"))
    texts, scored = _told(table["rest"], rows, view)
    part = table.drop_columns(list(_HEAVY + _LOOKED_AT))
    if len(rows) < table.num_rows:
        part = part.take(pa.array(rows))
    challenged = any(isinstance(slots, ChallengedSlots) for slots in engine.scene.score_slots)
    stand = view.shared.same | {f"{card}.{what}" for card in view.reusable for what in ("points", "pd")}
    lost, tiers = _of_answers(part, view, rows, answers)
    asked = _ints(part["asked_minor"], 0)
    batch = Batch(
        scene.name, matrix, {name: i for i, name in enumerate(scene.number_names) if name in stand}, texts,
        _ints(part["t_ms"]), asked, _coded(part["currency"], SCALES, 1).astype(np.int64), lost,
        part["customer_id"].to_pylist() if challenged else (), scored, tiers, {}, view.lists,
    )  # fmt: skip
    before = Before(
        _coded(part["outcome"], {name: i for i, name in enumerate(DECISIONS)}, 0).astype(np.uint8),
        _coded(part["hold"], {name: i for i, name in enumerate(HOLDS)}, 0).astype(np.uint8),
        _ints(part["approved_minor"], 0), _ints(part["apr_to_bps"], NONE),
        _coded(part["limit_kind"], {name: i for i, name in enumerate(LIMITS)}, 0).astype(np.uint8),
        _ints(part["limit_to_minor"], NONE), verdicts.T,
    )  # fmt: skip
    return Loaded(
        view, batch, before, _ints(part["position"]), _ints(part["decided_at_ms"]), _ints(part["customer_key"], 0),
        texts, rows, part["decision_id"].combine_chunks(),
    )  # fmt: skip


# --- columns out of Arrow -------------------------------------------------------------------------------------------


def _ints(column: Any, null: int = 0) -> Ints:
    import pyarrow.compute as pc

    filled = pc.fill_null(column, null) if column.null_count else column
    return np.asarray(filled.to_numpy()).astype(np.int64, copy=False)


def _mask(column: Any) -> Mask:
    return np.asarray(column.to_numpy(zero_copy_only=False) if not hasattr(column, "chunks") else column.to_numpy())


def _coded(column: Any, codes: Mapping[str, int], null: int) -> Ints:
    """A column of few texts as numbers."""
    encoded = column.combine_chunks().dictionary_encode()
    table = np.array([*(codes[name] for name in encoded.dictionary.to_pylist()), null], np.int64)
    indices = encoded.indices.fill_null(len(table) - 1) if encoded.indices.null_count else encoded.indices
    coded: Ints = table[indices.to_numpy(zero_copy_only=False)]
    return coded


def _vectors(column: Any, rows: Ints, width: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Some rows of a column of byte strings of one length as [n, width], without a copy where nothing lies between
    them: other rows are mostly null, which takes no place."""
    array = column.combine_chunks()
    size = width * dtype.itemsize
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    starts = offsets[rows]
    if (offsets[rows + 1] - starts != size).any():
        raise ArchiveDamaged(f"vectors of {width} values are expected in the rows of this policy, there are others")
    if not size:
        return np.empty((len(rows), 0), dtype)
    count = (int(offsets[-1]) - int(offsets[0])) // dtype.itemsize
    held = np.frombuffer(array.buffers()[2], dtype, count, int(offsets[0]))
    if int(starts[-1]) - int(starts[0]) == size * (len(rows) - 1):
        first = (int(starts[0]) - int(offsets[0])) // dtype.itemsize
        return held[first : first + len(rows) * width].reshape(len(rows), width)
    at = (starts - offsets[0]).astype(np.int64) // dtype.itemsize
    apart: npt.NDArray[Any] = held[at[:, None] + np.arange(width)]
    return apart


def _told(column: Any, rows: Ints, view: View) -> tuple[dict[str, Texts], dict[str, ScoredBefore]]:
    """The strings that are looked at, and which model gave each recorded score."""
    names = view.scene.string_names
    also = (CURRENCY, *SEGMENTED_BY, *(REQUEST_STRINGS if view.shared.new else ()))
    wanted = [name for name in names if name in view.engine.texts or name in also]
    places = [names.index(name) for name in wanted]
    found = strings_cut.columns(column, rows, places)
    if found is None:
        found = _parsed_strings(_some(column, rows), places)
    return dict(zip(wanted, found, strict=True)), _scored(column, rows, view)


def _some(column: Any, rows: Ints) -> list[bytes]:
    import pyarrow as pa

    found: list[bytes] = column.take(pa.array(rows)).to_pylist()
    return found


def _parsed_strings(rests: Sequence[bytes], places: Sequence[int]) -> list[Texts]:
    columns: list[list[str | None]] = [[] for _ in places]
    for start in range(0, len(rests), _AT_ONCE):
        strings = _parsed(rests[start : start + _AT_ONCE], _STRINGS, _AFTER_STRINGS, "strings")
        for kept, place in zip(columns, places, strict=True):
            kept += [one[place] for one in strings]
    return [Texts.of(kept) for kept in columns]


def _scored(column: Any, rows: Ints, view: View) -> dict[str, ScoredBefore]:
    """Which model gave each recorded score; where there is a challenger, the frames say."""
    found = {}
    for slots in view.scene.score_slots:
        name, champion = slots.scorecard.name, slots.scorecard.manifest.sha256
        if not isinstance(slots, ChallengedSlots):
            found[name] = ScoredBefore(np.zeros(len(rows), np.int32), (champion,))
            continue
        told = _parsed(_some(column, rows), _CARDS, _AFTER_CARDS, "scorecards")
        codes = np.array([one[name][2:3] == ["challenger"] for one in told], np.int32)
        found[name] = ScoredBefore(codes, (champion, slots.challenger.scorecard.manifest.sha256))
    return found


def _parsed(rests: Sequence[bytes], begin: bytes, end: bytes, key: str) -> list[Any]:
    """One member of every `rest`, cut out: quotes inside a text are escaped, so neither mark can stand in one."""
    cut = []
    for rest in rests:
        start = rest.find(begin)
        stop = rest.find(end, start)
        if start < 0 or stop < 0:
            return [orjson.loads(one)[key] for one in rests]
        cut.append(rest[start + len(begin) : stop])
    found: list[Any] = orjson.loads(b"[%b]" % b",".join(cut))
    return found


def _of_answers(part: pa.Table, view: View, rows: Ints, answers: Answers) -> tuple[Mask, npt.NDArray[np.int8] | None]:
    """Which logs were trimmed into what the position rests on, and the warning tiers in force, from the answers."""
    import pyarrow.compute as pc

    reasons = part["reasons"].combine_chunks()
    lost = np.zeros(part.num_rows, np.bool_)
    parents = pc.list_parent_indices(reasons).to_numpy(zero_copy_only=False)
    maybe = np.unique(parents[_mask(pc.fill_null(pc.equal(pc.list_flatten(reasons), HISTORY_LOST.reason), False))])
    is_warning = view.scene.name == WARNING
    if not len(maybe) and not is_warning:
        return lost, None
    told = answers()
    source = b'"source":"%b"' % HISTORY_LOST.source.encode()
    for i in maybe.tolist():
        lost[i] = source in (told[int(rows[i])].as_py() or b"")
    if not is_warning:
        return lost, None
    tiers = [orjson.loads(told[int(row)].as_py() or b"{}").get("tier") for row in rows]
    return lost, np.array([0 if tier is None or tier["from"] == "none" else TIER_UNKNOWN for tier in tiers], np.int8)
