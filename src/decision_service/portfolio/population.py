"""Who the customers are: everything about them that is fixed when the simulation starts, most of it hidden.

All arrays have one entry a customer. Rates are per day, places in degrees, days count from the first
simulated day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

YUAN: Final = 100  # fen
NEVER: Final = 1_000_000  # a day that does not come
DUE_EVERY_D: Final = 30
PAYEES: Final = 600
FAVOURITES: Final = 12  # payees a customer keeps going back to

PRODUCTS: Final = ("consumer_revolving", "business_revolving")
PURPOSES: Final = ("consumption", "renovation", "education", "travel", "medical", "inventory", "equipment")
# Shanghai, Beijing, Guangzhou, Shenzhen, Chengdu, Hangzhou, Wuhan, Xi'an, Nanjing, Chongqing, Shenyang,
# Kunming
CITIES: Final = np.array(
    [
        (31.230, 121.474), (39.904, 116.407), (23.129, 113.264), (22.543, 114.058), (30.572, 104.066),
        (30.274, 120.155), (30.593, 114.305), (34.341, 108.940), (32.060, 118.797), (29.563, 106.551),
        (41.806, 123.431), (25.044, 102.710),
    ]
)  # fmt: skip

_HAZARD_OF_STRESS: Final = 0.00045  # a year's chance of about 15 % for the average customer
_LIMITS_YUAN: Final = np.array([5_000, 8_000, 10_000, 20_000, 30_000, 50_000, 80_000, 100_000, 200_000])
_LIMIT_SHARES: Final = np.array([0.10, 0.10, 0.18, 0.20, 0.16, 0.13, 0.06, 0.05, 0.02])


@dataclass(slots=True)
class Population:
    """The customers. Patterns change entries before the simulation starts."""

    risk: Floats  # standard normal, high is bad
    stress_from_day: Floats  # when money gets short, NEVER for most
    stress_until_day: Floats
    shows: Floats  # how much of it can be seen from outside, 0 to 1
    spree_from_day: Floats  # a month of spending that means nothing
    draws_per_day: Floats
    ticket: Floats  # typical draw as a share of the limit
    logins_per_day: Floats
    purchases_per_day: Floats
    pays_in_full: Floats  # probability of paying back everything on the due date
    income_fen: Floats  # a month
    hour: Floats  # centre of the customer's day
    granted_day: Ints  # may be negative: before the first simulated day
    quits_day: Floats  # draws no more from this day on
    pays_until_day: Floats  # misses no due date before this day
    limit_fen: Ints
    apr_bps: Ints
    product: Ints
    purpose: Ints
    city: Ints
    home: Floats  # (n, 2) latitude, longitude
    payees: Ints  # (n, FAVOURITES) numbers from 1
    opening_use: Floats  # utilisation on the first simulated day

    def __len__(self) -> int:
        return len(self.risk)

    def stress(self, day: int) -> Floats:
        """How short of money everyone is on a day: 0 not at all, 1 fully; it builds up over 30 days."""
        ramp = np.clip((day - self.stress_from_day) / 30.0, 0.0, 1.0)
        return np.where(day < self.stress_until_day, ramp, 0.0)

    def symptoms(self, day: int) -> Floats:
        """What the outside sees of it: hidden by some, and looked like by others who only spend."""
        spree = (day >= self.spree_from_day) & (day < self.spree_from_day + 30)
        visible: Floats = self.stress(day) * self.shows
        return np.where(spree, np.maximum(visible, 0.7), visible)


def draw_population(n: int, days: int, rng: np.random.Generator) -> Population:
    """`n` customers whose lines were granted up to 500 days before the end of `days` simulated days."""
    risk = rng.standard_normal(n)
    stress_from = rng.exponential(1.0 / (_HAZARD_OF_STRESS * np.exp(0.8 * risk)))
    granted = days - rng.integers(45, 500, n)
    business = rng.random(n) < 0.12
    city = rng.choice(len(CITIES), n, p=_zipf(len(CITIES), 0.8))
    limit_yuan = rng.choice(_LIMITS_YUAN, n, p=_LIMIT_SHARES) * np.where(business, 3, 1)
    return Population(
        risk=risk,
        stress_from_day=stress_from,
        stress_until_day=stress_from + 60.0 + rng.exponential(150.0, n),
        shows=rng.beta(0.8, 1.0, n),
        spree_from_day=rng.exponential(500.0, n) - 30.0,
        draws_per_day=np.clip(rng.lognormal(-2.2, 0.7, n), 0.01, 0.6),
        ticket=np.clip(rng.lognormal(-2.9, 0.6, n), 0.005, 0.5),
        logins_per_day=np.clip(rng.lognormal(-1.8, 0.6, n), 0.02, 1.5),
        purchases_per_day=np.clip(rng.lognormal(-2.3, 0.7, n), 0.01, 0.8),
        pays_in_full=rng.beta(1.2 - 0.3 * np.tanh(risk), 2.0 + 0.5 * np.tanh(risk)),
        income_fen=_income_fen(n, rng),
        hour=rng.normal(15.0, 2.5, n),
        granted_day=granted,
        quits_day=np.full(n, float(NEVER)),
        pays_until_day=np.zeros(n),
        limit_fen=limit_yuan * YUAN,
        apr_bps=(1_080 + 120 * np.round(np.clip(3 + 2 * risk, 0, 9))).astype(np.int64),
        product=business.astype(np.int64),
        purpose=np.where(business, rng.integers(5, 7, n), rng.choice(5, n, p=[0.6, 0.12, 0.1, 0.12, 0.06])),
        city=city,
        home=CITIES[city] + rng.normal(0.0, 0.08, (n, 2)),
        payees=1 + rng.choice(PAYEES, (n, FAVOURITES), p=_zipf(PAYEES, 0.7)),
        opening_use=np.where(granted < 0, rng.beta(1.3, 2.2, n), 0.0),
    )


def _income_fen(n: int, rng: np.random.Generator) -> Floats:
    """A month's income in whole hundreds of yuan; the median is about 8,100."""
    yuan: Floats = np.round(np.clip(rng.lognormal(9.0, 0.45, n), 3_000.0, 90_000.0), -2).astype(np.float64)
    return yuan * YUAN


def _zipf(n: int, exponent: float) -> Floats:
    ranks: Floats = np.arange(1, n + 1).astype(np.float64)
    weights = ranks**-exponent
    return weights / float(weights.sum())
