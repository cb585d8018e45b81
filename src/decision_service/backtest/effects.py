"""What the rules and blocks of a rule set ask for, as columns: `core.rules.effects_code` for many decisions.

Every rule and block is an *asker*: a column of codes (a rule's verdict, the label of a block that was hit) and, for
each code, the effects asked for. Effects known when the policy compiles become small tables, looked up by code; an
amount is computed where it is asked for. `Asked` gathers them as `core.merge` takes them: the most severe, the least,
the highest. What a computed amount makes of an int64 that cannot hold it is left to `core.decide` (`Asked.unsure`).

Reasons are kept by what they are a reason for, since merging drops those of a price or a limit that came to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from decision_service.backtest.batch import Ints
from decision_service.core.decision import (
    HOLD_RANK,
    RENEWALS,
    TIER_RANK,
    Alert,
    Approve,
    ChangeLimit,
    Effect,
    Hold,
    Offer,
    Renew,
    Tag,
)
from decision_service.core.expressions.columns import Columns, Floats, Mask, Texts
from decision_service.core.expressions.vector import NumberFunction, VectorCompiler
from decision_service.core.rules.codegen import FIRED, UNKNOWN_FIRED, UNKNOWN_HELD, UNKNOWN_SKIPPED
from decision_service.core.rules.columns import Judged
from decision_service.core.rules.effects_code import NO_VALUE_REASON, fixed, held
from decision_service.core.rules.rule_set import RuleSetSpec
from decision_service.core.rules.spec import ComputedEffect, ComputedSort, EffectSpec

NONE_MINOR: Final = np.iinfo(np.int64).max  # no cap, no cut, no raise
NO_PRICE: Final = -1
REVIEW: Final = HOLD_RANK["review"]
_BPS: Final = 10_000
_EPSILON: Final = 1e-6  # of a minor unit, as in `effects_code`
_EXACT_MAX: Final = 2.0**62  # beyond, an int64 does not hold what Python's integers do
_FEW: Final = 4  # one row in so many: below that, amounts are computed for these rows alone

Cause = Literal["any", "price", "limit"]  # what a reason is a reason for
Key = tuple[str, str]  # reason code, source
Codes = npt.NDArray[Any]


@dataclass(slots=True)
class Asked:
    """What is asked for each of `count` decisions. `limit_minor`, `apr_bps`, `scale`, `amount_minor` are given."""

    count: int
    limit_minor: Ints
    apr_bps: Ints
    scale: Ints
    amount_minor: Ints
    hold: npt.NDArray[np.uint8] = field(init=False)  # rank of the most severe
    approve: Mask = field(init=False)
    freeze: Mask = field(init=False)
    renew: npt.NDArray[np.uint8] = field(init=False)  # 1 + rank of the most severe
    cap: Ints = field(init=False)  # the least that binds
    cut: Ints = field(init=False)  # the lowest limit asked for below today's
    lift: Ints = field(init=False)  # the lowest above it
    price: Ints = field(init=False)  # the highest, in basis points
    unsure: Mask = field(init=False)
    alerts: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)  # rank of the highest tier, by indicator
    offers: dict[str, Mask] = field(default_factory=dict)
    tags: dict[str, Mask] = field(default_factory=dict)
    reasons: dict[tuple[Cause, Key], Mask] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = self.count
        self.hold, self.renew = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
        self.approve, self.freeze, self.unsure = np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self.cap, self.cut, self.lift = (np.full(n, NONE_MINOR) for _ in range(3))
        self.price = np.full(n, NO_PRICE)

    def give(self, cause: Cause, key: Key, where: Mask | Ints) -> None:
        """A reason where a mask is true, or at these rows."""
        kept = self.reasons.get((cause, key))
        if kept is None:
            kept = self.reasons[cause, key] = np.zeros(self.count, np.bool_)
        kept[where] = True


class Label(NamedTuple):
    """What one code of an asker asks for."""

    known: tuple[Effect, ...] = ()
    computed: tuple[ComputedEffect, ...] = ()
    reason: str = ""


def _asks(then: Sequence[EffectSpec], source: str, reason: str) -> Label:
    return Label(fixed(then, source, reason), tuple(e for e in then if isinstance(e, ComputedEffect)), reason)


class _Amount(NamedTuple):
    """A computed effect and the codes that ask for it."""

    codes: tuple[int, ...]
    sort: ComputedSort
    value: NumberFunction
    reason: str


class Asker:
    """One rule or block: `labels` by code, the first for code `-shift`."""

    def __init__(self, source: str, labels: Sequence[Label], shift: int, compiler: VectorCompiler) -> None:
        self.source = source
        self._shift = shift
        self._width = len(labels)
        self._amounts: list[_Amount] = []
        self._tables: list[tuple[Callable[[Asked], npt.NDArray[Any]], npt.NDArray[Any], Any]] = []
        self._reasons: dict[tuple[Cause, Key], npt.NDArray[np.bool_]] = {}
        self._compile(labels, compiler)
        silent = labels[shift] if 0 <= shift < len(labels) else Label()
        self.is_quiet_at_zero = silent == Label()

    def ask(self, codes: Codes, columns: Columns, asked: Asked) -> Ints | None:
        """Add what is asked for; the rows of amounts that are null, if there are any (of a rule)."""
        if self.is_quiet_at_zero and not codes.any():
            return None
        index = codes if not self._shift else codes + self._shift
        for target, table, combine in self._tables:
            column = target(asked)
            combine(column, table[index], out=column)
        for (cause, key), table in self._reasons.items():
            asked.give(cause, key, table[index])
        nulls = [self._compute(amount, index, columns, asked) for amount in self._amounts]
        found = [rows for rows in nulls if rows is not None and len(rows)]
        return np.concatenate(found) if found else None

    def _compile(self, labels: Sequence[Label], compiler: VectorCompiler) -> None:
        tables: dict[tuple[str, str], npt.NDArray[Any]] = {}
        for code, label in enumerate(labels):
            for effect in label.known:
                self._note(effect, code, tables)
            for asked in label.computed:
                self._amounts.append(_Amount((code,), asked.sort, compiler.value_of(asked.amount), label.reason))
        self._tables = [(_target(*kind), table, _COMBINE[kind[0]]) for kind, table in tables.items()]
        self._amounts = _joined(self._amounts, labels)

    def _note(self, effect: Effect, code: int, tables: dict[tuple[str, str], npt.NDArray[Any]]) -> None:
        """Put one effect into the tables."""
        kind, value = _entry(effect)
        table = tables.setdefault(kind, np.zeros(self._width, np.bool_ if value is True else np.uint8))
        table[code] = max(table[code], value)
        if effect.reason:
            cause: Cause = "limit" if isinstance(effect.action, ChangeLimit) else "any"
            key = (cause, (effect.reason, effect.source))
            self._reasons.setdefault(key, np.zeros(self._width, np.bool_))[code] = True

    def _compute(self, amount: _Amount, index: Codes, columns: Columns, asked: Asked) -> Ints | None:
        """Add a computed effect; the rows where its amount is null and that is not simply no raise."""
        where = index == amount.codes[0]
        for code in amount.codes[1:]:
            where |= index == code
        rows = np.flatnonzero(where)
        if not len(rows):
            return None
        x = _values(amount.value, columns, rows)
        known = x == x
        nulls: Ints = rows[~known]
        _ADD[amount.sort](asked, rows[known], x[known], (amount.reason, self.source))
        if amount.sort == "raise":
            return None
        if len(nulls):
            asked.hold[nulls] = np.maximum(asked.hold[nulls], REVIEW)
            asked.give("any", (NO_VALUE_REASON, self.source), nulls)
        return nulls


def _joined(amounts: list[_Amount], labels: Sequence[Label]) -> list[_Amount]:
    """One entry for codes that ask for the very same (a rule that fires, and one that is unknown and fires)."""
    if len(labels) > UNKNOWN_FIRED and labels[FIRED] == labels[UNKNOWN_FIRED] and labels[FIRED].computed:
        return [a._replace(codes=(FIRED, UNKNOWN_FIRED)) for a in amounts if a.codes == (FIRED,)]
    return amounts


def _entry(effect: Effect) -> tuple[tuple[str, str], Any]:
    """Which table an effect belongs to, and what it puts there."""
    match effect.action:
        case Hold(kind=kind):
            return ("hold", ""), HOLD_RANK[kind]
        case Approve():
            return ("approve", ""), True
        case ChangeLimit():
            return ("freeze", ""), True
        case Renew(how=how):
            return ("renew", ""), 1 + [*RENEWALS].index(how)  # type: ignore[arg-type]
        case Alert(tier=tier, indicator=indicator):
            return ("alerts", indicator), TIER_RANK[tier]
        case Offer(name=name):
            return ("offers", name), True
        case Tag(name=name):
            return ("tags", name), True
    raise TypeError(f"{effect.action} is computed")


_COMBINE: Final[dict[str, Any]] = {
    "hold": np.maximum, "renew": np.maximum, "alerts": np.maximum, "approve": np.logical_or, "freeze": np.logical_or,
    "offers": np.logical_or, "tags": np.logical_or,
}  # fmt: skip


def _target(kind: str, name: str) -> Callable[[Asked], npt.NDArray[Any]]:
    if not name:
        return lambda asked: getattr(asked, kind)
    dtype = np.uint8 if kind == "alerts" else np.bool_

    def named(asked: Asked) -> npt.NDArray[Any]:
        held_by: dict[str, npt.NDArray[Any]] = getattr(asked, kind)
        if name not in held_by:
            held_by[name] = np.zeros(asked.count, dtype)
        return held_by[name]

    return named


# --- computed amounts ---------------------------------------------------------------------------------------------


class _Some(Sequence[Any]):
    """Columns of some rows, taken when they are looked at."""

    def __init__(self, columns: Sequence[Any], rows: Ints) -> None:
        self._columns, self._rows = columns, rows

    def __getitem__(self, slot: Any) -> Any:
        held_whole = self._columns[slot]
        if isinstance(held_whole, Texts):
            return Texts(held_whole.codes[self._rows], held_whole.values)
        return held_whole[self._rows]

    def __len__(self) -> int:
        return len(self._columns)


def _values(value: NumberFunction, columns: Columns, rows: Ints) -> Floats:
    if len(rows) * _FEW > columns.count:
        return value(columns)[rows]
    named = {name: column[rows] for name, column in columns.named.items()}
    some = replace(
        columns, count=len(rows), numbers=_Some(columns.numbers, rows), strings=_Some(columns.strings, rows),
        named=named,
    )  # fmt: skip
    return value(some)


def _whole(asked: Asked, rows: Ints, x: Floats) -> Ints:
    """Whole numbers as they are; what an int64 cannot hold is unsure."""
    beyond = ~(np.abs(x) < _EXACT_MAX)
    if beyond.any():
        asked.unsure[rows[beyond]] = True
        x = np.where(beyond, 0.0, x)
    return x.astype(np.int64)


def _minor(asked: Asked, rows: Ints, x: Floats, scale: Ints | int) -> Ints:
    return np.maximum(0, _whole(asked, rows, np.floor(x * scale + _EPSILON)))


def _cap(asked: Asked, rows: Ints, x: Floats, key: Key) -> None:
    cap = _minor(asked, rows, x, asked.scale[rows])
    binds = cap < asked.amount_minor[rows]
    rows, cap = rows[binds], cap[binds]
    asked.cap[rows] = np.minimum(asked.cap[rows], cap)
    _give(asked, "any", key, rows)


def _limit_to(asked: Asked, rows: Ints, to: Ints, key: Key) -> None:
    limit = asked.limit_minor[rows]
    lower, higher = to < limit, to > limit
    down, up = rows[lower], rows[higher]
    asked.cut[down] = np.minimum(asked.cut[down], to[lower])
    asked.lift[up] = np.minimum(asked.lift[up], to[higher])
    _give(asked, "limit", key, down)


def _set(asked: Asked, rows: Ints, x: Floats, key: Key) -> None:
    _limit_to(asked, rows, _minor(asked, rows, x, asked.scale[rows]), key)


def _raise(asked: Asked, rows: Ints, x: Floats, key: Key) -> None:
    limit = asked.limit_minor[rows]
    _limit_to(asked, rows, limit + _minor(asked, rows, x * limit, 1), key)


def _cut(asked: Asked, rows: Ints, x: Floats, key: Key) -> None:
    limit = asked.limit_minor[rows]
    less = _whole(asked, rows, np.ceil(np.where(x > 0.0, x, 0.0) * limit - _EPSILON))
    _limit_to(asked, rows, np.maximum(0, limit - less), key)


def _price_at(asked: Asked, rows: Ints, to: Ints, key: Key) -> None:
    asked.price[rows] = np.maximum(asked.price[rows], to)
    _give(asked, "price", key, rows[to > asked.apr_bps[rows]])


def _add_bps(asked: Asked, rows: Ints, x: Floats, key: Key) -> None:
    _price_at(asked, rows, np.maximum(0, asked.apr_bps[rows] + _whole(asked, rows, np.rint(x))), key)


def _set_apr(asked: Asked, rows: Ints, x: Floats, key: Key) -> None:
    _price_at(asked, rows, np.maximum(0, _whole(asked, rows, np.rint(x * _BPS))), key)


def _give(asked: Asked, cause: Cause, key: Key, rows: Ints) -> None:
    if key[0] and len(rows):
        asked.give(cause, key, rows)


_ADD: Final[dict[ComputedSort, Callable[[Asked, Ints, Floats, Key], None]]] = {
    "cap_draw": _cap, "set": _set, "raise": _raise, "cut": _cut, "add_bps": _add_bps, "set_apr": _set_apr,
}  # fmt: skip


# --- a rule set -----------------------------------------------------------------------------------------------------


class Effects:
    """All askers of a rule set; `compiler` has its layout and dated constants."""

    def __init__(self, spec: RuleSetSpec, compiler: VectorCompiler) -> None:
        self._rules = [self._rule(rule, compiler) for rule in spec.rules]
        self._cells: list[tuple[int, Asker]] = []
        self._hits: list[tuple[str, int, Asker]] = []
        for row, block in enumerate(spec.blocks):
            source = f"{block.sort}:{block.id}"
            labels = [_asks(then, source, reason) for then, reason in block.asked]
            unknown = Label(held(block.on_null, source))
            if block.sort == "table" and block.hit == "all":
                each = [*labels, unknown]
                self._hits += [
                    (block.id, i, Asker(source, (Label(), one), 0, compiler)) for i, one in enumerate(each)
                ]  # fmt: skip
            else:
                self._cells.append((row, Asker(source, (unknown, *labels), 1, compiler)))

    @staticmethod
    def _rule(rule: Any, compiler: VectorCompiler) -> Asker:
        source = f"rule:{rule.id}"
        then = _asks(rule.then, source, rule.reason)
        by_verdict = [Label() for _ in range(UNKNOWN_HELD + 1)]
        by_verdict[FIRED] = by_verdict[UNKNOWN_FIRED] = then
        by_verdict[UNKNOWN_SKIPPED], by_verdict[UNKNOWN_HELD] = Label(), Label(held(rule.on_null, source))
        return Asker(source, by_verdict, 0, compiler)

    def ask(self, judged: Judged, columns: Columns, asked: Asked) -> None:
        """Gather everything; a rule whose amount is null is unknown and held, which `judged` is made to say."""
        for verdicts, asker in zip(judged.verdicts, self._rules, strict=True):
            nulls = asker.ask(verdicts, columns, asked)
            if nulls is not None:
                verdicts[nulls] = UNKNOWN_HELD
        for row, asker in self._cells:
            asker.ask(judged.cells[row], columns, asked)
        for table, label, asker in self._hits:
            asker.ask(judged.hits[table][label].view(np.uint8), columns, asked)

    def askers(self) -> Iterator[Asker]:
        """All of them."""
        yield from self._rules
        yield from (asker for _, asker in self._cells)
        yield from (asker for _, _, asker in self._hits)
