"""The README's review: the rule set, the request and the answer that it shows are what the code makes of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import orjson
from scene_cases import DRAWDOWN, FILES, compiled

from decision_service.answer import answer_of
from decision_service.api.parse import Clock, parse_decision
from decision_service.core.decide import decide
from decision_service.core.event import EMPTY_LOG
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, PARTITIONS
from decision_service.core.state import CustomerState
from decision_service.store.keys import decision_id_of

TEXT = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = TEXT.partition("\n## Reviews")[2].partition("\n## ")[0]
NOW_MS = 1_795_201_929_000  # 2026-11-20T19:12:09Z
LINE = Facility(
    "f-1001", "c-1001", "revolving", "CNY", 50_000_00, 21_000_00, NOW_MS - DAY_MS, 1_800, "active",
    NOW_MS - 600 * DAY_MS, days_past_due=0,
)  # fmt: skip


def shown() -> tuple[str, bytes, dict[str, Any]]:
    """Rule set, request and answer of the README."""
    (rules,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    request, answer = re.findall(r"```json\n(.*?)```", SECTION, re.DOTALL)
    return rules, request.encode(), json.loads(answer)


def made(rules: str, body: bytes) -> dict[str, Any]:
    """The answer that the rule set gives to the request, about a line used by 42 %."""
    request, _ = parse_decision(body, Clock(NOW_MS, 0, DAY_MS))
    policy = compiled(
        {**{n: FILES[n] for n in FILES if n.startswith("features/")}, "drawdown.yaml": DRAWDOWN, "limit.yaml": rules}
    )
    state = CustomerState(1, EMPTY_LOG, {LINE.facility_id: LINE})
    decision_id = decision_id_of(request.customer_id, request.request_id, PARTITIONS)
    decision = decide(request, state, policy, NOW_MS, decision_id)
    answer: dict[str, Any] = orjson.loads(orjson.dumps(answer_of(decision, 700, policy.zone.offset_at(NOW_MS))))
    return answer


def test_the_review_of_the_readme_is_decided_as_it_shows() -> None:
    """All of it but the id of the policy, which has a label and features besides."""
    rules, body, answer = shown()
    assert made(rules, body) | {"policy": answer["policy"]} == answer
