"""A feature that an analyst adds while the service runs is there within a second, with its full history."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from service_process import ROOT, ServiceProcess

LIVE_S = 10.0  # generous: how long a loaded machine may take; the figure itself is measured, not asserted
ROW = """
features:
  vol_travel_cnt:
    {agg: count, of: draw_travel, windows: [7d, 90d], null: Z, unit: n, en: "travel draws", zh: "旅行笔数"}
segments:
  draw_travel: kind == "drawdown" and category == "travel"
"""


def iso(instant: datetime) -> str:
    """RFC 3339 with milliseconds."""
    return instant.isoformat(timespec="milliseconds")


def features_of(service: ServiceProcess, names: str) -> httpx.Response:
    """GET features of the customer."""
    return httpx.get(f"{service.url}/v1/customers/c-1/features", params={"names": names}, timeout=5)


@pytest.mark.slow
def test_a_new_feature_is_live_with_the_events_from_before_it(tmp_path: Path) -> None:
    """Events are recorded, then a file with a new row is saved: its value counts them; a wrong row changes nothing; and
    the explanation of the new feature lists the old events."""
    rules = tmp_path / "rules"
    shutil.copytree(ROOT / "rules", rules)
    now = datetime.now(UTC)
    with ServiceProcess(tmp_path / "service", rules=rules) as service:
        events = [
            {"event_id": f"e-{i}", "customer_id": "c-1", "kind": "drawdown", "amount": 100, "currency": "CNY",
             "category": "travel" if i % 2 else "home", "occurred_at": iso(now - timedelta(days=4 * i + 1))}
            for i in range(10)
        ]  # fmt: skip
        assert httpx.post(f"{service.url}/v1/events", json={"events": events}).json()["accepted"] == 10
        assert features_of(service, "vol_travel_cnt_90d").status_code == 422
        before = httpx.get(f"{service.url}/v1/policy").json()["id"]

        (rules / "features" / "mine.yaml").write_text(ROW, encoding="utf-8")
        saved = time.monotonic()
        while features_of(service, "vol_travel_cnt_90d").status_code != 200:
            assert time.monotonic() - saved < LIVE_S, httpx.get(f"{service.url}/v1/policy").text
            time.sleep(0.02)
        took_s = time.monotonic() - saved
        told = features_of(service, "vol_travel_cnt_7d,vol_travel_cnt_90d").json()["features"]
        assert {name: feature["value"] for name, feature in told.items()} == {
            "vol_travel_cnt_7d": 1, "vol_travel_cnt_90d": 5,
        }  # fmt: skip
        found = httpx.get(f"{service.url}/v1/customers/c-1/features/vol_travel_cnt_90d").json()
        assert [event["category"] for event in found["events"]] == ["travel"] * 5
        print(f"live after {took_s:.3f} s")

        live = httpx.get(f"{service.url}/v1/policy").json()["id"]
        (rules / "features" / "mine.yaml").write_text(ROW.replace('"drawdown"', '"drowdown"'), encoding="utf-8")
        wrong = time.monotonic()
        while not (policy := httpx.get(f"{service.url}/v1/policy").json())["problem"]:
            assert time.monotonic() - wrong < LIVE_S
            time.sleep(0.05)
        assert policy["id"] == live != before
        assert [d["nearest"] for d in policy["diagnostics"]] == ["drawdown"]
        assert features_of(service, "vol_travel_cnt_90d").json()["features"]["vol_travel_cnt_90d"]["value"] == 5
