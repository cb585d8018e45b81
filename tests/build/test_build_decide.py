"""Offline is online: rows built from files are the values that the service decided with, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from lived_history import TIMEOUT_MS, ZONE, Lived, live, write_rules
from pyarrow import parquet

from decision_service.api.parse import Clock
from decision_service.build import Build, Built, build
from decision_service.build.history import Keeping
from decision_service.build.table import TableSpec, read_spec
from decision_service.core.limits import DAY_MS
from decision_service.recording import Retention

SHIPPED = Path(__file__).parents[2] / "rules"
NOW = Clock(1_790_000_000_000, 300_000, 0)


def all_names(rules: Path) -> list[str]:
    """Every feature that is not internal."""
    return list(read_spec(rules, None, ZONE).names)


def built(tmp_path: Path, lived: Lived, spec: TableSpec, keeping: Keeping, links_max: int, **how: int) -> Built:
    """The table of the lived history, in `tmp_path / "table.parquet"`."""
    lived.write(tmp_path)
    files = {name: tmp_path / f"{name}.parquet" for name in ("events", "questions", "facilities", "attributes")}
    return build(
        Build(**files, out=tmp_path / "table.parquet", table=spec, clock=NOW, keeping=keeping, links_max=links_max,
              reservation_timeout_ms=TIMEOUT_MS, **{"workers": 1} | how)
    )  # fmt: skip


@pytest.mark.fault("G12")
@pytest.mark.parametrize(
    ("seed", "steps", "events_max", "links_max"), [(1, 220, 4_096, 1_024), (2, 320, 24, 16)], ids=["whole", "trimmed"]
)
def test_rows_are_what_the_service_decided_with(
    tmp_path: Path, seed: int, steps: int, events_max: int, links_max: int
) -> None:
    """Every shipped feature and features of every link grain, for every decision of a lived history: late events,
    settlements, labels, snapshots, attributes and trimmed logs included."""
    rules = write_rules(tmp_path / "rules", SHIPPED, all_names)
    retention = Retention(400 * DAY_MS, events_max, events_max // 4)
    lived = live(tmp_path, rules, steps=steps, seed=seed, retention=retention, links_max=links_max)
    spec = read_spec(rules, None, ZONE)
    done = built(tmp_path, lived, spec, Keeping(400 * DAY_MS, events_max, events_max // 4), links_max)
    assert done.bad == {}
    table = parquet.read_table(tmp_path / "table.parquet")
    assert table["event_id"].to_pylist() == [question["event_id"] for question in lived.questions]
    for name in spec.names:
        got, want = table[name].to_pylist(), [answer[name] for answer in lived.answers]
        assert got == want, (name, [i for i, pair in enumerate(zip(got, want, strict=True)) if pair[0] != pair[1]][:5])
    assert any(value for value in table["lv_fraud_share_7d"].to_pylist())
    assert {0.0, 1.0} <= set(table["lv_sources"].to_pylist())
    assert {True, False} == {value is None for value in table["lv_bureau_age"].to_pylist()}
