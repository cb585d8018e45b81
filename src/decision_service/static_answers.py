"""Static answers: what `DecisionService` says when the store fails or the deadline is near, and how it keeps to it.

    store failed ──▶ anything sent under this id? ──yes──▶ outcome unknown, 503: the stored answer may say otherwise
                       └ no ──▶ decide_static ──▶ journal, fsync ──▶ anything sent meanwhile? ──yes──▶ doubtful, 503
                                                                        └ no ──▶ told; if it approves:
                                      anything approved meanwhile? ──yes──▶ dropped; once more, as a hold
                                         └ no ──▶ trusted, fsync ──▶ told

    while the journal holds anything, every decision looks first:
        its own row ──▶ told again, byte for byte
        rows of its customer ──▶ brought into the store before anything is decided: an amount that was approved here is
                                 seen by what is decided next

Why marks and rows exclude each other is written in `journal/__init__.py`. An answer that is not durable by the deadline
is not told (503 deadline-exceeded); its row, if it comes to be written, is the decision all the same, and a retry gets
it. If the journal fails, the failure of the store is what the caller is told (503).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NoReturn

import orjson

from decision_service.answer import Answer, answer_bytes
from decision_service.core.decision import Decision
from decision_service.core.errors import (
    DeadlineExceeded,
    DecisionServiceError,
    JournalUnavailable,
    OutcomeUnknown,
    RequestIdReused,
    VersionMoved,
)
from decision_service.core.fallback import SNAPSHOT_AGE_MAX_MS, decide_static, may_be_paid
from decision_service.core.limits import DAY_MS
from decision_service.core.links import customer_key, log_names, pack_links
from decision_service.core.policy import Policy
from decision_service.core.request import DRAWDOWN_SCENE, DecisionRequest
from decision_service.decision_log import answer_in, encode, fingerprint_of
from decision_service.decision_records import drawdown_record
from decision_service.journal import Journal, SentTable, StaticRow
from decision_service.journal.delivery import Delivery
from decision_service.journal.sent import approval_key, told_key
from decision_service.policies.active_policy import ActivePolicy
from decision_service.store.records import encode_facility
from decision_service.telemetry import Meters

LOG = logging.getLogger("decision_service.service")
CALM_S: Final = 1.0  # without a static answer, before it is said that they are over
GIVEN_UP_S: Final = 60.0  # a journal that needs as long does not work
WRITES_MAX: Final = 4  # of one answer: the second is a hold; more only if others with the same id come between


class ToldMeanwhile(Exception):
    """A static answer to this very request was told while a decision was being made: that is the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("told meanwhile")
        self.answer = answer


class StaticAnswers:
    """One worker's static answers. `sent` is for the decider to mark what it commits."""

    def __init__(
        self, journal: Journal, sent: SentTable, delivery: Delivery, active: ActivePolicy, meters: Meters,
        now_ms: Callable[[], int], monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self.sent = sent
        self._journal = journal
        self._delivery = delivery
        self._active = active
        self._meters = meters
        self._now_ms = now_ms
        self._clock = monotonic
        self._finishing: set[asyncio.Task[None]] = set()
        self.answering = 0  # static answers since decisions last came from the store
        self._last = 0.0  # when the last one was given

    @property
    def pending(self) -> int:
        """How many rows the journal holds; nothing below needs to be asked while there are none."""
        return self._journal.pending

    def needs_s(self, left_s: float) -> float:
        """How much of the time that is left must be kept for a static answer; none if it could not be made anyway.

        At least a quarter of it: a busy machine notices late that a read took too long. At most half of it; and no
        more than the quarter where a write takes longer than all the time there is: half would not do either, and the
        store makes better use of it.
        """
        write_s = self._journal.write_s
        if write_s >= GIVEN_UP_S:
            return 0.0
        return left_s / 4 if write_s > left_s else min(max(write_s, left_s / 4), left_s / 2)

    # --- what was told ------------------------------------------------------------------------------------------

    def told_before(self, request: DecisionRequest, decision_id: str) -> Answer | None:
        """The static answer that this request was, or may be, told. RequestIdReused, JournalUnavailable."""
        row = self._journal.find(decision_id)
        if row is None or row.doubtful:
            return None  # a doubtful one is settled by whoever reaches the store
        self.sent.mark(told_key(decision_id))  # before looking: whoever wrote the row may still be about to doubt it
        if self.sent.holds(decision_id):
            return None
        return self._replayed(row, request)

    def refuse_told_meanwhile(self, request: DecisionRequest, decision_id: str, mine: bool) -> None:
        """To be called when the id is marked and before the commit is sent: there must be no row. `mine`: the mark was
        made just now, so it says nothing about earlier attempts. VersionMoved if there are other rows of the customer
        that the store is not known to have; ToldMeanwhile, OutcomeUnknown, JournalUnavailable."""
        rows = self._journal.of_customer(request.customer_id)
        row = next((row for row in rows if row.decision_id == decision_id), None)
        if row is None:
            if all(self.sent.kept(other.decision_id) for other in rows):
                return
            raise VersionMoved("the customer was answered while the store was away")
        if mine:
            self.sent.unmark(decision_id)
        self.sent.mark(told_key(decision_id))
        if row.doubtful or self.sent.holds(decision_id):
            raise OutcomeUnknown("another worker is answering this request")
        raise ToldMeanwhile(self._replayed(row, request))

    def frame(self, decision_id: str) -> bytes | None:
        """The frame of a decision that is only in the journal. JournalUnavailable."""
        row = self._journal.find(decision_id) if self._journal.pending else None
        return None if row is None or row.doubtful or self.sent.holds(decision_id) else row.frame

    def _replayed(self, row: StaticRow, request: DecisionRequest) -> Answer:
        if fingerprint_of(row.frame) != request.fingerprint:
            raise RequestIdReused("this request_id was already used with other content")
        self._meters.count_journal("replayed")
        return _answer_of(row, replayed=True)

    async def deliver_rows_of(self, customer_id: str, until: float) -> None:
        """Bring a customer's rows into the store. StoreUnavailable, JournalUnavailable."""
        for row in self._journal.of_customer(customer_id):
            brought = await self._delivery.bring(row, until - self._clock())
            if brought is None:
                continue
            task = asyncio.create_task(self._delivery.finish(brought))  # the disk is not waited for
            self._finishing.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._finishing.discard(task)
        if not task.cancelled():
            task.exception()  # the row is still there, and is found to be delivered the next time

    # --- a new one ----------------------------------------------------------------------------------------------

    async def answer(
        self, request: DecisionRequest, decision_id: str, arrived: float, deadline: float, error: DecisionServiceError
    ) -> Answer:
        """The static answer to a request that could not be decided because of `error`, which is raised if the journal
        fails as well. DeadlineExceeded, OutcomeUnknown, RequestIdReused, InvalidInput, Draining."""
        left_s = deadline - self._clock()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline passed; ask again with the same request_id")
        if self.sent.holds(decision_id):
            _refuse_sent()
        try:
            async with asyncio.timeout(left_s):
                answer = await self._written(request, decision_id, arrived)
        except TimeoutError:
            self._meters.count_journal("late")
            raise DeadlineExceeded("no answer was durable in time; ask again with the same request_id") from None
        except JournalUnavailable:
            self._meters.count_journal("refused")
            raise error from None
        self._last = self._clock()
        if not self.answering:
            LOG.warning("decisions are answered without the store: %s", error.code)
        self.answering += 1
        return answer

    def decided(self) -> None:
        """Told by the decider when a decision was committed while `answering`: says so, once it is calm."""
        if self._clock() - self._last >= CALM_S:
            LOG.warning("decisions come from the store again, after %d static answers", self.answering)
            self.answering = 0

    async def _written(self, request: DecisionRequest, decision_id: str, arrived: float) -> Answer:
        policy, journal = self._active.current, self._journal
        may_be = may_be_paid(request, policy, self._now_ms())
        small_allowed = may_be and not self._approved_lately(request.customer_id)
        for _ in range(WRITES_MAX):
            decision = decide_static(request, policy, self._now_ms(), decision_id, small_allowed=small_allowed)
            row = self._row(request, decision, policy, arrived)
            written = await journal.write(row)
            if written is not None and await self._is_to_be_told(written, written.frame == row.frame):
                break
            small_allowed = False
        else:
            raise JournalUnavailable("others change the row of this request all the time")
        if written.frame != row.frame:
            return self._replayed(written, request)
        self._meters.count_journal("written")
        self._meters.count_reasons(decision.reasons)
        return _answer_of(written, replayed=False)

    async def _is_to_be_told(self, written: StaticRow, mine: bool) -> bool:
        """Whether a durable row is the answer; False if it is gone, for one that approves was dropped because of
        another approval. `mine`: this attempt wrote it. OutcomeUnknown if something was sent under its id;
        JournalUnavailable."""
        approves = written.approved_minor > 0
        if self.sent.holds(written.decision_id):
            told = not mine or self.sent.holds(told_key(written.decision_id))  # perhaps, by another
            if not approves and not told:  # one that approves is doubtful already, or was told
                await self._journal.doubt(written.decision_id)
            _refuse_sent()
        if not written.doubtful:
            return True
        if approves and (self._is_old(written) or self._approved_lately(written.customer_id)):
            await self._journal.drop(written)
            return False
        return await self._journal.trust(written)

    def _is_old(self, row: StaticRow) -> bool:
        """Whether a row was left by an attempt so long ago that its snapshot must not be paid on any more."""
        return self._now_ms() - row.written_at_ms > SNAPSHOT_AGE_MAX_MS

    def _approved_lately(self, customer_id: str) -> bool:
        """Whether this host approved money to a customer that a snapshot may not show yet."""
        now_ms = self._now_ms()
        return any(self.sent.holds(approval_key(customer_id, t_ms)) for t_ms in (now_ms, now_ms - DAY_MS))

    def _row(self, request: DecisionRequest, decision: Decision, policy: Policy, arrived: float) -> StaticRow:
        """A decision with all that its delivery needs; what `DecisionService` would commit."""
        now_ms = decision.decided_at_ms
        record, links = b"", b""
        if not request.is_review:
            t_ms = now_ms if request.occurred_at_ms is None else request.occurred_at_ms
            record = drawdown_record(request, decision, t_ms)
            names = log_names(request.device_id, request.counterparty_id, request.ip)
            links = pack_links(names, record, customer_key(request.customer_id)) if names else b""
        latency_us = int((self._clock() - arrived) * 1e6)
        answer = answer_bytes(decision, latency_us, policy.zone.offset_at(now_ms))
        assert decision.trace is not None
        return StaticRow(
            decision.decision_id, request.customer_id, decision.approved_minor, now_ms,
            encode(decision, decision.trace, request, answer, {"arrival_to_decide": latency_us}),
            record, b"" if request.facility is None else encode_facility(request.facility), links,
            doubtful=decision.approved_minor > 0,
        )  # fmt: skip


def _refuse_sent() -> NoReturn:
    raise OutcomeUnknown("this request may have been decided already, and that answer cannot be read now")


def _answer_of(row: StaticRow, *, replayed: bool) -> Answer:
    answer = answer_in(row.frame)
    head = orjson.loads(answer)
    scene = head.get("scene", DRAWDOWN_SCENE)
    return Answer(answer, replayed, row.decision_id, head["decision"], head["rung"], scene)
