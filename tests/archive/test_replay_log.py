"""Replay: archived decisions come out equal byte for byte from recorded inputs alone; what does not is told by name."""

from __future__ import annotations

import asyncio
import copy
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from every_effect import EVERY_EFFECT
from lived import Lives
from replay_world import World, world

from decision_service.archive.chain import erased
from decision_service.archive.files import Archive
from decision_service.archive.histories import decided
from decision_service.archive.policies import ArchivedPolicies
from decision_service.archive.replay_run import Account, Asked, replay_all, selected
from decision_service.archive.replaying import POISON, Replayer, poison
from decision_service.archive.schema import Row
from decision_service.archive.tables import rows_of
from decision_service.cli import main
from decision_service.core.event import DRAWDOWN
from written_archive import write_rows


def replayed(archive: Archive, asked: Asked = Asked(), jobs: int = 1) -> Account:  # noqa: B008  # it is frozen
    """Everything that is asked for, made again."""
    return replay_all(archive.url, {}, selected(archive, asked), jobs, lambda _done: None)


def all_rows(archive: Archive) -> dict[int, list[Row]]:
    """The rows by place."""
    rows: dict[int, list[Row]] = {}
    for segment in archive.segments():
        rows.setdefault(segment.place, []).extend(rows_of(archive.read(segment)))
    return rows


def rewrite(archive: Archive, change: Callable[[Row], Row | None]) -> None:
    """Every row as `change` has it, None for none at all; an archive that never was."""
    rows = all_rows(archive)
    for segment in archive.segments():
        archive.remove(segment.path)
    for of_place in rows.values():
        kept = [changed for row in of_place if (changed := change(row)) is not None]
        write_rows(archive, [row._replace(position=0, hash=None) for row in kept])


def a_drawdown(archive: Archive, of: Callable[[Row], bool] = lambda _row: True) -> Row:
    """A decision on a drawdown that saw its customer."""
    rows = (row for of_place in all_rows(archive).values() for row in of_place)
    return next(row for row in rows if row.scene == "drawdown" and row.rung == "full" and row.seq != -1 and of(row))


def test_replay_makes_every_decision_again(lived: Archive) -> None:
    """Each scene and rung, each effect, trimmed logs, static answers, lists that moved: all of them equal."""
    account = replayed(lived)
    rows = [row for of_place in all_rows(lived).values() for row in of_place if row.decision_id]
    assert (account.equal, account.differ, account.not_replayed) == (len(rows), 0, {})
    assert {row.rung for row in rows} == {"full", "no_links", "static"}
    assert {row.hold for row in rows} == {None, "step_up", "review", "block"}
    assert {row.outcome for row in rows} == {"approve", "hold", "reprice", "limit_change"}
    assert len(account.policies) == 3  # as many as lists there were


@pytest.mark.slow
def test_replay_on_two_processes_is_the_same(lived: Archive) -> None:
    """The places are divided among processes; what comes of it is added up."""
    both, alone = replayed(lived, jobs=2), replayed(lived)
    assert (both.equal, both.faults, both.policies) == (alone.equal, 0, alone.policies)


def test_replay_takes_what_is_asked_for(lived: Archive) -> None:
    """One decision, one customer, a time, a sample that is the same every time."""
    one = a_drawdown(lived)
    assert replayed(lived, Asked(decision_id=one.decision_id)).equal == 1
    rows = [row for of_place in all_rows(lived).values() for row in of_place if row.decision_id]
    of_customer = [row for row in rows if row.customer_id == one.customer_id]
    assert replayed(lived, Asked(customer_id=one.customer_id)).equal == len(of_customer) > 1
    late = [row for row in rows if row.at_ms >= one.at_ms]
    assert replayed(lived, Asked(since_ms=one.at_ms)).equal == len(late)
    assert replayed(lived, Asked(until_ms=one.at_ms)).equal == len(rows) - len(late)
    sampled = [selected(lived, Asked(sample=10)) for _ in range(2)]
    assert sampled[0] == sampled[1]
    assert sum(task.decisions for task in sampled[0]) == 10


def test_replay_names_the_field_that_differs(lived: Archive) -> None:
    """A reason of the answer, a feature, a verdict: each by its name, with what it probably means."""
    one = a_drawdown(lived, lambda row: bool(row.reasons))
    assert one.answer is not None
    assert one.numbers is not None
    assert one.verdicts is not None
    answer = orjson.loads(one.answer)
    answer["reasons"][0]["code"] = "RC77"
    scene = ArchivedPolicies(lived).get(one.policy_id or "").scenes["drawdown"]
    at = scene.number_names.index("vol_mean_365d")
    numbers = bytearray(one.numbers)
    struct.pack_into("<d", numbers, 8 * at, 4_990.0)
    verdicts = bytes([one.verdicts[0] ^ 1]) + one.verdicts[1:]
    spoilt = {
        "answer.reasons[0].code": {"answer": orjson.dumps(answer)},
        "numbers.vol_mean_365d": {"numbers": bytes(numbers), "answer": orjson.dumps(answer)},
        "verdicts.on_list": {"verdicts": verdicts},
    }
    causes = {
        "answer.reasons[0].code": "effects merge",
        "numbers.vol_mean_365d": "feature's code",
        "verdicts.on_list": "rule",
    }
    for field, changes in spoilt.items():
        changed = Archive(f"{lived.url}-{field[:3]}")
        for rows in all_rows(lived).values():
            write_rows(
                changed, [row._replace(**changes) if row.decision_id == one.decision_id else row for row in rows]
            )
        _copy_policies(lived, changed)
        account = replayed(changed)
        (differing,) = account.differing
        assert (differing.decision_id, differing.fields[0].field) == (one.decision_id, field)
        assert causes[field] in differing.fields[0].cause


def _copy_policies(archive: Archive, to: Archive) -> None:
    for folder in ("policies", "contents", "lists", "cards"):
        for name in archive.names(folder):
            to.write(f"{folder}/{name}", archive.read_bytes(f"{folder}/{name}"))


def test_replay_finds_a_log_that_is_not_the_one_that_was_seen(lived: Archive) -> None:
    """An event that was changed in an earlier row moves features; a row that is missing is a gap, which is a fault."""
    rows = [row for of_place in all_rows(lived).values() for row in of_place]
    first, one = next(
        (row, later) for row in rows if row.records and row.records[32] == DRAWDOWN and not row.decision_id
        for later in rows if later.customer_key == row.customer_key and later.scene == "drawdown" and later.seq
    )  # fmt: skip
    amount = bytearray(first.records or b"")
    struct.pack_into("<q", amount, 16, 7_777)
    rewrite(lived, lambda row: row._replace(records=bytes(amount)) if row.hash == first.hash else row)
    account = replayed(lived, Asked(customer_id=one.customer_id))
    assert account.differ
    assert all(differing.fields[0].field.startswith("numbers.") for differing in account.differing)
    rewrite(lived, lambda row: None if row.records == bytes(amount) else row)
    account = replayed(lived, Asked(customer_id=one.customer_id))
    assert set(account.not_replayed) <= {"gap", "before"}
    assert account.not_replayed
    assert not account.differ


def test_replay_counts_what_is_erased(lived: Archive) -> None:
    """Of an erased customer nothing can be made again, which is no fault; everybody else's decisions are."""
    one = a_drawdown(lived)
    mine = [
        r for rows in all_rows(lived).values() for r in rows if r.customer_key == one.customer_key and r.decision_id
    ]
    everything = replayed(lived).equal
    rewrite(lived, lambda row: erased(row, row.at_ms) if row.customer_key == one.customer_key else row)
    account = replayed(lived)
    assert (account.equal, account.differ, account.faults) == (everything - len(mine), 0, 0)
    assert account.not_replayed == {"erased": len(mine)}


def test_replay_needs_the_very_policy(lived: Archive) -> None:
    """A policy that is not there, or of which another list is there, is a fault."""
    one = a_drawdown(lived)
    name = f"policies/{one.policy_id}.json"
    record = lived.read_bytes(name)
    lived.remove(name)
    assert replayed(lived, Asked(decision_id=one.decision_id)).not_replayed == {"policy_absent": 1}
    told = orjson.loads(record)
    other = next(
        n for n in lived.names("policies") if orjson.loads(lived.read_bytes(f"policies/{n}"))["lists"] != told["lists"]
    )
    told["lists"] = orjson.loads(lived.read_bytes(f"policies/{other}"))["lists"]
    lived.write(name, orjson.dumps(told))
    account = replayed(lived, Asked(decision_id=one.decision_id))
    assert account.not_replayed == {"policy_other": 1}
    assert account.faults == 1


def test_replay_of_a_store_that_was_restored(tmp_path: Path) -> None:
    """A store that was set back to a backup gives versions again. What it lost stays in the archive; what came after
    rests on the backup, and both are made again."""

    async def go() -> None:
        async with world(tmp_path, EVERY_EFFECT) as there:
            lives = Lives(there, 9, 6)
            await lives.begin()
            await lives.ask(30)
            backup = _state(there)
            await lives.ask(40)
            _set_state(there, backup)
            there.later(1_000)
            await lives.ask(40)
            await there.archive(Archive(tmp_path / "archive"))

    asyncio.run(go())
    archive = Archive(tmp_path / "archive")
    versions = [(r.customer_id, r.version) for rows in all_rows(archive).values() for r in rows]
    assert len(set(versions)) < len(versions), "no version was given twice"
    account = replayed(archive)
    assert (account.equal, account.faults) == (110, 0)


def _state(there: World) -> dict[str, object]:
    names = ("_customers", "_entities", "_owners", "_waiting")
    return {name: copy.deepcopy(getattr(there.store, name)) for name in names}


def _set_state(there: World, state: dict[str, object]) -> None:
    for name, value in state.items():
        setattr(there.store, name, value)


def test_replay_leaves_out_a_customer_older_than_the_archive(lived: Archive) -> None:
    """Without the first rows of somebody nothing of theirs can be made again; it is told, and is no fault."""
    one = a_drawdown(lived)
    rewrite(lived, lambda row: None if row.customer_key == one.customer_key and row.version == 1 else row)
    account = replayed(lived, Asked(customer_id=one.customer_id))
    assert set(account.not_replayed) == {"before"}
    assert account.faults == 0


def test_replay_begins_with_poisoned_buffers(lived: Archive) -> None:
    """No decision rests on what the one before it left behind."""
    one = next(one for place in range(4) for one in decided(lived, place) if one.row.rung == "full")
    scene = Replayer(ArchivedPolicies(lived)).policy(one.row.policy_id or "").scenes[one.request.scene]
    poison(scene)
    assert np.all(scene.numbers == POISON)


def test_replay_command_tells_by_its_exit_status(lived: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    """0 if all came out equal, 1 if not, 6 if there is no such decision, 5 for a wrong option; as text or JSON."""
    assert main(["replay-log", "--archive", lived.url, "--json", "--sample", "20"]) == 0
    told = orjson.loads(capsys.readouterr().out)
    assert (told["decisions"], told["equal"], told["differ"], told["faults"]) == (20, 20, 0, 0)
    one = a_drawdown(lived)
    assert main(["replay-log", "--archive", lived.url, "--decision", one.decision_id or ""]) == 0
    assert "1 decisions made again by 1 policies: 1 equal byte for byte, 0 differ" in capsys.readouterr().out
    rewrite(lived, lambda row: row._replace(verdicts=b"\1" * 99) if row.decision_id == one.decision_id else row)
    assert main(["replay-log", "--archive", lived.url]) == 1
    out = capsys.readouterr().out
    assert f"decision {one.decision_id} differs" in out
    assert "verdicts: recorded 99" in out
    assert main(["replay-log", "--archive", lived.url, "--customer", "nobody"]) == 6
    assert main(["replay-log", "--archive", lived.url, "--decision", "x"]) == 5
