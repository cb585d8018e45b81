"""Features of devices, payees, networks, facilities and loans equal their definition over everybody's events."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runner import differences, shipped_catalogue
from link_cases import (
    DEVICES,
    PAYEES,
    T,
    computed_links,
    logs_of,
    own_log,
    plans_for_links,
    question_of,
    row_of_question,
    shortened,
    world_of,
)
from oracle import Case
from oracle_links import WINDOWS, D, link_features
from oracle_use import use_features

from decision_service.core.event import words_of
from decision_service.core.features.contributions import contributions_of, span_of
from decision_service.core.features.grains import CUSTOMER, log_read_by
from decision_service.core.features.membership import Judge, facts_of
from decision_service.core.links import LINK_GRAINS

PLANS = plans_for_links()
SIZES = st.integers(0, 70)
SEEDS = st.integers(0, 10**9)


@given(SEEDS, SIZES)
@settings(max_examples=150, deadline=None)
def test_kernel_equals_definition_over_all_customers(seed: int, n: int) -> None:
    """Late events, settlements, labels changed and dated after t, edges of window and delay: all as defined."""
    world = world_of(seed, n)
    ask = question_of(seed, world)
    assert differences(computed_links(PLANS, world, ask, logs_of(world, ask)), link_features(world, ask)) == []


@pytest.mark.parametrize("n", [600, 900])
def test_kernel_equals_definition_on_crowded_entities(n: int) -> None:
    """Logs of hundreds of records with many labels, some of them fraud."""
    world = world_of(n, n)
    ask = replace(question_of(n, world), device=DEVICES[0], payee=PAYEES[1], unread=frozenset())
    expected = link_features(world, ask)
    assert differences(computed_links(PLANS, world, ask, logs_of(world, ask)), expected) == []
    assert expected["vel_dev_cust_cnt_30d"] == 4
    assert 0 < (expected["rsk_dev_fraud_share_30d"] or 0) < 1


def reach_ms(name: str) -> int:
    """How far back from t a feature looks."""
    width = WINDOWS[name.rpartition("_")[2]]
    return width + 7 * D if name.startswith("rsk_") else width


@given(SEEDS, st.integers(10, 70), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_a_bounded_log_is_exact_or_says_so(seed: int, n: int, kept: int) -> None:
    """Where the flag is down nothing is missing; where it is up a count is a lower bound."""
    world = world_of(seed, n)
    ask = question_of(seed, world)
    cut = {grain: (None, 0) if log is None else shortened(log, grain, kept)
           for grain, log in logs_of(world, ask).items()}  # fmt: skip
    through = {grain: at for grain, (log, at) in cut.items() if log is not None}
    whole = link_features(world, replace(ask, trimmed_through=through))
    got = computed_links(PLANS, world, ask, {grain: log for grain, (log, _) in cut.items()})
    for spec in shipped_catalogue().specs:
        if spec.grain not in LINK_GRAINS or spec.name not in whole:  # the use of funds is defined in oracle_use.py
            continue
        mine, true = got[spec.name], whole[spec.name]
        flagged = through.get(spec.grain, -1) > T - reach_ms(spec.name) and "hist_" not in spec.name
        if not flagged:
            assert differences({spec.name: mine}, {spec.name: true}) == []
        elif "_cnt_" in spec.name and "label" not in spec.name and true is not None:
            assert mine is not None
            assert mine <= true


@given(SEEDS, SIZES)
@settings(max_examples=50, deadline=None)
def test_a_share_is_a_share(seed: int, n: int) -> None:
    """Every share is null or from 0 to 1, and null exactly when there is nothing to share."""
    world = world_of(seed, n)
    got = computed_links(
        PLANS, world, ask := replace(question_of(seed, world), unread=frozenset()), logs_of(world, ask)
    )
    for name in ("payee", "dev"):
        named = ask.payee if name == "payee" else ask.device
        for w in ("1d", "7d", "30d"):
            share, count = got[f"rsk_{name}_fraud_share_{w}"], got[f"rsk_{name}_cnt_{w}"]
            assert (count is None) == (named == 0)
            assert (share is None) == (not count)
            assert share is None or 0 <= share <= 1


@given(SEEDS, st.integers(5, 60))
@settings(max_examples=40, deadline=None)
def test_the_events_shown_for_a_value_make_it_up(seed: int, n: int) -> None:
    """An explanation of a count, a distinct count or a share of any grain adds up to what the kernel computed."""
    world = world_of(seed, n)
    ask = replace(question_of(seed, world), unread=frozenset())
    logs = logs_of(world, ask)
    got, row = computed_links(PLANS, world, ask, logs), row_of_question(ask)
    words = {CUSTOMER: words_of(own_log(world, ask))} | {g: words_of(log) for g, log in logs.items() if log}
    judge, segments = Judge(row, {}), shipped_catalogue().segments
    for spec in shipped_catalogue().specs:
        if got.get(spec.name) is None or spec.row.plain("agg", spec.variant) not in ("count", "distinct", "share"):
            continue
        facts = facts_of(words[log_read_by(spec.grain)], row, PLANS.plans[CUSTOMER].zone, spec.grain)
        shown = contributions_of(spec, span_of(spec.variant, T, spec.row.delay_ms), segments, facts, judge)
        members = [one for one in shown if one.role == "of"]
        total = math.fsum(one.contribution or 0 for one in members)
        whole = len(members) if spec.row.plain("agg", spec.variant) == "share" else 1
        assert got[spec.name] == total / whole, spec.name


def test_every_shipped_row_of_another_grain_is_defined() -> None:
    """No feature an analyst sees is without a definition in the oracle."""
    shipped = {spec.name for spec in shipped_catalogue().specs if spec.grain != CUSTOMER and not spec.internal}
    defined = link_features([], question_of(0, [])).keys()
    elsewhere = use_features(Case([], T, 0, inputs=defaultdict(float))).keys()  # the loan's score
    assert shipped - defined - elsewhere == set()
    assert {log_read_by(shipped_catalogue().by_name[name].grain) for name in defined} == {CUSTOMER, *LINK_GRAINS}
