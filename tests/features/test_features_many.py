"""Many requests in one call get what each gets in a call of its own, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from cases import random_case
from kernel_runner import SLOTS, inputs_of, log_of, row_of, shipped_plan
from oracle import Case

from decision_service.core.event import words_of
from decision_service.core.features.plan import FeaturePlan

ZONE = "Asia/Shanghai"


def numbers_of(plan: FeaturePlan, case: Case) -> np.ndarray:
    """A row with the inputs of a case in front."""
    numbers = np.full(len(SLOTS) + len(plan.names), np.nan)
    for name, value in inputs_of(case).items():
        numbers[SLOTS[name]] = value
    return numbers


def test_many_requests_equal_one_at_a_time() -> None:
    """Logs of different lengths in one array, one longer than any before: the bytes of single calls."""
    plan = shipped_plan(ZONE)
    cases = [random_case(70 + n, n) for n in (0, 3, 200, 40, 1_300)]
    logs = [words_of(log_of(case)) for case in cases]
    single = [numbers_of(plan, case) for case in cases]
    for case, log, numbers in zip(cases, logs, single, strict=True):
        plan.compute(log, row_of(case), numbers)
    ends = np.cumsum([len(log) for log in logs])
    many = np.array([numbers_of(plan, case) for case in cases])
    starts = ends - [len(log) for log in logs]
    plan.compute_many(np.concatenate(logs), starts, ends, np.array([row_of(case) for case in cases]), many)
    assert many.tobytes() == np.array(single).tobytes()


def test_prefixes_of_one_log_serve_several_instants() -> None:
    """A customer's log is handed over once; each request sees its own front part of it."""
    plan, case = shipped_plan(ZONE), random_case(90, 120)
    log = words_of(log_of(case))
    ends = np.array([1, 2, 60, 61, 121])
    many = np.array([numbers_of(plan, case)] * len(ends))
    plan.compute_many(log, np.zeros(5, np.int64), ends, np.array([row_of(case)] * len(ends)), many)
    for end, got in zip(ends, many, strict=True):
        alone = numbers_of(plan, case)
        plan.compute(log[:end], row_of(case), alone)
        assert got.tobytes() == alone.tobytes()


def test_no_requests_is_fine() -> None:
    """An empty batch writes nothing and fails nothing."""
    plan, none = shipped_plan(ZONE), np.zeros(0, np.int64)
    plan.compute_many(np.zeros((0, 8), np.int64), none, none, np.zeros((0, 20), np.int64), np.zeros((0, 9)))


@pytest.mark.parametrize(("start", "end"), [(0, 0), (-1, 1), (0, 3), (2, 1)])
def test_a_log_outside_the_words_is_refused(start: int, end: int) -> None:
    """Bounds are checked before compiled code reads by them."""
    plan, case = shipped_plan(ZONE), random_case(1, 1)
    numbers, row = numbers_of(plan, case), row_of(case)
    bounds = np.array([start]), np.array([end])
    with pytest.raises(ValueError, match="inside words"):
        plan.compute_many(words_of(log_of(case)), *bounds, row[None], numbers[None])


def test_lengths_that_differ_are_refused() -> None:
    """Two logs with one row is a caller's mistake, not a row computed twice."""
    plan, case = shipped_plan(ZONE), random_case(1, 1)
    bounds = np.array([0, 0]), np.array([1, 2])
    with pytest.raises(ValueError, match="2 logs, 1 rows"):
        plan.compute_many(words_of(log_of(case)), *bounds, row_of(case)[None], numbers_of(plan, case)[None])
