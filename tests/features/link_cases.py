"""Generated worlds of several customers who share devices, payees and networks; and the logs that hold them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from kernel_runner import SLOTS, row_of, shipped_catalogue, signed
from oracle import Case
from oracle_links import D, H, Question, Recorded, Value, link_features

from decision_service.core import inputs as q
from decision_service.core.event import KINDS, Event, code_key, header, words_of
from decision_service.core.features.plans import FeaturePlans, compile_plans
from decision_service.core.links import LINK_GRAINS, entity_header, link_record
from decision_service.core.zone import zone_named

T = 1_790_000_123_457
CUSTOMERS = (41, 42, 43, 2**63 + 44)
DEVICES, PAYEES, NETS = (11, 12, 0), (21, 2**63 + 5, 0), (31, 32, 0)
LINE, OTHER_LINE = 7, 8
KINDS_SEEN = (
    "drawdown", "drawdown", "drawdown", "purchase", "transfer_out", "repayment", "due", "overdue", "login", "other",
)  # fmt: skip
EDGES = (H, 24 * H, 7 * D, 8 * D, 14 * D, 30 * D, 37 * D, 90 * D)
DECIDED = 10**6  # keys of draws we decided are unique over all customers; other events' keys are a customer's own
FRAUD, FINE = code_key("fraud"), code_key("fine")


def _instant(rng: random.Random) -> int:
    pick = rng.random()
    if pick < 0.35:
        return T - rng.choice(EDGES) + rng.choice((-1, 0, 0, 1))
    if pick < 0.45:
        return T + rng.choice((-1, 0, 1, D))
    if pick < 0.6:
        return T - 7 * D + rng.choice((-1, 0, 1))
    return T - int(rng.random() ** 2 * 60 * D)


def _labelled_at(rng: random.Random, event: Event) -> int:
    return max(event.occurred_at_ms, rng.choice((event.occurred_at_ms, event.occurred_at_ms + D, T - H, T, T + 1)))


def _happening(rng: random.Random, key: int, earlier: list[Event]) -> Event:
    kind = rng.choice(KINDS_SEEN)
    draws = [e.key for e in earlier if e.kind == KINDS["drawdown"] and not e.settles]
    loan = rng.choice(draws) if draws and kind in ("repayment", "due", "overdue") and rng.random() < 0.8 else 0
    value = float(rng.randrange(1, 90)) if kind == "overdue" and rng.random() < 0.9 else float("nan")
    return Event(
        DECIDED + key if kind == "drawdown" and rng.random() < 0.6 else key, KINDS[kind],
        rng.choice((1, 1, 1, 2, 3, 4, 5)), _instant(rng), rng.choice((0, 100, 10_000, 99_900)), value, 0,
        rng.choice((LINE, LINE, OTHER_LINE, 0)), rng.choice(DEVICES), 0 if loan else rng.choice(PAYEES), settles=loan,
    )  # fmt: skip


def world_of(seed: int, n: int) -> list[Recorded]:
    """What everybody did, in recorded order: `n` things, and on top of them settlements and labels."""
    rng = random.Random(seed)
    keys = Counter[int]()
    by_customer: dict[int, list[Event]] = {customer: [] for customer in CUSTOMERS}
    world: list[Recorded] = []
    for i in range(n):
        customer = rng.choice(CUSTOMERS)
        earlier = by_customer[customer]
        keys[customer] += 1
        event = _happening(rng, keys[customer], earlier)
        if event.key >= DECIDED:
            event = replace(event, key=DECIDED + i)
        if earlier and rng.random() < 0.3:
            about = rng.choice(earlier)
            mark = Event(keys[customer], KINDS["label"], 1, _labelled_at(rng, about), code=rng.choice((FRAUD, FINE, 0)))
            event = replace(mark, settles=about.key, device=rng.choice((0, 0, 11)))
        elif (decided := [e for e in earlier if e.key >= DECIDED]) and rng.random() < 0.15:
            draw = rng.choice(decided)
            at = draw.occurred_at_ms + rng.choice((0, 1, H, 3 * D))
            event = Event(keys[customer], KINDS["drawdown"], rng.choice((1, 4, 5)), at, settles=draw.key)
        by_customer[customer].append(event)
        world.append(Recorded(customer, event, rng.choice(NETS) if event.kind != KINDS["label"] else 0))
    if rng.random() < 0.5:  # late: recorded long after it happened
        rng.shuffle(world)
    return world


def question_of(seed: int, world: list[Recorded]) -> Question:
    """Somebody asks, naming some of those whom the world knows."""
    rng = random.Random(seed)
    draws = [r for r in world if r.event.kind == KINDS["drawdown"] and r.event.key >= DECIDED]
    asker = rng.choice(draws) if draws and rng.random() < 0.7 else None
    unread = frozenset(grain for grain in LINK_GRAINS if rng.random() < 0.1)
    return Question(
        T, asker.customer if asker else rng.choice(CUSTOMERS), LINE, asker.event.key if asker else 0,
        rng.choice(DEVICES), rng.choice(PAYEES), rng.choice(NETS), unread,
    )  # fmt: skip


def links_of(world: list[Recorded], names: Callable[[Recorded], bool]) -> list[bytes]:
    """The records of an entity's log: the events that name it, and the settlements and labels about those."""
    mine = {(r.customer, r.event.key) for r in world if names(r)}
    return [
        link_record(r.event.pack(), r.customer)
        for r in world
        if names(r) or (_tells(r.event) and (r.customer, r.event.settles) in mine)
    ]


def _tells(event: Event) -> bool:
    """Whether an event says something about another one."""
    return bool(event.settles) and event.kind in (KINDS["drawdown"], KINDS["label"])


def logs_of(world: list[Recorded], ask: Question) -> dict[str, bytes | None]:
    """The entity logs of a question, whole; None where they were not read."""
    names: dict[str, Callable[[Recorded], bool]] = {
        "device": lambda r: r.event.device == ask.device,
        "payee": lambda r: not r.event.settles and r.event.counterparty == ask.payee,
        "ip": lambda r: r.net == ask.net,
    }
    return {
        grain: None if grain in ask.unread else entity_header(grain) + b"".join(links_of(world, names[grain]))
        for grain in LINK_GRAINS
    }


def shortened(log: bytes, grain: str, kept: int) -> tuple[bytes, int]:
    """The log bounded to its newest records, and the newest instant it forgot."""
    words = words_of(log)[1:]
    gone = max(len(words) - kept, 0)
    if not gone:
        return log, -(2**62)
    through = int(words[:gone, 0].max())
    return entity_header(grain, gone, through) + log[64 * (1 + gone) :], through


def plans_for_links() -> FeaturePlans:
    """Plans of every shipped feature that the oracle of links defines."""
    names = link_features([], Question(T, CUSTOMERS[0], LINE))
    zone = zone_named("Asia/Shanghai")
    return compile_plans(shipped_catalogue(), names, SLOTS, len(SLOTS), zone)


def row_of_question(ask: Question) -> q.RequestWords:
    """The kernel's row about it."""
    row = row_of(Case([], ask.t, 20_000, facility=ask.facility, device=ask.device, party=ask.payee))
    row[q.CUSTOMER], row[q.LOAN], row[q.IP] = signed(ask.customer), signed(ask.loan), ask.net
    return row


def own_log(world: list[Recorded], ask: Question) -> bytes:
    """The log of the customer who asks."""
    return header() + b"".join(r.event.pack() for r in world if r.customer == ask.customer)


def computed_links(
    plans: FeaturePlans, world: list[Recorded], ask: Question, logs: dict[str, bytes | None]
) -> dict[str, Value]:
    """What the plans and the kernel make of it; null is None."""
    numbers = np.full(len(SLOTS) + len(plans.names), np.nan)
    links = {grain: None if log is None else words_of(log) for grain, log in logs.items()}
    plans.compute(words_of(own_log(world, ask)), links, row_of_question(ask), numbers)
    values = numbers[len(SLOTS) :].tolist()
    return {name: None if value != value else value for name, value in zip(plans.names, values, strict=True)}
