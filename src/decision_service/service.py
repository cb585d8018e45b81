"""The service: read, decide, commit.

    decide   turn -> [ read -> decide -> commit ] -> answer
                       ^ the version moved: read again, decide again, inside the deadline

No two changes of a customer ever miss each other: not of two requests, two workers or two hosts, for every commit is
conditional on the version that was read. A commit whose reply was lost is asked for again by id, never decided again.

There is an answer by the deadline, whatever hangs. While nothing was sent to be committed under this decision id, a
store that fails or is slow leads to the *static* answer (`core/fallback.py`), durable in the journal of this host
before it is told, and delivered later. What the journal needs for that is kept free:

    arrived ├── turn, read, decide ──────────────┤ journal ├ deadline
                           commit ├──── until the deadline ┤      once it is sent, nothing else may be answered

So a commit that is sent has the time up to the deadline; then its outcome is unknown (503), and asking again with the
same request_id finds out. An answer that can be made in no way is an error (503) and no decision. `journal/__init__.py`
says who may tell what when several workers decide one request at once.

A request that is cancelled (its caller hung up) leaves nothing half done at any await: a commit is one command, whose
mark as sent stays if its reply is not waited for; a row of the journal is whole or not there; links of the commit wait
in the store; the turn is passed on. Asking again gets the answer there is.

Instants of `monotonic` in seconds bound the work (timers run on the loop's clock); instants in ms UTC come from
`now_ms`, the clock of decisions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Final

import orjson

from decision_service.afterwards import Afterwards, Done
from decision_service.answer import Answer, answer_bytes
from decision_service.core.decide import current_facility, decide
from decision_service.core.decision import Decision
from decision_service.core.errors import (
    DeadlineExceeded,
    Draining,
    InvalidInput,
    JournalUnavailable,
    OutcomeUnknown,
    RequestIdReused,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    StoreUnsafe,
    VersionMoved,
)
from decision_service.core.limits import COMMIT_ATTEMPTS_MAX
from decision_service.core.links import Links, customer_key, log_names, names_wanted, pack_links
from decision_service.core.policy import Policy
from decision_service.core.request import DRAWDOWN_SCENE, DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.decision_log import answer_in, check_whole, encode, fingerprint_of
from decision_service.decision_records import change_records, drawdown_record, left_in
from decision_service.journal import Journal, SentTable
from decision_service.journal.delivery import Delivery
from decision_service.kept import InShadow, KeptDecisions
from decision_service.linker import Linker
from decision_service.long_ago import DecidedLongAgo, LongAgo
from decision_service.policies.active_policy import ActivePolicy
from decision_service.recording import Retention
from decision_service.scorecards.shadows import shadow_scores
from decision_service.shadow_policy.keeping import ShadowPolicy
from decision_service.snapshots import refuse_facility
from decision_service.static_answers import StaticAnswers, ToldMeanwhile
from decision_service.store import Commit, Store
from decision_service.store.keys import decision_id_of
from decision_service.telemetry import Meters
from decision_service.turns import Turns

if TYPE_CHECKING:
    from decision_service.archive.archived_decisions import ArchivedDecisions

LOG = logging.getLogger("decision_service.service")
READ_TIMEOUT_S: Final = 2.0  # of calls that no money waits for
LINKS_GRACE_S: Final = 0.001  # that entity logs may come after the customer, whatever the budget
ASK_PAUSE_S: Final = (0.002, 0.1)  # first and longest pause between asking what became of a commit
NOTHING_WRITTEN: Final = (
    VersionMoved, StoreUnavailable, StoreDamaged, StoreUnsafe, DeadlineExceeded, JournalUnavailable,
)  # fmt: skip
"""What a commit raises that has not happened."""


class DecisionService:
    """Decisions on drawdowns and reviews. What else is known and asked of customers is in `customers.py`."""

    def __init__(
        self, store: Store, active: ActivePolicy, meters: Meters, partitions: int, retention: Retention,
        linker: Linker, links_budget_ms: int, now_ms: Callable[[], int], afterwards: Afterwards | None = None,
        journal: Journal | None = None, sent: SentTable | None = None,
        monotonic: Callable[[], float] = perf_counter, shadow: ShadowPolicy | None = None,
        archived: ArchivedDecisions | None = None,
    ) -> None:  # fmt: skip
        """`afterwards` and `shadow` get every decision that was committed. Without `journal` and `sent` there are no
        static answers. `monotonic` is the clock that deadlines and `arrived` are told by. `archived` has the decisions
        that the store keeps no more."""
        self.now_ms = now_ms
        self.draining = False
        self._store = store
        self._active = active
        self._retention = retention
        self._meters = meters
        self._partitions = partitions
        self._linker = linker
        self._links_budget_s = links_budget_ms / 1000
        self._afterwards = afterwards or Afterwards(meters)
        self._shadow = shadow
        self._turns = Turns()
        self._clock = monotonic
        self._long_ago = LongAgo(archived, now_ms, monotonic)
        self.kept = KeptDecisions(store, active, archived, READ_TIMEOUT_S, self._journalled)
        self._static: StaticAnswers | None = None
        if journal is not None and sent is not None:
            self.keep_journal(journal, sent)

    def keep_journal(self, journal: Journal, sent: SentTable) -> Delivery:
        """Give static answers from now on; what delivers them."""
        delivery = Delivery(
            self._store, journal, sent, self._linker, self._retention, self._meters, self.now_ms
        )  # fmt: skip
        self._static = StaticAnswers(journal, sent, delivery, self._active, self._meters, self.now_ms, self._clock)
        return delivery

    async def decide(self, request: DecisionRequest, budget_ms: int, arrived: float) -> Answer:
        """The one decision on a request. `arrived` is the instant of `monotonic` the call came in.

        InvalidInput, RequestIdReused, DeadlineExceeded, StoreError, JournalUnavailable, Draining.
        """
        if self.draining:
            raise Draining("shutting down: ask another worker")
        if request.facility is not None:
            request = self._with_past_snapshot(request)
        deadline = arrived + budget_ms / 1000
        decision_id = decision_id_of(request.customer_id, request.request_id, self._partitions)
        static = self._static
        until = deadline
        try:
            if static is not None:
                until -= static.needs_s(deadline - self._clock())
                if static.pending:
                    answer = static.told_before(request, decision_id)
                    if answer is not None:
                        return answer
            if not self._turns.take(request.customer_id):
                await self._turns.wait(request.customer_id, self._loop_time(until))
            try:
                return await self._decide_in_turn(request, decision_id, arrived, deadline, until)
            finally:
                self._turns.leave(request.customer_id)
        except OutcomeUnknown as error:
            return await self._ask_again(request, decision_id, deadline, error)
        except DecidedLongAgo:
            return self._seen(await self._long_ago.answer(request, decision_id, deadline))
        except (StoreError, DeadlineExceeded) as error:
            if isinstance(error, StoreError):
                self._meters.count_store_error(error.code)
            if static is None:
                raise
            return await static.answer(request, decision_id, arrived, deadline, error)

    def _loop_time(self, instant: float) -> float:
        """An instant of `monotonic` on the loop's clock, which timers need."""
        return asyncio.get_running_loop().time() + instant - self._clock()

    async def _decide_in_turn(
        self, request: DecisionRequest, decision_id: str, arrived: float, deadline: float, until: float
    ) -> Answer:
        """Read, decide, commit; again while the customer changes in between. Nothing is begun after `until`; a commit
        that is sent is waited for until the deadline.

        All rounds use the policy that was in force when the first began: its rules say which entity logs are read, and
        what one policy asked for another must not judge.
        """
        clock = self._clock
        policy = self._active.current
        links: Links | None = None
        for _ in range(COMMIT_ATTEMPTS_MAX):
            if self._static is not None and self._static.pending:
                await self._static.deliver_rows_of(request.customer_id, until)
            began = clock()
            state = await self._read(request, decision_id, time_left(until - clock()), links, policy)
            links, read_s = state.links, clock() - began
            if state.decision is not None:
                return self._replay(state.decision, request, decision_id)
            if left_in(state.log, request, decision_id):
                raise DecidedLongAgo
            if request.is_review:
                told_long_ago = await self._long_ago.review(request, decision_id, until - clock())
                if told_long_ago is not None:
                    return self._seen(told_long_ago)
            if request.facility is not None and request.facility_id not in state.facilities:
                await self._own_facility(request, state, policy, until - clock())
            decision, answer, frame, evaluated_s = self._evaluate(request, state, decision_id, arrived, policy)
            commit = self._commit(request, state, decision, frame)
            time_left(until - clock())
            began = clock()
            try:
                if self._static is not None and decision.approved_minor:
                    self._static.sent.mark_approval(decision.customer_id, decision.decided_at_ms)
                await self._send(commit, request, decision_id, deadline)
            except VersionMoved:
                continue
            except ToldMeanwhile as told:
                return told.answer
            self._linker.take(commit)
            if self._static is not None and self._static.answering:
                self._static.decided()
            self._active.keep(request, state, decision)
            assert decision.trace is not None
            self._afterwards.put(Done(decision, decision.scene, decision.trace.numbers, policy))
            if self._shadow is not None:
                self._shadow.put(request, state, decision, policy)
            self._meters.count_reasons(decision.reasons)
            features_s, score_s, rules_s, serialise_s = evaluated_s
            stages_s = read_s, features_s, score_s, rules_s, clock() - began, serialise_s
            return Answer(answer, False, decision_id, decision.decision, decision.rung, decision.scene, stages_s)
        raise DeadlineExceeded("this customer is being changed by too many callers at once")

    async def _send(self, commit: Commit, request: DecisionRequest, decision_id: str, deadline: float) -> None:
        """Commit, having marked the id as sent; the mark goes if the store says that nothing was written.

        VersionMoved, StoreUnavailable, StoreDamaged, StoreUnsafe, OutcomeUnknown; ToldMeanwhile.
        """
        static = self._static
        if static is None:
            await self._store.commit(commit, time_left(deadline - self._clock()))
            return
        mine = static.sent.mark(decision_id)
        try:
            if static.pending:
                static.refuse_told_meanwhile(request, decision_id, mine)
            await self._store.commit(commit, time_left(deadline - self._clock()))
        except NOTHING_WRITTEN:
            if mine:
                static.sent.unmark(decision_id)
            raise

    async def _read(
        self, request: DecisionRequest, decision_id: str, left_s: float, links: Links | None, policy: Policy
    ) -> CustomerState:
        """The customer, and at the same time the logs of those entities that the policy looks at, unless they are read
        already. What of them is late or failed is None: not there `links_budget_ms` after it was asked for and a moment
        after the customer came (on a busy machine both are slow, and giving up early would gain nothing), or not within
        half of the time there is."""
        scene = policy.scenes.get(request.scene)  # without one a stored answer is still found
        names = () if links is not None or scene is None else names_wanted(request, scene.link_grains)
        if not names:
            state = await self._store.read(request.customer_id, decision_id, left_s)
            return state if links is None else state.with_links(links)
        clock = self._clock
        until = clock() + self._links_budget_s
        reads = self._store.read_links(names, left_s / 2)
        try:
            state = await self._store.read(request.customer_id, decision_id, left_s)
        except BaseException:
            reads.drop()
            raise
        if state.decision is not None:
            reads.drop()
            return state
        links = await reads.logs(max(until - clock(), LINKS_GRACE_S))
        for grain in reads.missed(links):
            self._meters.count_link_missed(grain)
        return state.with_links(links)

    async def preview(self, request: DecisionRequest, arrived: float) -> bytes:
        """The answer the real call would give now, with its trace and what shadows score at once; records nothing. No
        money waits for it, so the request's deadline does not bound it."""
        decision_id = decision_id_of(request.customer_id, request.request_id, self._partitions)
        request = self._with_past_snapshot(request)
        policy = self._active.current
        state = await self._read(request, decision_id, READ_TIMEOUT_S, None, policy)
        if state.decision is not None:
            self._refuse_other_content(state.decision, request)
            return await self.kept.explained(state.decision, await self.kept.said_in_shadow(decision_id))
        decision, _, frame, _ = self._evaluate(request, state, decision_id, arrived, policy)
        assert decision.trace is not None
        scores = shadow_scores(policy.scenes[decision.scene], [decision.trace.numbers])
        return await self.kept.explained(frame, InShadow(scores[0]))

    async def decision(self, decision_id: str) -> bytes:
        """A decision with its full trace, wherever it is kept. NotFound, Erased, StoreError, ArchiveUnavailable."""
        return (await self.kept.decision(decision_id)).body

    def _journalled(self, decision_id: str) -> bytes | None:
        """The frame of a decision that waits in the journal of this host."""
        return None if self._static is None else self._static.frame(decision_id)

    def _with_past_snapshot(self, request: DecisionRequest) -> DecisionRequest:
        """A snapshot is of now at the latest: one dated ahead would hide what is booked until then."""
        sent, now_ms = request.facility, self.now_ms()
        if sent is None or sent.as_of_ms <= now_ms:
            return request
        return replace(request, facility=replace(sent, as_of_ms=now_ms))

    def _evaluate(
        self, request: DecisionRequest, state: CustomerState, decision_id: str, arrived: float, policy: Policy
    ) -> tuple[Decision, bytes, bytes, tuple[float, float, float, float]]:
        """The pure decision, its answer, the frame that records both, and the seconds of features, score, rules,
        serialise."""
        clock = self._clock
        marks = [clock()]
        decision = decide(request, state, policy, self.now_ms(), decision_id, lambda _stage: marks.append(clock()))
        began, _, features, score, rules = marks
        assert decision.trace is not None
        for part in policy.scenes[decision.scene].went_wrong(decision.trace):
            self._meters.count_rule_wrong(decision.scene, part)
        answer = answer_bytes(decision, int((rules - arrived) * 1e6), policy.zone.offset_at(decision.decided_at_ms))
        stages_us = {
            "arrival_to_decide": round((began - arrived) * 1e6),
            "features": round((features - began) * 1e6),
            "score": round((score - features) * 1e6),
            "rules": round((rules - score) * 1e6),
        }
        frame = encode(decision, decision.trace, request, answer, stages_us)
        return decision, answer, frame, (features - began, score - features, rules - score, clock() - rules)

    def _commit(self, request: DecisionRequest, state: CustomerState, decision: Decision, frame: bytes) -> Commit:
        """The one atomic change that a decision is: log records, facility snapshot, frame, links.

        A review is no drawdown: it leaves only what it changed, and nothing at the entities that it names.
        """
        t_ms = decision.decided_at_ms if request.occurred_at_ms is None else request.occurred_at_ms
        review = request.is_review
        record = b"" if review else drawdown_record(request, decision, t_ms)
        names = () if review else log_names(request.device_id, request.counterparty_id, request.ip)
        records = record + change_records(decision, t_ms)
        sent = request.facility
        newer = sent is not None and current_facility(request, state) is sent
        return Commit(
            request.customer_id, state.version, records=records,
            trimmed_log=self._retention.trimmed(state.log, records) if records else None,
            facilities={request.facility_id: sent} if sent is not None and newer else {},
            decision=(decision.decision_id, frame),
            links=(self._linker.new_id(), pack_links(names, record, customer_key(request.customer_id)))
            if names
            else (b"", b""),
        )  # fmt: skip

    def _replay(self, frame: bytes, request: DecisionRequest, decision_id: str) -> Answer:
        """The stored answer, byte for byte. RequestIdReused if the content is another; OutcomeUnknown if the frame is
        damaged: what was decided is not known, and nothing else may be said."""
        try:
            check_whole(frame)
        except ValueError as error:
            LOG.error("the frame of decision %s cannot be told: %s", decision_id, error)
            raise OutcomeUnknown("the stored decision is damaged") from None
        self._refuse_other_content(frame, request)
        answer = answer_in(frame)
        head = orjson.loads(answer)
        return self._seen(
            Answer(answer, True, decision_id, head["decision"], head["rung"], head.get("scene", DRAWDOWN_SCENE))
        )

    def _seen(self, answer: Answer) -> Answer:
        """A stored answer; that there is one is remembered: no other may be made up while the store is away."""
        if self._static is not None:
            self._static.sent.mark(answer.decision_id)
        return answer

    @staticmethod
    def _refuse_other_content(frame: bytes, request: DecisionRequest) -> None:
        known = fingerprint_of(frame)  # nothing of a decision that `reconcile` put back: its request is not known
        if known and known != request.fingerprint:
            raise RequestIdReused("this request_id was already used with other content")

    async def _own_facility(
        self, request: DecisionRequest, state: CustomerState, policy: Policy, left_s: float
    ) -> None:
        """A facility first seen in this request is claimed for its customer before anything is lent on it; nothing is
        for a question that cannot be judged."""
        policy.scenes[request.scene]
        refuse_facility(request.facility_id, state.facilities)
        try:
            owner = await self._store.claim_facility(request.facility_id, request.customer_id, time_left(left_s))
        except OutcomeUnknown as error:  # a claim may be made again, and is no decision
            raise StoreUnavailable(error.message) from None
        if owner != request.customer_id:
            raise InvalidInput("facility_id", "belongs to another customer")

    async def _ask_again(
        self, request: DecisionRequest, decision_id: str, deadline: float, lost: OutcomeUnknown
    ) -> Answer:
        """After a lost reply: the stored answer if the commit turns out to have happened before the deadline; else the
        outcome stays unknown, for the commit may still be on its way."""
        self._meters.count_store_error(lost.code)
        pause_s, longest_s = ASK_PAUSE_S
        while (left_s := deadline - self._clock()) > 0:
            with suppress(StoreError):
                frame = await self._store.read_decision(decision_id, left_s)
                if frame is not None:
                    return self._replay(frame, request, decision_id)
            await asyncio.sleep(max(0.0, min(pause_s, deadline - self._clock())))
            pause_s = min(2 * pause_s, longest_s)
        raise lost


def time_left(left_s: float) -> float:
    """The time left for the next store call; DeadlineExceeded, before anything is sent, if there is none."""
    if left_s <= 0:
        raise DeadlineExceeded("the deadline passed; nothing was decided")
    return left_s
