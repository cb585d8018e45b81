"""Day by day for all customers at once: draws, due dates, repayments, arrears, and what life adds around
them.

One step is one local day. Money moves first through due dates and cures of arrears, then through draws, so that a day's
closing balance is what the next day starts from. What makes a customer default is never written anywhere a feature
could read: income stress (`Population.stress`) shrinks repayments and lowers the chance that a missed due date is made
good; what of it shows (`Population.symptoms`) raises the demand for money, shifts draws into the night and brings
inquiries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.event import CHANNELS, KINDS, STATUSES
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.portfolio.event_table import CATEGORY, Rows, rows
from decision_service.portfolio.population import (
    CITIES,
    DUE_EVERY_D,
    FAVOURITES,
    PAYEES,
    YUAN,
    Floats,
    Ints,
    Population,
)

UTC_OFFSET_MS: Final = 8 * HOUR_MS  # Asia/Shanghai
OVERDUE_NOTICES_D: Final = (1, 5, 10, 15, 20, 25, 30, 45, 60, 75, 90)  # days past due on which one is posted
WRITTEN_OFF_D: Final = 120
_DRAWS_PER_DAY_MAX: Final = 4
_DUE_SHARE: Final = 0.10  # of the balance, each month
_DUE_MIN_FEN: Final = 100 * YUAN
_LEAST_DRAW_FEN: Final = 10 * YUAN

Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class DailyBook:
    """What core banking would report at the end of each simulated day: arrays (days, customers)."""

    day0_ms: int  # local midnight at the start of day 0
    outstanding_fen: Ints
    limit_fen: Ints
    days_past_due: npt.NDArray[np.int16]


@dataclass(slots=True)
class _State:
    outstanding: Ints
    limit: Ints
    dpd: Ints
    due: Ints  # what is owed since the last missed due date
    last_raise: Ints
    ever_late: Mask


@dataclass(slots=True)
class Simulation:
    """A population moved through time. `run` once; then `parts` holds the events and `book` the daily
    figures."""

    population: Population
    days: int
    day0_ms: int
    rng: np.random.Generator
    parts: list[Rows] = field(default_factory=list)
    book: DailyBook = field(init=False)
    _state: _State = field(init=False)

    def run(self) -> None:
        """Simulate every day."""
        n, people = len(self.population), self.population
        opening = np.round(people.opening_use * people.limit_fen, -4).astype(np.int64)
        zeros = np.zeros(n, np.int64)
        self._state = _State(
            opening, people.limit_fen.copy(), zeros.copy(), zeros.copy(), people.granted_day.copy(),
            np.zeros(n, bool),
        )  # fmt: skip
        shape = (self.days, n)
        self.book = DailyBook(
            self.day0_ms, np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int16)
        )
        for day in range(self.days):
            self._step(day)
            self.book.outstanding_fen[day] = self._state.outstanding
            self.book.limit_fen[day] = self._state.limit
            self.book.days_past_due[day] = self._state.dpd

    def _step(self, day: int) -> None:
        stress, symptoms = self.population.stress(day), self.population.symptoms(day)
        open_ = (self.population.granted_day <= day) & (self._state.dpd < WRITTEN_OFF_D)
        paid = self._due_dates(day, stress, open_) | self._arrears(day, stress, open_)
        self._raises(day, open_)
        self._draws(day, symptoms, open_, paid)
        self._life(day, symptoms, open_)

    # --- repayment
    # ----------------------------------------------------------------------------------------------

    def _due_dates(self, day: int, stress: Floats, open_: Mask) -> Mask:
        """Post what is due today; who can pays, the others fall into arrears tomorrow. Returns who paid."""
        state, people = self._state, self.population
        age = day - people.granted_day
        on = open_ & (age > 0) & (age % DUE_EVERY_D == 0) & (state.outstanding > 0) & (state.dpd == 0)
        who = np.flatnonzero(on)
        due = np.minimum(
            np.maximum((state.outstanding[who] * _DUE_SHARE).astype(np.int64), _DUE_MIN_FEN),
            state.outstanding[who],
        )
        self._emit(who, day, np.full(len(who), 9.0), "due", amount=due)
        use = state.outstanding[who] / state.limit[who]
        log_odds = -4.0 + 0.7 * people.risk[who] + 3.1 * stress[who] + 1.1 * (use - 0.4)
        misses = self.rng.random(len(who)) < 1.0 / (1.0 + np.exp(-log_odds))
        misses &= day >= people.pays_until_day[who]
        state.due[who] = np.where(misses, due, 0)
        state.dpd[who[misses]] = 0
        state.ever_late[who[misses]] = True
        self._pay(who[~misses], due[~misses], day, stress)
        paid = np.zeros(len(people), bool)
        paid[who[~misses]] = True
        return paid

    def _arrears(self, day: int, stress: Floats, open_: Mask) -> Mask:
        """A day more past due for those who owe; some make it good. Returns who paid."""
        state, people = self._state, self.population
        age = day - people.granted_day
        owing = open_ & (state.due > 0) & ((age % DUE_EVERY_D != 0) | (state.dpd > 0))
        who = np.flatnonzero(owing)
        state.dpd[who] += 1
        chance = 0.34 * np.exp(-0.35 * people.risk[who]) * (1.0 - 0.88 * stress[who]) / (1 + 0.02 * state.dpd[who])
        cured = self.rng.random(len(who)) < chance
        late = who[~cured & np.isin(state.dpd[who], OVERDUE_NOTICES_D)]
        self._emit(
            late, day, np.full(len(late), 0.2), "overdue", amount=state.due[late],
            value=state.dpd[late].astype(np.float64),
        )  # fmt: skip
        healed = who[cured]
        self._pay(healed, state.due[healed], day, stress)
        state.due[healed] = 0
        state.dpd[healed] = 0
        paid = np.zeros(len(people), bool)
        paid[healed] = True
        return paid

    def _pay(self, who: Ints, due: Ints, day: int, stress: Floats) -> None:
        """Pay at least what is due: all of it back, or a little more than must be; less the shorter money
        is."""
        state, people = self._state, self.population
        in_full = self.rng.random(len(who)) < people.pays_in_full[who] * (1.0 - stress[who])
        extra = 1.0 + self.rng.exponential(1.2, len(who)) * (1.0 - 0.9 * stress[who])
        part = np.round(due * extra, -2).astype(np.int64)
        amount = np.where(in_full, state.outstanding[who], np.minimum(part, state.outstanding[who]))
        state.outstanding[who] -= amount
        self._emit(who, day, self.rng.uniform(9.5, 22.0, len(who)), "repayment", amount=amount, channel="app")

    def _raises(self, day: int, open_: Mask) -> None:
        """Twice a year the limit of good payers grows by 15 %."""
        state, people = self._state, self.population
        ripe = open_ & (day - state.last_raise >= 180) & ~state.ever_late & (people.risk < 0.3)
        who = np.flatnonzero(ripe & (self.rng.random(len(people)) < 0.02))
        step = np.round(state.limit[who] * 0.15 / (1_000 * YUAN)).astype(np.int64) * 1_000 * YUAN
        who, step = who[step > 0], step[step > 0]
        state.limit[who] += step
        state.last_raise[who] = day
        self._emit(who, day, np.full(len(who), 10.0), "limit_change", amount=state.limit[who], value=step / YUAN)

    # --- draws
    # --------------------------------------------------------------------------------------------------

    def _draws(self, day: int, symptoms: Floats, open_: Mask, paid: Mask) -> None:
        people = self.population
        active = open_ & (day < people.quits_day) & (self._state.dpd < 60)
        room = np.clip((self._state.limit - self._state.outstanding) / (0.05 * self._state.limit), 0.08, 1.0)
        rate = people.draws_per_day * room * (1.0 + 1.4 * symptoms) * np.where(day % 7 >= 5, 1.25, 1.0)
        redraw = paid & (self.rng.random(len(people)) < 0.04 + 0.5 * symptoms)
        count = np.minimum(self.rng.poisson(rate) + redraw, _DRAWS_PER_DAY_MAX) * active
        hours = np.sort(self._hours(np.repeat(np.arange(len(people)), _DRAWS_PER_DAY_MAX), symptoms).reshape(-1, 4))
        for k in range(int(count.max(initial=0))):
            who = np.flatnonzero(count > k)
            self._draw(who, day, hours[who, k], symptoms[who])

    def _draw(self, who: Ints, day: int, hour: Floats, symptoms: Floats) -> None:
        """One request each: held when over the limit or in arrears, else booked, failed or cancelled."""
        state, rng = self._state, self.rng
        available = state.limit[who] - state.outstanding[who]
        amount = self._amount(who, symptoms, available)
        held = (amount > available) | (state.dpd[who] > 0)
        luck = rng.random(len(who))
        status = np.select(
            [held, luck < 0.015, luck < 0.035],
            [STATUSES["held"], STATUSES["failed"], STATUSES["cancelled"]],
            STATUSES["booked"],
        )
        state.outstanding[who] += np.where(status == STATUSES["booked"], amount, 0)
        self._emit(
            who, day, hour, "drawdown", status=status, amount=amount, payee=self._payees(who),
            category=self.population.purpose[who] + 1, **self._where(who),
        )  # fmt: skip

    def _amount(self, who: Ints, symptoms: Floats, available: Ints) -> Ints:
        """Whole hundreds, tens, or cents, by habit; now and then all that is left."""
        people, rng = self.population, self.rng
        raw = people.ticket[who] * people.limit_fen[who] * rng.lognormal(0.0, 0.5, len(who)) * (1 + 0.7 * symptoms)
        habit = rng.random(len(who))
        unit = np.select([habit < 0.45, habit < 0.75], [100 * YUAN, 10 * YUAN], 1)
        amount = np.maximum(np.round(raw / unit) * unit, _LEAST_DRAW_FEN).astype(np.int64)
        over = amount > available
        settles_for_less = rng.random(len(who)) < 0.7
        rest = np.maximum(available, 0)
        return np.where(over & settles_for_less & (rest >= _LEAST_DRAW_FEN), rest, amount)

    def _hours(self, who: Ints, symptoms: Floats) -> Floats:
        """Local hour of day: around the customer's own centre, and at night the more, the shorter money
        is."""
        rng = self.rng
        usual = np.clip(rng.normal(self.population.hour[who], 3.0), 6.0, 23.98)
        night = rng.random(len(who)) < 0.012 + 0.05 * symptoms[who]
        return np.where(night, rng.uniform(0.0, 5.5, len(who)), usual)

    def _payees(self, who: Ints) -> Ints:
        """Mostly the favourites, the first ones most; sometimes anybody."""
        rank = np.minimum(self.rng.geometric(0.3, len(who)) - 1, FAVOURITES - 1)
        anybody = self.rng.random(len(who)) < 0.15
        return np.where(anybody, self.rng.integers(1, PAYEES + 1, len(who)), self.population.payees[who, rank])

    def _where(self, who: Ints) -> dict[str, Any]:
        """Device, channel and place of an action."""
        rng = self.rng
        away = rng.random(len(who)) < 0.01
        city = np.where(away, rng.integers(0, len(CITIES), len(who)), self.population.city[who])
        at = np.where(away[:, None], CITIES[city], self.population.home[who]) + rng.normal(0, 0.02, (len(who), 2))
        fixed = rng.random(len(who)) < 0.75
        return {
            "device": np.where(rng.random(len(who)) < 0.97, 1, 2),
            "channel": np.where(rng.random(len(who)) < 0.85, CHANNELS["app"], CHANNELS["mini_program"]),
            "lat_e6": np.where(fixed, np.round(at[:, 0] * 1e6), 0),
            "lon_e6": np.where(fixed, np.round(at[:, 1] * 1e6), 0),
            "accuracy": np.where(fixed, rng.integers(2, 7, len(who)), 0),
        }

    # --- everything else
    # ----------------------------------------------------------------------------------------

    def _life(self, day: int, symptoms: Floats, open_: Mask) -> None:
        people = self.population
        self._logins(day, people.logins_per_day * (1.0 + symptoms) * open_)
        self._purchases(day, people.purchases_per_day * open_)
        self._notes(day, "inquiry", "hard_inquiry", (0.006 + 0.04 * symptoms) * open_)
        self._notes(day, "contact_change", "phone", (0.0006 + 0.004 * symptoms) * open_)
        self._notes(day, "credential_change", "password", np.full(len(people), 0.0015) * open_)
        payday = np.flatnonzero(open_ & ((day - people.granted_day) % DUE_EVERY_D == 12))
        income = (people.income_fen[payday] * (1.0 - 0.5 * symptoms[payday])).astype(np.int64)
        self._emit(payday, day, np.full(len(payday), 8.0), "income", amount=income, category=CATEGORY["salary"])

    def _logins(self, day: int, rate: Floats) -> None:
        who = np.flatnonzero(self.rng.random(len(rate)) < rate)
        failed = self.rng.random(len(who)) < 0.04
        status = np.where(failed, STATUSES["failed"], STATUSES["booked"])
        hour = self._hours(who, np.zeros(len(rate)))
        self._emit(who, day, hour, "login", status=status, **self._where(who))

    def _purchases(self, day: int, rate: Floats) -> None:
        who = np.flatnonzero(self.rng.random(len(rate)) < rate)
        amount = np.round(self.rng.lognormal(4.6, 0.9, len(who)) * YUAN).astype(np.int64)
        category = self.rng.integers(CATEGORY["5411_grocery"], CATEGORY["4511_airline"] + 1, len(who))
        hour = self._hours(who, np.zeros(len(rate)))
        self._emit(who, day, hour, "purchase", amount=amount, category=category, payee=self._payees(who))

    def _notes(self, day: int, kind: str, category: str, rate: Floats) -> None:
        who = np.flatnonzero(self.rng.random(len(rate)) < rate)
        self._emit(who, day, self.rng.uniform(8.0, 21.0, len(who)), kind, category=CATEGORY[category])

    def _emit(self, who: Ints, day: int, hour: Floats, kind: str, **columns: Any) -> None:
        if len(who) == 0:
            return
        if isinstance(columns.get("channel"), str):
            columns["channel"] = CHANNELS[columns["channel"]]
        at_ms = self.day0_ms + day * DAY_MS + np.round(hour * HOUR_MS).astype(np.int64)
        self.parts.append(rows(who, at_ms, KINDS[kind], **columns))
