"""The process that compiles for a worker: the same policy, the same refusals, and what happens when it ends."""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest_service import RULES
from fleet_workers import UNSTABLE, host, save
from scorecard_maker import Trained, train, write_scorecard
from test_service_trace import SCORED_FEATURES

from decision_service.answer import answer_bytes
from decision_service.core.decide import decide
from decision_service.core.errors import PolicyRejected, ScorecardRejected
from decision_service.core.event import DRAWDOWN, Event, header
from decision_service.core.policy import Policy
from decision_service.core.state import CustomerState
from decision_service.decision_log import encode
from decision_service.policies.compiling_process import ENVIRONMENT, PREFIXES, CompilingProcess
from decision_service.policies.source import Candidate, PolicySource
from decision_service.warm import LINE, NOW_MS, REQUEST

SHIPPED = Path(__file__).parents[2]
DAYS = (0, 1, 3, 40, 200)


@pytest.fixture(scope="module")
def shipped() -> PolicySource:
    """The policy that ships, computed effects, tables and scorecards in it."""
    return PolicySource(SHIPPED / "rules", SHIPPED / "models", "Asia/Shanghai", 86_400_000)


@pytest.fixture(scope="module")
def both(shipped: PolicySource) -> tuple[Candidate, Candidate]:
    """What this process compiles of it, and what another does."""
    here = shipped.compile(shipped.read())
    process = CompilingProcess(shipped)
    process.start()
    try:
        assert process.ready
        return here, process.compile(process.read())
    finally:
        process.close()


def decided(policy: Policy) -> list[bytes]:
    """Answers and frames of some decisions in every scene."""
    frames = []
    for days in DAYS:
        records = b"".join(
            Event(key=day + 1, kind=DRAWDOWN, status=day % 3, occurred_at_ms=NOW_MS - day * 43_200_000,
                  amount_minor=10_000 + 977 * day).pack() for day in reversed(range(days))
        )  # fmt: skip
        line = replace(LINE, outstanding_minor=400 * days, days_past_due=days // 30)
        state = CustomerState(days, header() + records, {LINE.facility_id: line})
        for scene in policy.scenes:
            request = replace(REQUEST, scene=scene, facility=line, amount_minor=10_000 + 9_000 * days)
            decision = decide(request, state, policy, NOW_MS, "0" * 36)
            answer = answer_bytes(decision, 0)
            assert decision.trace is not None
            frames.append(encode(decision, decision.trace, request, answer, {}))
    return frames


def test_compiling_a_process_gives_the_same_policy_and_the_same_decisions(both: tuple[Candidate, Candidate]) -> None:
    """Id, description, warnings, and every byte of answers and frames."""
    here, there = both
    assert there.policy.id == here.policy.id
    assert there.content == here.content
    assert there.policy.describe() == here.policy.describe()
    assert there.findings.diagnostics == here.findings.diagnostics
    assert decided(there.policy) == decided(here.policy)


def test_compiling_a_process_sends_arrays_as_they_were(both: tuple[Candidate, Candidate]) -> None:
    """The kernels are compiled for arrays of just these kinds: others would cost minutes at the first decision."""
    here, there = both
    assert _arrays(there.policy.scenes) == _arrays(here.policy.scenes)


def test_compiling_a_process_sends_no_scorecard_that_the_worker_holds(both: tuple[Candidate, Candidate]) -> None:
    """It would be a second copy of the trees, and be loaded with every reload."""
    here, there = both
    card = here.policy.scorecards["behaviour"]
    assert there.policy.scorecards["behaviour"] is card
    assert there.policy.drawdown.score_slots[0].scorecard is card


def test_compiling_documents_are_read_when_they_are_asked_for(both: tuple[Candidate, Candidate]) -> None:
    """Nodes, as the explanations of the dictionary want them; and plans of whatever features."""
    here, there = (candidate.policy for candidate in both)
    assert {n: d.root for n, d in there.documents.items()} == {n: d.root for n, d in here.documents.items()}
    every = list(here.catalogue.by_name)
    assert there.plans_for(every).names == here.plans_for(every).names


def test_compiling_a_new_scorecard_is_tried_there_and_used_here(tmp_path: Path) -> None:
    """The worker gets it as it was loaded."""
    model: Trained = train(10, 4)
    made = host(tmp_path)
    (made / "rules" / "features" / "velocity.yaml").write_text(SCORED_FEATURES, encoding="utf-8")
    write_scorecard(made / "models", model)
    with Ready(made) as process:
        card = process.compile(process.read()).policy.scorecards["behaviour"]
        row = np.array(card.manifest.golden[0].inputs)
        assert card.score(row).points == card.manifest.golden[0].points
        (made / "models" / "behaviour" / "1" / "model.txt").write_bytes(model.text[:-40])
        with pytest.raises(ScorecardRejected, match="changed or torn"):
            process.read()


def test_compiling_what_is_wrong_is_told_in_the_same_words(tmp_path: Path) -> None:
    """Diagnostics with their places and carets."""
    made = host(tmp_path)
    source = PolicySource(made / "rules", made / "models", "Asia/Shanghai", 86_400_000)
    with Ready(made) as process:
        save(made, "two", UNSTABLE)
        with pytest.raises(PolicyRejected) as here:
            source.compile(source.read())
        with pytest.raises(PolicyRejected) as there:
            process.compile(process.read())
        assert there.value.diagnostics == here.value.diagnostics
        assert process.check({"drawdown.yaml": RULES}) == source.check({"drawdown.yaml": RULES})
        assert process.check({}) == source.check({}) != []


@pytest.mark.parametrize("command", ["no-such-command", sys.executable])
def test_compiling_goes_on_in_the_worker_without_a_process(
    tmp_path: Path, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One that cannot be started, or says what is no answer: told, and done without."""
    made = host(tmp_path)
    source = PolicySource(made / "rules", made / "models", "Asia/Shanghai", 86_400_000)
    process = CompilingProcess(source, (command, "-c", "print('x' * 100)"))
    with caplog.at_level(logging.WARNING):
        process.start()
    assert not process.ready
    assert process.compile(process.read()).policy.label == "one"
    assert "no process that compiles policies" in caplog.text


DIES = """
import os, pickle, sys
def piece():
    return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8), "little"))
piece()
told = pickle.dumps(("ready", None))
os.write(1, len(told).to_bytes(8, "little") + told)
piece()
os.abort()
"""


def test_compiling_what_ends_the_process_twice_is_refused(tmp_path: Path) -> None:
    """It would end the worker as well."""
    made = host(tmp_path)
    source = PolicySource(made / "rules", made / "models", "Asia/Shanghai", 86_400_000)
    content = source.read()
    process = CompilingProcess(source, (sys.executable, "-c", DIES))
    process.start()
    with pytest.raises(PolicyRejected, match="ended in the middle of it, twice"):
        process.compile(content)
    process.close()
    assert process.compile(content).policy.label == "one", "closed: whoever still asks does it himself"


def test_compiling_a_process_gets_no_secret_and_is_started_anew_and_ends_with_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is what it needs and no more; killed between two tasks, as the kernel does when memory is short,
    it is started again; after `close` there is no such process."""
    monkeypatch.setenv("DECISION_SERVICE_REDIS_URL", "redis://user:secret@host")
    with Ready(host(tmp_path)) as process:
        pid = process.pid
        lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        names = {line.partition(b"=")[0].decode() for line in lines if line}
        extra = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LC_CTYPE"}
        assert all(name in {*ENVIRONMENT, *extra} or name.startswith(PREFIXES) for name in names)
        content = process.read()
        os.kill(pid, signal.SIGKILL)
        assert process.compile(content).policy.label == "one"
        assert process.pid not in (0, pid)
        pid = process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


class Ready:
    """A process for a host, ready."""

    def __init__(self, made: Path) -> None:
        self._made = CompilingProcess(PolicySource(made / "rules", made / "models", "Asia/Shanghai", 86_400_000))

    def __enter__(self) -> CompilingProcess:
        self._made.start()
        assert self._made.ready
        return self._made

    def __exit__(self, *_: object) -> None:
        self._made.close()


def _arrays(thing: Any) -> list[tuple[Any, ...]]:
    """Kind, flags, and shape of every array inside."""
    found: list[tuple[Any, ...]] = []
    seen: set[int] = set()
    todo = [("", thing)]
    while todo:
        path, one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            found.append((path, str(one.dtype), one.flags.writeable, one.flags.c_contiguous, one.flags.aligned))
        elif isinstance(one, dict):
            todo += [(f"{path}.{key}", value) for key, value in one.items()]
        elif isinstance(one, (list, tuple)):
            todo += [(f"{path}.{i}", value) for i, value in enumerate(one)]
        elif type(one).__module__.startswith("decision_service"):
            slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            names = [*getattr(one, "__dict__", {}), *(name for name in slots if name != "__weakref__")]
            todo += [(f"{path}.{name}", getattr(one, name, None)) for name in names]
    return sorted(found)
