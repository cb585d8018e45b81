"""The YAML of a case, read strictly: every mistake is a diagnostic with its place.

    case: name        shows: 1, or [1, 11]      note: text        now: 2026-11-21T03:12:09+08:00
    facility: {...}   as PUT /v1/facilities takes it, with `facility_id`; `facilities: [...]` for several
    attributes: {ext_inq_cnt_30d: 2, income_monthly: {value: 9000, as_of: -3d}}
    lists: {block: [c-9]}
    events:           as POST /v1/events takes them; `at` is `occurred_at`
      - {kind: drawdown, amount: 500, at: -3d}
      - {repeat: 12, every: 30d, kind: repayment, amount: 600, at: -360d, counterparty_id: "m-{n}"}
      - {kind: drawdown, at: -1m, step: 1}       settles the drawdown that step 1 asked for
    request: {amount: 4990}                      or {scene: warning}
    expect: {decision: hold, hold: step_up, reasons: [RC10], fired: [odd_hour_unusual]}
    steps: [{now: +2h, events: [...], request: {...}, expect: {...}}]      one after the other

What is not said is filled in: the customer and facility are those of the first facility, the currency is the
facility's, ids of events and requests are made up. `{n}` in a repeated event is its number from 1. A step's `now` may
be relative to the step before it. Bodies are checked by the parsers of the API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from decision_service.api.parse import (
    Clock,
    parse_attributes,
    parse_decision,
    parse_event,
    parse_facility,
    read_events,
)
from decision_service.cases.case import Body, Case, Expected, Instant, OfStep, Step
from decision_service.cases.expecting import read_expected
from decision_service.cases.fields import Places, body_of, instant_of, plain_value
from decision_service.cases.sending import rendered
from decision_service.core.errors import InvalidInput
from decision_service.core.limits import CLOCK_AHEAD_MAX_MS, EVENTS_PER_CUSTOMER_MAX, REQUEST_AGE_MAX_MS
from decision_service.core.rules.fields import (
    check_keys,
    duration_ms,
    identifier,
    is_number,
    mapping,
    sequence,
)
from decision_service.core.source import Document, Findings, MappingNode, Node, Place, Scalar, SequenceNode
from decision_service.policies.files import policy_paths, read_document

SHARED_KEYS: Final = ("facility", "facilities", "attributes", "lists", "events", "request", "expect")
STEP_KEYS: Final = ("now", "note", *SHARED_KEYS)
CASE_KEYS: Final = ("case", "shows", "note", "now", *SHARED_KEYS, "steps")
EVENT_KEYS: Final = ("repeat", "every", "at", "step")  # beside those of the API
REPEAT_MAX: Final = EVENTS_PER_CUSTOMER_MAX
Checked = TypeVar("Checked")


def read_cases(folder: Path, findings: Findings) -> list[Case]:
    """Every case below a directory (or in one file), in order of the files; wrong ones are left out and reported."""
    paths = [folder] if folder.is_file() else policy_paths(folder)
    root = folder.parent if folder.is_file() else folder
    cases, names = [], dict[str, Place]()
    for path in paths:
        document = read_document(path, path.relative_to(root).as_posix(), findings)
        case = None if document is None else read_case(document, findings)
        if case is None or document is None:
            continue
        place = next(key.place for key, _ in document.root.items if key.text == "case")
        first = names.setdefault(case.name, place)
        if first is not place:
            findings.error(place, f"the case `{case.name}` is taken by {first.file}:{first.line}")
        cases.append(case)
    return cases


def read_case(document: Document, findings: Findings) -> Case | None:
    """One case, or None with everything that is wrong among the findings."""
    before = len(findings.errors)
    root = document.root
    check_keys(root, CASE_KEYS, ("case", "now"), "a case", findings)
    name_node, now_node, note = root.get("case"), root.get("now"), root.get("note")
    name = None if name_node is None else identifier(name_node, "`case`", findings)
    now_ms = None if now_node is None else instant_of(now_node, None, findings)
    if name is None or now_ms is None:
        return None
    reader = _Reader(name, findings)
    steps = reader.steps(root, now_ms)
    if not any(step.expected for step in steps) and len(findings.errors) == before:
        findings.error(root.place, "nothing is expected in this case", expected="`request` and `expect`, or `steps`")
    if len(findings.errors) > before:
        return None
    meaning = note.text if isinstance(note, Scalar) else ""
    return Case(name, document.file, _shows(root, findings), meaning, reader.customer_id, tuple(steps))


def _shows(root: MappingNode, findings: Findings) -> tuple[int, ...]:
    node = root.get("shows")
    items: Iterable[Node] = () if node is None else node if isinstance(node, SequenceNode) else (node,)
    return tuple(int(number) for item in items if (number := _whole(item, "`shows`", findings)) is not None)


def _whole(node: Node, what: str, findings: Findings, high: int = 1_000) -> int | None:
    """A whole number from 1."""
    value = float(node.text) if isinstance(node, Scalar) and is_number(node) else 0.0
    if value.is_integer() and 1 <= value <= high:
        return int(value)
    findings.error(node.place, f"{what} must be a whole number from 1 to {high:,}")
    return None


class _Reader:
    """Reads the steps of one case; remembers whose case it is."""

    def __init__(self, name: str, findings: Findings) -> None:
        self._name = name
        self._findings = findings
        self._events = 0
        self.customer_id = ""
        self._facility_id = ""
        self._currency = ""

    def steps(self, root: MappingNode, now_ms: int) -> list[Step]:
        """The step that the case itself is, if it says anything, and those under `steps`."""
        first = any(root.get(key) is not None for key in SHARED_KEYS)
        steps = [self._step(root, now_ms, 1)] if first else []
        node = root.get("steps")
        items = None if node is None else sequence(node, "`steps`", self._findings)
        for item in items or ():
            block = mapping(item, "a step", item.place, self._findings)
            if block is None or not check_keys(block, STEP_KEYS, (), "a step", self._findings):
                continue
            at = block.get("now")
            later_ms = now_ms if at is None else instant_of(at, now_ms, self._findings)
            if at is not None and later_ms is not None and later_ms < now_ms:
                self._findings.error(at.place, "a step lies before the one in front of it", expected="`now: +2h`")
            now_ms = now_ms if later_ms is None else later_ms
            steps.append(self._step(block, now_ms, len(steps) + 1))
        return steps

    def _step(self, node: MappingNode, now_ms: int, number: int) -> Step:
        clock = Clock(now_ms, CLOCK_AHEAD_MAX_MS, REQUEST_AGE_MAX_MS)
        facilities = tuple(self._facilities(node, clock))
        if not self.customer_id:
            if not self._findings.errors:
                self._findings.error(node.place, "no `facility`: whose case is it?", expected="facility: {...}")
            return Step(now_ms, node.place)
        request, expected = self._request(node, clock, number), self._expected(node)
        return Step(
            now_ms, node.place, facilities, self._attributes(node, clock), self._lists(node),
            tuple(self._event_bodies(node, clock, number)), request, expected,
        )  # fmt: skip

    def _facilities(self, node: MappingNode, clock: Clock) -> Iterable[Body]:
        one, several = node.get("facility"), node.get("facilities")
        items = [] if one is None else [one]
        items += [] if several is None else list(sequence(several, "`facilities`", self._findings) or ())
        for item in items:
            block = mapping(item, "a facility", item.place, self._findings)
            if block is None or not check_keys(block, _keys(block), ("facility_id",), "a facility", self._findings):
                continue
            places = Places()
            body = {"as_of": Instant(clock.now_ms), **body_of(block, clock.now_ms, places, "", self._findings)}
            facility_id = str(body["facility_id"])
            body.setdefault("customer_id", self.customer_id or "c-1")
            sent = {key: value for key, value in body.items() if key != "facility_id"}
            if self._check(sent, places, "", partial(parse_facility, facility_id=facility_id, clock=clock)) is None:
                continue
            self.customer_id = self.customer_id or str(body["customer_id"])
            self._facility_id = self._facility_id or facility_id
            self._currency = self._currency or str(body["currency"])
            yield body

    def _attributes(self, node: MappingNode, clock: Clock) -> Body | None:
        given = node.get("attributes")
        block = None if given is None else mapping(given, "`attributes`", given.place, self._findings)
        if block is None:
            return None
        places = Places({"": block.place})
        body: Body = {}
        for key, value in block.items:
            if isinstance(value, Scalar):
                places[key.text] = value.place
                body[key.text] = {"value": plain_value(value), "as_of": Instant(clock.now_ms)}
            elif (one := mapping(value, f"`{key.text}`", value.place, self._findings)) is not None:
                told = body_of(one, clock.now_ms, places, key.text, self._findings)
                body[key.text] = {"as_of": Instant(clock.now_ms), **told}
        self._check(body, places, "", lambda raw: parse_attributes(raw, clock))
        return body

    def _lists(self, node: MappingNode) -> dict[str, tuple[str, ...]]:
        given = node.get("lists")
        block = None if given is None else mapping(given, "`lists`", given.place, self._findings)
        lists = {}
        for key, value in block.items if block is not None else ():
            items = sequence(value, f"`{key.text}`", self._findings)
            lists[key.text] = tuple(item.text for item in items or () if isinstance(item, Scalar))
        return lists

    def _event_bodies(self, node: MappingNode, clock: Clock, step: int) -> Iterable[Body]:
        given = node.get("events")
        for item in (None if given is None else sequence(given, "`events`", self._findings)) or ():
            block = mapping(item, "an event", item.place, self._findings)
            if block is not None and check_keys(block, _keys(block), ("kind",), "an event", self._findings):
                yield from self._repeated(block, clock, step)

    def _repeated(self, block: MappingNode, clock: Clock, step: int) -> Iterable[Body]:
        repeat, every = block.get("repeat"), block.get("every")
        if (repeat is None) != (every is None):
            self._findings.error(block.place, "`repeat` and `every` come together", expected="repeat: 12, every: 30d")
            return
        count = 1 if repeat is None else _whole(repeat, "`repeat`", self._findings, REPEAT_MAX)
        every_ms = 0 if every is None else duration_ms(every, "`every`", self._findings)
        places = Places()
        body = body_of(_without(block, ("repeat", "every")), clock.now_ms, places, "", self._findings)
        if count is None or every_ms is None or not self._timed(body, block, places):
            return
        self._fill(body, block, step)
        first_ms = body["occurred_at"].ms
        for number in range(1, count + 1):
            self._events += 1
            one = {"event_id": f"{self._name}-e{self._events}", **body} if "event_id" not in body else body
            one = {key: _numbered(value, number) for key, value in one.items()}
            one["occurred_at"] = Instant(first_ms + (number - 1) * every_ms)
            if self._check({"events": [one]}, places, "events.0.", lambda raw: _parsed_event(raw, clock)) is None:
                return
            yield one

    def _timed(self, body: Body, block: MappingNode, places: Places) -> bool:
        """Whether an event has its instant, `at` having become `occurred_at`."""
        if "at" in body:
            body["occurred_at"] = body.pop("at")
            places["occurred_at"] = places["at"]
        if "occurred_at" not in body:
            self._findings.error(block.place, "an event has no `at`", expected="at: -3d")
        return isinstance(body.get("occurred_at"), Instant)

    def _fill(self, body: Body, block: MappingNode, step: int) -> None:
        """What an event does not say: whose it is, on which facility, in which currency, and which step it is of."""
        body.setdefault("customer_id", self.customer_id)
        if "step" in body:
            node = block.get("step")
            assert node is not None, "the body has it from there"
            number = _whole(node, "`step`", self._findings, max(1, step - 1))
            body["decision_id"] = OfStep(number or 1)
            del body["step"]
        if body["customer_id"] == self.customer_id and body.get("kind") not in ("login", "touch", "label"):
            body.setdefault("facility_id", self._facility_id)
        if "amount" in body:
            body.setdefault("currency", self._currency)

    def _request(self, node: MappingNode, clock: Clock, number: int) -> Body | None:
        given, expect = node.get("request"), node.get("expect")
        if (given is None) != (expect is None):
            self._findings.error((given or expect or node).place, "`request` and `expect` come together")
        block = None if given is None else mapping(given, "`request`", given.place, self._findings)
        if block is None:
            return None
        places = Places()
        body = body_of(block, clock.now_ms, places, "", self._findings)
        body.setdefault("request_id", f"{self._name}-{number}")
        body.setdefault("customer_id", self.customer_id)
        body.setdefault("facility_id", self._facility_id)
        body.setdefault("currency", self._currency)
        self._check(body, places, "", lambda raw: parse_decision(raw, clock))
        return body

    def _expected(self, node: MappingNode) -> tuple[Expected, ...]:
        given = node.get("expect")
        block = None if given is None else mapping(given, "`expect`", given.place, self._findings)
        return () if block is None else read_expected(block, self._findings)

    def _check(self, body: Body, places: Places, path: str, parse: Callable[[bytes], Checked]) -> Checked | None:
        """What the API's own parser makes of a body; None with its complaint, at the field, among the findings.

        A body of which something could not even be read has been complained of.
        """
        if None in body.values():
            return None
        try:
            return parse(orjson.dumps(rendered(body)))
        except InvalidInput as error:
            field = error.field.removeprefix(path)
            place = places.nearest(field)
            self._findings.error(place, f"`{field}`: {error.message}" if field else error.message)
        return None


def _parsed_event(raw: bytes, clock: Clock) -> object:
    return parse_event(read_events(raw)[0], 0, clock)


def _keys(block: MappingNode) -> tuple[str, ...]:
    """The keys of a block that the API's parser will judge."""
    return block.keys()


def _without(block: MappingNode, keys: tuple[str, ...]) -> MappingNode:
    return MappingNode(tuple(item for item in block.items if item[0].text not in keys), block.place)


def _numbered(value: Any, number: int) -> Any:
    return value.replace("{n}", str(number)) if isinstance(value, str) else value
