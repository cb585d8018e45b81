"""A measurement in round numbers, for which the model can be worked by hand. Whoever imports this first can import what
is in `benchmarks`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))


def per_call(service_us: float, store_us: float, to: float, back: float, aof: float) -> dict[str, Any]:
    """What a decision or an event costs."""
    return {
        "service_cpu_us": service_us, "store_cpu_us": store_us, "store_net_in": to, "store_net_out": back,
        "aof_bytes": aof, "fsyncs": 0.5, "scripts": 2.0, "commands": 20.0, "used_memory": 5_000.0, "calls": 100,
        "by_command": {"evalsha": 2.0, "get": 6.0},
    }  # fmt: skip


def history(log_bytes: float, decision: dict[str, Any]) -> dict[str, Any]:
    """Customers of one history length."""
    return {
        "customers": 100, "used_memory_per_customer": 2.0 * log_bytes, "aof_bytes_per_event": 800.0,
        "log_bytes": log_bytes, "log_bytes_as_loaded": log_bytes / 2, "record_bytes": log_bytes / 2,
        "meta_bytes": 400.0, "decision": decision,
    }  # fmt: skip


def measured() -> dict[str, Any]:
    """100 events: 10 kB and 1,000 us; 300 events: 30 kB and 1,200 us."""
    return {
        "format": "decision-service-scale/1", "commit": "abc1234", "at": "2026-11-22T17:00:00Z", "allocator": "libc",
        "machine": {"cpu": "a processor", "cores": 2, "python": "3.11.7", "load_before": 0.1},
        "histories": {
            "100": history(10_000.0, per_call(1_000.0, 100.0, 5_000.0, 10_000.0, 4_000.0)),
            "200": history(20_000.0, per_call(1_100.0, 150.0, 5_000.0, 20_000.0, 4_000.0)),
            "300": history(30_000.0, per_call(1_200.0, 200.0, 5_000.0, 30_000.0, 4_000.0)),
        },
        "bytes": {
            "owner": 50.0, "decision_frame": 3_900.0, "outbox_entry": 100.0, "outbox_event": 300.0, "entity_log": 100.0,
            "entity_record": 100.0, "entity_records_max": 1_024, "used_over_keys": 1.0,
            "keys": {"event log": {"keys": 300, "bytes": 20_000.0}},
        },
        "event": per_call(500.0, 50.0, 1_000.0, 2_000.0, 1_000.0),
        "one_connection": per_call(1_500.0, 200.0, 5_000.0, 20_000.0, 4_000.0) | {"per_s": 300.0},
        "one_customer": {"per_s_one_connection": 300.0, "per_s_eight_connections": 500.0},
        "hot_payee": {"service_cpu_us": 30.0, "store_cpu_us": 50.0, "store_net_in": 0.0, "store_net_out": 65_000.0,
                      "aof_bytes": 0.0},
        "http": {"request_bytes": 440.0, "response_bytes": 1_300.0},
        "connections_per_worker": 2,
    }  # fmt: skip


def even(partitions: int = 256) -> dict[str, Any]:
    """A simulation in which everything is alike but for the busiest customer and payee: 1 of 1,000."""
    rows = [
        {
            "count": count, "exponent": 0.8, "hottest_share": 0.001, "hottest_partition_share": 1.0 / partitions,
            "hottest_shard": {way: {str(n): 1.0 for n in (1, 16, 256)} for way in ("partitions", "slots")},
            "shards_fed": {"partitions": 256, "slots": 256},
        }
        for count in (10_000_000, 1_000_000_000)
    ]  # fmt: skip
    return {"partitions": partitions, "customers": rows, "payees": rows}
