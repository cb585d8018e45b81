"""Somebody looks for a hidden threshold by bisection: with drawdowns the velocity rule meets him, with previews the
limit of previews does, and what he is told holds no number of ours."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from api_fakes import DRAWDOWN, office
from real_office import bearer, real_office
from test_security_access import drawdown, facility

from decision_service.api.access import Access
from decision_service.api.keys import KeyFile, add_key
from decision_service.core.errors import StoreUnavailable
from decision_service.core.reasons import TEXTS

pytestmark = pytest.mark.fault("I08")
HIDDEN = 6_173  # real_office's rule holds larger amounts; the line has 50,000 available


async def bisect(client: httpx.AsyncClient, path: str, key: str, steps: int) -> tuple[float, list[httpx.Response]]:
    """The half-open interval's length that is left after so many questions, and the answers."""
    low, high, answers = 0.0, 50_000.0, []
    for step in range(steps):
        amount = round((low + high) / 2, 2)
        body = drawdown(f"{path[-7:]}-{step}", "c-1", "f-1", amount)
        answer = await client.post(path, json=body, headers=bearer(key))
        answers.append(answer)
        if answer.status_code != 200:
            continue
        if answer.json()["decision"] == "approve":
            low = amount
        else:
            high = amount
    return high - low if low < HIDDEN <= high else float("inf"), answers


def test_drawdowns_stop_telling_once_smaller_ones_follow_a_refusal(tmp_path: Path) -> None:
    """The fourth smaller request within a day after a refusal is held whatever its amount, and so is each after it:
    the threshold is not found, and each step that was approved was paid out of the prober's own line."""
    file = tmp_path / "keys.json"
    key = add_key(file, "bank", ["admin"])

    async def go() -> tuple[float, list[httpx.Response]]:
        async with real_office(tmp_path, file) as client:
            await client.put("/v1/facilities/f-1", json=facility("c-1"), headers=bearer(key))
            return await bisect(client, "/v1/decisions", key, 24)

    left, answers = asyncio.run(go())
    told = [answer.json() for answer in answers]
    assert {t["decision"] for t in told[6:]} == {"hold"}, "however small the amount was"
    assert left == float("inf") or left > 1_000, "the interval holds the threshold no longer, or is wide"
    for reason in (reason for t in told for reason in t["reasons"]):
        assert str(HIDDEN) not in str(reason)
        assert not re.search(r"\d{2,}", reason["text"])


def test_previews_of_a_customer_are_limited_and_other_customers_go_on(tmp_path: Path) -> None:
    """429 with Retry-After after so many an hour; the drawdowns of the same customer are not touched."""
    file = tmp_path / "keys.json"
    key = add_key(file, "app", ["decide", "events"])

    async def go() -> None:
        async with real_office(tmp_path, file, previews_per_hour=5) as client:
            for name in ("1", "2"):
                line = facility(f"c-{name}")
                assert (await client.put(f"/v1/facilities/f-{name}", json=line, headers=bearer(key))).status_code == 200
            left, answers = await bisect(client, "/v1/decisions/preview", key, 12)
            assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 7
            assert int(answers[-1].headers["retry-after"]) > 60
            assert left > 1_000
            other = await client.post(
                "/v1/decisions/preview", json=drawdown("p-2", "c-2", "f-2", 10), headers=bearer(key)
            )
            assert other.status_code == 200
            draw = await client.post("/v1/decisions", json=drawdown("d-1", "c-1", "f-1", 10), headers=bearer(key))
            assert (draw.status_code, draw.json()["decision"]) == (200, "approve")

    asyncio.run(go())


def test_reasons_tell_no_numbers() -> None:
    """The text of no reason names a threshold, an amount or a count: what a caller may show a customer is coarse."""
    assert len(TEXTS) > 10
    assert [text for text in TEXTS.values() if re.search(r"\d", str(text))] == []


@pytest.mark.fault("E13")
def test_limits_and_keys_hold_with_the_store_down_and_after_it_is_back(tmp_path: Path) -> None:
    """Neither asks the store: a stranger is 401 and a flood 429 while every decision fails, and the same afterwards."""
    file = tmp_path / "keys.json"
    key = add_key(file, "bank", ["decide"])

    async def go() -> list[int]:
        async with office(tmp_path, Access(KeyFile(file)), rate_limit_per_s=1, rate_limit_burst=4) as opened:

            async def ask(bearer_key: str) -> int:
                answer = await opened.client.post("/v1/decisions", json=DRAWDOWN, headers=bearer(bearer_key))
                return answer.status_code

            opened.decisions.raises = StoreUnavailable("it is down")
            told = [await ask(key), await ask("dsk_stranger"), await ask(key)]
            opened.decisions.raises = None
            return [*told, await ask(key), await ask(key), await ask(key), await ask("dsk_stranger")]

    assert asyncio.run(go()) == [503, 401, 503, 200, 200, 429, 401]
