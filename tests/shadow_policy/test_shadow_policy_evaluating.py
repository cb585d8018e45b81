"""Evaluating in shadow: the same inputs, nothing of it in an answer, and what is kept and counted of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest_service import LINE, Run, Started, ask, decide, write_policy
from test_shadow_policy_process import STRICTER

from decision_service.archive.files import Archive
from decision_service.archive.lookup import Lookup
from decision_service.archive.writer import Limits, Writer
from decision_service.core.decide import decide as decided_by
from decision_service.core.decision import Decision
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.policies.loading import load_policy
from decision_service.report import to_html, to_markdown
from decision_service.settings import load_settings
from decision_service.shadow_policy import evaluating, feeding, keeping
from decision_service.shadow_policy.counting import EXAMPLES_MAX, Counting
from decision_service.shadow_policy.evaluating import WINDOW, Broken, Evaluating
from decision_service.shadow_policy.feeding import Feed
from decision_service.shadow_policy.keeping import ShadowPolicy
from decision_service.shadow_policy.meters import ShadowMeters
from decision_service.shadow_policy.report import ShadowReport, Wanted, reports
from decision_service.shadow_policy.report_page import shadow_report
from decision_service.shadow_policy.report_text import report_text
from decision_service.shadow_policy.wire import Sent, Told, pack_decisions, pack_policy, unpack
from decision_service.store.memory import MemoryStore

Put = tuple[DecisionRequest, CustomerState, Decision, Policy]
EVER = Wanted(0, 1 << 20)


class Kept(ShadowPolicy):
    """Keeps what it is handed, in place of sending it."""

    def __init__(self) -> None:
        self.put_: list[Put] = []

    def put(self, request: DecisionRequest, state: CustomerState, decision: Decision, policy: Policy) -> None:
        """Keep one."""
        self.put_.append((request, state, decision, policy))


@pytest.fixture
def meters(tmp_path: Path) -> Iterator[ShadowMeters]:
    """Meters of the shadow."""
    (tmp_path / "shadow_meters").mkdir()
    opened = ShadowMeters(tmp_path / "shadow_meters")
    yield opened
    opened.close()


def told(meters: ShadowMeters) -> dict[str, float]:
    """What is counted, by name and labels."""
    return {
        " ".join((sample.name.removeprefix("decision_service_shadow_policy_"), *sample.labels.values())): sample.value
        for family in meters.collect()
        for sample in family.samples
        if sample.value
    }


class NobodyTold:
    """Counts nothing."""

    def archive_wrote(self, kinds: Any, file_bytes: int) -> None:
        """Nothing."""


def arrived(parts: list[bytes]) -> Any:
    """A frame as the process reads it."""
    _, text, *logs = parts
    return unpack(text, b"".join(logs))


def candidate(tmp_path: Path, rules: str = STRICTER) -> Policy:
    """A compiled candidate."""
    folder = write_policy(tmp_path / "candidate", rules)
    return load_policy(folder, tmp_path / "models", "Asia/Shanghai", DAY_MS)[0]


def decided(run: Run, amounts: tuple[int, ...] = (100_00, 600_00), store: MemoryStore | None = None) -> list[Put]:
    """Drawdowns that a service decided, as it hands them on."""

    async def test(service: Started) -> list[Put]:
        kept = service.decisions._shadow = Kept()
        await service.customers.put_facility(LINE)
        for number, amount in enumerate(amounts):
            await decide(service, ask(f"d-{number}", amount, attributes={"a": 1.5}, facility=LINE))
        return kept.put_

    return run(test, store)


def evaluated(run: Run, tmp_path: Path, meters: ShadowMeters, rules: str = STRICTER) -> tuple[MemoryStore, list[Put]]:
    """Two drawdowns evaluated by a candidate, records and tallies in the store."""
    store = MemoryStore(partitions=16)
    puts = decided(run, store=store)
    policy = candidate(tmp_path, rules)
    counting = Counting(store)
    evaluating = Evaluating(store, counting, meters)
    evaluating.note(arrived(pack_policy(puts[0][3])))
    evaluating.take(arrived(pack_decisions([put[:3] for put in puts])), policy, policy.id)

    async def keep() -> None:
        await evaluating.save()
        await counting.flush()
        for *_, active in puts:
            await store.save_policy(active.with_lists({}).id, orjson.dumps(active.describe()), 1.0)

    asyncio.run(keep())
    return store, puts


def test_the_process_gets_what_the_decision_was_made_of(run: Run) -> None:
    """Request, state and clock arrive equal to the bit, so the same policy gives the same decision and trace."""
    puts = decided(run)
    sent = arrived(pack_decisions([put[:3] for put in puts]))
    for one, (request, state, decision, policy) in zip(sent, puts, strict=True):
        assert isinstance(one, Sent)
        asked = replace(request, fingerprint=b"", body=b"")
        assert (one.request, one.state.log, one.state.facilities) == (asked, state.log, state.facilities)
        assert decided_by(one.request, one.state, policy, one.now_ms, one.decision_id) == decision
    active = arrived(pack_policy(puts[0][3]))
    assert isinstance(active, Told)
    assert active.rules["drawdown"] == ["on_list", "over_limit", "burst", "otherwise"]


def test_frames_are_the_same_bytes_with_a_shadow_and_without(run: Run) -> None:
    """What is stored of a decision does not know whether a shadow looks at it."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        service.decisions._clock = lambda: 0.0  # else frames hold the microseconds that stages took
        frames = []
        for shadow in (None, Kept()):
            service.decisions._shadow = shadow
            store = service.decisions._store = MemoryStore(partitions=16)
            service.customers._store = store
            await service.customers.put_facility(LINE)
            answer = await service.decisions.decide(ask("d-1", 600_00), 2_000, 0.0)
            frames.append((answer.body, await store.read_decision(answer.decision_id, 1.0)))
        assert frames[0] == frames[1]
        assert frames[0][1] is not None
        assert len(shadow.put_) == 1

    run(test)


def test_both_sides_are_recorded_and_counted(run: Run, tmp_path: Path, meters: ShadowMeters) -> None:
    """One decision agrees, one does not; each has its record, and rules count once a decision."""
    store, puts = evaluated(run, tmp_path, meters)
    small, large = (asyncio.run(store.read_shadow_policy(put[2].decision_id, 1.0)) for put in puts)
    assert small is not None
    assert large is not None
    said = orjson.loads(large)
    assert said["differs"] == ["outcome", "approved", "hold", "reasons"]
    assert (said["rules"], said["rules_new"], said["rules_lost"]) == (["large", "otherwise"], ["large"], [])
    assert (said["outcome"], said["hold"], said["approved_minor"], said["problem"]) == ("hold", "review", 0, None)
    assert orjson.loads(small)["differs"] == []
    assert told(meters) | {"evaluating_seconds_total": 0} == {
        "decisions_total agreed": 1, "decisions_total differed": 1, "outcomes_total drawdown approve approve": 1,
        "outcomes_total drawdown approve hold": 1, "rules_total drawdown otherwise both": 2,
        "rules_total drawdown large new": 1, "evaluating_seconds_total": 0,
    }  # fmt: skip


def test_the_report_tells_what_was_counted(run: Run, tmp_path: Path, meters: ShadowMeters) -> None:
    """Matrix, exposure, rules and examples; as text, JSON, page and Markdown."""
    store, puts = evaluated(run, tmp_path, meters)
    (found,) = asyncio.run(reports(store, EVER))
    assert isinstance(found, ShadowReport)
    assert (found.decisions, found.agreed, found.problems, found.active_label) == (2, 1, 0, "test")
    assert found.outcomes == {("approve", "approve"): 1, ("approve", "hold"): 1}
    assert found.swap == {"kept": 1, "out": 1}
    (money,) = found.exposure
    assert (money.active_minor, money.shadow_minor, money.more_minor, money.less_minor) == (70_000, 10_000, 0, 60_000)
    assert [(rule.name, rule.both, rule.new, rule.lost) for rule in found.rules] == [
        ("large", 0, 1, 0), ("otherwise", 2, 0, 0),
    ]  # fmt: skip
    (example,) = found.examples
    assert example.decision_id == puts[1][2].decision_id
    assert example.answer is not None
    assert example.said is not None
    assert (example.answer["decision"], example.said["hold"]) == ("approve", "review")
    assert found.as_json()["disagreement_rate"] == 0.5
    text = report_text([found])
    assert "1 differ (50.00%)" in text
    assert "CNY paid out 700.00 -> 100.00 (+0.00, -600.00)" in text
    page = to_html(shadow_report([found]))
    assert "Disagreement by rule" in page
    assert "large" in to_markdown(shadow_report([found]))


def test_examples_that_left_the_store_come_from_the_archive(run: Run, tmp_path: Path, meters: ShadowMeters) -> None:
    """What the archive has of a decision and of what was said of it in shadow is what the store had."""
    store, _ = evaluated(run, tmp_path, meters)
    (before,) = asyncio.run(reports(store, EVER))
    archive = Archive(tmp_path / "archive")
    writer = Writer(store, archive, "a", Limits(100, 0), NobodyTold())

    async def leave() -> None:
        for place in range(16):
            while await writer.write(place):
                pass

    asyncio.run(leave())
    assert asyncio.run(reports(store, EVER))[0].examples[0].answer is None
    (after,) = asyncio.run(reports(store, EVER, Lookup(archive)))
    assert after.examples == before.examples


def test_examples_are_few_however_much_differs(run: Run, tmp_path: Path, meters: ShadowMeters) -> None:
    """A pair of outcomes leaves so many of a day, over all flushes; everything is counted."""
    store, puts = MemoryStore(partitions=16), decided(run, (600_00,))
    policy, counting = candidate(tmp_path), Counting(store)
    evaluator = Evaluating(store, counting, meters)
    evaluator.note(arrived(pack_policy(puts[0][3])))
    one = arrived(pack_decisions([puts[0][:3]]))[0]
    for number in range(3):
        ids = [f"{one.decision_id[:-3]}{number}{i:02x}" for i in range(EXAMPLES_MAX)]
        evaluator.take([one._replace(decision_id=decision_id) for decision_id in ids], policy, policy.id)
        asyncio.run(counting.flush())
    (found,) = asyncio.run(reports(store, EVER))
    assert found.decisions == 3 * EXAMPLES_MAX
    ((series, days),) = asyncio.run(store.tally_days(1.0)).items()
    fields = asyncio.run(store.read_tally(series, days[0], 1.0))
    assert sum(name.startswith(b"e:") for name in fields) == EXAMPLES_MAX


def test_a_shadow_without_the_scene_has_a_problem_and_is_not_failing(
    run: Run, tmp_path: Path, meters: ShadowMeters
) -> None:
    """That decision's record says so; however many there are, the shadow goes on."""
    store, puts = MemoryStore(partitions=16), decided(run, (100_00,))
    policy = candidate(tmp_path)
    one = arrived(pack_decisions([puts[0][:3]]))[0]
    review = one._replace(request=replace(one.request, scene="limit"))
    evaluator = Evaluating(store, Counting(store), meters)
    evaluator.note(Told("a", "active", {"limit": puts_rules(puts)}))
    evaluator.take([review] * 2 * WINDOW, policy, policy.id)
    asyncio.run(evaluator.save())
    said = orjson.loads(asyncio.run(store.read_shadow_policy(one.decision_id, 1.0)) or b"")
    assert (said["outcome"], said["rules"]) == (None, None)
    assert "no rule set for the scene 'limit'" in said["problem"]
    assert told(meters)["decisions_total failed"] == 2 * WINDOW


def puts_rules(puts: list[Put]) -> list[str]:
    """The ids of the active policy's rules."""
    return [rule.id for rule in puts[0][3].drawdown.rule_set.rules]


@pytest.mark.parametrize("kind", ["failing", "slow"])
def test_a_shadow_that_fails_or_is_slow_is_broken(
    kind: str, run: Run, tmp_path: Path, meters: ShadowMeters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the first decision: after a window of them."""

    def fails(*_: Any) -> Decision:
        raise ZeroDivisionError

    if kind == "slow":
        monkeypatch.setattr(evaluating, "SLOW_S", 0.0)
    store, puts = MemoryStore(partitions=16), decided(run, (100_00,))
    policy = candidate(tmp_path)
    evaluator = Evaluating(store, Counting(store), meters, fails if kind == "failing" else decided_by)
    evaluator.note(arrived(pack_policy(puts[0][3])))
    piece = arrived(pack_decisions([puts[0][:3]]))
    evaluator.take(piece * (WINDOW - 1), policy, policy.id)
    with pytest.raises(Broken) as caught:
        evaluator.take(piece, policy, policy.id)
    assert caught.value.kind == kind


class Written:
    """Takes what is written, at once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.all_came = asyncio.Event()

    def writelines(self, parts: list[bytes]) -> None:
        """Take it."""
        self.parts += parts
        if sum(map(len, self.parts)) > 5 * 64:
            self.all_came.set()

    async def drain(self) -> None:
        """Nothing waits."""


def test_what_waits_is_bounded_in_number_and_bytes(
    run: Run, meters: ShadowMeters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What finds no room is dropped and counted; what is sent makes room again."""
    put = decided(run, (100_00,))[0]
    monkeypatch.setattr(feeding, "ROUND_S", 0.0)
    monkeypatch.setattr(feeding, "QUEUE_BYTES_MAX", 5 * len(put[1].log))

    async def test() -> None:
        written = Written()
        feed = Feed(written, meters)  # type: ignore[arg-type]
        for _ in range(7):
            feed.put(*put)
        assert told(meters)["decisions_total dropped"] == 2
        work = asyncio.create_task(feed.work())
        await written.all_came.wait()
        monkeypatch.setattr(feeding, "QUEUE_MAX", 1)
        feed.put(*put)
        feed.put(*put)
        assert told(meters)["decisions_total dropped"] == 3
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        feed.shut()
        assert told(meters) == {"decisions_total dropped": 4, "decisions_total lost": 5}

    asyncio.run(test())


STANDS = """
import socket, sys, time, json, struct
s = socket.socket(fileno=int(sys.argv[1]))
text = json.dumps({"stands": {"state": "shadowing", "policy_id": "p", "diagnostics": []}}).encode()
s.sendall(struct.pack("<II", len(text), 0) + text)
time.sleep(60)
"""


@pytest.mark.parametrize(("script", "kind"), [("import sys; sys.exit(3)", "ended"), (STANDS, "hung")])
def test_a_process_that_ends_or_hangs_opens_the_circuit(
    script: str, kind: str, run: Run, tmp_path: Path, meters: ShadowMeters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed, counted, and started again only after a pause; what was on its way is counted as lost."""
    put = decided(run, (100_00,))[0]
    for module, name, value in ((keeping, "POLL_S", 0.01), (keeping, "STALLED_S", 0.2), (feeding, "ROUND_S", 0.0)):
        monkeypatch.setattr(module, name, value)

    async def test() -> None:
        settings = load_settings(shadow_rules=tmp_path)
        shadow = ShadowPolicy(settings, MemoryStore(), meters, (sys.executable, "-c", script))
        shadow.start()
        async with asyncio.timeout(60):
            while shadow.standing.state != "broken" or shadow._child is not None:
                shadow.put(*put)
                await asyncio.sleep(0.01)
        assert kind in shadow.standing.problem
        assert shadow._ending is not None
        await shadow._ending
        counted = told(meters)
        assert counted[f"breaks_total {kind}"] == 1
        assert (counted.get("decisions_total lost", 0) > 0) == (kind == "hung")
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert shadow._child is None
        await shadow.close()

    asyncio.run(test())
