"""The handlers: one function a call of the contract, from a `Call` to a `Reply`. Errors are raised, not
answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final

import orjson

from decision_service.admission import Admission
from decision_service.api.access import check_reach
from decision_service.api.call import Call, Reply, json_reply, read_body
from decision_service.api.instants import format_instant, parse_instant
from decision_service.api.keys import Principal
from decision_service.api.parse import (
    Clock,
    parse_attributes,
    parse_event,
    parse_facility,
    parse_policy_files,
    parse_question,
    read_events,
)
from decision_service.api.rate import RateLimit
from decision_service.api.refusals import Forbidden, NotReady, RateLimited, TooBusy
from decision_service.core.errors import Erased, InvalidInput, NotFound, PolicyRejected, ScorecardRejected
from decision_service.core.limits import ID_CHARS_MAX
from decision_service.core.money import to_major
from decision_service.core.request import DecisionRequest
from decision_service.core.source import nearest_name
from decision_service.feature_question import TEXTS as QUESTION_TEXTS
from decision_service.feature_question import read_question
from decision_service.settings import Settings
from decision_service.telemetry import Meters, Stage, exposition

if TYPE_CHECKING:
    from decision_service.archive.access import AccessLog
    from decision_service.core.rules.attributes import AttributeSpec
    from decision_service.customers import Customers, FacilityView
    from decision_service.decision_search import DecisionSearch
    from decision_service.judge import EventOutcome
    from decision_service.service import DecisionService

HTML: Final = b"text/html; charset=utf-8"
PAGE_HEADERS: Final = (  # the page brings its own script and style and needs nothing else
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
)
REPLAYED: Final = ((b"idempotency-replayed", b"true"),)
READY_WITHIN_S: Final = 1.0  # probes are commonly given a second
EVENTS_AT_ONCE: Final = 64  # events parsed before other requests get a turn: about 2 ms


@dataclass(slots=True)
class Desk:
    """Everything the handlers work with; made when a worker starts."""

    decisions: DecisionService
    customers: Customers
    settings: Settings
    meters: Meters
    now_ms: Callable[[], int]
    admission: Admission | None = None  # the gate's, once it runs
    previews: RateLimit | None = None  # of each customer: bisecting a threshold takes many
    searches: DecisionSearch | None = None
    accesses: AccessLog | None = None  # where reads of personal data are recorded

    def note_access(self, call: Call, customer_id: str | None, decision_id: str = "") -> None:
        """Record that the caller is told personal data. Waits for nothing and raises nothing."""
        if self.accesses is not None:
            label = call.scope.get("route_label", "")
            own_id = call.headers.get(b"x-request-id", b"")[:ID_CHARS_MAX].decode("ascii", "replace")
            self.accesses.put(call.principal.name, label, customer_id, decision_id, own_id)

    def clock(self) -> Clock:
        """Now, with the bounds on callers' instants."""
        return Clock(self.now_ms(), self.settings.clock_ahead_max_ms, self.settings.request_age_max_ms)


async def decide(desk: Desk, call: Call) -> Reply:
    """POST /v1/decisions."""
    body = await read_body(call, desk.settings.decision_body_bytes_max)
    return await answer_to(desk, call.principal, call.headers, body, call.arrived)


async def answer_to(
    desk: Desk, principal: Principal, headers: Mapping[bytes, bytes], body: bytes, arrived: float
) -> Reply:
    """The reply to a question that is here as a whole since `arrived`, of a caller who may ask."""
    request, budget_ms, parse_s = _question(desk, principal, headers, body)
    if budget_ms < desk.settings.deadline_ms_default:
        _refuse_too_late(desk, arrived, budget_ms / 1000)
    answer = await desk.decisions.decide(request, budget_ms, arrived)
    meters = desk.meters
    meters.count_decision(answer.outcome, answer.rung, answer.replayed, answer.scene)
    total_s = perf_counter() - arrived
    if answer.stages_s:
        meters.observe_decision((parse_s, *answer.stages_s, total_s))
    else:
        meters.observe_stage(Stage.TOTAL, total_s)
    return Reply(200, answer.body, REPLAYED if answer.replayed else ())


def _refuse_too_late(desk: Desk, arrived: float, budget_s: float) -> None:
    """TooBusy for a smaller budget than the one that it was let in with, if it will not do."""
    admission = desk.admission
    if admission is not None and admission.too_late(perf_counter() - arrived, budget_s):
        raise TooBusy("too many requests for this deadline: try again a little later", admission.retry_after_s())


async def preview(desk: Desk, call: Call) -> Reply:
    """POST /v1/decisions/preview."""
    body = await read_body(call, desk.settings.decision_body_bytes_max)
    request, _, _ = _question(desk, call.principal, call.headers, body)
    if desk.previews is not None:
        let_in, _, seconds = desk.previews.take(request.customer_id, monotonic())
        if not let_in:
            desk.meters.count_rate_limited()
            raise RateLimited(seconds)
    return Reply(200, await desk.decisions.preview(request, call.arrived))


def _question(
    desk: Desk, principal: Principal, headers: Mapping[bytes, bytes], body: bytes
) -> tuple[DecisionRequest, int, float]:
    """The request, its budget in ms, and the seconds parsing took."""
    began = perf_counter()
    request, deadline_ms = parse_question(body, desk.clock)
    check_reach(principal, request.customer_id, "decision")
    if b"idempotency-key" in headers:
        _check_idempotency_key(headers[b"idempotency-key"], request.request_id)
    if request.attributes:
        check_attributes(request.attributes, desk.customers.known_attributes, "attributes.")
    return request, deadline_ms or desk.settings.deadline_ms_default, perf_counter() - began


def _check_idempotency_key(key: bytes, request_id: str) -> None:
    if key.strip().strip(b'"') != request_id.encode().strip().strip(b'"'):
        raise InvalidInput("Idempotency-Key", "must equal request_id")


def check_attributes(values: Mapping[str, float | str], known: Mapping[str, AttributeSpec], path: str) -> None:
    """Raise InvalidInput for a name that is not declared or a value of another type."""
    for name, value in values.items():
        spec = known.get(name)
        if spec is None:
            near = nearest_name(name, known)
            hint = f": did you mean {near}?" if near else ""
            raise InvalidInput(path + name, "no such attribute is declared" + hint)
        problem = spec.problem_with(value)
        if problem:
            raise InvalidInput(path + name, problem)


async def get_decision(desk: Desk, call: Call) -> Reply:
    """GET /v1/decisions/{decision_id}."""
    decision_id = call.path_id("decision_id")
    try:
        kept = await desk.decisions.kept.decision(decision_id)
    except Erased:
        if call.principal.limited:  # whose it was is erased, too
            raise NotFound("no such decision") from None
        raise
    customer_id = orjson.loads(kept.body)["customer_id"]
    if call.principal.limited and not _reaches(call, customer_id, "decision"):
        raise NotFound("no such decision")
    desk.note_access(call, customer_id, decision_id)
    return Reply(200, kept.body, ((b"decision-source", kept.source.encode()),))


def _reaches(call: Call, customer_id: str, what: str) -> bool:
    """Whether the caller may be told of something of a customer's that he asked for by its own id."""
    try:
        check_reach(call.principal, customer_id, what)
    except Forbidden:
        return False
    return True


async def post_events(desk: Desk, call: Call) -> Reply:
    """POST /v1/events."""
    sent = read_events(await read_body(call, desk.settings.body_bytes_max))
    clock = desk.clock()
    posted, answers = [], [{"index": i, "event_id": _sent_id(value)} for i, value in enumerate(sent)]
    for index, value in enumerate(sent):
        if index % EVENTS_AT_ONCE == EVENTS_AT_ONCE - 1:
            await asyncio.sleep(0)
        try:
            event = parse_event(value, index, clock)
            if not _reaches(call, event.customer_id, "event"):
                raise InvalidInput(f"events.{index}.customer_id", "these credentials do not reach this customer")
            posted.append(event)
        except InvalidInput as error:
            answers[index] |= {"status": "rejected", "field": error.field, "reason": error.message}
    for index, outcome in (await desk.customers.record_events(posted)).items():
        answers[index] |= _outcome(outcome, index)
    counts = [answer["status"] for answer in answers]
    totals = {status: counts.count(status) for status in ("accepted", "duplicate", "rejected")}
    return json_reply({**totals, "events": answers})


def _sent_id(value: object) -> Any:
    event_id = value.get("event_id") if isinstance(value, dict) else None
    return event_id if isinstance(event_id, str) else None


def _outcome(outcome: EventOutcome, index: int) -> dict[str, Any]:
    if outcome.status != "rejected":
        return {"status": outcome.status}
    return {"status": "rejected", "field": f"events.{index}.{outcome.field}", "reason": outcome.reason}


async def put_facility(desk: Desk, call: Call) -> Reply:
    """PUT /v1/facilities/{facility_id}."""
    facility_id = call.path_id("facility_id")
    body = await read_body(call, desk.settings.body_bytes_max)
    facility = parse_facility(body, facility_id, desk.clock())
    check_reach(call.principal, facility.customer_id, "facility")
    return json_reply(facility_json(await desk.customers.put_facility(facility)))


async def get_facility(desk: Desk, call: Call) -> Reply:
    """GET /v1/facilities/{facility_id}."""
    facility_id = call.path_id("facility_id")
    view = await desk.customers.facility(facility_id)
    if not _reaches(call, view.facility.customer_id, "facility"):
        raise NotFound("no such facility")
    desk.note_access(call, view.facility.customer_id)
    return json_reply(facility_json(view))


def facility_json(view: FacilityView) -> dict[str, Any]:
    """A facility as the snapshot was given, and under `position` what holds now."""
    facility, position = view.facility, view.position

    def money(minor: int | None) -> float | None:
        return None if minor is None else to_major(minor, facility.currency)

    def instant(ms: int | None) -> str | None:
        return None if ms is None else format_instant(ms)

    return {
        "facility_id": facility.facility_id,
        "customer_id": facility.customer_id,
        "product": facility.product,
        "currency": facility.currency,
        "limit": money(facility.limit_minor),
        "outstanding": money(facility.outstanding_minor),
        "as_of": instant(facility.as_of_ms),
        "apr": facility.apr_bps / 10_000,
        "status": facility.status,
        "granted_at": instant(facility.granted_at_ms),
        "expires_at": instant(facility.expires_at_ms),
        "reviewed_at": instant(facility.reviewed_at_ms),
        "next_due_at": instant(facility.next_due_at_ms),
        "next_due_amount": money(facility.next_due_minor),
        "days_past_due": facility.days_past_due,
        "position": {
            "outstanding": money(position.outstanding_minor),
            "reserved": money(position.reserved_minor),
            "available": money(position.available_minor),
        },
    }


async def put_attributes(desk: Desk, call: Call) -> Reply:
    """PUT /v1/customers/{customer_id}/attributes."""
    customer_id = call.path_id("customer_id")
    check_reach(call.principal, customer_id, "attribute")
    attributes = parse_attributes(await read_body(call, desk.settings.body_bytes_max), desk.clock())
    check_attributes({n: a.value for n, a in attributes.items()}, desk.customers.known_attributes, "")
    await desk.customers.put_attributes(customer_id, attributes)
    return json_reply({"customer_id": customer_id, "names": sorted(attributes)})


async def get_features(desk: Desk, call: Call) -> Reply:
    """GET /v1/customers/{customer_id}/features."""
    customer_id = call.path_id("customer_id")
    check_reach(call.principal, customer_id, "feature")
    query = call.query_values("names", "at", *QUESTION_TEXTS)
    names = [name for name in query["names"].split(",") if name] if "names" in query else None
    question = read_question(customer_id, _asked_at(desk, query), query)
    told = await desk.customers.features.values(question, names)
    desk.note_access(call, customer_id)
    return json_reply(told)


def _asked_at(desk: Desk, query: Mapping[str, str]) -> int | None:
    """The instant in the query, None for now."""
    try:
        at_ms = parse_instant(query["at"]) if "at" in query else None
    except ValueError as error:
        raise InvalidInput("at", str(error)) from None
    desk.clock().check(at_ms, "at")
    return at_ms


async def get_feature(desk: Desk, call: Call) -> Reply:
    """GET /v1/customers/{customer_id}/features/{name}."""
    customer_id = call.path_id("customer_id")
    check_reach(call.principal, customer_id, "feature")
    query = call.query_values("at", "deep", *QUESTION_TEXTS)
    if query.get("deep", "false") not in ("true", "false"):
        raise InvalidInput("deep", "must be true or false")
    question = read_question(customer_id, _asked_at(desk, query), query)
    deep = query.get("deep") == "true"
    told = await desk.customers.features.explained(question, call.path_id("name"), deep=deep)
    desk.note_access(call, customer_id)
    return json_reply(told)


async def get_features_page(desk: Desk, call: Call) -> Reply:
    """GET /features."""
    call.query_values("q")
    return Reply(200, await desk.customers.features.page(), PAGE_HEADERS, HTML)


async def get_listed(desk: Desk, call: Call) -> Reply:
    """GET /v1/lists/{list}/{value}."""
    name, value = call.path_id("list"), call.path_id("value")
    return json_reply({"list": name, "value": value, "present": await desk.customers.on_list(name, value)})


async def put_listed(desk: Desk, call: Call) -> Reply:
    """PUT /v1/lists/{list}/{value}."""
    return await _change_list(desk, call, present=True)


async def delete_listed(desk: Desk, call: Call) -> Reply:
    """DELETE /v1/lists/{list}/{value}."""
    return await _change_list(desk, call, present=False)


async def _change_list(desk: Desk, call: Call, *, present: bool) -> Reply:
    name, value = call.path_id("list"), call.path_id("value")
    changed = await desk.customers.change_list(name, value, present, call.principal.name)
    return json_reply({"list": name, "value": value, "present": present, "changed": changed})


async def get_policy(desk: Desk, call: Call) -> Reply:
    """GET /v1/policy."""
    return json_reply(await desk.customers.policy_status())


async def check_policy(desk: Desk, call: Call) -> Reply:
    """POST /v1/policy/check."""
    files = parse_policy_files(await read_body(call, desk.settings.body_bytes_max))
    findings = await desk.customers.check_policy(files)
    ok = all(finding.severity != "error" for finding in findings)
    return json_reply({"ok": ok, "diagnostics": [finding.as_json() for finding in findings]})


async def reload_policy(desk: Desk, call: Call) -> Reply:
    """POST /v1/policy/reload."""
    status = await desk.customers.reload_policy(force=flag(call, "force"))
    if status["problem"]:
        diagnostics = desk.customers.active.diagnostics
        raise PolicyRejected(diagnostics) if diagnostics else ScorecardRejected("policy", status["problem"])
    return json_reply(status)


def flag(call: Call, name: str) -> bool:
    """A boolean parameter of the query, false by default. InvalidInput."""
    value = call.query_values(name).get(name, "false")
    if value not in ("true", "false"):
        raise InvalidInput(name, "must be true or false")
    return value == "true"


async def livez(desk: Desk, call: Call) -> Reply:
    """GET /livez."""
    return json_reply({"status": "alive"})


async def readyz(desk: Desk, call: Call) -> Reply:
    """GET /readyz. Whatever hangs, it answers in READY_WITHIN_S."""
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            problems = await desk.customers.problems()
    except TimeoutError:
        problems = [f"store: did not answer in {READY_WITHIN_S:g} s"]
    if problems:
        raise NotReady(problems)
    return json_reply({"status": "ready"})


async def metrics(desk: Desk, call: Call) -> Reply:
    """GET /metrics."""
    desk.meters.fold()
    page = await asyncio.to_thread(exposition.render, desk.meters)
    return Reply(200, page, content_type=exposition.CONTENT_TYPE.encode())
