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


def check_room(
    admission: Admission, meters: Meters, caller: str, body: bytes, came: float, screened: bool
) -> None:  # fmt: skip
    """TooBusy, counted, if a draw that is here as a whole cannot be let in. `screened`: its connection asked before."""
    if admission.full():
        raise _too_busy(admission, meters, Rank.DRAW)
    if not screened:
        budget_s = max(hinted_budget_s(body, 0), admission.budget_s)
        if admission.crowded() and admission.sheds_draw(caller, perf_counter() - came, budget_s):
            raise _too_busy(admission, meters, Rank.DRAW)


def _too_busy(admission: Admission, meters: Meters, rank: Rank) -> TooBusy:
    meters.count_shed(rank)
    return TooBusy(BUSY_TEXT, admission.retry_after_s())


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
        scope = self._scope
        check_room(self._admission, self._meters, self._caller, body, scope["came"], scope.get("screened", False))
        self._begun = True
        self._admission.begin(Rank.DRAW, self._caller)

    async def begin_behind(self) -> None:
        """Wait in line, then begin. TooBusy."""
        if self._admission.full() or not await self._admission.turn(self._rank, self._caller):
            raise _too_busy(self._admission, self._meters, self._rank)
        self._begun = True
        self._admission.begin(self._rank)

    def end(self) -> None:
        """It was answered, or given up."""
        if self._begun:
            self._begun = False
            self._admission.end(self._rank, self._caller if self._rank is Rank.DRAW else None)
