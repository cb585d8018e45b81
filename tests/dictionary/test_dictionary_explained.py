"""An explanation says what the kernel computed, from which events, and why something is unknown."""

from __future__ import annotations

import asyncio
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from decision_service.api.parse import Clock, parse_event
from decision_service.cli import main
from decision_service.core.event import KINDS, STATUSES, Event, code_key, event_key, header
from decision_service.core.facility import Attribute, Facility
from decision_service.core.features.closure import Closure
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.policy import Policy
from decision_service.core.state import CustomerState
from decision_service.customer_features import asked
from decision_service.dictionary.explained import computed_numbers, explain
from decision_service.dictionary.explanation_text import lines_of
from decision_service.feature_question import FeatureQuestion, facility_for, imagined_request
from decision_service.policies.loading import load_policy
from decision_service.store import Commit
from decision_service.store.memory import MemoryStore

ROOT = Path(__file__).parents[2]
T = 1_795_201_929_000  # 2026-11-21T03:12:09+08:00
LINE = Facility("f-1", "c-1", "revolving", "CNY", 5_000_000, 0, T - DAY_MS, 1_800, "active", T - 200 * DAY_MS)


@lru_cache
def policy() -> Policy:
    """The shipped policy."""
    return load_policy(ROOT / "rules", ROOT / "models", "Asia/Shanghai", DAY_MS)[0]


def event(event_id: str, hours_ago: float, kind: str = "drawdown", **more: Any) -> dict[str, Any]:
    """An event as it is posted."""
    from decision_service.api.instants import format_instant

    body = {"event_id": event_id, "customer_id": "c-1", "facility_id": "f-1", "kind": kind,
            "occurred_at": format_instant(T - round(hours_ago * HOUR_MS))}  # fmt: skip
    return body | ({"amount": 100, "currency": "CNY"} if kind in ("drawdown", "repayment") else {}) | more


def state_of(*events: dict[str, Any], trimmed_through_ms: int = -(2**62), **attributes: Attribute) -> CustomerState:
    """A customer with one line and these events, as the API would record them."""
    clock = Clock(T, 0, 400 * DAY_MS)
    records = b"".join(parse_event(body, i, clock).event.pack() for i, body in enumerate(events))
    return CustomerState(1, header(0, trimmed_through_ms) + records, {"f-1": LINE}, attributes)


def told(name: str, state: CustomerState, *, deep: bool = False, **named: Any) -> dict[str, Any]:
    """A feature explained at T."""
    question = FeatureQuestion("c-1", T, **named)
    facility = facility_for("c-1", state, question.facility_id, T)
    return explain(policy(), state, facility, imagined_request(question, facility, T), name, deep=deep)


DRAWS = [event(f"e-{i}", 5 + 30 * i, amount=100 * (i + 1), counterparty_id=f"m-{i % 2}") for i in range(6)]


def test_a_sum_lists_the_events_it_adds_up() -> None:
    """The contributions of a week's draws add up to the value, newest first, in local time."""
    found = told("vol_ok_amt_7d", state_of(*DRAWS))
    assert found["value"] == sum(e["contribution"] for e in found["events"]) == 2_100
    assert found["events"][0]["occurred_at"] == "2026-11-20T22:12:09.000+08:00"
    assert [e["amount"] for e in found["events"]] == [100, 200, 300, 400, 500, 600]
    assert found["window"] == {
        "label": "7d", "after": "2026-11-14T03:12:09.000+08:00", "until": "2026-11-21T03:12:09.000+08:00",
        "truncated": False,
    }  # fmt: skip
    assert (found["null_cause"], found["segments"]) == (None, {"draw_ok": 'kind == "drawdown" and settled'})


def test_the_request_itself_is_told_where_it_counts() -> None:
    """A row with `incl` lists the imagined request as its newest event."""
    found = told("vel_req_cnt_24h", state_of(*DRAWS), device_id="d-1", counterparty_id="m-0")
    assert found["value"] == 2
    assert [(e["status"], e["seq"], e["device"], e["payee"]) for e in found["events"]] == [
        ("requested", None, "d-1", "m-0"), ("booked", 0, None, "m-0"),
    ]  # fmt: skip


def test_a_digest_is_named_where_its_id_is_known_and_shown_in_hex_where_not() -> None:
    """The log holds digests; the request names one payee of the two."""
    payees = {e["payee"] for e in told("con_payee_cnt_30d", state_of(*DRAWS), counterparty_id="m-1")["events"]}
    assert "m-1" in payees
    assert [payee[0] for payee in payees - {"m-1"}] == ["#"]


def test_distinct_payees_count_once_each() -> None:
    """The newest event of each payee contributes 1."""
    found = told("con_payee_cnt_30d", state_of(*DRAWS))
    assert found["value"] == sum(e["contribution"] for e in found["events"]) == 2


def test_a_derived_feature_shows_its_parts_with_their_values() -> None:
    """Without `deep` a part is its value; with it a part is explained like the feature itself."""
    failed = event("e-f", 1, status="failed")
    flat = told("vol_fail_rate_24h", state_of(*DRAWS, failed))
    assert flat["value"] == 0.5
    assert [(part["name"], part["value"]) for part in flat["parts"]] == [
        ("vol_fail_cnt_24h", 1.0), ("vol_req_cnt_24h", 2.0),
    ]  # fmt: skip
    deep = told("vol_fail_rate_24h", state_of(*DRAWS, failed), deep=True)
    assert [len(part["events"]) for part in deep["parts"]] == [1, 2]


def test_a_settled_draw_has_its_later_status() -> None:
    """An event shows what became of it, as the features see it."""
    draws = state_of(event("e-1", 3), event("e-2", 2))
    failure = Event(7, KINDS["drawdown"], STATUSES["failed"], T - HOUR_MS, settles=event_key("e-1"))
    found = told("vol_req_cnt_24h", CustomerState(1, draws.log + failure.pack(), {"f-1": LINE}))
    assert [e["status"] for e in found["events"]] == ["booked", "failed"]


@pytest.mark.parametrize(
    ("name", "events", "cause"),
    [
        ("dsp_amt_std_7d", DRAWS[:1], "fewer than 2 observations in 7d: 1"),
        ("con_amt_mean_7d", [], "no observations in 7d"),
        ("dsp_amt_cv_7d", DRAWS[:1], "fewer than 2 observations in 7d: 1"),
        ("vol_fail_rate_24h", [], "it divides by 0 in `vol_fail_cnt_24h / vol_req_cnt_24h`"),
        ("trd_yoy", DRAWS, "the facility is 200.0 days old, younger than 455d"),
        ("geo_km_prev", DRAWS, "no observations in 48h"),
    ],
)
def test_the_cause_of_an_unknown_value_is_the_guard_that_closed(name: str, events: list[Any], cause: str) -> None:
    """Too few observations, a young line and a division by nothing are told with their numbers."""
    found = told(name, state_of(*events))
    assert (found["value"], found["null_cause"]) == (None, cause)


def test_a_trimmed_window_is_told() -> None:
    """A window that reaches into what retention took is flagged."""
    state = state_of(*DRAWS, trimmed_through_ms=T - 3 * DAY_MS)
    assert told("vol_ok_cnt_7d", state)["window"]["truncated"] is True
    assert told("vol_ok_cnt_24h", state)["window"]["truncated"] is False


@pytest.mark.parametrize("name", ["vol_ok_amt_7d", "vel_redraw_cnt_30d", "trd_amt_mom", "utl_delta_30d"])
def test_lines_for_people_name_the_feature_its_value_and_its_parts(name: str) -> None:
    """The text is made of the same JSON, and nothing in it is left out for want of a value."""
    found = told(name, state_of(*DRAWS, event("r-1", 20, "repayment")), deep=True)
    text = "\n".join(lines_of(json.loads(json.dumps(found))))
    assert text.startswith("customer c-1, facility f-1, at 2026-11-21T03:12:09.000+08:00 (Asia/Shanghai)")
    for part in (found, *found["parts"]):
        assert f"{part['name']} = " in text


def test_every_feature_can_be_explained() -> None:
    """With a rich history and with none, every feature of the catalogue has an explanation whose value is the
    kernel's and a cause exactly where it is unknown."""
    for state in (state_of(*DRAWS, event("r-1", 20, "repayment")), state_of()):
        question = FeatureQuestion("c-1", T)
        facility = facility_for("c-1", state, None, T)
        request = imagined_request(question, facility, T)
        names = list(policy().catalogue.by_name)
        numbers, _ = computed_numbers(policy(), state, facility, request, names)
        for name in names[::17]:
            found = explain(policy(), state, facility, request, name)
            assert found["value"] == (None if numbers[name] != numbers[name] else numbers[name]), name
            assert (found["null_cause"] is None) == (found["value"] is not None), name


def test_parts_are_what_the_plan_depends_on() -> None:
    """With `deep`, every feature of the closure is told somewhere below."""
    found = told("trd_amt_1m_over_3mavg", state_of(*DRAWS), deep=True)
    names = {part["name"] for part in found["parts"]}
    closure = set(Closure(policy().catalogue, ["trd_amt_1m_over_3mavg"]).specs)
    assert names <= closure
    assert {"b_m0", "b_m1", "b_m2"} <= names


def test_a_store_is_asked_for_the_customer() -> None:
    """The question finds customer, facility and instant; an unknown customer is told."""

    async def go() -> Any:
        store = MemoryStore()
        state = state_of(*DRAWS)
        await store.commit(Commit("c-1", 0, records=state.log[64:], facilities={"f-1": LINE}), 1.0)
        return await asked(store, policy(), FeatureQuestion("c-1", T), ["vol_ok_amt_7d"], T)

    state, facility, request = asyncio.run(go())
    assert (len(state.log), facility.facility_id, request.occurred_at_ms) == (64 * 7, "f-1", T)


def test_a_file_of_events_is_explained_with_the_ids_it_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`features explain --events FILE` reads one customer out of a file; payees and devices have their ids."""
    monkeypatch.chdir(ROOT)
    path = tmp_path / "events.csv"
    columns = ("customer_id", "event_id", "kind", "occurred_at", "amount", "currency", "counterparty_id", "device_id")
    rows = [[e["customer_id"], e["event_id"], e["kind"], e["occurred_at"], e["amount"], "CNY", e["counterparty_id"],
             "d-7"] for e in DRAWS]  # fmt: skip
    rows += [["c-2", "x-1", "drawdown", DRAWS[0]["occurred_at"], 5, "CNY", "m-0", "d-8"]]
    path.write_text("\n".join(",".join(map(str, row)) for row in [columns, *rows]) + "\n")
    at = "2026-11-21T03:12:09+08:00"
    assert main(["features", "explain", "c-1", "vol_ok_amt_7d", "--events", str(path), "--at", at, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["value"], {e["payee"] for e in found["events"]}) == (2_100, {"m-0", "m-1"})
    assert {e["device"] for e in found["events"]} == {"d-7"}
    assert main(["features", "explain", "c-9", "vol_ok_amt_7d", "--events", str(path)]) == 6
    assert "no events of customer 'c-9'" in capsys.readouterr().err


def test_the_keys_of_events_are_the_apis() -> None:
    """The helper above records what the API would: keys and categories digest the same texts."""
    record = parse_event(event("e-1", 1, category="travel"), 0, Clock(T, 0, DAY_MS)).event
    assert (record.key, record.code) == (event_key("e-1"), code_key("travel"))
