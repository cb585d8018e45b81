"""The training sample: who is observed when, what could be known of them then, and what became of them.

At each observation instant a customer's log and facility snapshot are cut back to what had been recorded, and the
features are computed by the feature plan that serves, from the same request row and base numbers as a decision's. The
request itself is a neutral one (100 in the facility's currency, nothing else said): a behaviour scorecard speaks about
the customer, so `read_rows` refuses features that answer differently to another request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.decide import fill_inputs
from decision_service.core.errors import PolicyRejected
from decision_service.core.event import KINDS, Geo, words_of
from decision_service.core.facility import Facility
from decision_service.core.features.catalogue import Catalogue, read_features
from decision_service.core.features.plans import FeaturePlans, compile_plans
from decision_service.core.inputs import REQUEST_WORDS
from decision_service.core.ledger import position_of
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.policy import ATTRIBUTES_FILE
from decision_service.core.request import DecisionRequest
from decision_service.core.rules.attributes import (
    AttributeLayout,
    AttributeSpec,
    input_vocabulary,
    lay_out,
    read_attributes,
)
from decision_service.core.source import Findings, Place, nearest_name
from decision_service.core.state import CustomerState
from decision_service.core.vocabulary import BASE_NUMBERS
from decision_service.core.zone import Zone
from decision_service.policies.files import read_directory, read_document
from decision_service.portfolio import CustomerHistory
from decision_service.train.config import SampleDesign
from decision_service.train.definitions import definitions_digest

Floats = npt.NDArray[np.float64]

_RESERVATION_TIMEOUT_MS: Final = 48 * HOUR_MS
_NEUTRAL_AMOUNT_MINOR: Final = 10_000
_PROBES: Final = 200  # rows on which dependence on the request is looked for
_ELSEWHERE: Final = Geo(31_230_000, 121_474_000, 3)


@dataclass(frozen=True, slots=True)
class Sample:
    """One row an observation, in order of customer and then time."""

    rows: Floats  # (n, features), NaN for null
    bad: npt.NDArray[np.int8]
    customer: npt.NDArray[np.int64]
    observed_at_ms: npt.NDArray[np.int64]
    out_of_time: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Observation:
    """One customer at one instant, and what became of them."""

    history: CustomerHistory
    facility: Facility
    at_ms: int
    bad: bool
    out_of_time: bool


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What `fill_inputs` asks of a policy; a training run has no other use for one."""

    zone: Zone
    attribute_layout: AttributeLayout
    reservation_timeout_ms: int = _RESERVATION_TIMEOUT_MS
    wanted_attributes: tuple[str, ...] = ()

    @property
    def first_feature(self) -> int:
        return len(self.attribute_layout.names)


class RowReader:
    """Computes the features a scorecard wants, for any customer at any instant, the way a decision does."""

    def __init__(self, features_from: Path, names: Sequence[str], zone: Zone) -> None:
        findings = Findings()
        documents = read_directory(features_from, findings)
        attributes = _declared_attributes(features_from, findings)
        layout = lay_out(attributes)
        catalogue = read_features(list(documents.values()), input_vocabulary(attributes), findings)
        inputs = {name: i for i, name in enumerate(layout.names)}
        _check_names(names, catalogue, [spec.name for spec in BASE_NUMBERS], features_from, findings)
        if findings.errors:
            raise PolicyRejected(findings.errors)
        wanted = [name for name in names if name not in inputs]
        self.plans: FeaturePlans = compile_plans(catalogue, wanted, inputs, len(inputs), zone)
        _refuse_links(names, self.plans, catalogue, features_from)
        slots = inputs | {name: len(inputs) + i for i, name in enumerate(self.plans.names)}
        self._gather = np.array([slots[name] for name in names], np.intp)
        self._numbers = np.full(len(inputs) + len(self.plans.names), np.nan)
        self._words = np.zeros(REQUEST_WORDS, np.int64)
        self._surroundings = _Surroundings(zone, layout)
        self.names = tuple(names)
        self.definitions_sha256 = definitions_digest(catalogue, self.plans.names)

    def read(self, observation: Observation, request: DecisionRequest) -> Floats:
        """The features of one observation, in order, in an array of its own."""
        log = observation.history.log_until(observation.at_ms)
        words, facility = words_of(log), observation.facility
        position = position_of(facility, words, observation.at_ms, _RESERVATION_TIMEOUT_MS)
        state = CustomerState(log=log, facilities={facility.facility_id: facility})
        fill_inputs(
            request, state, self._surroundings, facility, position, words, observation.at_ms, self._numbers,
            self._words,
        )  # fmt: skip
        self.plans.compute(words, {}, self._words, self._numbers)
        return self._numbers[self._gather]


def _declared_attributes(features_from: Path, findings: Findings) -> dict[str, AttributeSpec]:
    """Attributes that features may name: `attributes.yaml` beside the features. A generated customer has none."""
    path = features_from.parent / ATTRIBUTES_FILE
    document = read_document(path, path.name, findings) if path.is_file() else None
    return {} if document is None else read_attributes(document, findings)


def _check_names(
    names: Iterable[str], catalogue: Catalogue, inputs: Sequence[str], features_from: Path, findings: Findings
) -> None:
    known = [*catalogue.by_name, *inputs]
    for name in names:
        if name not in catalogue.by_name and name not in inputs:
            findings.error(
                Place(str(features_from), 1, 1), f"no feature {name!r} is declared here",
                expected="a feature of the catalogue or a number such as facility.outstanding",
                nearest=nearest_name(name, known),
            )  # fmt: skip


def _refuse_links(names: Iterable[str], plans: FeaturePlans, catalogue: Catalogue, features_from: Path) -> None:
    """A customer's history does not hold what other customers did with a device, payee or network."""
    if not plans.link_grains:
        return
    findings = Findings()
    for grain in plans.link_grains:
        for name in plans.plans[grain].names:
            findings.error(
                Place(str(features_from), 1, 1),
                f"feature {name!r} has the grain `{grain}`, whose logs a training sample does not hold"
                + ("" if name in names else ": another feature is made of it"),
                expected="features of the customer, the facility or the loan",
            )  # fmt: skip
    raise PolicyRejected(findings.errors)


def neutral_request(observation: Observation) -> DecisionRequest:
    """A request that says nothing."""
    facility = observation.facility
    return DecisionRequest(
        request_id="train", customer_id=facility.customer_id, facility_id=facility.facility_id,
        amount_minor=_NEUTRAL_AMOUNT_MINOR, currency=facility.currency, occurred_at_ms=observation.at_ms,
        channel=None, device_id=None, counterparty_id=None, purpose=None, geo=None, term_months=None,
        facility=None, fingerprint=b"", body=b"",
    )  # fmt: skip


def _telling_request(observation: Observation) -> DecisionRequest:
    """A request that says a lot: no feature of a behaviour scorecard may move with it."""
    return replace(
        neutral_request(observation), amount_minor=987_600, channel="app", device_id="d-probe",
        counterparty_id="m-probe", purpose="travel", geo=_ELSEWHERE, term_months=24,
    )  # fmt: skip


def draw_sample(
    histories: Sequence[CustomerHistory], until_ms: int, design: SampleDesign, reader: RowReader,
    say: Callable[[str], None],
) -> Sample:  # fmt: skip
    """Observe every customer as often as the design says. Raises PolicyRejected for request-dependent features."""
    observations = list(observe(histories, until_ms, design))
    say(f"{len(observations):,} observations of {len(histories):,} customers")
    _refuse_request_features(observations, reader)
    rows = np.empty((len(observations), len(reader.names)))
    for i, observation in enumerate(observations):
        rows[i] = reader.read(observation, neutral_request(observation))
    return Sample(
        rows=rows,
        bad=np.array([o.bad for o in observations], np.int8),
        customer=np.array([o.history.number for o in observations], np.int64),
        observed_at_ms=np.array([o.at_ms for o in observations], np.int64),
        out_of_time=np.array([o.out_of_time for o in observations], np.bool_),
    )


def observe(histories: Sequence[CustomerHistory], until_ms: int, design: SampleDesign) -> Iterator[Observation]:
    """Every observation of every customer that the design does not exclude; oldest first for each customer."""
    rng = np.random.default_rng(design.seed)
    newest_ms = until_ms - design.performance_d * DAY_MS
    for history in histories:
        within_day = rng.integers(0, DAY_MS, design.observations)
        for k in reversed(range(design.observations)):
            at_ms = newest_ms - k * design.observe_every_d * DAY_MS - int(within_day[k])
            facility = history.line.facility_at(at_ms)
            if _is_observed(facility, at_ms, history, design):
                yield Observation(history, facility, at_ms, _goes_bad(history, at_ms, design), k < design.out_of_time)


def _is_observed(facility: Facility, at_ms: int, history: CustomerHistory, design: SampleDesign) -> bool:
    on_book = at_ms - facility.granted_at_ms >= design.days_on_book_min * DAY_MS
    dpd = facility.days_past_due
    return on_book and at_ms > history.line.day0_ms and dpd is not None and dpd <= design.days_past_due_max


def _goes_bad(history: CustomerHistory, at_ms: int, design: SampleDesign) -> bool:
    """Whether an overdue event of enough days falls into the performance window."""
    table = history.table
    low, high = np.searchsorted(table["at_ms"], [at_ms, at_ms + design.performance_d * DAY_MS], side="right")
    window = table[low:high]
    return bool(np.any((window["kind"] == KINDS["overdue"]) & (window["value"] >= design.bad_dpd)))


def _refuse_request_features(observations: Sequence[Observation], reader: RowReader) -> None:
    moved: set[str] = set()
    step = max(1, len(observations) // _PROBES)
    for observation in observations[::step]:
        silent = reader.read(observation, neutral_request(observation))
        told = reader.read(observation, _telling_request(observation))
        same = (silent == told) | (np.isnan(silent) & np.isnan(told))
        moved.update(reader.names[i] for i in np.flatnonzero(~same))
    if moved:
        findings = Findings()
        for name in sorted(moved):
            findings.error(
                Place("train", 1, 1), f"feature {name!r} depends on the request",
                expected="a feature of the customer's behaviour, the same whatever is asked for",
            )  # fmt: skip
        raise PolicyRejected(findings.errors)
