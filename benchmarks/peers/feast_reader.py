"""Reads features through Feast; runs in a virtual environment of its own (`feast_read.py` starts it and talks to it).

    python feast_reader.py FOLDER REDIS_PORT        FOLDER/values.json: {"names": [...], "rows": {customer: [...]}}

It registers one entity and one feature view of Float64 fields, writes the values to the Redis online store, prints the
first line, then answers each line it is given with one line, all JSON:

    {"version": "..."}                              ready
    {"read": [customer, ...]}     ->  {"rows": {customer: [value or null, ...]}}
    {"seconds": s}                ->  {"wall_s": [...], "cpu_s": per call}
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["FEAST_USAGE"] = "False"

import feast
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float64

PROJECT, VIEW = "peers", "behaviour"


def opened(folder: Path, port: int, names: list[str], rows: dict[str, list[float | None]]) -> FeatureStore:
    """A feature store that holds these values online."""
    now = datetime.datetime.now(datetime.UTC)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=names, dtype="float64")
    frame = frame.rename_axis("customer").reset_index().assign(event_timestamp=now)
    frame.head(1).to_parquet(folder / "source.parquet")
    store = FeatureStore(config=RepoConfig(
        project=PROJECT, provider="local", registry=str(folder / "registry.db"), entity_key_serialization_version=3,
        online_store={"type": "redis", "connection_string": f"127.0.0.1:{port}"},
        offline_store={"type": "dask"},
    ))  # fmt: skip
    customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.STRING)
    source = FileSource(path=str(folder / "source.parquet"), timestamp_field="event_timestamp")
    view = FeatureView(
        name=VIEW, entities=[customer], ttl=datetime.timedelta(days=1), source=source,
        schema=[Field(name=name, dtype=Float64) for name in names],
    )  # fmt: skip
    store.apply([customer, view])
    store.write_to_online_store(VIEW, frame)
    return store


def main() -> None:
    """Open, then answer until there is nothing more to read."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    given = json.loads((folder / "values.json").read_text())
    names, customers = given["names"], list(given["rows"])
    store = opened(folder, port, names, given["rows"])
    features = [f"{VIEW}:{name}" for name in names]

    def read(customer: str) -> dict[str, Any]:
        return store.get_online_features(features=features, entity_rows=[{"customer": customer}]).to_dict()

    def row(customer: str) -> list[float | None]:
        found = read(customer)
        return [None if (value := found[name][0]) is None or value != value else value for name in names]

    def timed(seconds: float) -> dict[str, Any]:
        clock, wall = time.perf_counter, []
        until, cpu = clock() + seconds, time.process_time()
        while (began := clock()) < until or not wall:
            read(customers[len(wall) % len(customers)])
            wall.append(clock() - began)
        return {"wall_s": wall, "cpu_s": (time.process_time() - cpu) / len(wall)}

    print(json.dumps({"version": feast.__version__}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        told = {"rows": {one: row(one) for one in asked["read"]}} if "read" in asked else timed(asked["seconds"])
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
