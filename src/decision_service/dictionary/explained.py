"""One feature of one customer explained: its value, the events or parts that make it up, and why it is unknown.

The values come from the plan and kernel that decide; the events from `core.features.contributions`, which agrees with
the kernel to the event. A feature over events lists the events of its window; any other lists the features and inputs
it is computed from, with their values, and with `deep` those explained in the same way.

Instants are told in the business time zone, money in major units. The log holds digests, not ids: an id is told where
the request or the customer's facilities name it, a category where the feature files do, else the digest in hex.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import numpy as np

from decision_service.core.decide import fill_inputs
from decision_service.core.event import (
    CHANNEL_NAMES,
    KIND_NAMES,
    STATUS_NAMES,
    code_key,
    counterparty_key,
    device_key,
    facility_key,
    read_header,
    words_of,
)
from decision_service.core.expressions.tree import String, Tree
from decision_service.core.facility import Facility
from decision_service.core.features.aggregations import AGGREGATIONS
from decision_service.core.features.catalogue import FeatureSpec
from decision_service.core.features.closure import first_division, observation_name
from decision_service.core.features.contributions import (
    OF,
    Contribution,
    Span,
    contributions_of,
    counts_events,
    span_of,
)
from decision_service.core.features.grains import ENTITY_WORDS, RESTRICTIONS
from decision_service.core.features.membership import Fact, Judge, facts_of
from decision_service.core.features.plans import words_of_links
from decision_service.core.features.references import children
from decision_service.core.inputs import RequestWords
from decision_service.core.ledger import position_of
from decision_service.core.limits import DAY_MS
from decision_service.core.links import LINK_GRAINS, customer_key
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.core.vocabulary import BASE_NUMBERS
from decision_service.core.zone import Zone
from decision_service.dictionary.entry import delay_of, formula_of, grain_of, segment_texts, sort_of
from decision_service.dictionary.usage import needs_of, segments_of
from decision_service.dictionary.wording import duration_text, null_words

EVENTS_SHOWN_MAX: Final = 1_000  # newest first; the rest is counted
DEPTH_MAX: Final = 12
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def local_instant(zone: Zone, t_ms: int) -> str:
    """RFC 3339 in the business time zone, with milliseconds."""
    offset = timezone(timedelta(milliseconds=zone.offset_at(t_ms)))
    return (_EPOCH + timedelta(milliseconds=t_ms)).astimezone(offset).isoformat(timespec="milliseconds")


def explain(
    policy: Policy, state: CustomerState, facility: Facility, request: DecisionRequest, name: str, *,
    deep: bool = False, texts: Iterable[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """A feature of the catalogue explained for a request at `request.occurred_at_ms`. KeyError for an unknown name.

    `texts` are ids and categories that the log's digests may stand for, besides those known anyway.
    """
    explainer = Explainer(policy, state, facility, request, name, texts)
    return {
        "customer_id": request.customer_id, "facility_id": facility.facility_id or None,
        "at": local_instant(policy.zone, explainer.t_ms), "time_zone": policy.zone.name, "policy_id": policy.id,
        "currency": request.currency, **explainer.told(name, DEPTH_MAX if deep else 0),
    }  # fmt: skip


def computed_numbers(
    policy: Policy, state: CustomerState, facility: Facility, request: DecisionRequest, names: Sequence[str]
) -> tuple[dict[str, float], RequestWords]:
    """Every number by name: inputs, the features asked for, what they are made of, and hidden counts; and the row.

    By the plans and the kernel that decide, for a request at `request.occurred_at_ms`; NaN is null.
    """
    assert request.occurred_at_ms is not None, "a question about features has an instant"
    t_ms, words, row = request.occurred_at_ms, words_of(state.log), policy.drawdown.row.copy()
    plans = policy.plans_for(names)
    inputs = policy.attribute_layout.names
    numbers = np.full(len(inputs) + len(plans.names), np.nan)
    position = position_of(facility, words, t_ms, policy.reservation_timeout_ms)
    fill_inputs(request, state, policy.drawdown, facility, position, words, t_ms, numbers, row)
    plans.compute(words, words_of_links(state.links, plans.link_grains), row, numbers)
    known = (*inputs, *plans.names)
    return dict(zip(known, numbers.tolist(), strict=True)), row


@dataclass(frozen=True, slots=True)
class Names:
    """What digests stand for, as far as it is known."""

    facilities: Mapping[int, str]
    devices: Mapping[int, str]
    parties: Mapping[int, str]
    customers: Mapping[int, str]
    codes: Mapping[int, str]


class Explainer:
    """Everything computed once for one request; `told` explains features from it."""

    def __init__(
        self, policy: Policy, state: CustomerState, facility: Facility, request: DecisionRequest, name: str,
        texts: Iterable[str],
    ) -> None:  # fmt: skip
        assert request.occurred_at_ms is not None, "an explanation has an instant"
        self.t_ms = request.occurred_at_ms
        self._policy, self._state, self._request = policy, state, request
        self._facility = facility
        self._values, self._row = computed_numbers(policy, state, facility, request, [name])
        self._judge = Judge(self._row, self._values)
        self._facts: dict[str, list[Fact]] = {}
        self._names = _names(policy, state, request, texts)
        self._segments = dict(segment_texts(policy))

    # --- one feature ---

    def told(self, name: str, depth: int) -> dict[str, Any]:
        """A feature's explanation; `depth` is how many levels of parts are explained as well."""
        spec = self._policy.catalogue.by_name[name]
        value = self._values[name]
        span = span_of(spec.variant, self.t_ms, delay_of(spec)) if counts_events(spec) else None
        seen = [] if span is None else self._contributions(spec, span)
        en, _ = null_words(spec.null, spec.variant.months)
        return {
            "name": name, "sort": sort_of(spec), "value": None if math.isnan(value) else value, "unit": spec.unit,
            "grain": grain_of(spec), "meaning": {"en": spec.meaning_en, "zh": spec.meaning_zh},
            "formula": formula_of(spec), "null": spec.null.text, "null_rule": en,
            "null_cause": self._null_cause(spec, seen) if math.isnan(value) else None,
            "window": None if span is None else self._window(spec, span),
            "segments": {segment: self._segments[segment] for segment in segments_of(spec, self._policy.catalogue)},
            "events": self._events(seen), "events_total": len(seen),
            "parts": [self._part(part, depth) for part in self._needs(spec)],
        }  # fmt: skip

    def _needs(self, spec: FeatureSpec) -> Iterator[str]:
        """Names of numbers a feature is computed from; texts of the request have no value to show."""
        return (name for name in dict.fromkeys(needs_of(spec, self._policy.catalogue)) if name in self._values)

    def _part(self, name: str, depth: int) -> dict[str, Any]:
        spec = self._policy.catalogue.by_name.get(name)
        if spec is not None and depth > 0:
            return self.told(name, depth - 1)
        value = self._values[name]
        unknown = math.isnan(value)
        return {
            "name": name, "sort": "input" if spec is None else sort_of(spec), "value": None if unknown else value,
            "unit": self._unit(name), "null_cause": self._cause_of(name) if unknown else None,
        }  # fmt: skip

    def _unit(self, name: str) -> str:
        known = self._policy.catalogue.by_name.get(name) or self._policy.attributes.get(name)
        if known is None:
            return next((spec.unit for spec in BASE_NUMBERS if spec.name == name), "")
        return known.unit if isinstance(known, FeatureSpec) else known.spec.unit

    def _cause_of(self, name: str) -> str:
        spec = self._policy.catalogue.by_name.get(name)
        if spec is None:
            return self._input_cause(name)
        span = span_of(spec.variant, self.t_ms, delay_of(spec)) if counts_events(spec) else None
        return self._null_cause(spec, [] if span is None else self._contributions(spec, span))

    # --- windows and events ---

    def _window(self, spec: FeatureSpec, span: Span) -> dict[str, Any]:
        """The window's edges. Truncated: events inside it have been trimmed from the log."""
        _, trimmed_through_ms = read_header(self._log(grain_of(spec)) or self._state.log)
        after = None if spec.variant.label == "life" else local_instant(self._policy.zone, span.after_ms)
        return {
            "label": spec.variant.label, "after": after, "until": local_instant(self._policy.zone, span.until_ms),
            "truncated": trimmed_through_ms > span.after_ms,
        }  # fmt: skip

    def _log(self, grain: str) -> bytes | None:
        """The log whose events a grain looks at; None where it was not read."""
        if grain not in LINK_GRAINS:
            return self._state.log
        log: bytes | None = getattr(self._state.links, grain)
        return log if self._row[ENTITY_WORDS[grain]] else None

    def _contributions(self, spec: FeatureSpec, span: Span) -> list[Contribution]:
        grain = grain_of(spec)
        log = self._log(grain)
        if log is None:
            return []
        if grain not in self._facts:
            self._facts[grain] = facts_of(words_of(log), self._row, self._policy.zone, grain)
        return contributions_of(spec, span, self._policy.catalogue.segments, self._facts[grain], self._judge)

    def _events(self, seen: Sequence[Contribution]) -> list[dict[str, Any]]:
        return [self._event(one) for one in reversed(seen[-EVENTS_SHOWN_MAX:])]

    def _event(self, one: Contribution) -> dict[str, Any]:
        fact, names = one.fact, self._names
        return {
            "occurred_at": local_instant(self._policy.zone, fact.at_ms), "role": one.role,
            "seq": None if fact.is_request else fact.seq, "kind": KIND_NAMES[fact.kind],
            "status": "requested" if fact.is_request else STATUS_NAMES.get(fact.status),
            "amount": fact.amount_minor / self._judge.scale,
            "value": None if one.value is None or math.isnan(one.value) else one.value,
            "contribution": one.contribution,
            "channel": CHANNEL_NAMES.get(fact.channel), "category": _named(names.codes, fact.code),
            "facility": _named(names.facilities, fact.facility), "device": _named(names.devices, fact.device),
            "payee": _named(names.parties, fact.party), "customer": _named(names.customers, fact.customer),
            "label": _named(names.codes, fact.label),
        }  # fmt: skip

    # --- why it is unknown ---

    def _null_cause(self, spec: FeatureSpec, seen: Sequence[Contribution]) -> str:
        """Why a feature is unknown, from the first of its guards that closed."""
        if spec.surge_of:
            spec = self._policy.catalogue.by_name[spec.surge_of]
        missing = next((name for name in self._needs(spec) if math.isnan(self._values[name])), None)
        return (
            self._names_none(spec)
            or self._too_young(spec)
            or self._too_few(spec, seen)
            or (f"`{missing}` is unknown: {self._cause_of(missing)}" if missing else "")
            or self._divides_by_nothing(spec)
            or ("these events do not tell it" if counts_events(spec) else "an input is missing")
        )

    def _names_none(self, spec: FeatureSpec) -> str:
        """The entity of a feature's grain is not named, or its log was not read."""
        grain = grain_of(spec)
        if grain in RESTRICTIONS and self._row[RESTRICTIONS[grain].word] == 0:
            return f"the request names no {grain}"
        if grain in LINK_GRAINS and self._log(grain) is None:
            named = self._row[ENTITY_WORDS[grain]] != 0
            return f"the log of this {grain} was not read" if named else f"the request names no {grain}"
        return ""

    def _too_young(self, spec: FeatureSpec) -> str:
        least_ms = spec.null.min_age_ms(spec.variant.window_ms + delay_of(spec), spec.variant.months)
        age_ms = self.t_ms - self._facility.granted_at_ms
        if age_ms >= least_ms:
            return ""
        return f"the facility is {age_ms / DAY_MS:.1f} days old, younger than {duration_text(least_ms)}"

    def _too_few(self, spec: FeatureSpec, seen: Sequence[Contribution]) -> str:
        wanted, what = spec.null.min_n, "observations"
        if counts_events(spec):
            name = spec.row.plain("agg", spec.variant)
            count = sum(one.role == OF for one in seen)
            if AGGREGATIONS[name].by_day:  # their `Nk` counts days since the grant
                count, what = (self.t_ms - self._facility.granted_at_ms) // DAY_MS, "days since the grant"
            elif name.startswith("terms_"):  # and theirs terms, which are no events
                return f"fewer than {max(wanted, 1)} terms in {spec.variant.label or 'its window'}"
        elif spec.row.section == "derived" and spec.row.has("of"):
            hidden = observation_name(spec.row.plain("of", spec.variant), spec.variant.window_ms)
            count = round(self._values.get(hidden, wanted))
        else:
            return ""
        if count >= max(wanted, 1 if counts_events(spec) else 0):
            return ""
        window = spec.variant.label or "its window"
        return f"fewer than {max(wanted, 1)} {what} in {window}: {count}" if count else f"no {what} in {window}"

    def _divides_by_nothing(self, spec: FeatureSpec) -> str:
        division = first_division(spec.tree) if spec.tree is not None else None
        if division is None or self._judge.number(division.right, self._judge.request) != 0:
            return "its divisor is 0" if "D" in spec.null.codes and division is None else ""
        return f"it divides by 0 in `{formula_of(spec)}`"

    def _input_cause(self, name: str) -> str:
        attribute = self._policy.attributes.get(name)
        if attribute is None:
            return "it was not given"
        stored = self._state.attributes.get(name)
        ttl = duration_text(attribute.ttl_ms)
        if stored is None:
            return f"no value from `{attribute.source}`"
        since = local_instant(self._policy.zone, stored.as_of_ms)
        return f"the value of {since} from `{attribute.source}` is not at most {ttl} old"


def _names(policy: Policy, state: CustomerState, request: DecisionRequest, texts: Iterable[str]) -> Names:
    """Digests of every id and category there is a text of."""
    known = {text for segment in policy.catalogue.segments.values() for text in _texts(segment.tree)}
    known |= {*texts, *state.facilities, request.customer_id, request.facility_id}
    known |= {request.device_id or "", request.counterparty_id or "", request.purpose or ""}
    known.discard("")
    return Names(
        {facility_key(text): text for text in known}, {device_key(text): text for text in known},
        {_signed(counterparty_key(text)): text for text in known},
        {_signed(customer_key(text)): text for text in known}, {code_key(text): text for text in known},
    )  # fmt: skip


def _texts(tree: Tree) -> Iterator[str]:
    if isinstance(tree, String):
        yield tree.value
    for child in children(tree):
        yield from _texts(child)


def _signed(key: int) -> int:
    return key - (1 << 64) if key >= 1 << 63 else key


def _named(names: Mapping[int, str], digest: int) -> str | None:
    """The id of a digest, or the digest in hex; None where the event has none."""
    if digest == 0:
        return None
    return names.get(digest) or f"#{digest & (1 << 64) - 1:x}"
