"""Intake: a request on its way to its handler. Its work begins when all of it is here: then admission is asked, and its
time begins to run.

Until then it costs no CPU, however slowly its caller sends it: a hundred bodies that never end must neither fill the
queue nor stand in line. What is known of a request by then decides: the deadline that a drawdown's body names, and when
its last bytes came.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from time import perf_counter
from typing import Any, Final

from decision_service.admission import Admission, Rank
from decision_service.api.call import Receive
from decision_service.api.refusals import TooBusy
from decision_service.api.shedding import BUSY_TEXT, hinted_budget_s
from decision_service.telemetry import Meters

BODILESS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


class Intake:
    """One request of a rank. Give its `receive` to the handler, and `end` it in any case."""

    __slots__ = ("_admission", "_begun", "_caller", "_meters", "_rank", "_receive", "_scope")

    def __init__(
        self, admission: Admission, meters: Meters, scope: MutableMapping[str, Any], receive: Receive, rank: Rank,
        caller: str,
    ) -> None:  # fmt: skip
        self._admission = admission
        self._meters = meters
        self._scope = scope
        self._receive = receive
        self._rank = rank
        self._caller = caller
        self._begun = False

    async def receive(self) -> MutableMapping[str, Any]:
        """The next message; with the last of the body the work begins. TooBusy."""
        message = await self._receive()
        if not self._begun and message["type"] == "http.request" and not message.get("more_body"):
            if self._rank is not Rank.DRAW:
                await self.begin_behind()
            else:
                self._begin_draw(message.get("body", b""))
        return message

    def _begin_draw(self, body: bytes) -> None:
        admission = self._admission
        if admission.full():
            raise self.too_busy()
        if not self._scope.get("screened"):
            age_s = perf_counter() - self._scope["came"]
            budget_s = max(hinted_budget_s(body, 0), admission.budget_s)
            if admission.crowded() and admission.sheds_draw(self._caller, age_s, budget_s):
                raise self.too_busy()
        self._begun = True
        admission.begin(Rank.DRAW, self._caller)

    async def begin_behind(self) -> None:
        """Wait in line, then begin. TooBusy."""
        if self._admission.full() or not await self._admission.turn(self._rank, self._caller):
            raise self.too_busy()
        self._begun = True
        self._admission.begin(self._rank)

    def too_busy(self) -> TooBusy:
        """The refusal, counted."""
        self._meters.count_shed(self._rank)
        return TooBusy(BUSY_TEXT, self._admission.retry_after_s())

    def end(self) -> None:
        """It was answered, or given up."""
        if self._begun:
            self._begun = False
            self._admission.end(self._rank, self._caller if self._rank is Rank.DRAW else None)
