"""The sample of a run as a Parquet file, for a notebook: what the model saw, what became of it, and what it says.

customer (numbered as the source first names them), observed_at, part, bad, margin, pd, points, grade, the features
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from decision_service.core.errors import InvalidInput
from decision_service.train.trained import Trained


def check_kept(path: Path) -> None:
    """Raise InvalidInput for a file that could not be written in the end."""
    if path.suffix != ".parquet":
        raise InvalidInput("keep-sample", f"{path.name}: a .parquet file is expected")
    if not path.absolute().parent.is_dir():
        raise InvalidInput("keep-sample", f"the directory {path.parent} does not exist")


def keep_sample(trained: Trained, path: Path) -> None:
    """Write every row of the sample."""
    import pyarrow as pa
    from pyarrow import parquet

    sample, grades = trained.sample, trained.config.grades
    part = np.full(len(sample), "", dtype=object)
    for name, rows in trained.division.parts():
        part[rows & (part == "")] = name
    columns = {
        "customer": sample.customer, "observed_at": pa.array(sample.observed_at_ms, pa.timestamp("ms", "UTC")),
        "part": pa.array(part.tolist()), "bad": sample.bad, "margin": trained.fitted.margins, "pd": trained.pds,
        "points": trained.points.astype(np.int64), "grade": [grades.of(int(each)) for each in trained.points],
    }  # fmt: skip
    for i, name in enumerate(trained.config.names):
        column = np.ascontiguousarray(sample.rows[:, i])
        columns[name] = pa.array(column, mask=np.isnan(column))
    unfinished = path.with_name(f".{path.name}.new")
    parquet.write_table(pa.table(columns), unfinished)
    unfinished.replace(path)
