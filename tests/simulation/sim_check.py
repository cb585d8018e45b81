"""The invariants I1 to I12 over a history that is over.

    I1   one question, one answer: equal bytes for the same content, RequestIdReused for other content. A static answer
         may differ from the stored one only where its host could not know: another host was asked as well, or the marks
         of what it sent went with the power; and then the difference is among the conflicts of that host's journal
    I2   what is lent never passes the limit: judged after every commit that lends, by adding up the log's records. A
         static approval is bounded by itself: a small amount, and nothing was approved by its host before; where there
         is only one host, also by the limit. And no decision is sent while its host has told an approval that the
         store does not know (`sim_worker.py`)
    I3   every answer told is stored, byte for byte; every stored decision stands once in the outbox and once in the log
    I4   every decision is made again from its frame and the prefix of the log that it saw: same answer, verdicts, rest
    I5   every answer and frame names a policy that was in force
    I6   (who signed a policy) is not of this world: one policy is never published here. `tests/fleet` has it.
    I7   unknown is never approve: what could not be read or scored holds
    I8   every caller has an answer or an error by its deadline, unless the worker died or stood still
    I9   features in the frame are those computed again from the log: the numbers of I4
    I10  every accepted event is in the log exactly once, however often it was posted
    I11  no reservation outlives its settlement or its time-out
    I12  frames are whole, and each says where in the log its own record stands. (The hash chain of the audit is not
         built yet.)

What the profile `fast` admits to lose with the power (`Server.forgotten`) is no violation; what was decided under such
an id is left out of I1, I3 and I4.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

import orjson
from sim_history import Attempt, History
from sim_policy import LIMIT_MINOR, RESERVATION_MS, SMALL_MINOR, policies
from sim_worker import PARTITIONS

from decision_service.answer import Answer, answer_bytes
from decision_service.api.instants import parse_instant
from decision_service.core.decide import decide
from decision_service.core.errors import InvalidInput, OutcomeUnknown, RequestIdReused
from decision_service.core.event import (
    APPROVED,
    BOOKED,
    DRAWDOWN,
    REPAYMENT,
    Event,
    drawdown_key,
    facility_key,
    unpack,
    words_of,
)
from decision_service.core.facility import Facility
from decision_service.core.fallback import NOTHING_SEEN, decide_static
from decision_service.core.ledger import position_of
from decision_service.core.limits import DAY_MS, RECORD_BYTES
from decision_service.core.links import EMPTY_ENTITY_LOGS, NO_LINKS, Links, log_name
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.decision_log import Frame, answer_in, decode, encode, fingerprint_of
from decision_service.store import Commit

LATE_S: Final = 0.005  # that an answer may come after its deadline
TIME_ENOUGH_MS: Final = 10  # in which a static answer can be made beside everything that was tried before


class Violations(AssertionError):
    """What a history broke; the message names the seed."""

    def __init__(self, seed: int, found: list[str]) -> None:
        told = "\n  ".join(found)
        super().__init__(f"seed {seed}:\n  {told}\nfor its steps: python tests/simulation/run.py --seed {seed} --trace")
        self.found = found


def check(history: History, thorough: bool = True) -> None:
    """Raise Violations if a history broke anything. `thorough`: I4 and I9 too, which cost a second decision each."""
    found = list(violations(history, thorough))
    if found:
        raise Violations(history.seed, found)


def violations(history: History, thorough: bool = True) -> Iterator[str]:
    """What a history broke, in words."""
    record = Record(history)
    yield from history.world.bugs
    yield from _answers(record)
    yield from _lending(record)
    yield from _stored(record)
    yield from _deadlines(history)
    yield from _always_answered(history)
    yield from _events(record)
    yield from _recovery(history)
    if thorough:
        yield from _again(record)


class Record:
    """What is left of a history, arranged."""

    def __init__(self, history: History) -> None:
        self.history = history
        memory = history.server.memory
        self.frames = memory._decisions
        self.customers = memory._customers
        self.entities = memory._entities
        self.outbox = {partition: memory.outbox(partition) for partition in range(PARTITIONS)}
        self.states: dict[str, dict[int, CustomerState]] = defaultdict(lambda: {0: CustomerState()})
        for _, commit, state in history.server.commits:
            self.states[commit.customer_id][state.version] = state
        self.forgotten = {c.decision[0] for c in history.server.forgotten if c.decision is not None}
        self.told = [a for a in history.attempts if isinstance(a.result, Answer)]
        self.requests: dict[bytes, DecisionRequest] = {a.request.fingerprint: a.request for a in history.attempts}
        self.decoded: dict[str, Frame] = {}

    def frame(self, decision_id: str) -> Frame:
        """A stored decision, taken apart."""
        if decision_id not in self.decoded:
            self.decoded[decision_id] = decode(self.frames[decision_id])
        return self.decoded[decision_id]


def _answer_of(attempt: Attempt) -> Answer:
    assert isinstance(attempt.result, Answer)
    return attempt.result


def _answers(record: Record) -> Iterator[str]:
    """I1, and I3 as seen by those who were told."""
    fresh: Counter[bytes] = Counter()
    for attempt in record.told:
        answer = _answer_of(attempt)
        if answer.decision_id in record.forgotten:
            continue
        fresh[answer.body] += not answer.replayed and answer.rung != "static"
        stored = record.frames.get(answer.decision_id)
        if stored is None:
            yield f"I3 attempt {attempt.number} was told a decision that is not stored"
        elif answer_in(stored) != answer.body or fingerprint_of(stored) != attempt.request.fingerprint:
            yield from _contradicted(record, attempt, answer)
    yield from (f"I1 one decision was made {n} times: {body!r}" for body, n in fresh.items() if n > 1)


def _contradicted(record: Record, attempt: Attempt, answer: Answer) -> Iterator[str]:
    """A caller was told something else than is stored. That may be only where this host could not know better: another
    host was asked the same, or the marks of what was sent went with the power. And it must have been noticed."""
    host = next(host for host in record.history.hosts if host.name == attempt.host)
    noticed = [c for c in host.disk.journal.kept if c.decision_id == answer.decision_id]
    said = (answer.body, attempt.request.fingerprint)
    if said not in [(answer_in(c.frame), fingerprint_of(c.frame)) for c in noticed]:
        yield f"I1 attempt {attempt.number} was told something else than is stored, and nobody noticed"
    if not record.history.static:
        yield f"I1 attempt {attempt.number} was told something else than is stored, without static answers"
    asked_at = {a.host for a in record.history.attempts if a.question == attempt.question and not a.probe}
    if len(asked_at) == 1 and not host.disk.marks_lost:
        yield f"I1 attempt {attempt.number} was told something else than is stored, by the only host that was asked"


def _stored(record: Record) -> Iterator[str]:
    """I3, I5, I7, I12 of every stored decision."""
    entries = [entry for some in record.outbox.values() for entry in some]
    told = Counter(entry[b"id"].decode() for entry in entries if entry[b"kind"] == b"decision")
    if told != Counter(record.frames.keys()):
        yield f"I3 outbox and decisions differ: {told} and {sorted(record.frames)}"
    for decision_id in record.frames:
        try:
            frame = record.frame(decision_id)
        except ValueError as error:
            yield f"I12 {decision_id}: {error}"
            continue
        answer = orjson.loads(frame.answer)
        if answer["decision_id"] != decision_id or frame.fingerprint not in record.requests:
            yield f"I3 {decision_id} answers a question that nobody asked"
        if not {answer["policy"]["id"], frame.rest["policy_id"]} <= record.history.policy_ids:
            yield f"I5 {decision_id} names a policy that never was"
        yield from _own_record(record, decision_id, frame, answer)


def _own_record(record: Record, decision_id: str, frame: Frame, answer: dict[str, Any]) -> Iterator[str]:
    """The drawdown's record stands in the log, right behind what the decision saw, and says the same."""
    state = record.customers[frame.rest["customer_id"]]
    if answer["rung"] == "static":
        at = _place_of(state.log, drawdown_key(decision_id))
        if frame.rest["seq"] != -1:
            yield f"I12 {decision_id} saw nothing and says otherwise"
    else:
        seen = record.states[answer["customer_id"]].get(frame.rest["version"])
        if seen is None or not state.log.startswith(seen.log):
            yield f"I4 what {decision_id} saw is no prefix of the log"
            return
        at = len(seen.log)
        if frame.rest["seq"] != at // RECORD_BYTES - 2:
            yield f"I12 {decision_id} does not stand in the log where its frame says"
    event = unpack(state.log[at : at + RECORD_BYTES])
    if event.key != drawdown_key(decision_id):
        yield f"I12 {decision_id} does not stand in the log where it should"
    approved_minor = round(answer["approved_amount"] * 100)
    if (event.status == APPROVED) != (approved_minor > 0) or (approved_minor and event.amount_minor != approved_minor):
        yield f"I3 the log and the frame of {decision_id} differ"
    yield from _not_known(record.requests[frame.fingerprint], decision_id, answer)


def _place_of(log: bytes, key: int) -> int:
    """Where the record with a key begins; the last one if there is none."""
    keys = words_of(log)[1:, 1].view("u8").tolist()
    return RECORD_BYTES * (1 + keys.index(key) if key in keys else len(keys))


def _not_known(request: DecisionRequest, decision_id: str, answer: dict[str, Any]) -> Iterator[str]:
    """I7: below the full rung nothing is approved, but for small amounts of a clean line that the request shows."""
    if answer["decision"] == "hold" or answer["rung"] == "full":
        return
    small = answer["rung"] == "static" and request.facility is not None and request.amount_minor <= SMALL_MINOR
    if not small or round(answer["approved_amount"] * 100) != request.amount_minor:
        yield f"I7 {decision_id} approved though its rung is {answer['rung']}"


# --- lending --------------------------------------------------------------------------------------------------------


def _lending(record: Record) -> Iterator[str]:
    """I2 after every commit that lends; I11 at the end."""
    alone = _knows_all(record)
    for _, commit, state in record.history.server.commits:
        if commit.decision is None:
            continue
        answer = orjson.loads(answer_in(commit.decision[1]))
        static = answer["rung"] == "static"
        if answer["approved_amount"] == 0 or (static and not alone):  # `_not_known` bounds what is static
            continue
        drawn = unpack(commit.records[:RECORD_BYTES])
        facility = state.facilities[answer["facility_id"]]
        request = record.requests[fingerprint_of(commit.decision[1])]
        t_ms = drawn.decided_at_ms if request.occurred_at_ms is None else request.occurred_at_ms
        lent_minor = exposure_minor(state.log, facility, t_ms)
        if lent_minor > (LIMIT_MINOR if static else facility.limit_minor):  # one that was cut since it did not know
            yield f"I2 {commit.decision[0]} lends {lent_minor} of {facility.limit_minor}"
    yield from _small_amounts(record)
    for customer_id, state in record.customers.items():
        for facility in state.facilities.values():
            late_ms = _last_ms(state.log) + RESERVATION_MS + DAY_MS
            if position_of(facility, words_of(state.log), late_ms, RESERVATION_MS).reserved_minor:
                yield f"I11 {customer_id} still reserves money a day after the time-out"


def _knows_all(record: Record) -> bool:
    """Whether one host approved everything, and knows it: its marks are not lost, nor are its days other ones."""
    hosts = record.history.hosts
    return len(hosts) == 1 and not hosts[0].disk.marks_lost and "clock" not in record.history.faults


def _small_amounts(record: Record) -> Iterator[str]:
    """A small amount is approved without the store only to whom this host has approved nothing before: those histories
    are shorter than a day. Marks that went with the power are excused, and clocks that were set."""
    if "clock" in record.history.faults:
        return
    lost = {host.name for host in record.history.hosts if host.disk.marks_lost}
    lent = [a for a in record.told if _answer_of(a).outcome == "approve" and not _answer_of(a).replayed]
    for attempt in lent:
        if _answer_of(attempt).rung != "static" or attempt.host in lost:
            continue
        for other in lent:
            same = (other.host, other.request.customer_id) == (attempt.host, attempt.request.customer_id)
            if same and other.ended < attempt.began:
                yield f"I2 attempt {attempt.number} lends without the store what attempt {other.number} may have lent"


def _last_ms(log: bytes) -> int:
    return max((max(e.occurred_at_ms, e.decided_at_ms) for e in _events_in(log)), default=0)


def _events_in(log: bytes) -> list[Event]:
    return [unpack(log[at : at + RECORD_BYTES]) for at in range(RECORD_BYTES, len(log), RECORD_BYTES)]


def exposure_minor(log: bytes, facility: Facility, t_ms: int) -> int:
    """Outstanding and reserved of a facility, added up record by record: what `core/ledger.py` says in prose."""
    events = [e for e in _events_in(log) if e.facility == facility_key(facility.facility_id)]
    settled = sorted((e for e in events if e.kind == DRAWDOWN and e.settles), key=lambda e: e.occurred_at_ms)
    outstanding, reserved = facility.outstanding_minor, 0
    for event in events:
        if event.kind == REPAYMENT and event.status == BOOKED and event.occurred_at_ms > facility.as_of_ms:
            outstanding -= event.amount_minor
        elif event.kind == DRAWDOWN and not event.settles:
            became = [e for e in settled if e.settles == event.key]
            known = [e for e in became if e.occurred_at_ms <= facility.as_of_ms]  # when the snapshot was taken
            status = became[-1].status if became else event.status
            if status == BOOKED:
                outstanding += event.amount_minor
            elif status == APPROVED and t_ms - max(event.occurred_at_ms, event.decided_at_ms) < RESERVATION_MS:
                reserved += event.amount_minor
            if known and known[-1].status == BOOKED:
                outstanding -= event.amount_minor
    return max(outstanding, 0) + reserved


# --- time, events, recovery -----------------------------------------------------------------------------------------


def _deadlines(history: History) -> Iterator[str]:
    """I8."""
    for attempt in history.attempts:
        if attempt.stalled or attempt.cancelled:
            continue
        late_s = attempt.ended - attempt.began - attempt.budget_ms / 1_000
        if attempt.ended >= 0 and late_s > LATE_S:
            yield f"I8 attempt {attempt.number} was answered {late_s * 1e3:.1f} ms late"
        if attempt.ended < 0 and not attempt.died:
            yield f"I8 attempt {attempt.number} was never answered"


def _always_answered(history: History) -> Iterator[str]:
    """However the store is hurt, a caller with time enough gets an answer, unless something was sent whose outcome
    nobody knows. Worlds whose machines are slow, broken or stand still are left out, and questions that were asked
    twice at once: their answers wait for each other, and the time of a second write is not kept free."""
    if not history.static or history.faults & {"disk", "slow_cpu", "stall", "power", "crash"}:
        return
    asked = Counter(attempt.question for attempt in history.attempts if not attempt.probe)
    for attempt in history.attempts:
        if attempt.budget_ms < TIME_ENOUGH_MS or attempt.cancelled or asked[attempt.question] > 1:
            continue
        if not isinstance(attempt.result, Answer | InvalidInput | RequestIdReused | OutcomeUnknown):
            yield f"I8 attempt {attempt.number} got no answer in {attempt.budget_ms} ms: {attempt.result!r}"


def _events(record: Record) -> Iterator[str]:
    """I10, and that no key of a log occurs twice."""
    forgotten = {key for c in record.history.server.forgotten for key in _keys(c)}
    in_logs: dict[str, Counter[int]] = {}
    for customer_id, state in record.customers.items():
        in_logs[customer_id] = Counter(int(key) for key in words_of(state.log)[1:, 1].view("u8"))
        yield from (f"I10 {customer_id} has {key} {n} times" for key, n in in_logs[customer_id].items() if n > 1)
    for posted in record.history.posted:
        key = posted.event.event.key
        there = in_logs.get(posted.event.customer_id, Counter())[key]
        if posted.status in ("accepted", "duplicate") and there != 1 and key not in forgotten:
            yield f"I10 {posted.event.event_id} was accepted and is {there} times in the log"


def _keys(commit: Commit) -> list[int]:
    records = commit.records
    return [int.from_bytes(records[at + 8 : at + 16], "little") for at in range(0, len(records), RECORD_BYTES)]


def _recovery(history: History) -> Iterator[str]:
    """Once all faults are over every question has its answer, or the refusal that it deserves."""
    for attempt in history.attempts:
        if attempt.probe and not isinstance(attempt.result, Answer | InvalidInput | RequestIdReused):
            yield f"not recovered: attempt {attempt.number} ended with {attempt.result!r}"


# --- deciding again -------------------------------------------------------------------------------------------------


def _again(record: Record) -> Iterator[str]:
    """I4 and I9."""
    for decision_id in record.frames:
        frame = record.frame(decision_id)
        request = record.requests[frame.fingerprint]
        if frame.rest["version"] == NOTHING_SEEN:
            if not _same(record.frames[decision_id], frame, request, None):
                yield f"I4 the static {decision_id} comes out otherwise when it is made again"
            continue
        state = record.states[frame.rest["customer_id"]].get(frame.rest["version"])
        if state is None:
            continue  # told above
        if not any(
            _same(record.frames[decision_id], frame, request, state.with_links(links))
            for links in _links_seen(record, frame, request)
        ):
            yield f"I4 {decision_id} comes out otherwise when it is made again"


def _links_seen(record: Record, frame: Frame, request: DecisionRequest) -> Iterator[Links]:
    """What a decision may have seen of its device: nothing, or a prefix of its log."""
    yield NO_LINKS
    if request.device_id is not None:
        log = record.entities.get(log_name("device", request.device_id), EMPTY_ENTITY_LOGS[0])
        for end in range(RECORD_BYTES, len(log) + 1, RECORD_BYTES):
            yield Links(log[:end], None, None)


def _same(stored: bytes, frame: Frame, request: DecisionRequest, state: CustomerState | None) -> bool:
    answer = orjson.loads(frame.answer)
    policy = next(policy for policy in policies() if policy.id == frame.rest["policy_id"])
    decided_at_ms = parse_instant(answer["decided_at"])
    if state is None:
        small = answer["decision"] == "approve"
        decision = decide_static(request, policy, decided_at_ms, answer["decision_id"], small_allowed=small)
    else:
        decision = decide(request, state, policy, decided_at_ms, answer["decision_id"])
    assert decision.trace is not None
    told = answer_bytes(decision, round(answer["latency_ms"] * 1_000), policy.zone.offset_at(decided_at_ms))
    return encode(decision, decision.trace, request, told, frame.rest["stages_us"]) == stored
