"""The report: what the tallies of a pair of policies say, and a few decisions with both sides.

    store: tallies (`counting.py`) ──▶ matrix, terms, exposure, rules, cells
           examples' ids ──▶ frames and records, of the archive where they left the store ──▶ both sides of each

Tallies are of whole days, in the time zone of the settings. Shares are of the decisions that both policies judged;
those of which the shadow has a problem stand apart. A rule's disagreement rate is what it newly says or no longer says,
of those decisions.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import orjson

from decision_service.archive.lookup import Lookup
from decision_service.core.errors import NotFound, StoreError
from decision_service.decision_log import decode
from decision_service.shadow_policy.counting import Pair, pair_named
from decision_service.store import Store
from decision_service.store.keys import partition_of_decision

STORE_TIMEOUT_S: Final = 2.0
EXAMPLES_MAX: Final = 5  # of a pair of outcomes
EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Change:
    """A rule, or a cell of a matrix, table or tree: decisions in which it had its say."""

    name: str
    both: int
    new: int  # in shadow only
    lost: int  # in what was answered only

    @property
    def changed(self) -> int:
        """Where the two policies disagree about it."""
        return self.new + self.lost


@dataclass(frozen=True, slots=True)
class Exposure:
    """What is paid out in one currency, in minor units; `more` and `less` are what the shadow pays more, and less."""

    currency: str
    active_minor: int
    shadow_minor: int
    more_minor: int
    less_minor: int


@dataclass(frozen=True, slots=True)
class Example:
    """One decision that both judged differently; a side that is no longer kept is None."""

    decision_id: str
    active_outcome: str
    shadow_outcome: str
    answer: dict[str, Any] | None
    said: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """One pair of policies in one scene over some days."""

    active: str
    active_label: str
    shadow: str
    shadow_label: str
    scene: str
    first_day: date
    last_day: date
    decisions: int
    problems: int
    agreed: int
    outcomes: dict[tuple[str, str], int]
    holds: dict[tuple[str, str], int]
    terms: dict[str, int]
    swap: dict[str, int]  # kept, in, out, held
    exposure: tuple[Exposure, ...]
    rules: tuple[Change, ...]
    cells: tuple[Change, ...]
    rungs: dict[str, int]
    examples: tuple[Example, ...]

    @property
    def judged(self) -> int:
        """Decisions that both policies judged."""
        return self.decisions - self.problems

    def share(self, number: int) -> float:
        """Of the decisions that both judged."""
        return number / self.judged if self.judged else float("nan")

    def as_json(self) -> dict[str, Any]:
        """For a machine."""
        return {
            "active": {"id": self.active, "label": self.active_label},
            "shadow": {"id": self.shadow, "label": self.shadow_label}, "scene": self.scene,
            "first_day": self.first_day.isoformat(), "last_day": self.last_day.isoformat(),
            "decisions": self.decisions, "problems": self.problems, "agreed": self.agreed,
            "disagreement_rate": None if not self.judged else self.share(self.judged - self.agreed),
            "outcomes": [{"active": a, "shadow": s, "decisions": n} for (a, s), n in self.outcomes.items()],
            "holds": [{"active": a, "shadow": s, "decisions": n} for (a, s), n in self.holds.items()],
            "terms": self.terms, "swap": self.swap,
            "exposure": [
                {"currency": one.currency, "active_minor": one.active_minor, "shadow_minor": one.shadow_minor,
                 "more_minor": one.more_minor, "less_minor": one.less_minor}
                for one in self.exposure
            ],
            **{
                sort: [
                    {"name": one.name, "both": one.both, "new": one.new, "lost": one.lost,
                     "disagreement_rate": None if not self.judged else self.share(one.changed)}
                    for one in changes
                ]
                for sort, changes in (("rules", self.rules), ("cells", self.cells))
            },
            "rungs": self.rungs,
            "examples": [
                {"decision_id": one.decision_id, "active": one.answer, "shadow": one.said} for one in self.examples
            ],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tallies: days from `first` to `last`; of a scene, an active or a shadow policy by its id, "" for any."""

    first: int  # days since 1970-01-01
    last: int
    scene: str = ""
    active: str = ""
    shadow: str = ""

    def takes(self, pair: Pair) -> bool:
        """Whether a pair is asked for."""
        return all(not wanted or wanted == is_ for wanted, is_ in zip(
            (self.active, self.shadow, self.scene), pair, strict=True
        ))  # fmt: skip


async def reports(store: Store, wanted: Wanted, archived: Lookup | None = None) -> list[ShadowReport]:
    """A report for each pair and scene that was counted, the one counted last first. NotFound if there is none,
    StoreError."""
    days = await store.tally_days(STORE_TIMEOUT_S)
    pairs = {pair: days[series] for series in days if (pair := pair_named(series)) is not None and wanted.takes(pair)}
    found = []
    for pair, its_days in pairs.items():
        some = [day for day in its_days if wanted.first <= day <= wanted.last]
        total: Counter[str] = Counter()
        for day in some:
            for name, count in (await store.read_tally(pair.series, day, STORE_TIMEOUT_S)).items():
                total[name.decode()] += count
        if total["n"]:
            found.append((some[-1], total["n"], await _report(store, archived, pair, some, total)))
    if not found:
        raise NotFound("nothing was evaluated in shadow on these days")
    return [report for *_, report in sorted(found, key=lambda one: one[:2], reverse=True)]


async def _report(
    store: Store, archived: Lookup | None, pair: Pair, days: Sequence[int], total: Counter[str]
) -> ShadowReport:
    by_sort: dict[str, dict[str, int]] = defaultdict(dict)
    for name, count in sorted(total.items()):
        sort, _, rest = name.partition(":")
        by_sort[sort][rest] = count
    examples = await _examples(store, archived, list(by_sort["e"]))
    return ShadowReport(
        active=pair.active, active_label=await _label(store, pair.active), shadow=pair.shadow,
        shadow_label=await _label(store, pair.shadow), scene=pair.scene, first_day=day_of(days[0]),
        last_day=day_of(days[-1]), decisions=total["n"], problems=total["problem"], agreed=total["agreed"],
        outcomes=_two(by_sort["o"]), holds=_two(by_sort["h"]), terms=by_sort["d"], swap=by_sort["k"],
        exposure=_exposure(by_sort["m"]), rules=_changes(by_sort["r"]), cells=_changes(by_sort["c"]),
        rungs=by_sort["g"], examples=examples,
    )  # fmt: skip


def day_of(day: int) -> date:
    """A day since 1970-01-01."""
    return EPOCH + timedelta(days=day)


def _two(counts: dict[str, int]) -> dict[tuple[str, str], int]:
    found = {}
    for name, count in counts.items():
        active, _, shadow = name.partition(":")
        found[active, shadow] = count
    return found


def _exposure(counts: dict[str, int]) -> tuple[Exposure, ...]:
    currencies = sorted({name.partition(":")[0] for name in counts})
    parts = ("active", "shadow", "in", "out")
    return tuple(Exposure(one, *(counts.get(f"{one}:{part}", 0) for part in parts)) for one in currencies)


def _changes(counts: dict[str, int]) -> tuple[Change, ...]:
    """Those about which the policies disagree most first."""
    by_name: dict[str, dict[str, int]] = defaultdict(dict)
    for name, count in counts.items():
        rule, _, change = name.rpartition(":")
        by_name[rule][change] = count
    changes = (Change(n, c.get("both", 0), c.get("new", 0), c.get("lost", 0)) for n, c in by_name.items())
    return tuple(sorted(changes, key=lambda one: (-one.changed, one.name)))


async def _label(store: Store, policy_id: str) -> str:
    document = await store.read_policy(policy_id, STORE_TIMEOUT_S)
    return "" if document is None else str(orjson.loads(document).get("label", ""))


async def _examples(store: Store, archived: Lookup | None, names: Sequence[str]) -> tuple[Example, ...]:
    """Some of each pair of outcomes, with both sides where they are kept."""
    by_pair: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        active, shadow, decision_id = name.split(":", 2)
        by_pair[active, shadow].append(decision_id)
    return tuple(
        await asyncio.gather(
            *(
                _example(store, archived, *pair, decision_id)
                for pair, ids in sorted(by_pair.items())
                for decision_id in ids[:EXAMPLES_MAX]
            )
        )
    )


async def _example(store: Store, archived: Lookup | None, active: str, shadow: str, decision_id: str) -> Example:
    answer: dict[str, Any] | None = None
    said: dict[str, Any] | None = None
    partition = partition_of_decision(decision_id)
    if partition is not None:
        record = await store.read_shadow_policy(decision_id, STORE_TIMEOUT_S)
        said = None if record is None else orjson.loads(record)
        try:
            (frame,) = await store.read_decisions(partition, [decision_id], STORE_TIMEOUT_S)
            answer = None if frame is None else orjson.loads(decode(frame).answer)
        except (ValueError, StoreError):  # a damaged one is no example
            answer = None
    if archived is not None and (answer is None or said is None):
        found = await asyncio.to_thread(archived.decision, decision_id)
        if found is not None and not found.erased:
            with suppress(ValueError):
                answer, said = orjson.loads(decode(found.frame()).answer), found.shadow_policy
    return Example(decision_id, active, shadow, answer, said)
