"""Meters and log lines: added up over workers, bounded, never blocking."""

from __future__ import annotations

import io
import json
import logging
import queue
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from decision_service.core.errors import StoreUnavailable
from decision_service.core.reasons import Reason
from decision_service.telemetry import STAGES, Meters, Stage
from decision_service.telemetry.exposition import render
from decision_service.telemetry.logs import DroppingHandler, JsonFormatter, TextFormatter, start_logging
from decision_service.telemetry.meters import BOUNDS_S, RULES_WRONG_MAX

ROUTES = ("POST /v1/decisions", "GET /livez")
OTHER_WORKER = """
import sys
from pathlib import Path
from decision_service.telemetry import Meters
meters = Meters(Path(sys.argv[1]), ("POST /v1/decisions", "GET /livez"))
meters.count_decision("hold", "full")
meters.move_in_flight(1)
meters.observe_stage(0, 0.5)
meters.set_links_waiting(2, 9.0)
meters.set_policy("other", "2")
print("counted", flush=True)
sys.stdin.read()
"""


@contextmanager
def other_worker(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another worker that has counted, until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_WORKER, str(directory)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"counted\n"
        yield other


def samples(meters: Meters) -> dict[str, float]:
    """Every sample of the page by name and labels."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(render(meters).decode())
        for sample in family.samples
    }


def stage_cells(meters: Meters) -> list[float]:
    """Every cell of every stage."""
    return [
        cell for stage in Stage for part in [meters.histogram(meters.totals(), stage)] for cell in (*part[0], part[1])
    ]


def test_times_that_wait_are_folded_in_as_if_counted_at_once(tmp_path: Path) -> None:
    """At the edges of the buckets and beyond them all, at the FOLD_AT-th, when asked to and at the end."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    later, now = Meters(tmp_path / "a"), Meters(tmp_path / "b")
    times = [[0.0, *BOUNDS_S[i : i + 6], 9.0 + i] for i in range(13)]
    for stages_s in times * 5:
        later.observe_decision(stages_s)
        for stage, seconds in enumerate(stages_s):
            now.observe_stage(stage, seconds)
    assert sum(stage_cells(later)) < sum(stage_cells(now))
    later.fold()
    assert stage_cells(later) == pytest.approx(stage_cells(now))
    now.close()
    before = later.histogram(later.totals(), Stage.PARSE)[0][BOUNDS_S.index(1.0)]
    later.observe_decision([1.0] * len(STAGES))
    later.close()
    assert later.histogram(later.totals(), Stage.PARSE)[0][BOUNDS_S.index(1.0)] == before + 1.0


def counted(meters: Meters, name: str, **labels: str) -> float:
    """One sample."""
    return samples(meters)[f"decision_service_{name}{sorted(labels.items())}"]


def test_what_is_counted_is_shown(tmp_path: Path) -> None:
    """Every method of the meters reaches the page under its labels."""
    meters = Meters(tmp_path, ROUTES)
    meters.count_decision("hold", "static")
    meters.count_decision("hold", "static", replayed=True)
    meters.count_reasons((Reason("RC11", "rule:any"),))
    meters.count_store_error(StoreUnavailable.code)
    meters.count_reload(True)
    meters.count_reload(False)
    meters.count_rate_limited()
    meters.count_links("appended", 7)
    meters.count_link_missed("payee")
    meters.set_links_waiting(3, 2.5)
    meters.count_afterwards("drift", "taken", 64)
    meters.count_afterwards("shadows", "failed", 3)
    meters.count_afterwards("drift", "dropped", 2)
    meters.set_afterwards_waiting(9)
    meters.count_request("POST /v1/decisions", 422)
    meters.set_policy("9f2c", "2026.11.1")
    meters.count_decision("reprice", "full", scene="price")
    meters.count_rule_wrong("price", "poisoned")
    assert counted(meters, "decisions_total", decision="reprice", rung="full", replayed="false", scene="price") == 1
    assert counted(meters, "rules_wrong_total", scene="price", rule="poisoned") == 1
    assert counted(meters, "decisions_total", decision="hold", rung="static", replayed="false", scene="drawdown") == 1
    assert counted(meters, "decisions_total", decision="hold", rung="static", replayed="true", scene="drawdown") == 1
    assert counted(meters, "reasons_total", code="RC11") == 1
    assert counted(meters, "store_errors_total", code="store-unavailable") == 1
    assert (
        counted(meters, "policy_reloads_total", result="ok")
        == counted(meters, "policy_reloads_total", result="failed")
        == 1
    )
    assert counted(meters, "rate_limited_total") == 1
    assert counted(meters, "links_total", result="appended") == 7
    assert counted(meters, "links_missed_total", grain="payee") == 1
    assert (counted(meters, "links_waiting"), counted(meters, "link_lag_seconds")) == (3, 2.5)
    assert counted(meters, "afterwards_total", consumer="drift", result="taken") == 64
    assert counted(meters, "afterwards_total", consumer="shadows", result="failed") == 3
    assert counted(meters, "afterwards_total", consumer="drift", result="dropped") == 2
    assert counted(meters, "afterwards_waiting") == 9
    assert counted(meters, "http_requests_total", method="POST", route="/v1/decisions", status="422") == 1
    assert counted(meters, "policy_info", id="9f2c", label="2026.11.1") == 1
    meters.close()


def test_latencies_are_cumulative_buckets(tmp_path: Path) -> None:
    """A bucket holds what is at most its bound; the sum and count agree."""
    meters = Meters(tmp_path, ROUTES)
    for seconds in (0.00005, 0.0003, 0.004, 60.0):
        meters.observe_stage(Stage.SCORE, seconds)
    assert counted(meters, "stage_seconds_bucket", stage="score", le="2.5e-05") == 0
    assert counted(meters, "stage_seconds_bucket", stage="score", le="5e-05") == 1
    assert counted(meters, "stage_seconds_bucket", stage="score", le="0.0005") == 2
    assert counted(meters, "stage_seconds_bucket", stage="score", le="0.005") == 3
    assert counted(meters, "stage_seconds_bucket", stage="score", le="5.0") == 3
    assert counted(meters, "stage_seconds_bucket", stage="score", le="+Inf") == 4
    assert counted(meters, "stage_seconds_count", stage="score") == 4
    assert counted(meters, "stage_seconds_sum", stage="score") == pytest.approx(60.00435)
    assert STAGES[Stage.TOTAL] == "total"
    meters.close()


def test_the_largest_lag_of_all_workers_is_shown(tmp_path: Path) -> None:
    """Entries that wait are added up over workers, their ages are not."""
    mine = Meters(tmp_path, ROUTES)
    mine.set_links_waiting(3, 1.5)
    with other_worker(tmp_path):
        assert (counted(mine, "links_waiting"), counted(mine, "link_lag_seconds")) == (5, 9.0)
        mine.set_links_waiting(3, 12.0)
        assert counted(mine, "link_lag_seconds") == 12.0
    mine.close()


@pytest.mark.fault("H17")
def test_labels_are_bounded(tmp_path: Path) -> None:
    """Unknown routes, statuses and reasons are gathered under `other`; the page does not grow."""
    meters = Meters(tmp_path, ROUTES)
    before = len(samples(meters))
    for i in range(1_000):
        meters.count_request(f"GET /customers/canary-{i}", 600 + i)
        meters.count_reasons((Reason(f"canary-{i}", "rule:any"),))
    page = render(meters).decode()
    assert "canary" not in page
    assert counted(meters, "reasons_total", code="other") == 1_000
    assert len(samples(meters)) <= before + 1
    meters.close()


@pytest.mark.fault("H17")
def test_rules_that_go_wrong_are_bounded_and_added_up_by_name(tmp_path: Path) -> None:
    """Every worker names its own cells; when all are taken the rest is one. Dead workers' counts are folded by name."""
    mine = Meters(tmp_path, ROUTES)
    for _ in range(2):
        mine.count_rule_wrong("limit", "shared")
    theirs = 'for name in [*(f"r{n}" for n in range(200)), "shared"]:\n    meters.count_rule_wrong("limit", name)\n'
    script = OTHER_WORKER.replace('print("counted"', theirs + 'print("counted"')
    for _ in range(2):  # the second folds the first
        command = [sys.executable, "-c", script, str(tmp_path)]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    assert counted(mine, "rules_wrong_total", scene="limit", rule="r0") == 2
    assert counted(mine, "rules_wrong_total", scene="limit", rule="shared") == 2
    assert counted(mine, "rules_wrong_total", scene="other", rule="other") == 2 * (200 + 1 - RULES_WRONG_MAX + 1)
    assert sum("rules_wrong_total" in name for name in samples(mine)) == RULES_WRONG_MAX + 1
    mine.close()
    again = Meters(tmp_path, ROUTES)  # of this very process, so what `mine` counted is gone
    again.count_rule_wrong("limit", "r0")
    assert counted(again, "rules_wrong_total", scene="limit", rule="r0") == 3
    assert sum(v for name, v in samples(again).items() if "rules_wrong_total" in name) == 2 * 201 + 1
    again.close()


def test_workers_are_added_up_and_a_dead_one_is_not_forgotten(tmp_path: Path) -> None:
    """Counters of a killed worker stay, its gauges and policy go; a new worker folds its file away."""
    mine = Meters(tmp_path, ROUTES)
    mine.count_decision("hold", "full")
    mine.move_in_flight(2)
    mine.set_policy("mine", "1")
    with other_worker(tmp_path) as other:
        hold = {"decision": "hold", "rung": "full", "replayed": "false", "scene": "drawdown"}
        assert counted(mine, "decisions_total", **hold) == 2
        assert counted(mine, "requests_in_flight") == 3
        assert counted(mine, "workers") == 2
        assert counted(mine, "policy_info", id="other", label="2") == 1
        other.kill()
    for _ in range(2):
        assert counted(mine, "decisions_total", **hold) == 2
        assert counted(mine, "requests_in_flight") == 2
        assert counted(mine, "workers") == 1
        assert "policy_info[('id', 'other')" not in str(samples(mine))
        third = subprocess.run(
            [sys.executable, "-c", OTHER_WORKER.replace('meters.count_decision("hold", "full")', ""), str(tmp_path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        assert third.returncode == 0
    assert len(list(tmp_path.glob("*.cells"))) == 3  # mine, retired, the last one's
    mine.close()


def record(text: str) -> logging.LogRecord:
    """A log record."""
    return logging.LogRecord("decision_service.api", logging.INFO, __file__, 1, text, None, None)


@pytest.mark.fault("H16")
def test_a_full_log_drops_lines_and_says_how_many() -> None:
    """A blocked reader of the log costs lines, never a decision."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(2)
    handler = DroppingHandler(lines)
    for text in ("a", "b", "c", "d"):
        handler.handle(record(text))
    assert handler.dropped == 2
    lines.get()
    handler.handle(record("e"))
    lines.get()
    assert lines.get().getMessage() == "e (2 lines before were dropped)"
    assert handler.dropped == 0


def test_a_line_is_one_line_in_both_forms() -> None:
    """A text with line breaks cannot forge a second line."""
    forged = record("one\ntwo\r2026 ERROR api: forged")
    assert len(TextFormatter().format(forged).splitlines()) == 1
    told = json.loads(JsonFormatter().format(forged))
    assert told["text"].startswith("one\ntwo")
    assert told["level"] == "info"
    assert "\n" not in JsonFormatter().format(forged)


def test_the_listener_writes_what_is_left_when_it_stops() -> None:
    """The last lines before the end are not lost."""
    stream, last_resort = io.StringIO(), logging.lastResort
    listener = start_logging("info", as_json=False, stream=stream)
    logging.getLogger("decision_service.test").info("the end")
    logging.getLogger("decision_service.test").debug("not this")
    listener.stop()
    for name in ("decision_service", "uvicorn", "asyncio"):  # as they were
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    logging.lastResort = last_resort
    assert stream.getvalue().endswith("INFO test: the end\n")
    assert "not this" not in stream.getvalue()
