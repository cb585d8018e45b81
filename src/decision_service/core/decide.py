"""The decision: one pure function of request, state, policy and clock.

    decide(request, state, policy, now_ms, decision_id) -> Decision

No await, clock, randomness, logging or I/O: the same inputs give the same bytes today and in five years, which is what
makes replay, backtest, preview and audit the same code as production. `t`, the decision instant, is the request's
`occurred_at`, else `now_ms`. The request says which scene of the policy judges it; a review is a question about 0 of
the facility's currency, and otherwise decided as a drawdown is.

    position (ledger) -> numbers (facility, attributes) -> features (one kernel call a log) -> scores -> rules -> merge
    -> if adverse and a score had a part in it: the score's reasons

The rung says how much stood behind the answer, the lowest that holds: `no_score` (a scorecard could not score),
`no_links` (the log of an entity that the request names and a feature looks at was not read), `full`.

`mark(stage)` is called as each of STAGES ends, so that a caller with a clock can time them; it changes no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from struct import Struct
from typing import Final, Protocol

from decision_service.core.decision import Decision, Effect, Hold, Rung, Score, Trace
from decision_service.core.errors import InvalidInput
from decision_service.core.event import Words, read_header, words_of
from decision_service.core.facility import Attribute, Facility, Position
from decision_service.core.features.plans import words_of_links
from decision_service.core.inputs import RequestWords, fill_request_words
from decision_service.core.ledger import position_of
from decision_service.core.limits import DAY_MS, HOUR_MS, SECOND_MS
from decision_service.core.merge import Outcome, merge
from decision_service.core.model_reasons import model_reasons
from decision_service.core.money import SCALES
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.rules.attributes import AttributeLayout, AttributeSlot
from decision_service.core.scene import Numbers, Scene
from decision_service.core.standing import Standing
from decision_service.core.state import CustomerState
from decision_service.core.vocabulary import BASE_NUMBERS
from decision_service.core.zone import Zone

NAN: Final = float("nan")
STAGES: Final = ("state", "features", "score", "rules")
_NUMBERS: Final = len(BASE_NUMBERS)
_BASE: Final = Struct(f"{_NUMBERS}d")
_BPS: Final = 10_000
HISTORY_LOST: Final = Effect(Hold("review"), "ledger:history_trimmed", "RC91")


def _no_mark(_stage: int) -> None:
    """Time nothing."""


def decide(
    request: DecisionRequest,
    state: CustomerState,
    policy: Policy,
    now_ms: int,
    decision_id: str,
    mark: Callable[[int], None] = _no_mark,
) -> Decision:
    """The decision on one question.

    Raises InvalidInput for a facility that is unknown or does not fit, and for a scene the policy does not have.
    """
    scene = policy.scenes[request.scene]
    t_ms = now_ms if request.occurred_at_ms is None else request.occurred_at_ms
    facility = current_facility(request, state)
    if not request.currency:
        request = replace(request, currency=facility.currency)
    words = words_of(state.log)
    position = position_of(facility, words, t_ms, scene.reservation_timeout_ms)
    missing = fill_inputs(request, state, scene, facility, position, words, t_ms, scene.numbers, scene.row)
    strings = _strings(request, state, scene, facility, t_ms)
    mark(0)
    links = words_of_links(state.links, scene.plan.link_grains)
    unread = scene.plan.compute(words, links, scene.row, scene.numbers)
    mark(1)
    scores = _score(scene, strings, request.customer_id)
    mark(2)
    rules = scene.rule_set
    scene.numbers.take(scene.read, out=scene.values, mode="clip")  # in range by construction; `raise` would copy
    values = scene.values.tolist()
    effects, verdicts, cells = rules.evaluate(
        values,
        strings,
        policy.rule_lists,
        t_ms,
        SCALES[request.currency],
        facility.limit_minor,
        facility.apr_bps,
    )
    filled = len(scene.numbers) - scene.first_points
    if filled:  # what evaluating filled in belongs to the trace
        scene.numbers[scene.first_points :] = values[-filled:]
    base_seq, trimmed_through_ms = read_header(state.log)
    if _is_history_lost(trimmed_through_ms, facility, t_ms, scene.reservation_timeout_ms):
        effects.append(HISTORY_LOST)
    amount_minor = request.amount_minor
    outcome = merge(
        effects, amount_minor, facility, position, rules.guardrails, t_ms,
        Standing(words, facility, t_ms, state.facilities.values()), request.scene,
    )  # fmt: skip
    against = model_reasons(scene, effects, outcome, facility, amount_minor, scores, cells)
    if against:
        outcome = outcome._replace(reasons=(*outcome.reasons, *against))
    trace = Trace(
        scene.numbers.tobytes(), tuple(strings), verdicts, cells, base_seq + len(words) - 2, state.version,
        outcome.bounded,
    )  # fmt: skip
    mark(3)
    rung = _rung(scores, unread)
    return _record(request, policy, scene, outcome, scores, missing, rung, trace, now_ms, decision_id)


def _rung(scores: Mapping[str, Score], unread: bool) -> Rung:
    for score in scores.values():
        if score.points is None:
            return "no_score"
    return "no_links" if unread else "full"


def _is_history_lost(trimmed_through_ms: int, facility: Facility, t_ms: int, reservation_timeout_ms: int) -> bool:
    """Whether retention trimmed records that the position rests on: what is available is then not known.

    In reviews too: how much of the line is used is what a raise, a price or a renewal rests on, so a person looks.
    """
    return trimmed_through_ms > facility.as_of_ms or trimmed_through_ms >= t_ms - reservation_timeout_ms


def current_facility(request: DecisionRequest, state: CustomerState) -> Facility:
    """The newest snapshot of the facility asked for: the stored one or the request's. InvalidInput if neither fits."""
    stored, sent = state.facilities.get(request.facility_id), request.facility
    facility = sent if stored is None or (sent is not None and sent.as_of_ms >= stored.as_of_ms) else stored
    if facility is None:
        raise InvalidInput("facility_id", "unknown facility: send its snapshot as `facility` or PUT it first")
    if stored is not None and stored.currency != facility.currency:
        raise InvalidInput("facility.currency", f"the facility is in {stored.currency}")
    if facility.currency != request.currency and (request.currency or not request.is_review):
        raise InvalidInput("currency", f"the facility is in {facility.currency}")
    return facility


class Surroundings(Protocol):
    """What filling the inputs asks of a policy; training has these without one."""

    @property
    def zone(self) -> Zone: ...
    @property
    def reservation_timeout_ms(self) -> int: ...
    @property
    def attribute_layout(self) -> AttributeLayout: ...
    @property
    def wanted_attributes(self) -> tuple[str, ...]: ...
    @property
    def first_feature(self) -> int: ...


def fill_inputs(
    request: DecisionRequest, state: CustomerState, policy: Surroundings, facility: Facility, position: Position,
    words: Words, t_ms: int, numbers: Numbers, row: RequestWords,
) -> tuple[str, ...]:  # fmt: skip
    """Fill the request row and the base and attribute slots of the numbers; the attributes a rule wants and lacks.

    Both arrays are contiguous.
    """
    offset_ms = policy.zone.offset_at(t_ms)
    fill_request_words(row, request, facility, position, t_ms, offset_ms)
    scale = SCALES[request.currency]
    limit, outstanding = _customer_totals(state, policy, facility, position, words, t_ms)
    _BASE.pack_into(
        numbers,  # type: ignore[arg-type]  # an array is a buffer
        0,
        request.amount_minor / scale,
        NAN if request.term_months is None else request.term_months,
        (t_ms + offset_ms) // HOUR_MS % 24,
        facility.limit_minor / scale,
        position.outstanding_minor / scale,
        position.reserved_minor / scale,
        position.available_minor / scale,
        facility.apr_bps / _BPS,
        NAN if facility.days_past_due is None else facility.days_past_due,
        (t_ms - facility.granted_at_ms) / DAY_MS,
        _days_until(facility.next_due_at_ms, t_ms),
        NAN if facility.next_due_minor is None else facility.next_due_minor / scale,
        _days_until(facility.expires_at_ms, t_ms),
        -_days_until(facility.reviewed_at_ms, t_ms),
        limit / scale,
        outstanding / scale,
        len(state.facilities) + (facility.facility_id not in state.facilities),
    )
    return _fill_attributes(request, state, policy, t_ms, numbers)


def _fill_attributes(
    request: DecisionRequest, state: CustomerState, policy: Surroundings, t_ms: int, numbers: Numbers
) -> tuple[str, ...]:
    """Fill the numbers of attributes and of their sources; the attributes a rule wants and lacks.

    The cost is that of the attributes that are there, however many are declared.
    """
    layout = policy.attribute_layout
    numbers[_NUMBERS : policy.first_feature] = layout.nothing
    if not request.attributes and not state.attributes:  # most customers have none: nothing to look up
        return policy.wanted_attributes
    for name, stored in state.attributes.items():
        slot = layout.slots.get(name)
        if slot is not None and name not in request.attributes and stored.as_of_ms <= t_ms:
            _take(slot, stored.value, t_ms - stored.as_of_ms, numbers)
    for name, value in request.attributes.items():
        slot = layout.slots.get(name)
        if slot is not None:
            _take(slot, value, 0, numbers)
    return tuple(name for name in policy.wanted_attributes if _is_missing(layout.slots[name], numbers))


def _is_missing(slot: AttributeSlot, numbers: Numbers) -> bool:
    if slot.index is None:
        return True
    value = float(numbers[slot.index])
    return value != value


def _take(slot: AttributeSlot, value: float | str, age_ms: int, numbers: Numbers) -> None:
    """Put a value into its place unless it is stale; tell its source's age and whether it is fresh.

    A value of another type than is declared now was stored under an earlier declaration: it is not there.
    """
    if isinstance(value, str) is not (slot.index is None):
        return
    age_s = age_ms / SECOND_MS
    if not numbers[slot.source_age] <= age_s:  # null, or older
        numbers[slot.source_age] = age_s
    if age_ms <= slot.spec.ttl_ms:
        numbers[slot.source_ok] = 1.0
        if slot.index is not None:
            numbers[slot.index] = value


def _days_until(instant_ms: int | None, t_ms: int) -> float:
    return NAN if instant_ms is None else (instant_ms - t_ms) / DAY_MS


def _customer_totals(
    state: CustomerState, policy: Surroundings, facility: Facility, position: Position, words: Words, t_ms: int
) -> tuple[int, int]:
    """Limit and outstanding over the customer's open facilities in the request's currency."""
    limit, outstanding = facility.limit_minor, position.outstanding_minor
    for other in state.facilities.values():
        same_money = other.currency == facility.currency and other.status != "closed"
        if other.facility_id != facility.facility_id and same_money:
            limit += other.limit_minor
            outstanding += position_of(other, words, t_ms, policy.reservation_timeout_ms).outstanding_minor
    return limit, outstanding


def _attribute(name: str, ttl_ms: int, request: DecisionRequest, state: CustomerState, t_ms: int) -> float | str | None:
    """An attribute's value, the request's before the stored one; None if absent, stale or dated after `t_ms`."""
    if name in request.attributes:
        return request.attributes[name]
    stored: Attribute | None = state.attributes.get(name)
    if stored is None or not 0 <= t_ms - stored.as_of_ms <= ttl_ms:
        return None
    return stored.value


def _strings(
    request: DecisionRequest, state: CustomerState, scene: Scene, facility: Facility, t_ms: int
) -> list[str | None]:
    """The string vector: base strings, string attributes, and a place for every scorecard's grade."""
    strings: list[str | None] = [
        request.customer_id, request.facility_id, request.currency, request.channel, request.device_id,
        request.counterparty_id, request.purpose, facility.product, facility.status,
    ]  # fmt: skip
    strings += scene.no_strings
    if not request.attributes and not state.attributes:
        return strings
    for slot in scene.text_slots:
        value = _attribute(slot.spec.spec.name, slot.spec.ttl_ms, request, state, t_ms)
        strings[slot.index] = None if value is None else str(value)
    return strings


def _score(scene: Scene, strings: list[str | None], customer_id: str) -> dict[str, Score]:
    """Score every scorecard of the scene, leaving points, pd and grade where the rules look for them."""
    scores = {}
    for slot in scene.score_slots:
        score = slot.score(scene.numbers, customer_id)
        scene.numbers[slot.points] = NAN if score.points is None else score.points
        scene.numbers[slot.pd] = NAN if score.pd is None else score.pd
        strings[slot.grade] = score.grade
        scores[slot.scorecard.name] = score
    return scores


def _record(
    request: DecisionRequest, policy: Policy, scene: Scene, outcome: Outcome, scores: dict[str, Score],
    missing: tuple[str, ...], rung: Rung, trace: Trace, now_ms: int, decision_id: str,
) -> Decision:  # fmt: skip
    verdict, approved, hold, reprice, limit_change, alerts, offers, tags, reasons, tier, renewal, _ = outcome
    expiry_ms = scene.rule_set.guardrails.hold_expiry_ms(hold, now_ms) if hold else None
    return Decision(  # by position, which takes half the time; the order is that of the class, and of `answer_of`
        decision_id, request.request_id, request.customer_id, request.facility_id, verdict, approved,
        request.currency, hold, None if expiry_ms is None else now_ms + expiry_ms, reprice, limit_change, alerts,
        offers, tags, reasons, scores, policy.id, policy.label, rung, missing, now_ms, scene.name, tier, renewal, trace,
    )  # fmt: skip
