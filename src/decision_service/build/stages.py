"""The passes of a build, each over one part of a file or one partition, so that processes share the work freely.

    read_events, read_questions, read_facilities, read_attributes   part of a file  -> spills by customer
    name_owners      questions that name an event alone             -> by customer
    answer           a partition of customers: request rows, positions, inputs; then the customer's plan, or on to the
                     first link grain
    follow_links     a partition of entities: the grain's plan      -> the next grain, or back to the customers
    finish           a partition of customers: the customer's plan

A pass returns what there is to report. Nothing is kept between passes but what lies in the spills.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from decision_service.build.dtypes import CURRENCY_INDEX, ENTITY_EVENT, EVENT, OWNER, QUESTION, SNAPSHOT, VALUE
from decision_service.build.dtypes import work as work_dtype
from decision_service.build.history import (
    Keeping,
    Logs,
    Records,
    Refused,
    chunks,
    cleaned,
    find,
    in_order,
    known_entities,
    taken_by_entities,
)
from decision_service.build.inputs import Inputs
from decision_service.build.job import Job, Report, table_of
from decision_service.build.questions import ENTITY_COLUMNS, link_keys, owners_of
from decision_service.build.questions import read_questions as questions_of
from decision_service.build.reported import read_snapshots, read_values
from decision_service.build.table import Table
from decision_service.core.event import FLAG_LOAN, FLAG_PLACE, FLAG_SETTLES, RECORD
from decision_service.core.features.grains import CUSTOMER
from decision_service.core.inputs import ABSENT
from decision_service.core.links import LINK_GRAINS, customer_key
from decision_service.tables.events import EventRows, read_events

CHUNK: Final = 4_096  # questions answered at a time
RECORDS: Final = 262_144  # of logs copied for them, about
_LAST_ROW: Final = 2**62
"""After every row of the events' file."""


# --- reading ----------------------------------------------------------------------------------------------------


def read_events_part(job: Job, part: tuple[int, int]) -> Report:
    """Spill a part of the events' file by customer."""
    report = Report()
    by_customer = job.spill("events", EVENT)
    by_event = job.spill("owners", OWNER)
    for batch in report.timed("read", read_events(job.sources.events, job.clock, part=part, decided=True)):
        with report.time("spill"):
            packed = _packed(batch.events)
            by_customer.write(packed, packed["owner"])
            if job.owners_unknown:
                owners = owners_of(packed)
                by_event.write(owners, owners["event"])
        report.events += len(packed)
        report.bad.setdefault("events", []).extend(batch.bad)
    return report


def _packed(rows: EventRows) -> Records:
    events = np.zeros(len(rows), EVENT)
    events["owner"] = rows.customer.mapped(customer_key, np.uint64)
    events["recorded_at_ms"], events["row"], events["event"] = rows.recorded_at_ms, rows.row, rows.event
    events["currency"] = rows.currency.mapped(CURRENCY_INDEX.__getitem__, np.int64)
    for grain, ids in zip(LINK_GRAINS, (rows.device, rows.payee, rows.ip), strict=True):
        events[f"{grain}_link"] = link_keys(grain, ids)
    events["about_decision"] = rows.about_decision
    events["words"] = rows.records.view(np.int64).reshape(-1, 8)
    return events


def read_questions_part(job: Job, part: tuple[int, int]) -> Report:
    """Spill a part of the questions by customer; those that name an event alone by event."""
    report = Report()
    for questions, bad in report.timed("read", questions_of(job.sources.questions, part)):
        known = questions["owner"] != 0
        with report.time("spill"):
            job.spill("questions", QUESTION).write(questions[known], questions["owner"][known])
            job.spill("unowned", QUESTION).write(questions[~known], questions["event"][~known])
        report.bad.setdefault("questions", []).extend(bad)
    return report


def read_facilities(job: Job) -> Report:
    """Spill the snapshots of facilities by customer."""
    report = Report()
    assert job.sources.facilities is not None
    for snapshots, bad in read_snapshots(job.sources.facilities, job.clock):
        job.spill("snapshots", SNAPSHOT).write(snapshots, snapshots["owner"])
        report.bad.setdefault("facilities", []).extend(bad)
    return report


def read_attributes(job: Job) -> Report:
    """Spill the values of attributes by customer."""
    table, report = table_of(job), Report()
    assert job.sources.attributes is not None
    for values, bad in read_values(job.sources.attributes, table.declared, table.attribute_slots, job.clock):
        job.spill("values", VALUE).write(values, values["owner"])
        report.bad.setdefault("attributes", []).extend(bad)
    return report


def name_owners(job: Job, partition: int) -> Report:
    """Find the customers of questions that name an event alone."""
    report = Report()
    questions = job.spill("unowned", QUESTION).read(partition)
    owners = np.unique(job.spill("owners", OWNER).read(partition))
    if not len(questions):
        return report
    first = np.searchsorted(owners["event"], questions["event"], side="left")
    count = np.searchsorted(owners["event"], questions["event"], side="right") - first
    for where, reason in ((count == 0, "no such event"), (count > 1, "is an event of several customers: say whose")):
        report.refuse("questions", [(int(row), "event_id", reason) for row in questions["row"][where]])
    questions, first = questions[count == 1], first[count == 1]
    questions["owner"] = owners["owner"][first]
    job.spill("questions", QUESTION).write(questions, questions["owner"])
    return report


# --- customers --------------------------------------------------------------------------------------------------


def answer_customers(job: Job, partition: int) -> Report:
    """Fill request rows and inputs of a partition's questions; answer them, or send them to the first link grain."""
    table, report = table_of(job), Report()
    with report.time("order"):
        events, refused, report.repeated = cleaned(job.spill("events", EVENT).read(partition))
        report.refuse("events", refused)
        for grain in table.link_grains:
            _send_to_entities(job, grain, events)
        questions = job.spill("questions", QUESTION).read(partition)
        questions, bound_ms, before_row, refused = _placed(questions, events)
        report.refuse("questions", refused)
        logs = Logs(events, job.keeping)
        begins, ends = logs.seen_by(questions["owner"], bound_ms, before_row)
        order = np.lexsort((ends, begins, questions["owner"]))
    inputs = _inputs_of(job, table, partition)
    for chosen in chunks(begins, ends, order, CHUNK, RECORDS):
        asked = questions[chosen]
        with report.time("logs"):
            words, starts, stops = logs.words(begins[chosen], ends[chosen])
        with report.time("inputs"):
            rows, numbers, answerable, refused = inputs.fill(asked, words, starts, stops, bound_ms[chosen])
        report.refuse("questions", refused)
        if not answerable.all():
            rows, numbers, asked = rows[answerable], numbers[answerable], asked[answerable]
            starts, stops, chosen = starts[answerable], stops[answerable], chosen[answerable]
        if table.link_grains:
            with report.time("spill"):
                _send_on(job, table, CUSTOMER, _waiting(asked, rows, numbers, bound_ms[chosen], before_row[chosen]))
        else:
            _answer(job, table, report, asked["row"], _Seen(words, starts, stops, rows), numbers)
    return report


def _inputs_of(job: Job, table: Table, partition: int) -> Inputs:
    return Inputs(
        job.spill("snapshots", SNAPSHOT).read(partition), job.spill("values", VALUE).read(partition), table.zone,
        job.reservation_timeout_ms, table.attributes, job.sources.facilities is not None,
    )  # fmt: skip


def _waiting(asked: Records, rows: Records, numbers: Records, bound_ms: Records, before_row: Records) -> Records:
    """Questions as they go from grain to grain."""
    waiting = np.zeros(len(asked), work_dtype(numbers.shape[1]))
    for name in ("row", "owner", *(f"{grain}_link" for grain in LINK_GRAINS)):
        waiting[name] = asked[name]
    waiting["recorded_at_ms"], waiting["before_row"] = bound_ms, before_row
    waiting["words"], waiting["numbers"] = rows, numbers
    return waiting


class _Seen(NamedTuple):
    """What the kernel is told of questions: `words[starts:ends]` and the request rows."""

    words: Records
    starts: Records
    ends: Records
    rows: Records


def _answer(job: Job, table: Table, report: Report, rows: Records, seen: _Seen, numbers: Records) -> None:
    """Compute the customer's plan behind the numbers known so far, and tell the features asked for."""
    with report.time("kernel"):
        wide = np.full((len(rows), table.width), np.nan)
        wide[:, : numbers.shape[1]] = numbers
        table.plans[CUSTOMER].compute_many(
            seen.words, seen.starts, seen.ends, np.ascontiguousarray(seen.rows), wide
        )  # fmt: skip
    with report.time("write"):
        answers = np.zeros(len(rows), job.answers.dtype)
        answers["row"], answers["values"] = rows, wide[:, table.gather]
        job.answers.write_sparse(answers, (rows - 1) // job.rows_per_group)


def _placed(questions: Records, events: Records) -> tuple[Records, Records, Records, Refused]:
    """Questions with what their own events say, and their places in recorded order: before `(bound_ms, before_row)`."""
    found = find(events["owner"], events["event"], questions["owner"], questions["event"])
    own = questions["event"] != 0
    missing = own & (found < 0)
    refused: Refused = [(int(row), "event_id", "no such event of this customer") for row in questions["row"][missing]]
    questions, found, own = questions[~missing], found[~missing], own[~missing]
    if own.any():
        _take_from_events(questions, events[np.maximum(found, 0)], own)
        event = events[np.maximum(found, 0)]
        bound_ms = np.where(own, event["recorded_at_ms"], questions["at_ms"])
        return questions, bound_ms, np.where(own, event["row"], _LAST_ROW), refused
    return questions, questions["at_ms"].copy(), np.full(len(questions), _LAST_ROW), refused


def _take_from_events(questions: Records, events: Records, own: Records) -> None:
    """Fill what a question does not say from the event it is the decision of."""
    record = np.ascontiguousarray(events["words"]).view(RECORD)[:, 0]
    party = np.where(record["flags"] & (FLAG_LOAN | FLAG_SETTLES) == 0, record["counterparty"], 0)
    placed = record["flags"] & FLAG_PLACE
    for field_, absent, value in (
        ("at_ms", ABSENT, record["occurred_at_ms"]), ("amount", -1, record["amount_minor"]),
        ("currency", -1, events["currency"]), ("facility", 0, record["facility"]), ("code", 0, record["code"]),
        ("channel", 0, record["channel"]),
    ):  # fmt: skip
        questions[field_] = np.where(own & (questions[field_] == absent), value, questions[field_])
    for link, key, value in (("device_link", "device", record["device"]), ("payee_link", "party", party)):
        take = own & (questions[link] == 0)
        questions[key] = np.where(take, value, questions[key])
    for grain in LINK_GRAINS:
        link = f"{grain}_link"
        questions[link] = np.where(own & (questions[link] == 0), events[link], questions[link])
    take = own & (questions["placed"] == 0) & (placed != 0)
    for name, value in (("lat_e6", record["lat_e6"]), ("lon_e6", record["lon_e6"]), ("accuracy", record["flags"] >> 4)):
        questions[name] = np.where(take, value, questions[name])
    questions["placed"] |= take.astype(np.uint8)


def _send_to_entities(job: Job, grain: str, events: Records) -> None:
    """Put a customer's events into the logs of the entities of one grain that they name."""
    which, entities = known_entities(events, f"{grain}_link")
    entering = np.zeros(len(which), ENTITY_EVENT)
    entering["owner"] = entities
    for name in ("recorded_at_ms", "row", "words"):
        entering[name] = events[name][which]
    entering["words"][:, 6] = events["owner"][which].view(np.int64)
    job.spill(f"events-{grain}", ENTITY_EVENT).write(entering, entering["owner"])


# --- links ------------------------------------------------------------------------------------------------------


def _send_on(job: Job, table: Table, grain: str, waiting: Records) -> None:
    """Hand questions to the grain after this one: by entity, or by customer after the last."""
    links = table.link_grains
    following = links[0] if grain == CUSTOMER else (*links, CUSTOMER)[links.index(grain) + 1]
    spill = job.spill(f"work-{following}", waiting.dtype)
    if following == CUSTOMER:
        spill.write(waiting, waiting["owner"])
    else:  # one that names no entity has nothing to look up anywhere: any partition will do
        link = waiting[f"{following}_link"]
        spill.write(waiting, np.where(link == 0, waiting["owner"], link))


def follow_links(job: Job, grain: str, partition: int) -> Report:
    """Compute the features of one link grain for the questions that name one of a partition's entities."""
    table, report = table_of(job), Report()
    spill = job.spill(f"work-{grain}", work_dtype(table.width_before(grain)))
    with report.time("order"):
        waiting = spill.read(partition)
        events = in_order(job.spill(f"events-{grain}", ENTITY_EVENT).read(partition))
        events = taken_by_entities(events, job.links_max)
        logs = Logs(events, Keeping.of_entities(job.links_max), 1 + LINK_GRAINS.index(grain))
        entity = waiting[f"{grain}_link"]
        begins, ends = logs.seen_by(entity, waiting["recorded_at_ms"].copy(), waiting["before_row"].copy())
        order = np.lexsort((ends, begins, entity))
    for chosen in chunks(begins, ends, order, CHUNK, RECORDS):
        with report.time("kernel"):
            onwards = _followed(table, grain, logs, waiting[chosen], begins[chosen], ends[chosen])
        with report.time("spill"):
            _send_on(job, table, grain, onwards)
    spill.drop(partition)
    return report


def _followed(table: Table, grain: str, logs: Logs, waiting: Records, begins: Records, ends: Records) -> Records:
    """The questions with the numbers of one more grain; null where none of its entities is named."""
    before, plan = table.width_before(grain), table.plans[grain]
    onwards = np.zeros(len(waiting), work_dtype(before + len(plan.names)))
    for name in waiting.dtype.names or ():
        if name != "numbers":
            onwards[name] = waiting[name]
    numbers = np.full((len(waiting), before + len(plan.names)), np.nan)
    numbers[:, :before] = waiting["numbers"]
    named = np.flatnonzero(waiting[f"{grain}_link"])
    if len(named):
        words, starts, stops = logs.words(begins[named], ends[named])
        computed = np.ascontiguousarray(numbers[named])
        plan.compute_many(words, starts, stops, np.ascontiguousarray(waiting["words"][named]), computed)
        numbers[named] = computed
    onwards["numbers"] = numbers
    return onwards


def finish(job: Job, partition: int) -> Report:
    """Compute the customer's plan for questions that have been to every link grain."""
    table, report = table_of(job), Report()
    spill = job.spill(f"work-{CUSTOMER}", work_dtype(table.width_before(CUSTOMER)))
    with report.time("order"):
        waiting = spill.read(partition)
        events, _, _ = cleaned(job.spill("events", EVENT).read(partition))
        logs = Logs(events, job.keeping)
        begins, ends = logs.seen_by(waiting["owner"], waiting["recorded_at_ms"].copy(), waiting["before_row"].copy())
        order = np.lexsort((ends, begins, waiting["owner"]))
    for chosen in chunks(begins, ends, order, CHUNK, RECORDS):
        asked = waiting[chosen]
        with report.time("logs"):
            seen = _Seen(*logs.words(begins[chosen], ends[chosen]), asked["words"])
        _answer(job, table, report, asked["row"], seen, asked["numbers"])
    spill.drop(partition)
    return report


assert tuple(ENTITY_COLUMNS) == LINK_GRAINS
