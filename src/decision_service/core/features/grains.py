"""The grain of a row: whose events its windows look at.

    grain       events                                            null when
    customer    of the customer's log (the default)
    facility    of the customer's log, on the request's facility  the request names no facility
    loan        of the customer's log, of the request's loan      the question is about no loan
    device      of the log of the request's device                no device is named, or its log was not read
    payee       of the log of the request's counterparty          no counterparty is named, or its log was not read
    ip          of the log of the request's network               no address is named, or its log was not read

Facility and loan restrict the customer's own events; the three link grains read another log (`core.links`), in which a
record carries its customer in place of facility and device. So a row of a link grain cannot use those two names, nor
anything that speaks about the balance or the age of the customer's line.

`delay: d` shifts a row back: it is computed as of `t - d`, from the events up to then, with the statuses and labels
known at `t`. That gives feedback time to arrive before it is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from decision_service.core import inputs as q
from decision_service.core.features import opcodes as o
from decision_service.core.features.aggregations import AGGREGATIONS
from decision_service.core.features.references import names_in
from decision_service.core.links import LINK_GRAINS
from decision_service.core.source import Findings

if TYPE_CHECKING:
    from decision_service.core.features.catalogue import Segment
    from decision_service.core.features.rows import Row

CUSTOMER: Final = "customer"
GRAINS: Final = (CUSTOMER, "facility", "loan", *LINK_GRAINS)
NULL_WITHOUT_SUBJECT: Final = ("loan", *LINK_GRAINS)  # every request has a facility; the others it may not name
ENTITY_WORDS: Final[Mapping[str, int]] = {"device": q.DEVICE, "payee": q.COUNTERPARTY, "ip": q.IP}
_NOUNS: Final = {"device": "device", "payee": "payee", "ip": "network"}
_NOT_IN_LINKS: Final = frozenset(("facility", "device"))
_OF_THE_BALANCE: Final = frozenset(  # about the line as it stands now
    {"open_loans", *(name for name, aggregation in AGGREGATIONS.items() if aggregation.of_line)}
)
_OF_ANY_LOG: Final = ("coverage", "truncated")  # moments that speak about the log itself
assert tuple(ENTITY_WORDS) == LINK_GRAINS


@dataclass(frozen=True, slots=True)
class Restriction:
    """The part of the customer's log a grain looks at: events whose `column` is the request row's `word`."""

    column: int
    word: int
    needs: int = 0


RESTRICTIONS: Final[Mapping[str, Restriction]] = {
    "facility": Restriction(o.C_FACILITY, q.FACILITY),
    "loan": Restriction(o.C_LOAN, q.LOAN, o.NEED_LOAN),
}


def log_read_by(grain: str) -> str:
    """The log a grain reads: a link grain's own, else the customer's."""
    return grain if grain in LINK_GRAINS else CUSTOMER


def check_grains(rows: Sequence[Row], segments: Mapping[str, Segment], findings: Findings) -> None:
    """Report every row whose grain or delay cannot be had."""
    for row in rows:
        if row.section == "features" and row.grain != CUSTOMER:
            _check_grain(row, segments, findings)
        if row.has("delay"):
            _check_delay(row, findings)


def _aggregations(row: Row) -> set[str]:
    return {row.plain("agg", variant) for variant in row.variants}


def _check_grain(row: Row, segments: Mapping[str, Segment], findings: Findings) -> None:
    grain, place = row.grain, row.place_of("grain")
    linked = grain in LINK_GRAINS
    for agg in sorted(_aggregations(row)):
        if agg not in AGGREGATIONS and not (linked and agg in _OF_ANY_LOG):
            known = (CUSTOMER, *LINK_GRAINS) if agg in _OF_ANY_LOG else (CUSTOMER,)
            findings.error(place, f"`{agg}` has no grain `{grain}`", expected=", ".join(known), length=len(grain))
        if agg in _OF_THE_BALANCE and grain != "facility":
            findings.error(
                place, f"`{agg}` looks at a line's balance or terms, which a {_NOUNS.get(grain, grain)} does not have",
                expected="grain: customer or facility", length=len(grain),
            )  # fmt: skip
    if grain == "loan" and row.flag("incl"):
        findings.error(row.place_of("incl"), "a request is no event of an earlier loan", expected="no `incl`")
    if linked:
        _check_link(row, segments, findings)


def _check_link(row: Row, segments: Mapping[str, Segment], findings: Findings) -> None:
    for key, name in sorted(set(_missing_names(row, segments))):
        findings.error(
            row.place_of(key), f"an event in the log of a {_NOUNS[row.grain]} has no `{name}`",
            expected="names other than facility and device: that log carries the customer in their place",
        )  # fmt: skip
    if row.null.age_days is not None:
        findings.error(
            row.place_of("null"), f"a {_NOUNS[row.grain]} is not as old as the customer's line",
            expected="a null rule without H",
        )  # fmt: skip


def _missing_names(row: Row, segments: Mapping[str, Segment]) -> Iterator[tuple[str, str]]:
    """`(key of the row, name)` of everything it uses that records of an entity's log do not carry."""
    for key, segment in row.segment_names():
        if segment in segments:
            for name in names_in(segments[segment].tree):
                if name.spec.name in _NOT_IN_LINKS:
                    yield key, name.spec.name
    for variant in row.variants:
        if (by := row.plain("by", variant)) in _NOT_IN_LINKS:
            yield "by", by


def _check_delay(row: Row, findings: Findings) -> None:
    place = row.place_of("delay")
    for agg in sorted(_aggregations(row)):
        if agg not in AGGREGATIONS:
            findings.error(place, f"`{agg}` has no delay", expected="a delay on a row that looks at events")
        elif agg in _OF_THE_BALANCE:
            findings.error(place, f"`{agg}` looks at the line as it stands now", expected="no `delay`")
    if row.flag("incl") and row.delay_ms:
        findings.error(place, "the request is not as old as the delay", expected="either `delay` or `incl`")
