"""Features of observations by `build`: the plan and the kernel that serve, over all cores, in bounded memory.

A customer is asked about with a request that says nothing (100.00 of the facility's currency): a scorecard of grain
customer speaks about the customer, so a feature that answers differently to another request is refused; on PROBES rows
the question is asked a second time with a request that says a lot. A loan is asked about with its own request, as the
drawdown's event tells it, and sees what was recorded before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.build import Build, build
from decision_service.build.history import Keeping
from decision_service.build.table import TableSpec
from decision_service.core.errors import PolicyRejected
from decision_service.core.limits import DAY_MS, EVENTS_TRIM_SLACK
from decision_service.core.money import EXPONENTS
from decision_service.core.source import Findings
from decision_service.settings import Settings
from decision_service.tables.file import open_file
from decision_service.train.config import TrainConfig
from decision_service.train.recorded import Recorded, Records, wide_clock
from decision_service.train.sources import TableSource

Floats = npt.NDArray[np.float64]
PROBES: Final = 200
_NUMBER: Final = "_observation"  # passed through the build: which row of the sample a line is
_NEUTRAL_MINOR: Final = 10_000
_TELLING: Final[dict[str, Any]] = {
    "device_id": "d-probe", "counterparty_id": "m-probe", "channel": "app", "purpose": "travel", "lat": 31.23,
    "lon": 121.474, "term_months": 24,
}  # fmt: skip
_TELLING_MINOR: Final = 987_600


@dataclass(frozen=True, slots=True)
class Files:
    """The files that questions are asked of."""

    events: Path
    facilities: Path
    attributes: Path | None


def ask(
    config: TrainConfig, files: Files, recorded: Recorded, observed: Records, directory: Path,
    others: tuple[str, ...], say: Callable[[str], None],
) -> tuple[Floats, npt.NDArray[np.bool_]]:  # fmt: skip
    """`(features, answered)` of observations, a row each: those of the training file, and `others` behind them. Writes
    below `directory`. Raises PolicyRejected for features that depend on the request where there is none, and
    InvalidInput."""
    assert config.spec is not None
    probed = np.zeros(0, np.int64)
    if config.grain == "customer":
        probed = np.arange(0, len(observed), max(1, len(observed) // PROBES))
        columns = _customers(recorded, observed, probed)
    else:
        columns = _loans(files.events, recorded, observed)
    at, out = directory / "questions.parquet", directory / "features.parquet"
    _write(at, columns)
    spec = TableSpec(config.spec.documents, (*config.names, *others), config.zone)
    _build(config, files, spec, at, out, say)
    rows, answered = _read(out, len(columns[_NUMBER]), spec.names)
    n = len(observed)
    _refuse_request_features(config, rows[probed], rows[n:])
    return rows[:n], answered[:n]


def _customers(recorded: Recorded, observed: Records, probed: npt.NDArray[np.int64]) -> dict[str, Any]:
    asked = np.concatenate((observed, observed[probed]))
    telling = np.arange(len(asked)) >= len(observed)
    currency = recorded.snapshots["currency"][asked["snapshot"]]
    scale = np.array([10 ** EXPONENTS[code] for code in recorded.currencies])[currency]
    return {
        _NUMBER: np.arange(len(asked)), "customer_id": _texts(recorded.customers, asked["customer"]),
        "at": asked["at_ms"], "facility_id": _texts(recorded.facilities, asked["facility"]),
        "amount": np.where(telling, _TELLING_MINOR, _NEUTRAL_MINOR) / scale,
        "currency": _texts(recorded.currencies, currency),
        **{name: _where(telling, value) for name, value in _TELLING.items()},
    }  # fmt: skip


def _loans(events: Path, recorded: Recorded, observed: Records) -> dict[str, Any]:
    return {
        _NUMBER: np.arange(len(observed)), "customer_id": _texts(recorded.customers, observed["customer"]),
        "event_id": _event_ids(events, observed["row"]),
        "facility_id": _texts(recorded.facilities, observed["facility"]),
    }  # fmt: skip


def _texts(known: Sequence[str], which: npt.NDArray[np.int64]) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32)), pa.array(list(known), pa.string()))


def _where(telling: npt.NDArray[np.bool_], value: Any) -> Any:
    import pyarrow as pa

    return pa.array([value if told else None for told in telling])


def _event_ids(path: Path, rows: npt.NDArray[np.int64]) -> Any:
    """The ids of the events in these rows of the file."""
    import pyarrow as pa

    wanted = np.sort(rows)
    texts: dict[int, str] = {}
    for batch in open_file(path, None).batches(None, names=["event_id"]):
        low, high = np.searchsorted(wanted, (batch.rows[0], batch.rows[-1] + 1)) if len(batch) else (0, 0)
        numbers = wanted[low:high]
        found = batch.columns["event_id"].take(pa.array(np.searchsorted(batch.rows, numbers)))
        texts.update(zip(numbers.tolist(), map(str, found.to_pylist()), strict=True))
    return pa.array([texts[row] for row in rows.tolist()], pa.string())


def _write(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path)


def _build(config: TrainConfig, files: Files, spec: TableSpec, at: Path, out: Path, say: Callable[[str], None]) -> None:
    assert not isinstance(config.source, TableSource)

    def default(name: str) -> int:
        return int(Settings.model_fields[name].default)

    most = default("events_per_customer_max")
    keeping = Keeping(default("retention_days") * DAY_MS, most, min(EVENTS_TRIM_SLACK, most // 4))
    plan = Build(
        files.events, at, out, spec, wide_clock(config.source.until_ms), keeping, default("links_per_entity_max"),
        default("reservation_timeout_ms"), files.facilities, files.attributes,
    )  # fmt: skip

    def told(stage: str, done: int, total: int) -> None:
        if done == 0:
            say(f"{stage}: {total:,} parts" if stage != "table" else stage)

    build(plan, told)


def _read(path: Path, rows: int, names: Sequence[str]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    from pyarrow import parquet

    table = parquet.read_table(path, columns=[_NUMBER, *names])
    number = table.column(_NUMBER).to_numpy()
    values, answered = np.full((rows, len(names)), np.nan), np.zeros(rows, bool)
    answered[number] = True
    for i, name in enumerate(names):
        values[number, i] = table.column(name).to_numpy()
    return values, answered


def _refuse_request_features(config: TrainConfig, silent: Floats, told: Floats) -> None:
    moved = ~((silent == told) | (np.isnan(silent) & np.isnan(told))).all(axis=0)[: len(config.names)]
    findings = Findings()
    for i in np.flatnonzero(moved).tolist():
        feature = config.features[i]
        findings.error(
            feature.place, f"feature {feature.name!r} depends on the request", length=len(feature.name),
            expected="a feature of the customer's behaviour, the same whatever is asked for; or grain: loan",
        )  # fmt: skip
    if findings.errors:
        raise PolicyRejected(findings.errors)
