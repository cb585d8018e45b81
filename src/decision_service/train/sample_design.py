"""`sample:` of a training file: who is observed when, who is left out, and what counts as bad.

sample:
  grain: customer                  # or loan: every booked drawdown is an observation
  observe_every_d: 30              # instants of a customer, back from the last possible one; periods for loans
  observations: 12                 # so many of them
  out_of_time: 3                   # the newest ones, kept from the model
  from: 2025-01-01T00:00:00+08:00  # nobody is observed earlier
  history_min_d: 0                 # of recorded history before the observation
  performance_d: 90                # how long after an observation its outcome counts
  bad_dpd: 30                      # days past due within that window that are bad ...
  label: fraud                     # ... or, instead, a `label` event of this category
  good_dpd_max: 5                  # who is later than this and not bad is neither, and left out
  bad_of: customer                 # whose outcome it is: customer, facility, or (grain loan) loan
  days_past_due_max: 0             # at the observation: whoever is later is no longer to be predicted
  days_on_book_min: 60
  active_within_d: 90              # a booked drawdown or a repayment this recently; without it nobody is inactive
  statuses: [active]               # of the facility at the observation
  seed: 1                          # of the moments within a day

           history                        performance
─────────────────────────────┤ observation ├──────────────────────────┤
     features: what was      at            (at, at + performance_d]: outcome
     recorded up to `at`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from decision_service.core.scorecards.manifest import GRAINS, Grain, Target
from decision_service.core.scorecards.reading import Section
from decision_service.train.sources import read_instant

BadOf = Literal["customer", "facility", "loan"]
_BAD_OF: Final[tuple[BadOf, ...]] = ("customer", "facility", "loan")
_STATUSES: Final = ("active", "frozen", "closed")


@dataclass(frozen=True, slots=True)
class SampleDesign:
    """Who is observed when, and what counts as bad."""

    grain: Grain
    observe_every_d: int
    observations: int
    out_of_time: int
    from_ms: int
    history_min_d: int
    target: Target
    good_dpd_max: int | None
    bad_of: BadOf
    days_past_due_max: int
    days_on_book_min: int
    active_within_d: int | None
    statuses: tuple[str, ...]
    seed: int


def read_sample_design(section: Section) -> SampleDesign:
    """The design under `sample:`."""
    grain = section.choice("grain", GRAINS, "customer")
    design = SampleDesign(
        grain=grain,
        observe_every_d=section.whole("observe_every_d", 30, low=1, high=365),
        observations=section.whole("observations", 12, low=2, high=100),
        out_of_time=section.whole("out_of_time", 3, low=1, high=99),
        from_ms=read_instant(section, "from") if section.has("from") else 0,
        history_min_d=section.whole("history_min_d", 0, low=0, high=3_650),
        target=_target(section),
        good_dpd_max=section.whole("good_dpd_max", low=0, high=364) if section.has("good_dpd_max") else None,
        bad_of=section.choice("bad_of", _BAD_OF, grain),
        days_past_due_max=section.whole("days_past_due_max", 0, low=0, high=365),
        days_on_book_min=section.whole("days_on_book_min", 60 if grain == "customer" else 0, low=0, high=3_650),
        active_within_d=section.whole("active_within_d", low=1, high=3_650) if section.has("active_within_d") else None,
        statuses=section.texts("statuses") if section.has("statuses") else ("active", "frozen"),
        seed=section.whole("seed", 1, low=0),
    )
    _check(section, design)
    section.finish()
    return design


def _target(section: Section) -> Target:
    days = section.whole("performance_d", 90, low=1, high=730)
    if section.has("label"):
        if section.has("bad_dpd"):
            section.error("label", "stands beside bad_dpd", "one of them")
        return Target(days, label=section.text("label"))
    return Target(days, bad_dpd=section.whole("bad_dpd", 30, low=1, high=365))


def _check(section: Section, design: SampleDesign) -> None:
    bad_dpd = design.target.bad_dpd
    if design.out_of_time >= design.observations:
        section.error("out_of_time", "leaves no observation to train on", "fewer than observations")
    if bad_dpd is not None and design.days_past_due_max >= bad_dpd:
        section.error("days_past_due_max", "lets in who is bad already", "less than bad_dpd")
    if design.good_dpd_max is not None and (bad_dpd is None or design.good_dpd_max >= bad_dpd - 1):
        section.error("good_dpd_max", "leaves nobody between good and bad", "at least two days below bad_dpd")
    if design.grain == "customer" and design.bad_of == "loan":
        section.error("bad_of", "asks for a loan, and no row is about one", "customer or facility, or grain: loan")
    for status in set(design.statuses) - set(_STATUSES):
        section.error("statuses", f"has {status!r}", "of " + ", ".join(_STATUSES))
