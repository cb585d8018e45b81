"""New features of archived decisions, from the customers' logs, by the kernel that serves.

What a feature is computed from is all recorded: the log (`place_logs`), the inputs (archived numbers that mean the
same), and the request's row, put together here for many decisions at once from what the frames hold. Features of
entity logs keep their recorded values; one that was not recorded is null, as where such a log was not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from decision_service.backtest.batch import Batch, Ints
from decision_service.backtest.place_logs import PlaceLogs
from decision_service.backtest.sameness import Shared
from decision_service.core import inputs as q
from decision_service.core.event import ACCURACY_M, CHANNELS, code_key, counterparty_key, device_key, facility_key
from decision_service.core.expressions.columns import Floats, Mask, Texts
from decision_service.core.features.grains import CUSTOMER
from decision_service.core.limits import DAY_MS
from decision_service.core.links import ip_key
from decision_service.core.policy import Policy

STRINGS: Final = (
    "request.facility_id", "request.device_id", "request.counterparty_id", "request.purpose", "request.channel",
)  # fmt: skip
CHUNK: Final = 2_048
_ACCURACY: Final = np.array(ACCURACY_M, np.float64)
_WORDS: Final = (  # word of the request row, string, key of a text
    (q.FACILITY, "request.facility_id", facility_key), (q.DEVICE, "request.device_id", device_key),
    (q.COUNTERPARTY, "request.counterparty_id", counterparty_key), (q.CODE, "request.purpose", code_key),
    (q.CHANNEL, "request.channel", CHANNELS.__getitem__),
)  # fmt: skip
_MONEY: Final = (
    (q.LIMIT, "facility.limit"), (q.OUTSTANDING, "facility.outstanding"), (q.RESERVED, "facility.reserved"),
    (q.AVAILABLE, "facility.available"),
)  # fmt: skip


class Recomputing:
    """Computes features of the candidate that the archived scene did not record (`Shared.new`)."""

    def __init__(self, candidate: Policy, same: Shared) -> None:
        self._plans = candidate.plans_for(same.new)
        self._zone = candidate.zone
        self._new = same.new
        inputs = candidate.attribute_layout.names
        names = (*inputs, *self._plans.names)
        self._names = names
        links = [n for grain in self._plans.link_grains for n in self._plans.plans[grain].names]
        self._given = [
            (i, name) for i, name in enumerate(names) if name in same.same and (name in inputs or name in links)
        ]
        self._taken = [names.index(name) for name in same.new]

    def computed(
        self, batch: Batch, strings: dict[str, Texts], requests: Sequence[bytes], customer_keys: Ints, logs: PlaceLogs,
        positions: Ints,
    ) -> tuple[dict[str, Floats], Mask]:  # fmt: skip
        """The new features of a batch, and for which decisions they could not be computed (they are null there)."""
        rows, sound = logs.rows_at(positions)
        found = np.full((len(self._new), batch.count), np.nan)
        which = np.flatnonzero(sound)
        which = which[np.argsort(rows[which], kind="stable")]
        asked = _request_rows(batch, strings, requests, customer_keys, self._zone)
        plan = self._plans.plans[CUSTOMER]
        for start in range(0, len(which), CHUNK):
            some = which[start : start + CHUNK]
            numbers = np.full((len(some), len(self._names)), np.nan)
            if self._given:
                places = [place for place, _ in self._given]
                numbers[:, places] = batch.rows([name for _, name in self._given], some)
            words, starts, ends = logs.words(rows[some])
            plan.compute_many(words, starts, ends, np.ascontiguousarray(asked[some]), numbers)
            found[:, some] = numbers[:, self._taken].T
        return dict(zip(self._new, found, strict=True)), ~sound


def _request_rows(
    batch: Batch, strings: dict[str, Texts], requests: Sequence[bytes], customer_keys: Ints, zone: Any
) -> npt.NDArray[np.int64]:
    """int64[n, REQUEST_WORDS]: `core.inputs.fill_request_words` for many decisions."""
    n, scale, t_ms = batch.count, batch.scale, batch.t_ms
    rows = np.zeros((n, q.REQUEST_WORDS), np.int64)
    rows[:, q.T_MS], rows[:, q.AMOUNT], rows[:, q.SCALE] = t_ms, batch.amount_minor, scale
    for word, name, key in _WORDS:
        rows[:, word] = _keys(strings[name], key)
    _places(rows, requests)
    days, next_due = batch.columns(("facility.age_d", "facility.days_to_due"), 0, n)
    rows[:, q.GRANTED_MS] = t_ms - np.rint(days * DAY_MS).astype(np.int64)
    due = np.rint(np.where(next_due == next_due, next_due, 0.0) * DAY_MS).astype(np.int64)
    rows[:, q.NEXT_DUE_MS] = np.where(next_due == next_due, t_ms + due, q.ABSENT)
    for (word, _), money in zip(_MONEY, batch.columns([name for _, name in _MONEY], 0, n), strict=True):
        rows[:, word] = np.rint(money * scale).astype(np.int64)
    at = np.searchsorted(zone.transitions_utc_ms, t_ms, side="right") - 1
    rows[:, q.UTC_OFFSET_MS] = zone.offsets_ms[at]
    rows[:, q.CUSTOMER] = customer_keys
    return rows


def _keys(texts: Texts, key: Callable[[str], int]) -> Ints:
    """The keys of a column of texts, as signed words; 0 for none."""
    known = [key(text) if text else 0 for text in texts.values]
    table = np.array([k - (1 << 64) if k >> 63 else k for k in known] + [0], np.int64)
    return table[texts.codes]


def _places(rows: npt.NDArray[np.int64], requests: Sequence[bytes]) -> None:
    """Geo and address, which only the request tells."""
    telling = [i for i, request in enumerate(requests) if b'"geo"' in request or b'"ip"' in request]
    told = orjson.loads(b"[%b]" % b",".join([requests[i] for i in telling]))
    placed = [(i, geo) for i, request in zip(telling, told, strict=True) if (geo := request.get("geo"))]
    if placed:
        at = np.array([i for i, _ in placed])
        for word, name in ((q.LAT_E6, "lat"), (q.LON_E6, "lon")):
            degrees = np.array([float(geo[name]) for _, geo in placed])
            rows[at, word] = np.rint(degrees * 1e6).astype(np.int64)
        accuracy = np.array([np.nan if (m := geo.get("accuracy_m")) is None else m for _, geo in placed], np.float64)
        classes = np.minimum(np.searchsorted(_ACCURACY, accuracy) + 1, len(_ACCURACY))
        rows[at, q.HAS_PLACE], rows[at, q.ACCURACY_CLASS] = 1, np.where(np.isnan(accuracy), 0, classes)
    for i, request in zip(telling, told, strict=True):
        if address := request.get("ip"):
            key = ip_key(address)
            rows[i, q.IP] = key - (1 << 64) if key >> 63 else key
