"""A small real scorecard on what requests say, a policy that asks it, and people who draw: what the tests of watching
share. The scorecard sees the amount and the term of a request, so a test decides what population it meets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np
import numpy.typing as npt

from decision_service.api.instants import format_instant
from decision_service.core.scorecards.scaling import Platt, Scaling
from service_process import ServiceProcess
from small_policy import FEATURES, write_rules

NAMES = ("request.amount", "request.term_months")
TERMS = (3.0, 6.0, 12.0, float("nan"))
PLATT = Platt(1.0, 0.0)
DAY_MS = 86_400_000
LINE_AGE_D = 500

RULES = """
rule_set: drawdown
scene: drawdown
constants:
  least: {value: 560, unit: points}
rules:
  - id: low
    when: behaviour.points < least
    on_null: hold
    then: {hold: review}
    reason: RC30
  - id: otherwise
    when: request.amount > 0
    on_null: skip
    then: approve
fallback: {static: {hold: review, reason: RC90}}
"""

Floats = npt.NDArray[np.float64]
Serving = Callable[..., ServiceProcess]  # starts a service, with settings


def population(seed: int, n: int, *, shift: float = 0.0, null_share: float = 0.25) -> Floats:
    """Amounts and terms of n people: log-normal amounts, moved by `shift` in logarithm; a share without a term."""
    random = np.random.default_rng(seed)
    amounts = np.round(np.exp(random.normal(6.0 + shift, 0.8, n)), 2)
    terms = np.where(random.random(n) < null_share, np.nan, random.choice(TERMS[:3], n))
    return np.column_stack([amounts, terms])


def write_scorecard(models: Path, version: str = "1", *, seed: int = 5, rows: int = 6_000) -> Path:
    """`models/behaviour/<version>`, trained on `population`, with the distributions of those very rows."""
    sample = population(seed, rows)
    random = np.random.default_rng(seed + 1)
    log_odds = 0.9 * (np.log(sample[:, 0]) - 6.0) - 2.0 + 0.3 * np.isnan(sample[:, 1]) + random.normal(0, 1, rows)
    data = lightgbm.Dataset(sample, (log_odds > 0).astype(int), feature_name=list(NAMES))
    told = {"objective": "binary", "num_leaves": 7, "verbosity": -1, "num_threads": 1, "seed": seed}
    booster = lightgbm.train(told, data, 30)
    margins = booster.predict(sample, raw_score=True)
    points = np.array([Scaling().points(PLATT.pd(float(m))) for m in margins], np.float64)
    text = booster.model_to_string().encode()
    directory = models / "behaviour" / version
    directory.mkdir(parents=True)
    (directory / "model.txt").write_bytes(text)
    (directory / "manifest.yaml").write_text(_manifest(version, text, sample, margins, points))
    return directory


def _manifest(version: str, text: bytes, sample: Floats, margins: Floats, points: Floats) -> str:
    features = "\n".join(
        f"  - {{name: {name}, reason: RC30, monotone: 0, nulls: allowed, {_spread(sample[:, i])}}}"
        for i, name in enumerate(NAMES)
    )
    golden = "\n".join(
        f"  - {{inputs: [{', '.join('null' if np.isnan(x) else repr(float(x)) for x in sample[i])}], "
        f"margin: {float(margins[i])!r}, pd: {PLATT.pd(float(margins[i]))!r}, points: {int(points[i])}}}"
        for i in range(8)
    )
    return (
        f"scorecard: behaviour\nversion: '{version}'\n"
        f"model: {{file: model.txt, sha256: {sha256(text).hexdigest()}}}\n"
        f"target: {{bad_dpd: 30, performance_d: 90}}\nfeatures:\n{features}\n"
        f"calibration: {{method: platt, a: {PLATT.a!r}, b: {PLATT.b!r}}}\n"
        "scaling: {base_points: 600, base_odds: 50, pdo: 20, points_min: 300, points_max: 850}\n"
        "grades: {A: 560, B: 540, C: 520, D: 500, E: 300}\n"
        "training: {observed_until: '2026-08-01'}\nmetrics: {oot_auc: 0.8, oot_ks: 0.5}\n"
        f"score: {{rows: {len(sample)}, {_spread(points)}}}\n"
        f"golden:\n{golden}\n"
    )


def _spread(values: Floats) -> str:
    known = values[~np.isnan(values)]
    deciles = [float(x) for x in np.quantile(known, np.arange(1, 10) / 10)]
    cuts = list(dict.fromkeys(deciles))
    shares = np.bincount(np.searchsorted(cuts, known, side="left"), minlength=len(cuts) + 1) / len(known)
    told = ", ".join(repr(round(float(share), 8)) for share in shares)
    return f"null_rate: {1 - len(known) / len(values):.8f}, deciles: {deciles}, shares: [{told}]"


def write_policy(folder: Path, head: str = "label: watched\n") -> Path:
    """The rules folder."""
    rules = write_rules(folder, RULES, FEATURES)
    (rules / "policy.yaml").write_text(head)
    return rules


@dataclass(frozen=True)
class Asked:
    """One request of a customer."""

    customer_id: str
    request_id: str
    amount: float
    term: float
    at_ms: int

    @property
    def body(self) -> dict[str, Any]:
        """What is posted; the line comes with it."""
        facility_id = f"f-{self.customer_id}"
        line = {
            "facility_id": facility_id, "customer_id": self.customer_id, "product": "revolver", "currency": "CNY",
            "limit": 10_000_000, "outstanding": 0, "as_of": format_instant(self.at_ms), "apr": 0.18,
            "status": "active", "granted_at": format_instant(self.at_ms - LINE_AGE_D * DAY_MS),
        }  # fmt: skip
        return {
            "request_id": self.request_id, "customer_id": self.customer_id, "facility_id": facility_id,
            "amount": self.amount, "currency": "CNY", "occurred_at": format_instant(self.at_ms), "facility": line,
            "deadline_ms": 5_000,
        } | ({} if np.isnan(self.term) else {"term_months": int(self.term)})  # fmt: skip


def asked(people: Floats, prefix: str, instants_ms: Iterable[int]) -> list[Asked]:
    """One request of each, by customers of their own."""
    told = zip(people.tolist(), instants_ms, strict=True)
    return [Asked(f"{prefix}-{i}", f"{prefix}-r{i}", *row, at_ms) for i, (row, at_ms) in enumerate(told)]


def send(url: str, requests: Iterable[Asked]) -> list[dict[str, Any]]:
    """Decide all of them, one connection after another, so that every worker gets some."""
    answers = []
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=url, timeout=10, limits=limits) as client:
        for one in requests:
            reply = client.post("/v1/decisions", json=one.body)
            assert reply.status_code == 200, reply.text
            answers.append(reply.json())
    return answers
