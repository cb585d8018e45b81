"""Lives: what happens to a few customers under `every_effect`, so that an archive of it has everything in it that a
decision may rest on or lead to."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

from replay_world import World

from decision_service.answer import instant
from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from decision_service.core.request import SCENES
from decision_service.core.vocabulary import Kind

PURPOSES = (None, None, None, "cap", "freeze", "cut", "dearer", "cheaper", "offer", "step_up", "must_know")
REVIEWS = (
    ("limit", "freeze"), ("limit", "cut"), ("limit", "set"), ("limit", "raise"), ("limit", None), ("price", None),
    ("price", None), ("warning", None), ("warning", None), ("marketing", None), ("renewal", None), ("renewal", None),
    ("renewal", "strict"),
)  # fmt: skip


class Lives:
    """Some customers of a world, seeded: the same lives each time."""

    def __init__(self, world: World, seed: int, customers: int, scenes: Collection[str] = SCENES) -> None:
        """`scenes` are those that the world's policy has."""
        self._world = world
        self._reviews = [(scene, purpose) for scene, purpose in REVIEWS if scene in scenes]
        self._rng = random.Random(seed)
        known = world.customers.known_attributes
        self._income = next(name for name in ("income", "income_monthly") if name in known)
        self._ids = [f"c-{seed}-{n}" for n in range(customers)]
        self._asked = 0
        self.seed = seed

    async def begin(self) -> None:
        """Lines, some attributes, histories short and long: the longest are trimmed."""
        rng, world = self._rng, self._world
        for number, customer_id in enumerate(self._ids):
            if number % 6 != 5:  # the others come with a snapshot in their first request
                age_ms = 140 * DAY_MS if number % 4 == 1 else 10 * DAY_MS  # the older ones miss what gets trimmed
                await world.put_facility(f"f-{customer_id}", customer_id=customer_id, **self._snapshot(-age_ms))
            if number % 7 == 3:
                other = self._snapshot(-5 * DAY_MS) | {"limit": 7_000, "status": rng.choice(("active", "frozen"))}
                await world.put_facility(f"g-{customer_id}", customer_id=customer_id, **other)
            if number % 3 == 0:
                await world.put_attributes(customer_id, **self._attributes())
            await self._history(customer_id, rng.choice((0, 3, 12, 47)) if number % 4 != 1 else 47)

    def _attributes(self) -> dict[str, float | str]:
        """Values of some declared attributes, one of the income among them."""
        known, rng = self._world.customers.known_attributes, self._rng
        some: dict[str, float | str] = {self._income: rng.choice((400, 6_000))}
        for name in rng.sample(sorted(known), min(5, len(known))):
            if name != self._income:
                some[name] = "private" if known[name].spec.kind is Kind.STRING else rng.choice((0, 1, 1, 3))
        return some

    async def _history(self, customer_id: str, length: int) -> None:
        rng, now_ms = self._rng, self._world.clock.ms
        for at in range(0, length, 10):
            bodies = []
            for n in range(at, min(at + 10, length)):
                kind = rng.choice(("drawdown", "repayment", "repayment", "purchase", "overdue"))
                told = {"value": rng.randint(1, 40)} if kind == "overdue" else {}
                bodies.append(
                    {
                        "event_id": f"e-{customer_id}-{n}", "customer_id": customer_id, "kind": kind,
                        "facility_id": f"f-{customer_id}", "amount": rng.randint(10, 900), "currency": "CNY",
                        "occurred_at": instant(now_ms - (length - n) * 3 * DAY_MS - rng.randint(0, DAY_MS)),
                        **self._where(), **told,
                    }
                )  # fmt: skip
            await self._world.post_events(*bodies)

    def _snapshot(self, age_ms: int) -> dict[str, Any]:
        now_ms = self._world.clock.ms
        return {
            "product": "revolver", "currency": "CNY", "outstanding": 500,
            "limit": self._rng.choice((5_003.37, 20_000.01)),
            "as_of": instant(now_ms + age_ms), "apr": self._rng.choice((0.18, 0.2)), "status": "active",
            "granted_at": instant(now_ms - 500 * DAY_MS), "days_past_due": 0,
        }  # fmt: skip

    def _where(self) -> dict[str, Any]:
        rng = self._rng
        return {
            "device_id": f"dev-{rng.randint(0, 3)}", "counterparty_id": f"shop-{rng.randint(0, 4)}",
            "ip": f"203.0.113.{rng.randint(1, 9)}", "channel": rng.choice(("app", "web")),
        }  # fmt: skip

    async def ask(self, rounds: int) -> list[dict[str, Any]]:
        """So many questions, a while apart; the answers."""
        answers = []
        for _ in range(rounds):
            self._world.later(self._rng.choice((SECOND_MS, MINUTE_MS, 20 * MINUTE_MS)))
            answers.append(await self._world.decide(self.question()))
        return answers

    def question(self, **more: Any) -> dict[str, Any]:
        """The next question of somebody."""
        rng = self._rng
        customer_id = rng.choice(self._ids)
        self._asked += 1
        body: dict[str, Any] = {
            "request_id": f"r-{self.seed}-{self._asked}", "customer_id": customer_id, "facility_id": f"f-{customer_id}",
        }  # fmt: skip
        if rng.random() < 0.35 and "amount" not in more:
            scene, purpose = rng.choice(self._reviews)
            body |= {"scene": scene} | ({"purpose": purpose} if purpose else {})
        else:
            body |= {"amount": rng.choice((9.99, 80, 300, 4_000, 90_000)), "currency": "CNY", "term_months": 12}
            body |= {"purpose": purpose} if (purpose := rng.choice(PURPOSES)) else {}
        if rng.random() < 0.8:
            body |= self._where()
        if rng.random() < 0.2:
            body["geo"] = {"lat": 31.2, "lon": 121.4, "accuracy_m": 15}
        if rng.random() < 0.3:
            body["occurred_at"] = instant(self._world.clock.ms - rng.randint(0, 4 * HOUR_MS))
        if rng.random() < 0.2:
            body["attributes"] = {self._income: rng.choice((500, 7_000)), "segment": "told"}
        if rng.random() < 0.3 or customer_id in self._ids[5::6]:  # old, of now, or dated ahead
            body["facility"] = self._snapshot(rng.choice((-20 * DAY_MS, -30 * SECOND_MS, 2 * MINUTE_MS)))
        return body | more

    async def settle(self, answers: list[dict[str, Any]]) -> None:
        """Some of what was approved is booked, fails, or is paid back."""
        rng = self._rng
        for answer in answers:
            if answer["scene"] != "drawdown" or not answer["approved_amount"] or rng.random() < 0.4:
                continue
            self._world.later(MINUTE_MS)
            await self._world.post_events(
                {
                    "event_id": f"s-{answer['decision_id']}", "customer_id": answer["customer_id"], "kind": "drawdown",
                    "status": rng.choice(("booked", "booked", "failed")), "decision_id": answer["decision_id"],
                    "amount": answer["approved_amount"], "currency": "CNY",
                    "occurred_at": instant(self._world.clock.ms),
                }
            )  # fmt: skip

    async def without_store(self, rounds: int) -> None:
        """The store is away: static answers, delivered afterwards."""
        self._world.store.away = True
        for n in range(rounds):
            self._world.later(SECOND_MS)
            clean = {"facility": self._snapshot(-30 * SECOND_MS)} if n % 2 else {}
            await self._world.decide(self.question(amount=100, currency="CNY", scene="drawdown", **clean))
        self._world.store.away = False
        await self._world.deliver()

    async def without_links(self, rounds: int) -> None:
        """Entity logs are late."""
        self._world.store.links_late = True
        await self.ask(rounds)
        self._world.store.links_late = False

    def wait_days(self, days: int) -> None:
        """Nothing happens for some days."""
        self._world.later(days * DAY_MS)

    async def be_listed(self) -> None:
        """Some come onto lists, and some leave them again."""
        await self._world.change_list("block", self._ids[0])
        await self._world.change_list("block", self._ids[1])
        await self._world.change_list("allow", "shop-1")

    async def be_delisted(self) -> None:
        """One leaves the list."""
        await self._world.change_list("block", self._ids[0], False)


async def live(lives: Lives, rounds: int) -> None:
    """Everything that may happen, `rounds` of each sort."""
    await lives.begin()
    await lives.settle(await lives.ask(2 * rounds))
    lives.wait_days(3)
    await lives.be_listed()
    await lives.settle(await lives.ask(rounds))
    await lives.without_links(rounds)
    await lives.be_delisted()
    await lives.without_store(max(4, rounds // 2))
    await lives.ask(rounds)
